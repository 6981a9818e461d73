"""A client held by a websocket, whose handshake is over when this begins.

What is written is a ready frame. Reading is rare and is left to the sans-I/O parser of `websockets`, which is made when
bytes come and dropped when they are used up.
"""

from __future__ import annotations

import _socket
import codecs
import socket as constants
from collections.abc import Sequence
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from channelstream.clock import monotonic
from channelstream.edge.deflate import Inflater
from channelstream.edge.frames import CLOSE_GOING_AWAY, CLOSE_NOT_TEXT, CLOSE_TOO_BIG, PING, close_frame, masked_size
from channelstream.edge.link import Link
from channelstream.edge.outbox import Ready, joined
from channelstream.edge.stream import Counting, Phase, StreamClient

MAX_FRAGMENTS: Final = 64
"""Frames of one message. What a client says is not looked at, so one that dribbles a message in thousands of frames
only wants our memory."""

_Utf8Decoder: Final = codecs.getincrementaldecoder("utf-8")

PONG: Final = 0x8A
"""The first byte of a pong: the last frame of its message, without an extension."""

DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def is_pong(data: bytes) -> bool:
    """Whether this is one whole pong of a client, well-formed, and nothing else (RFC 6455 section 5.5.3)."""
    return data[0] == PONG and len(data) > 1 and 0x80 <= data[1] <= 0xFD and len(data) == masked_size(data[1] & 0x7F)


class WebSocketClient(StreamClient):
    """See the module."""

    __slots__ = ("_fragments", "_parser", "_text", "_unread")

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
        self.direct_fd = sock.fileno()
        self._parser: Protocol | None = None
        """Only between the first bytes of a message and its last."""
        self._unread = 0
        """Bytes that the parser was given and that were no whole frame yet."""
        self._fragments = 0
        """Frames of the message that is being read."""
        self._text: codecs.IncrementalDecoder | None = None
        """Only within a text of several frames: a character may begin in one and end in the next."""

    # --- what the edge does to it ---

    def deliver(self, ready: Sequence[Ready]) -> None:
        """See `Held.deliver`."""
        if self._phase is Phase.OPEN:
            self._deliver(ready)

    def _look_at_direct(self) -> None:
        """See `StreamClient`."""
        self.direct_fd = self._sock.fileno() if self._phase is Phase.OPEN and self._outbox is None else -1

    def _encoded(self, ready: Sequence[Ready]) -> bytes:
        """See `StreamClient`."""
        return joined(ready, self.deflates)

    def _size(self, one: Ready) -> int:
        """See `StreamClient`."""
        return len(one.on_wire(self.deflates))

    def ping(self) -> None:
        """Ask for a sign of life. A client with a full queue needs none: it is not reading."""
        if self._phase is Phase.OPEN and self._outbox is None:
            self._write(PING, ())

    def _last_words(self, code: int) -> bytes:
        """See `StreamClient`."""
        if code == CLOSE_GOING_AWAY:
            return close_frame(code, f": retry in {self._link.retry_ms(self.conn_id)} ms with the same conn_id")
        return close_frame(code)

    # --- reading ---

    def feed(self, data: bytes) -> None:
        """See `StreamClient.feed`."""
        self.last_heard = monotonic()
        parser = self._parser
        if parser is None:
            if is_pong(data):  # PERF: all that an idle client says, and to make the parser costs ten times as much
                return
            parser = self._parser = self._new_parser()
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

    def _new_parser(self) -> Protocol:
        return Protocol(Side.SERVER, state=State.OPEN, max_size=self._link.config.max_frame)

    def _wire_bytes(self, frame: Frame) -> int:
        """How many bytes a frame was, as it came."""
        return masked_size(len(frame.data))

    def _take(self, frame: Frame) -> None:
        """One frame, of which nothing but its kind matters, and that a text is one."""
        self._unread -= self._wire_bytes(frame)
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

    def _end(self) -> None:
        self._parser = None
        super()._end()


class DeflatingClient(WebSocketClient):
    """One that has agreed to compression, and may compress what it sends."""

    __slots__ = ("_inflater",)

    deflates = True

    def _new_parser(self) -> Protocol:
        parser = super()._new_parser()
        self._inflater = Inflater()
        parser.extensions = [self._inflater]
        return parser

    def _wire_bytes(self, frame: Frame) -> int:
        """See `WebSocketClient`: of all frames that were read together, with the first of them."""
        wire_bytes, self._inflater.wire_bytes = self._inflater.wire_bytes, 0
        return wire_bytes
