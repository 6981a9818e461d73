"""What clients are sent: lists of objects, websocket frames, and close codes. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from channelstream.ids import TopicKey, name_of

CLOSE_NORMAL: Final = 1000
CLOSE_GOING_AWAY: Final = 1001
"""The server is going away: come back, spread over some seconds."""
CLOSE_NOT_TEXT: Final = 1007
CLOSE_POLICY: Final = 1008
"""A consumer that is too slow."""
CLOSE_TOO_BIG: Final = 1009
CLOSE_DISCONNECTED: Final = 4000
CLOSE_REPLACED: Final = 4001
CLOSE_EXPIRED: Final = 4002

REASONS: Final = {
    CLOSE_NORMAL: "",
    CLOSE_GOING_AWAY: "the server is going away",
    CLOSE_NOT_TEXT: "not UTF-8",
    CLOSE_POLICY: "too slow",
    CLOSE_TOO_BIG: "too big",
    CLOSE_DISCONNECTED: "disconnected by the backend",
    CLOSE_REPLACED: "replaced by another socket",
    CLOSE_EXPIRED: "expired",
}
"""What stands beside a code in a close frame: for people who read a browser's console."""

PING: Final = b"\x89\x00"
"""An unmasked ping without payload (RFC 6455 section 5.5.2)."""

_CALLBACK: Final = re.compile(r"[A-Za-z0-9_$.]{1,64}")
_TEXT: Final = 0x81
_RSV1: Final = 0x40
_CLOSE: Final = 0x88
_LENGTH_16: Final = struct.Struct(">BBH")
_LENGTH_64: Final = struct.Struct(">BBQ")


def listed(bodies: Sequence[bytes]) -> bytes:
    """Finished JSON objects as one JSON list."""
    return b"[%b]" % b",".join(bodies)


def is_callback(name: str) -> bool:
    """Whether a JSONP callback is a name, and so cannot be a piece of script."""
    return _CALLBACK.fullmatch(name) is not None


def called(name: str, body: bytes) -> bytes:
    """A list as JSONP: a script that calls `name` with it. Two characters of JSON end a line in older scripts."""
    for character in ("\u2028", "\u2029"):
        body = body.replace(character.encode(), ascii(character)[1:-1].encode())
    return b"%b(%b)" % (name.encode(), body)


def text_frame(payload: bytes, compressed: bool = False) -> bytes:
    """An unmasked, final text frame (RFC 6455 section 5.2), the same for every client that gets it. One that is
    compressed says so in its first reserved bit (RFC 7692 section 6)."""
    size = len(payload)
    first = _TEXT | _RSV1 if compressed else _TEXT
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _LENGTH_16.pack(first, 126, size) + payload
    return _LENGTH_64.pack(first, 127, size) + payload


def masked_size(payload: int) -> int:
    """Bytes of a client's frame (RFC 6455 section 5.2): two, the longer lengths, the mask, the payload."""
    return 6 + payload + (0 if payload < 126 else 2 if payload < 65_536 else 8)


def close_frame(code: int, hint: str = "") -> bytes:
    """A close frame with its reason, and a hint behind it (RFC 6455 section 5.5.1: 123 bytes together at most)."""
    payload = code.to_bytes(2, "big") + (REASONS.get(code, "") + hint).encode()
    return bytes((_CLOSE, len(payload))) + payload


def event(bodies: Sequence[bytes], position: str) -> bytes:
    """A server-sent event: the list as its data, the position as its id (HTML standard, "Server-sent events"). Without
    bodies the id alone, which a browser keeps without telling its page. Nothing in a body ends a line."""
    told = b"data: %b\n" % listed(bodies) if bodies else b""
    return b"id: %b\n%b\n" % (position.encode(), told)


def retry(milliseconds: int) -> bytes:
    """How long a browser waits until it comes back, from now on."""
    return b"retry: %d\n\n" % milliseconds


def close_event(code: int, retry_ms: int) -> bytes:
    """The last event of a stream: what a close frame would say, for pages that listen to events of the type `close`."""
    told = msgspec.json.encode({"code": code, "reason": REASONS.get(code, "")})
    return b"event: close\ndata: %b\nretry: %d\n\n" % (told, retry_ms)


def gap(topic: TopicKey, lost: int | None) -> bytes:
    """What tells a client that frames no longer reach back to where it was. `lost` None: nobody knows how many."""
    channel = name_of(topic) if topic.startswith("c/") else None
    return msgspec.json.encode({"type": "gap", "channel": channel, "missed": lost})
