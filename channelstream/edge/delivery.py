"""Hands a turn's writes to the clients, in slices, so that a large fan-out does not keep the loop from its clients.

Decides nothing but when to pause. Turns are handed out strictly one after the other, so every client sees a topic's
deliveries in their order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from channelstream import failpoints
from channelstream.clock import monotonic
from channelstream.edge.core import Close, Effect, Held, Write
from channelstream.edge.frames import listed, text_frame
from channelstream.edge.outbox import Mark, Ready

log: Final = logging.getLogger(__name__)

SLICE_S: Final = 0.003
"""A slice of a fan-out: as long as a keystroke's worth of latency for everyone else may be."""

MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""With so much to hand out, no more is taken from the shards until it is less: a fan-out that cannot keep up shows
there, in queues that are bounded, and not in this one."""

CLIENTS_A_LOOK: Final = 64
"""The clock is read once for so many clients."""


class _Turn:
    """What is left of a turn: who gets what, then who is closed."""

    __slots__ = ("_places", "bytes", "closes", "handed", "handout", "marks")

    def __init__(
        self, handout: Sequence[tuple[Held, Sequence[Ready]]], closes: Sequence[Close], marks: Sequence[Mark]
    ) -> None:
        self.handout: Final = handout
        self.handed = 0
        self.closes: Final = closes
        self.marks: Final = marks
        """Of all its writes."""
        self.bytes = 0
        """Of all its bodies; each is there once, for all who get it."""
        self._places: dict[Held, int] | None = None
        """Where each client stands in the handout; made when somebody asks."""

    def unsent(self, client: Held) -> Sequence[Ready]:
        """What a client has not been handed. PERF: thousands may be released while one turn is handed out."""
        if self._places is None:
            self._places = {receiver: place for place, (receiver, _) in enumerate(self.handout)}
        place = self._places.get(client, -1)
        return self.handout[place][1] if place >= self.handed else ()


class Deliveries:
    """The queue of turns. `soon(callback)` runs a callback when the loop has looked at its sockets."""

    def __init__(self, soon: Callable[..., Any], clock: Callable[[], float] = monotonic) -> None:
        self._soon: Final = soon
        self._clock: Final = clock
        self._turns: deque[_Turn] = deque()
        self.bytes = 0
        """What is queued."""

    @property
    def full(self) -> bool:
        """Whether as much is queued as may be. What is added all the same is taken."""
        return self.bytes >= MAX_WAITING_BYTES

    def add(self, effects: Sequence[Effect]) -> None:
        """Queue the writes and closes of a turn, and hand out what fits into a slice."""
        writes = [effect for effect in effects if isinstance(effect, Write)]
        handout = _handout(writes)
        closes = [effect for effect in effects if isinstance(effect, Close)]
        if handout or closes:
            turn = _Turn(handout, closes, [write.mark for write in writes])
            turn.bytes = sum(len(body) for write in writes for body in write.bodies)
            self.bytes += turn.bytes
            self._turns.append(turn)
            if len(self._turns) == 1:
                self._run()

    def unsent(self, client: Held) -> Iterator[Mark]:
        """The marks of what is queued for a client and has not been handed to it."""
        for turn in self._turns:
            yield from (one.mark for one in turn.unsent(client))

    def waiting(self) -> Iterator[Mark]:
        """The marks of all that is queued for anyone."""
        return (mark for turn in self._turns for mark in turn.marks)

    def _run(self) -> None:
        until = self._clock() + SLICE_S
        while self._turns:
            turn = self._turns[0]
            while turn.handed < len(turn.handout):
                if self._clock() > until:
                    self._soon(self._run)
                    return
                _hand_out(turn)
            # Taken from the queue only now: whoever is closed here still finds its unsent marks in it.
            for client, code in turn.closes:
                try:
                    client.close(code)
                except Exception:
                    log.exception("> %s: closing failed", client.conn_id)
            self._turns.popleft()
            self.bytes -= turn.bytes


def _hand_out(turn: _Turn) -> None:
    if turn.handed:
        failpoints.reach("mid_fanout")
    # The first one alone, so that every fan-out has a middle.
    chunk = turn.handout[turn.handed : turn.handed + CLIENTS_A_LOOK if turn.handed else 1]
    for client, ready in chunk:
        turn.handed += 1
        if not client.released:
            try:
                client.deliver(ready)
            except Exception:
                # A fault of ours costs this client, and not those behind it.
                log.exception("> %s: delivery failed", client.conn_id)


def _handout(writes: Sequence[Write]) -> list[tuple[Held, Sequence[Ready]]]:
    """Who gets what. PERF: with one write, all clients share one list; with several, each client gets its own in one
    go, so that it costs one system call however many topics it is on."""
    if len(writes) == 1:
        ready = (_made(writes[0]),)
        return [(client, ready) for client in writes[0].clients]
    by_client: dict[Held, list[Ready]] = {}
    for write in writes:
        made = _made(write)
        for client in write.clients:
            by_client.setdefault(client, []).append(made)
    return list(by_client.items())


def _made(write: Write) -> Ready:
    frame = text_frame(listed(write.bodies))
    return Ready(frame, write.bodies, write.mark, write.reached, write.skippable, write.lost)
