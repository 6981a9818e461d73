"""What a shard wants done: data, performed by the loop in the order in which it stands.

An effect behind a `Store` waits until what is to be stored is down, so an answer never runs ahead of its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from channelstream.shard.store.base import Write
from channelstream.wire.messages import ToPeer


class Send(NamedTuple):
    """To one peer."""

    peer: str
    message: ToPeer


class Broadcast(NamedTuple):
    """To several peers, encoded once."""

    peers: Sequence[str]
    message: ToPeer


class Store(NamedTuple):
    """To the store."""

    write: Write


Effect = Send | Broadcast | Store
