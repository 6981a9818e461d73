"""The demo's backend: what it lets the page do, and that its calls are signed."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from itsdangerous import TimestampSigner

DEMO = Path(__file__).parents[2] / "demo" / "app.py"
PAGE = "http://127.0.0.1:8000"


class Called(NamedTuple):
    """A request that channelstream got."""

    path: str
    signed: str
    body: Any


class Api(HTTPServer):
    """Stands for channelstream: remembers what it was called with, and answers as it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ApiHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.called: list[Called] = []
        self.answer: object = {"conn_id": "c-1", "channels": ["demo"]}
        self.status = 200


class ApiHandler(BaseHTTPRequestHandler):
    """One request."""

    server: Api

    def do_POST(self) -> None:
        """Remember and answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        signature = self.headers["X-Channelstream-Secret"]
        signed = TimestampSigner("s3").unsign(signature, max_age=60).decode()
        self.server.called.append(Called(self.path, signed, body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.answer).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """The file, which is in no package."""
    spec = importlib.util.spec_from_file_location("demo_app", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def api() -> Iterator[Api]:
    """Something that answers like channelstream."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Answer(NamedTuple):
    """What the page gets."""

    status: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Page:
    """Calls the application as the page does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def ask(self, path: str, body: bytes = b"", method: str = "POST") -> Answer:
        """A request."""
        told: list[Any] = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
        answer = b"".join(self._app(environ, lambda status, headers: told.append((status, dict(headers)))))
        ((status, headers),) = told
        return Answer(status, headers, answer)

    def say(self, **body: object) -> Answer:
        """What the page's form does."""
        return self.ask("/say", json.dumps(body).encode())


@pytest.fixture
def page(demo: ModuleType, api: Api) -> Page:
    """The page's side."""
    return Page(demo.make_app(api.url, "s3", PAGE))


def test_connect_signs_its_path_and_gives_the_id_alone(page: Page, api: Api) -> None:
    answer = page.ask("/connect", b'{"username": "ann"}')

    assert (answer.status, answer.json) == ("200 OK", {"conn_id": "c-1"})
    (called,) = api.called
    assert (called.path, called.signed) == ("/connect", "/connect")
    assert (called.body["username"], called.body["channels"]) == ("ann", ["demo"])
    assert called.body["channel_configs"] == {
        "demo": {"notify_presence": True, "store_history": True, "history_size": 20}
    }


def test_say_publishes_to_the_demos_channel_only(page: Page, api: Api) -> None:
    api.answer = [{"uuid": "m-1"}]

    answer = page.say(username="ann", text="hi", channel="elsewhere", pm_users=["bob"])

    assert answer.json == [{"uuid": "m-1"}]
    (called,) = api.called
    assert (called.path, called.signed) == ("/message", "/message")
    assert called.body == [{"user": "ann", "channel": "demo", "message": {"text": "hi"}}]


def test_a_long_text_is_cut(page: Page, api: Api) -> None:
    page.say(username="ann", text="x" * 5000)

    assert len(api.called[0].body[0]["message"]["text"]) == 2000


def test_only_the_page_may_read_the_answers(page: Page) -> None:
    for answer in (page.ask("/say", method="OPTIONS"), page.say(username="ann", text="hi"), page.ask("/nowhere")):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE


def test_a_browser_may_ask_first(page: Page, api: Api) -> None:
    answer = page.ask("/say", method="OPTIONS")

    assert (answer.status, answer.body) == ("204 No Content", b"")
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert api.called == []


@pytest.mark.parametrize(("path", "method"), [("/nowhere", "POST"), ("/message", "POST"), ("/say", "GET")])
def test_there_is_nothing_else(page: Page, api: Api, path: str, method: str) -> None:
    answer = page.ask(path, b"{}", method)

    assert (answer.status, answer.json) == ("404 Not Found", {"error": "not found"})
    assert api.called == []


@pytest.mark.parametrize("body", [b"", b"nope", b"[]", b'"x"', b"{}", b'{"username": "ann"}', b"\xff"])
def test_what_is_no_question_is_refused(page: Page, api: Api, body: bytes) -> None:
    answer = page.ask("/say", body)

    assert answer.status == "400 Bad Request"
    assert answer.json["error"]
    assert api.called == []


def test_a_refusal_of_channelstream_is_told(page: Page, api: Api) -> None:
    api.status = 422

    answer = page.say(username="", text="hi")

    assert answer.status == "502 Bad Gateway"
    assert "422" in answer.json["error"]


def test_a_channelstream_that_is_away_is_told(demo: ModuleType) -> None:
    with Api() as gone:
        url = gone.url
    page = Page(demo.make_app(url, "s3", PAGE))

    answer = page.say(username="ann", text="hi")

    assert answer.status == "502 Bad Gateway"
    assert answer.json["error"].startswith("channelstream does not answer")
