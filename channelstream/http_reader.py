"""Bytes from a socket in, whole requests out: the strict and bounded reading of HTTP/1.0 and HTTP/1.1.

What lives here: the limits, the grammar that a request must keep, the phases a connection is in and how long each may
take. It must not know sockets, gevent or the time: the shell around it (`serving.py`) feeds it and holds the clock.

Two readers look at a head and both must be content: the patterns below, which allow exactly what RFC 9112 lets a
client generate, and llhttp (through `httptools`). Where the RFC leaves a recipient the choice between repairing and
refusing, this module refuses: a proxy in front may have made another choice, and the difference is request smuggling.

PERF: the two of them together take ten times as long as the rest of a request's reading. So a head that is plain, as
nearly all are, has one meaning only and is read in C (`_heads.c`, which says what plain is and why it needs no second
opinion); where that could not be built, the two readers look at all of them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

import httptools

from .errors import MalformedRequest

MAX_REQUEST_LINE: Final = 8192
"""Bytes without the line end. The least that RFC 9112 section 3 recommends to support is 8000; a JSONP poll fits."""

MAX_HEADER_BYTES: Final = 16384
"""Bytes of all header lines and the empty one after them. Cookies of a busy domain fit; more is an attack on the
parsers behind (some cookie parsers take time quadratic in the length)."""

MAX_HEADERS: Final = 64
"""Header lines. A browser behind two proxies sends about 30."""

MAX_CHUNK_LINE: Final = 128
"""Bytes of a chunk's size and extensions. A size is 8 digits at most; nobody is known to use extensions."""

HEADS_REMEMBERED: Final = 256
"""Heads that a process knows by heart, since callers on a connection that is kept open repeat theirs: one for each of
them and each length of a body, until they sign anew. No more than 2 MB with what they mean."""

MAX_REMEMBERED_HEAD: Final = 1024
"""Bytes of such a head. That of a backend has some 300."""

MAX_TRAILER_BYTES: Final = 4096
"""Bytes of all trailer lines. They are read to be thrown away, so they get less room than headers."""

ALLOWED_METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
"""What a client may try instead of CONNECT, which has no path (RFC 9110 section 15.5.6 asks for it)."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIELD_LINE = _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n"

# PERF: possessive quantifiers: every pattern here reads its input once, whatever the input is.
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"{1,32}+) ([\x21\x22\x24-\x7e]++) (HTTP/1\.[01])")
_ANY_VERSION = re.compile(rb"[^ ]++ [^ ]++ HTTP/[0-9]++(?:\.[0-9]++)?+")
_FIELD_LINES = re.compile(rb"(?:" + _FIELD_LINE + rb")*+\r\n")
_TRAILER_LINE = re.compile(_FIELD_LINE)
_BAD_BYTE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\r\n(?=[ \t])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ABSOLUTE_FORM = re.compile(
    r"(?i:https?)://([A-Za-z0-9.\-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?)(/.*|\?.*|)"
)
_HOST = re.compile(r"(?:[A-Za-z0-9._\-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(r"[0-9]{1,10}", re.ASCII)
_CHUNK_EXTENSION = rb"(?:;[\t\x20-\x7e\x80-\xff]*+)?+"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8}+)" + _CHUNK_EXTENSION)
_CHUNK_LINE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,8}+" + _CHUNK_EXTENSION + rb")?+\r?+")

_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"})
"""Headers of which there is one at most. Two of them are two opinions about where the request ends or who it is for."""


class Phase(Enum):
    """What a connection is doing, as far as its deadline is concerned."""

    FRESH = "no byte has come yet"
    IDLE = "between two requests"
    HEADERS = "in a request's head"
    BODY = "in a request's body"
    REFUSED = "a malformed request has been seen: nothing more is read"


# PERF: in Python 3.11 each look at a member through its class is a call, and a request takes half a dozen.
_FRESH, _IDLE, _HEADERS, _BODY, _REFUSED = Phase


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a client may take for what, in seconds. Each counts from the beginning of its phase."""

    fresh_s: float = 15.0
    """From the accept to the first byte."""

    idle_s: float = 15.0
    """From an answer to the next request's first byte."""

    headers_s: float = 10.0
    """From a request's first byte to the end of its head."""

    body_s: float = 10.0
    """From the end of the head to the end of the body, if no byte of it came."""

    body_rate_bytes_s: float = 65536.0
    """Each second's worth of bytes that came gives a body a second more: the least rate of a long upload."""

    write_s: float = 30.0
    """For the kernel to take a whole answer: the client has to read it."""

    linger_s: float = 2.0
    """For a refused client to read its answer and close."""

    def allowed_s(self, phase: Phase, body_bytes: int = 0) -> float:
        """Seconds from the beginning of `phase` to its end, given the bytes of the body that have come."""
        if phase is _BODY:
            return self.body_s + body_bytes / self.body_rate_bytes_s
        if phase is _HEADERS:
            return self.headers_s
        return self.fresh_s if phase is _FRESH else self.idle_s


