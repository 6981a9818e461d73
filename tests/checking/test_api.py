"""A backend's calls, against a server of a few lines."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from itsdangerous import TimestampSigner

from channelstream.checking.api import Api
from channelstream.checking.history import NO_ANSWER


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body), self.client_address))
        self.answer()

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers), None, self.client_address))
        self.answer()

    def answer(self) -> None:
        status, content = self.server.answers.pop(0)
        if status is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    made.seen, made.answers = [], []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def api(server) -> Iterator[Api]:
    made = Api(server.server_address[1], "secret", deadline_s=5)
    yield made
    made.close()


def test_a_call_is_signed_for_its_path(server, api):
    server.answers.append((200, b'{"conn_id": "x"}'))
    reply = api.call("/connect", {"username": "ann"})
    assert (reply.ok, reply.json(), reply.reason) == (True, {"conn_id": "x"}, "")
    ((path, headers, body, _),) = server.seen
    assert (path, body) == ("/connect", {"username": "ann"})
    assert TimestampSigner("secret").unsign(headers["X-Channelstream-Secret"], max_age=60) == b"/connect"


def test_the_connection_is_kept(server, api):
    server.answers += [(200, b"[]"), (200, b"[]")]
    api.call("/message", [])
    api.get("/healthz")
    first, second = server.seen
    assert first[3] == second[3]
    assert "X-Channelstream-Secret" not in second[1]


def test_what_an_error_says_is_kept_short(server, api):
    server.answers.append((507, b"x" * 5000))
    reply = api.call("/message", [])
    assert (reply.ok, reply.status, reply.reason) == (False, 507, "x" * 200)


def test_a_connection_that_breaks_is_no_answer_and_the_next_call_makes_another(server, api):
    server.answers += [(None, b""), (200, b"[]")]
    reply = api.call("/message", [])
    assert (reply.ok, reply.status) == (False, NO_ANSWER)
    assert reply.reason
    assert api.call("/message", []).ok


def test_nobody_there_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    reply = Api(port, "secret").get("/healthz")
    assert (reply.status, "Refused" in reply.reason) == (NO_ANSWER, True)


def test_silence_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reply = Api(silent.getsockname()[1], "secret", deadline_s=0.05).get("/healthz")
    assert (reply.status, "timed out" in reply.reason) == (NO_ANSWER, True)
