"""The SQLite store's own part: lives, losses, housekeeping. What every store holds to is in tests/contract, what real
processes and disks do to it in test_sqlite_faults.py."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from channelstream.errors import DataDirInUse, DataDirRefused, OwnerLost, StoreFull
from channelstream.shard.store import batch, files, sqlite
from channelstream.shard.store.base import ChannelForgotten, HistoryCut, MessageSaved, Saved, StoredMessage


def seqs(saved: Saved, name: str = "lobby") -> list[int]:
    return [message.seq for message in saved.channels[name].history]


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= level)


# --- lives ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("synced", [True, False])
def test_everything_is_there_in_the_next_life(stores: Any, make: Any, synced: bool) -> None:
    first = stores.open(synced=synced)
    first.commit(make.everything())
    found = first.read()
    stores.close(first)
    second = stores.open(synced=synced)
    assert second.read() == found
    assert len(found.channels) == 8
    assert seqs(found, "c3") == list(range(1, 21))
    assert len(found.frames) == 8


@pytest.mark.parametrize("synced", [True, False])
def test_what_was_committed_survives_the_end_of_the_process(stores: Any, make: Any, synced: bool) -> None:
    store = stores.open(synced=synced)
    store.load()
    store.commit(make.everything())
    found = store.read()
    later = stores.open(stores.killed("after"), synced=synced).load()
    assert later.channels == found.channels
    assert later.frames == found.frames
    assert later.is_complete


def test_each_life_has_a_higher_generation_than_any_before(stores: Any) -> None:
    first = stores.open(generation=1000)
    stores.close(first)
    second = stores.open(generation=7)
    stores.close(second)
    third = stores.open(generation=5000)
    assert (first.generation, second.generation, third.generation) == (1000, 1001, 5000)


def test_a_generation_that_only_the_mark_knows_is_not_given_again(stores: Any) -> None:
    stores.close(stores.open(generation=1000))
    stores.database.unlink()
    assert stores.open(generation=7).generation == 1001


def test_frames_are_read_any_number_of_times_and_loaded_once(stores: Any, make: Any) -> None:
    store = stores.open()
    store.commit(make.everything())
    assert len(store.read().frames) == 8
    assert len(store.load().frames) == 8
    assert len(stores.open(stores.killed("after")).load().frames) == 0


def test_two_processes_do_not_share_a_file(stores: Any) -> None:
    stores.open()
    with pytest.raises(DataDirInUse, match=f"shard-0 has pid {os.getpid()}"):
        stores.open()


def test_without_its_lock_a_store_touches_nothing(stores: Any, make: Any) -> None:
    store = stores.open()
    store.commit([make.channel()])
    (stores.folder / "shard-0.lock").unlink()
    for step in (lambda: store.commit([make.message(1)]), store.load):
        with pytest.raises(OwnerLost):
            step()
    successor = stores.open()
    successor.commit([make.message(1)])
    with pytest.raises(OwnerLost):
        store.commit([make.message(2)])
    assert seqs(successor.load()) == [1]


def test_a_generation_that_is_not_ours_any_more_stops_a_commit(stores: Any, make: Any) -> None:
    """The lock is right and the file has another owner all the same, for instance on a copy of the lock's folder."""
    store = stores.open()
    store.commit([make.channel()])
    with sqlite3.connect(stores.database) as other:
        other.execute("UPDATE life SET generation = generation + 1")
    other.close()
    with pytest.raises(OwnerLost):
        store.commit([make.message(1)])


# --- losses that show -------------------------------------------------------------------------------------------------