@dataclass(slots=True)
class Request:
    """One whole request."""

    method: str

    path: str
    """Percent-decoded, bytes as latin-1 (PEP 3333), always beginning with `/`, or `*`."""

    query: str
    """What follows the first `?`, not decoded."""

    version: str
    """`HTTP/1.0` or `HTTP/1.1`."""

    headers: dict[str, str]
    """By their WSGI name: `HTTP_HOST`, `CONTENT_TYPE`. Repeated ones are joined. Not to be changed."""

    keep_alive: bool
    """Whether the client is ready for another request on this connection."""

    body: bytes = b""
    """Without its transfer coding. Set last, when all of it is here."""


_Meaning: TypeAlias = tuple[str, str, str, str, dict[str, str], bool]
"""What a head means: all of a `Request` but its body. Not to be changed: other requests have the same."""


class _Line(NamedTuple):
    """A request line that fits the grammar."""

    method: str
    target: str
    version: str


class RequestReader:
    """Reads the requests of one connection.

    `max_body`: bytes a body may have. Call `feed` with what the socket gave until it returns a request, and with `b""`
    after each request, since the next one may already be here. `phase` and `body_bytes` say which deadline applies.
    """

    __slots__ = (
        "_blank_skipped",
        "_buffer",
        "_chunked",
        "_head",
        "_length",
        "_line",
        "_line_end",
        "_owes_continue",
        "_phase_at_rest",
        "_refused",
        "_searched",
        "max_body",
    )

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        # What has come and is not used up; grows by at most what one `feed` brings over the limits.
        self._buffer = bytearray()
        # FRESH until the first request is complete, IDLE after.
        self._phase_at_rest = _FRESH
        # Whether `feed` has raised.
        self._refused = False
        # Whether there is an expectation that nobody has answered yet.
        self._owes_continue = False
        self._begin()

    def _begin(self) -> None:
        """Forget the last request; the buffer stays."""
        # The request line once it is whole, and where in the buffer it ends.
        self._line: _Line | None = None
        self._line_end = 0
        # The request once its head is whole and out of the buffer, and the bytes of its body; -1: chunked.
        self._head: Request | None = None
        self._length = 0
        # The decoder of a chunked body.
        self._chunked: _ChunkedBody | None = None
        # Up to where the buffer has been searched for bytes that end or spoil the head.
        self._searched = 0
        # Whether the one empty line that may precede a request has gone by.
        self._blank_skipped = False

    @property
    def phase(self) -> Phase:
        """Which deadline applies now."""
        if self._refused:
            return _REFUSED
        if self._head is not None:
            return _BODY
        return _HEADERS if self._buffer else self._phase_at_rest

    @property
    def body_bytes(self) -> int:
        """Bytes of the current body that have come, without chunk framing: padding buys no time."""
        if self._chunked is not None:
            return len(self._chunked.body)
        return len(self._buffer) if self._head is not None else 0

    @property
    def request_id(self) -> str | None:
        """The X-Request-Id of the request whose body is being read, or was refused."""
        return self._head.headers.get("HTTP_X_REQUEST_ID") if self._head is not None else None

    def feed(self, data: bytes) -> Request | None:
        """Take `data`; give the next whole request, or None if it is not all there yet.

        Raises `MalformedRequest`; the connection is then good for nothing but the error's answer.
        """
        if self._refused:
            raise MalformedRequest("an earlier request on this connection was malformed")
        if not data and not self._buffer:
            return None
        try:
            self._add(data)
            return self._next_request()
        except MalformedRequest:
            self._refused = True
            self._buffer.clear()
            raise

    def take_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body. True once per request."""
        owed = self._owes_continue and self.phase is _BODY and self.body_bytes == 0
        self._owes_continue = False
        return owed

    def leftover(self) -> bytes:
        """What came behind the last request, handed out for good: for a connection that leaves HTTP."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _add(self, data: bytes) -> None:
        """Put `data` into the buffer, but for a head that begins there and that `_take_sound` takes."""
        if self._head is None and self._line is None:
            if self._buffer:
                self._buffer += data
                del self._buffer[: self._take_sound(self._buffer)]
                return
            # PERF: most requests come alone and all at once, and need no buffer.
            data = data[self._take_sound(data) :]
        self._buffer += data

    def _next_request(self) -> Request | None:
        if self._head is None and not self._read_head():
            return None
        request = self._head
        assert request is not None
        if self._length != 0 and not self._read_body(request):
            return None
        self._phase_at_rest = _IDLE
        self._owes_continue = False
        self._begin()
        return request

    def _read_head(self) -> bool:
        """Move the head from the buffer to `_head`. False: not all there."""
        if not self._skip_blank_line() or not self._read_line():
            return False
        assert self._line is not None
        buffer, start = self._buffer, self._line_end
        full = start + 2 + MAX_HEADER_BYTES
        end = buffer.find(b"\r\n\r\n", max(start, self._searched - 3), full)
        if end < 0:
            self._refuse_bad_bytes(max(start, self._searched - 3), full)
            if len(buffer) >= full:
                raise MalformedRequest(f"header block over {MAX_HEADER_BYTES} bytes", 431)
            self._searched = len(buffer)
            return False
        raw = bytes(buffer[: end + 4])
        if _FIELD_LINES.fullmatch(raw, start + 2) is None:
            self._refuse_bad_bytes(start, end + 4)
            raise MalformedRequest("malformed header line: expected a token, a colon and a value")
        del buffer[: end + 4]
        self._accept_head(_parse_head(self._line, raw, start + 2))
        return True

    def _take_sound(self, source: bytes | bytearray) -> int:
        """Read the head that `source` begins with into `_head`, if it is all there and sound; give where it ends, or 0.
        Those that come again cost next to nothing."""
        # What ends within the bytes that a request line may have breaks no limit of any part.
        end = source.find(b"\r\n\r\n", 0, MAX_REQUEST_LINE) + 4
        if end < 4:
            return 0
        # The first request of a connection may well be the only one, as a websocket's is: it would push out another's.
        comes_again = self._phase_at_rest is _IDLE and end <= MAX_REMEMBERED_HEAD
        meaning = (_remembered_head if comes_again else _sound_head)(bytes(source[:end]))
        if meaning is None:
            return 0
        self._accept_head(meaning)
        return end

    def _accept_head(self, meaning: _Meaning) -> None:
        self._head = head = Request(*meaning)
        self._length = length = _body_length(head)
        if length == 0:
            return
        if length > self.max_body:
            raise _too_large(self.max_body)
        self._owes_continue = _expects_continue(head)
        if length < 0:
            self._chunked = _ChunkedBody(self.max_body)

    def _skip_blank_line(self) -> bool:
        """Skip the empty line that some clients send behind a body (RFC 9112 section 2.2); one, so that it is bounded.
        False: nothing else has come."""
        buffer = self._buffer
        if self._line is None and not self._blank_skipped and buffer.startswith(b"\r"):
            if len(buffer) == 1:
                return False
            if buffer[1] == 0x0A:
                del buffer[:2]
                self._blank_skipped = True
        return bool(buffer)

    def _read_line(self) -> bool:
        """Move the request line from the buffer to `_line`, without taking it out. False: not all there."""
        if self._line is not None:
            return True
        buffer = self._buffer
        full = MAX_REQUEST_LINE + 2
        end = buffer.find(b"\r\n", max(0, self._searched - 1), full)
        if end < 0:
            self._refuse_bad_bytes(max(0, self._searched - 3), full)
            if len(buffer) >= full:
                raise MalformedRequest(f"request line over {MAX_REQUEST_LINE} bytes", 414)
            self._searched = len(buffer)
            return False
        line = _parse_line(buffer, end)
        if line is None:
            self._refuse_bad_bytes(0, end + 2)
            raise _wrong_line(bytes(buffer[:end]))
        self._line = line
        self._line_end = self._searched = end
        return True

    def _refuse_bad_bytes(self, start: int, end: int) -> None:
        """Refuse what no later byte can repair, as soon as it is there, instead of waiting for the end of the head."""
        bad = _BAD_BYTE.search(self._buffer, start, min(end, len(self._buffer)))
        if bad is None:
            return
        seen = bytes(bad[0])
        if seen in (b"\n", b"\r"):
            raise MalformedRequest("a line must end with CR LF, not with one of them")
        if seen == b"\r\n":
            raise MalformedRequest("folded header lines are not accepted")
        raise MalformedRequest(f"control character {seen[0]:#04x} in the head")

    def _read_body(self, request: Request) -> bool:
        """Move the body from the buffer to the request. False: not all there."""
        length = self._length
        if self._chunked is not None:
            return self._read_chunked(self._chunked, request)
        if len(self._buffer) < length:
            return False
        request.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return True

    def _read_chunked(self, chunked: _ChunkedBody, request: Request) -> bool:
        if not chunked.take(self._buffer):
            return False
        request.body = bytes(chunked.body)
        # An application is told the length of what it gets: the transfer coding ended here.
        headers = {name: value for name, value in request.headers.items() if name != "HTTP_TRANSFER_ENCODING"}
        request.headers = {**headers, "CONTENT_LENGTH": str(len(request.body))}
        return True


