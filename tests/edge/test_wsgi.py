"""The public port: which path is whose, and what refusals look like. No socket but for a websocket that is taken."""

from __future__ import annotations

import _socket
import json
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import gevent
import pytest

from channelstream.config import Config
from channelstream.edge.core import Held
from channelstream.edge.events import EventClient
from channelstream.edge.liveness import Wheel
from channelstream.edge.longpoll import PollClient
from channelstream.edge.outbox import Mark, Ready
from channelstream.edge.position import Position
from channelstream.edge.readers import Readers
from channelstream.edge.stream import StreamClient
from channelstream.edge.websocket import DeflatingClient, WebSocketClient
from channelstream.edge.wsgi import PublicPort, _value
from channelstream.errors import BadHandshake, ChannelstreamError, ClientGone, ShardAway, UnknownConnection
from channelstream.http_reader import Request
from channelstream.serving import REFUSED, Environ
from channelstream.wire.messages import ConnectionState, TopicCursor

CONN_ID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
REMOTE = "192.0.2.7"
STATE = ConnectionState("ann", ["a"], [], "edge-0:i", 3, 0.0)

HANDSHAKE = {
    "HTTP_HOST": "chat.example:8000",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}


class StubLink:
    """An edge that knows one connection. `fails`: what `take` raises. `gives`: what a client gets once it is held."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = gevent.get_hub().loop
        self.readers = Readers(self.loop)
        self.wheel: Wheel[Any] = Wheel(config.ping_interval, config.silence_timeout)
        self.fails: ChannelstreamError | None = None
        self.gives: list[Ready] = []
        self.taken: list[str] = []
        self.attaches = False
        self.held: list[Held] = []
        self.given_back: list[tuple[str, ConnectionState]] = []
        self.positions: dict[str, TopicCursor] = {}
        self.released: list[tuple[Held, bool, list[Mark]]] = []

    def take(self, conn_id: str, attach: bool = True) -> ConnectionState:
        self.taken.append(conn_id)
        self.attaches = attach
        if self.fails is not None:
            raise self.fails
        return STATE

    def take_then(self, conn_id: str, then: Callable[[Any], None]) -> None:
        try:
            state: Any = self.take(conn_id)
        except ChannelstreamError as error:
            state = error
        then(state)

    def hold(self, client: Held, state: ConnectionState, positions: Mapping[str, TopicCursor] | None = None) -> None:
        assert state is STATE
        self.held.append(client)
        self.positions = dict(positions or {})
        if self.gives:
            client.deliver(self.gives)

    def give_back(self, conn_id: str, state: ConnectionState) -> None:
        self.given_back.append((conn_id, state))

    def release(self, client: Held, closed: bool, unsent: Iterable[Mark] = ()) -> None:
        self.released.append((client, closed, list(unsent)))

    def fell_behind(self, client: Held) -> None: ...

    def caught_up(self, client: Held) -> None: ...

    def is_closed(self, client: Held) -> None: ...


class StubHandler:
    """What the server hands to an application beside the request."""

    def __init__(self, early: bytes = b"", fails: Exception | None = None) -> None:
        self.server = self
        self.after_answer: Callable[[bool], None] | None = None
        self.early = early
        self.fails = fails
        self.released_calls = 0
        self.stream_headers: dict[str, str] = {}
        self.upgrade_lines: list[bytes] = []
        self.stream_began = b""
        self.unacknowledged_s = 0.0
        self.theirs: socket.socket | None = None
        self.remote_address = REMOTE
        self.refused: Exception | None = None

    def go_on(self, refused: Exception) -> None:
        self.refused = refused

    def accept_stream(self, headers: list[tuple[str, str]], first: bytes, unacknowledged_s: float) -> _socket.socket:
        self.stream_headers = dict(headers)
        self.stream_began = first
        self.unacknowledged_s = unacknowledged_s
        return self.accept_websocket()[0]

    def accept_websocket(self, key: str = "", lines: bytes = b"") -> tuple[_socket.socket, bytes]:
        self.upgrade_lines = lines.split(b"\r\n")
        if self.fails is not None:
            raise self.fails
        ours, self.theirs = socket.socketpair()
        taken = _socket.socket(ours.family, ours.type, ours.proto, fileno=ours.detach())
        taken.setblocking(False)
        return taken, self.early

    def released(self) -> None:
        self.released_calls += 1


class Answer:
    """What came back."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = dict(headers)
        self.body = body

    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)


