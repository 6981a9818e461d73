"""The server on real sockets; what composes answers is tested without."""

from __future__ import annotations

import _socket
import gc
import json
import logging
import socket
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any
from wsgiref.validate import validator

import gevent
import gevent.event
import httpx
import pytest
import requests
import websocket
from gevent import socket as gevent_socket

from channelstream.clock import Now, monotonic
from channelstream.errors import BadHandshake, ClientGone
from channelstream.handshake import check_handshake
from channelstream.http_reader import Deadlines, Request
from channelstream.serving import (
    ACCEPTED_AT_ONCE,
    MIN_CONNECTIONS,
    QUIET_S,
    REFUSED,
    Handler,
    HttpDate,
    Opening,
    Server,
    Waits,
    compose_answer,
    compose_error,
    default_max_connections,
    listen,
)

PATIENCE_S = 10.0
"""How long a test waits for what must come; it is never waited for in full unless the test fails."""

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


# --- composing answers ------------------------------------------------------------------------------------------------


def request(method: str = "GET", version: str = "HTTP/1.1", keep_alive: bool = True) -> Request:
    return Request(method, "/", "", version, {}, keep_alive)


def answer(
    asked: Request,
    status: str = "200 OK",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    last: bool = False,
) -> tuple[list[str], bytes, bool]:
    """The header lines, the body, and whether the connection stays."""
    composed = compose_answer(asked, status, list(headers), body, DATE, not last)
    head, _, rest = composed.data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest, composed.keep_alive


def test_an_answer_gets_its_length_and_date() -> None:
    lines, body, keep_alive = answer(request(), headers=[("X-A", "ä")], body=b"hello")
    assert lines == ["HTTP/1.1 200 OK", "X-A: ä", "Content-Length: 5", f"Date: {DATE}"]
    assert (body, keep_alive) == (b"hello", True)


def test_what_the_application_says_itself_is_not_said_twice() -> None:
    lines, _, _ = answer(request(), headers=[("content-length", "2"), ("date", "today")], body=b"ok")
    assert lines == ["HTTP/1.1 200 OK", "date: today", "Content-Length: 2"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body(status: str) -> None:
    lines, body, _ = answer(request(), status, [("Content-Length", "5")], b"hello")
    assert (lines, body) == ([f"HTTP/1.1 {status}", f"Date: {DATE}"], b"")


def test_head_has_the_length_and_not_the_body() -> None:
    lines, body, _ = answer(request("HEAD"), body=b"hello")
    assert "Content-Length: 5" in lines
    assert body == b""
    assert "Content-Length: 99" in answer(request("HEAD"), headers=[("Content-Length", "99")])[0]


@pytest.mark.parametrize(
    ("asked", "headers", "last", "line", "keep_alive"),
    [
        (request(), [], False, None, True),
        (request(), [], True, "Connection: close", False),
        (request(keep_alive=False), [], False, "Connection: close", False),
        (request(), [("Connection", "Close")], False, "Connection: close", False),
        (request(version="HTTP/1.0"), [], False, "Connection: keep-alive", True),
        (request(version="HTTP/1.0", keep_alive=False), [], False, "Connection: close", False),
    ],
)
def test_who_closes(
    asked: Request, headers: list[tuple[str, str]], last: bool, line: str | None, keep_alive: bool
) -> None:
    lines, _, stays = answer(asked, headers=headers, last=last)
    assert [item for item in lines if item.startswith("Connection")] == ([line] if line else [])
    assert stays is keep_alive


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("X-A", "a\r\nSet-Cookie: b")]),
        ("200 OK", [("X-A", "a\nb")]),
        ("200 OK", [("X-A", "a\rb")]),
        ("200 OK", [("X-A", "a\0b")]),
        ("200 OK", [("X-A\r\nX-B", "a")]),
        ("200 OK\r\nX-A: b", []),
        ("200 OK", [("X-A", "€")]),
        ("200 OK", [("Content-Length", "6")]),
        ("200 OK", [("Transfer-Encoding", "chunked")]),
        ("101 Switching Protocols", []),
        ("OK", []),
    ],
)
def test_an_application_cannot_break_the_framing(status: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError):
        answer(request(), status, headers, b"hello")


def test_the_servers_own_errors_are_json_and_last() -> None:
    data = compose_error(405, {"error": "no"}, [("Allow", "GET")], DATE, "id-1")
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 405 Method Not Allowed",
        b"Allow: GET",
        b"Content-Type: application/json",
        b"Content-Length: 15",
        b"Date: " + DATE.encode(),
        b"X-Request-Id: id-1",
        b"Connection: close",
    ]
    assert json.loads(body) == {"error": "no"}


