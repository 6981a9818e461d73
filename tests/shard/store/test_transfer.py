"""Export and import of a whole `data_dir`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelstream.clock import Now
from channelstream.config import Config, load
from channelstream.errors import BadHistoryFile, ConfigError, DataDirInUse, DataDirRefused
from channelstream.ids import channel_key
from channelstream.ring import Ring
from channelstream.shard.store import layout, transfer
from channelstream.shard.store.opening import open_store
from channelstream.shard.store.portable import Report

NOW = Now(5.0, 1_795_506_000.0)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    def made(data: str = "data", **settings: Any) -> Config:
        own = {"data_dir": f"{tmp_path}/{data}", "run_dir": str(tmp_path), "shards": "2", "store": "sqlite"}
        return load(None, "", {}, own | settings, 0, 2).config

    return made


@pytest.fixture
def filled(config: Callable[..., Config], make: Any) -> Config:
    """Two shards with ten channels of three messages between them."""
    found, ring = config(), Ring(2)
    for index in range(2):
        store = open_store(found, index, NOW)
        for name in (f"c{number}" for number in range(10)):
            if ring.owner(channel_key(name)) == index:
                store.commit([make.channel(name), *(make.message(seq, name) for seq in (1, 2, 3))])
        store.close()
    return found


def exported(config: Config, *names: str) -> list[bytes]:
    out = io.BytesIO()
    transfer.export(config, names, out, NOW, lambda text: None)
    return out.getvalue().splitlines(keepends=True)


def without_epochs(lines: list[bytes]) -> list[dict[str, Any]]:
    return [{key: value for key, value in json.loads(line).items() if key != "epoch"} for line in lines]


def test_a_file_puts_back_what_was_wiped(filled: Config, config: Callable[..., Config]) -> None:
    lines = exported(filled)
    assert len(lines) == 1 + 10 + 30
    other = config("other", shards="3")
    report = transfer.import_(other, lines, NOW, lambda text: None)
    assert report == Report(channels=10, messages=30)
    assert without_epochs(exported(other)) == without_epochs(lines)
    loaded = [open_store(other, index, NOW) for index in range(3)]
    assert sum(len(store.load().channels) for store in loaded) == 10
    for store in loaded:
        store.close()


def test_an_import_into_what_is_there_adds_and_may_be_repeated(filled: Config) -> None:
    lines = exported(filled)
    more = [*lines[:2], lines[2].replace(b'"seq":1', b'"seq":9').replace(b'"m1"', b'"m9"')]
    assert transfer.import_(filled, more, NOW, lambda text: None) == Report(channels=1, messages=1)
    assert transfer.import_(filled, more, NOW, lambda text: None) == Report(skipped=1)
    assert len(exported(filled)) == len(lines) + 1


def test_a_bad_line_changes_nothing(filled: Config) -> None:
    before = layout.read(Path(filled.data_dir))
    with pytest.raises(BadHistoryFile):
        transfer.import_(filled, [*exported(filled), b"{}\n"], NOW, lambda text: None)
    assert layout.read(Path(filled.data_dir)) == before


def test_some_channels_can_be_chosen_and_must_exist(filled: Config) -> None:
    assert len(exported(filled, "c1", "c5")) == 1 + 2 * 4
    with pytest.raises(ConfigError, match="nowhere"):
        exported(filled, "c1", "nowhere")


def test_while_a_shard_runs_nothing_is_done(filled: Config) -> None:
    lines, store = exported(filled), open_store(filled, 1, NOW)
    with pytest.raises(DataDirInUse, match="shard-1 has pid"):
        exported(filled)
    with pytest.raises(DataDirInUse, match="shard-1 has pid"):
        transfer.import_(filled, lines, NOW, lambda text: None)
    store.close()


def test_where_nothing_is_kept_nothing_is_exported_or_made(config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(DataDirRefused, match="nothing is kept there"):
        exported(config())
    assert not (tmp_path / "data").exists()


def test_nothing_is_imported_that_would_not_be_read(config: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="sqlite"):
        transfer.import_(config(store="memory"), [], NOW, lambda text: None)


def test_progress_is_told_now_and_then(filled: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TOLD_EVERY", 10)
    told: list[str] = []
    out = io.BytesIO()
    assert transfer.export(filled, [], out, NOW, told.append) == 41
    transfer.import_(filled, out.getvalue().splitlines(), NOW, told.append)
    steps = (10, 20, 30, 40)
    assert told == [*(f"{at} lines written" for at in steps), *(f"{at} lines read" for at in steps), "writing"]


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def failing(out: Any) -> int:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        transfer.written(str(path), failing)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"
    assert transfer.written(str(path), lambda out: out.write(b"after")) == 5
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o600)
