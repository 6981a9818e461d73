"""The processes that talk to a shard: who is alive, how far each edge has served what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from channelstream.shard.topic import Topic
from channelstream.wire.messages import ProcessStatus

SILENCE_S: Final = 3.5
"""A peer that has not beaten for this long is gone: three beats of a second, and half a one for a busy machine."""


NOTHING_TOLD: Final = -1
"""Stands for the seq of a topic of which an edge is sent nothing."""


def told_beyond(edge: str, holds: Mapping[str, int], topics: Mapping[str, Topic]) -> dict[str, int]:
    """Where an edge that has got so far was told more, or is told nothing: see `BeatAnswer`."""
    beyond: dict[str, int] = {}
    for key, seq in holds.items():
        topic = topics.get(key)
        if topic is None or edge not in topic.routes:
            beyond[key] = NOTHING_TOLD
        elif topic.told > seq:
            beyond[key] = topic.told
    return beyond


class Peer:
    """One life of a router or an edge, as long as it beats."""

    __slots__ = ("last_beat", "name", "served", "session", "status")

    def __init__(self, name: str, session: str, now_mono: float) -> None:
        self.name: Final = name
        self.session: Final = session
        """Given by the shard. The edge attaches all that it holds again when it sees another one."""
        self.last_beat = now_mono
        self.status: ProcessStatus | None = None
        """As of the last beat."""
        self.served: dict[str, int] = {}
        """Topic → seq that the edge has handed to its sockets, as of its beats."""

    def beat(self, status: ProcessStatus, cursors: dict[str, int], now_mono: float) -> None:
        """It is alive, and has served so far."""
        self.last_beat = now_mono
        self.status = status
        self.served.update(cursors)

    @property
    def silent_at(self) -> float:
        """When it is to be taken for gone (monotonic seconds), if it does not beat any more."""
        return self.last_beat + SILENCE_S
