"""When things are over: one heap of moments, looked at by the tick.

An entry is only a reminder. Whoever pops it looks at the thing itself, which may have gone or gained time since.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")


class Reminders(Generic[T]):
    """Keys by the moment (monotonic seconds) at which each is to be looked at."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        """Breaks ties, so that keys need no order of their own."""
        self.first = inf
        """The first moment; infinity without one. PERF: asked in each turn of a loop, so it is not asked for."""

    def __len__(self) -> int:
        return len(self._heap)

    def remind(self, key: T, at: float) -> None:
        """Look at this key again at that moment."""
        self._count += 1
        heappush(self._heap, (at, self._count, key))
        self.first = self._heap[0][0]

    def due(self, now: float) -> Iterator[T]:
        """The keys whose moment has come, each taken out as it is given."""
        while self._heap and self._heap[0][0] <= now:
            key = heappop(self._heap)[2]
            self.first = self._heap[0][0] if self._heap else inf
            yield key
