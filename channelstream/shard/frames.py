"""Frames: the deliveries that a topic keeps for members that were away, and how much of them one attach brings. Pure.

Both are bounded in bytes besides in number: messages may have megabytes, and a shard, an edge and a client would have
to hold all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol, TypeVar

from msgspec.structs import replace

from channelstream.wire.messages import AttachedTopic

MAX_FRAMES_BYTES: Final = 16 * 1024 * 1024
"""Bodies that a topic keeps for catch-up. A hundred messages of a chat are 50 KB; who sends files as messages keeps the
last few of them."""

MAX_CATCHUP_BYTES: Final = 32 * 1024 * 1024
"""Bodies that one attach brings to a client, of all its topics on a shard. A browser that has to show more than this at
once is better off with a fresh start; and it fits into the queue to an edge, whatever else waits there."""


class Kept(Protocol):
    """A frame, of which nothing but its size matters here."""

    @property
    def body(self) -> bytes: ...


F = TypeVar("F", bound=Kept)


class Frames(dict[str, F]):
    """Frames by key, oldest first, with their size. Set and delete items, `extend` and `trim`; nothing else changes
    it."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        """Of all bodies."""

    def __setitem__(self, key: str, frame: F) -> None:
        former = self.get(key)
        self.bytes += len(frame.body) - (0 if former is None else len(former.body))
        super().__setitem__(key, frame)

    def __delitem__(self, key: str) -> None:
        self.bytes -= len(self[key].body)
        super().__delitem__(key)

    def extend(self, items: Iterable[tuple[str, F]], size: int) -> None:
        """Add frames under keys that are not there yet, whose bodies have so many bytes together."""
        self.update(items)
        self.bytes += size

    def trim(self, count: int) -> list[str]:
        """Drop the oldest as long as there are more than so many, or too many bytes; a single one may have any size.
        The keys of those that are gone."""
        gone = list(islice(self, max(len(self) - count, 0)))
        for key in gone:
            self.bytes -= len(self.pop(key).body)
        while self.bytes > MAX_FRAMES_BYTES and len(self) > 1:
            gone.append(next(iter(self)))
            del self[gone[-1]]
        return gone


def within(attached: AttachedTopic, room: int) -> AttachedTopic:
    """A topic of an attach with no more bytes than this: what is too much counts as lost, the oldest first."""
    kept = len(attached.missed)
    for body in reversed(attached.missed):
        room -= len(body)
        if room < 0:
            break
        kept -= 1
    if not kept:
        return attached
    lost = None if attached.lost is None else attached.lost + kept
    return replace(attached, missed=attached.missed[kept:], lost=lost)