class Port:
    """A public port, asked by method and path."""

    def __init__(self, config: Config) -> None:
        self.link = StubLink(config)
        self.handler = StubHandler()
        self.app = PublicPort(self.link, self._rest, config, lambda: "made-id")  # type: ignore[arg-type]

    def _rest(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("X-From", "rest")])
        return [environ["PATH_INFO"].encode()]

    def ask(self, path: str, query: str = "", method: str = "GET", **headers: str) -> Answer:
        """A request, as the server shows it to the port."""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": REMOTE,
            "wsgi.url_scheme": "http",
            "channelstream.handler": self.handler,
            **headers,
        }
        if "HTTP_UPGRADE" in headers:
            request = Request(method, path, query, environ["SERVER_PROTOCOL"], headers, True)
            try:
                taken, refused = self.app.opens(request, self.handler), self.handler.refused  # type: ignore[arg-type]
            except Exception as error:
                taken, refused = False, error
            if refused is not None:
                environ[REFUSED] = refused
            elif taken:
                return Answer("taken", [], b"")
        answered: list[Any] = []
        body = self.app(environ, lambda status, headers: answered.extend((status, headers)))
        status, answer_headers = answered or ("taken", [])
        return Answer(status, answer_headers, b"".join(body))

    def open(self, query: str = f"conn_id={CONN_ID}", **environ: str) -> Answer:
        """A websocket's handshake."""
        return self.ask("/ws", query, **{**HANDSHAKE, **environ})

    def close(self) -> None:
        for client in self.link.held:
            if isinstance(client, StreamClient):
                client.cut()
        if self.handler.theirs is not None:
            self.handler.theirs.close()
        self.link.readers.close()


@pytest.fixture
def make_port(make_config: Callable[..., Config]) -> Iterator[Callable[..., Port]]:
    made: list[Port] = []

    def make(**flags: str) -> Port:
        made.append(Port(make_config(**{"wake_connections_after": "1ms", **flags})))
        return made[-1]

    yield make
    for port in made:
        port.close()


@pytest.fixture
def port(make_port: Callable[..., Port]) -> Port:
    return make_port()


# --- whose path it is ---


@pytest.mark.parametrize("path", ["/", "/message", "/ws/", "/wss", "/listen/x", "/LISTEN", "/disconnect", "/demo/", ""])
def test_everything_else_is_the_rest_apps(port: Port, path: str) -> None:
    answer = port.ask(path, f"conn_id={CONN_ID}")
    assert (answer.headers, answer.body) == ({"X-From": "rest"}, path.encode())
    assert port.link.taken == []


def test_the_demo_where_it_is_on(make_port: Callable[..., Port]) -> None:
    answer = make_port(demo="true", demo_app_url="http://backend.example/").ask("/demo")
    assert (answer.status, answer.headers["Content-Type"]) == ("200 OK", "text/html; charset=utf-8")
    assert b"http://backend.example" in answer.body


def test_the_demo_where_it_is_off(make_port: Callable[..., Port]) -> None:
    assert make_port(demo="false").ask("/demo").headers == {"X-From": "rest"}


# --- who a client is ---


@pytest.mark.parametrize(
    "query",
    [
        "",
        "conn_id",
        "conn_id=",
        "a=1&b&&a=2&=3&conn_id=x+y%26z%FF&conn_id=other",
        "con%6E_id=%C3%A9",
        "conn_id=a=b",
        "xconn_id=1&conn_idx=2;conn_id=3",
        "conn_id=%",
        "+conn_id=1",
    ],
)
def test_a_query_is_read_as_the_standard_library_would(query: str) -> None:
    for name in ("conn_id", "a", "b"):
        values = parse_qs(query, keep_blank_values=True).get(name)
        assert _value(query, name) == (None if values is None else values[0])


@pytest.mark.parametrize("path", ["/ws", "/listen"])
@pytest.mark.parametrize("query", ["", "conn_id=", "conn_id=nonsense", "other=1", f"conn_id={CONN_ID}0", "conn_id=%ff"])
def test_a_malformed_conn_id_is_unknown(port: Port, path: str, query: str) -> None:
    answer = port.ask(path, query, **HANDSHAKE)
    assert answer.status == "401 Unauthorized"
    assert answer.json() == {"error": "unknown connection"}
    assert port.link.taken == []


