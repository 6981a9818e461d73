"""What must be true of a history, one function for each promise. Pure: a history in, findings out.

None of them trusts another one's result: where a message is lost, the hole in the seq is found too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Final

from channelstream.checking.findings import (
    CameTwice,
    Finding,
    HoleWithoutWord,
    LostForClient,
    LostFromHistory,
    OldEpoch,
    OutOfOrder,
    Phantom,
    PublisherOutOfOrder,
    TakenTwice,
    TwoInOnePlace,
)
from channelstream.checking.history import (
    Closed,
    GapTold,
    History,
    HistoryRead,
    Membership,
    Message,
    Opened,
    Outcome,
    Received,
    StreamItem,
)
from channelstream.checking.presence import false_parted, long_waits, lost_connections, not_healed

REPEAT_AFTER_FAULT_S: Final = 10.0
"""So long after a fault a poll may bring what an earlier one brought: 3.5 s until a dead edge is noticed, 1 s for a
takeover, 5 s of the poll itself."""


def all_findings(history: History, window_s: float) -> list[Finding]:
    """Everything that is wrong. `window_s`: how long a client may be away (`gc_conns_after`)."""
    return [
        *lost_from_history(history),
        *lost_for_clients(history),
        *holes(history),
        *came_twice(history),
        *taken_twice(history),
        *out_of_order(history),
        *publishers_out_of_order(history),
        *phantoms(history),
        *old_epochs(history),
        *false_parted(history, window_s),
        *lost_connections(history, window_s),
        *long_waits(history),
        *not_healed(history),
    ]


# --- loss -------------------------------------------------------------------------------------------------------------


def last_reads(history: History) -> dict[str, HistoryRead]:
    """Topic → the last time that its messages were read."""
    return {read.topic: read for read in history.read() if read.messages is not None}


def lost_from_history(history: History) -> list[Finding]:
    """Messages that were answered and that their channel's history does not have. Channels that were not read are
    not judged: see `summary.invalid`."""
    reads, keeps = last_reads(history), history.topics()
    held = {topic: {uuid for uuid, _ in read.messages or ()} for topic, read in reads.items() if keeps.get(topic)}
    return [
        LostFromHistory(message.topic, message.uuid, message.publisher, message.number, message.ended_at)
        for message in history.messages()
        if message.outcome is Outcome.OK and message.topic in held and message.uuid not in held[message.topic]
    ]


def lost_for_clients(history: History) -> list[Finding]:
    """Messages that were answered, and that a client which was there neither got nor was told of by a gap. On a topic
    with a history a gap covers none: they are on the disk, and frames reach further back than anybody is away."""
    keeps = history.topics()
    by_topic: dict[str, list[Message]] = defaultdict(list)
    for message in history.messages():
        if message.outcome is Outcome.OK:
            by_topic[message.topic].append(message)
    taken = {message.uuid: message for messages in by_topic.values() for message in messages}
    return [
        LostForClient(membership.client, topic, message.uuid, message.publisher, message.number, message.ended_at)
        for membership in history.memberships()
        for topic in membership.topics
        for message in _missing(
            membership,
            by_topic[topic],
            Stream(judged(membership.streams[topic], keeps.get(topic, False)), taken),
        )
    ]


def judged(items: list[StreamItem], keeps: bool) -> list[StreamItem]:
    """A stream without its gaps, where they excuse nothing."""
    return [item for item in items if isinstance(item, Received)] if keeps else items


def _missing(membership: Membership, messages: list[Message], stream: Stream) -> Iterator[Message]:
    ended = membership.until != float("inf")
    for message in messages:
        if message.asked_at < membership.since or message.ended_at > membership.until or message.uuid in stream.uuids:
            continue
        # Of a connection that has ended, what was on its way is not missed; what others overtook is.
        if not stream.covers(message) and not (ended and stream.is_behind_all(message)):
            yield message


class Stream:
    """What came to a client on one topic, and where in it a message that did not come would have stood: behind all that
    were answered before it was asked for, and before all that were asked for after it was answered."""

    def __init__(self, items: list[StreamItem], messages: dict[str, Message]) -> None:
        self._gaps: Final = [place for place, item in enumerate(items) if isinstance(item, GapTold)]
        self._size: Final = len(items)
        places: dict[str, int] = {}
        for place, item in enumerate(items):
            if isinstance(item, Received) and item.uuid in messages:
                places.setdefault(item.uuid, place)
        self.uuids: Final = set(places)
        ended = sorted((messages[uuid].ended_at, place) for uuid, place in places.items())
        asked = sorted((messages[uuid].asked_at, place) for uuid, place in places.items())
        self._ended: Final = [at for at, _ in ended]
        self._last: Final = list(accumulate((place for _, place in ended), max))
        """For each that was answered, the last place of it and all that were answered before."""
        self._asked: Final = [at for at, _ in asked]
        self._first: Final = list(accumulate((place for _, place in reversed(asked)), min))[::-1]
        """For each that was asked for, the first place of it and all that were asked for after."""

    def _between(self, message: Message) -> tuple[int, int]:
        earlier = bisect_left(self._ended, message.asked_at)
        later = bisect_right(self._asked, message.ended_at)
        return (
            self._last[earlier - 1] if earlier else -1,
            self._first[later] if later < len(self._first) else self._size,
        )

    def covers(self, message: Message) -> bool:
        """Whether a gap was told where the message would have stood."""
        after, before = self._between(message)
        return any(after < place < before for place in self._gaps)

    def is_behind_all(self, message: Message) -> bool:
        """Whether nothing that was asked for later came."""
        return self._between(message)[1] == self._size


def holes(history: History) -> list[Finding]:
    """Where a client's seq jumped, and no gap told of it. What told of the client's own presence is not for it.

    A gap counts on topics with a history too: presence is in no history, and a killed shard loses the last of it.
    """
    own = {(item.topic, item.seq, item.user) for item in history.received() if item.type == "presence"}
    found: list[Finding] = []
    for membership in history.memberships():
        for topic, items in membership.streams.items():
            for top, item in _with_top(items):
                if top is not None and any((topic, seq, item.client) not in own for seq in range(top + 1, item.seq)):
                    found.append(HoleWithoutWord(item.client, topic, top, item.seq, item.at))
    return found


def _with_top(items: Iterable[StreamItem]) -> Iterator[tuple[int | None, Received]]:
    """Each delivery with the highest seq before it; None for the first one, and the first one after a gap."""
    top: int | None = None
    for item in items:
        if isinstance(item, GapTold):
            top = None
            continue
        yield top, item
        top = item.seq if top is None else max(top, item.seq)


# --- twice ------------------------------------------------------------------------------------------------------------


def came_twice(history: History) -> list[Finding]:
    """What came to a client twice. The same delivery may, after a break. A message may come under another seq only
    where its topic was lost: it has no history, and a gap was told in between."""
    keeps = history.topics()
    breaks = _breaks(history)
    found: list[Finding] = []
    for membership in history.memberships():
        for topic, items in membership.streams.items():
            for first, second, gap_between in _pairs(items):
                if gap_between and not keeps.get(topic, False):
                    continue
                if first.seq != second.seq or not breaks(first, second):
                    found.append(CameTwice(first.client, topic, first.uuid, first.seq, second.seq, second.at))
    return found


def _pairs(items: Iterable[StreamItem]) -> Iterator[tuple[Received, Received, bool]]:
    """Each delivery that has come before, with the last time that it did and whether a gap was told in between."""
    seen: dict[str, tuple[Received, int]] = {}
    gaps = 0
    for item in items:
        if isinstance(item, GapTold):
            gaps += 1
            continue
        key = item.uuid if item.type == "message" else f"{item.type} {item.uuid}"
        if key in seen:
            first, gaps_then = seen[key]
            yield first, item, gaps > gaps_then
        seen[key] = (item, gaps)


def _breaks(history: History) -> Callable[[Received, Received], bool]:
    """Says whether something broke between two deliveries to one client. A new websocket is a break; a new poll is none
    by itself: one has to have failed, or a process of the group."""
    polls: set[tuple[str, int]] = set()
    failed: dict[str, list[float]] = defaultdict(list)
    for record in history:
        if isinstance(record, Opened) and record.is_poll:
            polls.add((record.client, record.socket))
        elif isinstance(record, Closed) and not record.answered:
            failed[record.client].append(record.at)
    faults = history.faults()

    def broke(first: Received, second: Received) -> bool:
        if first.socket == second.socket:
            return False
        if (second.client, second.socket) not in polls or (first.client, first.socket) not in polls:
            return True
        own = any(first.at <= at <= second.at for at in failed[second.client])
        return own or any(fault.at <= second.at <= fault.until + REPEAT_AFTER_FAULT_S for fault in faults)

    return broke


def taken_twice(history: History) -> list[Finding]:
    """One message with two places, or one place with two: in a history, or for different clients. Topics whose counter
    may have begun anew (no history, and somebody was told a gap) are left out."""
    found: list[Finding] = []
    for topic, read in last_reads(history).items():
        for uuid, first, second in _seen_again(read.messages or ()):
            found.append(TakenTwice(topic, uuid, first, second, "its history"))
    lost = {record.topic for record in history if isinstance(record, GapTold)}
    counted = {topic for topic, keeps in history.topics().items() if keeps or topic not in lost}
    for topic in sorted(counted):
        found += _contradictions(topic, dict.fromkeys(_places_of(topic, history)))
    return found


def _seen_again(messages: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    seen: dict[str, int] = {}
    for uuid, seq in messages:
        if uuid in seen:
            yield uuid, seen[uuid], seq
        seen.setdefault(uuid, seq)


def _places_of(topic: str, history: History) -> Iterator[tuple[str, int]]:
    read = last_reads(history).get(topic)
    yield from (read.messages or ()) if read else ()
    for item in history.received():
        if item.topic == topic:
            yield item.uuid, item.seq


def _contradictions(topic: str, places: Iterable[tuple[str, int]]) -> Iterator[Finding]:
    """`places`: uuid and seq, each pair once."""
    seqs: dict[str, int] = {}
    uuids: dict[int, str] = {}
    for uuid, seq in places:
        if seqs.setdefault(uuid, seq) != seq:
            yield TakenTwice(topic, uuid, seqs[uuid], seq, "different clients, or its history")
        if uuids.setdefault(seq, uuid) != uuid:
            yield TwoInOnePlace(topic, seq, uuids[seq], uuid)


# --- order ------------------------------------------------------------------------------------------------------------


def out_of_order(history: History) -> list[Finding]:
    """Where a seq does not grow: on one socket, over sockets where it is no repetition, and in a history. After a gap a
    counter may begin anew, but not that of a topic with a history."""
    keeps = history.topics()
    found: list[Finding] = []
    for topic, read in last_reads(history).items():
        messages = read.messages or ()
        for (_, before), (uuid, after) in pairwise(messages):
            if after <= before:
                found.append(OutOfOrder("history", topic, before, after, uuid))
    for membership in history.memberships():
        for topic, items in membership.streams.items():
            found += _steps_back(topic, judged(items, keeps.get(topic, False)))
    return found


def _steps_back(topic: str, items: Iterable[StreamItem]) -> Iterator[Finding]:
    previous: Received | None = None
    known: set[tuple[str, int]] = set()
    for item in items:
        if isinstance(item, GapTold):
            previous, known = None, set()
            continue
        repeated = (item.uuid, item.seq) in known
        if previous is not None and item.seq <= previous.seq:
            same_twice = (item.uuid, item.seq) == (previous.uuid, previous.seq)
            if not (same_twice or (repeated and item.socket != previous.socket)):
                yield OutOfOrder(item.client, topic, previous.seq, item.seq, item.uuid)
        known.add((item.uuid, item.seq))
        previous = item


def publishers_out_of_order(history: History) -> list[Finding]:
    """Where messages of one publisher stand in another order than that in which it published them, one after the other.
    Repetitions do not count."""
    taken = {message.uuid: message for message in history.messages() if message.outcome is Outcome.OK}
    found: list[Finding] = []
    for topic, read in last_reads(history).items():
        found += _publishers_in("history", topic, (uuid for uuid, _ in read.messages or ()), taken)
    for membership in history.memberships():
        for topic, items in membership.streams.items():
            uuids = (item.uuid for item in items if isinstance(item, Received))
            found += _publishers_in(membership.client, topic, uuids, taken)
    return found


def _publishers_in(where: str, topic: str, uuids: Iterable[str], taken: dict[str, Message]) -> Iterator[Finding]:
    last: dict[str, int] = {}
    for uuid in dict.fromkeys(uuids):
        if uuid in taken:
            message = taken[uuid]
            before = last.get(message.publisher, 0)
            if message.number < before:
                yield PublisherOutOfOrder(where, topic, message.publisher, before, message.number)
            last[message.publisher] = max(before, message.number)


# --- what should not be there -----------------------------------------------------------------------------------------


def phantoms(history: History) -> list[Finding]:
    """Messages that were seen although nobody asked for them, they were refused, or they were for somebody else."""
    messages = {message.uuid: message for message in history.messages()}
    seen = [(item.client, item.topic, item.uuid) for item in history.received() if item.type == "message"]
    for topic, read in last_reads(history).items():
        seen += [("history", topic, uuid) for uuid, _ in read.messages or ()]
    found: list[Finding] = []
    for where, topic, uuid in dict.fromkeys(seen):
        message = messages.get(uuid)
        if message is None:
            found.append(Phantom(where, topic, uuid, "nobody said this"))
        elif message.outcome is Outcome.FAILED:
            found.append(Phantom(where, topic, uuid, "it was refused"))
        elif message.topic != topic:
            found.append(Phantom(where, topic, uuid, f"it was said on {message.topic}"))
    return found


def old_epochs(history: History) -> list[Finding]:
    """Where a counter went back within one epoch: who compares epochs believes that nothing is missing."""
    last: dict[tuple[str, str], int] = {}
    found: list[Finding] = []
    for read in history.read():
        key = (read.topic, read.epoch)
        if read.seq < last.get(key, 0):
            found.append(OldEpoch(read.topic, read.epoch, last[key], read.seq, read.at))
        last[key] = max(read.seq, last.get(key, 0))
    return found
