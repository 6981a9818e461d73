"""A shard's store in one SQLite file: `store = sqlite`.

What it holds to:

- A commit that returned survives the process's end, kill -9 included. With `fsync = on` it survives a loss of power
  too, as far as the disk does what it says; with `off` a loss of power may take the last commits, or tear the file.
- A file has one owner: a lock beside it for as long as the store is open, and a generation in it that only grows. Each
  transaction checks both, so a process that was stopped and has a successor can commit nothing when it goes on.
- A row that is not as it was written is never served, nor is anything of a file whose structure is broken without that
  its channels are told as not whole.

What is noticed of losses: a file that lacks commits that were told as done (a log that was cut off or is gone, an older
copy in its place) lags behind the mark beside it, and all its channels come back as not whole. What is not noticed:
the same where the mark is lost or as old as the file, for instance where the whole folder is an older copy (then the
state is that of the copy, and consistent); after a loss of power, losses by a disk that lied about a sync, as the mark
is not synced; and a page of the file that the disk gave back in an older, by itself valid form. With `fsync = off`
nothing can be known after an end that was not orderly on another start of the machine, so then all channels come back
as not whole.

SQLite before 3.51.3 may damage a log that two connections checkpoint: a file has exactly one connection.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from channelstream import failpoints
from channelstream.errors import DataDirRefused, OwnerLost, StoreBroken, StoreError, StoreFull
from channelstream.shard.store import building, faults, files, reading, rescue, rows, schema
from channelstream.shard.store.base import ChannelSaved, MessageSaved, Saved, Write
from channelstream.shard.store.batch import DUE_STEP, INSERT_CHANNEL, INSERT_MESSAGE, SOME_DUE, Batch, Statement
from channelstream.shard.store.files import FileLock, Mark, Names
from channelstream.shard.store.index import Index
from channelstream.shard.store.reading import Found, Unreadable
from channelstream.shard.store.rows import Life, Row

ROWS_AT_ONCE: Final = 10
"""Messages that one statement inserts. More of them gain little."""

INSERT_MESSAGES: Final = INSERT_MESSAGE + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (ROWS_AT_ONCE - 1)

LONG_LOG_BYTES: Final = 8 * 1024**2
"""A log that is longer is moved into the database. Measured: below, pages that change often are moved too often; above,
little is won, and the next start has more to read."""

FEW_PAGES: Final = 256
"""So many free pages (1 MiB) stay in the file for what comes next."""

PAGES_STEP: Final = 64
"""Pages by which a step of `tidy` makes a file smaller."""

UPDATE_LIFE: Final = (
    "UPDATE life SET id = ?, generation = ?, commits = ?, boot = ?, synced = ?, ended = ?, complete = ?, doubt = ?,"
    " crc = ? WHERE id = 1 AND generation = ?"
)
SELECT_MESSAGE: Final = "SELECT channel, seq, uuid, at, first FROM messages WHERE id = ?"
UPDATE_MESSAGE: Final = "UPDATE messages SET body = ?, crc = ? WHERE id = ?"

log: Final = logging.getLogger(__name__)


class SqliteStore:
    """See `base.Store`. Any thread may call it, one at a time."""

    def __init__(self, folder: Path, index: int, *, synced: bool, generation: int, wall: float) -> None:
        """Takes the file of shard number `index` in `folder`, or makes it.

        `synced`: whether a commit waits for the disk. `generation` is the least that this life may have; it is higher
        where an earlier life's was. `wall` names what is set aside. Raises `DataDirRefused` or `DataDirInUse`.
        """
        self._names: Final = Names(folder, index)
        self._synced: Final = synced
        self._wall: Final = wall
        self._lock: Final = FileLock(self._names.lock, self._names.process)
        self._index: Index | None = None
        """None until the file has been read."""
        self._is_loaded = False
        """Whether somebody knows what the file held when this life began."""
        self._is_usable = False
        """Whether anything may be written: from the beginning of the life to its end, or to what broke it."""
        self._checkpoint_at = LONG_LOG_BYTES
        files.make_folder(folder)
        self._lock.take()
        try:
            self._mark: Final = Mark(self._names.mark)
            try:
                self._db = self._opened()
                self._life = self._begun(generation)
            except BaseException:
                self._mark.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self.generation: Final = self._life.generation
        """See `Store.generation`."""

    # --- the port -----------------------------------------------------------------------------------------------------

    def load(self) -> Saved:
        """See `Store.load`. Raises `DataDirRefused` where the file cannot be read, and what `commit` does."""
        found = self._read()
        if self._life.doubt:
            self._tell_doubt(found)
        if found.saved.frames:
            self._transact([("DELETE FROM frames WHERE ?", [(1,)])])
        self._is_loaded = True
        return found.saved

    def read(self) -> Saved:
        """What `load` gives, and nothing is forgotten: for who moves it elsewhere. Raises what `load` does."""
        found = self._read()
        if self._life.doubt:
            for channel in found.saved.channels.values():
                channel.is_whole = False
        return found.saved

    def commit(self, writes: Sequence[Write]) -> None:
        """See `Store.commit`."""
        if not writes:
            return
        batch = Batch(self._known())
        batch.add(writes)
        try:
            self._transact(batch.statements(), batch.bodies())
        except StoreFull:
            # All but messages is in force all the same, and clients are told of it: a life that ends before it is down
            # has lost something, and the next one learns it from the mark.
            if any(not isinstance(write, MessageSaved) for write in writes):
                self._mark.write(self._life.generation, self._life.commits + 1)
            raise
        batch.apply()
        self._checkpoint_if_long()

    def tidy(self) -> bool:
        """See `Store.tidy`."""
        index = self._known()
        index.begin_sweep(SOME_DUE)
        if index.sweep:
            batch = Batch(index)
            batch.sweep(DUE_STEP)
            self._transact(batch.statements())
            batch.apply()
        elif self._has_free_pages():
            self._transact([], shrink=True)
        self._checkpoint_if_long()
        return bool(index.sweep) or len(index.due) >= SOME_DUE or self._has_free_pages()

    def close(self) -> None:
        """See `Store.close`."""
        try:
            if self._is_usable:
                self._end()
        finally:
            if self._is_usable:
                self._db.close()
            else:
                self._abandon(self._db)
            self._is_usable = False
            self._mark.close()
            self._lock.release()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        """A connection to the file, which is made where there is none, and looked at before anything is done to it."""
        names = self._names
        rescue.put_in_place(names)
        with files.refusing(names.database):
            if not names.database.exists():
                self._make()
            with open(names.database, "rb") as file:
                refusal = schema.refusal(file.read(schema.HEADER_BYTES))
        if refusal is not None:
            raise DataDirRefused(str(names.database), refusal)
        return self._connected()

    def _make(self) -> None:
        """An empty file. A log without its database can be read by nobody: it is set aside."""
        names = self._names
        if names.log.exists():
            aside = rescue.free(names.database.with_name(f"{names.database.name}.damaged-log-wal"))
            log.error("%s is gone, its log is there: set aside as %s; all is lost", names.database, aside.name)
            names.log.rename(aside)
        names.shared.unlink(missing_ok=True)
        building.build(names.new, Saved(), Life(self._mark.read()[0], self._mark.read()[1]))
        names.new.rename(names.database)
        files.sync_folder(names.folder)

    def _connected(self) -> sqlite3.Connection:
        try:
            db = schema.connect(self._names.database)
        except sqlite3.Error as error:
            raise faults.refused(self._names.database, error) from error
        try:
            schema.set_up(db, self._synced)
        except faults.READING as error:
            if not faults.is_damage(error):
                db.close()
                raise faults.refused(self._names.database, error) from error
        return db

    def _begun(self, least: int) -> Life:
        """A new life of the file: its generation is down before anything else is."""
        generation, commits = self._mark.read()
        found = self._life_found()
        if found is None:
            found = self._begun_anew(Life(max(generation + 1, least), commits))
        doubt = self._doubt_of(found, commits)
        if doubt:
            log.error("%s: %s: all its channels begin anew", self._names.database, doubt)
        life = Life(
            generation=max(found.generation + 1, generation + 1, least),
            commits=max(found.commits, commits) + 1,
            boot=files.boot_id(),
            synced=self._synced,
            ended=False,
            complete=found.complete and not doubt,
            doubt=found.doubt or bool(doubt),
        )
        try:
            self._write_life(life, found.generation)
        except StoreError as error:
            if not isinstance(error.__cause__, sqlite3.Error) or not faults.is_damage(error.__cause__):
                self._abandon(self._db)
                raise DataDirRefused(str(self._names.database), str(error)) from error
            life = self._begun_anew(life)
        self._is_usable = True
        return life

    def _begun_anew(self, life: Life) -> Life:
        """A file that is damaged already where it begins is replaced at once."""
        self._life = life
        self._replace(self._read_anyhow())
        return self._life

    def _life_found(self) -> Life | None:
        try:
            return reading.read_life(self._db)
        except Unreadable as error:
            raise self._refused(error) from error

    def _doubt_of(self, found: Life, commits: int) -> str:
        """Why something that was committed may be missing; "" where nothing speaks for it."""
        if found.commits < commits:
            return f"it ends with commit {found.commits}, and {commits} was told as done: the last ones are lost"
        if not found.synced and not found.ended and found.boot != files.boot_id():
            return "with fsync = off the machine ended before the process did: what was last is not known"
        return ""

    def _write_life(self, life: Life, former: int) -> None:
        """Alone in a transaction: no write of an earlier life can come after it."""
        with self._transaction():
            if self._db.execute(UPDATE_LIFE, (*rows.life_row(life), former)).rowcount != 1:
                raise OwnerLost("another process has taken the database meanwhile")
        self._mark.write(life.generation, life.commits)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _known(self) -> Index:
        """What the file holds, read if nobody has done so yet."""
        if self._index is None:
            self._read()
        assert self._index is not None
        return self._index

    def _read(self) -> Found:
        """All of the file. One that is damaged is replaced by what could be had of it."""
        self._check_owner()
        found = self._read_anyhow()
        if found.problems:
            self._replace(found)
            found = self._read_anyhow()
            if found.problems:
                raise self._broken(f"the database is damaged again at once: {rescue.said(found.problems)}")
        self._index = found.index
        return found

    def _read_anyhow(self) -> Found:
        try:
            return reading.read(self._db)
        except Unreadable as error:
            raise self._refused(error) from error

    def _refused(self, error: Unreadable) -> DataDirRefused:
        return faults.refused(self._names.database, error.cause)

    def _replace(self, found: Found) -> None:
        """Set the file aside, and go on with what was found in it."""
        self._life = replace(self._life, complete=False, commits=self._life.commits + 1)
        rescue.carry_over(self._names, found, self._life, self._wall)
        damaged = self._db
        rescue.put_in_place(self._names)
        # Its files have other names now, so closing it changes nothing about the new one.
        damaged.close()
        self._db = self._connected()
        self._mark.write(self._life.generation, self._life.commits)

    def _tell_doubt(self, found: Found) -> None:
        """All channels may lack something: each says so itself, until it is saved with a new epoch."""
        those = []
        for name, channel in found.saved.channels.items():
            channel.is_whole = False
            saved = ChannelSaved(name, channel.uuid, channel.epoch, channel.seq, channel.config)
            those.append(rows.channel_row(found.index.channels[name].id, saved, False))
        self._transact([(INSERT_CHANNEL, those)], doubt=False)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _transact(
        self,
        statements: Sequence[Statement],
        bodies: Mapping[int, bytes] | None = None,
        *,
        shrink: bool = False,
        ended: bool = False,
        doubt: bool | None = None,
    ) -> None:
        """Carries out statements, all or none, as the file's owner."""
        former = self._life
        life = Life(
            generation=former.generation,
            commits=former.commits + 1,
            boot=former.boot,
            synced=former.synced,
            ended=ended,
            complete=former.complete or self._is_loaded,
            doubt=former.doubt if doubt is None else doubt,
        )
        with self._transaction():
            db = self._db
            if db.execute(UPDATE_LIFE, (*rows.life_row(life), life.generation)).rowcount != 1:
                raise OwnerLost("another process has taken the database")
            for statement, those in statements:
                if statement is INSERT_MESSAGE:
                    self._insert_messages(those)
                else:
                    db.executemany(statement, those)
            for number, body in (bodies or {}).items():
                self._change(number, body)
            if shrink:
                db.execute(f"PRAGMA incremental_vacuum({PAGES_STEP})").fetchall()
            failpoints.reach("before_commit")
        self._life = life
        self._mark.write(life.generation, life.commits)

    def _insert_messages(self, those: Sequence[Row]) -> None:
        """PERF: several rows a statement. Each statement gives up the interpreter and asks for it again, and the loop's
        thread is waiting for just that."""
        whole = len(those) - len(those) % ROWS_AT_ONCE
        for start in range(0, whole, ROWS_AT_ONCE):
            values = [value for row in those[start : start + ROWS_AT_ONCE] for value in row]
            self._db.execute(INSERT_MESSAGES, values)
        self._db.executemany(INSERT_MESSAGE, those[whole:])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begins and commits. What is raised inside, or by SQLite, has been undone, or the store is broken."""
        self._check_owner()
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("COMMIT")
        except BaseException as error:
            undone = self._undo()
            if isinstance(error, OwnerLost):
                self._is_usable = False
            if not isinstance(error, sqlite3.Error):
                raise
            meant = faults.of_commit(error, undone)
            if isinstance(meant, StoreBroken):
                self._is_usable = False
            raise meant from error

    def _undo(self) -> bool:
        """Whether nothing of the transaction is left."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("a transaction could not be rolled back")
            return False
        return not self._db.in_transaction

    def _check_owner(self) -> None:
        if not self._lock.is_held():
            self._is_usable = False
            raise OwnerLost("the lock of the database is another one's")

    def _broken(self, reason: str) -> StoreBroken:
        self._is_usable = False
        return StoreBroken(reason)

    def _change(self, number: int, body: bytes) -> None:
        """Another body for a message, if it is there."""
        row = self._db.execute(SELECT_MESSAGE, (number,)).fetchone()
        if row is not None:
            channel, seq, uuid, at, first = row
            changed = rows.message_row(number, channel, seq, uuid, at, body, first)
            self._db.execute(UPDATE_MESSAGE, (body, changed[-1], number))

    # --- housekeeping -------------------------------------------------------------------------------------------------

    def _has_free_pages(self) -> bool:
        """Whether the file is worth making smaller."""
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        return bool(free > FEW_PAGES + PAGES_STEP)

    def _log_bytes(self) -> int:
        try:
            return os.stat(self._names.log).st_size
        except FileNotFoundError:
            return 0

    def _checkpoint_if_long(self) -> None:
        """Moves a long log into the database. A disk that does not take it costs nothing: the log keeps what it has,
        and the next try comes when it has grown as much again. Raises `StoreBroken` where the disk is not reliable."""
        size = self._log_bytes()
        if size < self._checkpoint_at:
            return
        moved = self._checkpoint()
        self._checkpoint_at = LONG_LOG_BYTES if moved else size + LONG_LOG_BYTES

    def _checkpoint(self) -> bool:
        """Whether the log is empty now."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            failpoints.reach("in_checkpoint")
            return bool(self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        except sqlite3.Error as error:
            if isinstance(faults.of_commit(error, rolled_back=True), StoreBroken):
                raise self._broken(faults.reason_of(error)) from error
            log.warning("the log of %s stays long: %s", self._names.database, faults.reason_of(error))
            return False

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Say in the file that this is an orderly end, once all before it is on the disk."""
        try:
            if not self._synced:
                self._db.execute("PRAGMA synchronous = FULL")
                self._transact([])
                self._checkpoint()
            self._transact([], ended=True)
        except (StoreError, sqlite3.Error) as error:
            log.warning("the end of %s is not noted: %s", self._names.database, error)

    def _abandon(self, db: sqlite3.Connection) -> None:
        """Leave a connection open until the process ends: closing it, as forgetting it would, moves the log into the
        database, and neither a former owner nor one whose disk failed to sync may do that."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
