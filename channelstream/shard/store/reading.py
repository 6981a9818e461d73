"""Reads a shard's file: all of it that verifies, and what does not is named.

A file without a fault is read table by table. In one with a fault nothing is taken for granted: rows come from both
ends and from between, as far as SQLite gives any, and every row has to verify for itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final
from zlib import crc32

from msgspec import Struct, field

from channelstream.errors import ChannelstreamError
from channelstream.shard.store import faults, rows, schema
from channelstream.shard.store.base import Saved, SavedChannel, StoredMessage
from channelstream.shard.store.index import Entry, Index, Kept
from channelstream.shard.store.rows import Life, Row

MAX_LEAPS: Final = 1000
"""Attempts to read on behind a broken place of a table. Each is one descent of a tree."""

WIDTHS: Final = {
    "channels": 7,
    "counters": 4,
    "messages": 8,
    "users": 3,
    "records": 3,
    "connections": 3,
    "frames": 4,
}
"""Columns. A broken schema may show fewer."""

ORDER: Final = {"frames": "topic, place", "users": "name", "records": "name", "connections": "name"}
"""Keys of the tables that are not numbered."""


class Found(Struct):
    """What a file holds."""

    saved: Saved = field(default_factory=Saved)
    index: Index = field(default_factory=Index)
    life: Life | None = None
    problems: list[str] = field(default_factory=list)
    """What does not verify, for a person. Empty: the file is in order."""
    is_sound: bool = True
    """Whether the structure of the file is; without, rows may be missing that nobody knows of."""


class Unreadable(ChannelstreamError):
    """The file could not be read, and that says nothing about the file. `cause` is the error."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(cause)


def read(db: sqlite3.Connection) -> Found:
    """All that the file holds. Raises `Unreadable` for faults that are not the file's."""
    factory = db.text_factory
    try:
        return _Reader(db).read()
    finally:
        db.text_factory = factory


def read_life(db: sqlite3.Connection) -> Life | None:
    """The row about the file; None where it does not verify or cannot be read. Raises `Unreadable`."""
    try:
        found = db.execute("SELECT * FROM life").fetchall()
    except faults.READING as error:
        if not faults.is_damage(error):
            raise Unreadable(error) from error
        return None
    return rows.read_life(found[0]) if len(found) == 1 and len(found[0]) == 9 else None


def _lossy(text: bytes) -> str:
    """Text that may be none. What is replaced does not verify, and does not end the reading of its table."""
    return text.decode(errors="replace")


