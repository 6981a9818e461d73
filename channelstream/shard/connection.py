"""Connections as a shard sees them: where they are attached, and when they are over. No topic's rule is known here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from channelstream import few
from channelstream.clock import Now
from channelstream.few import Few, Pairs
from channelstream.shard.store.base import ConnectionSaved, Place, RecordSaved
from channelstream.wire.messages import State

if TYPE_CHECKING:
    from channelstream.shard.topic import Topic

CLOSED_GRACE_S: Final = 0.5
"""How long a connection lives on after a proper close. Contract: gone within a second. Not at once, since a client
that closes and comes back elsewhere may be seen there before its good-bye is heard here."""


class Lifetime:
    """When something that an edge holds, or held, is over."""

    __slots__ = ("attachment", "closed", "conn_id", "detached_at", "last_route", "reminded_for", "route", "user")

    def __init__(self, conn_id: str, user: str, detached_at: float) -> None:
        self.conn_id: Final = conn_id
        self.user: Final = user
        self.route = ""
        """The edge that holds it; "" for none."""
        self.last_route = ""
        """The same, or the edge that was lost out of sight: it may well hold it still. "" where it is known that none
        does."""
        self.attachment = 0
        """The number of the attach that `route` belongs to, or belonged to."""
        self.detached_at = detached_at
        """Monotonic seconds since which it has no route; of no meaning while it has one."""
        self.closed = False
        """Whether its client said good-bye."""
        self.reminded_for: float | None = None
        """The moment at which it is looked at again, if any; kept by whoever does."""

    def take(self, edge: str, attachment: int) -> None:
        """An edge holds it now."""
        self.route = self.last_route = edge
        self.attachment = attachment
        self.detached_at = 0.0
        self.closed = False

    def let_go(self, now: Now, closed: bool) -> None:
        """No edge holds it any more."""
        self.route = self.last_route = ""
        self.detached_at = now.mono
        self.closed = closed

    def lose_sight(self, now: Now) -> None:
        """The edge that holds it is not heard of any more."""
        self.route = ""
        self.detached_at = now.mono
        self.closed = False

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

    __slots__ = ("channels", "is_held", "version")

    def __init__(self, conn_id: str, user: str, detached_at: float) -> None:
        super().__init__(conn_id, user, detached_at)
        self.channels: Few[str] = ()
        self.version = 0
        """Of the last change of the channels: it grows over lives of the shard too."""
        self.is_held = False
        """Whether the edge that took it has said since that it holds it: then it knows that it was given it."""

    def take(self, edge: str, attachment: int) -> None:
        """See `Lifetime.take`."""
        super().take(edge, attachment)
        self.is_held = False

    def change(self, added: Iterable[str], removed: Iterable[str], now: Now) -> None:
        """It is on other channels now."""
        for name in added:
            self.channels = few.added(self.channels, name)
        for name in removed:
            self.channels = few.removed(self.channels, name)
        self.version = max(self.version + 1, int(now.mono * 1e6))

    def saved(self) -> RecordSaved:
        """What a store is to know of it."""
        return RecordSaved(self.conn_id, self.user, tuple(sorted(self.channels)))


class Connection(Lifetime):
    """A connection at a shard that owns some of its topics."""

    __slots__ = ("_joined", "is_restored", "was_attached")

    def __init__(self, conn_id: str, user: str, detached_at: float) -> None:
        super().__init__(conn_id, user, detached_at)
        self._joined: Pairs[Topic, int] = ()
        """Topic → the seq at which it joined, in the order of joining."""
        self.was_attached = False
        """Whether an edge has attached it here: then what it is on is known here better than at the edge."""
        self.is_restored = False
        """Whether it comes from a store that knew all of it: then the same goes for what it is on in any epoch."""

    @property
    def topics(self) -> Collection[Topic]:
        """What it is on, in the order of joining."""
        return few.keys(self._joined)

    def joined_at(self, topic: Topic) -> int:
        """The seq at which it joined one of them."""
        return few.value(self._joined, topic)

    def joined(self, topic: Topic, seq: int) -> None:
        """It is on a topic, since this seq. Called by the topic, as is `left`."""
        self._joined = few.put(self._joined, topic, seq)

    def left(self, topic: Topic) -> None:
        """It is on a topic no more."""
        self._joined = few.dropped(self._joined, topic)

    def saved(self, public: State) -> ConnectionSaved:
        """What a store is to know of it. `public`: what others may see of its user's state."""
        places = tuple(Place(topic.key, self.joined_at(topic), topic.cursor(self)) for topic in self.topics)
        return ConnectionSaved(self.conn_id, self.user, public, places)
