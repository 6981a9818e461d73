"""The client that docs/client-protocol.md shows, as it stands there, in a real browser."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

DOCS = (Path(__file__).parents[2] / "docs" / "client-protocol.md").read_text()
WEBSOCKET, EVENTS = re.findall(r"```js\n(.*?)```", DOCS, re.S)


START = """([url, id]) => {
    window.got = [];
    window.over = null;
    listen(url, id, (one) => got.push(one), (code) => { over = code; });
}"""

SURROUND = """(id) => {
    window.connId = id;
    window.got = [];
    window.anew = 0;
    window.show = (one) => got.push(one);
    window.connectAnew = () => { anew += 1; };
}"""
"""The names that the example leaves to its page."""


def texts(page: Page) -> list[Any]:
    shown: list[Any] = page.evaluate("got.filter((one) => one.type === 'message').map((one) => one.message.text)")
    return shown


def test_the_websocket_client_comes_back_and_skips_nothing(group: Any, page: Page, helpers: Any) -> None:
    conn_id = group.connect("joe", "a")
    page.add_script_tag(content=WEBSOCKET)
    page.evaluate(START, [f"ws://127.0.0.1:{group.port}/ws", conn_id])
    group.say("a", 1)
    page.wait_for_function("got.length == 1")
    helpers.kill_the_holder(group, signal.SIGKILL)
    group.say("a", 2)
    page.wait_for_function("got.length == 2")
    group.say("a", 3)
    page.wait_for_function("got.length == 3")
    assert texts(page) == [1, 2, 3]
    group.call("/disconnect", {"conn_id": conn_id})
    page.wait_for_function("over !== null")
    assert page.evaluate("over") == 4000


def test_the_event_source_that_is_shown(group: Any, page: Page) -> None:
    conn_id = group.connect("joe", "a")
    page.goto(f"http://127.0.0.1:{group.port}/disconnect?conn_id={conn_id[:8]}")  # any page of the server's own
    page.evaluate(SURROUND, conn_id)
    page.add_script_tag(content=EVENTS)
    group.say("a", "hello")
    page.wait_for_function("got.length == 1")
    group.call("/disconnect", {"conn_id": conn_id})
    page.wait_for_function("anew == 1")


def test_a_browser_gets_compressed_messages_where_compression_is_on(helpers: Any, page: Page) -> None:
    with helpers.running(shards=1, edges=1, routers=1, compression="true") as group:
        page.add_script_tag(content=WEBSOCKET)
        page.evaluate(START, [f"ws://127.0.0.1:{group.port}/ws", group.connect("joe", "a")])
        long = "the same again and " * 500
        group.say("a", long)
        group.say("a", "short")
        page.wait_for_function("got.length == 2")
        assert texts(page) == [long, "short"]
