"""When things are over: moments, looked at by the tick.

An entry is only a reminder. Whoever takes it looks at the thing itself, which may have gone or gained time since.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

T = TypeVar("T")

STEPS_A_SECOND: Final = 16
"""Everything is looked at up to a sixteenth of a second late, and what is due within one of these is looked at at once:
thousands that come in a second have a dozen moments between them. The strictest promise is a second."""


class Reminders(Generic[T]):
    """Keys by the moment (monotonic seconds) at which each is to be looked at. An entry is a place in a list."""

    def __init__(self) -> None:
        self._moments: list[float] = []
        """A heap: of each moment that has keys, once."""
        self._keys: dict[float, list[T]] = {}
        """In the order in which they came."""
        self.first = math.inf
        """The first moment; infinity without one. PERF: looked at in each turn of a loop."""

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def remind(self, key: T, at: float) -> float:
        """Look at this key again at that moment. The step in which it will be comes back: the first one from then."""
        moment = math.ceil(at * STEPS_A_SECOND) / STEPS_A_SECOND
        keys = self._keys.get(moment)
        if keys is None:
            keys = self._keys[moment] = []
            heappush(self._moments, moment)
            self.first = self._moments[0]
        keys.append(key)
        return moment

    def due(self, now: float) -> Iterator[T]:
        """The keys whose moment has come, in the order of moments."""
        while self._moments and self._moments[0] <= now:
            keys = self._keys.pop(heappop(self._moments))
            self.first = self._moments[0] if self._moments else math.inf
            yield from keys
