"""Clients as they should not be: gone without a word, or there without reading; and an edge that has no descriptors."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import requests

STOPS_READING = 500
"""Clients that stop reading."""

BIG = "x" * 8192
"""So much goes to each of them with every message: a few dozen fill what their kernels and the server hold for them."""

ROUNDS = 60
"""Messages of which a median is taken."""


# --- vanishing without FIN --------------------------------------------------------------------------------------------


class ChaosProxy:
    """Stands between clients and a port, and can fall silent: nothing is passed on any more, in either direction, and
    nothing is closed. To both ends that is a network that has gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._silent = self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fall_silent(self) -> None:
        self._silent = True
        self._wake.send(b"x")

    def close(self) -> None:
        self._over = True
        self._wake.send(b"x")
        self._thread.join()
        for one in (*self._pairs, self._server, self._wake, self._woken):
            one.close()

    def _run(self) -> None:
        while not self._over:
            watched = [self._woken] if self._silent else [self._woken, self._server, *self._pairs]
            for readable in select.select(watched, [], [])[0]:
                if readable is self._woken:
                    self._woken.recv(64)
                elif self._silent:
                    break
                elif readable is self._server:
                    self._accept()
                elif readable in self._pairs:
                    self._pass_on(readable)

    def _accept(self) -> None:
        client, _ = self._server.accept()
        inner = socket.create_connection(("127.0.0.1", self._port))
        self._pairs[client], self._pairs[inner] = inner, client

    def _pass_on(self, source: socket.socket) -> None:
        data = source.recv(65536)
        if data:
            self._pairs[source].sendall(data)
        else:
            other = self._pairs.pop(source)
            self._pairs.pop(other, None)
            source.close()
            other.close()


@contextmanager
def proxy_before(port: int) -> Iterator[ChaosProxy]:
    proxy = ChaosProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


LIFETIMES = {"ping_interval": "0.3s", "silence_timeout": "1.5s", "gc_conns_after": "3s"}


def websocket_by(groups: Any, port: int, conn_id: str) -> Any:
    url = f"ws://127.0.0.1:{port}/ws?conn_id={conn_id}"
    return groups.open_websocket(url, open_timeout=groups.PATIENCE_S, max_size=None, legacy=True, close_timeout=0.1)


def test_who_vanishes_without_a_word_is_noticed_and_parted_in_the_end(groups):
    with groups.running(shards=1, edges=1, routers=1, **LIFETIMES) as group, proxy_before(group.port) as proxy:
        group.call("/channel_config", {"room": {"notify_presence": True}})
        with group.websocket(group.connect("ann", "room")) as ann, ExitStack() as vanishing:
            users = [f"user-{number}" for number in range(20)]
            for user in users:
                conn_id = group.connect(user, "room")
                vanishing.enter_context(websocket_by(groups, proxy.port, conn_id))
            assert {one["user"] for one in groups.receive(ann, len(users))} == set(users)
            proxy.fall_silent()
            uuid = group.say("room", "still here")
            assert groups.receive(ann, 1)[0]["uuid"] == uuid
            parted = groups.receive(ann, len(users))
            assert {one["message"]["action"] for one in parted} == {"parted"}
            assert {one["user"] for one in parted} == set(users)


def test_who_vanishes_and_comes_back_elsewhere_is_never_parted(groups):
    with groups.running(shards=1, edges=2, routers=1, **LIFETIMES) as group, proxy_before(group.port) as proxy:
        group.call("/channel_config", {"room": {"notify_presence": True}})
        with group.websocket(group.connect("ann", "room")) as ann:
            conn_id = group.connect("joe", "room")
            assert groups.receive(ann, 1)[0]["message"]["action"] == "joined"
            with websocket_by(groups, proxy.port, conn_id) as first:
                groups.settle(group, first, "room")
                groups.receive(ann, 1)
                proxy.fall_silent()
                with group.websocket(conn_id) as second:
                    # Longer than it would take to part one who has vanished.
                    until = time.monotonic() + 5
                    while time.monotonic() < until:
                        uuid = group.say("room", "still here")
                        for client in (ann, second):
                            assert [one["uuid"] for one in groups.receive(client, 1)] == [uuid]
                        time.sleep(0.1)


def test_a_stream_of_events_that_vanishes_brings_everything_with_its_position(groups):
    """What the server's kernel had taken for a network that had gone: only a position brings that back."""
    with groups.running(shards=1, edges=1, routers=1, **LIFETIMES) as group, proxy_before(group.port) as proxy:
        conn_id = group.connect("joe", "room")
        with requests.get(f"http://127.0.0.1:{proxy.port}/events?conn_id={conn_id}", stream=True, timeout=20) as stream:
            first = group.say("room", 0)
            events = read_events(stream)
            seen, position = next(events)
            while not seen:
                seen, position = next(events)
            assert seen == [first]
            proxy.fall_silent()
            said = [group.say("room", number) for number in range(1, 10)]
            url = f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}"
            with requests.get(url, stream=True, timeout=20, headers={"Last-Event-ID": position}) as again:
                brought: list[str] = []
                for uuids, _ in read_events(again):
                    brought += uuids
                    if len(brought) >= len(said):
                        break
                assert brought == said


