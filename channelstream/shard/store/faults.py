"""What an error of SQLite's means for a shard."""

from __future__ import annotations

import sqlite3
from typing import Final

from channelstream.errors import DataDirRefused, StoreBroken, StoreError, StoreFull

SHM_ERRORS: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_SHMMAP,
    }
)
"""The map of the log could not be changed. In a commit that comes after the log was written: a reader of the log would
find a transaction that its writer was told had failed."""

SYNC_ERRORS: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
"""After these a later sync may succeed without having written what this one did not (see fsync(2), ERRORS, EIO)."""

DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary codes: the file is not what was written."""

ENVIRONMENT: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_AUTH,
    }
)
"""Primary codes: nothing is known of the file; it was not possible to work with it."""

READING: Final = (sqlite3.Error, UnicodeDecodeError)
"""What reading may raise. Python's module decodes SQLite's sentences, in which bytes of a damaged file may stand."""

CORRUPT_FILE_SYSTEM: Final = sqlite3.SQLITE_IOERR_CORRUPTFS


def code_of(error: Exception) -> int:
    """SQLite's own extended code; 0 for errors that Python's module makes itself."""
    return getattr(error, "sqlite_errorcode", 0) or 0


def name_of(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


def reason_of(error: Exception) -> str:
    """For callers and people; no path."""
    primary = code_of(error) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return "the disk is full"
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "another program has the database locked"
    if primary == sqlite3.SQLITE_READONLY:
        return "the disk is read-only"
    if primary == sqlite3.SQLITE_CANTOPEN:
        return "the database cannot be opened"
    if code_of(error) in SYNC_ERRORS:
        return f"the disk failed to sync ({name_of(error)})"
    if primary == sqlite3.SQLITE_IOERR:
        return f"the disk refuses to work ({name_of(error)})"
    return f"the database failed: {error} ({name_of(error)})"


def of_commit(error: sqlite3.Error, rolled_back: bool) -> StoreError:
    """What to raise for an error inside of a transaction, which is undone now or not."""
    broken = code_of(error) in SYNC_ERRORS | SHM_ERRORS or code_of(error) & 0xFF in DAMAGE
    return StoreBroken(reason_of(error)) if broken or not rolled_back else StoreFull(reason_of(error))


def is_damage(error: Exception) -> bool:
    """Whether an error while a file is read says that the file itself is damaged. What Python's module or the SQL
    compiler says (text that is no UTF-8, a table that is not there) does, since the program is right."""
    primary = code_of(error) & 0xFF
    return primary not in ENVIRONMENT or code_of(error) == CORRUPT_FILE_SYSTEM


def refused(path: object, error: Exception) -> DataDirRefused:
    """What to raise for an error that says nothing about the file."""
    return DataDirRefused(str(path), reason_of(error))
