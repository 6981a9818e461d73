"""Many clients in one process: raw sockets on one epoll, so that they cost less than the server that is measured.

They receive and count. Every message of the bench has the `MARK` in it once, so a client counts messages without
parsing; of every `sampled`th client the stamp that the publisher wrote into the message is looked at as well.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from os import read
from typing import ClassVar, Final

MARK: Final = b"@@"
STAMP: Final = re.compile(rb'"t": ?(\d{1,19})\D')
"""The moment at which a message was published: nanoseconds of the monotonic clock."""

PING: Final = b"\x89\0"
"""A websocket's ping without payload (RFC 6455 section 5.5.2)."""
PONG: Final = b"\x8a\x80\0\0\0\0"
"""A masked pong without payload; the mask of nothing is nothing."""

HEAD_END: Final = b"\r\n\r\n"
RECEIVE_BYTES: Final = 65_536
"""Of one read. More would be memory that malloc gets from the kernel anew for each read."""
EVENTS: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""PERF: edge-triggered, or each client would be looked at twice. So who may have more is read again."""
ALL_AT_ONCE: Final = 4096
AT_ONCE: Final = 100
"""Clients that are being opened together: less than any server's backlog."""
OTHERS_EACH_S: Final = 1.0
"""How often crowds whose turn it is not are attended to. Systems cut off who leaves a ping unanswered for 20 s."""


class LostClients(Exception):
    """Some clients were refused or cut off."""


