"""A browser's own EventSource: it comes back by itself, and what it missed meanwhile it gets without a line of ours."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from playwright.sync_api import Page

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


def texts(page: Page) -> list[Any]:
    shown: list[Any] = page.evaluate("seen.map((one) => one.message.text)")
    return shown


def test_a_browser_misses_nothing_when_its_edge_dies(group: Any, page: Page, helpers: Any) -> None:
    conn_id = group.connect("joe", "a", "b")
    page.evaluate(LISTEN, f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}")
    page.wait_for_function("opened == 1")
    group.say("a", "before")
    page.wait_for_function("seen.length == 1")
    helpers.kill_the_holder(group, signal.SIGKILL)
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