@pytest.mark.parametrize("path", ["/ws", "/listen"])
def test_an_unknown_conn_id_is_refused(port: Port, path: str) -> None:
    port.link.fails = UnknownConnection()
    answer = port.ask(path, f"conn_id={CONN_ID}", **HANDSHAKE)
    assert (answer.status, answer.json()) == ("401 Unauthorized", {"error": "unknown connection"})
    assert port.link.held == []


@pytest.mark.parametrize("path", ["/ws", "/listen"])
def test_a_shard_that_is_away_is_worth_another_try(port: Port, path: str) -> None:
    port.link.fails = ShardAway(1, "no answer within the deadline")
    answer = port.ask(path, f"conn_id={CONN_ID}", **HANDSHAKE)
    assert answer.status == "503 Service Unavailable"
    assert answer.headers["Retry-After"] == "1"
    assert "shard 1" in answer.json()["error"]


@pytest.mark.parametrize("given", [CONN_ID, CONN_ID.upper(), CONN_ID.replace("-", ""), f"%7B{CONN_ID}%7D"])
def test_a_conn_id_has_one_form_inside(port: Port, given: str) -> None:
    port.ask("/listen", f"conn_id={given}")
    assert port.link.taken == [str(uuid.UUID(CONN_ID))]


@pytest.mark.parametrize(("given", "told"), [(None, "made-id"), ("abc-1", "abc-1"), ("a b\r\nc", "made-id")])
def test_every_answer_has_a_request_id(port: Port, given: str | None, told: str) -> None:
    headers = {} if given is None else {"HTTP_X_REQUEST_ID": given}
    assert port.ask("/listen", f"conn_id={CONN_ID}", **headers).headers["X-Request-Id"] == told
    assert port.ask("/ws", **headers).headers["X-Request-Id"] == told


# --- websocket ---


@pytest.mark.parametrize(
    ("change", "status", "header"),
    [
        ({"REQUEST_METHOD": "POST"}, "405 Method Not Allowed", ("Allow", "GET, OPTIONS")),
        ({"HTTP_UPGRADE": "h2c"}, "426 Upgrade Required", ("Upgrade", "websocket")),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, "426 Upgrade Required", ("Sec-WebSocket-Version", "13")),
        ({"HTTP_CONNECTION": "close"}, "400 Bad Request", None),
        ({"HTTP_SEC_WEBSOCKET_KEY": "short"}, "400 Bad Request", None),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "400 Bad Request", None),
    ],
)
def test_a_bad_handshake_takes_nothing(
    port: Port, change: dict[str, str], status: str, header: tuple[str, str] | None
) -> None:
    method = change.pop("REQUEST_METHOD", "GET")
    answer = port.ask("/ws", f"conn_id={CONN_ID}", method, **{**HANDSHAKE, **change})
    assert answer.status == status
    assert set(answer.json()) == {"error"}
    assert header is None or answer.headers[header[0]] == header[1]
    assert port.link.taken == []


ORIGINS = [
    ("", None, True),
    ("", "https://anywhere.example", True),
    ("", "null", True),
    ("https://a.example", None, True),
    ("https://a.example", "https://a.example", True),
    ("https://b.example, https://a.example", "https://a.example", True),
    ("https://a.example", "http://chat.example:8000", True),
    ("https://a.example", "https://chat.example:8000", True),
    ("https://a.example", "http://a.example", False),
    ("https://a.example", "https://a.example.evil.example", False),
    ("https://a.example", "https://a.example:444", False),
    ("https://a.example", "https://chat.example", False),
    ("https://a.example", "https://xchat.example:8000", False),
    ("https://a.example", "null", False),
    ("https://a.example", "", False),
]


@pytest.mark.parametrize(("allowed", "origin", "taken"), ORIGINS)
def test_origins(make_port: Callable[..., Port], allowed: str, origin: str | None, taken: bool) -> None:
    port = make_port(**({"allow_cors": allowed} if allowed else {}))
    answer = port.open(**({} if origin is None else {"HTTP_ORIGIN": origin}))
    if taken:
        assert (answer.status, len(port.link.held)) == ("taken", 1)
    else:
        assert (answer.status, port.link.taken) == ("403 Forbidden", [])
        assert "allow_cors" in answer.json()["error"]


