"""A client held by a websocket: a descriptor, a watcher, and nothing else while it is idle.

The handshake is over when this begins. Writing is a plain non-blocking send of a ready frame; what does not fit waits
in an `Outbox` with a write watcher. Reading is rare and is left to the sans-I/O parser of `websockets`, which is made
when bytes come and dropped when they are used up.
"""

from __future__ import annotations

import _socket
import codecs
import enum
import socket as constants
from collections.abc import Callable, Sequence
from typing import Any, Final

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from channelstream.clock import monotonic
from channelstream.edge.core import Held
from channelstream.edge.frames import CLOSE_EXPIRED, CLOSE_NOT_TEXT, CLOSE_POLICY, CLOSE_TOO_BIG, PING, close_frame
from channelstream.edge.link import Link
from channelstream.edge.outbox import Mark, Outbox, Ready

RECEIVE_BYTES: Final = 65_536
"""One read. Clients send heartbeats of some bytes; more than this waits in the kernel for the next turn."""

MAX_FRAGMENTS: Final = 64
"""Frames of one message. What a client says is not looked at, so one that dribbles a message in thousands of frames
only wants our memory."""

READ: Final = 1
WRITE: Final = 2
"""libev's event bits."""


_Utf8Decoder: Final = codecs.getincrementaldecoder("utf-8")

DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def masked_size(payload: int) -> int:
    """Bytes of a client's frame (RFC 6455 section 5.2): two, the longer lengths, the mask, the payload."""
    return 6 + payload + (0 if payload < 126 else 2 if payload < 65_536 else 8)


class Phase(enum.Enum):
    """OPEN → CLOSING → ENDING → CLOSED, any of the next ones left out."""

    OPEN = "open"
    CLOSING = "closing"
    """Our close frame is out or on its way, theirs has not come. Nothing is delivered any more."""
    ENDING = "ending"
    """Both have said good-bye; what is left of ours goes out."""
    CLOSED = "closed"


