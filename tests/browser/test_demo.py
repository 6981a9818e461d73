"""`make run` as a newcomer sees it: two windows of a real browser talk, and the printed command speaks to both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30 * float(os.environ.get("CHANNELSTREAM_TEST_TIMEOUT_FACTOR", "1"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Demo:
    """`demo/run.py`, on ports of its own."""

    def __init__(self) -> None:
        self.port, api_port, backend_port = free_ports(3)
        self.run_dir = tempfile.mkdtemp(prefix="cs-", dir="/tmp")
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")},
            "CHANNELSTREAM_PORT": str(self.port),
            "CHANNELSTREAM_API_PORT": str(api_port),
            "CHANNELSTREAM_RUN_DIR": self.run_dir,
            "CHANNELSTREAM_DEMO_APP_URL": f"http://127.0.0.1:{backend_port}",
        }
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "demo/run.py"], cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def line(self, start: str) -> str:
        """The first line that begins so, waited for."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for line in self.lines:
                if line.startswith(start):
                    return line
            assert self.process.poll() is None, "\n".join(self.lines)
            time.sleep(0.02)
        raise AssertionError(f"no line {start!r} in:\n" + "\n".join(self.lines))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE_S) == 0
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        shutil.rmtree(self.run_dir, ignore_errors=True)


@pytest.fixture
def demo() -> Iterator[Demo]:
    running = Demo()
    try:
        running.line("ready")
        yield running
    finally:
        running.stop()


def window(browser: Browser, demo: Demo) -> Page:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    expect.set_options(timeout=PATIENCE_S * 1000)
    page.goto(f"http://127.0.0.1:{demo.port}/demo")
    expect(page.locator("#state")).to_contain_text("connected as")
    return page


def test_two_windows_talk(demo: Demo, browser: Browser) -> None:
    one, two = window(browser, demo), window(browser, demo)
    expect(one.locator("#log")).to_contain_text("joined")
    one.fill("#text", "hello <b>there</b>")
    one.press("#text", "Enter")
    for page in (one, two):
        expect(page.locator("#log")).to_contain_text(": hello <b>there</b>")
    two.fill("#text", "and back")
    two.click("#say button")
    expect(one.locator("#log")).to_contain_text(": and back")
    curl = demo.line("curl ")
    subprocess.run(["sh", "-c", curl], cwd=ROOT, env=demo.environ, check=True, capture_output=True)
    for page in (one, two):
        expect(page.locator("#log")).to_contain_text("you: hello from a shell")
    two.close()
    expect(one.locator("#log")).to_contain_text("parted")


def test_a_window_comes_back_after_its_edge_was_killed(demo: Demo, browser: Browser) -> None:
    page = window(browser, demo)
    expect(page.locator("#state")).to_contain_text("connected as")
    status = [sys.executable, "-m", "channelstream", "-i", "demo/demo.ini", "status", "--json"]
    shown = subprocess.run(status, cwd=ROOT, env=demo.environ, check=True, capture_output=True, text=True).stdout
    for one in json.loads(shown):
        if one["role"] == "edge":
            os.kill(one["pid"], signal.SIGKILL)
    expect(page.locator("#state")).to_contain_text("trying again")
    expect(page.locator("#state")).to_contain_text("connected as")
    page.fill("#text", "here again")
    page.press("#text", "Enter")
    expect(page.locator("#log")).to_contain_text(": here again")
