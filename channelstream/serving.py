"""The HTTP server under router and edge: gevent's `WSGIServer` with its weak parts replaced.

gevent's own documentation says that pywsgi is not for hostile input. Here the turns of its accepting are kept; the
sockets, the reading of requests (`http_reader.py`), the deadlines and the writing of answers are ours. A websocket's
handshake is answered as gevent-websocket does; then the socket leaves this module (`Handler.accept_websocket`).

It must not know what is served. Nothing is monkey-patched and nothing needs to be.
"""

from __future__ import annotations

import _socket
import binascii
import json
import logging
import resource
import socket as constants
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from io import BytesIO
from math import inf
from typing import Any, Final, NamedTuple

import gevent
from gevent import socket as gevent_socket
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

from .clock import Clock, monotonic, real_clock
from .counters import BODIES_REFUSED, FULL, REQUESTS_REFUSED, Counters
from .errors import ClientGone, MalformedRequest, TooManyBodies
from .http_reader import Deadlines, Phase, Request, RequestReader
from .ids import request_id_of
from .script_name import mounted
from .workers import Workers

try:
    # PERF: that of `hashlib` is OpenSSL's, whose code is used for nothing else here and so never at hand: for a digest
    # now and then it takes several times as long.
    from _sha1 import sha1  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from hashlib import sha1

Environ = dict[str, Any]
Headers = Sequence[tuple[str, str]]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

Quick = Callable[[Request, str], "tuple[bytes, bytes] | None"]
"""Answers a request with 200 where it can, given the client's address: header lines, each with its end, and the body.
None leaves it to the application. So does an exception, which the application finds in its environ as `REFUSED`."""

REFUSED: Final = "channelstream.refused"
"""Where an environ has what went wrong with a request before the application was run."""

Opening = Callable[[Request, "Handler"], bool]
"""Takes a request that offers an upgrade, without waiting for anything. True: `Handler.accept_websocket` or
`Handler.go_on` is called sooner or later, by whoever has taken it. False leaves it to the application; so does an
exception, as that of a `Quick`."""

RECEIVE_BYTES: Final = 65536
"""Asked of the kernel at once. More would be freed and allocated again for each short request."""

MAX_LINGER_BYTES: Final = 1 << 20
"""Read and thrown away from a refused client, so that its answer is not lost to a reset; then it is its own fault."""

FILES_KEPT_BACK: Final = 256
"""Descriptors that are not for clients: sockets between processes, stores, logs, listeners, and a reserve."""

ACCEPTED_AT_ONCE: Final = 50
"""Connections that are accepted in one go, and the requests of most read: some five milliseconds. The others come right
after, when the loop has looked at all else."""

MIN_CONNECTIONS: Final = 64
"""Even where the limit on descriptors is absurdly low."""

MAX_BODIES_BYTES: Final = 128 * 1024 * 1024
"""Bodies of requests that are being read or worked on at the same time, in one process: thirty of the largest. While it
is worked on, a body takes a few times its size."""

SMALL_BODY_BYTES: Final = 65536
"""A body of this size is taken even so: what large ones take must not keep small calls out. Connections bound them."""

QUIET_S: Final = 1.0
"""While a server drains: when no request has come for so long, connections that only wait are closed. A caller that is
just then sending on one sees it end without an answer, so the time is long beside what a request needs to arrive."""

READ: Final = 1
WRITE: Final = 2
"""libev's event bits."""

LATE_S: Final = 0.01
"""Who waits for too long is told so much later at most: those whose moments are near are told together."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# PERF: in Python 3.11 each look at a member through its class is a call.
_FRESH, _IDLE, _HEADERS, _BODY, _ = Phase

_OF_THE_SERVER = frozenset({"connection", "content-length", "transfer-encoding", "date"})
"""Headers of an answer that the server sees to, whatever the application says of them."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a websocket's server knows (RFC 6455 section 1.3)."""

_UPGRADE: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)

_BODILESS = frozenset({"204", "304"})
"""Answers without a body and, here, without a Content-Length (RFC 9110 section 8.6)."""