class Crowd:
    """See the module. Call `open`, then `receive` as often as you like, then `close`.

    Of several that are used with `with` at the same time, each answers its pings while another one opens or receives.
    """

    _all: ClassVar[set[Crowd]] = set()
    _others_due: ClassVar[float] = 0.0

    def __init__(
        self,
        sampled: int = 10,
        *,
        mark: bytes = MARK,
        expected: bytes = b"HTTP/1.1 101",
        greet: bytes = b"",
        ping: bytes = PING,
        pong: bytes = PONG,
    ) -> None:
        """`sampled`: of one client in so many the stamps are looked at. `mark`: what is counted. The others are as in
        `bench.systems.System`."""
        self._sampled: Final = sampled
        self._mark: Final = mark
        self._expected: Final = expected
        self._greet: Final = greet
        self._ping: Final = ping
        self._pong: Final = pong
        self._epoll: Final = select.epoll()
        self._beginnings: Final = tuple(mark[:length] for length in range(len(mark) - 1, 0, -1))
        """Of a mark, the longest one first."""
        self._socks: Final[dict[int, socket.socket]] = {}
        self._requests: Final[dict[int, bytes]] = {}
        self._tails: Final[dict[int, bytes]] = {}
        """The beginnings of marks that the last bytes of some clients are."""
        self._again: list[tuple[int, int]] = []
        """Clients that may have more to read, without a new event."""
        self._samples: Final[set[int]] = set()
        self._comers = 0
        self.counts: dict[int, int] = {}
        """Messages by descriptor, since `begin`; of clients that are gone as well."""
        self.received = 0
        """Messages of all, since `begin`."""
        self.reads = 0
        """How often something was read, since `begin`: fewer reads than messages where messages came together."""
        self.bytes = 0
        """All that came, since `begin`."""
        self.latencies_ns: list[int] = []
        """From publish to socket, of the sampled clients, since `begin`."""
        self.gone: list[bytes] = []
        """The requests of clients that the server has closed."""

    def __len__(self) -> int:
        return len(self._socks)

    # --- coming ---

    def open(
        self,
        address: tuple[str, int],
        requests: Iterable[bytes],
        *,
        at_once: int = AT_ONCE,
        patience_s: float = 60.0,
        on_progress: Callable[[int], None] = lambda count: None,
    ) -> int:
        """A client for each request, `at_once` of them under way. Returns how many there are then. Raises `LostClients`
        where an answer does not begin with what is expected, and `TimeoutError` where for so long no answer came."""
        waiting = iter(requests)
        opening: set[int] = set()
        until = time.monotonic() + patience_s
        while True:
            for request in islice(waiting, at_once - len(opening)):
                opening.add(self._begin(address, request))
            if not opening:
                return len(self._socks)
            events = self._events(self._attend_to_others(1.0))
            for fd in opening.intersection(fd for fd, _ in events):
                if self._is_open(fd):
                    opening.discard(fd)
                    on_progress(len(self._socks) - len(opening))
                    until = time.monotonic() + patience_s
            self._take([event for event in events if event[0] not in opening])
            if time.monotonic() > until:
                raise TimeoutError(f"{len(opening)} of the clients were not answered within {patience_s:.0f} s")

    def _begin(self, address: tuple[str, int], request: bytes) -> int:
        sock = socket.create_connection(address)
        sock.sendall(request)
        sock.setblocking(False)
        fd = sock.fileno()
        self._socks[fd] = sock
        self._requests[fd] = request
        self.counts[fd] = 0
        self._comers += 1
        if self._comers % self._sampled == 0:
            self._samples.add(fd)
        self._epoll.register(fd, EVENTS)
        return fd

    def _is_open(self, fd: int) -> bool:
        """Take the head of the answer, and nothing behind it; once it is there as a whole."""
        sock = self._socks[fd]
        data = sock.recv(RECEIVE_BYTES, socket.MSG_PEEK)
        head, end, behind = data.partition(HEAD_END)
        if not head.startswith(self._expected[: len(head)]) or not data:
            raise LostClients(data.decode("latin-1") or "closed without an answer")
        if not end:
            return False
        sock.recv(len(data) - len(behind))
        self._say(fd, self._greet)
        return True

    # --- receiving ---

    def receive(self, seconds: float, wanted: int | None = None) -> bool:
        """Take what comes for so long, or until `received` has reached what is `wanted`. Whether it has."""
        until = time.monotonic() + seconds
        while wanted is None or self.received < wanted:
            left = until - time.monotonic()
            if left <= 0:
                return wanted is None
            self._take(self._events(self._attend_to_others(left)))
        return True

    def receive_until_quiet(self, quiet_s: float, at_most_s: float = 60.0) -> None:
        """Take what comes until nothing has come for a while."""
        until = time.monotonic() + at_most_s
        while time.monotonic() < until:
            before = self.bytes
            self.receive(quiet_s)
            if self.bytes == before:
                return

    def _attend_to_others(self, seconds: float) -> float:
        """Where it is time for it, take what has come for the other crowds. Returns how long to wait at most."""
        now = time.monotonic()
        if now >= Crowd._others_due:
            Crowd._others_due = now + OTHERS_EACH_S
            for other in Crowd._all - {self}:
                other._take(other._events(0))
        return min(seconds, OTHERS_EACH_S)

    def _events(self, seconds: float) -> Sequence[tuple[int, int]]:
        """Clients that have something to read: those that may have more, or, where there are none, what comes."""
        again, self._again = self._again, []
        return again or self._epoll.poll(seconds, ALL_AT_ONCE)

    def _take(self, events: Sequence[tuple[int, int]]) -> None:
        # PERF: this loop is what the crowd costs. Everything in it is local, and one call of C for each question.
        mark, ping, samples, counts, beginnings = self._mark, self._ping, self._samples, self.counts, self._beginnings
        received = got = reads = 0
        for fd, event in events:
            try:
                data = read(fd, RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            count = data.count(mark)
            if self._tails and fd in self._tails:
                count += self._across(fd, data)
            elif data.endswith(beginnings):
                self._keep_tail(fd, data)
            received += count
            got += len(data)
            reads += 1
            counts[fd] += count
            if count and fd in samples:
                now_ns = time.monotonic_ns()
                self.latencies_ns += [now_ns - int(stamp) for stamp in STAMP.findall(data)]
            if data.find(ping) >= 0:  # PERF: `in` tries a number first, and makes an error of that.
                self._say(fd, self._pong)
            if not data:
                self.gone.append(self._requests[fd])
                self._forget(fd)
            elif len(data) == RECEIVE_BYTES or event != select.EPOLLIN:
                self._again.append((fd, event))
        self.received += received
        self.bytes += got
        self.reads += reads

    def _across(self, fd: int, data: bytes) -> int:
        """Marks that began in what came before."""
        tail = self._tails.pop(fd)
        count = (tail + data[: len(self._mark) - 1]).count(self._mark)
        self._keep_tail(fd, tail + data[-len(self._mark) :])
        return count

    def _keep_tail(self, fd: int, last: bytes) -> None:
        """Keep the beginning of a mark that these last bytes end with."""
        if not last.endswith(self._mark):
            tail = next((begin for begin in self._beginnings if last.endswith(begin)), b"")
            if tail:
                self._tails[fd] = tail

    def _say(self, fd: int, frame: bytes) -> None:
        if frame:
            with suppress(OSError):
                self._socks[fd].send(frame)

    def begin(self) -> None:
        """Count from nothing again."""
        self.received = self.reads = self.bytes = 0
        self.latencies_ns = []
        self.counts = dict.fromkeys(self._socks, 0)

    def lost(self, each: int) -> int:
        """Messages that clients should have got since `begin` and did not, where each should have got so many."""
        return sum(max(0, each - count) for count in self.counts.values())

    # --- going ---

    def _forget(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._socks.pop(fd).close()
        self._requests.pop(fd)
        self._samples.discard(fd)
        self._tails.pop(fd, None)

    def close(self) -> None:
        """All clients go."""
        for fd in list(self._socks):
            self._forget(fd)

    def __enter__(self) -> Crowd:
        Crowd._all.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        Crowd._all.discard(self)
        self.close()
        self._epoll.close()


def upgrade(path: str, host: str = "127.0.0.1", extra: str = "") -> bytes:
    """A websocket's opening request. `extra`: more header lines, each with its end."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()