def test_the_date_follows_the_second() -> None:
    date = HttpDate()
    assert date.at(784111777.2) == DATE
    assert date.at(784111777.9) is date.at(784111777.0)
    assert date.at(784111778.0) == "Sun, 06 Nov 1994 08:49:38 GMT"


def test_the_default_bound_leaves_room_for_other_descriptors() -> None:
    assert default_max_connections(1024) == 768
    assert default_max_connections(100) == MIN_CONNECTIONS
    assert default_max_connections(-1) > 100_000


# --- the server on sockets --------------------------------------------------------------------------------------------


class RecordingSocket(_socket.socket):
    """Counts what is sent in how many calls."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sends: list[int] = []
        self.full = False
        """Whether the kernel is to have no room for more."""

    def send(self, data: Any, *args: Any) -> int:
        if self.full:
            raise BlockingIOError
        sent: int = super().send(data, *args)
        self.sends.append(sent)
        return sent


class RecordingServer(Server):
    """Keeps the sockets it accepted in `accepted`."""

    accepted: list[RecordingSocket]

    def do_read(self) -> Any:
        read = super().do_read()
        if read is None:
            return None
        plain, address = read
        recording = RecordingSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        recording.setblocking(False)
        self.accepted.append(recording)
        return recording, address


class Running:
    """Starts servers and connects clients to them; what is open at the end of a test is closed. `opening`: of servers
    that are given none."""

    def __init__(self, cleanup: ExitStack, opening: Opening | None) -> None:
        self._cleanup = cleanup
        self._opening = opening

    def serve(self, application: Any, **arguments: Any) -> RecordingServer:
        listener = arguments.get("listener") or listen("127.0.0.1", 0)
        arguments = {"max_body": 1 << 20, "opening": self._opening, **arguments, "listener": listener}
        server = RecordingServer(application=application, **arguments)
        server.accepted = []
        server.start()
        self._cleanup.callback(eventually, lambda: server.open_connections == 0)
        self._cleanup.callback(server.stop)
        return server

    def connect(self, server: Server, data: bytes = b"") -> Any:
        """A raw client."""
        client = self._cleanup.enter_context(gevent_socket.create_connection(server.address[:2], timeout=PATIENCE_S))
        client.sendall(data)
        return client


@pytest.fixture(params=[None, lambda request, handler: False], ids=["router", "edge"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A router's server begins with a greenlet for each connection, and an edge's with a look at what has come."""
    with ExitStack() as cleanup:
        yield Running(cleanup, request.param)


def eventually(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(PATIENCE_S):
        while not condition():
            gevent.sleep(0.002)


def in_thread(call: Callable[[], Any]) -> Any:
    """Run a client that blocks; the server's loop goes on."""
    return gevent.get_hub().threadpool.spawn(call).get(timeout=PATIENCE_S)


def url(server: Server, path: str = "/", scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.address[1]}{path}"


def read_all(client: Any) -> bytes:
    """Everything up to the end of the connection."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def read_answer(client: Any) -> tuple[bytes, bytes]:
    """Head and body of one answer with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        assert piece, data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split(b":")[1])
    while len(body) < length:
        body += client.recv(65536)
    return head, body


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode("latin-1")
    return [line, environ["wsgi.input"].read()]


def test_clients_that_are_not_ours(running: Running) -> None:
    server = running.serve(echo)

    def with_requests() -> list[str]:
        with requests.Session() as session:
            return [session.post(url(server, "/a"), data=str(n), timeout=PATIENCE_S).text for n in range(3)]

    def with_httpx() -> str:
        with httpx.Client(trust_env=False) as client:
            return client.request("PATCH", url(server, "/b"), content=iter([b"in ", b"chunks"])).text

    assert in_thread(with_requests) == ["POST /a 0", "POST /a 1", "POST /a 2"]
    assert in_thread(with_httpx) == "PATCH /b in chunks"
    assert len(server.accepted) == 2


def test_an_answer_is_one_send_on_a_socket_without_nagle(running: Running) -> None:
    server = running.serve(echo)
    client = running.connect(server)
    for _ in range(3):
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
        assert read_answer(client)[1] == b"POST /x ok"
    (accepted,) = server.accepted
    assert len(accepted.sends) == 3
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_the_environ_keeps_the_standard(running: Running) -> None:
    seen: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        body = environ["wsgi.input"].read(3)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    server = running.serve(validator(application))
    client = running.connect(server, b"POST /%C3%A4?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc")
    assert read_answer(client)[1] == b"abc"
    (environ,) = seen
    assert type(environ) is dict
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/Ã¤",
        "QUERY_STRING": "x=1",
        "CONTENT_LENGTH": "3",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.address[1]),
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_X_A": "b",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    assert {key: environ[key] for key in expected} == expected


