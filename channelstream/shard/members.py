"""Who is on a channel, by user: presence speaks of users, not of their connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from channelstream import few
from channelstream.few import Few
from channelstream.shard.listing import Listing
from channelstream.wire.messages import State

if TYPE_CHECKING:
    from channelstream.shard.channel import Channel
    from channelstream.shard.connection import Connection


KEPT_FROM: Final = 32
"""Users on a channel from which on their listing is kept once it was asked for. That of fewer is made in the time in
which it is sent, and most channels are small."""

NOTHING: Final[State] = {}
"""The public state of nearly everyone."""


class Person:
    """A user as a shard knows it that owns channels it is on."""

    __slots__ = ("connections", "name", "public")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.public: State = NOTHING
        """The part of its state that others may see, as of the last command that told it. Replaced, never changed."""
        self.connections: Few[Connection] = ()
        """Its connections that are on channels of this shard."""

    def joined(self, connection: Connection) -> None:
        """A connection of it is on a channel."""
        self.connections = few.added(self.connections, connection)

    def left(self, connection: Connection) -> None:
        """A connection of it is on a channel no more."""
        if not any(topic.is_channel for topic in connection.topics):
            self.connections = few.removed(self.connections, connection)

    def channels(self) -> list[Channel]:
        """The channels of this shard that it is on."""
        topics = dict.fromkeys(topic for connection in self.connections for topic in connection.topics)
        return [cast("Channel", topic) for topic in topics if topic.is_channel]


class Members:
    """The users on one channel, with the number of their connections."""

    __slots__ = ("_counts", "_listing")

    def __init__(self) -> None:
        self._counts: dict[Person, int] = {}
        self._listing: Listing | None = None
        """Made when somebody asks for it."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, person: Person) -> bool:
        """Count a connection; True where it is the user's first here."""
        count = self._counts.get(person, 0)
        self._counts[person] = count + 1
        if count == 0 and self._listing is not None:
            self._listing.add(person.name)
        return count == 0

    def remove(self, person: Person) -> bool:
        """Count a connection out; True where it was the user's last here."""
        count = self._counts[person] - 1
        if count:
            self._counts[person] = count
            return False
        del self._counts[person]
        if self._listing is not None:
            self._listing.remove(person.name)
        return True

    def touch(self, person: Person) -> None:
        """What is told of a user who is here is another thing now."""
        if self._listing is not None:
            self._listing.touch(person.name)

    def listing(self) -> Listing:
        """The users in the order of their names. Not to be kept by who asks."""
        if self._listing is not None:
            return self._listing
        listing = Listing(self.names())
        if len(self) >= KEPT_FROM:
            self._listing = listing
        return listing

    def connections_of(self, person: Person) -> int:
        """How many connections a user has here."""
        return self._counts.get(person, 0)

    def names(self) -> list[str]:
        """The users' names, in the order in which they came."""
        return [person.name for person in self._counts]

    def with_states(self) -> list[dict[str, object]]:
        """What presence says of everyone who is here."""
        return [{"user": person.name, "state": person.public} for person in self._counts]
