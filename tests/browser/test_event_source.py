"""A browser's own EventSource: it comes back by itself, and what it missed meanwhile it gets without a line of ours."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

LISTEN = """(url) => {
    window.seen = [];
    window.closes = [];
    window.opened = 0;
    window.source = new EventSource(url);
    source.onopen = () => { opened += 1; };
    source.onmessage = (event) => { seen.push(...JSON.parse(event.data)); };
    source.addEventListener("close", (event) => { closes.push(JSON.parse(event.data).code); });
}"""


@pytest.fixture(scope="module")
def helpers() -> ModuleType:
    """What the group's own tests start a group with."""
    path = Path(__file__).parents[1] / "group" / "conftest.py"
    spec = importlib.util.spec_from_file_location("group_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def group(helpers: Any) -> Iterator[Any]:
    with helpers.running(shards=2, edges=2, routers=1) as running:
        yield running


class EmptyPage(BaseHTTPRequestHandler):
    """A site of its own: what its page reads from the server, it reads by CORS."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>app</title>")

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def page(browser: Browser, helpers: Any) -> Iterator[Page]:
    page = browser.new_context().new_page()
    page.set_default_timeout(helpers.PATIENCE_S * 1000)
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{site.server_port}/")
        yield page
        site.shutdown()


def holder_of_a_client(group: Any) -> int | None:
    """The pid of the edge that holds one; its beats tell, once a second."""
    return next((one["pid"] for one in group.health() if one["role"] == "edge" and one["connections"]), None)


def texts(page: Page) -> list[Any]:
    shown: list[Any] = page.evaluate("seen.map((one) => one.message.text)")
    return shown


def test_a_browser_misses_nothing_when_its_edge_dies(group: Any, page: Page, helpers: Any) -> None:
    conn_id = group.connect("joe", "a", "b")
    page.evaluate(LISTEN, f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}")
    page.wait_for_function("opened == 1")
    group.say("a", "before")
    page.wait_for_function("seen.length == 1")
    os.kill(helpers.eventually(lambda: holder_of_a_client(group), "an edge says that it holds it"), signal.SIGKILL)
    group.say("a", "meanwhile")
    group.say("b", "meanwhile, too")
    page.wait_for_function("opened == 2")
    group.say("a", "after")
    page.wait_for_function("seen.length == 4")
    assert sorted(texts(page)) == ["after", "before", "meanwhile", "meanwhile, too"]


def test_two_windows_with_one_connection_do_not_chase_each_other(group: Any, page: Page) -> None:
    conn_id = group.connect("joe", "a")
    url = f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}"
    page.evaluate(LISTEN, url)
    page.wait_for_function("opened == 1")
    with group.websocket(conn_id):
        page.wait_for_function("closes.length == 1")
        assert page.evaluate("closes") == [4001]
        page.wait_for_timeout(3_000)  # three times as long as a stream that merely broke stays away
        assert page.evaluate("opened") == 1


def test_a_browser_whose_connection_has_ended_gives_up(group: Any, page: Page) -> None:
    conn_id = group.connect("joe", "a")
    page.evaluate(LISTEN, f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}")
    page.wait_for_function("opened == 1")
    group.call("/disconnect", {"conn_id": conn_id})
    page.wait_for_function("closes.length == 1 && source.readyState == EventSource.CLOSED")
    assert page.evaluate("[closes[0], opened]") == [4000, 1]
