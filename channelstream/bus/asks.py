"""Asks that wait for their answers: numbers, deadlines, and who is to be told. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _Waiting(NamedTuple, Generic[T]):
    deadline: float
    who: T


class Asks(Generic[T]):
    """Open asks by number. All have the same time to be answered, so they are over in the order of their numbers."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._open: dict[int, _Waiting[T]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, who: T, now_mono: float) -> tuple[int, float]:
        """Open an ask: its number and its deadline (monotonic seconds)."""
        self._last += 1
        deadline = now_mono + self._timeout_s
        self._open[self._last] = _Waiting(deadline, who)
        return self._last, deadline

    def answered(self, number: int) -> T | None:
        """Close an ask; None where it is not open (any more): an answer that came too late."""
        waiting = self._open.pop(number, None)
        return None if waiting is None else waiting.who

    def overdue(self, now_mono: float) -> Iterator[T]:
        """Close the asks whose deadline is over."""
        while self._open:
            number, waiting = next(iter(self._open.items()))
            if waiting.deadline > now_mono:
                return
            del self._open[number]
            yield waiting.who
