"""What the edge's tests share: clients that only remember, a configuration, and waiting without a fixed sleep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import gevent
import pytest

from channelstream.clock import monotonic
from channelstream.config import Config, load
from channelstream.edge.core import Held
from channelstream.edge.outbox import Ready

PATIENCE_S: Final = 10.0
"""How long a test waits for what must come; it is never waited for in full unless the test fails."""


class RememberingClient(Held):
    """Keeps what it is given, and the code that it was closed with."""

    def __init__(self, conn_id: str, user: str, attachment: int) -> None:
        super().__init__(conn_id, user, attachment)
        self.got: list[Ready] = []
        self.closed_with: int | None = None

    def deliver(self, ready: Sequence[Ready]) -> None:
        self.got.extend(ready)

    def close(self, code: int) -> None:
        self.closed_with = code


def _make_config(**flags: str) -> Config:
    return load(None, "", {}, {"secret": "s" * 32, "data_dir": "data", **flags}, 0, 1, "/nowhere").config


def _wait_for(condition: Callable[[], object], what: str = "the condition") -> None:
    until = monotonic() + PATIENCE_S
    while not condition():
        if monotonic() > until:
            pytest.fail(f"{what} did not come true in {PATIENCE_S} s")
        gevent.sleep(0.001)


@pytest.fixture
def make_client() -> type[RememberingClient]:
    """`make_client(conn_id, user, attachment)`."""
    return RememberingClient


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """`make_config(key="text", …)`: a configuration with defaults for everything else."""
    return _make_config


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition)`: let the loop turn until it is true."""
    return _wait_for
