"""When a client is pinged, and when it is taken for gone. Pure: one wheel for all clients instead of a timer each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

STEPS: Final = 25
"""Parts of a ping interval: a client is pinged at most this part of it late."""


class Alive(Protocol):
    """What is watched."""

    last_heard: float
    """Monotonic seconds of the last byte that came from it. Kept by whoever reads."""


A = TypeVar("A", bound=Alive)


class Due(NamedTuple, Generic[A]):
    """What a turn of the wheel asks for."""

    ping: list[A]
    gone: list[A]


class Wheel(Generic[A]):
    """Turn it every `step_s` seconds."""

    def __init__(self, ping_interval_s: float, silence_s: float) -> None:
        self.step_s: Final = ping_interval_s / STEPS
        self._interval_s: Final = ping_interval_s
        self._silence_s: Final = silence_s
        self._slots: Final[list[dict[A, None]]] = [{} for _ in range(STEPS)]
        self._at = 0
        self._suspects: dict[A, int] = {}
        """Clients that will be over before they are visited again, with their slot."""

    def add(self, client: A) -> int:
        """Watch a client; pinged for the first time one interval from now. Its slot comes back, for `remove`."""
        self._slots[self._at][client] = None
        return self._at

    def remove(self, client: A, slot: int) -> None:
        """Watch it no more."""
        self._slots[slot].pop(client, None)
        self._suspects.pop(client, None)

    def turn(self, now: float) -> Due[A]:
        """One step on: who is to be pinged, and who has been silent for too long."""
        self._at = (self._at + 1) % STEPS
        visited = self._slots[self._at]
        gone = list(self._over(now))
        for client in visited:
            if now - client.last_heard + self._interval_s > self._silence_s:
                self._suspects[client] = self._at
        return Due([client for client in visited if now - client.last_heard < self._silence_s], gone)

    def _over(self, now: float) -> Iterator[A]:
        for client, slot in list(self._suspects.items()):
            if now - client.last_heard >= self._silence_s:
                self.remove(client, slot)
                yield client
            elif now - client.last_heard < self._interval_s:
                del self._suspects[client]