logger = logging.getLogger("channelstream.serving")


class Answer(NamedTuple):
    """An answer as it goes to the socket."""

    data: bytes
    """Status line, headers and body."""

    keep_alive: bool
    """Whether the connection may carry another request after it."""


def _request_id(given: str | None) -> str:
    """The caller's, where it is one that we repeat; else ours."""
    return request_id_of(given) or str(uuid.uuid4())


class HttpDate:
    """The Date header, formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        # The second that `_text` is for.
        self._second = -1
        self._text = ""

    def at(self, wall: float) -> str:
        """RFC 9110 section 5.6.7 of a moment in seconds since the epoch."""
        second = int(wall)
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text


def default_max_connections(soft_limit: int) -> int:
    """How many connections fit under a soft limit on descriptors (`RLIMIT_NOFILE`)."""
    if soft_limit == resource.RLIM_INFINITY:
        soft_limit = 1 << 20
    return max(MIN_CONNECTIONS, soft_limit - FILES_KEPT_BACK)


def listen(host: str, port: int, backlog: int = 4096, reuse_port: bool = True) -> gevent_socket.socket:
    """A listening gevent socket; IPv6 where `host` has a colon. With `reuse_port` several processes share the port.

    `backlog`: connections that wait while the process is busy; the kernel cuts it to `net.core.somaxconn`.
    Raises `OSError`.
    """
    family = constants.AF_INET6 if ":" in host else constants.AF_INET
    listener = gevent_socket.socket(family, constants.SOCK_STREAM)
    try:
        listener.setsockopt(constants.SOL_SOCKET, constants.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(constants.SOL_SOCKET, constants.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def compose_answer(
    request: Request, status: str, headers: Headers, body: bytes, date: str, may_keep_alive: bool
) -> Answer:
    """The bytes that answer `request`.

    `Content-Length`, `Date` and `Connection` are added as needed; an answer to HEAD has no body. Raises `ValueError`
    where the application's answer would break HTTP: a line end in a header, a wrong Content-Length, no proper status.
    """
    code = status[:3]
    if not (code.isdecimal() and "200" <= code <= "599"):
        raise ValueError(f"status {status!r} from the application: expected 200 to 599")
    keep_alive = may_keep_alive and request.keep_alive
    bodiless = code in _BODILESS
    lines = [f"HTTP/1.1 {status}"]
    length = ""
    dated = False
    for name, value in headers:
        lowered = name.lower()
        if lowered not in _OF_THE_SERVER:
            lines.append(f"{name}: {value}")
        elif lowered == "connection":
            keep_alive = keep_alive and value.strip().lower() != "close"
        elif lowered == "content-length":
            length = value
        elif lowered == "transfer-encoding":
            raise ValueError("Transfer-Encoding from the application: the server frames answers")
        else:
            dated = True
            lines.append(f"{name}: {value}")
    if not bodiless:
        lines.append(f"Content-Length: {_checked_length(request, length, body)}")
    if not dated:
        lines.append(f"Date: {date}")
    if not keep_alive:
        lines.append("Connection: close")
    elif request.version == "HTTP/1.0":
        lines.append("Connection: keep-alive")
    head = _joined(lines)
    return Answer(head if bodiless or request.method == "HEAD" else head + body, keep_alive)


def compose_quick(lines: bytes, body: bytes, date: str, keep_alive: bool) -> Answer:
    """The answer of a `Quick` to a request of HTTP/1.1.

    PERF: `compose_answer` looks at each header and trusts none; here there is nothing of the caller's but what the
    `Quick` has looked at.
    """
    end = b"\r\n" if keep_alive else b"Connection: close\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\nDate: %b\r\n%b" % (lines, len(body), date.encode(), end)
    return Answer(head + body, keep_alive)


def _checked_length(request: Request, given: str, body: bytes) -> str:
    """The Content-Length of an answer. For HEAD the application may know better than its empty body says."""
    actual = str(len(body))
    if not given or given == actual:
        return actual
    if request.method == "HEAD" and given.isdecimal():
        return given
    raise ValueError(f"Content-Length {given!r} from the application, but the body has {actual} bytes")


def _joined(lines: list[str]) -> bytes:
    """The head of an answer. Raises `ValueError` where a value has a line end or NUL in it (response splitting)."""
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise ValueError("a header from the application has a line end or NUL in it")
    return head.encode("latin-1") + b"\r\n\r\n"


def compose_error(status: int, body: object, headers: Headers, date: str, request_id: str) -> bytes:
    """An answer of the server itself, as JSON; the connection is closed after it."""
    data = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    lines += ["Content-Type: application/json", f"Content-Length: {len(data)}", f"Date: {date}"]
    lines += [f"X-Request-Id: {request_id}", "Connection: close"]
    return _joined(lines) + data


def compose_upgrade(key: str, lines: bytes) -> bytes:
    """The 101 answer to a Sec-WebSocket-Key (RFC 6455 section 4.2.2). `lines`: more headers, each with its end."""
    digest = sha1(key.encode("latin-1") + _GUID).digest()
    return _UPGRADE % (binascii.b2a_base64(digest, newline=False), lines)


def compose_stream(headers: Headers, date: str) -> bytes:
    """The head of an answer whose body goes on until its connection ends (RFC 9112 section 6.3)."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers), f"Date: {date}", "Connection: close"]
    return _joined(lines)


