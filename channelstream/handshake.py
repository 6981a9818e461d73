"""Whether a request may become a websocket (RFC 6455 section 4.2.1).

Pure: a request in, nothing or a refusal out. Who the client is and where it comes from (Origin) is not decided here.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Final

from .errors import BadHandshake

VERSION: Final = "13"
"""The only version of the protocol that was ever a standard."""

KEY_BYTES: Final = 16
"""Of the nonce in Sec-WebSocket-Key, decoded."""


def check_handshake(method: str, version: str, headers: Mapping[str, Any]) -> None:
    """Raises `BadHandshake`, with its answer's status and headers, unless this is a proper opening handshake.

    `version`: `HTTP/1.1`. `headers`: of the request, by their WSGI names.
    """
    if method != "GET":
        raise BadHandshake("a websocket is opened with GET", 405, (("Allow", "GET, OPTIONS"),))
    if version != "HTTP/1.1":
        raise BadHandshake("a websocket is opened with HTTP/1.1")
    if not _has_token(headers.get("HTTP_UPGRADE", ""), "websocket"):
        raise BadHandshake("no upgrade to websocket asked for", 426, (("Upgrade", "websocket"),))
    if not _has_token(headers.get("HTTP_CONNECTION", ""), "upgrade"):
        raise BadHandshake("the Connection header does not say upgrade")
    if headers.get("CONTENT_LENGTH", "0") != "0":
        raise BadHandshake("a websocket's opening request has no body")
    if headers.get("HTTP_SEC_WEBSOCKET_VERSION") != VERSION:
        raise BadHandshake(f"websocket version other than {VERSION}", 426, (("Sec-WebSocket-Version", VERSION),))
    if not is_key(headers.get("HTTP_SEC_WEBSOCKET_KEY", "")):
        raise BadHandshake(f"Sec-WebSocket-Key is not {KEY_BYTES} bytes in base64")


def is_key(text: str) -> bool:
    """Whether `text` is a Sec-WebSocket-Key. Two of them, joined by a comma, are none."""
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == KEY_BYTES
    except ValueError:  # also where there is more than ASCII in it
        return False


def _has_token(given: str, token: str) -> bool:
    """Whether a header's comma-separated list has `token`, in whatever case."""
    given = given.lower()
    return given == token or token in [item.strip() for item in given.split(",")]  # PERF: nearly always the first
