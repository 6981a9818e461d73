"""A client held by a socket: a descriptor and a place among those that are read, and nothing else while it is idle.

Writing is a plain non-blocking send of bytes that are ready; what does not fit waits in an `Outbox` with a write
watcher. What the bytes mean is not known here: subclasses make them, and read what comes.
"""

from __future__ import annotations

import _socket
import enum
from collections.abc import Sequence
from typing import Any, Final, Protocol

from channelstream.clock import monotonic
from channelstream.counters import GAPS_TOLD, SKIPPED, SLOW_CLOSED
from channelstream.edge.core import Held
from channelstream.edge.frames import CLOSE_EXPIRED, CLOSE_POLICY
from channelstream.edge.link import Link
from channelstream.edge.outbox import Fate, Mark, Outbox, Ready
from channelstream.edge.sending import JOINED_BYTES

RECEIVE_BYTES: Final = 1024
"""One read. Clients send heartbeats of some bytes; more than this waits in the kernel for the next turn. It may be 170
frames, which take a millisecond, or a dozen compressed ones that become `max_frame` each, which take three."""

WRITE: Final = 2
"""libev's event bit."""


class Phase(enum.Enum):
    """OPEN → CLOSING → ENDING → CLOSED, any of the next ones left out."""

    OPEN = "open"
    CLOSING = "closing"
    """Our last words are out or on their way, theirs have not come. Nothing is delivered any more."""
    ENDING = "ending"
    """Nothing more is expected from the client; what is left of ours goes out."""
    CLOSED = "closed"


# PERF: in Python 3.11 each look at a member through its class is a call.
_OPEN, _CLOSING, _ENDING, _CLOSED = Phase


class Counting(Protocol):
    """Whoever counts the sockets that were taken over from it."""

    def released(self) -> None:
        """One of them is closed."""


