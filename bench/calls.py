"""A backend's calls over raw connections that are kept open, so that the caller costs little."""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, Final

from itsdangerous import TimestampSigner

HEAD_END: Final = b"\r\n\r\n"
PATIENCE_S: Final = 30.0

IDLE_S: Final = 5.0
"""Servers close connections on which nothing comes for a while; what has been free for so long is made anew."""


class Refused(Exception):
    """An answer that is no success."""


class Signer:
    """Makes signed requests."""

    def __init__(self, secret: str, header: str = "X-Channelstream-Secret") -> None:
        self._signer: Final = TimestampSigner(secret)
        self._header: Final = header
        self._heads: dict[str, tuple[int, bytes]] = {}

    def request(self, path: str, body: bytes) -> bytes:
        """One, ready to be sent. A signature is good for the second it was made in."""
        second = int(time.time())
        made, head = self._heads.get(path, (0, b""))
        if made != second:
            signature = self._signer.sign(path).decode()
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._header}: {signature}\r\n"
                "Content-Type: application/json\r\nContent-Length: "
            ).encode()
            self._heads[path] = second, head
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)


class Line:
    """One connection that is kept open: one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock: Final = socket.create_connection(address, timeout=PATIENCE_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """To poll it."""
        return self._sock.fileno()

    def ask(self, request: bytes) -> None:
        """Send it."""
        self._sock.sendall(request)

    def answer(self) -> bytes:
        """The body of the answer. Raises `Refused`."""
        data = b""
        while HEAD_END not in data:
            data += self._more()
        head, _, body = data.partition(HEAD_END)
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._more()
        if not head.startswith(b"HTTP/1.1 2"):
            raise Refused(head.split(b"\r\n")[0].decode() + " " + body.decode())
        return body

    def _more(self) -> bytes:
        data = self._sock.recv(65_536)
        if not data:
            raise Refused("closed without an answer")
        return data

    def close(self) -> None:
        """No more requests."""
        self._sock.close()


class Backend:
    """Signs and calls, one call after another."""

    def __init__(self, address: tuple[str, int], secret: str, header: str = "X-Channelstream-Secret") -> None:
        self._address: Final = address
        self._signer: Final = Signer(secret, header)
        self._line: Final = Line(address)

    def send(self, path: str, body: bytes) -> bytes:
        """Call, and give the answer's body. Raises `Refused`."""
        self._line.ask(self._signer.request(path, body))
        return self._line.answer()

    def call(self, path: str, body: object) -> Any:
        """The same with JSON in and out."""
        return json.loads(self.send(path, json.dumps(body).encode()))

    def send_all(self, path: str, bodies: Iterable[tuple[str, bytes]], at_once: int) -> Iterator[str]:
        """Call for each body, over so many connections at once, as the answers are asked for; gives the names of the
        bodies as they are answered. Raises `Refused`."""
        waiting = iter(bodies)
        with closing(_Lines(self._address, at_once)) as lines:
            while True:
                for name, body in islice(waiting, at_once - lines.busy):
                    lines.ask(name, self._signer.request(path, body))
                if not lines.busy:
                    return
                yield from lines.answered()

    def close(self) -> None:
        """No more calls."""
        self._line.close()


class _Lines:
    """Several, of which each has one request under way, or none."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._address: Final = address
        self._poll: Final = select.epoll()
        self._free: Final = deque((Line(address), time.monotonic()) for _ in range(count))
        """The one that has been free for longest first, with when it was used: asked, since an answer may have been
        there long before it was read."""
        self._busy: Final[dict[int, tuple[str, Line, float]]] = {}

    @property
    def busy(self) -> int:
        """How many have a request under way."""
        return len(self._busy)

    def ask(self, name: str, request: bytes) -> None:
        """Send it over a free one."""
        line, used_at = self._free.popleft()
        now = time.monotonic()
        if now - used_at > IDLE_S:
            line.close()
            line = Line(self._address)
        line.ask(request)
        self._poll.register(line, select.EPOLLIN)
        self._busy[line.fileno()] = name, line, now

    def answered(self) -> Iterator[str]:
        """The names of those that are answered by now; one at least. Raises `Refused`."""
        events = self._poll.poll(PATIENCE_S)
        if not events:
            raise Refused(f"no answer within {PATIENCE_S:.0f} s")
        for fd, _ in events:
            name, line, asked_at = self._busy.pop(fd)
            self._free.append((line, asked_at))
            self._poll.unregister(fd)
            line.answer()
            yield name

    def close(self) -> None:
        """No more requests."""
        for line in [line for line, _ in self._free] + [line for _, line, _ in self._busy.values()]:
            line.close()
        self._poll.close()
