"""Whom to tell to go, and when: evenly over some seconds, so that they do not all come to the others at once. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

import xxhash

T = TypeVar("T")

SOON_MS: Final = 1000
"""Who is told in its turn comes to another edge within this: the turns have spread them already."""

LATER_MS: Final = 1000
SPREAD_MS: Final = 4000
"""Where all are told at once, there is nobody for them yet: they come after `LATER_MS`, spread over `SPREAD_MS`."""


def retry_ms(conn_id: str, in_turn: bool) -> int:
    """When a client that is told to go should come back: not at the same moment as the others, and by no chance that a
    test would have to know."""
    spread = xxhash.xxh3_64_intdigest(conn_id.encode())
    return spread % SOON_MS if in_turn else LATER_MS + spread % SPREAD_MS


class Farewell(Generic[T]):
    """The clients that are still to be told."""

    def __init__(self, clients: Iterable[T], now: float, over_s: float) -> None:
        self._waiting: Final = deque(clients)
        self._postponed: list[T] = []
        """Those whose turn has come while they had not read what they were sent before."""
        self._count: Final = len(self._waiting)
        self._began: Final = now
        self._over_s = over_s

    @property
    def is_over(self) -> bool:
        """Whether all have been told."""
        return not self._waiting and not self._postponed

    def hurry(self) -> None:
        """The rest is due at once."""
        self._over_s = 0.0

    def due(self, now: float, is_behind: Callable[[T], bool]) -> list[T]:
        """Those who are to be told now. One that `is_behind` is given until the end to read what waits for it."""
        elapsed = now - self._began
        if elapsed >= self._over_s:
            rest = [*self._postponed, *self._waiting]
            self._postponed.clear()
            self._waiting.clear()
            return rest
        told = self._count - len(self._waiting)
        came = [self._waiting.popleft() for _ in range(math.ceil(self._count * elapsed / self._over_s) - told)]
        turn = [*self._postponed, *came]
        self._postponed = [client for client in turn if is_behind(client)]
        return [client for client in turn if not is_behind(client)]