def test_the_handler_is_in_the_environ_while_the_application_runs_and_not_after(running: Running) -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((type(environ["channelstream.handler"]), environ))
        return echo(environ, start_response)

    read_answer(running.connect(running.serve(application), GET))
    assert seen[0][0] is Handler
    assert "channelstream.handler" not in seen[0][1]


def test_the_write_callable_and_close_of_a_result(running: Running) -> None:
    closed: list[bool] = []

    class Result:
        def __iter__(self) -> Iterator[bytes]:
            yield b" and returned"

        def close(self) -> None:
            closed.append(True)

    def application(environ: dict[str, Any], start_response: Any) -> Result:
        start_response("200 OK", [])(b"written")
        return Result()

    assert read_answer(running.connect(running.serve(application), GET))[1] == b"written and returned"
    assert closed == [True]


def test_keep_alive_and_close(running: Running) -> None:
    server = running.serve(echo)
    client = running.connect(server, GET + b"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    data = read_all(client)
    assert data.count(b"HTTP/1.1 200 OK") == 2
    assert data.count(b"Connection: close") == 1
    assert data.endswith(b"GET /2 ")


def test_http_1_0(running: Running) -> None:
    server = running.serve(echo)
    client = running.connect(server, b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"Connection: keep-alive" in read_answer(client)[0]
    client.sendall(b"GET /2 HTTP/1.0\r\n\r\n")
    assert read_all(client).endswith(b"GET /2 ")


def test_head_through_a_strict_client(running: Running) -> None:
    server = running.serve(echo)

    def ask() -> list[tuple[int, str | None, bytes]]:
        connection = HTTPConnection("127.0.0.1", server.address[1], timeout=PATIENCE_S)
        answers = []
        for method in ("HEAD", "GET"):
            connection.request(method, "/abc")
            got = connection.getresponse()
            answers.append((got.status, got.headers["Content-Length"], got.read()))
        connection.close()
        return answers

    assert in_thread(ask) == [(200, "10", b""), (200, "9", b"GET /abc ")]


def test_a_client_is_told_to_go_on(running: Running) -> None:
    server = running.serve(echo)
    client = running.connect(server, b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"ok")
    assert read_answer(client)[1] == b"PUT / ok"


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (b"400 Bad Request", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        (b"400 Bad Request", b"GET / HTTP/1.1\r\n\r\n"),
        (b"405 Method Not Allowed", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"413 ", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 500_000),
        (b"414 ", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"417 ", b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
        (b"431 ", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 17000 + b"\r\n\r\n"),
    ],
)
def test_a_malformed_request_is_answered_and_the_connection_closed(
    running: Running, status: bytes, data: bytes
) -> None:
    called: list[bool] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        called.append(True)
        return echo(environ, start_response)

    got = read_all(running.connect(running.serve(application), data + GET))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nConnection: close" in head
    assert list(json.loads(body)) == ["error"]
    assert not called


def test_300_half_sent_requests_end_at_their_deadline_while_others_are_served(running: Running) -> None:
    server = running.serve(echo, deadlines=Deadlines(headers_s=0.3, linger_s=0.2))
    begun = [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost"]
    clients = [running.connect(server, begun[n % 3]) for n in range(300)]
    other = running.connect(server)
    for _ in range(20):
        other.sendall(GET)
        assert read_answer(other)[0].startswith(b"HTTP/1.1 200 OK")
    for client in clients:
        got = read_all(client)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in got
        client.close()
    eventually(lambda: server.open_connections == 1)


def posted(size: int, sent: int) -> bytes:
    """A request with a body of so many bytes, of which so many are sent."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * sent


def test_bodies_have_so_much_room_together_and_a_large_one_too_many_is_told_to_come_back(running: Running) -> None:
    server = running.serve(echo, max_bodies=400_000, max_body=300_000)
    first = running.connect(server, posted(300_000, 299_999))
    eventually(lambda: server.body_bytes == 299_999)
    head, body = read_answer(running.connect(server, posted(200_000, 200_000)))
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    assert list(json.loads(body)) == ["error"]
    assert read_answer(running.connect(server, posted(60_000, 60_000)))[0].startswith(b"HTTP/1.1 200 ")
    assert server.counters.told() == {"bodies_refused": 1, "requests_refused": 1}
    first.sendall(b"x")
    assert read_answer(first)[0].startswith(b"HTTP/1.1 200 ")
    eventually(lambda: server.body_bytes == 0)
    assert read_answer(running.connect(server, posted(200_000, 200_000)))[0].startswith(b"HTTP/1.1 200 ")


def test_a_single_body_has_room_whatever_the_bound_says(running: Running) -> None:
    server = running.serve(echo, max_bodies=1, max_body=300_000)
    assert read_answer(running.connect(server, posted(300_000, 300_000)))[0].startswith(b"HTTP/1.1 200 ")


def test_a_body_takes_no_room_when_its_client_has_left(running: Running) -> None:
    server = running.serve(echo, max_body=300_000)
    client = running.connect(server, posted(300_000, 200_000))
    eventually(lambda: server.body_bytes == 200_000)
    client.close()
    eventually(lambda: server.body_bytes == 0)


def test_a_body_takes_room_while_it_is_worked_on(running: Running) -> None:
    seen: list[int] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(server.body_bytes)
        return echo(environ, start_response)

    server = running.serve(application)
    read_answer(running.connect(server, posted(1000, 1000)))
    assert seen == [1000]
    eventually(lambda: server.body_bytes == 0)


def test_a_body_that_stops_ends_at_its_deadline(running: Running) -> None:
    server = running.serve(echo, deadlines=Deadlines(body_s=0.1, linger_s=0.1))
    for head in (b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"):
        client = running.connect(server, b"POST / HTTP/1.1\r\nHost: a\r\n" + head)
        assert read_all(client).startswith(b"HTTP/1.1 408 ")


def test_idle_connections_are_closed_without_a_word(running: Running) -> None:
    server = running.serve(echo, deadlines=Deadlines(fresh_s=0.1, idle_s=0.1))
    assert read_all(running.connect(server)) == b""
    used = running.connect(server, GET)
    assert read_answer(used)[1] == b"GET / "
    assert read_all(used) == b""


def test_a_client_that_does_not_read_its_answer_is_closed(running: Running) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [bytes(50_000_000)]

    server = running.serve(application, deadlines=Deadlines(write_s=0.2))
    running.connect(server, GET)
    eventually(lambda: server.open_connections == 1)
    eventually(lambda: server.open_connections == 0)


def test_a_client_that_leaves_in_the_middle_is_forgotten(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    server = running.serve(echo)
    for data in (b"", b"GET", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"):
        client = running.connect(server, data)
        eventually(lambda: server.open_connections == 1)
        client.close()
        eventually(lambda: server.open_connections == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_application_that_fails_is_a_500_without_detail(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise RuntimeError("the secret reason")

    server = running.serve(application)
    got = read_all(running.connect(server, b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: call-7\r\n\r\n"))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error")
    assert b"X-Request-Id: call-7" in head
    assert b"Connection: close" in head
    assert json.loads(body) == {"error": "internal error"}
    (record,) = [record for record in caplog.records if record.name == "channelstream.serving"]
    assert "the secret reason" in str(record.exc_info)


@pytest.mark.parametrize("mistake", ["no start_response", "two of them", "text", "split header"])
def test_mistakes_of_an_application_are_a_500(running: Running, mistake: str) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if mistake == "two of them":
            start_response("200 OK", [])
        if mistake != "no start_response":
            start_response("200 OK", [("X", "a\r\nb")] if mistake == "split header" else [])
        return ["text"] if mistake == "text" else [b""]

    assert read_all(running.connect(running.serve(application), GET)).startswith(b"HTTP/1.1 500 ")


def test_requests_line_by_line_are_logged_only_when_debugging(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    server = running.serve(echo)
    for level, lines in ((logging.INFO, 0), (logging.DEBUG, 1)):
        caplog.set_level(level, "channelstream.serving")
        caplog.clear()
        read_answer(running.connect(server, GET))
        assert sum("GET /: 200 OK" in record.getMessage() for record in caplog.records) == lines


def quick(request: Request, address: str) -> tuple[bytes, bytes] | None:
    """Answers POST alone."""
    if request.path == "/refused":
        raise LookupError("not for you")
    return (b"x-from: %b\r\n" % address.encode(), request.body) if request.method == "POST" else None


def posted_to(path: str, body: bytes, *more: str, version: str = "HTTP/1.1") -> bytes:
    lines = [f"POST {path} {version}", "Host: a", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_what_is_answered_quickly_does_not_reach_the_application(running: Running) -> None:
    server = running.serve(echo, quick=quick, clock=lambda: Now(0.0, 784111777.0))
    client = running.connect(server)
    for body in (b"ok", b"", b"x" * 100_000):
        client.sendall(posted_to("/x", body))
        head, got = read_answer(client)
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 200 OK",
            b"x-from: 127.0.0.1",
            b"Content-Length: %d" % len(body),
            b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
        ]
        assert got == body
    client.sendall(GET)
    assert read_answer(client)[1] == b"GET / "
    client.sendall(posted_to("/x", b"last", "Connection: close"))
    assert read_all(client).endswith(b"\r\nConnection: close\r\n\r\nlast")


def test_an_old_client_is_left_to_the_application(running: Running) -> None:
    client = running.connect(running.serve(echo, quick=quick), posted_to("/x", b"ok", version="HTTP/1.0"))
    assert read_all(client).endswith(b"POST /x ok")


def test_the_application_is_told_of_what_was_refused_quickly(running: Running) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [str(environ.get(REFUSED)).encode()]

    client = running.connect(running.serve(application, quick=quick), posted_to("/refused", b""))
    assert read_answer(client)[1] == b"not for you"
    client.sendall(GET)
    assert read_answer(client)[1] == b"None"


def test_draining_makes_a_quick_answer_the_last(running: Running) -> None:
    server: Server

    def slow(request: Request, address: str) -> tuple[bytes, bytes] | None:
        server.drain()
        return b"", b"done"

    server = running.serve(echo, quick=slow)
    assert read_all(running.connect(server, posted_to("/x", b""))).endswith(b"\r\nConnection: close\r\n\r\ndone")


def test_quick_answers_are_logged_when_debugging(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "channelstream.serving")
    read_answer(running.connect(running.serve(echo, quick=quick), posted_to("/x", b"ok")))
    assert sum("POST /x: 200 OK" in record.getMessage() for record in caplog.records) == 1


def test_a_waiting_application_does_not_hold_up_others(running: Running) -> None:
    gate = gevent.event.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            gate.wait(PATIENCE_S)
        return echo(environ, start_response)

    server = running.serve(application)
    slow = running.connect(server, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert read_answer(running.connect(server, GET))[1] == b"GET / "
    gate.set()
    assert read_answer(slow)[1] == b"GET /slow "


# --- bounds and draining ----------------------------------------------------------------------------------------------


def assert_waits(client: Any) -> None:
    """Nobody answers it."""
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(PATIENCE_S)


def test_at_the_bound_newcomers_wait_until_one_leaves(running: Running) -> None:
    server = running.serve(echo, max_connections=2)
    first, second = running.connect(server, GET), running.connect(server, GET)
    read_answer(first)
    read_answer(second)
    third = running.connect(server, GET)
    assert_waits(third)
    assert server.open_connections == 2
    assert server.counters.told() == {"full": 1}
    first.close()
    assert read_answer(third)[1] == b"GET / "


def test_stopped_accepting_stays_stopped_though_connections_close(running: Running) -> None:
    server = running.serve(echo, max_connections=2)
    first, second = running.connect(server, GET), running.connect(server, GET)
    read_answer(first)
    read_answer(second)
    server.stop_accepting()
    third = running.connect(server, GET)
    first.close()
    eventually(lambda: server.open_connections == 1)
    assert_waits(third)
    second.sendall(GET)
    assert read_answer(second)[1] == b"GET / "
    server.start_accepting()
    assert read_answer(third)[1] == b"GET / "


def test_draining_makes_the_next_answer_the_last(running: Running) -> None:
    server = running.serve(echo)
    client = running.connect(server, GET)
    assert b"Connection: close" not in read_answer(client)[0]
    server.drain()
    client.sendall(GET)
    assert b"\r\nConnection: close" in read_all(client)


def test_a_server_that_drains_has_left_the_port_and_answers_whom_it_had_not_accepted(running: Running) -> None:
    server = running.serve(echo)
    server.stop_accepting()
    waiting = [running.connect(server, GET) for _ in range(5)]
    port = server.address[1]
    server.drain()
    assert all(read_all(client).endswith(b"GET / ") for client in waiting)
    with pytest.raises(ConnectionRefusedError):
        gevent_socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def test_even_beyond_its_bound(running: Running) -> None:
    server = running.serve(echo, max_connections=1)
    first, second = running.connect(server, GET), running.connect(server, GET)
    read_answer(first)
    assert_waits(second)
    server.drain()
    assert read_all(second).endswith(b"GET / ")


def test_others_on_the_port_get_who_comes_to_a_server_that_drains(running: Running) -> None:
    server = running.serve(echo)
    other = running.serve(echo, listener=listen("127.0.0.1", server.address[1]))
    server.drain()
    for _ in range(20):
        read_answer(running.connect(server, GET))
    assert (len(server.accepted), len(other.accepted)) == (0, 20)


def test_a_server_that_drains_is_quiet_when_no_request_is_under_way_or_to_be_expected(running: Running) -> None:
    gate = gevent.event.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        gate.wait(PATIENCE_S)
        return echo(environ, start_response)

    server = running.serve(slow)
    idle, asking = running.connect(server), running.connect(server, GET)
    eventually(lambda: server.open_connections == 2 and server.waiting_connections == 1)
    server.drain()
    later = server.answered_at + QUIET_S
    assert not server.is_quiet(later), "one is being answered"
    gate.set()
    read_all(asking)
    eventually(lambda: server.open_connections == 1)
    assert not server.is_quiet(server.answered_at + QUIET_S / 2), "another request may be on its way"
    assert server.is_quiet(server.answered_at + QUIET_S)
    idle.sendall(GET[:10])
    eventually(lambda: server.waiting_connections == 0)
    assert not server.is_quiet(server.answered_at + QUIET_S), "one has begun"
    idle.close()
    eventually(lambda: server.open_connections == 0)
    assert server.is_quiet(server.answered_at)


def test_what_was_taken_over_does_not_keep_a_server_from_being_quiet(running: Running) -> None:
    taker = Taker()
    server = running.serve(taker)
    running.connect(server, GET)
    eventually(lambda: bool(taker.taken) and server.open_connections == 1)
    assert server.taken_connections == 1
    assert server.is_quiet(0.0)
    taker.taken[0][0].close()
    server.released()
    assert (server.open_connections, server.taken_connections) == (0, 0)


def test_a_client_over_ipv6(running: Running) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["REMOTE_ADDR"].encode()]

    try:
        listener = listen("::1", 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    server = running.serve(application, listener=listener)
    assert read_answer(running.connect(server, GET))[1] == b"::1"


def test_an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() -> None:
    class Anything:
        application = None
        max_body = 0

    handler = Handler(None, ("::ffff:192.0.2.7", 5, 0, 0), Anything())  # type: ignore[arg-type]
    assert handler.remote_address == "192.0.2.7"


def test_listening_twice_on_a_port_needs_leave() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port) as second:
            assert second.getsockname() == first.getsockname()
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port, reuse_port=False)


# --- leaving HTTP -----------------------------------------------------------------------------------------------------


class Taker:
    """An application that takes the socket over."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, bytes]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.taken.append(environ["channelstream.handler"].take_over())
        return [b""]


class Opener:
    """An `Opening` that takes proper handshakes, accepts them at once unless `waits`, and leaves `/other` alone."""

    def __init__(self, waits: bool = False) -> None:
        self.waits = waits
        self.waiting: list[tuple[Request, Handler]] = []
        self.taken: list[tuple[Any, bytes]] = []
        self.handlers: list[weakref.ref[Handler]] = []
        self.in_hub: list[bool] = []
        """Of each that was taken, whether nothing may wait there."""

    def __call__(self, request: Request, handler: Handler) -> bool:
        if request.path == "/other":
            return False
        check_handshake(request.method, request.version, request.headers)
        self.in_hub.append(gevent.getcurrent() is gevent.get_hub())
        self.handlers.append(weakref.ref(handler))
        self.waiting.append((request, handler))
        if not self.waits:
            self.accept()
        return True

    def accept(self) -> None:
        """The one that came last."""
        request, handler = self.waiting.pop()
        self.taken.append(handler.accept_websocket(request.headers["HTTP_SEC_WEBSOCKET_KEY"], b"X-A: b\r\n"))


def refusing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An application that tells what was refused, with the error's status where it has one."""
    refused = environ.get(REFUSED)
    status = getattr(refused, "status", 200)
    start_response(f"{status} Told", list(getattr(refused, "headers", ())))
    return [f"{environ['PATH_INFO']}: {refused}".encode()]


def test_a_websocket_is_accepted_and_its_socket_handed_over(running: Running) -> None:
    opener = Opener()
    server = running.serve(echo, opening=opener)

    def dial() -> Any:
        return websocket.create_connection(url(server, "/ws", "ws"), timeout=PATIENCE_S)

    client = in_thread(dial)
    ((taken, leftover),) = opener.taken
    assert taken is server.accepted[0]
    assert taken.gettimeout() == 0.0
    assert leftover == b""
    assert len(taken.sends) == 1
    gc.collect()
    taken.send(b"\x81\x02hi")
    assert in_thread(client.recv) == "hi"
    server.stop()
    taken.send(b"\x81\x05again")
    assert in_thread(client.recv) == "again"
    taken.close()
    client.shutdown()
    server.released()
    assert server.open_connections == 0


def test_the_answer_is_the_one_of_the_standard_and_nothing_follows_it(running: Running) -> None:
    opener = Opener()
    server = running.serve(echo, opening=opener)
    client = running.connect(server, HANDSHAKE + b"\x81\x80abcd")
    eventually(lambda: bool(opener.taken) and server.open_connections == 1)
    ((taken, leftover),) = opener.taken
    assert leftover == b"\x81\x80abcd"
    gc.collect()
    taken.close()
    server.released()
    head, _, rest = read_all(client).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"X-A: b",
    ]
    assert rest == b""


def test_nothing_of_the_handler_stays_without_the_garbage_collector(running: Running) -> None:
    gc.collect()
    gc.disable()
    try:
        opener = Opener()
        server = running.serve(echo, opening=opener)
        client = running.connect(server, HANDSHAKE)
        eventually(lambda: bool(opener.taken) and server.open_connections == 1)
        server.accepted.clear()
        assert [handler() for handler in opener.handlers] == [None]
        assert [item for item in gc.get_objects() if isinstance(item, Handler)] == []
    finally:
        gc.enable()
    opener.taken[0][0].close()
    server.released()
    client.close()


def test_a_connection_taken_over_counts_until_it_is_released(running: Running) -> None:
    taker = Taker()
    server = running.serve(taker, max_connections=1)
    running.connect(server, GET)
    eventually(lambda: bool(taker.taken))
    second = running.connect(server, GET)
    assert_waits(second)
    taker.taken[0][0].close()
    server.released()
    eventually(lambda: len(taker.taken) == 2)
    taker.taken[1][0].close()
    server.released()


def test_take_over_writes_nothing_and_keeps_what_came_behind(running: Running) -> None:
    taker = Taker()
    server = running.serve(taker)
    client = running.connect(server, GET + b"behind")
    eventually(lambda: bool(taker.taken))
    ((taken, leftover),) = taker.taken
    assert leftover == b"behind"
    eventually(lambda: server.open_connections == 1)
    taken.send(b"mine")
    taken.close()
    server.released()
    assert read_all(client) == b"mine"


def test_a_refused_handshake_leaves_the_connection_to_http(running: Running) -> None:
    opener = Opener()
    server = running.serve(refusing, opening=opener)
    client = running.connect(server, HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
    for _ in range(2):
        head, _ = read_answer(client)
        assert head.startswith(b"HTTP/1.1 426 ")
        assert b"Sec-WebSocket-Version: 13" in head
        client.sendall(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
    read_answer(client)
    client.sendall(HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c, WebSocket"))
    eventually(lambda: bool(opener.taken))
    assert client.recv(12) == b"HTTP/1.1 101"
    opener.taken[0][0].close()
    server.released()


def test_an_opening_that_is_all_there_needs_no_greenlet(running: Running) -> None:
    opener = Opener()
    server = running.serve(echo, opening=opener)
    server.stop_accepting()
    client = running.connect(server, HANDSHAKE)
    server.start_accepting()
    assert client.recv(12) == b"HTTP/1.1 101"
    assert opener.in_hub == [True]
    opener.taken[0][0].close()
    server.released()


@pytest.mark.parametrize("first", [b"", HANDSHAKE[:1], HANDSHAKE[:-1]])
def test_an_opening_that_comes_in_parts_is_taken_as_well(running: Running, first: bytes) -> None:
    opener = Opener()
    server = running.serve(echo, opening=opener)
    client = running.connect(server, first)
    eventually(lambda: server.open_connections == 1)
    gevent.sleep(0)
    client.sendall(HANDSHAKE[len(first) :])
    assert client.recv(12) == b"HTTP/1.1 101"
    assert opener.in_hub == [False]
    assert (server.open_connections, server.taken_connections) == (1, 1)
    opener.taken[0][0].close()
    server.released()


def test_what_an_opening_leaves_alone_is_the_applications(running: Running) -> None:
    client = running.connect(running.serve(refusing, opening=Opener()))
    for _ in range(2):
        client.sendall(HANDSHAKE.replace(b"/ws", b"/other"))
        assert read_answer(client)[1] == b"/other: None"
        client.sendall(GET)
        assert read_answer(client)[1] == b"/: None"


@pytest.mark.parametrize("before", [b"", GET])
def test_an_opening_may_say_no_later(running: Running, before: bytes) -> None:
    opener = Opener(waits=True)
    server = running.serve(refusing, opening=opener)
    client = running.connect(server, before)
    if before:
        read_answer(client)
    client.sendall(HANDSHAKE)
    eventually(lambda: bool(opener.waiting))
    client.sendall(GET)
    assert_waits(client)
    assert (server.open_connections, server.taken_connections, server.waiting_connections) == (1, 0, 0)
    assert not server.is_quiet(server.answered_at + QUIET_S), "it is being answered"
    opener.waiting.pop()[1].go_on(BadHandshake("not you", 403))
    answers = b""
    while b"/: None" not in answers:
        answers += client.recv(65536)
    assert answers.startswith(b"HTTP/1.1 403 ")
    assert b"/ws: not you" in answers
    client.close()
    eventually(lambda: server.open_connections == 0)


def test_an_opening_may_say_yes_later(running: Running) -> None:
    opener = Opener(waits=True)
    server = running.serve(echo, opening=opener)
    client = running.connect(server, HANDSHAKE)
    eventually(lambda: bool(opener.waiting))
    server.drain()
    assert server.open_connections == 1
    opener.accept()
    assert client.recv(12) == b"HTTP/1.1 101"
    assert (server.open_connections, server.taken_connections) == (1, 1)
    opener.taken[0][0].close()
    server.released()
    assert server.open_connections == 0


def test_an_opening_whose_client_has_left_meanwhile_is_over(running: Running) -> None:
    opener = Opener(waits=True)
    server = running.serve(refusing, opening=opener)
    client = running.connect(server, HANDSHAKE)
    eventually(lambda: bool(opener.waiting))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
    client.close()
    handler = opener.waiting[0][1]

    def is_reset() -> bool:
        try:
            opener.accept()
        except ClientGone as gone:
            handler.go_on(gone)
            return True
        raise AssertionError("taken")

    gevent.sleep(0.01)
    assert is_reset()
    eventually(lambda: server.open_connections == 0)


def test_an_opening_does_not_wait_for_a_client_that_does_not_read(running: Running) -> None:
    opener = Opener(waits=True)
    server = running.serve(refusing, opening=opener)
    client = running.connect(server, HANDSHAKE)
    eventually(lambda: bool(opener.waiting))
    handler = opener.waiting[0][1]
    server.accepted[0].full = True
    with pytest.raises(ClientGone) as gone:
        opener.accept()
    server.accepted[0].full = False
    handler.go_on(gone.value)
    assert read_all(client) == b""


def test_many_that_come_at_once_are_taken_in_turns(running: Running) -> None:
    opener = Opener()
    server = running.serve(echo, opening=opener)
    server.stop_accepting()
    clients = [running.connect(server, HANDSHAKE) for _ in range(ACCEPTED_AT_ONCE + 1)]
    taken: list[int] = []
    check = gevent.get_hub().loop.check()
    check.start(lambda: taken.append(len(opener.taken)))
    server.start_accepting()
    assert all(client.recv(12) == b"HTTP/1.1 101" for client in clients)
    check.close()
    assert ACCEPTED_AT_ONCE in taken
    for sock, _ in opener.taken:
        sock.close()
        server.released()


def test_an_application_that_fails_after_taking_over_does_not_touch_the_socket(running: Running) -> None:
    taker = Taker()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        taker(environ, start_response)
        raise RuntimeError

    server = running.serve(application)
    client = running.connect(server, GET)
    eventually(lambda: bool(taker.taken) and server.open_connections == 1)
    taker.taken[0][0].close()
    server.released()
    assert read_all(client) == b""


def test_a_prefix_that_a_proxy_tells_of_is_taken_off(running: Running) -> None:
    seen: list[tuple[str, str]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        return echo(environ, start_response)

    server = running.serve(application)
    for header in (b"X-Script-Name: /push\r\n", b"X-Script-Name: //evil\r\n", b""):
        client = running.connect(server, b"GET /push/listen HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
        read_answer(client)
    assert seen == [("/push", "/listen"), ("", "/push/listen"), ("", "/push/listen")]


def test_the_first_of_several_moments_is_kept_whoever_comes_later_or_leaves() -> None:
    """Each is told at its own, in whatever order they came, and a wait that is over sets no timer for the others."""
    waits = Waits()
    told: list[str] = []
    began = monotonic()
    ours, theirs = socket.socketpair()

    def wait(name: str, seconds: float) -> None:
        watcher = gevent.get_hub().loop.io(ours.fileno(), 1)
        try:
            waits.until_ready(watcher, began + seconds)
            told.append(f"{name} is ready")
        except TimeoutError:
            told.append(name)
            assert monotonic() >= began + seconds
        finally:
            watcher.close()

    greenlets = [
        gevent.spawn(wait, *one) for one in (("third", 0.2), ("first", 0.05), ("fourth", 60.0), ("second", 0.1))
    ]
    gevent.joinall([greenlets[0], greenlets[1], greenlets[3]], timeout=PATIENCE_S)
    assert told == ["first", "second", "third"]
    theirs.send(b"x")
    gevent.joinall(greenlets, timeout=PATIENCE_S)
    assert told[3:] == ["fourth is ready"]
    ours.close()
    theirs.close()
