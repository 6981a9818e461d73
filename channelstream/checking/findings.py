"""What a validator can find wrong, each with the facts that are needed to look for the cause. Pure.

The facts are attributes, and keys in JSON; the sentence is made in `__str__`.
"""

from __future__ import annotations

from msgspec import Struct


class Finding(Struct, frozen=True, tag_field="finding"):
    """Something that must not be."""

    @property
    def kind(self) -> str:
        """The word in the table."""
        return str(self.__struct_config__.tag)


class LostFromHistory(Finding, frozen=True, tag="lost from history"):
    """A message was answered with success, and its channel's history does not have it."""

    topic: str
    uuid: str
    publisher: str
    number: int
    answered_at: float

    def __str__(self) -> str:
        return f"{self.topic}: message {self.number} of {self.publisher} ({self.uuid}) was answered, not in the history"


class LostForClient(Finding, frozen=True, tag="lost for a client"):
    """A message was answered with success, and a client that was there got neither it nor a gap in its place."""

    client: str
    topic: str
    uuid: str
    publisher: str
    number: int
    answered_at: float

    def __str__(self) -> str:
        return f"{self.client}: message {self.number} of {self.publisher} on {self.topic} ({self.uuid}) never came"


class HoleWithoutWord(Finding, frozen=True, tag="hole without a word"):
    """A client's seq jumped, and no gap told of it."""

    client: str
    topic: str
    before: int
    after: int
    at: float

    def __str__(self) -> str:
        return f"{self.client}: {self.topic} went from seq {self.before} to {self.after}, and no gap was told"


class CameTwice(Finding, frozen=True, tag="came twice"):
    """A client got one delivery twice, with no break in between that could explain it."""

    client: str
    topic: str
    uuid: str
    first_seq: int
    second_seq: int
    at: float

    def __str__(self) -> str:
        return f"{self.client}: {self.uuid} on {self.topic} came as seq {self.first_seq} and again as {self.second_seq}"


class TakenTwice(Finding, frozen=True, tag="taken twice"):
    """One message has two places: in a history, or for different clients."""

    topic: str
    uuid: str
    first_seq: int
    second_seq: int
    where: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.uuid} has seq {self.first_seq} and {self.second_seq} ({self.where})"


class TwoInOnePlace(Finding, frozen=True, tag="two in one place"):
    """Two deliveries have one seq of one life of a topic."""

    topic: str
    seq: int
    first_uuid: str
    second_uuid: str

    def __str__(self) -> str:
        return f"{self.topic}: seq {self.seq} is {self.first_uuid} for one and {self.second_uuid} for another"


class OutOfOrder(Finding, frozen=True, tag="out of order"):
    """A seq that does not grow on one socket, or in a history."""

    where: str
    """The client, or `history`."""
    topic: str
    before: int
    after: int
    uuid: str

    def __str__(self) -> str:
        return f"{self.where}: {self.topic} went from seq {self.before} back to {self.after} ({self.uuid})"


class PublisherOutOfOrder(Finding, frozen=True, tag="publisher out of order"):
    """Of two messages of one publisher, the one that was asked for later, after the other was answered, came first."""

    where: str
    topic: str
    publisher: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.where}: on {self.topic} message {self.after} of {self.publisher} came behind its {self.before}"


class Phantom(Finding, frozen=True, tag="phantom"):
    """A message was seen that nobody asked for, that was refused, or that was not for who saw it."""

    where: str
    topic: str
    uuid: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.uuid} on {self.topic}: {self.why}"


class FalseParted(Finding, frozen=True, tag="false parted"):
    """A client was told that a user has gone who was there, or came back in time."""

    client: str
    topic: str
    user: str
    at: float
    away_s: float
    """How long that user had been away at most."""

    def __str__(self) -> str:
        return f"{self.client}: told that {self.user} parted from {self.topic}, who was away for {self.away_s:.1f} s"


class LostConnection(Finding, frozen=True, tag="connection lost"):
    """A client was told to connect anew that had not been away for too long."""

    client: str
    conn_id: str
    code: int
    at: float
    away_s: float

    def __str__(self) -> str:
        return f"{self.client}: its connection was gone ({self.code}) after {self.away_s:.1f} s away"


class OldEpoch(Finding, frozen=True, tag="old epoch"):
    """A counter went back, and its epoch did not change."""

    topic: str
    epoch: str
    before: int
    after: int
    at: float

    def __str__(self) -> str:
        return f"{self.topic}: its seq was {self.before} and is {self.after} in the same epoch {self.epoch}"


class LongWait(Finding, frozen=True, tag="long wait"):
    """A publisher waited too long for an answer, and nobody had stopped a process."""

    publisher: str
    uuid: str
    wait_s: float
    status: int
    at: float

    def __str__(self) -> str:
        return (
            f"{self.publisher}: waited {self.wait_s:.2f} s for an answer ({self.status or 'none came'}) of {self.uuid}"
        )


class NotHealed(Finding, frozen=True, tag="not healed"):
    """At the end a process of the group was not ready."""

    process: str

    def __str__(self) -> str:
        return f"{self.process} is not ready at the end"


AnyFinding = (
    LostFromHistory
    | LostForClient
    | HoleWithoutWord
    | CameTwice
    | TakenTwice
    | TwoInOnePlace
    | OutOfOrder
    | PublisherOutOfOrder
    | Phantom
    | FalseParted
    | LostConnection
    | OldEpoch
    | LongWait
    | NotHealed
)
"""Every kind there is."""
