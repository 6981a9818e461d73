"""What was done to a group and what was seen of it: records, in the order in which they were made. Pure.

Moments (`at` and what ends in `_at`) are seconds of the machine's monotonic clock. `client` and `publisher` are the
names that the checker gave them; a client's name is its username too. Topics are keys as in `ids`: `c/NAME`, `u/NAME`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

ALL_AT_ONCE: Final = "all"
"""The target of a fault that meets every process of the group."""

NO_ANSWER: Final = 0
"""The status of a request that was not answered: a time-out, a connection that was refused or broke."""

STATUS_NOT_STORED: Final = 507
"""Of the answers with which a server says that it is at fault, the one that says what did not happen."""


class Outcome(Enum):
    """What a publisher knows of a message."""

    OK = "ok"
    """It was taken: it must be in the history, and reach everybody."""
    FAILED = "failed"
    """It was refused: it must never appear."""
    UNKNOWN = "unknown"
    """Nobody knows: it may appear, once."""


def outcome_of(status: int) -> Outcome:
    """What a status says of a request. Whatever leaves a doubt is `UNKNOWN`, never `FAILED`."""
    if 200 <= status < 300:
        return Outcome.OK
    if 400 <= status < 500 or status == STATUS_NOT_STORED:
        return Outcome.FAILED
    return Outcome.UNKNOWN


class Record(Struct, frozen=True, tag_field="record"):
    """Something that was done or seen."""


class TopicMade(Record, frozen=True, tag="topic"):
    """A topic that is watched."""

    topic: str
    keeps: bool
    """Whether it has a history that outlives its shard."""


class Attempt(Record, frozen=True, tag="attempt"):
    """A publisher asked for one message to be published, and was answered or not."""

    publisher: str
    number: int
    """Of its messages, from 1. Each is done with before the next one is asked for."""
    uuid: str
    topic: str
    asked_at: float
    ended_at: float
    status: int
    """Of the answer, or `NO_ANSWER`."""
    reason: str = ""
    """What stood in an answer that was no success, or how the connection broke."""

    @property
    def outcome(self) -> Outcome:
        """What this attempt alone says."""
        return outcome_of(self.status)

    @property
    def wait_s(self) -> float:
        """How long the publisher waited."""
        return self.ended_at - self.asked_at


class Joined(Record, frozen=True, tag="joined"):
    """A client's backend made a connection for it. What the client received before belongs to an earlier one."""

    client: str
    conn_id: str
    topics: tuple[str, ...]
    at: float


class Opened(Record, frozen=True, tag="opened"):
    """A client's socket is open, or a poll was sent."""

    client: str
    socket: int
    """Of the client's, from 1."""
    at: float
    is_poll: bool = False


class Received(Record, frozen=True, tag="received"):
    """One object that a client got, whatever its type but a gap."""

    client: str
    socket: int
    topic: str
    type: str
    uuid: str
    seq: int
    catchup: bool
    at: float
    user: str = ""
    action: str = ""
    """Of presence: `joined` or `parted`."""
    epoch: str = ""
    """Where the client knows it."""


class GapTold(Record, frozen=True, tag="gap"):
    """A client was told that something is missing."""

    client: str
    socket: int
    topic: str
    missed: int | None
    at: float


class Closed(Record, frozen=True, tag="closed"):
    """The end of a socket or a poll. `code` is that of the close frame, or the status of a poll's answer or of a
    refused handshake; 0 where there was none."""

    client: str
    socket: int
    code: int
    at: float
    answered: bool = False
    """Whether a poll was answered in whole."""


class ConnectionLost(Record, frozen=True, tag="lost"):
    """A client was told that its connection is not known (401) or has ended (4000, 4002), and has to connect anew."""

    client: str
    conn_id: str
    code: int
    at: float


class Fault(Record, frozen=True, tag="fault"):
    """Something was broken."""

    kind: str
    """`kill` or `stop`."""
    target: str
    """`shard-0`, or `all`."""
    pids: tuple[int, ...]
    at: float
    until: float
    """When a stopped process went on; as `at` for a killed one."""

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"


