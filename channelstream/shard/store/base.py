"""The port of the store: what is written, what comes back at the next start, and what a store must hold to.

A shard keeps all that it serves in memory and reads its store once, at the start; from then on it only writes. So a
store is small: it takes groups of writes, all of a group or none, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from msgspec import Struct, field

from channelstream.wire.messages import ChannelConfig, State


class _Value(Struct, frozen=True, gc=False):
    """A value: equal where its fields are. PERF: made for each message; a dataclass takes five times as long."""


class StoredMessage(_Value, frozen=True):
    """A message in a channel's history. `body` is the client's JSON object without `catchup` and `seq`; `at` is in
    seconds since the epoch."""

    uuid: str
    seq: int
    body: bytes
    at: float


# --- the writes -------------------------------------------------------------------------------------------------------


class ChannelSaved(_Value, frozen=True):
    """A channel was made, or its configuration changed. Its history stays as it is."""

    channel: str
    uuid: str
    epoch: str
    seq: int
    """The last delivery that was counted."""
    config: ChannelConfig


class ChannelCounted(_Value, frozen=True):
    """A channel that stores history has counted deliveries, up to `seq`, that are not in it themselves."""

    channel: str
    seq: int


class MessageSaved(_Value, frozen=True):
    """A message was taken into a channel's history, and counted. Its seq is higher than any of the channel before."""

    channel: str
    message: StoredMessage


class MessageChanged(_Value, frozen=True):
    """The message of a channel's history that has this seq has another body now. Where there is none, nothing."""

    channel: str
    seq: int
    body: bytes


class MessageForgotten(_Value, frozen=True):
    """The message of this seq was taken out of a channel's history. It stays counted."""

    channel: str
    seq: int


class HistoryCut(_Value, frozen=True):
    """What has a lower seq than `first` is in a channel's history no more. It stays counted."""

    channel: str
    first: int


class ChannelForgotten(_Value, frozen=True):
    """A channel and all of its history are gone."""

    channel: str


class UserSaved(_Value, frozen=True):
    """A user was made or its state changed."""

    user: str
    state: State
    public_keys: tuple[str, ...]


class UserForgotten(_Value, frozen=True):
    """A user is gone."""

    user: str


class RecordSaved(_Value, frozen=True):
    """The connection whose own shard this is, with all channels that it is on."""

    conn_id: str
    user: str
    channels: tuple[str, ...]


class RecordForgotten(_Value, frozen=True):
    """The record of a connection is gone."""

    conn_id: str


class Place(_Value, frozen=True):
    """A member's place on a topic: the seq at which it joined, and the one up to which it was served."""

    topic: str
    joined: int
    cursor: int


class ConnectionSaved(_Value, frozen=True):
    """The topics of this shard that a connection is on: all of them, each time."""

    conn_id: str
    user: str
    public: State
    """The part of its user's state that others may see."""
    places: tuple[Place, ...]


class ConnectionForgotten(_Value, frozen=True):
    """A connection is on no topic of this shard any more."""

    conn_id: str


class SavedFrame(_Value, frozen=True):
    """A delivery that was kept for catch-up; see `shard.topic.Frame`. `key` is the message's uuid, or tells of a
    change of it."""

    key: str
    seq: int
    body: bytes
    only: list[str] | None
    exclude: list[str] | None


class FramesSaved(_Value, frozen=True):
    """The frames of a topic at an end that was asked for. Part of the last group of a life, if of any; the next `load`
    gives them, and forgets them: once the topic has gone on, they are not the truth any more."""

    topic: str
    epoch: str
    seq: int
    frames: tuple[SavedFrame, ...]


Write = (
    ChannelSaved
    | ChannelCounted
    | MessageSaved
    | MessageChanged
    | MessageForgotten
    | HistoryCut
    | ChannelForgotten
    | UserSaved
    | UserForgotten
    | RecordSaved
    | RecordForgotten
    | ConnectionSaved
    | ConnectionForgotten
    | FramesSaved
)

# --- what comes back --------------------------------------------------------------------------------------------------


class SavedChannel(Struct):
    """A channel as it is found at the start; `history` in the order of `seq`."""

    uuid: str
    epoch: str
    seq: int
    """The last delivery that was counted, whatever has become of it."""
    config: ChannelConfig
    history: list[StoredMessage] = field(default_factory=list)
    is_whole: bool = True
    """False where something of it was damaged: then its epoch is over."""


class Saved(Struct):
    """All that a store holds."""

    channels: dict[str, SavedChannel] = field(default_factory=dict)
    users: dict[str, UserSaved] = field(default_factory=dict)
    records: dict[str, RecordSaved] = field(default_factory=dict)
    connections: dict[str, ConnectionSaved] = field(default_factory=dict)
    frames: dict[str, FramesSaved] = field(default_factory=dict)
    """By topic."""
    is_complete: bool = False
    """Whether this is all that earlier lives knew. False for a store that has just been made (what they knew is not
    known), or of which something was lost."""


class Store(Protocol):
    """Keeps the writes of one shard. Its calls wait for the disk, and come one at a time."""

    @property
    def generation(self) -> int:
        """The number of this life of the shard: higher than that of every earlier one."""

    def load(self) -> Saved:
        """What the writes so far amount to. The caller may keep it: later writes do not change it."""

    def commit(self, writes: Sequence[Write]) -> None:
        """Take these writes, all or none. On return they are as safe as this store makes them.

        Raises `StoreFull` where nothing was taken and a later try may do; `StoreBroken` where it cannot be known what
        was taken and nothing may be called after but `close`; `OwnerLost` where another life has the store now.
        """

    def tidy(self) -> bool:
        """A bounded step of housekeeping, for a moment in which nothing waits; True where there is more to do. Raises
        what `commit` does."""

    def close(self) -> None:
        """Let go of everything. Nothing may be called after."""


OF_CHANNELS: Final = frozenset({"channel", "count", "message", "cut"})
"""Kinds of subjects that end with their channel, whose name stands second."""


def subject(write: Write) -> tuple[Any, ...]:
    """What a write is about, its kind first: of several about the same, only the last one counts."""
    match write:
        case ChannelSaved(channel):
            return "channel", channel
        case ChannelForgotten(channel):
            return "end of a channel", channel
        case ChannelCounted(channel):
            return "count", channel
        case MessageSaved(channel, message):
            return "message", channel, message.seq
        case MessageChanged(channel, seq) | MessageForgotten(channel, seq):
            return "message", channel, seq
        case HistoryCut(channel):
            return "cut", channel
        case UserSaved(user) | UserForgotten(user):
            return "user", user
        case RecordSaved(conn_id) | RecordForgotten(conn_id):
            return "record", conn_id
        case ConnectionSaved(conn_id) | ConnectionForgotten(conn_id):
            return "connection", conn_id
        case FramesSaved(topic):
            return "frames", topic
