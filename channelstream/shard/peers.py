"""The processes that talk to a shard: who is alive, how far each edge has served what it holds."""

from __future__ import annotations

from typing import Final

from channelstream.shard.connection import Connection, Record
from channelstream.wire.messages import ProcessStatus

SILENCE_S: Final = 3.5
"""A peer that has not beaten for this long is gone: three beats of a second, and half a one for a busy machine."""


class Peer:
    """One life of a router or an edge, as long as it beats."""

    __slots__ = ("connections", "last_beat", "name", "records", "served", "session", "status")

    def __init__(self, name: str, session: str, now_mono: float) -> None:
        self.name: Final = name
        self.session: Final = session
        """Given by the shard. The edge attaches all that it holds again when it sees another one."""
        self.last_beat = now_mono
        self.status: ProcessStatus | None = None
        """As of the last beat."""
        self.served: dict[str, int] = {}
        """Topic → seq that the edge has handed to its sockets, as of its beats."""
        self.connections: dict[Connection, None] = {}
        """What is attached there."""
        self.records: dict[Record, None] = {}
        """The records of connections that it holds."""

    def beat(self, status: ProcessStatus, cursors: dict[str, int], now_mono: float) -> None:
        """It is alive, and has served so far."""
        self.last_beat = now_mono
        self.status = status
        self.served.update(cursors)

    def is_silent(self, now_mono: float) -> bool:
        """Whether it is to be taken for gone."""
        return now_mono - self.last_beat > SILENCE_S
