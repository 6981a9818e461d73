"""The names that travel between processes, each its own type so that mypy tells them apart.

What lives here: the `NewType`s, the keys of topics, and nothing that reads a clock or makes randomness.
"""

from __future__ import annotations

import re
import uuid
from typing import Final, NewType

import xxhash

ChannelName = NewType("ChannelName", str)
UserName = NewType("UserName", str)
ConnId = NewType("ConnId", str)
"""A connection's id: a UUID in its canonical form (lower case, with hyphens)."""

PeerName = NewType("PeerName", str)
"""A process as the others know it: `role-index:incarnation`, for instance `edge-0:9f86d081`."""

TopicKey = NewType("TopicKey", str)
"""What a shard owns: `c/NAME` a channel, `u/NAME` a user, `k/CONN_ID` a connection."""

Incarnation = NewType("Incarnation", str)
"""One life of a process: fresh at every start, so that a restarted process is never taken for its predecessor."""

MAX_CHANNEL_NAME: Final = 256
"""Characters. The public contract's limit; names are keys in every process, so they stay short."""

MAX_USER_NAME: Final = 512
"""Characters. The public contract's limit."""

_CANONICAL_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def channel_key(name: str) -> TopicKey:
    """The topic of a channel."""
    return TopicKey("c/" + name)


def user_key(name: str) -> TopicKey:
    """The topic of a user's private messages."""
    return TopicKey("u/" + name)


def connection_key(conn_id: str) -> TopicKey:
    """The topic that a connection's record is kept under."""
    return TopicKey("k/" + conn_id)


def fingerprint(epoch: str) -> str:
    """A short form of an epoch, as clients keep it: enough to see that it is another one."""
    return f"{xxhash.xxh3_64_intdigest(epoch.encode()) & 0xFFFF_FFFF:08x}"


def name_of(key: TopicKey) -> str:
    """The name inside a topic's key: the reverse of the three functions above."""
    return key[2:]


def canonical_uuid(text: str) -> str:
    """The canonical form of any form that `uuid.UUID()` takes. Raises `ValueError`."""
    if _CANONICAL_UUID.fullmatch(text):  # PERF: nearly always
        return text
    return str(uuid.UUID(text))


def conn_id_of(text: str) -> ConnId | None:
    """A connection's id in its canonical form, from any form that `uuid.UUID()` takes; None where it is none."""
    try:
        return ConnId(canonical_uuid(text))
    except ValueError:
        return None


def request_id_of(given: str | None) -> str | None:
    """A caller's X-Request-Id, where it is one that we repeat: nothing that could break a log line or a header."""
    return given if given and _REQUEST_ID.fullmatch(given) else None


def role_and_index(peer: PeerName) -> tuple[str, int]:
    """`("edge", 0)` of `edge-0:9f86d081`. Raises `ValueError` where the name has another form."""
    process, separator, incarnation = peer.partition(":")
    role, dash, index = process.rpartition("-")
    if not (separator and incarnation and dash and role and index.isdecimal()):
        raise ValueError(f"peer name {peer!r} is not of the form role-index:incarnation")
    return role, int(index)
