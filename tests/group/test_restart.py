"""Processes that leave while everybody goes on: no call fails, nothing is lost, nobody is seen to leave."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from contextlib import suppress

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
        self.breaks = []
        """Connections that ended in any other way, and answers that were none."""
        self.again = []
        """What came twice, with the number of ends before it."""
        self.over = threading.Event()

    def __str__(self):
        counts = {channel: len(seqs) for channel, seqs in self.got.items()}
        return (
            f"{self.kind} {self.conn_id}: {counts}, closed {self.codes}, broke {self.breaks[:5]}, others {self.others}"
        )

    def run(self):
        while not self.over.is_set():
            try:
                self.listen() if self.kind == "websocket" else self.poll()
            except (ConnectionClosed, InvalidHandshake, OSError) as error:
                self.breaks.append(repr(error))

    def listen(self):
        with self.group.websocket(self.conn_id) as socket:
            try:
                while not self.over.is_set():
                    # A close frame of ours would say that we do not come back.
                    with suppress(TimeoutError):
                        self.take(json.loads(socket.recv(timeout=0.5)))
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
                self.again.append((one["channel"], one["seq"], len(self.codes) + len(self.breaks)))
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
            self.helpers.eventually(
                lambda one=one: one.breaks or all(len(one.got[channel]) >= said[channel] for channel in CHANNELS),
                f"{one.kind} got all of {said}: {one}",
            )
            assert one.breaks == [], f"{one}\n{self.group.log()}"
            assert {channel: len(got) for channel, got in one.got.items()} == said, f"{one}\n{self.group.log()}"
            assert one.again == [], f"{one}: again {one.again}\n{self.group.log()}"
            assert [other for other in one.others if other["message"]["action"] != "joined"] == [], one.kind


def restart(group, *words):
    command = [sys.executable, "-m", "channelstream", *group.flags(), "restart", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{group.log()}"
    return json.loads(done.stdout)


@pytest.mark.promise("5.2a")
@pytest.mark.parametrize("edges", [1, 2])
def test_a_restart_of_everything_is_not_noticed(helpers, edges):
    with helpers.running(routers=1, shards=2, edges=edges, drain_seconds="1s") as group:
        before = {one["process"]: one["pid"] for one in group.health()}
        with Load(group, helpers) as load:
            done = restart(group)
            names = [one["process"] for one in done["restarted"]]
            assert names == ["shard-0", "shard-1", "router-0", *(f"edge-{number}" for number in range(edges))]
            load.check()
            websockets = [one for one in load.listeners if one.kind == "websocket"]
            assert any(one.codes for one in websockets)
        after = {one["process"]: one["pid"] for one in group.health()}
        assert all(after[name] != before[name] for name in after)


@pytest.mark.promise("5.2a")
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


@pytest.mark.promise("4.29a")
def test_who_is_told_to_go_is_told_when_to_come_back(helpers):
    """In turn where others are there for it, which supervisorctl's restart counts as."""
    with helpers.running(routers=1, shards=1, edges=2, drain_seconds="1s") as group:
        sockets = [group.websocket(group.connect(f"user-{number}", "c")) for number in range(12)]
        for name in ("edge-0", "edge-1"):
            former = group.pid_of(name)
            supervisorctl(group, "restart", f"edge:{name}")
            helpers.eventually(lambda name=name, former=former: is_back(group, name, former), f"{name} is back")
        hints = [hint_of(helpers, socket) for socket in sockets]
        assert len(set(hints)) > 6, "each at a moment of its own"
        assert max(hints) < 1000
        with group.websocket(group.connect("last", "c")) as socket:
            group.stop()
            assert 1000 <= hint_of(helpers, socket) < 5000, "nobody is there for it yet"


def hint_of(helpers, socket):
    assert helpers.close_code(socket) == 1001
    found = re.fullmatch(r"the server is going away: retry in (\d+) ms with the same conn_id", socket.close_reason)
    assert found, socket.close_reason
    return int(found[1])


def supervisorctl(group, *words):
    conf = group.run_dir / "supervisorctl.conf"
    conf.write_text(f"[supervisorctl]\nserverurl=unix://{group.run_dir}/supervisor.sock\n")
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    conf.unlink()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promise("4.37a", "4.44a")
def test_polls_are_answered_and_streams_end_where_an_edge_leaves(helpers):
    with helpers.running(routers=1, shards=1, edges=2, wake_connections_after="60s") as group:
        conn_ids = [group.connect(f"user-{number}", "c") for number in range(2)]
        answers = []
        poll = threading.Thread(target=lambda: answers.append(group.listen(conn_ids[0])))
        poll.start()
        url = f"http://127.0.0.1:{group.port}/events?conn_id={conn_ids[1]}"
        with requests.get(url, stream=True, timeout=helpers.PATIENCE_S) as stream:
            helpers.eventually(lambda: held(group) == 2, "both are held")
            for name in ("edge-0", "edge-1"):
                os.kill(group.pid_of(name), signal.SIGTERM)
            last = stream.content.decode().rpartition("event: close\n")[2]
        poll.join(helpers.PATIENCE_S)
        assert (answers[0].status_code, answers[0].json()) == (200, [])
        assert json.loads(re.search(r"data: (.*)", last)[1])["code"] == 1001
        assert 0 <= int(re.search(r"retry: (\d+)", last)[1]) < 5000


def held(group):
    return sum(one["connections"] for one in group.health() if one["role"] == "edge")


def test_the_end_of_the_group_hurries_who_is_leaving(helpers):
    with helpers.running(routers=1, shards=1, edges=2, drain_seconds="1h") as group:
        conn_ids = [group.connect(f"user-{number}", "c") for number in range(12)]
        sockets = [group.websocket(conn_id) for conn_id in conn_ids]
        leaving = [group.pid_of("edge-0"), group.pid_of("edge-1")]
        os.kill(leaving[0], signal.SIGTERM)
        group.process.send_signal(signal.SIGINT)
        # Not asked again: who asks twice wants it ended by force.
        assert group.process.wait(helpers.PATIENCE_S) == 0
        assert group.stop() == 0
        assert [line for line in group.lines if "killed" in line] == []
        assert [helpers.close_code(socket) for socket in sockets] == [1001] * len(sockets)


def test_a_second_sigterm_hurries(helpers):
    with helpers.running(routers=1, shards=1, edges=2, drain_seconds="1h") as group:
        sockets = [group.websocket(group.connect(f"user-{number}", "c")) for number in range(12)]
        helpers.eventually(lambda: held(group) == 12, "all are held")
        former = {name: group.pid_of(name) for name in ("edge-0", "edge-1")}
        for _ in range(2):
            for pid in former.values():
                os.kill(pid, signal.SIGTERM)
            helpers.eventually(lambda: not listens(group), "they have left the port")
        assert [helpers.close_code(socket) for socket in sockets] == [1001] * len(sockets)
        for name, pid in former.items():
            helpers.eventually(lambda name=name, pid=pid: is_back(group, name, pid), f"{name} is back")


def listens(group):
    try:
        socket.create_connection(("127.0.0.1", group.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def is_back(group, name, former_pid):
    (one,) = (one for one in group.health() if one["process"] == name)
    return one["ready"] and one["pid"] != former_pid
