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
from channelstream.edge.deflate import deflated_frame
from channelstream.edge.frames import listed, text_frame
from channelstream.edge.outbox import Mark, Ready, joined
from channelstream.edge.sending import BROKEN, JOINED_BYTES, NOT_DIRECT, send_to_each

log: Final = logging.getLogger(__name__)

SLICE_S: Final = 0.003
"""A slice of a fan-out: as long as a keystroke's worth of latency for everyone else may be."""

MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""With so much to hand out, no more is taken from the shards until it is less: a fan-out that cannot keep up shows
there, in queues that are bounded, and not in this one."""

CLIENTS_A_LOOK: Final = 128
"""The clock is read once for so many clients, which is half a millisecond."""


class _Turn:
    """What is left of a turn: who gets what, then who is closed."""

    __slots__ = ("_each", "_places", "_shared", "bytes", "clients", "closes", "handed", "marks")

    def __init__(self, writes: Sequence[Write], closes: Sequence[Close], compresses: bool) -> None:
        self.clients: Sequence[Held] = ()
        """Who gets something, once each."""
        self.handed = 0
        """How many of them have been given theirs."""
        self._shared: tuple[Ready, ...] = ()
        """What all of them get; empty where each gets its own."""
        self._each: Sequence[list[Ready]] = ()
        """What each of them gets, in one go, so that it costs one system call however many topics it is on."""
        self.closes: Final = closes
        self.marks: Final = [write.mark for write in writes]
        self.bytes: Final = sum(len(body) for write in writes for body in write.bodies)
        """Of all its bodies; each is there once, for all who get it."""
        self._places: dict[Held, int] | None = None
        """Where each client stands; made when somebody asks."""
        if len(writes) == 1:  # PERF: nearly always, and then nothing is made for each client
            self.clients = writes[0].clients
            self._shared = (_made(writes[0], compresses),)
        else:
            by_client: dict[Held, list[Ready]] = {}
            for write in writes:
                made = _made(write, compresses)
                for client in write.clients:
                    by_client.setdefault(client, []).append(made)
            self.clients = list(by_client)
            self._each = list(by_client.values())

    def ready(self, place: int) -> Sequence[Ready]:
        """What the client at a place gets."""
        return self._shared or self._each[place]

    def frames(self, begin: int, end: int, descriptors: Sequence[int]) -> bytes | list[bytes]:
        """What the clients of a chunk are sent who take frames as they are: one for all, or a list with each one's;
        nothing is put together for the others, who have no descriptor."""
        clients = self.clients[begin:end]
        if not self._shared:
            each = zip(self._each[begin:end], clients, descriptors, strict=True)
            return [b"" if descriptor < 0 else joined(ready, client.deflates) for ready, client, descriptor in each]
        (one,) = self._shared
        if one.deflated:
            return [one.on_wire(client.deflates) for client in clients]
        return one.frame

    def descriptors(self, begin: int, end: int) -> list[int]:
        """Where. Of a client that gets very much at once, it is -1: see `JOINED_BYTES`."""
        descriptors = [client.direct_fd for client in self.clients[begin:end]]
        for place, ready in enumerate(self._each[begin:end]):
            if len(ready) > 1 and sum([len(one.frame) for one in ready]) > JOINED_BYTES:
                descriptors[place] = NOT_DIRECT
        return descriptors

    def unsent(self, client: Held) -> Sequence[Ready]:
        """What a client has not been handed. PERF: thousands may be released while one turn is handed out."""
        if self._places is None:
            self._places = {receiver: place for place, receiver in enumerate(self.clients)}
        place = self._places.get(client, -1)
        return self.ready(place) if place >= self.handed else ()


class Deliveries:
    """The queue of turns. `soon(callback)` runs a callback when the loop has looked at its sockets; `on_room` is run so
    when the queue is full no more. `compresses`: whether there may be clients who have agreed to compression."""

    def __init__(
        self,
        soon: Callable[..., Any],
        clock: Callable[[], float] = monotonic,
        compresses: bool = False,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._compresses: Final = compresses
        self._soon: Final = soon
        self._on_room: Final = on_room
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
        closes = [effect for effect in effects if isinstance(effect, Close)]
        if writes or closes:
            turn = _Turn(writes, closes, self._compresses)
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
            while turn.handed < len(turn.clients):
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
            was_full = self.full
            self.bytes -= turn.bytes
            if was_full and not self.full:
                self._soon(self._on_room)


def _hand_out(turn: _Turn) -> None:
    begin = turn.handed
    if begin:
        failpoints.reach("mid_fanout")
    # The first one alone, so that every fan-out has a middle.
    end = min(begin + CLIENTS_A_LOOK, len(turn.clients)) if begin else 1
    descriptors = turn.descriptors(begin, end)
    frames = turn.frames(begin, end, descriptors)
    # Giving one client its share releases no other: what is left over here is nobody's unsent in the meantime.
    left = send_to_each(descriptors, frames)
    turn.handed = end
    for place, sent in left:
        client, ready = turn.clients[begin + place], turn.ready(begin + place)
        try:
            if sent == NOT_DIRECT:
                if not client.released:
                    client.deliver(ready)
            elif sent == BROKEN:
                client.lose(ready)
            else:
                client.took_part(ready, frames if isinstance(frames, bytes) else frames[place], sent)
        except Exception:
            # A fault of ours costs this client, and not those behind it.
            log.exception("> %s: delivery failed", client.conn_id)


def _made(write: Write, compresses: bool) -> Ready:
    payload = listed(write.bodies)
    deflated = b""
    if compresses and any(client.deflates for client in write.clients):
        deflated = deflated_frame(payload)
    return Ready(text_frame(payload), write.bodies, write.mark, write.reached, write.skippable, write.lost, deflated)