class HistoryRead(Record, frozen=True, tag="history"):
    """What a backend was told of a topic. `messages`: uuid and seq, in the order of the history; None where it was not
    asked for."""

    topic: str
    epoch: str
    seq: int
    at: float
    messages: tuple[tuple[str, int], ...] | None = None


class Healed(Record, frozen=True, tag="healed"):
    """Whether every process of the group was ready at the end, and which were not."""

    missing: tuple[str, ...]
    at: float


class Message(NamedTuple):
    """All that is known of one message, over its attempts."""

    publisher: str
    number: int
    uuid: str
    topic: str
    asked_at: float
    """First."""
    ended_at: float
    """Last."""
    outcome: Outcome
    attempts: int

    @property
    def until_answered_s(self) -> float:
        """From the first time that it was asked for until the last answer."""
        return self.ended_at - self.asked_at


def message_of(attempts: list[Attempt]) -> Message:
    """One message, of all its attempts. One that was ever taken is; one that may have been is never `FAILED`."""
    outcomes = {attempt.outcome for attempt in attempts}
    outcome = next(one for one in (Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED) if one in outcomes)
    first, last = attempts[0], attempts[-1]
    return Message(
        first.publisher, first.number, first.uuid, first.topic, first.asked_at, last.ended_at, outcome, len(attempts)
    )


StreamItem = Received | GapTold
"""What comes to a client on a topic."""


class Membership(NamedTuple):
    """One connection of a client: from when it was made, until it was lost or the end."""

    client: str
    topics: tuple[str, ...]
    since: float
    until: float
    """Infinity where it was not lost."""
    streams: dict[str, list[StreamItem]]
    """Topic → what came, in order."""


class History:
    """Everything that was recorded, and what the validators ask of it.

    Threads may add at the same time: a record is one `list.append`, and whoever reads takes a copy first.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: Final = list(records)

    def add(self, record: Record) -> None:
        """Record something."""
        self._records.append(record)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records))

    def attempts(self) -> list[Attempt]:
        """Every request of a publisher."""
        return [record for record in self if isinstance(record, Attempt)]

    def messages(self) -> list[Message]:
        """Every message, in the order in which they were first answered."""
        by_uuid: dict[str, list[Attempt]] = {}
        for attempt in self.attempts():
            by_uuid.setdefault(attempt.uuid, []).append(attempt)
        return [message_of(attempts) for attempts in by_uuid.values()]

    def faults(self) -> list[Fault]:
        """Everything that was broken, in order."""
        return [record for record in self if isinstance(record, Fault)]

    def received(self) -> list[Received]:
        """Everything that clients got, gaps aside."""
        return [record for record in self if isinstance(record, Received)]

    def topics(self) -> dict[str, bool]:
        """Topic → whether it has a history."""
        return {record.topic: record.keeps for record in self if isinstance(record, TopicMade)}

    def read(self) -> list[HistoryRead]:
        """What backends were told of topics."""
        return [record for record in self if isinstance(record, HistoryRead)]

    def memberships(self) -> list[Membership]:
        """Every connection of every client with what came on it."""
        found: list[Membership] = []
        places: dict[str, int] = {}
        for record in self:
            match record:
                case Joined(client, _, topics, at):
                    places[client] = len(found)
                    found.append(Membership(client, topics, at, float("inf"), {topic: [] for topic in topics}))
                case ConnectionLost() if record.client in places:
                    place = places[record.client]
                    found[place] = found[place]._replace(until=record.at)
                case Received() | GapTold() if record.client in places:
                    found[places[record.client]].streams.setdefault(record.topic, []).append(record)
                case _:
                    continue
        return found

    def sockets(self, client: str) -> list[Opened | Closed]:
        """When a client's sockets and polls began and ended, in order."""
        return [record for record in self if isinstance(record, Opened | Closed) and record.client == client]


def as_lines(history: History) -> bytes:
    """The records as JSON, one a line, for other tools."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in history)