class _ChunkedBody:
    """Takes the chunks of one body off a buffer (RFC 9112 section 7.1); extensions and trailers are dropped."""

    __slots__ = ("_left", "_max_body", "_step", "_trailer_bytes", "body")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        # The decoded bytes so far.
        self.body = bytearray()
        # Which of the four parsing methods goes on: their names follow the grammar.
        self._step = "size"
        # Bytes of the current chunk that have not come.
        self._left = 0
        # Bytes of trailer lines so far.
        self._trailer_bytes = 0

    def take(self, buffer: bytearray) -> bool:
        """Use up what it can of `buffer`; True once the last chunk and the trailers are through. Raises
        `MalformedRequest`."""
        position = 0
        while self._step != "done":
            after = self._take_part(buffer, position)
            if after < 0:
                break
            position = after
        del buffer[:position]
        return self._step == "done"

    def _take_part(self, buffer: bytearray, at: int) -> int:
        """Where the part at `at` ends, or -1 if it is not all there."""
        if self._step == "size":
            return self._take_size(buffer, at)
        if self._step == "data":
            return self._take_data(buffer, at)
        if self._step == "data end":
            return self._take_data_end(buffer, at)
        return self._take_trailer(buffer, at)

    def _take_size(self, buffer: bytearray, at: int) -> int:
        full = at + MAX_CHUNK_LINE + 2
        end = buffer.find(b"\r\n", at, full)
        if end < 0:
            begun = _CHUNK_LINE_BEGUN.fullmatch(buffer, at, min(full, len(buffer)))
            if begun is None or len(buffer) >= full:
                raise MalformedRequest("malformed chunk size")
            return -1
        match = _CHUNK_LINE.fullmatch(buffer, at, end)
        if match is None:
            raise MalformedRequest("malformed chunk size")
        self._left = int(match[1], 16)
        if len(self.body) + self._left > self._max_body:
            raise _too_large(self._max_body)
        self._step = "data" if self._left else "trailer"
        return end + 2

    def _take_data(self, buffer: bytearray, at: int) -> int:
        if at == len(buffer):
            return -1
        end = min(at + self._left, len(buffer))
        self.body += memoryview(buffer)[at:end]
        self._left -= end - at
        if self._left == 0:
            self._step = "data end"
        return end

    def _take_data_end(self, buffer: bytearray, at: int) -> int:
        seen = buffer[at : at + 2]
        if not b"\r\n".startswith(seen):
            raise MalformedRequest("a chunk is longer than its size says")
        if len(seen) < 2:
            return -1
        self._step = "size"
        return at + 2

    def _take_trailer(self, buffer: bytearray, at: int) -> int:
        full = at + MAX_TRAILER_BYTES - self._trailer_bytes
        end = buffer.find(b"\r\n", at, full)
        if end < 0:
            if _BAD_BYTE.search(buffer, at, min(full, len(buffer))):
                raise MalformedRequest("malformed trailer line")
            if len(buffer) >= full:
                raise MalformedRequest(f"trailers over {MAX_TRAILER_BYTES} bytes", 431)
            return -1
        if end == at:
            self._step = "done"
        elif _TRAILER_LINE.fullmatch(buffer, at, end + 2) is None:
            raise MalformedRequest("malformed trailer line")
        self._trailer_bytes += end + 2 - at
        return end + 2


