"""The delivery checker's judgement: whatever a right server may do has no findings, and each way to be wrong has one.

A run is drawn: messages that are taken or whose answers are lost, clients that break off and come back, a topic without
history that is lost with its shard. From that, what right clients see is worked out by the rules of
docs/client-protocol.md. Then one thing is changed.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from channelstream.checking.history import (
    Attempt,
    Closed,
    Fault,
    GapTold,
    Healed,
    History,
    HistoryRead,
    Joined,
    Opened,
    Received,
    Record,
    TopicMade,
)
from channelstream.checking.validators import all_findings

KEPT, FRAMES = "c/kept", "c/frames"
CLIENTS = ("ann", "bob")
WINDOW_S = 30.0


class Step(NamedTuple):
    """Something that happens: `say` on a topic by a publisher, with lost answers first; `break_off` of a client;
    `lose` of the topic without history."""

    what: str
    topic: str = KEPT
    publisher: str = "p"
    lost_answers: int = 0
    client: str = "ann"
    repeats: int = 0


STEPS = st.one_of(
    st.builds(
        Step,
        st.just("say"),
        st.sampled_from([KEPT, FRAMES]),
        st.sampled_from(["p", "q"]),
        st.integers(0, 2),
    ),
    st.builds(Step, st.just("break_off"), client=st.sampled_from(CLIENTS), repeats=st.integers(0, 3)),
    st.just(Step("lose")),
)


class Run:
    """What a right server and its clients do."""

    def __init__(self, steps: list[Step]) -> None:
        self.records: list[Record] = [TopicMade(KEPT, True), TopicMade(FRAMES, False)]
        self.now = 0.0
        self.seqs = {KEPT: 0, FRAMES: 0}
        self.epoch = 1
        self.kept: list[tuple[str, int]] = []
        self.numbers = {"p": 0, "q": 0}
        self.sockets = dict.fromkeys(CLIENTS, 1)
        self.seen: dict[tuple[str, str], list[tuple[str, int]]] = {(c, t): [] for c in CLIENTS for t in (KEPT, FRAMES)}
        for client in CLIENTS:
            self.records += [Joined(client, client, (KEPT, FRAMES), self.tick()), Opened(client, 1, self.tick())]
        for step in steps:
            getattr(self, step.what)(step)
        self.records.append(HistoryRead(KEPT, "k", self.seqs[KEPT], self.tick(), tuple(self.kept)))
        self.records.append(Healed((), self.tick()))

    def tick(self) -> float:
        self.now += 0.5
        return self.now

    def say(self, step: Step) -> None:
        self.numbers[step.publisher] += 1
        number = self.numbers[step.publisher]
        uuid = f"{step.publisher}{number}"
        self.seqs[step.topic] += 1
        seq = self.seqs[step.topic]
        asked_at = self.tick()
        if step.topic == KEPT:
            self.kept.append((uuid, seq))
        for client in CLIENTS:
            self.seen[client, step.topic].append((uuid, seq))
            self.receive(client, step.topic, uuid, seq)
        for status in (*[0] * step.lost_answers, 200):
            self.records.append(Attempt(step.publisher, number, uuid, step.topic, asked_at, self.tick(), status))
            asked_at = self.tick()

    def receive(self, client: str, topic: str, uuid: str, seq: int) -> None:
        self.records.append(
            Received(client, self.sockets[client], topic, "message", uuid, seq, False, self.tick(), "somebody")
        )

    def break_off(self, step: Step) -> None:
        """The client comes back, and gets the last few deliveries of each topic again."""
        self.records.append(Closed(step.client, self.sockets[step.client], 0, self.tick()))
        self.sockets[step.client] += 1
        self.records.append(Opened(step.client, self.sockets[step.client], self.tick()))
        for topic in (KEPT, FRAMES):
            seen = self.seen[step.client, topic]
            for uuid, seq in seen[len(seen) - step.repeats :] if step.repeats else []:
                self.receive(step.client, topic, uuid, seq)

    def lose(self, step: Step) -> None:
        """A shard is killed: the counter of the topic without history begins anew, and everybody is told."""
        self.records.append(HistoryRead(FRAMES, f"f{self.epoch}", self.seqs[FRAMES], self.tick()))
        self.records.append(Fault("kill", "shard-0", (1,), self.tick(), self.now))
        self.epoch += 1
        self.seqs[FRAMES] = 0
        for client in CLIENTS:
            self.seen[client, FRAMES].clear()
            self.records.append(GapTold(client, self.sockets[client], FRAMES, None, self.tick()))
        self.records.append(HistoryRead(FRAMES, f"f{self.epoch}", 0, self.tick()))


RUNS = st.lists(STEPS, max_size=25).map(Run)


def first_time(records: list[Record]) -> list[int]:
    """The places of deliveries that come for the first time and are not followed by a repetition."""
    times: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(records):
        if isinstance(record, Received):
            times.setdefault((record.client, record.uuid), []).append(place)
    return [places[0] for places in times.values() if len(places) == 1]


def neighbours(records: list[Record]) -> list[tuple[int, int]]:
    """The places of deliveries that come one after the other on one socket and topic, with no gap between."""
    last: dict[tuple[str, str], int] = {}
    found = []
    for place, record in enumerate(records):
        if isinstance(record, Received):
            key = (record.client, record.topic)
            before = last.get(key)
            if before is not None and records[before].socket == record.socket:
                found.append((before, place))
            last[key] = place
        elif isinstance(record, GapTold):
            last.pop((record.client, record.topic), None)
    return found


@settings(max_examples=150)
@given(RUNS)
def test_nothing_is_found_in_what_is_right(run):
    assert all_findings(History(run.records), WINDOW_S) == []


def changed_at(draw: st.DataObject, records: list[Record], places: list[int]) -> tuple[list[Record], int] | None:
    """A copy to change, and one of the places; None where there is none."""
    return (list(records), draw.draw(st.sampled_from(places))) if places else None


@settings(max_examples=150)
@given(RUNS, st.data())
def test_a_dropped_delivery_is_found(run, data):
    drawn = changed_at(data, run.records, first_time(run.records))
    if drawn is not None:
        records, place = drawn
        del records[place]
        assert all_findings(History(records), WINDOW_S) or covered_by_a_gap(run.records, place)


def covered_by_a_gap(records: list[Record], place: int) -> bool:
    """Whether the client could think that the gap, which it is told next or was told just before, told of this one."""
    dropped = records[place]
    assert isinstance(dropped, Received)

    def is_neighbour(record: Record) -> bool:
        return (
            isinstance(record, Received | GapTold) and record.client == dropped.client and record.topic == dropped.topic
        )

    behind = next((record for record in records[place + 1 :] if is_neighbour(record)), None)
    before = next((record for record in reversed(records[:place]) if is_neighbour(record)), None)
    return isinstance(behind, GapTold) or isinstance(before, GapTold)


@settings(max_examples=150)
@given(RUNS, st.data())
def test_a_repeated_delivery_is_found(run, data):
    places = [place for place, record in enumerate(run.records) if isinstance(record, Received)]
    drawn = changed_at(data, run.records, places)
    if drawn is not None:
        records, place = drawn
        records.insert(place, records[place])
        assert all_findings(History(records), WINDOW_S)


@settings(max_examples=150)
@given(RUNS, st.data())
def test_two_swapped_deliveries_are_found(run, data):
    pairs = neighbours(run.records)
    if pairs:
        records = list(run.records)
        first, second = data.draw(st.sampled_from(pairs))
        records[first], records[second] = records[second], records[first]
        assert all_findings(History(records), WINDOW_S)


@settings(max_examples=100)
@given(RUNS, st.data())
def test_a_message_that_is_missing_in_the_history_is_found(run, data):
    if run.kept:
        missing = data.draw(st.sampled_from(run.kept))
        records = [
            HistoryRead(KEPT, "k", one.seq, one.at, tuple(pair for pair in one.messages or () if pair != missing))
            if isinstance(one, HistoryRead) and one.messages is not None
            else one
            for one in run.records
        ]
        assert all_findings(History(records), WINDOW_S)
