"""What waits for one client that does not take it: bounded, and it remembers whose deliveries are in it. Pure.

Where a channel has it so, what does not fit is skipped: the client gets a `gap` for it when it reads again, and until
that has gone out, the client's position is the one before.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from channelstream.edge.frames import gap, listed, text_frame
from channelstream.ids import TopicKey
from channelstream.wire.messages import TopicCursor

KEPT_WHEN_SLOW: Final = 1
"""Of a client that is too slow, only the frame that is half sent stays, since a close frame cannot stand inside it."""

LOW_WATER: Final = 0.25
"""This part of the bound may wait when a client is told what was skipped, and is given what comes from then on. At the
bound itself it would get one gap after another with a message between each; with nothing left to wait for, a client
that is never quite done would never be told."""

NOWHERE: Final = TopicCursor("")


class Mark(NamedTuple):
    """A topic, and the position before the first of its deliveries in a frame."""

    topic: str
    before: int


class Ready(NamedTuple):
    """A write, made once for all who get it: the websocket frame, and the objects in it for who needs no frame.
    `reached`: where the client stands when it has this. `skippable`: see the module. `lost`: of how many deliveries the
    objects only tell, None where nobody knows; then the first of them is a `gap`. `deflated`: the frame for those who
    agreed to compression, where there are any."""

    frame: bytes
    bodies: Sequence[bytes]
    mark: Mark
    reached: TopicCursor = NOWHERE
    skippable: bool = False
    lost: int | None = 0
    deflated: bytes = b""

    def on_wire(self, deflates: bool) -> bytes:
        """The frame for a client that has agreed to compression, or has not."""
        return self.deflated if deflates and self.deflated else self.frame

    def deliveries(self) -> int | None:
        """How many it stands for; None where nobody knows."""
        return None if self.lost is None else self.lost + len(self.bodies) - bool(self.lost)


def joined(ready: Sequence[Ready], deflates: bool) -> bytes:
    """All their frames, to go out in one go."""
    if len(ready) == 1:
        return ready[0].on_wire(deflates)
    return b"".join([one.on_wire(deflates) for one in ready])


class Skip(NamedTuple):
    """Deliveries of a topic that a client was not given: the position before the first, where it stands when it is
    told of them, and how many they are; None where nobody knows."""

    before: int
    reached: TopicCursor
    missed: int | None


class Waiting(NamedTuple):
    """A frame, or what is left of one, with its marks."""

    frame: memoryview
    marks: tuple[Mark, ...]


class Fate(enum.Enum):
    """What becomes of a delivery to a client that is behind."""

    WAITS = "waits"
    """It fits: encode it and `add` it."""
    SKIPPED = "skipped"
    """The client will be told of it."""
    TOO_MUCH = "too much"
    """The client is too slow, and is to be closed."""


class Outbox:
    """The queue of a client. Empty for nearly all clients at nearly all times, so it is made when it is needed."""

    __slots__ = ("_befores", "_bound", "_skipped", "_waiting", "bytes")

    def __init__(self, bound_bytes: int) -> None:
        self._bound: Final = bound_bytes
        self._waiting: deque[Waiting] = deque()
        self._befores: dict[str, deque[int]] = {}
        """By topic: the positions of the marks that wait, in their order."""
        self._skipped: dict[str, Skip] = {}
        """By topic; at most as many as the client is on."""
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def fits(self, size: int) -> bool:
        """Whether a frame of this size may be added; an empty queue takes one of any size."""
        return not self._waiting or self.bytes + size <= self._bound

    def fate(self, one: Ready, size: int) -> Fate:
        """What becomes of a delivery whose frame has about this size. Of a topic that has skipped something all is
        skipped until the client has been told, since the gap stands where it belongs."""
        skip = self._skipped.get(one.mark.topic)
        if skip is None and self.fits(size):
            return Fate.WAITS
        if not one.bodies:  # it only tells where the client stands
            return Fate.SKIPPED
        if skip is None and not one.skippable:
            return Fate.TOO_MUCH
        self._skipped[one.mark.topic] = _longer(skip, one)
        return Fate.SKIPPED

    def add(self, frame: bytes | memoryview, marks: tuple[Mark, ...]) -> None:
        """Queue a frame, whether it fits or not."""
        self._waiting.append(Waiting(memoryview(frame), marks))
        self.bytes += len(frame)
        for mark in marks:
            befores = self._befores.setdefault(mark.topic, deque())
            if befores and mark.before < befores[-1]:  # another life of the topic's counter: older positions are void
                befores = self._befores[mark.topic] = deque([mark.before] * len(befores))
            befores.append(mark.before)

    def first(self) -> memoryview:
        """What is to be sent next. Call `sent` with how much of it was."""
        return self._waiting[0].frame

    def sent(self, count: int) -> None:
        """So many bytes of the first frame are gone."""
        frame, marks = self._waiting.popleft()
        self.bytes -= count
        if count < len(frame):
            self._waiting.appendleft(Waiting(frame[count:], marks))
        else:
            for mark in marks:
                self._befores[mark.topic].popleft()
                if not self._befores[mark.topic]:
                    del self._befores[mark.topic]

    def gaps(self) -> list[Ready]:
        """What tells of all that was skipped, where it is time to: to be added at once. Nothing is skipped then."""
        if not self._skipped or self.bytes > self._bound * LOW_WATER:
            return []
        told = [_gap(topic, skip) for topic, skip in self._skipped.items()]
        self._skipped.clear()
        return told

    def cut(self, half_sent: bool) -> None:
        """Forget what waits, but for the rest of a frame that is half sent."""
        self._skipped.clear()
        while len(self._waiting) > (KEPT_WHEN_SLOW if half_sent else 0):
            self.bytes -= len(self._waiting.pop().frame)
        self._befores.clear()
        for mark in self.marks():
            self._befores.setdefault(mark.topic, deque()).append(mark.before)

    def marks(self) -> Iterator[Mark]:
        """The marks of all that waits, in order, and of what was skipped and has not been told: a frame that is half
        sent has not been received."""
        yield from (mark for waiting in self._waiting for mark in waiting.marks)
        yield from (Mark(topic, skip.before) for topic, skip in self._skipped.items())

    def oldest_marks(self) -> Iterator[Mark]:
        """For each of those topics, a position that the client has at least. PERF: asked each second of all who are
        behind, so it does not look at each frame."""
        yield from (Mark(topic, befores[0]) for topic, befores in self._befores.items())
        yield from (Mark(topic, skip.before) for topic, skip in self._skipped.items())


def _longer(skip: Skip | None, one: Ready) -> Skip:
    missed = one.deliveries()
    if skip is None:
        return Skip(one.mark.before, one.reached, missed)
    return Skip(skip.before, one.reached, None if skip.missed is None or missed is None else skip.missed + missed)


def _gap(topic: str, skip: Skip) -> Ready:
    bodies = (gap(TopicKey(topic), skip.missed),)
    return Ready(text_frame(listed(bodies)), bodies, Mark(topic, skip.before), skip.reached, lost=skip.missed)
