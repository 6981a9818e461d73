"""A client held by a stream of server-sent events (HTML standard): as quiet as a websocket, and it only listens.

Browsers come back by themselves, with the id of the last event that they have seen, which is a position. So nothing
that was lost on the way is lost; and whoever must not come back is told to wait for a day.
"""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from typing import Final

from channelstream.clock import monotonic
from channelstream.edge.frames import CLOSE_GOING_AWAY, CLOSE_REPLACED, close_event, event
from channelstream.edge.link import Link
from channelstream.edge.outbox import Ready
from channelstream.edge.position import Position
from channelstream.edge.stream import Counting, Phase, StreamClient

RETRY_MS: Final = 1000
"""Until a browser comes back to a stream that broke."""

NEVER_MS: Final = 86_400_000
"""For one whose connection another stream has taken over: the two would take it from each other for ever."""


class EventClient(StreamClient):
    """See the module."""

    __slots__ = ("_position",)

    keeps_position = True

    def __init__(
        self,
        conn_id: str,
        user: str,
        attachment: int,
        sock: _socket.socket,
        link: Link,
        server: Counting,
    ) -> None:
        super().__init__(conn_id, user, attachment, sock, link, server)
        self._position: Final = Position()
        """Where the client stands when it has read all that was written."""

    def deliver(self, ready: Sequence[Ready]) -> None:
        """See `Held.deliver`: one event."""
        if self._phase is Phase.OPEN:
            self._deliver(ready)

    def _encoded(self, ready: Sequence[Ready]) -> bytes:
        """See `StreamClient`: one event, with the position behind it."""
        for one in ready:
            self._position.advance(one.reached)
        return event([body for one in ready for body in one.bodies], str(self._position))

    def _size(self, one: Ready) -> int:
        """See `StreamClient`: without the position, which is a few kilobytes at most."""
        return sum(map(len, one.bodies))

    def ping(self) -> None:
        """See `StreamClient.ping`. The client says nothing, so what the kernel takes is the sign of life; what is not
        acknowledged ends the connection there."""
        if self._phase is Phase.OPEN and self._outbox is None:
            # Deliveries that are not for this client move it on, too.
            for cursor in self._link.served(self):
                self._position.refresh(cursor)
            self._write(event((), str(self._position)), ())
            if self._outbox is None:
                self.last_heard = monotonic()

    def _on_writable(self) -> None:
        """There is room in the kernel again: the client is reading, if slowly."""
        self.last_heard = monotonic()
        super()._on_writable()

    def feed(self, data: bytes) -> None:
        """See `StreamClient.feed`: a client that only listens has nothing to say."""

    def _last_words(self, code: int) -> bytes:
        """See `StreamClient`."""
        wait_ms = RETRY_MS
        if code == CLOSE_REPLACED:
            wait_ms = NEVER_MS
        elif code == CLOSE_GOING_AWAY:
            wait_ms = self._link.retry_ms(self.conn_id)
        return close_event(code, wait_ms)

    def _say_goodbye(self, frame: bytes) -> None:
        """There is no answer to wait for."""
        super()._say_goodbye(frame)
        if self._phase is Phase.CLOSING:
            if self._outbox is None:
                self._end()
            else:
                self._phase = Phase.ENDING
