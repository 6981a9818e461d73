"""The kills that chance does not hit: a process of a real group ends itself at a named place, while a publisher repeats
each message until it is answered and clients come back whenever they are let go."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import suppress
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidHandshake

HISTORY = {"store_history": True, "history_size": 1000, "frames_size": 1000}
MESSAGES = 30
AT = 8
"""The place is reached so often before: what comes first is a client's attaching and the like."""


class Listener(threading.Thread):
    """A client that comes back with the same `conn_id` until it has seen the end."""

    def __init__(self, group: Any, name: str) -> None:
        super().__init__(daemon=True)
        self.group = group
        self.conn_id = group.connect(name, "a", channel_configs={"a": HISTORY})
        self.got: list[dict[str, Any]] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            with suppress(ConnectionClosed, InvalidHandshake, OSError):
                self.listen()

    def listen(self) -> None:
        with self.group.websocket(self.conn_id) as socket:
            while not self.over.is_set():
                with suppress(TimeoutError):
                    self.got += json.loads(socket.recv(timeout=0.2))

    def texts(self) -> list[Any]:
        """What it was told; what comes again after a break is the same by its uuid."""
        return list({one["uuid"]: one["message"]["text"] for one in self.got if one["type"] == "message"}.values())


def say_until_taken(group: Any, helpers: Any, text: object) -> None:
    message = {"user": "b", "channel": "a", "message": {"text": text}, "uuid": str(uuid.uuid4())}

    def taken() -> bool:
        try:
            return bool(group.post("/message", [message]).status_code == 200)
        except requests.RequestException:
            return False

    helpers.eventually(taken, f"{text} is taken")


@pytest.mark.parametrize(
    "name", ["before_commit", "after_commit_before_answer", "after_answer_before_delivery", "mid_fanout"]
)
def test_what_was_answered_is_in_history_once_and_reaches_everybody_in_order(
    helpers: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers.Group, "prefix", ("env", f"CHANNELSTREAM_FAILPOINT={name}:{AT}"))
    with helpers.running(shards=1, edges=1, routers=1) as group:
        listeners = [Listener(group, f"user-{number}") for number in range(2)]
        for listener in listeners:
            listener.start()
        for text in range(MESSAGES):
            say_until_taken(group, helpers, text)
        assert (group.run_dir / f"fired-{name}").exists()
        for listener in listeners:
            helpers.eventually(lambda listener=listener: MESSAGES - 1 in listener.texts(), "it has the last one")
            listener.over.set()
            listener.join(helpers.PATIENCE_S)
        told = group.call("/info", {"info": {"channels": ["a"]}})["channels"]["a"]["history"]
        assert [message["message"]["text"] for message in told] == list(range(MESSAGES))
        for listener in listeners:
            assert listener.texts() == list(range(MESSAGES))
            assert not [one for one in listener.got if one["type"] == "gap" and one["channel"] == "a"]


def test_a_shard_that_was_stopped_while_its_successor_started_delivers_nothing_when_it_wakes(helpers: Any) -> None:
    """Its lock was removed by hand, which nobody should do."""
    import os
    import signal
    import subprocess
    import sys

    with helpers.running(shards=1, edges=1, routers=1) as group:
        conn_id = group.connect("ann", "a", channel_configs={"a": HISTORY})
        with group.websocket(conn_id) as socket:
            helpers.settle(group, socket, "a")
            former = group.pid_of("shard-0")
            os.kill(former, signal.SIGSTOP)
            for lock in (*group.run_dir.glob("shard-0.lock"), *group.data_dir.glob("*/shard-0.lock")):
                lock.unlink()
            command = [sys.executable, "-m", "channelstream", "shard", "--index", "0", *group.flags()]
            successor = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                pids = lambda: [one["pid"] for one in group.health()]  # noqa: E731
                helpers.eventually(lambda: successor.pid in pids(), "the successor serves")
                say_until_taken(group, helpers, 1)
                os.kill(former, signal.SIGCONT)
                for text in range(2, 20):
                    say_until_taken(group, helpers, text)
                say_until_taken(group, helpers, "end")
                received = [one for one in helpers.before(socket, "end") if one["channel"] == "a"]
                assert [one["message"]["text"] for one in received] == list(range(1, 20))
                assert [one["seq"] for one in received] == list(range(2, 21))
                told = group.call("/info", {"info": {"channels": ["a"]}})["channels"]["a"]["history"]
                assert [message["message"]["text"] for message in told] == ["settled", *range(1, 20), "end"]
            finally:
                with suppress(ProcessLookupError):
                    os.kill(former, signal.SIGCONT)
                successor.terminate()
                successor.wait()
