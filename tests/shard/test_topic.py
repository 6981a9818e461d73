"""A topic: positions, routes, frames, and who may see what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.ids import TopicKey
from channelstream.shard import frames as frames_module
from channelstream.shard.connection import Connection
from channelstream.shard.topic import MOST_BEHIND, Topic, may_see, new_ones, spliced, spliced_all
from channelstream.wire.messages import AttachedTopic, Deliver, Publication, TopicCursor

EDGE = "edge-0:a"
AssertMissed = Callable[..., None]


def connection(conn_id: str = "k1", user: str = "ann", route: str = EDGE) -> Connection:
    made = Connection(conn_id, user, 0.0)
    if route:
        made.take(route, 1)
    return made


@pytest.fixture
def topic() -> Topic:
    return Topic(TopicKey("c/lobby"), "e1")


def append(topic: Topic, *uuids: str, only: list[str] | None = None, frames_size: int = 100) -> None:
    for uuid in uuids:
        topic.append([uuid], [b'{"uuid":"%b"}' % uuid.encode()], only, None, frames_size)
        topic.told = topic.seq


# --- one that is behind ---


@pytest.mark.parametrize(("passed_on", "back_at"), [(-1, 3), (1, 1), (0, 0), (3, 3), (7, 3)])
def test_one_that_is_behind_when_it_attaches_goes_on_from_what_really_reached_it(
    topic: Topic, passed_on: int, back_at: int
) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2", "m3", "m4")
    attached = topic.attach(member, TopicCursor(topic.key, "e1", 3, passed_on=passed_on))
    assert (attached.cursor, len(attached.missed)) == (3, 1)  # the rest is queued for it
    topic.detach(member, 0)
    assert topic.cursor(member) == back_at


# --- what is delivered ---


@pytest.mark.parametrize(
    ("only", "exclude", "sees"),
    [
        (None, None, True),
        (["ann"], None, True),
        (["bob"], None, False),
        ([], None, False),
        (None, ["ann"], False),
        (None, ["bob"], True),
        (None, [], True),
        (["ann"], ["ann"], False),
        (["ann"], ["bob"], True),
    ],
)
def test_who_may_see(only: list[str] | None, exclude: list[str] | None, sees: bool) -> None:
    assert may_see("ann", only, exclude) is sees


def test_a_body_is_spliced_and_not_parsed() -> None:
    assert spliced(b'{"a":{"b":"}"}}', 7, False) == b'{"a":{"b":"}"},"catchup":false,"seq":7}'
    assert spliced(b"{not json}", 7, True) == b'{not json,"catchup":true,"seq":7}'


def test_deliveries_are_counted_from_one(topic: Topic) -> None:
    first = topic.append(["m1"], [b'{"a":1}'], ["ann"], ["bob"], 100)
    second = topic.append(["m2"], [b'{"a":2}'], None, None, 100)
    assert first == Deliver("c/lobby", 1, [b'{"a":1,"catchup":false,"seq":1}'], ["ann"], ["bob"])
    assert (second.seq, topic.seq) == (2, 2)


@pytest.mark.parametrize(("frames_size", "held"), [(2, ["m2", "m3"]), (1, ["m3"]), (0, [])])
def test_only_the_last_frames_are_held(topic: Topic, frames_size: int, held: list[str]) -> None:
    append(topic, "m1", "m2", "m3", frames_size=frames_size)
    assert [uuid for uuid in ("m1", "m2", "m3") if topic.holds(uuid)] == held
    assert topic.seq == 3


# --- members and routes ---


def test_a_member_joins_once(topic: Topic) -> None:
    member = connection()
    assert topic.join(member)
    assert not topic.join(member)
    assert (topic.total_connections, list(topic.members()), list(member.topics)) == (1, [member], [topic])


def test_a_member_leaves_once(topic: Topic) -> None:
    member = connection()
    topic.join(member)
    assert topic.leave(member)
    assert not topic.leave(member)
    assert (topic.total_connections, topic.has(member), member.topics) == (0, False, ())


def test_a_member_without_a_route_gets_nothing_yet(topic: Topic) -> None:
    member = connection()
    topic.join(member)
    assert (topic.is_attached(member), topic.routes) == (False, ())


def test_routes_count_the_members_at_each_edge(topic: Topic) -> None:
    members = [connection("k1"), connection("k2"), connection("k3", route="edge-1:b")]
    for member in members:
        topic.join(member)
        topic.attach(member, None)
    assert topic.routes == (EDGE, "edge-1:b")
    topic.detach(members[0], 0)
    topic.leave(members[2])
    assert topic.routes == (EDGE,)
    topic.leave(members[1])
    assert topic.routes == ()
    assert topic.has(members[0])


def test_detaching_twice_is_detaching_once(topic: Topic) -> None:
    member = connection()
    topic.join(member)
    topic.attach(member, None)
    topic.detach(member, 0)
    topic.detach(member, 0)
    assert topic.routes == ()


# --- what a member missed ---


def attach(topic: Topic, member: Connection, position: TopicCursor | None = None) -> AttachedTopic:
    return topic.attach(member, position)


def test_who_joins_is_served_from_there_on(topic: Topic, assert_missed: AssertMissed) -> None:
    append(topic, "before")
    member = connection()
    topic.join(member)
    append(topic, "m2", "m3")
    attached = attach(topic, member)
    assert_missed(attached, "m2", "m3")
    assert (attached.topic, attached.epoch, attached.seq, attached.cursor) == ("c/lobby", "e1", 3, 1)


def test_what_others_alone_may_see_is_neither_missed_nor_lost(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1")
    append(topic, "for bob", only=["bob"])
    append(topic, "m3")
    assert_missed(attach(topic, member), "m1", "m3")


def test_where_frames_do_not_reach_the_number_of_lost_ones_is_told(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2", "m3", "m4", "m5", frames_size=2)
    assert_missed(attach(topic, member), "m4", "m5", lost=3)


def test_without_frames_everything_is_lost(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2", frames_size=0)
    assert_missed(attach(topic, member), lost=2)


def test_an_edge_that_knows_better_says_so(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2", "m3")
    assert_missed(attach(topic, member, TopicCursor("c/lobby", "e1", 2)), "m3")


def test_an_edge_that_knows_nothing_gets_what_the_topic_knows(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1")
    assert_missed(attach(topic, member, TopicCursor("c/lobby")), "m1")


def test_a_position_of_another_epoch_is_of_no_use(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1")
    assert_missed(attach(topic, member, TopicCursor("c/lobby", "e0", 50)), "m1", lost=None)


def test_a_position_ahead_of_the_topic_is_the_topics_own(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1")
    attached = attach(topic, member, TopicCursor("c/lobby", "e1", 50))
    assert_missed(attached)
    assert (attached.cursor, attached.seq) == (1, 1)


# --- how far a member was served ---


@pytest.fixture
def member(topic: Topic) -> Connection:
    """Joined at 0, attached at 2 with two deliveries missed; the topic is at 5 now."""
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2")
    topic.attach(member, None)
    append(topic, "m3", "m4", "m5")
    return member


@pytest.mark.parametrize(
    ("served", "again"),
    [
        pytest.param(0, ["m1", "m2", "m3", "m4", "m5"], id="nothing is known: the attach itself may be lost"),
        pytest.param(2, ["m1", "m2", "m3", "m4", "m5"], id="known from before the attach, perhaps"),
        pytest.param(3, ["m4", "m5"], id="known from after the attach"),
        pytest.param(5, [], id="all"),
        pytest.param(9, [], id="more than there is"),
    ],
)
def test_after_an_edge_is_lost(
    topic: Topic, member: Connection, served: int, again: list[str], assert_missed: AssertMissed
) -> None:
    topic.detach(member, served)
    assert_missed(attach(topic, member), *again)


@pytest.mark.parametrize(("cursor", "again"), [(0, 5), (2, 3), (4, 1), (5, 0), (9, 0)])
def test_after_an_edge_has_said_how_far(topic: Topic, member: Connection, cursor: int, again: int) -> None:
    topic.detach_exactly(member, cursor)
    assert topic.routes == ()
    assert len(attach(topic, member).missed) == again


def test_a_member_that_was_up_to_date_repeats_only_what_came_after(topic: Topic, assert_missed: AssertMissed) -> None:
    append(topic, "m1")
    member = connection()
    topic.join(member)
    topic.attach(member, None)
    append(topic, "m2")
    topic.detach(member, 0)
    assert_missed(attach(topic, member), "m2")


def test_a_member_that_was_very_far_behind_is_still_told_of_a_gap(topic: Topic) -> None:
    member = connection()
    topic.join(member)
    topic.seq = topic.told = 3 * MOST_BEHIND
    assert attach(topic, member).lost == 3 * MOST_BEHIND
    topic.detach(member, 0)
    assert attach(topic, member).lost == MOST_BEHIND


# --- what is taken back ---


def test_what_is_taken_back_leaves_its_number_and_its_uuid_may_come_again(
    topic: Topic, assert_missed: AssertMissed
) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2", "m3")
    assert topic.take_back(["m2"], 2) == [Deliver(topic.key, 2, [])]
    assert (topic.holds("m2"), topic.holds("m3")) == (False, True)
    append(topic, "m2")
    assert topic.holds("m2")
    assert [frame.seq for frame in topic.saved_frames().frames] == [1, 2, 3, 4]
    assert_missed(attach(topic, member), "m1", "m3", "m2")


def test_an_edit_of_what_was_taken_back_does_not_bring_it_back(topic: Topic, assert_missed: AssertMissed) -> None:
    member = connection()
    topic.join(member)
    append(topic, "m1", "m2")
    topic.take_back(["m1"], 1)
    topic.append_edit("m1", {"text": b'"new"'}, b'{"uuid":"edit"}', None, 100)
    topic.told = topic.seq
    assert not topic.holds("m1")
    assert_missed(attach(topic, member), "m2", "edit")


def test_taking_many_back_costs_no_pass_over_all_frames_for_each(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = [f"m{number}" for number in range(200)]
    append(topic, *uuids, frames_size=1000)
    written: list[str] = []
    write = frames_module.Frames.__setitem__

    def counting(frames: frames_module.Frames[Any], key: str, frame: Any) -> None:
        written.append(key)
        write(frames, key, frame)

    monkeypatch.setattr(frames_module.Frames, "__setitem__", counting)
    for seq, uuid in enumerate(uuids, 1):
        topic.take_back(uuid, seq)
    assert len(written) <= 2 * len(uuids)


def test_large_frames_are_kept_as_far_as_they_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "MAX_FRAMES_BYTES", 250)
    topic = Topic(TopicKey("c/a"), "e")
    for number in range(5):
        topic.append([f"m{number}"], [b"{" + b"x" * 98 + b"}"], None, None, 100)
    assert [topic.holds(f"m{number}") for number in range(5)] == [False, False, False, True, True]
    topic.append(["huge"], [b"x" * 1000], None, None, 100)
    assert [topic.holds(uuid) for uuid in ("m4", "huge")] == [False, True]


# --- many at once ---


def body_of(uuid: str) -> bytes:
    return b'{"uuid":"%b"}' % uuid.encode()


@given(
    runs=st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=5),
    frames_size=st.sampled_from([0, 1, 3, 100]),
    taken_back=st.sets(st.integers(0, 4)),
)
def test_messages_that_come_together_are_taken_as_those_that_come_one_after_another(
    runs: list[list[int]], frames_size: int, taken_back: set[int]
) -> None:
    together, apart = Topic(TopicKey("c/a"), "e"), Topic(TopicKey("c/a"), "e")
    for number, run in enumerate(runs):
        uuids = [f"m{number}" for number in run]
        publication = Publication(["c/a"], uuids, list(map(body_of, uuids)), ["ann"], ["bob"])
        bodies = []
        for some, their in new_ones(publication, together.holds_any):
            bodies += together.append(some, their, ["ann"], ["bob"], frames_size).bodies
        expected = []
        for uuid in uuids:
            if not apart.holds(uuid):
                expected += apart.append([uuid], [body_of(uuid)], ["ann"], ["bob"], frames_size).bodies
        assert bodies == expected
        if number in taken_back:
            taken = [uuid for uuid in dict.fromkeys(uuids) if apart.holds(uuid)][-1:]
            for topic in (together, apart):
                topic.take_back(taken, topic.seq)
    assert together.seq == apart.seq
    assert together.saved_frames() == apart.saved_frames()


def test_bodies_with_any_bytes_are_spliced_as_each_alone() -> None:
    bodies = [b'{"a":"%s \xff\x00\x0b\x1c\xc2\x85"}', b"{}", b'{"b":1}']
    assert spliced_all(bodies, 7) == [spliced(body, seq, False) for seq, body in enumerate(bodies, 7)]
    assert spliced_all([], 7) == []


def test_what_one_topic_keeps_is_no_other_ones() -> None:
    """They begin with the same empty collections."""
    one, other = Topic(TopicKey("c/one"), "e1"), Topic(TopicKey("c/other"), "e2")
    append(one, "m1", "m2")
    one.append_deletion("m1", b'{"type":"message:delete"}', None, 10)
    one.take_back(["m2"], 2)
    empty = Topic(TopicKey("c/empty"), "e3")
    for topic in (other, empty):
        assert not topic.holds("m1")
        assert (dict(topic._frames), topic._undone, topic._changes) == ({}, {}, {})
    assert one.holds("m1")