class WebSocketClient(Held):
    """See the module."""

    __slots__ = (
        "_fragments",
        "_half_sent",
        "_link",
        "_on_closed",
        "_outbox",
        "_parser",
        "_phase",
        "_reader",
        "_slot",
        "_sock",
        "_text",
        "_unread",
        "_writer",
        "last_heard",
    )

    def __init__(
        self,
        conn_id: str,
        user: str,
        attachment: int,
        sock: _socket.socket,
        link: Link,
        on_closed: Callable[[], None],
    ) -> None:
        super().__init__(conn_id, user, attachment)
        self._sock: Final = sock
        self._link: Final = link
        self._on_closed: Final = on_closed
        """Told once, when the descriptor is closed."""
        self._phase = Phase.OPEN
        self._outbox: Outbox | None = None
        """What the client has not taken; None for one that keeps up."""
        self._half_sent = False
        """Whether the first frame of the outbox is under way."""
        self._parser: Protocol | None = None
        """Only between the first bytes of a message and its last."""
        self._unread = 0
        """Bytes that the parser was given and that were no whole frame yet."""
        self._fragments = 0
        """Frames of the message that is being read."""
        self._text: codecs.IncrementalDecoder | None = None
        """Only within a text of several frames: a character may begin in one and end in the next."""
        self.last_heard = monotonic()
        self._slot: Final = link.wheel.add(self)
        self._writer: Any = None
        self._reader: Final[Any] = link.loop.io(sock.fileno(), READ)
        self._reader.start(self._on_readable)

    # --- what the edge does to it ---

    def deliver(self, ready: Sequence[Ready]) -> None:
        """See `Held.deliver`."""
        if self._phase is Phase.OPEN:
            if len(ready) == 1:
                self._write(ready[0].frame, ready)
            else:
                self._write(b"".join([one.frame for one in ready]), ready)

    def close(self, code: int) -> None:
        """See `Held.close`: a close frame, and some seconds for the answer."""
        if self._phase is not Phase.OPEN:
            return
        # What a shard has ended is over at the others too, and the client comes back as a new connection.
        self._release(closed=code == CLOSE_EXPIRED)
        self._say_goodbye(close_frame(code))

    def unsent(self) -> tuple[Mark, ...]:
        """See `Held.unsent`."""
        return () if self._outbox is None else tuple(self._outbox.marks())

    def ping(self) -> None:
        """Ask for a sign of life. A client with a full queue needs none: it is not reading."""
        if self._phase is Phase.OPEN and self._outbox is None:
            self._write(PING, ())

    def cut(self) -> None:
        """End it without a word."""
        self._release(closed=False)
        self._end()

    # --- writing ---

    def _write(self, data: bytes, ready: Sequence[Ready]) -> None:
        """PERF: the hot path of the server; for a client that keeps up it is one system call and two comparisons."""
        if self._outbox is None:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lose(ready)
                return
            if sent == len(data):
                return
            self._half_sent = sent > 0
            self._queue(memoryview(data)[sent:], ready)
        elif self._outbox.fits(len(data)):
            self._outbox.add(data, tuple(one.mark for one in ready))
        else:
            self._too_slow(ready)

    def _queue(self, rest: memoryview, ready: Sequence[Ready]) -> None:
        self._outbox = Outbox(self._link.config.max_queue)
        self._outbox.add(rest, tuple(one.mark for one in ready))
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
        except BlockingIOError:
            return
        except OSError:
            self.cut()
            return
        self._drop_outbox()
        if self._phase is Phase.ENDING:
            self._end()

    def _drop_outbox(self) -> None:
        self._outbox = None
        self._half_sent = False
        if self._writer is not None:
            self._link.caught_up(self)
            self._writer.stop()
            self._writer.close()
            self._writer = None

    def _lose(self, ready: Sequence[Ready]) -> None:
        """The socket is broken: what was to be written is known not to have arrived."""
        self._release(closed=False, unsent=[one.mark for one in ready])
        self._end()

    def _too_slow(self, ready: Sequence[Ready]) -> None:
        self._release(closed=False, unsent=[one.mark for one in ready])
        self._say_goodbye(close_frame(CLOSE_POLICY))

    def _say_goodbye(self, frame: bytes) -> None:
        """The last frame that this client gets. What waits before it is forgotten: its position is with the shards."""
        self._phase = Phase.CLOSING
        if self._outbox is not None:
            self._outbox.cut(self._half_sent)
            if self._outbox:
                self._outbox.add(frame, ())
            else:
                self._drop_outbox()
        if self._outbox is None:
            self._write(frame, ())
        if self._phase is not Phase.CLOSED:
            self._link.give_time_to_close(self)

    # --- reading ---

    def _on_readable(self) -> None:
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

    def feed(self, data: bytes) -> None:
        """Bytes of the client: those that came behind its handshake, or that the socket has given."""
        self.last_heard = monotonic()
        parser = self._parser
        if parser is None:
            parser = self._parser = Protocol(Side.SERVER, state=State.OPEN, max_size=self._link.config.max_frame)
        self._unread += len(data)
        parser.receive_data(data)
        for event in parser.events_received():
            if isinstance(event, Frame):
                self._take(event)
        answers = b"".join(parser.data_to_send())
        if parser.close_rcvd is not None:
            self._take_close(answers)
        elif parser.parser_exc is not None:
            self._refuse(answers)
        elif answers and self._phase is Phase.OPEN:
            self._write(answers, ())
        if not self._unread and not self._fragments:
            self._parser = None

    def _take(self, frame: Frame) -> None:
        """One frame, of which nothing but its kind matters, and that a text is one."""
        self._unread -= masked_size(len(frame.data))
        if frame.opcode in DATA:
            self._fragments = 0 if frame.fin else self._fragments + 1
            if self._fragments > MAX_FRAGMENTS:
                self.close(CLOSE_TOO_BIG)
            elif not self._is_text(frame):
                self.close(CLOSE_NOT_TEXT)

    def _is_text(self, frame: Frame) -> bool:
        """Whether a frame goes on as its message has begun: UTF-8 in one of text (RFC 6455 section 8.1)."""
        if frame.opcode is Opcode.TEXT:
            self._text = _Utf8Decoder()
        if self._text is None:
            return True
        try:
            self._text.decode(frame.data, frame.fin)
        except UnicodeDecodeError:
            return False
        if frame.fin:
            self._text = None
        return True

    def _take_close(self, answer: bytes) -> None:
        """The client says good-bye, or answers ours."""
        if self._phase is Phase.OPEN:
            self._release(closed=True)
            self._say_goodbye(answer)
        if self._phase is Phase.CLOSING:
            # The server closes the connection first (RFC 6455 section 7.1.1).
            if self._outbox is None:
                self._end()
            else:
                self._phase = Phase.ENDING

    def _refuse(self, last_words: bytes) -> None:
        """The client broke the protocol; the parser has said how in a close frame, and takes no more."""
        if self._phase is Phase.OPEN:
            self._release(closed=False)
            self._say_goodbye(last_words)
        if self._phase is Phase.CLOSING and self._outbox is None:
            self._end_sending()

    def _end_sending(self) -> None:
        """The parser takes no more, so an answer to our close frame would not be seen: the end of the client's sending
        is waited for instead. Closing at once could reset the connection and lose our last words."""
        try:
            self._sock.shutdown(constants.SHUT_WR)
        except OSError:
            self._end()

    # --- the end ---

    def _release(self, closed: bool, unsent: Sequence[Mark] = ()) -> None:
        self._link.release(self, closed, (*self.unsent(), *unsent))

    def _end(self) -> None:
        if self._phase is Phase.CLOSED:
            return
        self._phase = Phase.CLOSED
        self._drop_outbox()
        self._parser = None
        self._link.wheel.remove(self, self._slot)
        self._link.is_closed(self)
        self._reader.stop()
        self._reader.close()
        self._sock.close()
        self._on_closed()
