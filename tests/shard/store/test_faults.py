"""What SQLite's errors mean."""

from __future__ import annotations

import sqlite3

import pytest

from channelstream.errors import StoreBroken, StoreFull
from channelstream.shard.store import faults


def error(name: str) -> sqlite3.OperationalError:
    made = sqlite3.OperationalError("told by sqlite")
    made.sqlite_errorcode = getattr(sqlite3, name)
    made.sqlite_errorname = name
    return made


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SQLITE_FULL", "the disk is full"),
        ("SQLITE_IOERR_WRITE", "the disk refuses to work (SQLITE_IOERR_WRITE)"),
        ("SQLITE_BUSY", "another program has the database locked"),
        ("SQLITE_READONLY", "the disk is read-only"),
        ("SQLITE_CANTOPEN", "the database cannot be opened"),
        ("SQLITE_TOOBIG", "the database failed: told by sqlite (SQLITE_TOOBIG)"),
    ],
)
def test_what_was_undone_may_be_tried_again(name: str, reason: str) -> None:
    meant = faults.of_commit(error(name), rolled_back=True)
    assert (type(meant), str(meant)) == (StoreFull, reason)
    assert isinstance(faults.of_commit(error(name), rolled_back=False), StoreBroken)


@pytest.mark.parametrize(
    "name",
    ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_IOERR_SHMSIZE", "SQLITE_CORRUPT", "SQLITE_NOTADB"],
)
def test_after_these_nothing_is_known(name: str) -> None:
    assert isinstance(faults.of_commit(error(name), rolled_back=True), StoreBroken)


@pytest.mark.parametrize("name", ["SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_IOERR_CORRUPTFS"])
def test_a_file_that_does_not_fit_the_program_is_damaged(name: str) -> None:
    assert faults.is_damage(error(name))


@pytest.mark.parametrize("name", ["SQLITE_IOERR_READ", "SQLITE_FULL", "SQLITE_BUSY", "SQLITE_CANTOPEN"])
def test_a_disk_that_does_not_work_says_nothing_about_the_file(name: str) -> None:
    assert not faults.is_damage(error(name))


def test_errors_of_pythons_module_are_of_the_file() -> None:
    assert faults.is_damage(sqlite3.OperationalError("Could not decode to UTF-8 column"))
    assert faults.is_damage(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"))
