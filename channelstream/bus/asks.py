"""Asks that wait for their answers: numbers, deadlines, who is to be told, and what to say again. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final, Generic, TypeVar

from channelstream.errors import QueueFull
from channelstream.wire.messages import Ask, Command

T = TypeVar("T")

KEPT_BYTES: Final = 64 * 1024 * 1024
"""What open asks to one shard may hold: as much as may wait in the queue to it by default."""


class _Waiting(Generic[T]):
    """An open ask. PERF: one is made for each command, so it has slots."""

    __slots__ = ("command", "deadline", "size", "who")

    def __init__(self, deadline: float, who: T) -> None:
        self.deadline: Final = deadline
        self.who: Final = who
        self.command: Command | None = None
        """What was asked, where it is kept."""
        self.size = 0
        """Of that, in bytes on the wire."""


class Asks(Generic[T]):
    """Open asks by number. All have the same time to be answered, so they are over in the order of their numbers.

    `peer`: who is asked, for errors. `bound_bytes`: how much may be kept to be said again.
    """

    def __init__(self, timeout_s: float, peer: str = "", bound_bytes: int = KEPT_BYTES) -> None:
        self._timeout_s: Final = timeout_s
        self._peer: Final = peer
        self._bound: Final = bound_bytes
        self._open: dict[int, _Waiting[T]] = {}
        self.last = 0
        """The number of the last ask."""
        self.kept_bytes = 0
        """What is kept to be said again."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, who: T, now_mono: float) -> tuple[int, float]:
        """Open an ask: its number and its deadline (monotonic seconds)."""
        self.last += 1
        deadline = now_mono + self._timeout_s
        self._open[self.last] = _Waiting(deadline, who)
        return self.last, deadline

    def keep(self, number: int, command: Command, size: int) -> None:
        """Keep what an open ask says, `size` bytes, for as long as it is open. Raises `QueueFull` where it does not fit
        (where nothing is kept, anything does): then whoever asked is to be told that the shard is away."""
        if self.kept_bytes and self.kept_bytes + size > self._bound:
            raise QueueFull(self._peer, self.kept_bytes, self._bound)
        waiting = self._open[number]
        waiting.command, waiting.size = command, size
        self.kept_bytes += size

    def answered(self, number: int) -> T | None:
        """Close an ask; None where it is not open (any more): an answer that came too late, or for the second time."""
        return self._close(number) if number in self._open else None

    def next_due(self) -> float:
        """The deadline that comes first; infinity where no ask is open."""
        return next(iter(self._open.values())).deadline if self._open else inf

    def overdue(self, now_mono: float) -> Iterator[T]:
        """Close the asks whose deadline is over."""
        while self._open:
            number, waiting = next(iter(self._open.items()))
            if waiting.deadline > now_mono:
                return
            yield self._close(number)

    def again(self, up_to: int) -> list[Ask]:
        """The open asks up to this number, in their order, with their numbers and deadlines, to be said once more."""
        return [
            Ask(number, waiting.deadline, waiting.command, again=True)
            for number, waiting in self._open.items()
            if number <= up_to and waiting.command is not None
        ]

    def _close(self, number: int) -> T:
        waiting = self._open.pop(number)
        self.kept_bytes -= waiting.size
        return waiting.who