def test_a_websocket_is_taken_and_held(port: Port) -> None:
    answer = port.open()
    assert (answer.status, answer.body) == ("taken", b"")
    client = port.link.held[0]
    assert isinstance(client, WebSocketClient)
    assert (client.conn_id, client.user, client.attachment) == (CONN_ID, "ann", 3)
    assert port.handler.upgrade_lines == [b"X-Request-Id: made-id", b""]
    client.cut()
    assert port.handler.released_calls == 1


@pytest.mark.parametrize(("path", "prefix", "taken"), [("/push/ws", "/push", True), ("/push/ws", "/p", False)])
def test_a_websocket_behind_a_prefix(port: Port, path: str, prefix: str, taken: bool) -> None:
    port.ask(path, f"conn_id={CONN_ID}", HTTP_X_SCRIPT_NAME=prefix, **HANDSHAKE)
    assert len(port.link.held) == taken


BROWSERS_OFFER = "permessage-deflate; client_max_window_bits"


@pytest.mark.parametrize(
    ("compression", "offer", "agreed"),
    [
        ("true", BROWSERS_OFFER, True),
        ("true", "x-other", False),
        ("true", None, False),
        ("false", BROWSERS_OFFER, False),
    ],
)
def test_compression_is_agreed_to_where_it_is_on_and_offered(
    make_port: Callable[..., Port], compression: str, offer: str | None, agreed: bool
) -> None:
    port = make_port(compression=compression)
    port.open(**({} if offer is None else {"HTTP_SEC_WEBSOCKET_EXTENSIONS": offer}))
    client = port.link.held[0]
    assert type(client) is (DeflatingClient if agreed else WebSocketClient)
    assert any(line.startswith(b"Sec-WebSocket-Extensions: ") for line in port.handler.upgrade_lines) == agreed
    client.cut()


def test_bytes_behind_the_handshake_are_not_lost(port: Port) -> None:
    port.handler.early = b"\x89\x80\0\0\0\0"  # a ping
    port.open()
    assert port.handler.theirs is not None
    assert port.handler.theirs.recv(100) == b"\x8a\x00"


@pytest.mark.parametrize("error", [ClientGone("lost"), BadHandshake("no"), RuntimeError("ours")])
def test_a_client_that_is_gone_before_it_is_held_is_given_back(port: Port, error: Exception) -> None:
    port.handler.fails = error
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            port.open()
    else:
        assert port.open().status == "400 Bad Request"
    assert port.link.given_back == [(CONN_ID, STATE)]
    assert port.link.held == []


# --- long-poll ---


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_a_get_polls(port: Port, method: str) -> None:
    """A HEAD has no body: it would take messages away and show none."""
    answer = port.ask("/listen", f"conn_id={CONN_ID}", method)
    assert (answer.status, answer.headers["Allow"]) == ("405 Method Not Allowed", "GET, OPTIONS")
    assert port.link.taken == []


def test_a_poll_without_news_is_an_empty_list(port: Port) -> None:
    answer = port.ask("/listen", f"conn_id={CONN_ID}")
    assert (answer.status, answer.json()) == ("200 OK", [])
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_poll_answers_and_is_over_when_the_answer_is_out(port: Port) -> None:
    port.link.gives = [Ready(b"no frame", [b'{"n":1}', b'{"n":2}'], Mark("c/a", 4))]
    assert port.ask("/listen", f"conn_id={CONN_ID}").json() == [{"n": 1}, {"n": 2}]
    (client,) = port.link.held
    assert isinstance(client, PollClient)
    assert port.link.released == []
    assert port.handler.after_answer is not None
    port.handler.after_answer(False)
    assert port.link.released == [(client, False, [Mark("c/a", 4)])]


# --- pages from elsewhere ---

PAGE = "https://a.example"


def test_every_page_may_read_an_answer_where_nobody_says_otherwise(port: Port) -> None:
    answer = port.ask("/listen", f"conn_id={CONN_ID}", HTTP_ORIGIN="https://anywhere.example")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_listed_page_may_read_answers_and_errors(make_port: Callable[..., Port]) -> None:
    port = make_port(allow_cors=PAGE)
    for query, status in ((f"conn_id={CONN_ID}", "200 OK"), ("conn_id=x", "401 Unauthorized")):
        answer = port.ask("/listen", query, HTTP_ORIGIN=PAGE)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
        assert answer.headers["Vary"] == "Origin"


def test_a_foreign_page_takes_no_messages(make_port: Callable[..., Port]) -> None:
    port = make_port(allow_cors=PAGE)
    answer = port.ask("/listen", f"conn_id={CONN_ID}", HTTP_ORIGIN="https://b.example")
    assert answer.status == "403 Forbidden"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert port.link.taken == []