class Waits:
    """Who waits for a client's next bytes, or for room for ours, and until when.

    PERF: one timer for all of them, set for the first of their moments: one for each would be made and thrown away with
    every request, and cost more than to receive it. Most have the same time, so those that come later do not set it.
    """

    def __init__(self) -> None:
        # The moment (monotonic) at which each greenlet has waited long enough.
        self._until: dict[gevent.greenlet.greenlet, float] = {}
        # Runs until the moment below.
        self._timer: Any = None
        self._due = inf

    def until_ready(self, watcher: Any, until: float) -> None:
        """Wait for what libev watches. Raises `TimeoutError` at that moment (monotonic seconds), or up to `LATE_S`
        later."""
        current, hub = gevent.getcurrent(), gevent.get_hub()
        self._until[current] = until
        if until < self._due:
            self._set_timer(until)
        try:
            hub.wait(watcher)
        finally:
            del self._until[current]

    def _set_timer(self, moment: float) -> None:
        self._stop_timer()
        self._due = moment
        self._timer = gevent.get_hub().loop.timer(max(moment - monotonic(), LATE_S))
        self._timer.start(self._look, update=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self._timer, self._due = None, inf

    def _look(self) -> None:
        now = monotonic()
        for waiting in [one for one, until in self._until.items() if until <= now]:
            if self._until.get(waiting, now + 1.0) <= now:  # not woken by what one before it has done
                waiting.throw(TimeoutError)
        self._stop_timer()
        if self._until:
            self._set_timer(min(self._until.values()))


class Handler(WebSocketHandler):  # type: ignore[misc]  # gevent-websocket has no types
    """Serves one connection: call `begin` in the loop's own greenlet, or `handle` in one that may wait.

    An application finds it as `environ["channelstream.handler"]` and may, instead of answering, take the socket:
    `accept_stream` or `take_over`. It then returns soon, and what it returns is dropped. An `Opening` is given it.
    """

    def __init__(self, sock: _socket.socket, address: tuple[Any, ...], server: Server) -> None:
        # The client's socket, which does not block; None once it was taken over.
        self.connection: _socket.socket | None = sock
        # Watches it for what comes; made when something is waited for.
        self._reading: Any = None
        # The client's address, an IPv4 one never in its IPv6 disguise.
        self.remote_address = str(address[0]).removeprefix("::ffff:") if address else ""
        self.remote_port = str(address[1]) if address else ""
        self.server = server
        self.application: Application = server.application
        self.reader = RequestReader(server.max_body)
        # A request that was read and is not answered: by `begin`, or while an `Opening` has it.
        self._pending: Request | None = None
        # What went wrong with it.
        self._refused: Exception | None = None
        # The current request's, None between requests.
        self.environ: Environ | None = None
        # What the application told `start_response`.
        self.answer_status = ""
        self.answer_headers: Headers = ()
        # What the application gave to the `write` callable of PEP 3333.
        self._written: list[bytes] = []
        # Bytes of the current request's body, as the server counts them.
        self._body_bytes = 0
        # Set by an application that must know whether its answer went out; called once, with that.
        self.after_answer: Callable[[bool], None] | None = None

    def begin(self) -> None:
        """Read what has come with the connection. A websocket's opening, if it is all there, is taken without another
        greenlet; with all else `handle` goes on.

        PERF: most of what comes to an edge opens a websocket, and its request comes at once. A greenlet for it, and the
        environ and the answer of an application, cost a third of what a client's coming costs.
        """
        request = None
        try:
            request = self.reader.feed(self._own_connection().recv(RECEIVE_BYTES))
            if request is not None and self._is_taken(request):
                return
        except MalformedRequest as refused:
            self.server.spawn(self.handle, refused)
            return
        except OSError:
            pass  # nothing has come yet; or the client is gone, which `handle` will see
        except Exception as error:
            self._refused = error
        self._pending = request
        self.server.spawn(self.handle)

    def go_on(self, refused: Exception) -> None:
        """The request that an `Opening` has taken cannot be what it asks for. The application finds that in its environ
        as `REFUSED`, and its answer is sent."""
        self._refused = refused
        self.server.spawn(self.handle)

    def handle(self, refused: MalformedRequest | None = None) -> None:
        """Serve requests until the connection ends or is taken over. What was not taken over is closed then. `refused`:
        why what has come is no request."""
        try:
            if refused is not None:
                self._refuse(refused)
                return
            while self._serve_request():
                pass
        except ClientGone as gone:
            logger.debug("< %s: %s", self.remote_address, gone)
        finally:
            self._count_body(0)
            self._end()

    def _end(self) -> None:
        """Let go of the socket, unless it was taken over, or is about to be."""
        if self._pending is not None:
            return
        connection, self.connection = self.connection, None
        if connection is not None:
            self._stop_watching()
            connection.close()
            self.server.closed_one()

    def _stop_watching(self) -> None:
        """To be called before the descriptor may become another's."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _serve_request(self) -> bool:
        """Read and answer one request. False: the connection has served its time. Raises `ClientGone`."""
        try:
            request = self._receive_request()
        except MalformedRequest as refused:
            self._refuse(refused)
            return False
        if request is None:
            return False
        sent = False
        try:
            answer = self._answer(request)
            if answer is None:
                return False
            if self.after_answer is not None:
                self._check_client_is_there()
            self._send(answer.data)
            sent = True
            self.server.answered_at = monotonic()
        finally:
            self._count_body(0)
            told, self.after_answer = self.after_answer, None
            if told is not None:
                told(sent)
        if not answer.keep_alive:
            self._linger_if_unread()
        return answer.keep_alive

    def _check_client_is_there(self) -> None:
        """Raises `ClientGone` where the client has left while it waited: the kernel would take an answer all the
        same. A client that has only closed its sending half is taken for gone too."""
        try:
            if self._own_connection().recv(1, constants.MSG_PEEK) == b"":
                raise ClientGone("the client left before its answer")
        except BlockingIOError:
            return
        except OSError as error:
            raise ClientGone(f"connection lost before the answer: {error}") from error

    def _receive_request(self) -> Request | None:
        """The next request, or None where the client left or stayed idle for too long. Raises `MalformedRequest` (408
        where a request was begun and not finished in time), `ClientGone`."""
        request, self._pending = self._pending, None
        if request is not None:
            self._count_body(len(request.body))
            return request
        reader, deadlines = self.reader, self.server.deadlines
        phase, since = reader.phase, monotonic()
        if phase is _HEADERS:
            # One who sends many requests at once never lets a read wait: the other connections get their turn here.
            gevent.sleep(0)
            request = reader.feed(b"")
            if request is not None:
                self._count_body(len(request.body))
                return request
            phase, since = reader.phase, monotonic()
        while True:
            come = 0
            if phase is _BODY:
                come = reader.body_bytes
                if reader.take_continue():
                    self._send(CONTINUE)
            data = self._receive(since + deadlines.allowed_s(phase, come))
            if data is None and phase in (_HEADERS, _BODY):
                raise MalformedRequest("the request did not arrive in time", 408)
            if not data:
                return None
            request = reader.feed(data)
            if request is not None:
                self._count_body(len(request.body))
                return request
            self._count_body(reader.body_bytes)
            if reader.phase is not phase:
                phase, since = reader.phase, monotonic()

    def _count_body(self, size: int) -> None:
        """The current body has this size by now. Raises `TooManyBodies` where it is one too many."""
        self.server.body_bytes += size - self._body_bytes
        self._body_bytes = size
        if size > SMALL_BODY_BYTES and self.server.body_bytes > self.server.max_bodies:
            self.server.counters.count(BODIES_REFUSED)
            raise TooManyBodies

    def _receive(self, until: float) -> bytes | None:
        """What the client sent, `b""` at its end, None where nothing came until then (monotonic seconds). Raises
        `ClientGone`."""
        if monotonic() >= until:
            return None
        connection, phase = self._own_connection(), self.reader.phase
        between_requests = phase is _IDLE or phase is _FRESH
        self.server.waiting_connections += between_requests
        try:
            if phase is _IDLE:
                # PERF: a client that has an answer to read has not sent its next request: no use in looking for it.
                self._wait_readable(connection, until)
            while True:
                try:
                    return connection.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    self._wait_readable(connection, until)
        except TimeoutError:
            return None
        except OSError as error:
            raise ClientGone(f"connection lost while reading: {error}") from error
        finally:
            self.server.waiting_connections -= between_requests

    def _wait_readable(self, connection: _socket.socket, until: float) -> None:
        """See `Waits.until_ready`."""
        if self._reading is None:
            self._reading = gevent.get_hub().loop.io(connection.fileno(), READ)
        self.server.waits.until_ready(self._reading, until)

    def _answer(self, request: Request) -> Answer | None:
        """The answer. None: the socket was taken, or is about to be; or the application failed after that."""
        refused, self._refused = self._refused, None
        if refused is None:
            try:
                if self._is_taken(request):
                    return None
                answer = self._answer_quickly(request)
                if answer is not None:
                    return answer
            except Exception as error:  # which the application tells, as all that goes wrong
                refused = error
        environ = self._make_environ(request)
        if refused is not None:
            environ[REFUSED] = refused
        return self._run(request, environ)

    def _is_taken(self, request: Request) -> bool:
        """Whether it offers an upgrade, and an `Opening` has taken it. Raises what that does."""
        opening = self.server.opening
        if opening is None or "HTTP_UPGRADE" not in request.headers:
            return False
        self._pending = request
        taken = False
        try:
            taken = opening(request, self)
        finally:
            if not taken:
                self._pending = None
        return taken

    def _answer_quickly(self, request: Request) -> Answer | None:
        """PERF: without an environ, and without the way through an application. Raises what a `Quick` does."""
        quick = self.server.quick
        made = quick(request, self.remote_address) if quick is not None and request.version == "HTTP/1.1" else None
        if made is None:
            return None
        self._log_answer(request, "200 OK")
        lines, body = made
        server = self.server
        return compose_quick(lines, body, server.http_date(), request.keep_alive and not server.draining)

    def _run(self, request: Request, environ: Environ) -> Answer | None:
        """Run the application: see `_answer`."""
        self.environ = environ
        self.answer_status, self.answer_headers, self._written = "", (), []
        try:
            body = self._run_application(environ)
            if self.connection is None:
                return None
            return self._compose(request, body)
        except ClientGone:
            raise
        except Exception:
            return self._internal_error(environ)
        finally:
            # Whatever keeps the environ must not keep the handler and its buffers, and the other way round.
            environ.pop("channelstream.handler", None)
            self.environ = None

    def _run_application(self, environ: Environ) -> bytes:
        """The whole body of the application's answer."""
        result = self.application(environ, self.start_response)
        try:
            body = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        return b"".join(self._written) + body if self._written else body

    def _compose(self, request: Request, body: bytes) -> Answer:
        if not self.answer_status:
            raise ValueError("the application did not call start_response")
        server = self.server
        answer = compose_answer(
            request, self.answer_status, self.answer_headers, body, server.http_date(), not server.draining
        )
        self._log_answer(request, self.answer_status)
        return answer

    def _log_answer(self, request: Request, status: str) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("> %s %s %s: %s", self.remote_address, request.method, request.path, status)

    def _internal_error(self, environ: Environ) -> Answer | None:
        """An application that raised: the log gets the traceback, the client gets no detail."""
        request_id = _request_id(environ.get("HTTP_X_REQUEST_ID"))
        logger.exception("> %s request %s failed", self.remote_address, request_id)
        if self.connection is None:
            return None
        body = {"error": "internal error"}
        return Answer(compose_error(500, body, (), self.server.http_date(), request_id), keep_alive=False)

    def _make_environ(self, request: Request) -> Environ:
        """The environ of PEP 3333; a fresh plain dict."""
        environ: Environ = {**self.server.environ, **request.headers}
        environ["REQUEST_METHOD"] = request.method
        environ["PATH_INFO"] = request.path
        environ["QUERY_STRING"] = request.query
        environ["SERVER_PROTOCOL"] = request.version
        environ["REMOTE_ADDR"] = self.remote_address
        environ["REMOTE_PORT"] = self.remote_port
        environ["wsgi.input"] = BytesIO(request.body)
        environ["channelstream.handler"] = self
        prefix = environ.get("HTTP_X_SCRIPT_NAME")
        if prefix is not None:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = mounted(prefix, request.path)
        return environ

    def start_response(
        self, status: str, headers: Headers, exc_info: tuple[Any, Any, Any] | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333. Nothing has been sent when this is called, so `exc_info` may always replace an earlier answer."""
        if self.answer_status and exc_info is None:
            raise ValueError("start_response called twice")
        self.answer_status, self.answer_headers = status, headers
        return self._written.append

    def accept_websocket(self, key: str, lines: bytes = b"") -> tuple[_socket.socket, bytes]:
        """Write the 101 answer to a request that `check_handshake` has passed, and `take_over`. Does not wait. Raises
        `ClientGone`, also where the kernel has no room for it: who has not read former answers is let go.

        `key`: its Sec-WebSocket-Key. `lines`: headers besides those of the standard, each with its end.

        PERF: gevent-websocket would make the same answer, and a `WebSocket` and a `Stream` for a connection that
        leaves it at once: a tenth of what a client's coming costs an edge.
        """
        answer = compose_upgrade(key, lines)
        if self._send_some(answer) < len(answer):
            self._own_connection().shutdown(constants.SHUT_RDWR)  # it may have a part of the answer
            raise ClientGone("the client does not read")
        return self.take_over()

    def accept_stream(self, headers: Headers, first: bytes, unacknowledged_s: float) -> _socket.socket:
        """Write the head of an answer without an end, with the `first` bytes of its body, and `take_over`. Raises
        `ClientGone`.

        The kernel ends the connection where what was sent is not acknowledged for so long (tcp(7), TCP_USER_TIMEOUT):
        a client that only listens is not known to be there by anything else.
        """
        self._own_connection().setsockopt(
            constants.IPPROTO_TCP, constants.TCP_USER_TIMEOUT, int(unacknowledged_s * 1000)
        )
        self._send(compose_stream(headers, self.server.http_date()) + first)
        return self.take_over()[0]

    def take_over(self) -> tuple[_socket.socket, bytes]:
        """Give the socket to the caller, with the bytes that came behind the request.

        It does not block, and the caller closes it. It goes on counting as a connection of the server
        until the caller says `Server.released()`. The handler ends with the current request.
        """
        connection = self._own_connection()
        self._stop_watching()
        self.connection = None
        self.server.taken_over()
        return connection, self.reader.leftover()

    def _own_connection(self) -> _socket.socket:
        if self.connection is None:
            raise RuntimeError("the socket was taken over")
        return self.connection

    def _send(self, data: bytes) -> None:
        """Write all of `data`, in one call where the kernel has room. Raises `ClientGone`."""
        sent = self._send_some(data)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_some(self, data: bytes) -> int:
        """Write as much of `data` as the kernel has room for. Raises `ClientGone`."""
        try:
            return self._own_connection().send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGone(f"connection lost while writing: {error}") from error

    def _send_rest(self, rest: memoryview) -> None:
        """Write what the kernel had no room for. Raises `ClientGone`, also where it takes too long."""
        connection = self._own_connection()
        until = monotonic() + self.server.deadlines.write_s
        writing = gevent.get_hub().loop.io(connection.fileno(), WRITE)
        try:
            while rest:
                self.server.waits.until_ready(writing, until)
                with suppress(BlockingIOError):
                    rest = rest[connection.send(rest) :]
        except OSError as error:
            raise ClientGone(f"connection lost while writing: {error}") from error
        finally:
            writing.close()

    def _refuse(self, refused: MalformedRequest) -> None:
        """Answer what is no request, and see to it that the answer arrives. Raises `ClientGone`."""
        logger.debug("> %s: %s %s", self.remote_address, refused.status, refused)
        self.server.counters.count(REQUESTS_REFUSED)
        date, request_id = self.server.http_date(), _request_id(self.reader.request_id)
        self._send(compose_error(refused.status, refused.body(), refused.headers, date, request_id))
        self._linger()

    def _linger_if_unread(self) -> None:
        """Bytes behind the last request are not going to be read; closing now would reset the connection."""
        if self.reader.phase is _HEADERS:
            self._linger()

    def _linger(self) -> None:
        """Close the sending half, then read until the client closes, for a bounded time and number of bytes.

        Closing a socket with unread bytes resets the connection, and the answer may be lost (RFC 9112 section 9.6).
        """
        # What has come of a body that was refused is not kept meanwhile.
        self.reader = RequestReader(self.server.max_body)
        self._count_body(0)
        # A client that is gone by now needs no care.
        with suppress(OSError, ClientGone):
            self._own_connection().shutdown(constants.SHUT_WR)
            until = monotonic() + self.server.deadlines.linger_s
            drained = 0
            while drained < MAX_LINGER_BYTES:
                data = self._receive(until)
                if not data:
                    return
                drained += len(data)


class Server(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """Accepts connections on `listener` and runs a `Handler` for each.

    At most `max_connections` are open at a time, those that were taken over included; at that number accepting stops,
    newcomers wait in the kernel's backlog, and it goes on when one closes. By default as many as the soft limit on
    descriptors leaves room for. `stop_accepting()` stops it for good (until `start_accepting()`), and connections go on
    being served; `drain()` leaves the port, and makes each connection's next answer its last.
    """

    handler_class = Handler
    max_accept = ACCEPTED_AT_ONCE

    def __init__(
        self,
        listener: gevent_socket.socket,
        application: Application,
        *,
        max_body: int,
        deadlines: Deadlines | None = None,
        max_connections: int | None = None,
        max_bodies: int = MAX_BODIES_BYTES,
        counters: Counters | None = None,
        clock: Clock = real_clock,
        quick: Quick | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.quick = quick
        self.opening = opening
        self.counters = counters or Counters()
        # The bound of `body_bytes`; one body may always be there.
        self.max_bodies = max(max_bodies, max_body)
        # Bodies that are being read or worked on.
        self.body_bytes = 0
        self.waits = Waits()
        self.max_body = max_body
        self.deadlines = deadlines or Deadlines()
        if max_connections is None:
            max_connections = default_max_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.max_connections = max_connections
        # Connections that are open: with a handler, or taken over and not yet released.
        self.open_connections = 0
        # Of them, those that were taken over and not yet released.
        self.taken_connections = 0
        # Of them, those with a handler that waits for the first byte of a request.
        self.waiting_connections = 0
        # Whether `drain` was called.
        self.draining = False
        # When the last answer went out, or `drain` was called: monotonic seconds.
        self.answered_at = 0.0
        # Whether `full` has just said yes, and so is about to stop the accepting.
        self._at_bound = False
        # Whether the accepting was stopped for want of room, and goes on when there is some.
        self._waits_for_room = False
        self._clock = clock
        self._date = HttpDate()
        # Of the listener, and so of all that it accepts, as is this: without it the last part of an answer could wait
        # 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(constants.IPPROTO_TCP, constants.TCP_NODELAY, 1)
        self._socket_family = int(listener.family)
        # Has something done in a greenlet that may wait.
        self.spawn = Workers().spawn
        address = listener.getsockname()
        # Given, so that gevent does not ask the DNS for it.
        name = {"SERVER_NAME": str(address[0]), "wsgi.multithread": True}
        super().__init__(listener, application, log=None, error_log=logger, environ=name)
        # After gevent has read it: it would accept one connection a turn, as if processes shared this very listener.
        self.environ["wsgi.multiprocess"] = True

    def http_date(self) -> str:
        """The Date header of an answer that is made now."""
        return self._date.at(self._clock().wall)

    def do_read(self) -> tuple[_socket.socket, tuple[Any, ...]] | None:
        """Accept one connection; called by gevent. PERF: a plain socket, since one of gevent's is three objects more
        and costs as much again to make, and most of what comes to an edge is taken over at once."""
        try:
            descriptor, address = self.socket._accept()
        except BlockingIOError:
            return None
        # The socket would be asked for what is not given, and that made a member of an enum.
        accepted = _socket.socket(self._socket_family, constants.SOCK_STREAM, 0, fileno=descriptor)
        accepted.setblocking(False)
        self.open_connections += 1
        return accepted, address

    def do_handle(self, sock: _socket.socket, address: tuple[Any, ...]) -> None:
        """Serve an accepted connection; called by gevent."""
        handler = self.handler_class(sock, address, self)
        if self.opening is None:
            self.spawn(handler.handle)
        else:
            handler.begin()

    def taken_over(self) -> None:
        """A handler gave its socket away: it counts on. `Handler.take_over` calls this."""
        self.taken_connections += 1

    def released(self) -> None:
        """To be called by whoever closed a socket that was taken over."""
        self.taken_connections -= 1
        self.closed_one()

    def closed_one(self) -> None:
        """A socket was closed. Its handler calls this, if it was not taken over."""
        self.open_connections -= 1
        if self._waits_for_room and self.started:
            self._waits_for_room = False
            self.start_accepting()

    def full(self) -> bool:
        """Whether there is no room for another connection; gevent asks before each accept."""
        self._at_bound = self.open_connections >= self.max_connections
        return self._at_bound

    def stop_accepting(self) -> None:
        """Leave newcomers to the backlog. Called by an operator, or by gevent right after `full` said yes."""
        self.counters.count(FULL, self._at_bound)
        self._waits_for_room, self._at_bound = self._at_bound, False
        super().stop_accepting()

    def drain(self) -> None:
        """Leave the port to the others that listen on it, and close each connection after the next answer on it.

        What waits in the backlog is accepted first, since a listener that is closed resets it. NOTE: a connection whose
        handshake is completed between the last accept and the close, or is under way then, is reset all the same,
        unless the kernel hands it to another listener (`net.ipv4.tcp_migrate_req`, Linux 5.14).
        """
        self.draining, self.answered_at = True, monotonic()
        self.stop_accepting()
        while (accepted := self._accept_one()) is not None:
            self.do_handle(*accepted)
        self.close()

    def _accept_one(self) -> tuple[_socket.socket, tuple[Any, ...]] | None:
        """The next connection in the backlog, even beyond the bound: the alternative is to reset it."""
        try:
            return self.do_read()
        except OSError as error:
            logger.warning("connections in the backlog are lost: %s", error)
            return None

    def is_quiet(self, now: float) -> bool:
        """While it drains: whether nothing is being received or answered, and nothing is about to be."""
        handled = self.open_connections - self.taken_connections
        if not handled:
            return True
        return handled <= self.waiting_connections and now - self.answered_at >= QUIET_S
