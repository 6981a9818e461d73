"""What a shard wants done: data, performed by the loop in the order in which it stands.

`Send` and `Broadcast` are for now. `Reply` and `Tell` wait until all that was stored before them is down, so that an
answer or a delivery never runs ahead of what it rests on; where nothing is being stored they are for now, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from channelstream.shard.store.base import Write
from channelstream.shard.topic import Topic
from channelstream.wire.messages import Answer, Deliver, ToPeer


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


class Reply(NamedTuple):
    """An answer, once what it says is stored."""

    peer: str
    answer: Answer
    is_strict: bool
    """Whether it says that something is stored. One that does not (a connect, a subscription) is given all the same
    where a disk is full."""
    refused: Sequence[str] = ()
    """The uuids of the messages that are undone where they cannot be stored."""


class Tell(NamedTuple):
    """Deliveries, once they are counted in the store. The topic's routes are looked at when they go out."""

    topic: Topic
    deliver: Deliver
    undone: Sequence[str] = ()
    """The uuids of the messages in it, where they are undone if they cannot be stored."""


Later = Reply | Tell
Effect = Send | Broadcast | Store | Later
