"""Which store a shard gets, and as which life."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelstream.clock import Now
from channelstream.config import Config, load
from channelstream.errors import DataDirInUse, DataDirRefused
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.store.opening import next_generation, open_store
from channelstream.shard.store.sqlite import SqliteStore

NOW = Now(5.0, 1_700_000_000.0)
EARLIER = Now(9.0, 1_700_000_000.0 - 3600)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """Settings with folders of the test's own."""
    (tmp_path / "run").mkdir()

    def made(**settings: Any) -> Config:
        own = {"data_dir": f"{tmp_path}/data", "run_dir": f"{tmp_path}/run", "shards": "2", "store": "sqlite"}
        return load(None, "", {}, own | settings, 0, 2).config

    return made


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_life_after_the_clock_was_set_back_has_a_higher_generation(config: Callable[..., Config], store: str) -> None:
    first = open_store(config(store=store), 0, NOW)
    first.close()
    second = open_store(config(store=store), 0, EARLIER)
    assert first.generation == 1_700_000_000_000_000
    assert second.generation == first.generation + 1
    second.close()


def test_the_file_that_keeps_the_generation_need_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "shard-3.generation"
    for content in (b"", b"garbage", b"9" * 100):
        path.write_bytes(content)
        assert next_generation(tmp_path, 3, 1.0) >= 1_000_000
    path.unlink()
    assert next_generation(tmp_path, 3, 1.0) == 1_000_000
    assert next_generation(tmp_path / "missing", 3, 1.0) == 1_000_000


def test_memory_touches_no_data_dir(config: Callable[..., Config], tmp_path: Path) -> None:
    assert isinstance(open_store(config(store="memory"), 0, NOW), MemoryStore)
    assert not (tmp_path / "data").exists()


def test_each_shard_has_a_file_of_its_own(config: Callable[..., Config], tmp_path: Path, make: Any) -> None:
    first, second = open_store(config(), 0, NOW), open_store(config(), 1, NOW)
    assert isinstance(first, SqliteStore)
    first.commit([make.channel("first")])
    second.commit([make.channel("second")])
    assert (list(first.load().channels), list(second.load().channels)) == (["first"], ["second"])
    with pytest.raises(DataDirInUse):
        open_store(config(), 1, NOW)
    first.close()
    second.close()
    assert (tmp_path / "data" / "store-1" / "shard-1.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("fsync", ["on", "off"])
def test_fsync_is_what_the_setting_says(config: Callable[..., Config], fsync: str) -> None:
    store = open_store(config(fsync=fsync), 0, NOW)
    assert isinstance(store, SqliteStore)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2 if fsync == "on" else 0,)
    store.close()


def test_a_data_dir_that_is_a_file_is_refused(config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirRefused, match="expected a folder"):
        open_store(config(), 0, NOW)
