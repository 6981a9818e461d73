"""How far a client has come, as a text that it can keep: the `id` of its events, given back as `Last-Event-ID`. Pure.

A connection has a cursor on each of its topics, so a position is a list of them: `TOPIC:SEQ:EPOCH,…`, where TOPIC is a
hash of the topic's key and EPOCH the fingerprint of one. A client may make up what it likes: only topics that its
connection is on are looked for, and the shards go by it as by a claim (see `TopicCursor`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import xxhash

from channelstream.ids import fingerprint
from channelstream.wire.messages import TopicCursor

MAX_TOPICS: Final = 100
"""Cursors in a position, those that moved last: three kilobytes, in each event and in a header. A topic that is left
out goes on from its shard's own cursor, which takes for served what the kernel had taken."""

MAX_SEQ_DIGITS: Final = 18
"""Whatever a counter of 63 bits can reach."""


class Position:
    """The cursors of one client."""

    __slots__ = ("_reached",)

    def __init__(self) -> None:
        self._reached: dict[str, TopicCursor] = {}
        """By topic, the one that moved last at the end."""

    def advance(self, cursor: TopicCursor) -> None:
        """The client has come this far on a topic."""
        self._reached.pop(cursor.topic, None)
        self._reached[cursor.topic] = cursor
        if len(self._reached) > MAX_TOPICS:
            del self._reached[next(iter(self._reached))]

    def refresh(self, cursor: TopicCursor) -> None:
        """The client stands here, if the topic is among those that moved last. It does not become one of them by that:
        on a connection with many topics it would push out one that was delivered."""
        if cursor.topic in self._reached:
            self._reached[cursor.topic] = cursor

    def __str__(self) -> str:
        """Empty where no topic is known."""
        return ",".join(f"{_short(one.topic)}:{one.seq}:{fingerprint(one.epoch)}" for one in self._reached.values())


def cursors_in(text: str, topics: Iterable[str]) -> dict[str, TopicCursor]:
    """The cursors, as claims, of these topics in a position that a client gives back. What cannot be read is not there:
    the shard's own cursor counts then."""
    told: dict[str, tuple[str, int]] = {}
    for part in text.split(",", MAX_TOPICS):
        short, _, rest = part.partition(":")
        seq, _, epoch = rest.partition(":")
        if seq.isascii() and seq.isdecimal() and len(seq) <= MAX_SEQ_DIGITS and epoch:
            told[short] = (epoch, int(seq))
    return {topic: TopicCursor(topic, *told[_short(topic)], claimed=True) for topic in topics if _short(topic) in told}


def _short(topic: str) -> str:
    return xxhash.xxh3_64_hexdigest(topic.encode())
