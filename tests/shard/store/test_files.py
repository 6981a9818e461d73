"""Files beside the database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from channelstream.errors import DataDirInUse, DataDirRefused
from channelstream.shard.store import files
from channelstream.shard.store.files import FileLock, Mark, Names


def test_the_files_of_a_shard_have_its_name(tmp_path: Path) -> None:
    names = Names(tmp_path, 3)
    assert {path.name for path in names.all()} == {
        "shard-3.sqlite",
        "shard-3.sqlite-wal",
        "shard-3.sqlite-shm",
        "shard-3.lock",
        "shard-3.mark",
    }
    for name in ("shard-3.sqlite.rescued-1", "shard-3.sqlite.damaged-1", "shard-3.sqlite.new", "shard-33.sqlite.new"):
        (tmp_path / name).touch()
    assert names.rescued() == tmp_path / "shard-3.sqlite.rescued-1"
    assert names.damaged() == [tmp_path / "shard-3.sqlite.damaged-1"]
    assert {path.suffix for path in names.all()} >= {".new", ".rescued-1"}
    assert tmp_path / "shard-33.sqlite.new" not in names.all()


def test_a_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock", "shard-0"), FileLock(tmp_path / "lock", "shard-0")
    first.take()
    assert first.is_held()
    with pytest.raises(DataDirInUse, match=f"shard-0 has pid {os.getpid()}"):
        second.take()
    assert not second.is_held()
    first.release()
    first.release()
    assert not first.is_held()
    second.take()
    second.release()


def test_a_lock_whose_file_is_another_one_is_held_no_more(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", "shard-0")
    lock.take()
    (tmp_path / "lock").unlink()
    assert not lock.is_held()
    (tmp_path / "lock").touch()
    assert not lock.is_held()
    lock.release()


def test_a_lock_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataDirRefused, match="no such file or directory"):
        FileLock(tmp_path / "missing" / "lock", "shard-0").take()


def test_a_mark_keeps_what_was_last(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "mark")
    assert mark.read() == (0, 0)
    mark.write(5, 2**60)
    mark.write(6, 7)
    mark.close()
    again = Mark(tmp_path / "mark")
    assert again.read() == (6, 7)
    again.close()


def test_a_mark_that_is_damaged_says_nothing(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "mark")
    mark.write(5, 9)
    content = bytearray((tmp_path / "mark").read_bytes())
    for at in range(len(content)):
        changed = content.copy()
        changed[at] ^= 1
        (tmp_path / "mark").write_bytes(changed)
        assert mark.read() == (0, 0)
        (tmp_path / "mark").write_bytes(content[:at])
        assert mark.read() == (0, 0)
    mark.close()


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    files.replace_file(tmp_path / "file", b"first")
    files.replace_file(tmp_path / "file", b"2")
    assert (tmp_path / "file").read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["file"]


def test_errors_of_the_system_are_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirRefused, match=r"data_dir: .*/file cannot be used: expected a folder"):
        files.make_folder(tmp_path / "file")
    assert files.reason_of(OSError(28, "No space left on device")) == "the disk is full"


def test_a_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_start_of_the_machine_has_an_id() -> None:
    assert files.boot_id() == files.boot_id()
