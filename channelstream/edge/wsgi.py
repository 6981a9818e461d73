"""The public port: client paths are answered here, and everything else by the REST app that is mounted behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from channelstream.addresses import AddressRules, client_scheme
from channelstream.config import Config
from channelstream.cors import Cors
from channelstream.edge.deflate import agreed
from channelstream.edge.events import RETRY_MS, EventClient
from channelstream.edge.frames import called, is_callback, retry
from channelstream.edge.link import Link
from channelstream.edge.longpoll import PollClient
from channelstream.edge.position import cursors_in
from channelstream.edge.websocket import DeflatingClient, WebSocketClient
from channelstream.errors import (
    BadCallback,
    BadHandshake,
    ClientError,
    ForeignPage,
    HttpsRequired,
    ShardAway,
    UnknownConnection,
    WrongMethod,
)
from channelstream.handshake import check_handshake
from channelstream.http_reader import Request
from channelstream.ids import ConnId, channel_key, conn_id_of, request_id_of, user_key
from channelstream.script_name import mounted
from channelstream.serving import REFUSED, Application, Environ, Handler
from channelstream.web.demo import demo_page
from channelstream.wire.messages import ConnectionState

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
Serve = Callable[[Environ, StartResponse], Iterable[bytes]]

JSON: Final = "application/json"
JAVASCRIPT: Final = "application/javascript"
HTML: Final = "text/html; charset=utf-8"

EVENT_HEADERS: Final = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Accel-Buffering", "no"),  # nginx would keep events until it has some kilobytes
)

METHODS: Final = "GET, OPTIONS"
"""Of every client path here. A HEAD would take messages and show none."""

STATUS: Final = {
    200: "200 OK",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    405: "405 Method Not Allowed",
    406: "406 Not Acceptable",
    426: "426 Upgrade Required",
    503: "503 Service Unavailable",
}


class PublicPort:
    """The WSGI application of an edge."""

    def __init__(self, link: Link, rest: Application, config: Config, new_uuid: Callable[[], str]) -> None:
        self._link: Final = link
        self._rest: Final = rest
        self._config: Final = config
        self._new_uuid: Final = new_uuid
        self._demo: Final = demo_page(config.demo_app_url) if config.demo else None
        self._cors: Final = Cors(config.allow_cors)
        self._trusted: Final = AddressRules(config.trusted_proxies, "trusted_proxies")
        self._clients: Final = {"/ws": self._no_websocket, "/listen": self._listen, "/events": self._events}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        serve = self._clients.get(path)
        if serve is not None:
            return self._client(serve, environ, start_response)
        if path == "/demo" and self._demo is not None and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._answer(environ, start_response, 200, self._demo, [("Content-Type", HTML)])
        return self._rest(environ, start_response)

    def _client(self, serve: Serve, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """A request to a client's path."""
        origin = environ.get("HTTP_ORIGIN")
        try:
            if REFUSED in environ:  # by `opens`
                raise environ.pop(REFUSED)
            self._check_https(environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ)
            if environ["REQUEST_METHOD"] == "OPTIONS":
                headers = [("Allow", METHODS), *self._cors.preflight(origin, METHODS)]
                return self._answer(environ, start_response, 200, b"", headers)
            self._check_origin(environ)
            return serve(environ, start_response)
        except BadHandshake as error:
            status, body, headers = error.status, error.body(), list(error.headers)
        except WrongMethod as error:
            status, body, headers = error.status, error.body(), [("Allow", METHODS)]
        except (ClientError, HttpsRequired) as error:
            status, body, headers = error.status, error.body(), []
        except ShardAway as error:
            status, body, headers = 503, {"error": str(error)}, [("Retry-After", "1")]
        return self._error(environ, start_response, status, body, [*headers, *self._cors.headers(origin)])

    # `remote` is the address that the connection comes from, `scheme` what it uses, `headers` are those of the request,
    # by their WSGI names.

    def _check_https(self, remote: str, scheme: str, headers: Mapping[str, Any]) -> None:
        if not self._config.enforce_https:
            return
        if client_scheme(remote, scheme, headers.get("HTTP_X_FORWARDED_PROTO"), self._trusted) != "https":
            raise HttpsRequired

    def _check_origin(self, headers: Mapping[str, Any]) -> None:
        """A page that may not read an answer must not get as far as taking a connection's messages."""
        origin = headers.get("HTTP_ORIGIN")
        if self._cors.is_foreign(origin, headers.get("HTTP_HOST")):
            raise ForeignPage(str(origin))

    # --- websocket ---

    def opens(self, request: Request, handler: Handler) -> bool:
        """A `serving.Opening`. Raises `BadHandshake`, `ClientError`, `HttpsRequired`, `ShardAway`."""
        headers = request.headers
        prefix = headers.get("HTTP_X_SCRIPT_NAME")
        path = request.path if prefix is None else mounted(prefix, request.path).path
        if path != "/ws" or request.method == "OPTIONS":
            return False
        self._check_https(handler.remote_address, "http", headers)
        self._check_origin(headers)
        check_handshake(request.method, request.version, headers)
        conn_id = _conn_id(request.query)
        self._link.take_then(conn_id, partial(self._taken, conn_id, headers, handler))
        return True

    def _taken(
        self, conn_id: ConnId, headers: Mapping[str, str], handler: Handler, state: ConnectionState | Exception
    ) -> None:
        """The connection's shard has answered."""
        if isinstance(state, Exception):
            handler.go_on(state)
            return
        extensions = agreed(headers.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")) if self._config.compression else None
        lines = f"X-Request-Id: {self._request_id(headers)}\r\n"
        if extensions is not None:
            lines += f"Sec-WebSocket-Extensions: {extensions}\r\n"
        try:
            sock, early = handler.accept_websocket(headers["HTTP_SEC_WEBSOCKET_KEY"], lines.encode())
        except Exception as error:
            self._link.give_back(conn_id, state)
            handler.go_on(error)
            return
        kind = WebSocketClient if extensions is None else DeflatingClient
        client = kind(conn_id, state.user, state.attachment, sock, self._link, handler.server)
        self._link.hold(client, state)
        if early:
            client.feed(early)

    def _no_websocket(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """What does not offer the upgrade is not shown to `opens`."""
        check_handshake(environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"], environ)
        raise RuntimeError("a websocket's opening that was not taken")

    # --- long-poll ---

    def _listen(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        _check_get(environ)
        conn_id = _conn_id(environ["QUERY_STRING"])
        callback = _callback(environ)
        state = self._link.take(conn_id)
        client = PollClient(conn_id, state.user, state.attachment, self._link)
        handler: Handler = environ["channelstream.handler"]
        handler.after_answer = client.over
        self._link.hold(client, state)
        body = client.answer(self._config.wake_connections_after)
        kind = JSON if callback is None else JAVASCRIPT
        body = body if callback is None else called(callback, body)
        headers = [("Content-Type", kind), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
        headers += self._cors.headers(environ.get("HTTP_ORIGIN"))
        return self._answer(environ, start_response, 200, body, headers)

    # --- server-sent events ---

    def _events(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        _check_get(environ)
        conn_id = _conn_id(environ["QUERY_STRING"])
        state = self._link.take(conn_id, attach=False)
        handler: Handler = environ["channelstream.handler"]
        cors = self._cors.headers(environ.get("HTTP_ORIGIN"))
        headers = [*EVENT_HEADERS, *cors, ("X-Request-Id", self._request_id(environ))]
        try:
            sock = handler.accept_stream(headers, retry(RETRY_MS), self._config.silence_timeout)
        except BaseException:
            self._link.give_back(conn_id, state)
            raise
        client = EventClient(conn_id, state.user, state.attachment, sock, self._link, handler.server)
        topics = [user_key(state.user), *map(channel_key, state.channels)]
        self._link.hold(client, state, cursors_in(environ.get("HTTP_LAST_EVENT_ID", ""), topics))
        return ()

    # --- answers ---

    def _request_id(self, headers: Mapping[str, Any]) -> str:
        return request_id_of(headers.get("HTTP_X_REQUEST_ID")) or self._new_uuid()

    def _error(
        self, environ: Environ, start_response: StartResponse, status: int, body: object, headers: Headers
    ) -> Iterable[bytes]:
        return self._answer(
            environ, start_response, status, msgspec.json.encode(body), [("Content-Type", JSON), *headers]
        )

    def _answer(
        self, environ: Environ, start_response: StartResponse, status: int, body: bytes, headers: Headers
    ) -> Iterable[bytes]:
        start_response(STATUS[status], [*headers, ("X-Request-Id", self._request_id(environ))])
        return (body,)


def _value(query: str, name: str) -> str | None:
    """The first value of a query's parameter; None where it is not given. PERF: `urllib.parse.parse_qs` takes ten times
    as long, and most queries are a `conn_id` and nothing else."""
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name or unquote_plus(key) == name:
            return unquote_plus(value) if "%" in value or "+" in value else value
    return None


def _check_get(environ: Environ) -> None:
    """Raises `WrongMethod`."""
    if environ["REQUEST_METHOD"] != "GET":
        raise WrongMethod


def _callback(environ: Environ) -> str | None:
    """The `callback` of a JSONP poll; None for a plain one. Raises `BadCallback`."""
    name = _value(environ["QUERY_STRING"], "callback")
    if name is not None and not is_callback(name):
        raise BadCallback
    return name


def _conn_id(query: str) -> ConnId:
    """The `conn_id` of a query. Raises `UnknownConnection` where it is missing or malformed."""
    conn_id = conn_id_of(_value(query, "conn_id") or "")
    if conn_id is None:
        raise UnknownConnection
    return conn_id
