"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Without them Chromium asks its maker for this and that, which a closed network refuses, and it wants no root."""


@pytest.fixture
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    assert executable, "no chromium: `make browser` installs it on Debian"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        yield browser
        browser.close()


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
