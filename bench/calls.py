"""A backend's calls over one raw connection that is kept open, so that the caller costs little."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Final

from itsdangerous import TimestampSigner

HEAD_END: Final = b"\r\n\r\n"


class Refused(Exception):
    """An answer other than 200."""


class Backend:
    """Signs and sends, one call after another."""

    def __init__(self, address: tuple[str, int], secret: str, header: str = "X-Channelstream-Secret") -> None:
        self._address: Final = address
        self._signer: Final = TimestampSigner(secret)
        self._header: Final = header
        self._sock = socket.create_connection(address, timeout=30)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heads: dict[str, tuple[int, bytes]] = {}

    def request(self, path: str, body: bytes) -> bytes:
        """A signed request, ready to be sent. A signature is good for the second it was made in."""
        second = int(time.time())
        made, head = self._heads.get(path, (0, b""))
        if made != second:
            signature = self._signer.sign(path).decode()
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {self._address[0]}\r\n{self._header}: {signature}\r\n"
                "Content-Type: application/json\r\nContent-Length: "
            ).encode()
            self._heads[path] = second, head
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)

    def send(self, path: str, body: bytes) -> bytes:
        """Call, and give the answer's body. Raises `Refused`."""
        self._sock.sendall(self.request(path, body))
        return self._answer()

    def call(self, path: str, body: object) -> Any:
        """The same with JSON in and out."""
        return json.loads(self.send(path, json.dumps(body).encode()))

    def _answer(self) -> bytes:
        data = b""
        while HEAD_END not in data:
            data += self._more()
        head, _, body = data.partition(HEAD_END)
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._more()
        if not head.startswith(b"HTTP/1.1 200"):
            raise Refused(head.split(b"\r\n")[0].decode() + " " + body.decode())
        return body

    def _more(self) -> bytes:
        data = self._sock.recv(65_536)
        if not data:
            raise Refused("closed without an answer")
        return data

    def close(self) -> None:
        """No more calls."""
        self._sock.close()
