"""A backend's calls, against a server that answers as a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from itsdangerous import TimestampSigner

from bench.calls import Backend, Refused


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    closes = False
    """After each answer."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        TimestampSigner("secret").unsign(self.headers["X-Channelstream-Secret"], max_age=5)
        answer = json.dumps({"path": self.path, "body": body}).encode()
        self.send_response(body if isinstance(body, int) else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.closes

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made = Backend(("127.0.0.1", server.server_port), "secret")
    yield made
    made.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_signed_calls_one_after_another(backend: Backend) -> None:
    for text in ("one", "x" * 100_000):
        assert backend.call("/message", text) == {"path": "/message", "body": text}


def test_a_refusal_is_raised_with_what_was_said(backend: Backend) -> None:
    assert backend.call("/message", 202)["body"] == 202
    with pytest.raises(Refused, match=r"HTTP/1.1 422 .*/message"):
        backend.call("/message", 422)


def test_where_a_server_may_have_closed_an_idle_connection_there_is_another_one(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "closes", True)
    monkeypatch.setattr("bench.calls.IDLE_S", 0.0)
    for _ in range(3):
        assert backend.call("/x", 200)["body"] == 200
    assert len(list(backend.send_all("/x", [("name", b"200")] * 7, 2))) == 7


def test_many_at_once_are_all_answered(backend: Backend) -> None:
    bodies = [(f"number {number}", b"%d" % 200) for number in range(20)]
    assert sorted(backend.send_all("/x", iter(bodies), 3)) == sorted(name for name, _ in bodies)
    assert list(backend.send_all("/x", [], 3)) == []
    with pytest.raises(Refused):
        list(backend.send_all("/x", [("no", b"500")], 3))
