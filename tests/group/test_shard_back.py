"""A shard is killed and comes back: a crowd attaches again, publishers are answered, no loss goes untold."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import threading
import time
from contextlib import contextmanager

CLIENTS = 800
AT_LEAST = 50
"""Messages before the kill, and after the shard is back."""

SIZES = {"shards": 1, "edges": 1, "routers": 1, "ping_interval": "10m", "silence_timeout": "1h"}
"""The crowd answers no pings."""


class Crowd:
    """Websockets that only read, as bare sockets: thousands of them cost a test nothing."""

    def __init__(self, port):
        self.port = port
        self.got = []
        """By client: the texts that it got, and None for each gap on its channel that it was told of."""
        self._selector = selectors.DefaultSelector()
        self._unread = []
        self._lock = threading.Lock()

    def join(self, conn_id):
        one = socket.create_connection(("127.0.0.1", self.port))
        one.sendall(
            f"GET /ws?conn_id={conn_id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += one.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.got.append([])
        self._unread.append(bytearray(head.partition(b"\r\n\r\n")[2]))
        self._selector.register(one, selectors.EVENT_READ, len(self.got) - 1)

    def read(self, wait_s=0.05):
        """Take what has come, for all."""
        for key, _ in self._selector.select(wait_s):
            data = key.fileobj.recv(1 << 16)
            assert data, f"client {key.data} was cut off"
            self._unread[key.data] += data
            for frame in frames(self._unread[key.data]):
                for told in json.loads(frame):
                    if told["type"] == "message":
                        self.got[key.data].append(told["message"]["text"])
                    elif told["channel"] is not None:  # of what may have been private it is told as well
                        self.got[key.data].append(None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


def frames(data):
    """Take the whole text frames off the front of what a server has sent. Pings are left unanswered."""
    while len(data) >= 2:
        size, start = data[1], 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if len(data) < start + size:
            return
        if data[0] & 15 == 1:
            yield bytes(data[start : start + size])
        del data[: start + size]


class Publisher(threading.Thread):
    """Says one number after the other until it is told to stop."""

    def __init__(self, group, channel):
        super().__init__(daemon=True)
        self._group = group
        self._channel = channel
        self.waits = []
        """Seconds until each was answered."""
        self.refused = []
        self.stopping = False

    def run(self):
        while not self.stopping:
            began = time.monotonic()
            message = {"user": "backend", "channel": self._channel, "message": {"text": len(self.waits)}}
            answer = self._group.post("/message", [message])
            if answer.status_code != 200:
                self.refused.append((len(self.waits), answer.status_code, answer.text))
            self.waits.append(time.monotonic() - began)


@contextmanager
def many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def assert_all(got, said):
    """Each has all that was said, once and in order, and was told of no loss."""
    for number, one in enumerate(got):
        assert one == list(range(said)), f"client {number}"


def assert_all_but_one_stretch(got, said):
    """Each has all that was said, once and in order, but for what the killed shard alone has known: that is the same
    for everybody, in one piece, and everybody was told."""
    first = [text for text in got[0] if text is not None]
    missed = [text for text in range(said) if text not in set(first)]
    assert missed == list(range(missed[0], missed[-1] + 1) if missed else [])
    expected = [text for text in range(said) if text not in missed]
    for number, one in enumerate(got):
        assert [text for text in one if text is not None] == expected, f"client {number}"
        assert None in one or not missed, f"client {number} was not told of {missed}"


def test_a_crowd_gets_all_and_publishers_are_answered_when_its_shard_is_killed(helpers, name):
    """Half of it on a channel with a history, which loses nothing, and half on one without."""
    with many_descriptors(), helpers.running(**SIZES) as group, Crowd(group.port) as crowd:
        channels = {f"{name}-kept": {"frames_size": 10_000, "store_history": True}, name: {"frames_size": 10_000}}
        group.call("/channel_config", channels)
        for number in range(CLIENTS):
            crowd.join(group.connect(f"user-{number}", [*channels][number % 2]))
        publishers = [Publisher(group, channel) for channel in channels]
        for one in publishers:
            one.start()
        try:
            read_until(crowd, lambda: all(len(one.waits) >= AT_LEAST for one in publishers), helpers)
            shard = group.pid_of("shard-0")
            killed_at = [len(one.waits) for one in publishers]
            os.kill(shard, signal.SIGKILL)
            read_until(crowd, lambda: have_said(publishers, killed_at, 2), helpers)
            back_at = [len(one.waits) for one in publishers]
            read_until(crowd, lambda: have_said(publishers, back_at, AT_LEAST), helpers)
        finally:
            for one in publishers:
                one.stopping = True
                one.join()
        said = [len(one.waits) for one in publishers]
        for half, count in enumerate(said):
            read_until(crowd, lambda half=half, count=count: all_end_with(crowd.got[half::2], count - 1), helpers)
        assert [one.refused for one in publishers] == [[], []]
        assert_all(crowd.got[0::2], said[0])
        assert_all_but_one_stretch(crowd.got[1::2], said[1])
        for one, killed, back in zip(publishers, killed_at, back_at, strict=True):
            before, meanwhile, after = one.waits[:killed], one.waits[killed:back], one.waits[back:]
            # They do not wait behind the attaches of all.
            assert max(after) < max(1.0, 5 * max(before)), (before, meanwhile, after)


def have_said(publishers, before, more):
    return all(len(one.waits) >= count + more for one, count in zip(publishers, before, strict=True))


def all_end_with(got, text):
    return all(one[-1:] == [text] for one in got)


def read_until(crowd, met, helpers):
    until = time.monotonic() + 3 * helpers.PATIENCE_S
    while not met():
        assert time.monotonic() < until, "it did not happen in time"
        crowd.read()