def test_a_log_that_is_gone_shows(stores: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = stores.open()
    store.load()
    store.commit([make.channel(), make.message(1)])
    folder = stores.killed("cut")
    (folder / "shard-0.sqlite-wal").write_bytes(b"")
    saved = stores.load(folder)
    assert not saved.is_complete
    assert "the last ones are lost" in logged(caplog)


def test_an_older_copy_shows_and_its_channels_are_not_whole_until_they_are_saved_again(stores: Any, make: Any) -> None:
    store = stores.open()
    store.load()
    store.commit([make.channel("a"), make.channel("b"), make.message(1, "a")])
    stores.close(store)
    older = stores.database.read_bytes()
    store = stores.open()
    store.commit([make.message(2, "a")])
    stores.close(store)
    stores.database.write_bytes(older)
    store = stores.open()
    saved = store.load()
    assert (seqs(saved, "a"), saved.is_complete) == ([1], False)
    assert [channel.is_whole for channel in saved.channels.values()] == [False, False]
    store.commit([make.channel("a", epoch="e2")])
    stores.close(store)
    saved = stores.open().load()
    assert {name: channel.is_whole for name, channel in saved.channels.items()} == {"a": True, "b": False}


def test_a_mark_that_says_nothing_accuses_nobody(stores: Any, make: Any) -> None:
    store = stores.open()
    store.load()
    store.commit([make.channel()])
    stores.close(store)
    for content in (b"", b"garbage that is no mark", b"\0" * 20):
        (stores.folder / "shard-0.mark").write_bytes(content)
        saved = stores.load(stores.folder)
        assert saved.is_complete
        assert saved.channels["lobby"].is_whole


def test_without_fsync_another_start_of_the_machine_makes_everything_doubtful(
    stores: Any, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores.open(synced=False)
    store.load()
    store.commit([make.channel(), make.message(1)])
    folders = [stores.killed(name) for name in ("same start", "other start")]
    assert stores.load(folders[0]).channels["lobby"].is_whole
    monkeypatch.setattr(files, "boot_id", lambda: "another")
    saved = stores.load(folders[1])
    assert (saved.channels["lobby"].is_whole, saved.is_complete, seqs(saved)) == (False, False, [1])
    assert "fsync = off" in logged(caplog)


@pytest.mark.parametrize("synced", [True, False])
def test_an_orderly_end_or_fsync_leaves_no_doubt(
    stores: Any, make: Any, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    store = stores.open(synced=synced)
    store.load()
    store.commit([make.channel()])
    folder = stores.folder
    if synced:
        folder = stores.killed("other start")
    else:
        stores.close(store)
    monkeypatch.setattr(files, "boot_id", lambda: "another")
    saved = stores.load(folder)
    assert saved.channels["lobby"].is_whole
    assert saved.is_complete


def test_a_log_without_its_database_is_set_aside(stores: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = stores.open()
    store.commit([make.channel()])
    folder = stores.killed("gone")
    (folder / "shard-0.sqlite").unlink()
    saved = stores.load(folder)
    assert (saved.channels, saved.is_complete) == ({}, False)
    assert (folder / "shard-0.sqlite.damaged-log-wal").stat().st_size > 0
    assert "all is lost" in logged(caplog)


# --- what is refused --------------------------------------------------------------------------------------------------


def set_header(path: Path, pragma: str) -> bytes:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA {pragma}")
    db.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("pragma", "reason"),
    [
        ("user_version = 2", "its version is 2, newer than this program, which knows up to 1"),
        ("user_version = 0", "its version is 0, expected 1"),
        ("application_id = 5", "an SQLite file of another program"),
    ],
)
def test_a_file_that_is_not_ours_to_read_is_refused_and_left_alone(stores: Any, pragma: str, reason: str) -> None:
    stores.close(stores.open())
    content = set_header(stores.database, pragma)
    with pytest.raises(DataDirRefused, match=reason):
        stores.open()
    assert stores.database.read_bytes() == content
    assert sorted(path.name for path in stores.folder.iterdir()) == ["shard-0.lock", "shard-0.mark", "shard-0.sqlite"]
    set_header(stores.database, "application_id = 1667789684")
    set_header(stores.database, "user_version = 1")
    stores.open()


def test_a_folder_that_is_a_file_is_refused(stores: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirRefused, match="expected a folder"):
            stores.open(folder)


def test_a_database_that_is_a_folder_is_refused(stores: Any) -> None:
    stores.database.mkdir(parents=True)
    with pytest.raises(DataDirRefused, match="is a directory"):
        stores.open()


# --- housekeeping -----------------------------------------------------------------------------------------------------


def much(make: Any, count: int, size: int, name: str = "lobby", start: int = 1) -> list[MessageSaved]:
    return [MessageSaved(name, StoredMessage(f"m{seq}", seq, b"x" * size, 1.0)) for seq in range(start, start + count)]


def test_the_log_stays_bounded(stores: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LONG_LOG_BYTES", 200_000)
    store = stores.open()
    store._checkpoint_at = 200_000
    store.commit([make.channel()])
    longest = 0
    for turn in range(50):
        store.commit(much(make, 10, 4000, start=1 + turn * 10))
        longest = max(longest, (stores.folder / "shard-0.sqlite-wal").stat().st_size)
    assert longest < 200_000 + 100_000
    assert len(seqs(store.load())) == 500


def test_a_long_log_that_a_reader_keeps_is_tried_again_later(stores: Any, make: Any) -> None:
    store = stores.open()
    store._checkpoint_at = 50_000
    store.commit([make.channel(), *much(make, 5, 4000)])
    reader = sqlite3.connect(stores.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchall()
    store.commit(much(make, 20, 4000, start=6))
    assert store._checkpoint_at > 50_000
    reader.close()
    store._checkpoint_at = 50_000
    store.commit(much(make, 1, 4000, start=26))
    assert store._log_bytes() == 0
    assert len(seqs(store.load())) == 26


def test_a_file_shrinks_in_bounded_steps(stores: Any, make: Any) -> None:
    store = stores.open()
    for number in range(4):
        store.commit([make.channel(f"c{number}"), *much(make, 1500, 1000, f"c{number}")])
    store._checkpoint()
    full = stores.database.stat().st_size
    store.commit([ChannelForgotten("c0"), ChannelForgotten("c1"), HistoryCut("c2", 1400)])
    steps = 0
    while True:
        before = store._db.total_changes
        more = store.tidy()
        assert store._db.total_changes - before <= batch.DUE_STEP + 1
        steps += 1
        if not more:
            break
    store._checkpoint()
    assert steps > 8
    assert stores.database.stat().st_size < 0.6 * full
    saved = stores.load(stores.killed("after"))
    assert (list(saved.channels), len(seqs(saved, "c2")), len(seqs(saved, "c3"))) == (["c2", "c3"], 101, 1500)


def test_dead_rows_do_not_pile_up_where_nothing_is_ever_idle(
    stores: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MUCH_DUE", 100)
    store = stores.open()
    store.commit([make.channel()])
    for seq in range(1, 2001):
        store.commit([make.message(seq), HistoryCut("lobby", max(1, seq - 9))])
    assert store._db.execute("SELECT count(*) FROM messages").fetchone()[0] < 250
    assert seqs(store.load()) == list(range(1991, 2001))


def test_a_cut_history_stays_cut_after_a_crash_at_any_time(stores: Any, make: Any) -> None:
    store = stores.open()
    store.commit([make.channel(), *(make.message(seq) for seq in range(1, 21))])
    there, counted = list(range(1, 21)), 20
    for turn, (first, added) in enumerate([(5, 0), (6, 21), (7, 22), (23, 0), (24, 24), (26, 25), (26, 0), (28, 26)]):
        store.commit([*([make.message(added)] if added else []), HistoryCut("lobby", first)])
        there = [seq for seq in (*there, added) if seq >= first]
        counted = max(counted, added)
        saved = stores.load(stores.killed(f"turn {turn}"))
        assert (seqs(saved), saved.channels["lobby"].seq) == (there, counted)


def test_a_number_of_a_channel_is_not_used_again_while_its_rows_are_there(stores: Any, make: Any) -> None:
    store = stores.open()
    store.commit([make.channel("old"), make.message(1, "old"), make.message(2, "old")])
    store.commit([ChannelForgotten("old")])
    again = stores.open(stores.killed("after"))
    again.commit([make.channel("new"), make.message(1, "new")])
    assert {name: seqs(again.load(), name) for name in again.load().channels} == {"new": [1]}


# --- a full disk ------------------------------------------------------------------------------------------------------


def full(store: Any, is_full: bool = True) -> None:
    """The database may not grow any more, or may."""
    store._db.execute(f"PRAGMA max_page_count = {1 if is_full else 2**30}")


def test_a_life_that_ends_on_a_full_disk_says_that_something_is_lost(stores: Any, make: Any) -> None:
    """What can wait for the disk was told to clients, by numbers that must not come again within the same epoch."""
    store = stores.open()
    store.load()
    store.commit([make.channel(), make.message(1)])
    full(store)
    with pytest.raises(StoreFull):
        store.commit([make.message(2, body=b"x" * 100_000), make.channel("other")])
    found = stores.open(stores.killed("full")).load()
    assert (found.channels["lobby"].is_whole, seqs(found), found.is_complete) == (False, [1], False)


def test_a_full_disk_that_healed_has_lost_nothing(stores: Any, make: Any) -> None:
    store = stores.open()
    store.load()
    store.commit([make.channel(), make.message(1)])
    full(store)
    with pytest.raises(StoreFull):
        store.commit([make.message(2, body=b"x" * 100_000)])
    full(store, False)
    store.commit([make.message(2)])
    found = stores.open(stores.killed("healed")).load()
    assert (found.channels["lobby"].is_whole, seqs(found), found.is_complete) == (True, [1, 2], True)
