"""A link between an edge and a shard that carries nothing one way: a proxy stands where the shard's socket was."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

FROM_EDGE, FROM_SHARD = "from the edge", "from the shard"


class Proxy:
    """Takes the place of a unix socket, and passes on what comes, each way for as long as that is open."""

    def __init__(self, path):
        self.open = {FROM_EDGE: threading.Event(), FROM_SHARD: threading.Event()}
        for way in self.open.values():
            way.set()
        self._behind = path.with_suffix(".behind")
        path.rename(self._behind)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._sockets = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        with suppress(OSError):
            while True:
                edge, _ = self._listener.accept()
                shard = socket.socket(socket.AF_UNIX)
                self._sockets += [edge, shard]
                with suppress(OSError):  # nobody there: the edge sees the end
                    shard.connect(str(self._behind))
                for way, source, sink in ((FROM_EDGE, edge, shard), (FROM_SHARD, shard, edge)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=(way, source, sink)))
                    self._threads[-1].start()

    @property
    def links(self):
        """How often it was dialed."""
        return len(self._sockets) // 2

    def _pass_on(self, way, source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.open[way].wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for way in self.open.values():
            way.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()


def process(group, name):
    return next((one for one in group.health() if one["process"] == name), None)


def is_back(group, name, before):
    one = process(group, name)
    return one is not None and one["ready"] and one["pid"] not in (0, before)


def through_a_proxy(group, helpers):
    """The edge is started anew, so that it finds the proxy where the shard was."""
    proxy = Proxy(group.run_dir / "shard-0.sock")
    before = group.pid_of("edge-0")
    os.kill(before, signal.SIGKILL)
    helpers.eventually(lambda: is_back(group, "edge-0", before), "an edge behind the proxy")
    return proxy


@pytest.mark.parametrize("long", [False, True], ids=["until it is missed", "until the link is given up"])
def test_what_an_edge_cannot_say_to_a_shard_is_seen_and_healed_when_it_can(helpers, name, long):
    with helpers.running(shards=1, edges=1, routers=1) as group:
        proxy = through_a_proxy(group, helpers)
        try:
            with group.websocket(group.connect(f"joe-{name}", name)) as client:
                group.say(name, "before")
                assert helpers.texts(helpers.receive(client, 1)) == ["before"]

                proxy.open[FROM_EDGE].clear()
                blocked_at = time.monotonic()
                helpers.eventually(lambda: not is_back(group, "edge-0", 0), "the shard misses the edge")
                seen_after = time.monotonic() - blocked_at
                group.say(name, "meanwhile")
                if long:
                    helpers.eventually(lambda: proxy.links > 1, "the edge dials anew")

                proxy.open[FROM_EDGE].set()
                healed_at = time.monotonic()
                assert helpers.texts(helpers.receive(client, 1)) == ["meanwhile"]
                healed_after = time.monotonic() - healed_at
                group.say(name, "after")
                assert helpers.texts(helpers.receive(client, 1)) == ["after"]
                assert max(seen_after, healed_after) < helpers.PATIENCE_S / 2, (seen_after, healed_after)
        finally:
            proxy.close()


def test_what_a_shard_cannot_say_to_an_edge_comes_when_it_can(helpers, name):
    with helpers.running(shards=1, edges=1, routers=1) as group:
        proxy = through_a_proxy(group, helpers)
        try:
            with group.websocket(group.connect(f"joe-{name}", name)) as client:
                helpers.settle(group, client, name)
                proxy.open[FROM_SHARD].clear()
                for number in range(3):
                    group.say(name, number)
                helpers.eventually(lambda: not is_back(group, "edge-0", 0), "the edge misses the shard")
                proxy.open[FROM_SHARD].set()
                assert helpers.texts(helpers.before(client, 2)) == [0, 1]
        finally:
            proxy.close()
