"""What waits for one client that does not take it: bounded, and it remembers whose deliveries are in it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from channelstream.wire.messages import TopicCursor

KEPT_WHEN_SLOW: Final = 1
"""Of a client that is too slow, only the frame that is half sent stays, since a close frame cannot stand inside it."""


NOWHERE: Final = TopicCursor("")


class Mark(NamedTuple):
    """A topic, and the position before the first of its deliveries in a frame."""

    topic: str
    before: int


class Ready(NamedTuple):
    """A write, made once for all who get it: the websocket frame, and the objects in it for who needs no frame.
    `reached`: where the client stands when it has this."""

    frame: bytes
    bodies: Sequence[bytes]
    mark: Mark
    reached: TopicCursor = NOWHERE


class Waiting(NamedTuple):
    """A frame, or what is left of one, with its marks."""

    frame: memoryview
    marks: tuple[Mark, ...]


class Outbox:
    """The queue of a client. Empty for nearly all clients at nearly all times, so it is made when it is needed."""

    __slots__ = ("_bound", "_waiting", "bytes")

    def __init__(self, bound_bytes: int) -> None:
        self._bound: Final = bound_bytes
        self._waiting: deque[Waiting] = deque()
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def fits(self, size: int) -> bool:
        """Whether a frame of this size may be added; an empty queue takes one of any size."""
        return not self._waiting or self.bytes + size <= self._bound

    def add(self, frame: bytes | memoryview, marks: tuple[Mark, ...]) -> None:
        """Queue a frame, whether it fits or not."""
        self._waiting.append(Waiting(memoryview(frame), marks))
        self.bytes += len(frame)

    def first(self) -> memoryview:
        """What is to be sent next. Call `sent` with how much of it was."""
        return self._waiting[0].frame

    def sent(self, count: int) -> None:
        """So many bytes of the first frame are gone."""
        frame, marks = self._waiting.popleft()
        self.bytes -= count
        if count < len(frame):
            self._waiting.appendleft(Waiting(frame[count:], marks))

    def cut(self, half_sent: bool) -> None:
        """Forget what waits, but for the rest of a frame that is half sent."""
        while len(self._waiting) > (KEPT_WHEN_SLOW if half_sent else 0):
            self.bytes -= len(self._waiting.pop().frame)

    def marks(self) -> Iterable[Mark]:
        """The marks of all that waits, in order: a frame that is half sent has not been received."""
        return (mark for waiting in self._waiting for mark in waiting.marks)