def read_events(stream: requests.Response) -> Iterator[tuple[list[str], str]]:
    """The uuids in each event, and its id."""
    position, uuids = "", []
    for line in stream.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("id: "):
            position = line[4:]
        elif line.startswith("data: "):
            uuids = [one["uuid"] for one in json.loads(line[6:])]
        elif not line:
            yield uuids, position
            uuids = []


# --- not reading ------------------------------------------------------------------------------------------------------


class Crowd:
    """Many websockets on one channel, which one thread reads until it is told to stop."""

    def __init__(self, group: Any, count: int, channel: str) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._stopped = threading.Event()
        for number in range(count):
            self._open(group, group.connect(f"user-{number}", channel))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _open(self, group: Any, conn_id: str) -> None:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # As on an Ethernet. With the segments of the loopback the server's kernel would take 3 MB for each of them.
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        one.connect(("127.0.0.1", group.port))
        key = b64encode(os.urandom(16)).decode()
        one.sendall(
            f"GET /ws?conn_id={conn_id} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert one.recv(4096).startswith(b"HTTP/1.1 101")
        one.setblocking(False)
        self._sockets[one.fileno()] = one
        self._poll.register(one.fileno(), select.EPOLLIN)

    def _read(self) -> None:
        while not self._stopped.is_set():
            for descriptor, _ in self._poll.poll(0.05):
                if not self._sockets[descriptor].recv(65536):
                    self._poll.unregister(descriptor)

    def stop_reading(self) -> None:
        self._stopped.set()
        self._thread.join()

    def close(self) -> None:
        self.stop_reading()
        self._poll.close()
        for one in self._sockets.values():
            one.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def own_kb(pid: int) -> int:
    """The memory that a process has for itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


@pytest.mark.usefixtures("many_descriptors")
def test_those_who_stop_reading_cost_the_others_nothing(groups):
    """The latency of a client beside them, while they read and when they do not, is compared; each time the same is
    said to them."""
    with groups.running(shards=1, edges=1, routers=1, max_queue="64KiB", public_api="true") as group:
        crowd = Crowd(group, STOPS_READING, "crowd")
        try:
            with group.websocket(group.connect("ann", "beside")) as ann:
                groups.settle(group, ann, "beside")
                latencies(groups, group, ann)
                reading_s = median(latencies(groups, group, ann))
                edge = group.pid_of("edge-0")
                before_kb = own_kb(edge)
                crowd.stop_reading()
                most_kb = [before_kb]
                not_reading_s = median(latencies(groups, group, ann, lambda: most_kb.append(own_kb(edge))))
                assert not_reading_s < 3 * reading_s, (reading_s, not_reading_s)
                assert max(most_kb) - before_kb < STOPS_READING * 64 + 20_000, (before_kb, max(most_kb))
                groups.eventually(lambda: only_one_is_held(group), "those who do not read are cut off")
        finally:
            crowd.close()


def only_one_is_held(group: Any) -> bool:
    """Whether one client is left, after another message that is too much for those who do not read."""
    group.say("crowd", BIG)
    return sum(one["connections"] for one in group.health() if one["role"] == "edge") == 1


def latencies(groups: Any, group: Any, ann: Any, look: Callable[[], object] = lambda: None) -> list[float]:
    """How long a message to one client takes, each time behind a big one to the crowd."""
    found = []
    for number in range(ROUNDS):
        group.say("crowd", BIG)
        began = time.perf_counter()
        group.say("beside", number)
        groups.receive(ann, 1)
        found.append(time.perf_counter() - began)
        if number % 10 == 0:
            look()
    return found


# --- no descriptors ---------------------------------------------------------------------------------------------------


def test_an_edge_without_descriptors_keeps_its_clients_and_takes_others_later(groups):
    with groups.running(shards=1, edges=1, routers=1) as group:
        edge = group.pid_of("edge-0")
        conn_ids = [group.connect(f"user-{number}", "room") for number in range(10)]
        with group.websocket(group.connect("ann", "room")) as ann:
            groups.settle(group, ann, "room")
            limits = resource.prlimit(edge, resource.RLIMIT_NOFILE)
            held = len(os.listdir(f"/proc/{edge}/fd"))
            resource.prlimit(edge, resource.RLIMIT_NOFILE, (held, limits[1]))
            opened: list[Any] = []
            threads = [
                threading.Thread(target=lambda conn_id=conn_id: opened.append(group.websocket(conn_id)))
                for conn_id in conn_ids
            ]
            for thread in threads:
                thread.start()
            for number in range(10):
                uuid = group.say("room", number)
                assert groups.receive(ann, 1)[0]["uuid"] == uuid
            assert not opened
            assert group.pid_of("edge-0") == edge
            resource.prlimit(edge, resource.RLIMIT_NOFILE, limits)
            for thread in threads:
                thread.join(groups.PATIENCE_S)
            assert len(opened) == len(conn_ids), group.log()
            for one in opened:
                one.close()