class StreamClient(Held):
    """See the module. Subclasses have `deliver`, `ping`, `feed`, `_encoded`, `_size` and `_last_words`."""

    __slots__ = (
        "_half_sent",
        "_link",
        "_outbox",
        "_phase",
        "_server",
        "_slot",
        "_sock",
        "_writer",
        "direct_fd",
        "last_heard",
    )

    def __init__(
        self,
        conn_id: str,
        user: str,
        attachment: int,
        sock: _socket.socket,
        link: Link,
        server: Counting,
    ) -> None:
        super().__init__(conn_id, user, attachment)
        self._sock: Final = sock
        self._link: Final = link
        self._server: Final = server
        """Told once, when the descriptor is closed."""
        self.direct_fd = -1
        """See `Held.direct_fd`."""
        self._phase = _OPEN
        self._outbox: Outbox | None = None
        """What the client has not taken; None for one that keeps up."""
        self._half_sent = False
        """Whether the first frame of the outbox is under way."""
        self.last_heard = monotonic()
        self._writer: Any = None
        link.readers.add(sock.fileno(), self)
        self._slot: Final = link.wheel.add(self)

    # --- what a subclass knows ---

    def ping(self) -> None:
        """Ask for a sign of life, or see to it that there is one."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Bytes of the client: those that came behind its request, or that the socket has given."""
        raise NotImplementedError

    def _encoded(self, ready: Sequence[Ready]) -> bytes:
        """What is written for these, in one go: they are given to the client from now on."""
        raise NotImplementedError

    def _size(self, one: Ready) -> int:
        """About how many bytes are written for one."""
        raise NotImplementedError

    def _last_words(self, code: int) -> bytes:
        """What tells the client why it is let go."""
        raise NotImplementedError

    def _look_at_direct(self) -> None:
        """The outbox has come or gone: keep `direct_fd`, where the subclass has it, as it is said to be."""

    # --- what the edge does to it ---

    def close(self, code: int) -> None:
        """See `Held.close`: last words, and some seconds for the client to go."""
        if self._phase is not _OPEN:
            return
        # What a shard has ended is over at the others too, and the client comes back as a new connection.
        self._release(closed=code == CLOSE_EXPIRED)
        self._say_goodbye(self._last_words(code))

    def unsent(self) -> tuple[Mark, ...]:
        """See `Held.unsent`."""
        return () if self._outbox is None else tuple(self._outbox.marks())

    def oldest_unsent(self) -> tuple[Mark, ...]:
        """See `Held.oldest_unsent`."""
        return () if self._outbox is None else tuple(self._outbox.oldest_marks())

    def cut(self) -> None:
        """End it without a word."""
        self._release(closed=False)
        self._end()

    # --- writing ---

    def _deliver(self, ready: Sequence[Ready]) -> None:
        """Give these to an open client: together where that is a small thing to do, and each by itself where the client
        is behind or there is much, so that what may be skipped is."""
        keeps_up = self._outbox is None
        if keeps_up and (len(ready) == 1 or sum(map(self._size, ready)) <= JOINED_BYTES):
            self._write(self._encoded(ready), ready)
            return
        for place, one in enumerate(ready):
            if self._phase is _OPEN:
                self._deliver_one(one, ready[place:], keeps_up)

    def _deliver_one(self, one: Ready, left: Sequence[Ready], kept_up: bool) -> None:
        """`left`: this one and all behind it, which are unsent where the client is let go here. `kept_up`: nothing
        waited before these, and so nobody is too slow for them: a turn may bring much, a catch-up more."""
        outbox = self._outbox
        if outbox is None:
            self._write(self._encoded((one,)), (one,), left)
            return
        fate = outbox.fate(one, self._size(one))
        if fate is Fate.WAITS or (fate is Fate.TOO_MUCH and kept_up):
            outbox.add(self._encoded((one,)), (one.mark,))
        elif fate is Fate.SKIPPED:
            self._link.counters.count(SKIPPED, len(one.bodies))
        else:
            self._too_slow(left)

    def _write(self, data: bytes, ready: Sequence[Ready], left: Sequence[Ready] = ()) -> None:
        """PERF: the hot path of the server; for a client that keeps up it is one system call and two comparisons.
        `left`: what is unsent where the socket is broken, if that is more than `ready`."""
        if self._outbox is not None:
            if self._outbox.fits(len(data)):
                self._outbox.add(data, tuple(one.mark for one in ready))
            else:
                self._too_slow(ready)
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.lose(left or ready)
            return
        if sent != len(data):
            self.took_part(ready, data, sent)

    def took_part(self, ready: Sequence[Ready], frame: bytes, sent: int) -> None:
        """See `Held.took_part`: the rest waits."""
        self._half_sent = sent > 0
        self._outbox = Outbox(self._link.config.max_queue)
        self._outbox.add(memoryview(frame)[sent:], tuple(one.mark for one in ready))
        self._look_at_direct()
        self._writer = self._link.loop.io(self._sock.fileno(), WRITE)
        self._writer.start(self._on_writable)
        self._link.fell_behind(self)

    def _on_writable(self) -> None:
        outbox = self._outbox
        if outbox is None:
            return
        try:
            while outbox:
                first = outbox.first()
                sent = self._sock.send(first)
                outbox.sent(sent)
                self._half_sent = sent < len(first)
                self._tell_gaps(outbox)
        except BlockingIOError:
            return
        except OSError:
            self.cut()
            return
        self._drop_outbox()
        if self._phase is _ENDING:
            self._end()

    def _tell_gaps(self, outbox: Outbox) -> None:
        gaps = outbox.gaps()
        if gaps:
            self._link.counters.count(GAPS_TOLD, len(gaps))
            outbox.add(self._encoded(gaps), tuple(one.mark for one in gaps))

    def _drop_outbox(self) -> None:
        self._outbox = None
        self._half_sent = False
        self._look_at_direct()
        if self._writer is not None:
            self._link.caught_up(self)
            self._writer.stop()
            self._writer.close()
            self._writer = None

    def lose(self, ready: Sequence[Ready]) -> None:
        """See `Held.lose`: what was to be written is known not to have arrived."""
        self._release(closed=False, unsent=[one.mark for one in ready])
        self._end()

    def _too_slow(self, ready: Sequence[Ready]) -> None:
        self._link.counters.count(SLOW_CLOSED)
        self._release(closed=False, unsent=[one.mark for one in ready])
        self._say_goodbye(self._last_words(CLOSE_POLICY))

    def _say_goodbye(self, frame: bytes) -> None:
        """The last frame that this client gets. What waits before it is forgotten: its position is with the shards."""
        self._phase = _CLOSING
        if self._outbox is not None:
            self._outbox.cut(self._half_sent)
            if self._outbox:
                self._outbox.add(frame, ())
            else:
                self._drop_outbox()
        if self._outbox is None:
            self._write(frame, ())
        if self._phase is not _CLOSED:
            self._link.give_time_to_close(self)

    # --- reading ---

    def on_readable(self) -> None:
        """See `Readers`."""
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.feed(data)
        else:
            self.cut()

    # --- the end ---

    def _release(self, closed: bool, unsent: Sequence[Mark] = ()) -> None:
        self.direct_fd = -1
        self._link.release(self, closed, (*self.unsent(), *unsent))

    def _end(self) -> None:
        if self._phase is _CLOSED:
            return
        self._phase = _CLOSED
        self._drop_outbox()
        self._link.wheel.remove(self, self._slot)
        self._link.is_closed(self)
        self._link.readers.remove(self._sock.fileno())
        self._sock.close()
        self._server.released()
