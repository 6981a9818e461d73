"""Processes that leave while everybody goes on: no call fails, nothing is lost, nobody is seen to leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter

import pytest
import requests
from itsdangerous import TimestampSigner
from websockets.exceptions import ConnectionClosed, InvalidHandshake

CHANNELS = ("a", "b", "c")


class Publisher(threading.Thread):
    """A backend that publishes all the time, on a connection that it keeps, and takes no error for granted."""

    def __init__(self, group, port, secret):
        super().__init__(daemon=True)
        self.url = f"http://127.0.0.1:{port}"
        self.secret = secret
        self.said = Counter()
        """Per channel."""
        self.failed = []
        self.over = threading.Event()

    def run(self):
        with requests.Session() as session:
            while not self.over.wait(0.01):
                for channel in CHANNELS:
                    self.say(session, channel)

    def say(self, session, channel):
        body = [{"user": "b", "channel": channel, "uuid": str(uuid.uuid4()), "message": {"text": "hi"}}]
        headers = {"X-Channelstream-Secret": TimestampSigner(self.secret).sign("/message").decode()}
        try:
            answer = session.post(f"{self.url}/message", json=body, headers=headers, timeout=30)
        except requests.RequestException as error:
            self.failed.append(repr(error))
            return
        if answer.ok:
            self.said[channel] += 1
        else:
            self.failed.append(answer.text)


class Listener(threading.Thread):
    """A client that comes back as it is told, and remembers what it got."""

    def __init__(self, group, kind):
        super().__init__(daemon=True)
        self.group = group
        self.kind = kind
        self.conn_id = group.connect(f"{kind}-{uuid.uuid4().hex[:6]}", *CHANNELS)
        self.got = {channel: [] for channel in CHANNELS}
        """Per channel, the seq of each message in the order of its coming."""
        self.others = []
        """All that came and is no message."""
        self.codes = []
        """(code, reason) of each close frame."""
        self.breaks = 0
        """Connections that ended in any other way, and answers that were none."""
        self.again = []
        """What came twice, with the number of ends before it."""
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                self.listen() if self.kind == "websocket" else self.poll()
            except (ConnectionClosed, InvalidHandshake, OSError):
                self.breaks += 1

    def listen(self):
        with self.group.websocket(self.conn_id) as socket:
            try:
                while not self.over.is_set():
                    self.take(json.loads(socket.recv(timeout=0.5)))
            except TimeoutError:
                return
            except ConnectionClosed:
                if socket.close_code != 1001:
                    raise
                self.codes.append((socket.close_code, socket.close_reason))

    def poll(self):
        with requests.Session() as session:
            while not self.over.is_set():
                answer = session.get(f"http://127.0.0.1:{self.group.port}/listen?conn_id={self.conn_id}", timeout=30)
                answer.raise_for_status()
                self.take(answer.json())

    def take(self, objects):
        for one in objects:
            if one["type"] != "message":
                self.others.append(one)
            elif self.got[one["channel"]] and one["seq"] <= self.got[one["channel"]][-1]:
                self.again.append((one["channel"], one["seq"], len(self.codes) + self.breaks))
            else:
                self.got[one["channel"]].append(one["seq"])


class Load:
    """Publishers on both ports and clients of both kinds, from `with` to `check`."""

    def __init__(self, group, helpers, listeners=4):
        configs = {channel: {"notify_presence": True, "frames_size": 1000} for channel in CHANNELS}
        watcher = group.connect("watcher", *CHANNELS, channel_configs=configs)
        self.watcher_id = watcher
        self.group = group
        self.helpers = helpers
        kinds = ["websocket", "poll"] * (listeners // 2)
        self.listeners = [Listener(group, kind) for kind in kinds]
        self.publishers = [Publisher(group, port, helpers.SECRET) for port in (group.port, group.api_port)]

    def __enter__(self):
        for one in (*self.listeners, *self.publishers):
            one.start()
        self.helpers.eventually(self.everyone_got_something, "everyone got something")
        return self

    def everyone_got_something(self):
        return all(all(one.got.values()) for one in self.listeners)

    def __exit__(self, *of_error):
        for one in (*self.publishers, *self.listeners):
            one.over.set()
        for one in (*self.publishers, *self.listeners):
            one.join(self.helpers.PATIENCE_S)

    def check(self):
        """Ends the publishing, and looks at what everyone got."""
        for one in self.publishers:
            one.over.set()
            one.join(self.helpers.PATIENCE_S)
        assert [one.failed for one in self.publishers] == [[], []], self.group.log()
        said = sum((one.said for one in self.publishers), Counter())
        for one in self.listeners:
            for channel in CHANNELS:
                self.helpers.eventually(
                    lambda one=one, channel=channel: len(one.got[channel]) >= said[channel],
                    f"{one.kind} got all {said[channel]} of {channel}, not {len(one.got[channel])}",
                )
                assert len(one.got[channel]) == said[channel]
            assert one.breaks == 0, self.group.log()
            assert one.again == [], one.kind
            assert [other for other in one.others if other["message"]["action"] != "joined"] == [], one.kind


def restart(group, *words):
    command = [sys.executable, "-m", "channelstream", *group.flags(), "restart", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{group.log()}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("edges", [1, 2])
def test_a_restart_of_routers_and_edges_is_not_noticed(helpers, edges):
    with helpers.running(routers=1, shards=2, edges=edges, drain_seconds="1s") as group:
        before = {one["process"]: one["pid"] for one in group.health()}
        with Load(group, helpers) as load:
            done = restart(group, "--role", "router", "--role", "edge")
            names = [one["process"] for one in done["restarted"]]
            assert names == ["router-0", *(f"edge-{number}" for number in range(edges))]
            load.check()
            websockets = [one for one in load.listeners if one.kind == "websocket"]
            assert any(one.codes for one in websockets)
        after = {one["process"]: one["pid"] for one in group.health()}
        assert {name for name in after if after[name] != before[name]} == set(names)


@pytest.mark.parametrize("role", ["router", "edge"])
def test_sigterm_to_one_of_two_is_not_noticed(helpers, role):
    with helpers.running(routers=2, shards=2, edges=2, drain_seconds="1s") as group:
        with Load(group, helpers) as load:
            for number in range(2):
                before = group.pid_of(f"{role}-{number}")
                os.kill(before, signal.SIGTERM)
                helpers.eventually(
                    lambda name=f"{role}-{number}", old=before: is_back(group, name, old), f"{role}-{number} is back"
                )
            load.check()


def is_back(group, name, former_pid):
    (one,) = (one for one in group.health() if one["process"] == name)
    return one["ready"] and one["pid"] != former_pid
