"""When things are over: moments, looked at by the tick.

An entry is only a reminder. Whoever takes it looks at the thing itself, which may have gone or gained time since.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from heapq import heappop, heappush
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

STEPS_A_SECOND: Final = 16
"""Everything is looked at up to a sixteenth of a second late, and what is due within one of these is looked at at once:
thousands that come in a second have a dozen moments between them. The strictest promise is a second."""


class Agenda:
    """Several kinds of reminders, and the first moment of all."""

    __slots__ = ("_kinds", "first")

    def __init__(self) -> None:
        self._kinds: Final[list[Reminders[Any]]] = []
        self.first = math.inf
        """Nothing is due before it; infinity where there is nothing. PERF: looked at in each turn of a loop."""

    def add(self, kind: Reminders[Any]) -> None:
        """One more kind; it lowers `first` itself."""
        self._kinds.append(kind)

    def look(self) -> None:
        """Call when what was due was taken: nothing else moves `first` away."""
        self.first = min([kind.first for kind in self._kinds], default=math.inf)


class Reminders(Generic[T]):
    """Keys by the moment (monotonic seconds) at which each is to be looked at. An entry is a place in a list."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda: Final = agenda
        agenda.add(self)
        self._moments: list[float] = []
        """A heap: of each moment that has keys, once."""
        self._keys: dict[float, list[T]] = {}
        """In the order in which they came."""
        self.first = math.inf
        """The first moment; infinity without one."""

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
            self._agenda.first = min(self._agenda.first, moment)
        keys.append(key)
        return moment

    def due(self, now: float) -> Iterator[T]:
        """The keys whose moment has come, in the order of moments."""
        while self._moments and self._moments[0] <= now:
            keys = self._keys.pop(heappop(self._moments))
            self.first = self._moments[0] if self._moments else math.inf
            yield from keys


class Lately(Generic[K, V]):
    """What was last put under a key, for `kept_s` seconds at least and twice as long at most: two dicts, of which the
    older one is dropped as a whole. Nothing is kept for each key but its place there.

    `most`: so many keys at most; beyond that the older ones are forgotten sooner.
    """

    __slots__ = ("_began", "_kept_s", "_most", "_newer", "_older")

    def __init__(self, kept_s: float, most: int, now_mono: float) -> None:
        self._kept_s: Final = kept_s
        self._most: Final = most
        self._older: dict[K, V] = {}
        self._newer: dict[K, V] = {}
        self._began = now_mono
        """When the newer one was."""

    def __len__(self) -> int:
        return len(self._older.keys() | self._newer.keys())

    def get(self, key: K) -> V | None:
        """What was last put there, as far as it is kept."""
        return self._newer.get(key, self._older.get(key))

    def put(self, key: K, value: V, now_mono: float) -> None:
        """Keep this from now on."""
        if len(self._newer) >= self._most // 2 and key not in self._newer:
            self._turn_over(now_mono)
        self._newer[key] = value

    def forget(self, now_mono: float) -> None:
        """What is too old goes. Call every now and then."""
        if now_mono - self._began >= self._kept_s:
            self._turn_over(now_mono)

    def _turn_over(self, now_mono: float) -> None:
        self._older, self._newer = self._newer, {}
        self._began = now_mono
