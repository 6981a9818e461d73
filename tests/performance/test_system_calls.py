"""System calls of a real group, counted by a library that is loaded before all others."""

from __future__ import annotations

import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.crowd import MARK, Crowd, upgrade

pytestmark = pytest.mark.group

SHIM = Path(__file__).with_name("calls_shim.c")
CALLS = ("send", "recv", "read", "write", "poll", "epoll_wait", "epoll_ctl")
"""As in the shim."""

CLIENTS = 200
MESSAGES = 20
PUBLISHES = 200


class Counted:
    """A group whose system calls are counted, with clients on one channel."""

    def __init__(self, group: Any, folder: Path) -> None:
        self.group = group
        self._folder = folder
        self.crowd = Crowd()
        ids = [group.connect(f"user-{number}", "room", info={"include_users": False}) for number in range(CLIENTS)]
        self.crowd.open(("127.0.0.1", group.port), [upgrade(f"/ws?conn_id={conn_id}") for conn_id in ids])
        self.publish()  # whoever is not attached yet gets it as what it missed

    def publish(self, messages: int = 1) -> None:
        """In one request; when it returns, all clients have all of them."""
        self.crowd.begin()
        text = {"text": MARK.decode()}
        self.group.call("/message", [{"user": "ann", "channel": "room", "message": text}] * messages)
        assert self.crowd.receive(60, messages * CLIENTS)

    def calls(self, name: str) -> Counter[str]:
        """Of a process so far."""
        data = (self._folder / str(self.group.pid_of(name))).read_bytes()
        return Counter(dict(zip(CALLS, struct.unpack(f"={len(CALLS)}Q", data), strict=True)))


@pytest.fixture(scope="module")
def counted(helpers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    folder = tmp_path_factory.mktemp("calls")
    library = folder / "calls.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    counts = folder / "counts"
    counts.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("COUNT_CALLS_IN", str(counts))
        with helpers.running(shards=1, edges=1, routers=1, store="memory") as group:
            made = Counted(group, counts)
            yield made
            made.crowd.close()


def test_a_delivery_is_one_send(counted: Counted) -> None:
    before = counted.calls("edge-0")
    for _ in range(MESSAGES):
        counted.publish()
    sends = (counted.calls("edge-0") - before)["send"]
    assert CLIENTS * MESSAGES <= sends <= CLIENTS * MESSAGES + 3 * MESSAGES


def test_messages_of_one_request_are_one_send(counted: Counted) -> None:
    before = counted.calls("edge-0")
    counted.publish(100)
    sends = (counted.calls("edge-0") - before)["send"]
    assert CLIENTS <= sends <= CLIENTS + 20


@pytest.mark.parametrize(("name", "most"), [("router-0", 30), ("shard-0", 24)])
def test_a_publish_takes_few(counted: Counted, name: str, most: int) -> None:
    """One after another, so that nothing is shared. Timers of the time that it takes are in it. Counted: 25 and 20."""
    before = counted.calls(name)
    for number in range(PUBLISHES):
        counted.group.say("empty", number)
    calls = counted.calls(name) - before
    assert calls.total() / PUBLISHES < most, calls
