"""What a shard's SQLite file looks like: its tables, its marks, and the settings of the connection.

Messages are rows in the order in which they came, under a number that only grows, without any index: a publish appends
to the last page, whatever its channel. What an index would say is known in memory (see `index.Kept`), since a shard
reads the whole file when it starts. Measured against a table that is clustered by channel: half the CPU.

What a history has no more is not deleted at once either: each message says with which seq its channel's history began
when it came (`first`), and the dead rows are deleted together, when there are many and so whole pages of them. Deleting
one old row for each new one would write a page for each.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x63687374
"""In the file's header: this is a file of ours ("chst")."""

SCHEMA_VERSION: Final = 1
"""In the file's header (`user_version`). Raised whenever an older program would misread the file."""

APPLICATION_ID_AT: Final = 68
SCHEMA_VERSION_AT: Final = 60
"""Where the two stand in a file, each in 4 bytes, big-endian (sqlite.org/fileformat2.html, section 1.3)."""

HEADER_BYTES: Final = 100
MAGIC: Final = b"SQLite format 3\0"

BUSY_S: Final = 0.25
"""How long a transaction waits for another program that has the file locked. Nobody but us should."""

TABLES: Final[dict[str, str]] = {
    "life": (
        "CREATE TABLE life (id INTEGER PRIMARY KEY, generation INTEGER, commits INTEGER, boot TEXT, synced INTEGER,"
        " ended INTEGER, complete INTEGER, doubt INTEGER, crc INTEGER)"
    ),
    "channels": (
        "CREATE TABLE channels (id INTEGER PRIMARY KEY, name TEXT, uuid TEXT, epoch TEXT, config BLOB, whole INTEGER,"
        " crc INTEGER)"
    ),
    "counters": "CREATE TABLE counters (channel INTEGER PRIMARY KEY, seq INTEGER, first INTEGER, crc INTEGER)",
    "messages": (
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, channel INTEGER, seq INTEGER, uuid TEXT, at REAL, body BLOB,"
        " first INTEGER, crc INTEGER)"
    ),
    "users": "CREATE TABLE users (name TEXT PRIMARY KEY, value BLOB, crc INTEGER) WITHOUT ROWID",
    "records": "CREATE TABLE records (name TEXT PRIMARY KEY, value BLOB, crc INTEGER) WITHOUT ROWID",
    "connections": "CREATE TABLE connections (name TEXT PRIMARY KEY, value BLOB, crc INTEGER) WITHOUT ROWID",
    "frames": (
        "CREATE TABLE frames (topic TEXT, place INTEGER, value BLOB, crc INTEGER, PRIMARY KEY (topic, place))"
        " WITHOUT ROWID"
    ),
}


def connect(path: Path) -> sqlite3.Connection:
    """A connection without transactions of its own. It may be used by any thread, by one at a time."""
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def set_up(db: sqlite3.Connection, synced: bool) -> None:
    """The settings of a connection that a shard works with."""
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'OFF'}")
    # Checkpoints are our own: their errors must not look like those of a commit, and SQLite swallows them.
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    db.execute("PRAGMA journal_size_limit = 0").fetchall()
    # Freed pages are not written again just to blank them.
    db.execute("PRAGMA secure_delete = FAST").fetchall()
    db.execute("PRAGMA cell_size_check = ON")
    db.execute("PRAGMA trusted_schema = OFF")


def create(db: sqlite3.Connection) -> None:
    """Makes the tables in an empty file. Call it outside of a transaction."""
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("BEGIN")
    for table in TABLES.values():
        db.execute(table)
    db.execute("COMMIT")


def is_as_made(db: sqlite3.Connection) -> bool:
    """Whether the file has the tables that `create` makes, and nothing else. Raises `sqlite3.Error`."""
    return dict(db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_auto%'")) == TABLES


def refusal(header: bytes) -> str | None:
    """Why a file with this header is not touched, or None: it is ours, of this version, or too damaged to say."""
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    application = int.from_bytes(header[APPLICATION_ID_AT : APPLICATION_ID_AT + 4])
    version = int.from_bytes(header[SCHEMA_VERSION_AT : SCHEMA_VERSION_AT + 4])
    if application != APPLICATION_ID:
        return "it is an SQLite file of another program, expected one that channelstream has made"
    if version > SCHEMA_VERSION:
        return f"its version is {version}, newer than this program, which knows up to {SCHEMA_VERSION}"
    if version < SCHEMA_VERSION:
        return f"its version is {version}, expected {SCHEMA_VERSION}"
    return None
