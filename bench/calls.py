"""A backend's calls over raw connections that are kept open, so that the caller costs little."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final

from itsdangerous import TimestampSigner

HEAD_END: Final = b"\r\n\r\n"
PATIENCE_S: Final = 30.0
IDLE_S: Final = 4.0
"""Servers close connections on which nothing comes for a while, Node.js after 5 s; after so long a new one is made."""


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
        self._address: Final = address
        self._connect()

    def _connect(self) -> None:
        self._sock = socket.create_connection(self._address, timeout=PATIENCE_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used_at = time.monotonic()

    def exchange(self, request: bytes) -> bytes:
        """Send it, and give the body of the answer. Raises `Refused`."""
        self.ask(request)
        return self.answer()

    def fileno(self) -> int:
        """To poll it."""
        return self._sock.fileno()

    def ask(self, request: bytes) -> None:
        """Send it; over another connection, with another descriptor, where this one has been idle."""
        if time.monotonic() - self._used_at > IDLE_S:
            self.close()
            self._connect()
        self._sock.sendall(request)
        self._used_at = time.monotonic()

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
        return self._line.exchange(self._signer.request(path, body))

    def call(self, path: str, body: object) -> Any:
        """The same with JSON in and out."""
        return json.loads(self.send(path, json.dumps(body).encode()))

    def send_all(self, path: str, bodies: Iterable[tuple[str, bytes]], at_once: int) -> Iterator[str]:
        """Call for each body, over so many connections at once, as the answers are asked for; gives the names of the
        bodies as they are answered. Raises `Refused`."""
        waiting = iter(bodies)
        asked: dict[int, tuple[Line, str]] = {}
        with ExitStack() as stack:
            poll = stack.enter_context(select.epoll())
            free = [Line(self._address) for _ in range(at_once)]
            for line in free:
                stack.callback(line.close)
            while True:
                for line, (name, body) in zip(tuple(free), waiting, strict=False):
                    free.remove(line)
                    line.ask(self._signer.request(path, body))
                    asked[line.fileno()] = line, name
                    poll.register(line, select.EPOLLIN)
                if not asked:
                    return
                events = poll.poll(PATIENCE_S)
                if not events:
                    raise Refused(f"no answer within {PATIENCE_S:.0f} s")
                for fd, _ in events:
                    line, name = asked.pop(fd)
                    line.answer()
                    poll.unregister(fd)
                    free.append(line)
                    yield name

    def close(self) -> None:
        """No more calls."""
        self._line.close()
