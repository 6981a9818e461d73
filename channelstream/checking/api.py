"""The REST API as a backend uses it: signed calls over a connection that is kept. Also a client's long-poll.

Nothing is repeated here, and nothing is decided: whoever calls gets the status, or how the connection broke.
"""

from __future__ import annotations

import http.client
from typing import Any, Final, NamedTuple

import msgspec

from channelstream import signing
from channelstream.checking.history import NO_ANSWER

LOOPBACK: Final = "127.0.0.1"

DEADLINE_S: Final = 10.0
"""How long an answer is waited for: longer than any promise, so that what is slow is measured and not cut off."""

SHOWN_OF_A_BODY: Final = 200
"""Characters of an error's body that are kept."""


class Reply(NamedTuple):
    """What came of a request."""

    status: int
    """`NO_ANSWER` where none came."""
    body: bytes
    reason: str
    """How the connection broke, or what an answer without success said."""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body's value. Raises `msgspec.DecodeError`."""
        return msgspec.json.decode(self.body)


class Api:
    """One connection to one port, made when it is needed. For one thread."""

    def __init__(self, port: int, secret: str, deadline_s: float = DEADLINE_S) -> None:
        self._port: Final = port
        self._secret: Final = secret
        self._deadline_s: Final = deadline_s
        self._connection: http.client.HTTPConnection | None = None
        """None before the first request, and after one that broke."""

    def call(self, path: str, body: object) -> Reply:
        """A signed POST."""
        headers = {
            "Content-Type": "application/json",
            "X-Channelstream-Secret": signing.sign(self._secret, path),
        }
        return self._request("POST", path, msgspec.json.encode(body), headers)

    def get(self, path: str) -> Reply:
        """A GET that needs no signature."""
        return self._request("GET", path, None, {})

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=self._deadline_s)
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reply(NO_ANSWER, b"", f"{type(error).__name__}: {error}")
        said = "" if 200 <= answer.status < 300 else content[:SHOWN_OF_A_BODY].decode(errors="replace")
        return Reply(answer.status, content, said)
