"""The port of the store: what is written, what comes back at the next start, and what a store must hold to.

A shard keeps all that it serves in memory and reads its store once, at the start; from then on it only writes. So a
store is small: it takes groups of writes, all of a group or none, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from channelstream.wire.messages import ChannelConfig, State


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in a channel's history. `body` is the client's JSON object without `catchup` and `seq`; `at` is in
    seconds since the epoch."""

    uuid: str
    seq: int
    body: bytes
    at: float


@dataclass(frozen=True, slots=True)
class ChannelSaved:
    """A channel was made or its configuration changed. Its history keeps no more than the configuration says."""

    channel: str
    uuid: str
    epoch: str
    config: ChannelConfig


@dataclass(frozen=True, slots=True)
class MessageSaved:
    """A message was taken into a channel's history, which keeps at most `keep` of them."""

    channel: str
    message: StoredMessage
    keep: int


@dataclass(frozen=True, slots=True)
class MessageChanged:
    """A message in a channel's history has another body now."""

    channel: str
    uuid: str
    body: bytes


@dataclass(frozen=True, slots=True)
class MessageForgotten:
    """A message was taken out of a channel's history."""

    channel: str
    uuid: str


@dataclass(frozen=True, slots=True)
class ChannelForgotten:
    """A channel and all of its history are gone."""

    channel: str


@dataclass(frozen=True, slots=True)
class UserSaved:
    """A user was made or its state changed."""

    user: str
    state: State
    public_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserForgotten:
    """A user is gone."""

    user: str


Write = ChannelSaved | MessageSaved | MessageChanged | MessageForgotten | ChannelForgotten | UserSaved | UserForgotten


@dataclass(slots=True)
class SavedChannel:
    """A channel as it is found at the start; `history` in the order of `seq`."""

    uuid: str
    epoch: str
    config: ChannelConfig
    history: list[StoredMessage] = field(default_factory=list)


@dataclass(slots=True)
class Saved:
    """All that a store holds."""

    channels: dict[str, SavedChannel] = field(default_factory=dict)
    users: dict[str, UserSaved] = field(default_factory=dict)


class Store(Protocol):
    """Keeps the writes of one shard."""

    def load(self) -> Saved:
        """What the writes so far amount to. The caller may keep it: later writes do not change it."""

    def commit(self, writes: Sequence[Write]) -> None:
        """Take these writes, all or none. On return they are as safe as this store makes them."""

    def close(self) -> None:
        """Let go of everything. Nothing may be called after."""
