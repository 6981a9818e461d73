"""Makes a whole database file at once: an empty one, what was carried over out of a damaged one, a moved one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from channelstream.errors import DataDirRefused
from channelstream.shard.store import faults, files, rows, schema
from channelstream.shard.store.base import ChannelSaved, MessageSaved, Saved, Write
from channelstream.shard.store.batch import Batch
from channelstream.shard.store.index import Index
from channelstream.shard.store.rows import Life

GROUP: Final = 1000
"""Messages that are turned into rows at a time."""


def build(path: Path, saved: Saved, life: Life) -> None:
    """Makes the file at `path`, over any that is there; it is on the disk afterwards. Raises `DataDirRefused`."""
    with files.refusing(path):
        path.unlink(missing_ok=True)
        Path(f"{path}-journal").unlink(missing_ok=True)
    try:
        db = schema.connect(path)
        try:
            _fill(db, saved, life)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise DataDirRefused(str(path), faults.reason_of(error)) from error
    with files.refusing(path):
        path.chmod(0o600)
        files.sync_file(path)


def _fill(db: sqlite3.Connection, saved: Saved, life: Life) -> None:
    # Nobody reads a file that is half made, so nothing has to be undone.
    db.execute("PRAGMA journal_mode = OFF").fetchall()
    db.execute("PRAGMA synchronous = OFF")
    schema.create(db)
    db.execute("BEGIN")
    db.execute("INSERT INTO life VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.life_row(life))
    index = Index()
    for name, channel in saved.channels.items():
        batch = Batch(index)
        batch.save_channel(
            ChannelSaved(name, channel.uuid, channel.epoch, channel.seq, channel.config), channel.is_whole
        )
        _carry_out(db, batch)
        messages = (MessageSaved(name, message) for message in channel.history)
        while group := list(islice(messages, GROUP)):
            _write(db, index, group)
    others = _others(saved)
    while those := list(islice(others, GROUP)):
        _write(db, index, those)
    db.execute("COMMIT")


def _others(saved: Saved) -> Iterator[Write]:
    """What is saved beside channels."""
    yield from saved.users.values()
    yield from saved.records.values()
    yield from saved.connections.values()
    yield from saved.frames.values()


def _write(db: sqlite3.Connection, index: Index, writes: Sequence[Write]) -> None:
    batch = Batch(index)
    batch.add(writes)
    _carry_out(db, batch)


def _carry_out(db: sqlite3.Connection, batch: Batch) -> None:
    for statement, those in batch.statements():
        db.executemany(statement, those)
    batch.apply()
