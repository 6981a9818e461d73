"""Damaged files: whatever is wrong with one, no wrong row is served and nothing is lost in silence."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelstream.errors import DataDirRefused
from channelstream.shard.store import rescue
from channelstream.shard.store.base import Saved

Damage = Callable[[bytearray], None]

HEADER = range(60, 72)
"""Where the file says what it is: without that it is not touched."""


@pytest.fixture
def sound(stores: Any, make: Any) -> Path:
    """A folder with a store that ended in good order, two pages of messages to a table and more."""
    store = stores.open()
    store.load()
    store.commit(make.everything())
    stores.close(store)
    return Path(stores.folder)


def damaged(sound: Path, name: str, damage: Damage, file: str = "shard-0.sqlite") -> Path:
    """A copy of the folder with one file changed."""
    folder = Path(shutil.copytree(sound, sound.with_name(name)))
    content = bytearray((folder / file).read_bytes())
    damage(content)
    (folder / file).write_bytes(content)
    return folder


def assert_nothing_wrong(saved: Saved, whole: Saved) -> None:
    """What is served was written; a channel that lacks anything does not say that it is whole."""
    for name, channel in saved.channels.items():
        known = whole.channels[name]
        assert (channel.uuid, channel.epoch, channel.config) == (known.uuid, known.epoch, known.config)
        assert [one for one in channel.history if one not in known.history] == []
        if channel.is_whole:
            assert (channel.history, channel.seq) == (known.history, known.seq)
    for kind in ("users", "records", "connections", "frames"):
        there, known_there = getattr(saved, kind), getattr(whole, kind)
        assert {key: value for key, value in there.items() if known_there.get(key) != value} == {}
    if saved.is_complete:
        for kind in ("channels", "users", "records", "connections", "frames"):
            assert getattr(saved, kind) == getattr(whole, kind)


def assert_survives(stores: Any, folder: Path, whole: Saved) -> str:
    """Opens a folder, checks all that it serves, and says what became of it. What was carried over is in order."""
    try:
        store = stores.open(folder)
    except DataDirRefused:
        return "refused"
    saved = store.read()
    stores.close(store)
    assert_nothing_wrong(saved, whole)
    again = stores.open(folder)
    assert again.read().channels == saved.channels
    stores.close(again)
    if list(folder.glob("*.damaged-*")):
        assert not saved.is_complete
        return "set aside"
    assert saved.is_complete
    return "served"


def flip(position: int, mask: int) -> Damage:
    def change(content: bytearray) -> None:
        content[position % len(content)] ^= mask

    return change


def cut(length: int) -> Damage:
    def change(content: bytearray) -> None:
        del content[length:]

    return change


def test_a_wrong_byte_anywhere(stores: Any, sound: Path) -> None:
    """Every 397th byte and the beginning of every page, where the structure is; each with a random change."""
    chance = random.Random(7)
    whole = stores.open(Path(shutil.copytree(sound, sound.with_name("whole")))).read()
    size = (sound / "shard-0.sqlite").stat().st_size
    structure = {page + at for page in range(0, size, 4096) for at in (0, 3, 5, 8, 9, 10)}
    became = {}
    for position in sorted({*range(0, size, 397), *HEADER, *structure}):
        folder = damaged(sound, f"flip {position}", flip(position, chance.randrange(1, 256)))
        became[position] = assert_survives(stores, folder, whole)
        shutil.rmtree(folder)
    assert set(became.values()) == {"refused", "set aside", "served"}
    assert [position for position, how in became.items() if how == "refused" and position not in HEADER] == []
    assert sum(how == "set aside" for how in became.values()) > len(became) / 2


def test_a_file_that_ends_anywhere(stores: Any, sound: Path) -> None:
    whole = stores.open(Path(shutil.copytree(sound, sound.with_name("whole")))).read()
    size = (sound / "shard-0.sqlite").stat().st_size
    for length in [0, 1, 50, 99, 100, 101, 512, 4095, *range(4096, size, 4096 * 3 + 77)]:
        folder = damaged(sound, f"end {length}", cut(length))
        assert assert_survives(stores, folder, whole) == "set aside"
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["cut", "flip"])
def test_a_log_that_is_damaged_anywhere(stores: Any, make: Any, how: str) -> None:
    """SQLite drops what comes after the damage: an earlier state, whole in itself. That it is an earlier one shows."""
    store = stores.open()
    store.load()
    states = []
    for write in ([make.channel("a")], [make.channel("b")], [make.message(1, "a"), make.message(1, "b")]):
        store.commit(write)
        states.append(store.read())
    for seq in range(2, 8):
        store.commit([make.message(seq, "a")])
        states.append(store.read())
    folder = stores.killed("killed")
    size = (folder / "shard-0.sqlite-wal").stat().st_size
    shown = 0
    for position in range(0, size, 1511):
        damage = flip(position, 0x41) if how == "flip" else cut(position)
        saved = stores.load(damaged(folder, f"{how} {position}", damage, "shard-0.sqlite-wal"))
        histories = {name: channel.history for name, channel in saved.channels.items()}
        known = [{name: channel.history for name, channel in state.channels.items()} for state in states]
        assert histories in [{}, *known]
        if histories != known[-1]:
            assert not saved.is_complete
            assert not any(channel.is_whole for channel in saved.channels.values())
            shown += 1
    assert shown > 10


def test_garbage_in_the_place_of_a_file(stores: Any, sound: Path) -> None:
    whole = stores.open(Path(shutil.copytree(sound, sound.with_name("whole")))).read()
    noise = random.Random(1).randbytes(50_000)
    for name, start in {"all": 0, "behind the header": 100, "behind the first page": 4096}.items():
        folder = damaged(sound, name, lambda content, start=start: content.__setitem__(slice(start, None), noise))
        assert assert_survives(stores, folder, whole) == "set aside"


def set_value(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


def test_damage_in_one_message_costs_its_channel_alone(
    stores: Any, sound: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_value(sound / "shard-0.sqlite", "UPDATE messages SET body = 'x' WHERE channel = 3 AND seq = 7")
    saved = stores.load(sound)
    assert {name for name, channel in saved.channels.items() if not channel.is_whole} == {"c2"}
    assert [message.seq for message in saved.channels["c2"].history] == [*range(1, 7), *range(8, 21)]
    assert not saved.is_complete
    said = next(record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    aside = next(sound.glob("*.damaged-*Z"))
    assert aside.name == "shard-0.sqlite.damaged-20261124T074000Z"
    assert aside.name in said
    assert "a message of the channel 'c2'" in said


@pytest.mark.parametrize(
    ("statement", "channels", "others"),
    [
        ("UPDATE messages SET channel = 4 WHERE channel = 3 AND seq = 7", 0, 1),
        ("UPDATE channels SET epoch = 'x' WHERE id = 3", 7, 1),
        ("UPDATE counters SET first = 5 WHERE channel = 3", 7, 1),
        ("DELETE FROM counters WHERE channel = 3", 7, 1),
        ("UPDATE life SET commits = 0", 0, 1),
        ("DELETE FROM life", 0, 1),
        ("CREATE TABLE more (id)", 0, 1),
        ("DROP TABLE frames", 0, 1),
    ],
)
def test_what_a_wrong_row_costs(stores: Any, sound: Path, statement: str, channels: int, others: int) -> None:
    set_value(sound / "shard-0.sqlite", statement)
    saved = stores.load(sound)
    assert sum(channel.is_whole for channel in saved.channels.values()) == channels
    assert len(list(sound.glob("*.damaged-*Z"))) == others
    assert not saved.is_complete


@pytest.mark.parametrize("table", ["users", "records", "connections", "frames"])
def test_a_wrong_row_of_the_others_is_not_served(stores: Any, sound: Path, table: str) -> None:
    key = "topic = 'c/c3'" if table == "frames" else "name IN ('user3', 'k3')"
    set_value(sound / "shard-0.sqlite", f"UPDATE {table} SET crc = crc + 1 WHERE {key}")
    saved = stores.load(sound)
    there = getattr(saved, table)
    assert len(there) == {"frames": 7}.get(table, 19)
    assert all(channel.is_whole for channel in saved.channels.values())
    assert not saved.is_complete


def test_a_life_that_goes_on_after_a_rescue_is_a_usual_one(stores: Any, make: Any, sound: Path) -> None:
    set_value(sound / "shard-0.sqlite", "DELETE FROM counters WHERE channel = 3")
    store = stores.open(sound)
    store.load()
    store.commit([make.channel("c2", epoch="e2"), make.message(21, "c2")])
    stores.close(store)
    saved = stores.load(sound)
    assert saved.channels["c2"].is_whole
    assert [message.seq for message in saved.channels["c2"].history] == [21]
    assert saved.is_complete
    assert len(list(sound.glob("*.damaged-*Z"))) == 1


@pytest.mark.parametrize("moment", ["before anything", "database moved", "log moved", "in its place"])
def test_a_swap_that_was_cut_short_is_finished(stores: Any, make: Any, sound: Path, moment: str) -> None:
    """`put_in_place` may end anywhere; here its steps are done by hand up to a moment."""
    rescued = sound / "shard-0.sqlite.rescued-20261124T072000Z"
    shutil.copy(sound / "shard-0.sqlite", rescued)
    (sound / "shard-0.sqlite").write_bytes(b"damaged")
    (sound / "shard-0.sqlite-wal").write_bytes(b"its log")
    aside = sound / "shard-0.sqlite.damaged-20261124T072000Z"
    if moment != "before anything":
        (sound / "shard-0.sqlite").rename(aside)
    if moment in {"log moved", "in its place"}:
        (sound / "shard-0.sqlite-wal").rename(f"{aside}-wal")
    if moment == "in its place":
        rescued.rename(sound / "shard-0.sqlite")
    assert len(stores.load(sound).channels) == 8
    assert aside.read_bytes() == b"damaged"
    assert Path(f"{aside}-wal").read_bytes() == b"its log"
    assert not rescued.exists()


def test_nothing_that_was_set_aside_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert rescue.free(path) == path
    path.touch()
    assert rescue.free(path).name == "file~2"
    (tmp_path / "file~2").touch()
    assert rescue.free(path).name == "file~3"


def test_what_was_lost_is_said_in_one_line_of_bounded_length() -> None:
    assert rescue.said(["a", "a", "b"]) == "a (2 times), b"
    assert rescue.said([str(number) for number in range(100)]).endswith("9, and 90 more")
    assert rescue.said([]) == "nothing"