@pytest.mark.parametrize("path", ["/ws", "/listen", "/events"])
def test_a_preflight_is_answered_and_takes_nothing(make_port: Callable[..., Port], path: str) -> None:
    port = make_port(allow_cors=PAGE)
    asked = {"HTTP_ORIGIN": PAGE, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}
    answer = port.ask(path, f"conn_id={CONN_ID}", "OPTIONS", **asked)
    assert (answer.status, answer.body) == ("200 OK", b"")
    assert answer.headers["Access-Control-Allow-Methods"] == answer.headers["Allow"] == "GET, OPTIONS"
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    foreign = port.ask(path, "", "OPTIONS", **{**asked, "HTTP_ORIGIN": "https://b.example"})
    assert (foreign.status, "Access-Control-Allow-Origin" in foreign.headers) == ("200 OK", False)
    assert port.link.taken == []


# --- https ---


@pytest.mark.parametrize(
    ("forwarded", "trusted", "status"),
    [
        (None, "192.0.2.7", "406 Not Acceptable"),
        ("https", "192.0.2.7", "200 OK"),
        ("https", "", "406 Not Acceptable"),
        ("https, http", "192.0.2.7", "406 Not Acceptable"),
    ],
)
def test_clients_in_the_clear_where_https_is_enforced(
    make_port: Callable[..., Port], forwarded: str | None, trusted: str, status: str
) -> None:
    port = make_port(enforce_https="true", trusted_proxies=trusted)
    told = {} if forwarded is None else {"HTTP_X_FORWARDED_PROTO": forwarded}
    assert port.ask("/listen", f"conn_id={CONN_ID}", **told).status == status
    assert port.open(**told).status in (status, "taken")
    assert len(port.link.taken) == (2 if status == "200 OK" else 0)


# --- server-sent events ---


def test_a_stream_of_events_is_taken_and_held(make_port: Callable[..., Port]) -> None:
    port = make_port(allow_cors=PAGE, silence_timeout="40s")
    answer = port.ask("/events", f"conn_id={CONN_ID}", HTTP_ORIGIN=PAGE, HTTP_X_REQUEST_ID="r-1")
    assert (answer.status, answer.body) == ("taken", b"")
    headers = port.handler.stream_headers
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("text/event-stream", "no-store")
    assert (headers["Access-Control-Allow-Origin"], headers["X-Request-Id"]) == (PAGE, "r-1")
    assert port.handler.unacknowledged_s == 40
    assert port.handler.stream_began == b"retry: 1000\n\n"
    client = port.link.held[0]
    assert isinstance(client, EventClient)
    assert (client.conn_id, client.user, client.attachment) == (CONN_ID, "ann", 3)
    assert not port.link.attaches, "it says itself how far it was served"
    client.cut()
    assert port.handler.released_calls == 1


def test_a_browser_that_comes_back_goes_on_from_where_it_was(port: Port) -> None:
    was = Position()
    for cursor in (TopicCursor("c/a", "e", 4), TopicCursor("u/ann", "f", 2), TopicCursor("c/other", "e", 9)):
        was.advance(cursor)
    port.ask("/events", f"conn_id={CONN_ID}", HTTP_LAST_EVENT_ID=str(was))
    assert {(one.topic, one.seq, one.claimed) for one in port.link.positions.values()} == {
        ("c/a", 4, True),
        ("u/ann", 2, True),
    }


@pytest.mark.parametrize("error", [ClientGone("lost"), RuntimeError("ours")])
def test_a_stream_whose_client_is_gone_before_it_is_held_is_given_back(port: Port, error: Exception) -> None:
    port.handler.fails = error
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            port.ask("/events", f"conn_id={CONN_ID}")
    else:
        port.ask("/events", f"conn_id={CONN_ID}")
    assert port.link.given_back == [(CONN_ID, STATE)]
    assert port.link.held == []


@pytest.mark.parametrize(("query", "status"), [("", "401 Unauthorized"), ("conn_id=x", "401 Unauthorized")])
def test_a_stream_for_nobody_is_refused(port: Port, query: str, status: str) -> None:
    assert port.ask("/events", query).status == status
    assert port.ask("/events", f"conn_id={CONN_ID}", "HEAD").status == "405 Method Not Allowed"
    assert port.link.taken == []
