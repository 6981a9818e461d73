"""Connections as a shard sees them: where they are attached, and when they are over. No topic's rule is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from channelstream.clock import Now

if TYPE_CHECKING:
    from channelstream.shard.topic import Topic

CLOSED_GRACE_S: Final = 0.5
"""How long a connection lives on after a proper close. Contract: gone within a second. Not at once, since a client
that closes and comes back elsewhere may be seen there before its good-bye is heard here."""


class Lifetime:
    """When something that an edge holds, or held, is over."""

    __slots__ = ("attachment", "closed", "conn_id", "detached_at", "route", "user")

    def __init__(self, conn_id: str, user: str, detached_at: float) -> None:
        self.conn_id: Final = conn_id
        self.user: Final = user
        self.route = ""
        """The edge that holds it; "" for none."""
        self.attachment = 0
        """The number of the attach that `route` belongs to, or belonged to."""
        self.detached_at = detached_at
        """Monotonic seconds since which it has no route; of no meaning while it has one."""
        self.closed = False
        """Whether its client said good-bye."""

    def take(self, edge: str, attachment: int) -> None:
        """An edge holds it now."""
        self.route = edge
        self.attachment = attachment
        self.closed = False

    def let_go(self, now: Now, closed: bool) -> None:
        """No edge holds it any more."""
        self.route = ""
        self.detached_at = now.mono
        self.closed = closed

    def detached_for_s(self, now: Now) -> float:
        """Seconds without a route; 0 while it has one."""
        return 0.0 if self.route else max(now.mono - self.detached_at, 0.0)

    def due(self, keep_s: float) -> float | None:
        """The moment (monotonic) at which it is over; None while an edge holds it."""
        if self.route:
            return None
        return self.detached_at + (min(CLOSED_GRACE_S, keep_s) if self.closed else keep_s)


class Record(Lifetime):
    """What the connection's own shard keeps: all the channels that it is on."""

    __slots__ = ("channels",)

    def __init__(self, conn_id: str, user: str, detached_at: float) -> None:
        super().__init__(conn_id, user, detached_at)
        self.channels: set[str] = set()


class Connection(Lifetime):
    """A connection at a shard that owns some of its topics."""

    __slots__ = ("topics", "was_attached")

    def __init__(self, conn_id: str, user: str, detached_at: float) -> None:
        super().__init__(conn_id, user, detached_at)
        self.topics: dict[Topic, None] = {}
        """In the order in which it joined them. Kept by `Topic.join` and `Topic.leave`."""
        self.was_attached = False
        """Whether an edge has attached it here: then what it is on is known here better than at the edge."""