class _Reader:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db: Final = db
        self._found: Final = Found()

    def read(self) -> Found:
        found = self._found
        self._check_structure()
        found.life = read_life(self._db)
        if found.life is None:
            self._problem("the row about the file itself")
        names = self._read_channels()
        self._read_messages(names)
        self._read_values("users", found.saved.users)
        self._read_values("records", found.saved.records)
        self._read_values("connections", found.saved.connections)
        self._read_frames()
        if not found.is_sound or found.life is None:
            for channel in found.saved.channels.values():
                channel.is_whole = False
        found.saved.is_complete = found.life is not None and found.life.complete and not found.problems
        return found

    # --- faults -------------------------------------------------------------------------------------------------------

    def _problem(self, text: str) -> None:
        self._found.problems.append(text)

    def _unsound(self, text: str) -> None:
        if self._found.is_sound:
            self._problem(f"an unknown number of rows ({text})")
        self._found.is_sound = False
        self._db.text_factory = _lossy

    def _met(self, error: Exception) -> None:
        """An error while reading: of the file's structure, or none of its own."""
        if not faults.is_damage(error):
            raise Unreadable(error) from error
        self._unsound(str(error))

    def _check_structure(self) -> None:
        try:
            if not schema.is_as_made(self._db):
                self._unsound("its tables are not the ones that were made")
            told = self._db.execute("PRAGMA quick_check(1)").fetchone()
        except faults.READING as error:
            self._met(error)
        else:
            if told is None or told[0] != "ok":
                self._unsound(" ".join(str(told and told[0]).split()))

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _rows(self, table: str) -> list[Row]:
        """All rows of a table that can be had, in the order of its key."""
        key = ORDER.get(table)
        if self._found.is_sound:
            rows_there = self._all_rows(f"SELECT * FROM {table} ORDER BY {key or 'rowid'}")
            if rows_there is not None:
                return rows_there
        return [row for row in self._salvaged(table, key) if len(row) == WIDTHS[table]]

    def _all_rows(self, select: str) -> list[Row] | None:
        """None where the table cannot be read to its end."""
        for factory in (str, _lossy):
            self._db.text_factory = factory
            try:
                return self._db.execute(select).fetchall()
            except faults.READING as error:
                caught: Exception = error
        self._met(caught)
        return None

    def _salvaged(self, table: str, key: str | None) -> list[Row]:
        """Rows of a broken table: from the front, then from the end, then from between."""
        width = 2 if table == "frames" else 1
        name = key or "rowid"
        front = self._ascending(f"SELECT * FROM {table} ORDER BY {name}", width, 1)
        descending = ", ".join(f"{part} DESC" for part in name.split(", "))
        back = self._ascending(f"SELECT * FROM {table} ORDER BY {descending}", width, -1)
        there = {row[:width]: row for row in (*front, *back)}
        if key is None and front and back:
            there |= {row[:width]: row for row in self._between(table, front[-1][0], back[-1][0])}
        return [there[at] for at in sorted(there, key=lambda at: [(type(part).__name__, part) for part in at])]

    def _between(self, table: str, low: Any, high: Any) -> Iterator[Row]:
        """Rows of a numbered table behind its first broken place and before its last."""
        leap = 1
        for _ in range(MAX_LEAPS):
            if not (isinstance(low, int) and isinstance(high, int) and low + leap < high):
                return
            select = f"SELECT * FROM {table} WHERE rowid > {low + leap} AND rowid < {high} ORDER BY rowid"
            some = self._ascending(select, 1, 1)
            yield from some
            low, leap = (some[-1][0], 1) if some else (low, leap * 2)

    def _ascending(self, select: str, width: int, direction: int) -> list[Row]:
        """Rows until an error, or until their keys (the first `width` columns) do not go on as they should: then pages
        are linked in a circle."""
        taken: list[Row] = []
        try:
            for row in self._db.execute(select):
                if taken and not _goes_on(taken[-1][:width], row[:width], direction):
                    break
                taken.append(row)
        except faults.READING as error:
            self._met(error)
        return taken

    # --- tables -------------------------------------------------------------------------------------------------------

    def _read_channels(self) -> dict[int, str]:
        """Channels with their counters. Number → name."""
        found, names = self._found, dict[int, str]()
        counters = self._read_counters()
        for row in self._rows("channels"):
            read_row = self._guarded(rows.read_channel, row)
            if read_row is None:
                self._problem(f"a channel (its name may have been {str(row[1])[:100]!r})")
                continue
            number, saved, whole = read_row
            seq, first = counters.get(number, (0, 0))
            if number not in counters:
                self._problem(f"the history of the channel {saved.channel!r} (its counter)")
            else:
                names[number] = saved.channel
            known = SavedChannel(saved.uuid, saved.epoch, seq, saved.config, [], whole and number in counters)
            found.saved.channels[saved.channel] = known
            found.index.channels[saved.channel] = Entry(number, seq, first)
            found.index.next_channel = max(found.index.next_channel, number + 1)
        return names

    def _read_counters(self) -> dict[int, tuple[int, int]]:
        return {row[0]: (row[1], row[2]) for row in self._rows("counters") if rows.is_whole("counters", row)}

    def _read_messages(self, names: dict[int, str]) -> None:
        """PERF: most of what a start costs."""
        found = self._found
        index, packed = found.index, rows.packed
        places: dict[int, tuple[list[StoredMessage], list[int]]] = {
            number: (found.saved.channels[name].history, []) for number, name in names.items()
        }
        firsts: dict[int, int] = {}
        number, highest_channel = 0, 0
        there_are = self._rows("messages")
        index.rows = len(there_are)
        for row in there_are:
            try:
                number, channel, seq, uuid, at, body, first, crc = row
                if crc32(packed(row[:7])) != crc & 0xFFFF_FFFF:
                    self._bad_message(row, names)
                    continue
            except rows.UNREADABLE:
                self._bad_message(row, names)
                continue
            there = places.get(channel)
            if there is None:
                # Of a channel that was forgotten. Its number stays taken for as long as its rows are there.
                highest_channel = max(highest_channel, channel)
                index.due.append(number)
                continue
            there[0].append(StoredMessage(uuid, seq, body, at))
            there[1].append(number)
            firsts[channel] = first
        index.next_message = number + 1 if isinstance(number, int) else 1
        index.next_channel = max(index.next_channel, highest_channel + 1)
        for channel, (history, numbers) in places.items():
            self._finish_history(index.channels[names[channel]], history, numbers, firsts.get(channel, 0))
            found.saved.channels[names[channel]].seq = index.channels[names[channel]].seq

    def _finish_history(self, entry: Entry, history: list[StoredMessage], numbers: list[int], first: int) -> None:
        """What was cut off leaves it; what is counted is known now."""
        entry.kept = Kept((message.seq for message in history), numbers)
        entry.seq = max(entry.seq, entry.kept.newest())
        entry.first = max(entry.first, first)
        dead = entry.kept.cut(entry.first)
        del history[: len(dead)]
        self._found.index.due.extend(dead)

    def _bad_message(self, row: Row, names: dict[int, str]) -> None:
        """A message that does not verify costs its channel the epoch; all of them, where not even that is sure."""
        channels = self._found.saved.channels
        if rows.is_message_in_place(row) and row[1] in names:
            self._problem(f"a message of the channel {names[row[1]]!r}")
            channels[names[row[1]]].is_whole = False
            return
        self._problem("a message of an unknown channel")
        for channel in channels.values():
            channel.is_whole = False

    def _read_values(self, table: str, into: dict[str, Any]) -> None:
        for row in self._rows(table):
            value = self._guarded(lambda row: rows.read_value(table, row), row)
            if value is None:
                self._problem(f"a row of {table}")
            else:
                into[row[0]] = value

    def _read_frames(self) -> None:
        for topic, those in groupby(self._rows("frames"), key=lambda row: row[0]):
            several = list(those)
            frames = self._guarded(lambda several: rows.read_frames(str(several[0][0]), several), several)
            if frames is None:
                self._problem(f"the frames of {str(topic)[:100]!r}")
            else:
                self._found.saved.frames[frames.topic] = frames

    def _guarded(self, reading: Callable[[Any], Any], row: Any) -> Any:
        """None for rows with values that nobody wrote."""
        try:
            return reading(row)
        except rows.UNREADABLE:
            return None


def _goes_on(last: Any, following: Any, direction: int) -> bool:
    try:
        return bool(following > last if direction > 0 else following < last)
    except TypeError:
        return False
