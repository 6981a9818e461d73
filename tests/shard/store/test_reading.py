"""Reading a file that is broken: what can be had of it. What becomes of such files is in test_rescue.py."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from channelstream.shard.store import reading, schema
from channelstream.shard.store.base import MessageSaved, StoredMessage
from channelstream.shard.store.reading import Unreadable

PAGE = 4096


@pytest.fixture
def database(stores: Any, make: Any) -> Path:
    """One channel with 2000 messages, on some hundred pages."""
    store = stores.open()
    store.commit([make.channel()])
    store.commit([MessageSaved("lobby", StoredMessage(f"m{seq}", seq, b"x" * 400, 1.0)) for seq in range(1, 2001)])
    stores.close(store)
    return Path(stores.database)


def leaf_pages(path: Path) -> list[int]:
    """Where the leaves of the messages are, in the order of the file."""
    content = path.read_bytes()
    pages = range(PAGE, len(content), PAGE)
    return [at for at in pages if content[at] == 0x0D and b"x" * 400 in content[at : at + PAGE]]


def read(path: Path) -> reading.Found:
    db = schema.connect(path)
    try:
        return reading.read(db)
    finally:
        db.close()


def test_a_sound_file_has_no_problems(database: Path) -> None:
    found = read(database)
    assert (found.problems, found.is_sound, found.index.rows) == ([], True, 2000)
    assert found.index.next_message == 2001
    assert found.index.channels["lobby"].kept.row_of(2000) == 2000


def test_behind_broken_pages_it_is_read_on(database: Path) -> None:
    leaves = leaf_pages(database)
    content = bytearray(database.read_bytes())
    broken = (leaves[20], leaves[100], leaves[101], leaves[150])
    for at in broken:
        content[at : at + PAGE] = b"\xee" * PAGE
    database.write_bytes(content)
    found = read(database)
    assert not found.is_sound
    channel = found.saved.channels["lobby"]
    assert not channel.is_whole
    assert 1900 < len(channel.history) < 2000
    seqs = [message.seq for message in channel.history]
    assert seqs == sorted(set(seqs))


def test_pages_that_are_linked_in_a_circle_end(database: Path) -> None:
    """The first page of messages takes the place of another one: its rows come again."""
    leaves = leaf_pages(database)
    content = bytearray(database.read_bytes())
    content[leaves[50] : leaves[50] + PAGE] = content[leaves[2] : leaves[2] + PAGE]
    database.write_bytes(content)
    found = read(database)
    assert not found.is_sound
    seqs = [message.seq for message in found.saved.channels["lobby"].history]
    assert seqs == sorted(set(seqs))
    assert len(seqs) > 1900


def test_an_error_of_the_disk_is_none_of_the_file(database: Path) -> None:
    db = schema.connect(database)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("UPDATE life SET ended = 0")
    db.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(Unreadable):
        reading.read(db)
    other.close()
    db.close()