_DROPPED: Final = ""


def environ_key(name: str) -> str:
    """The WSGI name of a header, or `_DROPPED`.

    Names with `_` are dropped, since `X_Real_IP` would pass for `X-Real-IP`; and `Proxy`, since `HTTP_PROXY` is
    something else to programs that copy their environment (CVE-2016-5385).
    """
    if "_" in name:
        return _DROPPED
    text = name.upper().replace("-", "_")
    if text in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return text
    return _DROPPED if text == "PROXY" else "HTTP_" + text


_COMMON_NAMES = (
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection",
    "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "If-None-Match", "Last-Event-ID", "Origin",
    "Pragma", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Transfer-Encoding", "Upgrade",
    "User-Agent", "X-Channelstream-Endpoint", "X-Channelstream-Secret", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-Proto", "X-Real-IP", "X-Request-Id",
)  # fmt: skip

# PERF: the names that clients really send, as they are usually spelled and in lower case. The table is fixed and not
# filled as names come, so that no client can grow it.
_KEYS: Final = {spelled: environ_key(name) for name in _COMMON_NAMES for spelled in (name, name.lower())}


def _too_large(max_body: int) -> MalformedRequest:
    return MalformedRequest(f"body over {max_body} bytes", 413)


def _parse_line(buffer: bytes | bytearray, end: int) -> _Line | None:
    """The request line that ends there; None where it does not fit the grammar."""
    match = _REQUEST_LINE.fullmatch(buffer, 0, end)
    return None if match is None else _Line(*(part.decode("ascii") for part in match.groups()))


