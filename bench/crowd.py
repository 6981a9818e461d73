"""Many clients in one process: raw sockets on one epoll, so that they cost less than the server that is measured.

They receive and count. Every message of the bench has the `MARK` in it once, so a client counts messages without
parsing; of every `sampled`th client the time that the publisher wrote into the message is looked at as well.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

MARK: Final = b"@@"
STAMP: Final = b'"t":'
"""Before the time at which a message was published: nanoseconds of the monotonic clock, 19 digits at most."""

PING: Final = b"\x89"
"""How a websocket's ping begins (RFC 6455 section 5.5.2)."""
PONG: Final = b"\x8a\x80\0\0\0\0"
"""A masked pong without payload; the mask of nothing is nothing."""

HEAD_END: Final = b"\r\n\r\n"
RECEIVE_BYTES: Final = 262_144
ALL_AT_ONCE: Final = 4096


class LostClients(Exception):
    """Some clients were refused or cut off."""


class Crowd:
    """See the module. Call `open`, then `receive` as often as you like, then `close`."""

    def __init__(self, sampled: int = 10) -> None:
        self._sampled: Final = sampled
        self._epoll: Final = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._half: set[int] = set()
        """Clients whose last byte may be the first half of a mark."""
        self._samples: set[int] = set()
        self.counts: dict[int, int] = {}
        """Messages by descriptor."""
        self.received = 0
        """Messages of all."""
        self.bytes = 0
        self.latencies_ns: list[int] = []
        """From publish to socket, of the sampled clients."""
        self.gone = 0
        """Clients that the server has closed."""
        self.answers: dict[int, bytes] = {}
        """What the server said to a request, where `open` was asked to keep it."""

    def __len__(self) -> int:
        return len(self._socks)

    # --- coming ---

    def open(
        self,
        address: tuple[str, int],
        requests: Iterable[bytes],
        *,
        at_once: int = 100,
        patience_s: float = 60.0,
        expected: bytes = b"HTTP/1.1 101",
        on_progress: Callable[[int], None] = lambda count: None,
    ) -> int:
        """A client for each request, `at_once` of them under way. Returns how many there are then. Raises `LostClients`
        where an answer does not begin with what is `expected`, and `TimeoutError`."""
        waiting = iter(requests)
        opening: dict[int, bytes] = {}
        until = time.monotonic() + patience_s
        while True:
            for request in islice(waiting, at_once - len(opening)):
                opening[self._begin(address, request)] = b""
            if not opening:
                return len(self._socks)
            if time.monotonic() > until:
                raise TimeoutError(f"{len(opening)} of the clients were not answered within {patience_s:.0f} s")
            for fd, _ in self._epoll.poll(1.0, ALL_AT_ONCE):
                if fd in opening:
                    self._go_on_opening(fd, opening, expected)
                    on_progress(len(self._socks) - len(opening))
                else:
                    self._take(fd)

    def _begin(self, address: tuple[str, int], request: bytes) -> int:
        sock = socket.create_connection(address)
        sock.sendall(request)
        sock.setblocking(False)
        fd = sock.fileno()
        self._socks[fd] = sock
        self.counts[fd] = 0
        if len(self.counts) % self._sampled == 0:
            self._samples.add(fd)
        self._epoll.register(fd, select.EPOLLIN)
        return fd

    def _go_on_opening(self, fd: int, opening: dict[int, bytes], expected: bytes) -> None:
        data = self._received(fd)
        opening[fd] += data
        head, end, behind = opening[fd].partition(HEAD_END)
        if end:
            del opening[fd]
            if not head.startswith(expected):
                raise LostClients(head.decode("latin-1") + " " + behind.decode("latin-1"))
            if behind:
                self._count(fd, behind)
        elif not data:
            raise LostClients("closed without an answer")

    # --- receiving ---

    def receive(self, seconds: float, wanted: int | None = None) -> bool:
        """Take what comes for so long, or until `received` has reached what is `wanted`. Whether it has."""
        until = time.monotonic() + seconds
        while wanted is None or self.received < wanted:
            left = until - time.monotonic()
            if left <= 0:
                return wanted is None
            for fd, _ in self._epoll.poll(left, ALL_AT_ONCE):
                self._take(fd)
        return True

    def _take(self, fd: int) -> None:
        data = self._received(fd)
        if data:
            self._count(fd, data)

    def _received(self, fd: int) -> bytes:
        try:
            data = self._socks[fd].recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionError:
            data = b""
        if not data:
            self.gone += 1
            self._forget(fd)
        return data

    def _count(self, fd: int, data: bytes) -> None:
        count = data.count(MARK)
        if self._half and fd in self._half:
            self._half.discard(fd)
            count += data[0] == MARK[0]
        if data[-1] == MARK[0] and not data.endswith(MARK):
            self._half.add(fd)
        self.bytes += len(data)
        self.received += count
        self.counts[fd] = self.counts.get(fd, 0) + count
        if fd in self._samples:
            self._look(data, time.monotonic_ns())
        if data.startswith(PING) and not count and fd in self._socks:
            self._socks[fd].send(PONG)

    def _look(self, data: bytes, now_ns: int) -> None:
        at = data.find(STAMP)
        while at >= 0:
            begin = at + len(STAMP)
            digits = data[begin : begin + 20]
            end = next((place for place, byte in enumerate(digits) if not 48 <= byte <= 57), 0)
            if end:
                self.latencies_ns.append(now_ns - int(digits[:end]))
            at = data.find(STAMP, begin)

    def begin(self) -> None:
        """Count from nothing again."""
        self.received = self.bytes = 0
        self.latencies_ns = []
        self.counts = dict.fromkeys(self._socks, 0)

    # --- going ---

    def _forget(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._socks.pop(fd).close()

    def close(self) -> None:
        """All clients go."""
        for fd in list(self._socks):
            self._forget(fd)

    def lost(self, each: int) -> int:
        """Messages that clients should have got and did not, where each should have got so many."""
        return sum(max(0, each - count) for count in self.counts.values())


def upgrade(path: str, host: str = "127.0.0.1", extra: str = "") -> bytes:
    """A websocket's opening request. `extra`: more header lines, each with its end."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()


def percentile_ms(values_ns: Sequence[int], percent: float) -> float:
    """The value that so many percent do not exceed, in milliseconds; 0 for none."""
    if not values_ns:
        return 0.0
    ranked = sorted(values_ns)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] / 1e6


def pieces(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Them in order, so many at a time."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
