"""The public port: client paths are answered here, and everything else by the REST app that is mounted behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
from channelstream.ids import ConnId, channel_key, conn_id_of, request_id_of, user_key
from channelstream.serving import Application, Environ, Handler
from channelstream.web.demo import demo_page

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
        self._clients: Final = {"/ws": self._websocket, "/listen": self._listen, "/events": self._events}

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
            self._check_https(environ)
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

    def _check_https(self, environ: Environ) -> None:
        forwarded = environ.get("HTTP_X_FORWARDED_PROTO")
        scheme = client_scheme(environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], forwarded, self._trusted)
        if self._config.enforce_https and scheme != "https":
            raise HttpsRequired

    def _check_origin(self, environ: Environ) -> None:
        """A page that may not read an answer must not get as far as taking a connection's messages."""
        origin = environ.get("HTTP_ORIGIN")
        if self._cors.is_foreign(origin, environ.get("HTTP_HOST")):
            raise ForeignPage(str(origin))

    # --- websocket ---

    def _websocket(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        check_handshake(environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"], environ)
        conn_id = _conn_id(environ)
        state = self._link.take(conn_id)
        handler: Handler = environ["channelstream.handler"]
        extensions = agreed(environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")) if self._config.compression else None
        lines = f"X-Request-Id: {self._request_id(environ)}\r\n"
        if extensions is not None:
            lines += f"Sec-WebSocket-Extensions: {extensions}\r\n"
        try:
            sock, early = handler.accept_websocket(environ["HTTP_SEC_WEBSOCKET_KEY"], lines.encode())
        except BaseException:
            self._link.give_back(conn_id, state)
            raise
        kind = WebSocketClient if extensions is None else DeflatingClient
        client = kind(conn_id, state.user, state.attachment, sock, self._link, handler.server)
        self._link.hold(client, state)
        if early:
            client.feed(early)
        return ()

    # --- long-poll ---

    def _listen(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        _check_get(environ)
        conn_id = _conn_id(environ)
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
        conn_id = _conn_id(environ)
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


def _query(environ: Environ, name: str) -> str | None:
    """The first value of a query parameter; None where it is not given. PERF: `urllib.parse.parse_qs` takes ten times
    as long, and most queries are a `conn_id` and nothing else."""
    for part in environ.get("QUERY_STRING", "").split("&"):
        key, _, value = part.partition("=")
        if key == name or unquote_plus(key) == name:
            return unquote_plus(value)
    return None


def _check_get(environ: Environ) -> None:
    """Raises `WrongMethod`."""
    if environ["REQUEST_METHOD"] != "GET":
        raise WrongMethod


def _callback(environ: Environ) -> str | None:
    """The `callback` of a JSONP poll; None for a plain one. Raises `BadCallback`."""
    name = _query(environ, "callback")
    if name is not None and not is_callback(name):
        raise BadCallback
    return name


def _conn_id(environ: Environ) -> ConnId:
    """The `conn_id` of the query. Raises `UnknownConnection` where it is missing or malformed."""
    conn_id = conn_id_of(_query(environ, "conn_id") or "")
    if conn_id is None:
        raise UnknownConnection
    return conn_id