try:
    from ._heads import plain_head
except ImportError:

    def plain_head(raw: bytes, /) -> _Meaning | None:
        """What a whole head means, read in C; None where it is not plain. Here: never."""
        return None


def _sound_head(raw: bytes) -> _Meaning | None:
    """What a whole head means; None where anything is wrong with it, which is for others to tell."""
    return plain_head(raw) or _sound_head_in_python(raw)


def _sound_head_in_python(raw: bytes) -> _Meaning | None:
    end = raw.find(b"\r\n")
    line = _parse_line(raw, end)
    if line is None or _FIELD_LINES.fullmatch(raw, end + 2) is None:
        return None
    try:
        return _parse_head(line, raw, end + 2)
    except MalformedRequest:
        return None


_remembered_head: Final = lru_cache(HEADS_REMEMBERED)(_sound_head)


def _wrong_line(line: bytes) -> MalformedRequest:
    """Which error a request line is that does not fit the grammar."""
    if _ANY_VERSION.fullmatch(line) and not line.endswith((b" HTTP/1.0", b" HTTP/1.1")):
        return MalformedRequest("HTTP version other than 1.0 and 1.1")
    return MalformedRequest("malformed request line: expected a method, a target and a version")


def _parse_head(line: _Line, raw: bytes, start: int) -> _Meaning:
    """The meaning of a head that fits the grammar. `raw`: all of it; `start`: where the header lines begin."""
    if line.method == "CONNECT":
        raise MalformedRequest("method not known here", 405, (("Allow", ALLOWED_METHODS),))
    _check_with_llhttp(line, raw)
    headers = _parse_headers(raw[start:-4].decode("latin-1"))
    target = line.target if line.target[0] == "/" else _reduce_target(line, headers)
    path, _, query = target.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    _check_host(line, headers)
    _check_expectation(headers)
    return line.method, path, query, line.version, headers, _wants_keep_alive(line.version, headers)


class _NoCallbacks:
    """What llhttp calls for what it found: nothing. PERF: handing over each header costs as much as all the rest."""

    __slots__ = ()


