"""All files anew. What an end in the middle does is in tests/group/test_store.py, with real processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from channelstream.errors import DataDirInUse, DataDirRefused
from channelstream.ids import channel_key
from channelstream.ring import Ring
from channelstream.shard.store import layout, moving
from channelstream.shard.store.base import Saved
from channelstream.shard.store.files import FileLock
from channelstream.shard.store.layout import Layout
from channelstream.shard.store.splitting import split

WALL = 1_795_506_000.0


@pytest.fixture
def filled(tmp_path: Path, make: Any) -> Path:
    """A `data_dir` of one shard that has some of everything."""
    with moving.locked(tmp_path):
        folder = tmp_path / moving.settled(tmp_path, 1, WALL).folder
    with moving.opened(folder, 1, WALL) as stores:
        stores[0].load()
        stores[0].commit(make.everything())
    return tmp_path


def read_all(data_dir: Path, shards: int) -> list[Saved]:
    with moving.locked(data_dir):
        folder = data_dir / moving.settled(data_dir, shards, WALL).folder
    with moving.opened(folder, shards, WALL) as stores:
        return [store.read() for store in stores]


def test_all_is_there_with_another_number_of_shards_and_back(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    one = read_all(filled, 1)
    four = read_all(filled, 4)
    assert four == split(one, Ring(4))
    assert all(len(saved.channels) < 8 for saved in four)
    assert [saved.is_complete for saved in four] == [True] * 4
    assert layout.read(filled) == Layout(shards=4, move=2)
    assert not (filled / "store-1").exists()
    back = read_all(filled, 1)[0]
    assert (back.channels, back.users, back.records) == (one[0].channels, one[0].users, one[0].records)
    assert back.frames == one[0].frames
    assert any("is for 1 shards, now there are 4" in record.getMessage() for record in caplog.records)
    assert any("4 of 4 files" in record.getMessage() for record in caplog.records)


def test_a_life_after_a_move_has_a_higher_generation_than_all_before(filled: Path) -> None:
    with moving.opened(filled / "store-1", 1, WALL) as stores:
        before = stores[0].generation
    read_all(filled, 2)
    with moving.opened(filled / "store-2", 2, WALL) as stores:
        assert all(store.generation > before for store in stores)


def test_what_was_set_aside_is_kept_and_what_is_not_ours_stays(filled: Path) -> None:
    (filled / "store-1" / "shard-0.sqlite.damaged-20260101T000000Z").write_text("damaged")
    (filled / "store-1" / "notes.txt").write_text("mine")
    read_all(filled, 2)
    assert (filled / "store-1-shard-0.sqlite.damaged-20260101T000000Z").read_text() == "damaged"
    assert [path.name for path in (filled / "store-1").iterdir()] == ["notes.txt"]


def test_one_that_is_damaged_is_moved_as_what_is_left_of_it(filled: Path) -> None:
    database = filled / "store-1" / "shard-0.sqlite"
    content = bytearray(database.read_bytes())
    at = content.index(b'{"text":"xxx')
    content[at + 9] ^= 1
    database.write_bytes(content)
    two = read_all(filled, 2)
    channels = {name: channel for saved in two for name, channel in saved.channels.items()}
    assert len(channels) == 8
    assert sum(not channel.is_whole for channel in channels.values()) == 1
    assert not any(saved.is_complete for saved in two)
    assert len(list(filled.glob("store-1-shard-0.sqlite.damaged-*Z"))) == 1


def test_leftovers_of_a_move_are_removed(filled: Path) -> None:
    (filled / "store-2").mkdir()
    (filled / "store-2" / "shard-0.sqlite").write_text("half made")
    (filled / "store-2" / "shard-1.sqlite-journal").write_text("half made")
    assert sum(len(saved.channels) for saved in read_all(filled, 3)) == 8
    assert sorted(path.name for path in filled.iterdir()) == ["data_dir.lock", "layout.json", "store-2"]
    assert layout.read(filled) == Layout(shards=3, move=2)


def test_nothing_moves_while_a_shard_runs(filled: Path) -> None:
    with moving.opened(filled / "store-1", 1, WALL):
        with pytest.raises(DataDirInUse, match="shard-0 has pid"):
            read_all(filled, 2)
    assert layout.read(filled) == Layout(shards=1, move=1)
    assert sum(len(saved.channels) for saved in read_all(filled, 2)) == 8


def test_a_change_on_the_way_is_written(filled: Path) -> None:
    def without_users(saved: list[Saved]) -> list[Saved]:
        for one in saved:
            one.users.clear()
        return saved

    with moving.locked(filled):
        moving.rewrite(filled, Layout(shards=1, move=1), 2, WALL, without_users)
    two = read_all(filled, 2)
    assert [len(saved.users) for saved in two] == [0, 0]
    assert {name for saved in two for name in saved.channels} == {f"c{number}" for number in range(8)}
    ring = Ring(2)
    assert all(ring.owner(channel_key(name)) == index for index, saved in enumerate(two) for name in saved.channels)


def test_who_has_to_wait_too_long_is_told_for_whom(tmp_path: Path) -> None:
    holder = FileLock(tmp_path / moving.LOCK, "another process")
    holder.take()
    with pytest.raises(DataDirInUse, match="another process has pid"):
        with moving.locked(tmp_path, longest_wait_s=0.2):
            pass
    holder.release()
    with moving.locked(tmp_path, longest_wait_s=0.2):
        assert layout.read(tmp_path) is None


def test_files_without_a_layout_are_not_guessed_about(filled: Path) -> None:
    (filled / layout.FILE).unlink()
    with pytest.raises(DataDirRefused, match="bring it back"):
        read_all(filled, 1)
