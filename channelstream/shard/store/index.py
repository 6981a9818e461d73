"""What is known in memory of a shard's file: which row holds which message, and what waits to be deleted. Pure.

It costs 16 bytes for each message in a history, and saves the file an index on disk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import Final

WORTH_MOVING: Final = 64
"""So many cut entries are left at the front before the others are moved up; more where there are more others, so that
a cut costs the same however long a history is."""


class Kept:
    """The messages of a channel: seq → number of its row. Both only grow."""

    __slots__ = ("_ids", "_seqs", "_start")

    def __init__(self, seqs: Iterable[int] = (), ids: Iterable[int] = ()) -> None:
        self._seqs = array("q", seqs)
        self._ids = array("q", ids)
        self._start = 0
        """What stands before was cut."""

    def __len__(self) -> int:
        return len(self._seqs) - self._start

    def extend(self, seqs: Iterable[int], ids: Iterable[int]) -> None:
        self._seqs.extend(seqs)
        self._ids.extend(ids)

    def row_of(self, seq: int) -> int | None:
        """The row of the message with this seq, if it is kept."""
        at = bisect_left(self._seqs, seq, self._start)
        return self._ids[at] if at < len(self._seqs) and self._seqs[at] == seq else None

    def rows(self) -> array[int]:
        """All rows."""
        return self._ids[self._start :]

    def newest(self) -> int:
        """The highest seq, 0 where nothing is kept."""
        return self._seqs[-1] if len(self) else 0

    def cut(self, first: int) -> array[int]:
        """Forget what has a lower seq; its rows come back."""
        start = self._start
        self._start = bisect_left(self._seqs, first, start)
        rows = self._ids[start : self._start]
        if self._start >= max(WORTH_MOVING, len(self)):
            del self._seqs[: self._start], self._ids[: self._start]
            self._start = 0
        return rows

    def forget(self, seq: int) -> None:
        """Forget the message with this seq, if it is kept."""
        at = bisect_left(self._seqs, seq, self._start)
        if at < len(self._seqs) and self._seqs[at] == seq:
            del self._seqs[at], self._ids[at]


class Entry:
    """A channel."""

    __slots__ = ("first", "id", "kept", "seq")

    def __init__(self, id: int, seq: int, first: int = 0, kept: Kept | None = None) -> None:
        self.id = id
        """The number of its row. It is not used again while a row of the channel is left."""
        self.seq = seq
        """The last delivery that was counted."""
        self.first = first
        """Rows of messages with a lower seq may still be there, and are not meant."""
        self.kept = Kept() if kept is None else kept


class Index:
    """Of one file."""

    def __init__(self) -> None:
        self.channels: dict[str, Entry] = {}
        self.next_channel = 1
        self.next_message = 1
        self.rows = 0
        """How many messages there are in the file, about."""
        self.due = array("q")
        """Rows of messages that are not meant any more."""
        self.sweep: deque[int] = deque()
        """Those of them that are being deleted, in steps, the lowest first. No row stands in both."""

    def begin_sweep(self, least: int) -> None:
        """Choose what is deleted next: of at least so many dead rows the older half, which lies closest together."""
        if not self.sweep and len(self.due) >= max(least, 1):
            ordered = sorted(self.due)
            half = (len(ordered) + 1) // 2
            self.sweep.extend(ordered[:half])
            self.due = array("q", ordered[half:])