_NO_CALLBACKS: Final = _NoCallbacks()


def _check_with_llhttp(line: _Line, raw: bytes) -> None:
    """The second opinion on a head; it also knows which coding and length go together.

    Of the methods it only knows a list. Any token is one (RFC 9110 section 9.1), and only the application can say what
    the path has instead; so llhttp is shown POST, whose rules are those of every method but CONNECT.
    """
    raw = b"POST" + raw[len(line.method) :]
    # An offered upgrade shows as an exception. Whether it is taken is for the application; the body of such a request
    # is read like any other's (RFC 9110 section 7.8).
    try:
        with suppress(httptools.HttpParserUpgrade):
            httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(raw)
    except httptools.HttpParserError as error:
        raise MalformedRequest(f"malformed request: {error}") from error


def _parse_headers(text: str) -> dict[str, str]:
    """Header lines that fit the grammar, by their WSGI names."""
    headers: dict[str, str] = {}
    if not text:
        return headers
    lines = text.split("\r\n")
    if len(lines) > MAX_HEADERS:
        raise MalformedRequest(f"more than {MAX_HEADERS} headers", 431)
    for line in lines:
        name, _, value = line.partition(":")
        key = _KEYS.get(name)
        if key is None:
            key = environ_key(name)
        value = value.strip(" \t")
        if key not in headers:
            headers[key] = value
        elif key in _SINGLE:
            raise MalformedRequest(f"more than one {name} header")
        elif key:
            headers[key] += ("; " if key == "HTTP_COOKIE" else ", ") + value
    headers.pop(_DROPPED, None)
    return headers


def _reduce_target(line: _Line, headers: dict[str, str]) -> str:
    """The path and query of a target that does not begin with `/` (RFC 9112 section 3.2)."""
    if line.target == "*" and line.method == "OPTIONS":
        return "*"
    absolute = _ABSOLUTE_FORM.fullmatch(line.target)
    if absolute is None:
        raise MalformedRequest("malformed request target: expected a path")
    if line.version == "HTTP/1.0" or "HTTP_HOST" in headers:
        # The target's authority wins over the Host header (section 3.2.2).
        headers["HTTP_HOST"] = absolute[1]
    rest = absolute[2]
    return rest if rest.startswith("/") else "/" + rest


def _check_host(line: _Line, headers: dict[str, str]) -> None:
    host = headers.get("HTTP_HOST")
    if host is None:
        if line.version == "HTTP/1.1":
            raise MalformedRequest("no Host header")
    elif _HOST.fullmatch(host) is None:
        raise MalformedRequest("malformed Host header")


def _body_length(head: Request) -> int:
    """Bytes of the body, -1 for a chunked one: this alone decides where a request ends (RFC 9112 section 6.3)."""
    coding = head.headers.get("HTTP_TRANSFER_ENCODING")
    length = head.headers.get("CONTENT_LENGTH")
    if coding is not None:
        if length is not None:
            raise MalformedRequest("both Content-Length and Transfer-Encoding")
        if head.version == "HTTP/1.0":
            raise MalformedRequest("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != "chunked":
            raise MalformedRequest("Transfer-Encoding other than chunked")
        return -1
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise MalformedRequest("malformed Content-Length: expected 1 to 10 digits")
    return int(length)


def _check_expectation(headers: dict[str, str]) -> None:
    expected = headers.get("HTTP_EXPECT")
    if expected is not None and expected.lower() != "100-continue":
        raise MalformedRequest("expectation other than 100-continue", 417)


def _expects_continue(head: Request) -> bool:
    """HTTP/1.0 knows no interim answers (RFC 9110 section 10.1.1)."""
    return "HTTP_EXPECT" in head.headers and head.version == "HTTP/1.1"


def _wants_keep_alive(version: str, headers: dict[str, str]) -> bool:
    """Whether the connection persists (RFC 9112 section 9.3)."""
    connection = headers.get("HTTP_CONNECTION")
    if connection is None:
        return version == "HTTP/1.1"
    if connection == "keep-alive":
        return True
    options = {option.strip(" \t") for option in connection.lower().split(",")}
    if "close" in options:
        return False
    return version == "HTTP/1.1" or "keep-alive" in options
