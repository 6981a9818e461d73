"""A channel's history: the messages kept for readers, newest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from channelstream.clock import Now
from channelstream.shard.store.base import StoredMessage

DELETED_KEPT: Final = 100
"""How many deletions are remembered, so that a late repetition of a request does not bring a message back. A caller
repeats within seconds."""


class Kept(Struct, frozen=True, gc=False):
    """A message, and when it came: in monotonic seconds, so that no step of the wall clock makes it old."""

    message: StoredMessage
    since: float


class History:
    """At most so many messages, each at most so old. Both limits come with the call, since a channel's configuration
    may change at any time."""

    __slots__ = ("_deleted", "_kept")

    def __init__(self, messages: Iterable[StoredMessage], now: Now) -> None:
        self._kept: dict[str, Kept] = {
            message.uuid: Kept(message, now.mono - max(now.wall - message.at, 0.0)) for message in messages
        }
        self._deleted: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[StoredMessage]:
        """Oldest first."""
        return (kept.message for kept in self._kept.values())

    def knows_any(self, uuids: Sequence[str]) -> bool:
        """Whether a message with one of these uuids is kept, or was deleted a while ago."""
        return not (self._kept.keys().isdisjoint(uuids) and self._deleted.keys().isdisjoint(uuids))

    def add(self, messages: Sequence[StoredMessage], now_mono: float) -> None:
        """Keep messages. Call `trim` after."""
        self._kept.update([(message.uuid, Kept(message, now_mono)) for message in messages])

    def get(self, uuid: str) -> StoredMessage | None:
        """The message with this uuid, if it is kept."""
        kept = self._kept.get(uuid)
        return None if kept is None else kept.message

    def put(self, message: StoredMessage) -> None:
        """A message that is kept is this now. Its place stays."""
        self._kept[message.uuid] = replace(self._kept[message.uuid], message=message)

    def delete(self, uuid: str) -> StoredMessage | None:
        """Forget a message and remember that it was deleted; it comes back, or None where it was not kept."""
        self._deleted[uuid] = None
        if len(self._deleted) > DELETED_KEPT:
            del self._deleted[next(iter(self._deleted))]
        return self.take_back(uuid)

    def take_back(self, uuid: str) -> StoredMessage | None:
        """Forget a message as if it had never come."""
        kept = self._kept.pop(uuid, None)
        return None if kept is None else kept.message

    def trim(self, size: int) -> int:
        """Forget the oldest until no more than `size` are left; how many that were."""
        surplus = max(len(self._kept) - size, 0)
        for uuid in list(islice(self._kept, surplus)):
            del self._kept[uuid]
        return surplus

    def forget_before(self, mono: float) -> int:
        """Drop what is not from after a moment; how many that were."""
        dropped = 0
        while self._kept:
            uuid, oldest = next(iter(self._kept.items()))
            if oldest.since > mono:
                break
            del self._kept[uuid]
            dropped += 1
        return dropped

    def since(self, mono: float | None) -> Iterator[StoredMessage]:
        """Those from after a moment, or all."""
        return (kept.message for kept in self._kept.values() if mono is None or kept.since > mono)

    def first(self) -> StoredMessage | None:
        """The oldest."""
        return next(iter(self), None)

    def oldest_since(self) -> float | None:
        """The moment (monotonic seconds) from which the oldest is; None without one."""
        return next((kept.since for kept in self._kept.values()), None)
