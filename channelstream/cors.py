"""Which pages may read an answer: the headers of cross-origin requests (CORS, in the Fetch standard). Pure.

Only clients' paths have them. Whoever knows a `conn_id` may use it, so without `allow_cors` every page may, and is
told so with a `*`, which browsers never combine with cookies. With `allow_cors` an origin is compared as a whole: part
of one (`example.org` in `https://example.org.evil.net`) is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Headers = list[tuple[str, str]]

CORS_MAX_AGE_S: Final = 86_400
"""How long a browser may remember the answer to a preflight. Browsers cut it to what they like, two hours at most."""

EXPOSED: Final = "X-Request-Id, Retry-After"
"""Headers of an answer that scripts may read besides the harmless ones."""

ASKED_HEADERS: Final = "Accept, Cache-Control, Content-Type, Last-Event-ID, X-Request-Id, X-Requested-With"
"""Headers that a script may send: none has a meaning here that a page from elsewhere could misuse."""


class Cors:
    """The rules of one server."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed: Final = frozenset(allowed)
        """Empty: everyone."""

    def is_foreign(self, origin: str | None, host: str | None) -> bool:
        """Whether a request comes from a page that may not use the server. One without an Origin is no page's; one of
        our own `host` needs no list."""
        if not self._allowed or origin is None or origin in self._allowed:
            return False
        return origin.partition("://")[2] != host

    def headers(self, origin: str | None) -> Headers:
        """Of every answer to a client."""
        if not self._allowed:
            return [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", EXPOSED)]
        vary = ("Vary", "Origin")
        if origin not in self._allowed or origin is None:
            return [vary]
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", EXPOSED),
            vary,
        ]

    def preflight(self, origin: str | None, methods: str) -> Headers:
        """Of the answer to OPTIONS: what a page may do, beside `headers`. `methods`: those of the path."""
        if self._allowed and origin not in self._allowed:
            return self.headers(origin)
        return [
            *self.headers(origin),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", ASKED_HEADERS),
            ("Access-Control-Max-Age", str(CORS_MAX_AGE_S)),
        ]
