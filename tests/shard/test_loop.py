"""The shard's loop over the bus in memory and a clock that stands still: order, groups, full queues, lost peers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec
import pytest

from channelstream.bus.memory import MemoryBus, MemoryDialer
from channelstream.errors import OwnerLost, StoreBroken, StoreError, StoreFull
from channelstream.shard.core import Settings, Shard
from channelstream.shard.lifetimes import STEPS_A_SECOND
from channelstream.shard.loop import LONGEST_WAIT_S, OWNER_LOOK_S, RETRY_S, Loop
from channelstream.shard.pipeline import PACE_S
from channelstream.shard.store.base import (
    ChannelSaved,
    ConnectionSaved,
    FramesSaved,
    MessageSaved,
    RecordSaved,
    Saved,
    Write,
)
from channelstream.shard.writer import AtOnce
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Attach,
    Attached,
    Beat,
    BeatAnswer,
    Claim,
    Claimed,
    Command,
    Deliver,
    Done,
    GetChannels,
    GetStatus,
    Join,
    NotStored,
    OpenConnection,
    ProcessStatus,
    Publication,
    Publish,
    TakeConnection,
    ToPeer,
    TopicCursor,
    ToShard,
)

QUEUE_BYTES = 4000
EDGE = "edge-0:a"
OTHER = "edge-1:b"
ROUTER = "router-0:r"


class WatchedStore:
    """Remembers each commit, and what had been sent by then."""

    def __init__(self, sent: Any) -> None:
        self.commits: list[list[Write]] = []
        self.sent_before: list[int] = []
        self._sent = sent

    def load(self) -> Saved:
        return Saved()

    def commit(self, writes: Sequence[Write]) -> None:
        if self.error is not None:
            raise self.error
        self.commits.append(list(writes))
        self.sent_before.append(self._sent())

    def tidy(self) -> bool:
        return False

    def close(self) -> None:
        return

    generation = 1
    error: StoreError | None = None
    """What the next commits raise."""


@dataclass
class Group:
    """One shard and three that dial it."""

    bus: MemoryBus
    loop: Loop
    shard: Shard
    store: WatchedStore
    dialers: dict[str, MemoryDialer]
    clock: Any

    def tell(self, peer: str, *messages: ToShard) -> None:
        for message in messages:
            self.dialers[peer].send(codec.encode(message))
        self.dialers[peer].flush()

    def ask(self, peer: str, *commands: Command) -> list[Any]:
        """A turn for these, and the results in their order."""
        self.clock.advance(PACE_S)
        self.tell(peer, *(Ask(number, float("inf"), command) for number, command in enumerate(commands)))
        self.loop.turn(0)
        return [message.result for message in self.dialers[peer].receive() if isinstance(message, Answer)]

    def received(self, peer: str) -> list[ToPeer]:
        return self.dialers[peer].receive()

    def hold(self, conn_id: str, edge: str, **config: bool | int) -> None:
        """A connection to the channel `a`, attached at an edge."""
        self.ask(edge, OpenConnection(conn_id, "ann", ["a"]))
        (state,) = self.ask(edge, TakeConnection(conn_id))
        join = Join(conn_id, "ann", {}, ["a"], {"a": config}, [], False, False, edge, state.attachment, 0.0)
        self.ask(edge, join)
        self.received(edge)

    def history(self) -> list[str]:
        """The uuids in the history of the channel `a`."""
        (told,) = self.ask(ROUTER, GetChannels(["a"], True, False))
        return [message["uuid"] for message in msgspec.json.decode(told.channels[0].json)["history"]]


def publish(*uuids: str, size: int = 0) -> Publish:
    filler = b"x" * size
    return Publish([Publication(["c/a"], [uuid], [b'{"uuid":"%b%b"}' % (uuid.encode(), filler)]) for uuid in uuids])


def beat() -> Beat:
    return Beat("", ProcessStatus("edge", 0, 1, 0.0, "test"), {})


@pytest.fixture
def group(clock: Any) -> Iterator[Group]:
    bus = MemoryBus()
    dialers = {name: bus.dial(name, "shard-0", 1_000_000) for name in (EDGE, OTHER, ROUTER)}
    listener = bus.listen("shard-0", 1, QUEUE_BYTES)
    store = WatchedStore(lambda: sum(not link.down.empty() for link in bus.links.values()))
    ids = count(1)
    own = ProcessStatus("shard", 0, 1, 0.0, "test")
    shard = Shard(own, Settings(), lambda: f"id-{next(ids)}", store.load(), clock())
    yield Group(bus, Loop(shard, listener, AtOnce(store), clock), shard, store, dialers, clock)
    bus.close()


def test_what_is_asked_in_a_turn_is_answered_in_it_and_in_order(group: Group) -> None:
    results = group.ask(ROUTER, Claim("a", 9.0), Claim("a", 9.0), Claim("b", 9.0))
    assert results == [Claimed(True), Claimed(False), Claimed(True)]


def test_all_of_a_turn_is_stored_as_one_group_before_anything_is_sent(group: Group) -> None:
    group.hold("k1", EDGE, store_history=True)
    group.store.commits.clear()
    group.store.sent_before.clear()
    group.tell(OTHER, Ask(1, float("inf"), publish("m1")))
    assert group.ask(ROUTER, publish("m2", "m3")) == [Done()]
    (writes,) = group.store.commits
    assert [write.message.uuid for write in writes if isinstance(write, MessageSaved)] == ["m1", "m2", "m3"]
    assert group.store.sent_before == [0]
    assert [message.seq for message in group.received(EDGE) if isinstance(message, Deliver)] == [1, 2, 3]


def test_a_turn_with_nothing_to_store_stores_nothing(group: Group) -> None:
    group.ask(ROUTER, GetStatus())
    assert group.store.commits == []


@pytest.mark.parametrize("error", [StoreBroken("fsync failed"), OwnerLost("another owner")])
def test_a_store_that_may_not_be_used_any_more_lets_nothing_out(group: Group, error: StoreError) -> None:
    group.hold("k1", EDGE, store_history=True)
    group.store.error = error
    with pytest.raises(type(error)):
        group.ask(ROUTER, publish("m1"))
    assert group.received(ROUTER) == []
    assert group.received(EDGE) == []


def test_a_full_disk_refuses_messages_for_histories_and_nothing_else(group: Group) -> None:
    group.hold("k1", EDGE, store_history=True)
    group.store.error = StoreFull("the disk is full")
    live = Publish([Publication(["c/live"], ["m9"], [b"{}"])])
    assert group.ask(ROUTER, publish("m1", "m2"), live, Claim("a", 9.0)) == [Done(), Claimed(True), REFUSED]
    assert not [message for message in group.received(EDGE) if isinstance(message, Deliver)]
    assert group.history() == []


REFUSED = NotStored("the disk is full", ["m1", "m2"])


def test_what_a_full_disk_refused_is_taken_when_it_comes_again(group: Group) -> None:
    group.hold("k1", EDGE, store_history=True)
    group.store.error = StoreFull("the disk is full")
    group.ask(ROUTER, publish("m1", "m2"))
    group.received(EDGE)
    group.store.error = None
    group.clock.advance(1.0)
    assert group.ask(ROUTER, publish("m1", "m2")) == [Done()]
    assert [message.seq for message in group.received(EDGE) if isinstance(message, Deliver)] == [1, 2]
    assert group.history() == ["m1", "m2"]


def test_what_else_a_full_disk_did_not_take_is_stored_later_by_itself(group: Group) -> None:
    group.store.error = StoreFull("the disk is full")
    group.hold("k1", EDGE, store_history=True)
    assert group.store.commits == []
    group.store.error = None
    group.clock.advance(2.0)
    group.loop.turn(0)
    (writes,) = group.store.commits
    assert [type(write) for write in writes] == [RecordSaved, ChannelSaved, ConnectionSaved]


def test_a_full_disk_is_told_of_once_and_so_is_its_end(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    group.hold("k1", EDGE, store_history=True)
    for error in (StoreFull("the disk is full"), StoreFull("the disk is full"), None, None):
        group.store.error = error
        group.clock.advance(1.0)
        group.ask(ROUTER, publish(f"m{group.clock.now.mono}"))
    assert [record.message.partition(":")[0] for record in caplog.records] == ["not stored", "stored again"]


def test_a_shard_that_was_stopped_looks_whether_its_place_is_still_its_own(group: Group) -> None:
    group.hold("k1", EDGE)
    group.loop._has_place = lambda: False  # type: ignore[misc]
    assert group.ask(ROUTER, Claim("a", 9.0)) == [Claimed(True)]
    group.clock.advance(OWNER_LOOK_S)
    with pytest.raises(OwnerLost):
        group.ask(ROUTER, publish("m1"))
    assert group.received(ROUTER) == []


def test_an_orderly_end_stores_what_a_later_life_needs(group: Group) -> None:
    group.hold("k1", EDGE)
    group.ask(ROUTER, publish("m1", "m2"))
    group.store.commits.clear()
    group.loop.run(lambda: True)
    (writes,) = group.store.commits
    (frames,) = (write for write in writes if isinstance(write, FramesSaved) and write.topic == "c/a")
    assert [(frame.key, frame.seq) for frame in frames.frames] == [("m1", 1), ("m2", 2)]


def test_one_turn_is_one_batch_for_each_peer(group: Group) -> None:
    group.hold("k1", EDGE)
    group.ask(ROUTER, publish("m1"), publish("m2"), publish("m3"))
    assert len(group.bus.links[EDGE, "shard-0"].down._batches) == 1


def test_time_alone_is_reason_enough_for_a_turn(group: Group) -> None:
    group.hold("k1", EDGE)
    group.clock.advance(3.6)
    group.loop.turn(0)
    assert group.shard.counters.told() == {"peers_silent": 1}
    group.clock.advance(30.0)
    group.loop.turn(0)
    assert group.shard.status().connections == 0


def test_a_peer_whose_queue_is_full_is_lost_and_the_others_are_served(group: Group) -> None:
    group.tell(EDGE, beat())
    group.hold("k1", EDGE)
    group.hold("k2", OTHER)
    group.bus.links[EDGE, "shard-0"].down.capacity = 0
    group.ask(ROUTER, *(publish(f"m{number}", size=600) for number in range(10)))
    assert len([message for message in group.received(OTHER) if isinstance(message, Deliver)]) == 10
    assert set(group.shard._topics["c/a"].routes) == {OTHER}
    assert group.shard.status().counters == {"peers_behind": 1}
    group.bus.links[EDGE, "shard-0"].down.capacity = 10
    group.tell(EDGE, beat())
    group.loop.turn(0)
    assert [type(message) for message in group.received(EDGE)] == [BeatAnswer]


def test_a_peer_that_is_gone_is_cut_off_with_the_first_send(group: Group) -> None:
    group.hold("k1", EDGE)
    group.dialers[EDGE].close()
    group.ask(ROUTER, publish("m1"))
    assert group.shard._topics["c/a"].routes == ()


def test_what_losing_one_peer_means_for_another_is_sent_in_the_same_turn(group: Group) -> None:
    group.hold("k1", EDGE)
    (state,) = group.ask(OTHER, TakeConnection("k1"))
    group.tell(OTHER, _attach("k1", state.attachment))
    group.dialers[EDGE].close()
    group.loop.turn(0)  # it is told to drop what another one attaches, and is not there
    (attached,) = [message for message in group.received(OTHER) if isinstance(message, Attached)]
    assert [topic.topic for topic in attached.topics] == ["c/a"]


def _attach(conn_id: str, attachment: int) -> ToShard:
    return Attach(conn_id, "ann", attachment, [TopicCursor("c/a")])


def test_what_waits_is_told_as_status(group: Group) -> None:
    group.hold("k1", EDGE)
    group.bus.links[EDGE, "shard-0"].down.capacity = 0
    group.ask(ROUTER, publish("m1"))
    assert group.shard.queue_bytes > 0
    group.bus.links[EDGE, "shard-0"].down.capacity = 10
    group.loop.turn(0)
    assert group.shard.queue_bytes == 0


def test_garbage_is_told_of_and_ends_nothing(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    group.bus.links[ROUTER, "shard-0"].up.put(b"garbage")
    with caplog.at_level(logging.ERROR):
        assert group.ask(ROUTER, Claim("a", 9.0)) == [Claimed(True)]
        group.loop.turn(0)
    assert [record.message for record in caplog.records if "undecodable" in record.message] != []
    assert len(caplog.records) == 1
    assert group.shard.counters.told() == {"undecodable": 1}


def test_a_message_that_the_core_stumbles_over_costs_only_its_sender(
    group: Group, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(group.shard, "_claim", stumble)
    assert group.ask(ROUTER, Claim("a", 9.0), publish("m1")) == [Done()]
    assert "a fault of ours" in caplog.text


def test_it_waits_no_longer_than_until_the_next_thing_is_due(group: Group) -> None:
    assert group.loop._wait_s(group.clock()) == LONGEST_WAIT_S
    group.ask(ROUTER, Claim("a", 0.1))
    assert 0.1 <= group.loop._wait_s(group.clock()) < 0.1 + 1 / STEPS_A_SECOND
    group.clock.advance(5.0)
    assert group.loop._wait_s(group.clock()) == 0.0


def test_it_tries_again_soon_where_something_waits(group: Group) -> None:
    group.hold("k1", EDGE)
    group.bus.links[EDGE, "shard-0"].down.capacity = 0
    group.ask(ROUTER, publish("m1"))
    assert group.loop._wait_s(group.clock()) == RETRY_S


def test_it_runs_until_it_is_time_to_stop(group: Group) -> None:
    turns = count()
    group.tell(ROUTER, Ask(1, float("inf"), Claim("a", 0.001)))
    group.loop.run(lambda: next(turns) >= 1)
    assert group.received(ROUTER) == [Answer(1, Claimed(True))]


def test_an_ask_that_comes_too_late_is_counted(group: Group) -> None:
    group.tell(ROUTER, Ask(1, group.clock().mono - 1.0, Claim("a", 9.0)))
    group.loop.turn(0)
    assert group.received(ROUTER) == []
    assert group.shard.status().counters == {"asks_stale": 1}


def test_a_hole_is_counted(group: Group) -> None:
    group.tell(EDGE, beat())
    group.loop.turn(0)
    group.dialers[EDGE].skip()
    group.tell(EDGE, beat())
    group.loop.turn(0)
    assert group.shard.status().counters == {"holes": 1}
