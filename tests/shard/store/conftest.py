"""What tests of the store's files share: values, and stores in folders of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channelstream.shard.store.base import (
    ChannelSaved,
    ConnectionSaved,
    FramesSaved,
    MessageSaved,
    Place,
    RecordSaved,
    Saved,
    SavedFrame,
    StoredMessage,
    UserSaved,
    Write,
)
from channelstream.shard.store.sqlite import SqliteStore
from channelstream.wire.messages import ChannelConfig


class Values:
    """Makes what is written."""

    @staticmethod
    def channel(name: str = "lobby", epoch: str = "e1", seq: int = 0, **config: Any) -> ChannelSaved:
        return ChannelSaved(name, f"uuid of {name}", epoch, seq, ChannelConfig(**config))

    @staticmethod
    def stored(seq: int, body: bytes = b"") -> StoredMessage:
        return StoredMessage(f"m{seq}", seq, body or b'{"n":%d}' % seq, 1000.5 + seq)

    @classmethod
    def message(cls, seq: int, name: str = "lobby", body: bytes = b"") -> MessageSaved:
        return MessageSaved(name, cls.stored(seq, body))

    @classmethod
    def everything(cls) -> list[Write]:
        """Channels `c0` to `c7` with 20 messages each, 20 users, records, places, and frames of each channel."""
        writes: list[Write] = [cls.channel(f"c{number}", store_history=True) for number in range(8)]
        for seq in range(1, 21):
            writes += [cls.message(seq, f"c{number}", b'{"text":"%s"}' % (b"x" * 100)) for number in range(8)]
        for number in range(20):
            writes.append(UserSaved(f"user{number}", {"text": "é" * 20, "float": 0.5, "none": None}, ("text",)))
            writes.append(RecordSaved(f"k{number}", f"user{number}", ("c1", "c2")))
            places = (Place("c/c1", 0, 9), Place("c/c2", 3, 9))
            writes.append(ConnectionSaved(f"k{number}", f"user{number}", {"text": "x"}, places))
        frames = tuple(SavedFrame(f"m{seq}", seq, b"\x00" * 50, ["ann"], None) for seq in range(5))
        writes += [FramesSaved(f"c/c{number}", "e1", 20, frames) for number in range(8)]
        return writes


class Stores:
    """Opens stores; those that are left open are closed after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: list[SqliteStore] = []

    def open(self, folder: Path | None = None, **settings: Any) -> SqliteStore:
        """The store of shard 0 in the test's folder, or in another."""
        settings = {"synced": False, "generation": 1, "wall": 1_795_506_000.0} | settings
        self._open.append(SqliteStore(folder or self.folder, 0, **settings))
        return self._open[-1]

    def close(self, store: SqliteStore) -> None:
        self._open.remove(store)
        store.close()

    def load(self, folder: Path) -> Saved:
        """What the store in a folder gives to a new life, which ends at once."""
        store = self.open(folder)
        saved = store.load()
        self.close(store)
        return saved

    def close_all(self) -> None:
        for store in list(self._open):
            self.close(store)

    @property
    def database(self) -> Path:
        return self.folder / "shard-0.sqlite"

    def killed(self, name: str) -> Path:
        """The files as they would be found if the process ended just now: a copy."""
        return Path(shutil.copytree(self.folder, self.folder.with_name(name)))


@pytest.fixture
def make() -> type[Values]:
    return Values


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    found = Stores(tmp_path / "store")
    yield found
    found.close_all()
