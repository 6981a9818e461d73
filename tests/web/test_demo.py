"""The demo's page."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from channelstream.web.demo import demo_page


class Body(HTMLParser):
    """Finds where a page says its backend is."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.backends: list[str | None] = []
        self.tags: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.tags.append(tag)
        if tag == "body":
            self.backends.append(dict(attrs).get("data-backend"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8002", "http://127.0.0.1:8002/"])
def test_the_page_knows_its_backend(url: str) -> None:
    assert Body(demo_page(url)).backends == ["http://127.0.0.1:8002"]


def test_no_place_is_left_open() -> None:
    assert b"{{" not in demo_page("http://127.0.0.1:8002")


def test_the_address_cannot_leave_its_attribute() -> None:
    nasty = 'http://a"><script>alert(1)</script>'

    body = Body(demo_page(nasty))

    assert body.backends == [nasty]
    assert body.tags.count("script") == Body(demo_page("http://a")).tags.count("script")


def test_the_page_is_whole_and_asks_nobody_else() -> None:
    page = demo_page("http://127.0.0.1:8002").decode()

    assert page.startswith("<!doctype html>")
    assert page.count("http://") == 1
    assert "https://" not in page
