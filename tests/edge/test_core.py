"""Who is on what at an edge: every rule, with messages in and effects out."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from channelstream.edge.attaches import ASK_AGAIN_S, WINDOW
from channelstream.edge.core import HELD_A_BEAT, MAX_REFUSED, Close, Edge, Effect, Held, Tell, Write, as_passed_on
from channelstream.edge.frames import CLOSE_REPLACED
from channelstream.edge.outbox import Mark
from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.wire.messages import (
    Attach,
    Attached,
    AttachedTopic,
    BeatAnswer,
    ConnectionState,
    Deliver,
    Detach,
    Drop,
    TopicCursor,
    Unsubscribed,
)

A, B = channel_key("a"), channel_key("b")
EPOCH = "e1"


class Client(Held):
    """One that is never asked to do anything: the effects are looked at instead."""


class Driver:
    """An edge and its shards' words. With one shard, everything belongs to shard 0."""

    def __init__(self, shards: int = 1) -> None:
        self.ring = Ring(shards)
        self.edge = Edge(self.ring)
        self.now = 100.0
        self.told: list[Tell] = []

    def perform(self, effects: Sequence[Effect]) -> list[Effect]:
        self.told += [effect for effect in effects if isinstance(effect, Tell)]
        return list(effects)

    def hold(self, name: str = "x", user: str = "ann", channels: Sequence[str] = ("a",), attachment: int = 1) -> Client:
        client = Client(name, user, attachment)
        state = ConnectionState(user, list(channels), [], "edge-0:i", attachment, 0.0)
        self.perform(self.edge.hold(client, state, self.now))
        return client

    def attaches(self) -> list[tuple[int, Attach]]:
        """What has been asked since the last look, by shard."""
        told, self.told = self.told, []
        return [(tell.shard, tell.message) for tell in told if isinstance(tell.message, Attach)]

    def detaches(self) -> dict[int, Detach]:
        told, self.told = self.told, []
        return {tell.shard: tell.message for tell in told if isinstance(tell.message, Detach)}

    def attached(self, client: Client, *topics: AttachedTopic, number: int = 0, shard: int = 0) -> None:
        message = Attached(client.conn_id, client.attachment, list(topics), number)
        self.edge.receive(shard, message, self.now)

    def answer(self, client: Client, *topics: AttachedTopic, shard: int = 0) -> None:
        """The answer to the last attach of a client at a shard."""
        numbers = [
            message.number for at, message in self.attaches() if at == shard and message.conn_id == client.conn_id
        ]
        self.attached(client, *topics, number=numbers[-1], shard=shard)

    def deliver(
        self,
        topic: str,
        seq: int,
        only: list[str] | None = None,
        exclude: list[str] | None = None,
        shard: int = 0,
        skippable: bool = False,
        count: int = 1,
    ) -> None:
        bodies = [body(one) for one in range(seq - count + 1, seq + 1)]
        self.edge.receive(shard, Deliver(topic, seq, bodies, only, exclude, skippable), self.now)

    def unsubscribed(self, client: Client, *topics: str, shard: int = 0) -> None:
        self.edge.receive(shard, Unsubscribed(client.conn_id, list(topics)), self.now)

    def release(self, client: Client, closed: bool = False, unsent: Sequence[Mark] = ()) -> dict[int, Detach]:
        """What the shards are told."""
        self.told.clear()
        self.perform(self.edge.release(client, closed, unsent))
        return self.detaches()

    def turn(self) -> list[Effect]:
        return self.perform(self.edge.end_turn())

    def writes(self) -> list[tuple[list[str], list[bytes], Mark]]:
        """The turn's writes: to whom, what, and the mark."""
        return [
            ([client.conn_id for client in effect.clients], list(effect.bodies), effect.mark)
            for effect in self.turn()
            if isinstance(effect, Write)
        ]

    def member(self, name: str, user: str = "ann", seq: int = 0) -> Client:
        """Somebody on channel a, from this position on."""
        client = self.hold(name, user)
        self.answer(client, on(A, seq))
        self.turn()
        return client

    def assert_empty(self) -> None:
        edge = self.edge
        state: list[Any] = [edge._held, edge._topics, len(edge._attaches), edge._turn, edge._touched, edge._refusals]
        assert not any([*state, *edge._moved])


def body(seq: int) -> bytes:
    return b'{"seq":%d}' % seq


def on(topic: str, seq: int = 0, cursor: int | None = None, lost: int | None = 0, epoch: str = EPOCH) -> AttachedTopic:
    """A topic of an answer; what is between cursor and seq was missed."""
    cursor = seq if cursor is None else cursor
    return AttachedTopic(topic, epoch, seq, cursor, [body(missed) for missed in range(cursor + 1, seq + 1)], lost)


@pytest.fixture
def driver() -> Driver:
    return Driver()


# --- attaching ---


def test_holding_asks_each_shard_for_its_topics_at_once() -> None:
    driver = Driver(3)
    channels = [f"ch{number}" for number in range(20)]
    client = driver.hold(channels=channels)
    attaches = dict(driver.attaches())
    keys = [user_key("ann"), *map(channel_key, channels)]
    assert {cursor.topic for attach in attaches.values() for cursor in attach.topics} == set(keys)
    for shard, attach in attaches.items():
        assert (attach.conn_id, attach.user, attach.attachment, attach.channels) == ("x", "ann", 1, None)
        assert all(driver.ring.owner(cursor.topic) == shard for cursor in attach.topics)
        assert {(cursor.epoch, cursor.seq) for cursor in attach.topics} == {("", 0)}
    assert driver.edge.clients() == [client]


def test_every_attach_has_another_number(driver: Driver) -> None:
    driver.hold("x")
    driver.hold("y")
    numbers = [attach.number for _, attach in driver.attaches()]
    assert len(set(numbers)) == 2
    assert 0 not in numbers


def test_what_was_missed_comes_first(driver: Driver) -> None:
    client = driver.hold()
    driver.answer(client, on(A, 5, cursor=3))
    driver.deliver(A, 6)
    assert driver.writes() == [(["x"], [body(4), body(5)], Mark(A, 3)), (["x"], [body(6)], Mark(A, 5))]


@pytest.mark.parametrize("lost", [2, None])
def test_a_gap_is_told_before_what_is_left(driver: Driver, lost: int | None) -> None:
    client = driver.hold()
    driver.answer(client, on(A, 5, cursor=4, lost=lost))
    ((_, (gap, *rest), _),) = driver.writes()
    assert json.loads(gap) == {"type": "gap", "channel": "a", "missed": lost}
    assert rest == [body(5)]


def test_nothing_missed_is_nothing_written(driver: Driver) -> None:
    client = driver.hold()
    driver.answer(client, on(A, 5))
    assert driver.turn() == []
    assert driver.edge.channels == 1


def test_an_answer_without_topics_is_one(driver: Driver) -> None:
    client = driver.hold()
    driver.answer(client)
    driver.now += 10 * ASK_AGAIN_S
    assert driver.edge.ask_again(driver.now) == []
    assert driver.edge.channels == 0


def test_an_attach_for_nobody_is_refused(driver: Driver) -> None:
    gone = Client("x", "ann", 7)
    driver.attached(gone, on(A, 5))
    assert driver.turn() == [Tell(0, Detach("x", 7, False, []))]
    driver.assert_empty()


def test_an_attach_of_another_attachment_is_refused(driver: Driver) -> None:
    here = driver.member("x")
    driver.attached(Client("x", "ann", 2), on(B))
    assert driver.turn() == [Tell(0, Detach("x", 2, False, []))]
    assert [topic.key for topic in here.topics] == [A]


def test_a_refusal_comes_before_the_attach_that_it_was_early_for(driver: Driver) -> None:
    """A shard has heard of an attachment from the router before its own edge has: in the middle of a turn."""
    driver.attached(Client("x", "ann", 7), on(A))
    client = Client("x", "ann", 7)
    effects = driver.edge.hold(client, ConnectionState("ann", ["a"], [], "edge-0:i", 7, 0.0), driver.now)
    kinds = [type(effect.message) for effect in effects if isinstance(effect, Tell)]
    assert kinds == [Detach, Attach]
    assert driver.turn() == []


def test_what_came_too_early_is_asked_for_when_the_client_is_here(driver: Driver) -> None:
    """It was subscribed after the answer that gave it to us was made, and before that came."""
    driver.attached(Client("x", "ann", 7), on(B))
    driver.turn()
    driver.hold("x", channels=("a",), attachment=7)
    ((_, attach),) = driver.attaches()
    assert [cursor.topic for cursor in attach.topics] == [user_key("ann"), A, B]


def test_what_was_refused_of_another_attachment_is_not(driver: Driver) -> None:
    driver.attached(Client("x", "ann", 6), on(B))
    driver.hold("x", channels=("a",), attachment=7)
    ((_, attach),) = driver.attaches()
    assert [cursor.topic for cursor in attach.topics] == [user_key("ann"), A]


def test_what_is_remembered_of_refusals_is_bounded(driver: Driver) -> None:
    for number in range(MAX_REFUSED + 50):
        driver.attached(Client(str(number), "ann", 1), on(A))
        driver.turn()
    assert len(driver.edge._refused) == MAX_REFUSED
    driver.hold(str(MAX_REFUSED + 49), channels=())
    ((_, attach),) = driver.attaches()
    assert A in [cursor.topic for cursor in attach.topics]


def test_a_subscription_while_held_is_taken_beside_the_answer(driver: Driver) -> None:
    client = driver.hold()
    driver.attached(client, on(B, 3))
    driver.deliver(B, 4)
    assert driver.writes() == [(["x"], [body(4)], Mark(B, 3))]
    driver.answer(client, on(A, 1), on(B, 4, cursor=3))
    assert driver.writes() == []  # of b it has had everything
    driver.deliver(B, 5)
    assert driver.writes() == [(["x"], [body(5)], Mark(B, 4))]


# --- attached together with being given ---


def taken(driver: Driver, channels: Sequence[str] = ("a",), name: str = "x") -> tuple[Client, int]:
    """A client whose own shard has said that it attaches it, with the number of that."""
    number = driver.edge.next_number()
    state = ConnectionState("ann", list(channels), [], "edge-0:i", 1, 0.0, attaching=number)
    client = Client(name, "ann", 1)
    driver.perform(driver.edge.hold(client, state, driver.now))
    return client, number


def test_what_its_own_shard_attaches_by_itself_is_not_asked_for() -> None:
    driver = Driver(shards=3)
    channels = ["a", "b", "c", "d"]
    home = driver.ring.owner(connection_key("x"))
    client, number = taken(driver, channels)

    asked = driver.attaches()
    elsewhere = {driver.ring.owner(key) for key in [user_key("ann"), *map(channel_key, channels)]} - {home}
    assert {shard for shard, _ in asked} == elsewhere
    assert number not in {message.number for _, message in asked}
    assert client.shards >> home & 1


def test_it_is_an_answer_like_any_other(driver: Driver) -> None:
    client, number = taken(driver)
    driver.attached(client, on(A, 2, cursor=1), number=number)
    assert [names for names, _, _ in driver.writes()] == [["x"]]
    driver.deliver(A, 3)
    assert len(driver.writes()) == 1
    driver.release(client)
    driver.assert_empty()


def test_where_it_does_not_come_it_is_asked_for(driver: Driver) -> None:
    client, number = taken(driver)
    driver.now += ASK_AGAIN_S
    driver.perform(driver.edge.ask_again(driver.now))
    topics = [TopicCursor(user_key("ann")), TopicCursor(A)]
    assert driver.attaches() == [(0, Attach("x", "ann", client.attachment, topics, number))]


def test_one_that_came_before_its_client_was_refused_and_is_asked_for(driver: Driver) -> None:
    number = driver.edge.next_number()
    driver.edge.receive(0, Attached("x", 1, [on(A, 0)], number), driver.now)
    client = Client("x", "ann", 1)
    state = ConnectionState("ann", ["a"], [], "edge-0:i", 1, 0.0, attaching=number)

    driver.perform(driver.edge.hold(client, state, driver.now))

    assert [type(tell.message) for tell in driver.told] == [Detach, Attach]
    assert driver.edge.taken(0) == {}


def test_that_it_is_held_is_told_once(driver: Driver) -> None:
    taken(driver)
    driver.hold("y")
    assert [driver.edge.taken(0), driver.edge.taken(0)] == [{"x": 1}, {}]


# --- deliveries ---


def test_a_turns_bodies_are_one_write_for_all_members(driver: Driver) -> None:
    driver.member("x")
    driver.member("y", "bob")
    for seq in (1, 2, 3):
        driver.deliver(A, seq)
    assert driver.writes() == [(["x", "y"], [body(1), body(2), body(3)], Mark(A, 0))]
    driver.deliver(A, 4)
    assert driver.writes() == [(["x", "y"], [body(4)], Mark(A, 3))]
    assert driver.turn() == []


def test_a_topic_that_nobody_is_on_is_ignored(driver: Driver) -> None:
    driver.deliver(A, 1)
    assert driver.turn() == []
    driver.assert_empty()


@pytest.mark.parametrize("seq", [0, 4, 5])
def test_what_was_delivered_already_is_ignored(driver: Driver, seq: int) -> None:
    driver.member("x", seq=5)
    driver.deliver(A, seq)
    assert driver.turn() == []


@pytest.mark.parametrize(
    ("only", "exclude", "names"),
    [
        (["ann"], None, ["x"]),
        (["ann", "bob"], None, ["x", "y"]),
        (["ann", "bob"], ["ann"], ["y"]),
        (None, ["bob"], ["x", "z"]),
        (["dan"], None, []),
        ([], None, []),
        (None, [], ["x", "y", "z"]),
    ],
)
def test_filters(driver: Driver, only: list[str] | None, exclude: list[str] | None, names: list[str]) -> None:
    for name, user in (("x", "ann"), ("y", "bob"), ("z", "cid")):
        driver.member(name, user)
    driver.deliver(A, 1, only, exclude)
    assert driver.writes() == ([(names, [body(1)], Mark(A, 0))] if names else [])
    driver.deliver(A, 2)
    assert [mark for _, _, mark in driver.writes()] == [Mark(A, 1)]  # it counted, whoever saw it


def test_a_filtered_message_keeps_its_place(driver: Driver) -> None:
    driver.member("x", "ann")
    driver.member("y", "bob")
    driver.deliver(A, 1)
    driver.deliver(A, 2, only=["bob"])
    driver.deliver(A, 3)
    assert driver.writes() == [
        (["x", "y"], [body(1)], Mark(A, 0)),
        (["y"], [body(2)], Mark(A, 1)),
        (["x", "y"], [body(3)], Mark(A, 2)),
    ]


def test_who_comes_in_the_middle_of_a_turn_gets_what_follows(driver: Driver) -> None:
    driver.member("x")
    late = driver.hold("y", "bob")
    driver.deliver(A, 1)
    driver.answer(late, on(A, 1))
    driver.deliver(A, 2)
    assert driver.writes() == [(["x"], [body(1)], Mark(A, 0)), (["x", "y"], [body(2)], Mark(A, 1))]


def test_who_leaves_in_the_middle_of_a_turn_gets_what_came_before(driver: Driver) -> None:
    leaving = driver.member("x")
    driver.member("y")
    driver.deliver(A, 1)
    driver.unsubscribed(leaving, A)
    driver.deliver(A, 2)
    assert driver.writes() == [(["x", "y"], [body(1)], Mark(A, 0)), (["y"], [body(2)], Mark(A, 1))]
    assert list(leaving.topics) == []


def test_the_last_one_to_leave_gets_its_rest_and_the_topic_is_forgotten(driver: Driver) -> None:
    client = driver.member("x")
    driver.deliver(A, 1)
    driver.unsubscribed(client, A, B, "c/unknown")
    assert driver.writes() == [(["x"], [body(1)], Mark(A, 0))]
    assert driver.edge.channels == 0
    assert driver.edge.moved(0) == {}


def test_an_unsubscription_of_nobody_is_ignored(driver: Driver) -> None:
    driver.unsubscribed(Client("z", "ann", 1), A)
    assert driver.turn() == []


def test_a_hole_makes_the_members_attach_again(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.deliver(A, 7)
    assert driver.writes() == []
    ((_, attach),) = driver.attaches()
    assert attach.topics == [TopicCursor(A, EPOCH, 5)]
    driver.deliver(A, 8)
    driver.attached(client, on(A, 8, cursor=5), number=attach.number)
    driver.deliver(A, 9)
    assert [bodies for _, bodies, _ in driver.writes()] == [[body(6), body(7), body(8)], [body(9)]]


@pytest.mark.parametrize("other", [on(A, 7), on(A, 5, epoch="e2")], ids=["seq", "epoch"])
def test_one_that_attaches_elsewhere_shows_that_the_others_were_forgotten(driver: Driver, other: AttachedTopic) -> None:
    driver.member("x", seq=5)
    driver.told.clear()
    late = driver.hold("y", "bob")
    ((_, asked),) = driver.attaches()
    driver.attached(late, other, number=asked.number)
    driver.turn()
    ((_, again),) = driver.attaches()
    assert (again.conn_id, again.topics) == ("x", [TopicCursor(A, EPOCH, 5)])
    driver.deliver(A, other.seq + 1)
    assert [names for names, _, _ in driver.writes()] == [["y"]]


# --- the end of a client ---


def test_release_tells_every_shard_where_it_stood() -> None:
    driver = Driver(3)
    channels = [f"ch{number}" for number in range(9)]
    client = driver.hold(channels=channels)
    for seq, (shard, attach) in enumerate(driver.attaches(), start=10):
        topics = [on(cursor.topic, seq) for cursor in attach.topics]
        driver.attached(client, *topics, number=attach.number, shard=shard)
    detaches = driver.release(client, closed=True)
    assert {detach.closed for detach in detaches.values()} == {True}
    cursors = [(shard, cursor) for shard, detach in detaches.items() for cursor in detach.cursors]
    assert {cursor.topic for _, cursor in cursors} == {user_key("ann"), *map(channel_key, channels)}
    assert all(driver.ring.owner(cursor.topic) == shard and cursor.seq >= 10 for shard, cursor in cursors)
    driver.turn()
    driver.assert_empty()


def test_the_records_shard_is_told_even_without_a_topic() -> None:
    driver = Driver(3)
    name = next(
        str(number)
        for number in range(100)
        if driver.ring.owner(connection_key(str(number))) != driver.ring.owner(user_key("ann"))
    )
    client = driver.hold(name, channels=())
    driver.attaches()
    assert set(driver.release(client)) == {driver.ring.owner(connection_key(name)), driver.ring.owner(user_key("ann"))}


def test_release_is_told_once(driver: Driver) -> None:
    client = driver.member("x")
    assert len(driver.release(client)) == 1
    assert driver.release(client) == {}


@pytest.mark.parametrize(
    ("unsent", "seq"),
    [
        ([], 8),
        ([Mark(A, 7)], 7),
        ([Mark(A, 7), Mark(A, 5), Mark(A, 6)], 5),
        ([Mark(A, 9)], 8),
        ([Mark(B, 1)], 8),
    ],
)
def test_the_cursor_is_before_what_did_not_go_out(driver: Driver, unsent: list[Mark], seq: int) -> None:
    client = driver.member("x", seq=8)
    assert driver.release(client, unsent=unsent)[0].cursors == [TopicCursor(A, EPOCH, seq)]


def test_what_is_pending_has_not_gone_out(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    other = driver.member("y", seq=5)
    driver.deliver(A, 6)
    driver.deliver(A, 7)
    assert driver.release(client)[0].cursors == [TopicCursor(A, EPOCH, 5)]
    assert driver.writes() == [(["y"], [body(6), body(7)], Mark(A, 5))]
    assert driver.release(other)[0].cursors == [TopicCursor(A, EPOCH, 7)]


def test_what_is_in_an_effect_of_this_turn_has_not_gone_out_either(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.deliver(A, 6)
    driver.deliver(A, 7, only=["ann"])
    assert driver.release(client)[0].cursors == [TopicCursor(A, EPOCH, 5)]


def test_released_in_the_middle_of_a_turn_the_last_one_leaves_nothing(driver: Driver) -> None:
    client = driver.member("x")
    driver.deliver(A, 1)
    driver.release(client)
    driver.turn()
    driver.assert_empty()


def test_an_attach_that_is_not_answered_leaves_the_cursor_to_the_shard(driver: Driver) -> None:
    client = driver.hold()
    assert driver.release(client)[0].cursors == []
    driver.assert_empty()


def test_an_attach_again_that_is_not_answered_keeps_the_position(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.edge.attach_again(0, driver.now)
    assert driver.release(client, unsent=[Mark(A, 3)])[0].cursors == [TopicCursor(A, EPOCH, 3)]
    driver.assert_empty()


# --- takeover ---


def test_a_former_holder_at_this_edge_is_closed_before_its_successor_attaches(driver: Driver) -> None:
    former = driver.member("x", seq=5)
    driver.told.clear()
    successor = Client("x", "ann", 2)
    effects = driver.edge.hold(successor, ConnectionState("ann", ["a"], [], "edge-0:i", 2, 0.0), driver.now)
    assert effects[0] == Close(former, CLOSE_REPLACED)
    assert driver.edge.clients() == [successor]
    detach = driver.release(former)[0]
    assert (detach.attachment, detach.cursors) == (1, [TopicCursor(A, EPOCH, 5)])
    assert driver.edge.clients() == [successor]


@pytest.mark.parametrize(("attachment", "closed"), [(2, False), (3, True), (4, True)])
def test_a_drop_is_of_effect_up_to_its_attachment(driver: Driver, attachment: int, closed: bool) -> None:
    client = driver.hold(attachment=3)
    driver.edge.receive(0, Drop("x", attachment, 4000), driver.now)
    assert driver.turn() == ([Close(client, 4000)] if closed else [])


def test_a_drop_of_nobody_is_ignored(driver: Driver) -> None:
    driver.edge.receive(0, Drop("x", 9, 4000), driver.now)
    assert driver.turn() == []


def test_a_drop_comes_after_what_was_delivered_before(driver: Driver) -> None:
    client = driver.member("x")
    driver.deliver(A, 1, only=["ann"])
    driver.edge.receive(0, Drop("x", 1, 4000), driver.now)
    write, close = driver.turn()
    assert isinstance(write, Write)
    assert close == Close(client, 4000)


# --- shards that forget, or do not answer ---


def test_a_shard_that_has_forgotten_hears_of_all_again() -> None:
    driver = Driver(3)
    channels = [f"ch{number}" for number in range(9)]
    client = driver.hold(channels=channels)
    for shard, attach in driver.attaches():
        driver.attached(client, *(on(cursor.topic, 4) for cursor in attach.topics), number=attach.number, shard=shard)
    for shard in range(3):
        driver.perform(driver.edge.attach_again(shard, driver.now))
        ((_, attach),) = driver.attaches()
        owned = {key for key in (user_key("ann"), *map(channel_key, channels)) if driver.ring.owner(key) == shard}
        assert {(cursor.topic, cursor.epoch, cursor.seq) for cursor in attach.topics} == {
            (key, EPOCH, 4) for key in owned
        }
        is_records = driver.ring.owner(connection_key("x")) == shard
        assert attach.channels == (channels if is_records else None)


def test_one_without_a_topic_there_is_told_of_too(driver: Driver) -> None:
    """Its record is there, or a channel that it is about to join."""
    client = driver.hold(channels=())
    driver.answer(client)
    driver.edge.attach_again(0, driver.now)
    (effect,) = driver.edge.attach_again(0, driver.now)
    assert isinstance(effect, Tell)
    assert isinstance(effect.message, Attach)
    assert (effect.message.topics, effect.message.channels) == ([], [])


def test_until_the_answer_nothing_is_given(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.deliver(A, 6)
    ((attach,)) = [tell.message for tell in driver.edge.attach_again(0, driver.now) if isinstance(tell, Tell)]
    assert isinstance(attach, Attach)
    assert attach.topics == [TopicCursor(A, EPOCH, 6)]
    driver.deliver(A, 7)
    assert driver.writes() == [(["x"], [body(6)], Mark(A, 5))]
    driver.attached(client, on(A, 8, cursor=6), number=attach.number)
    driver.deliver(A, 9)
    assert driver.writes() == [(["x"], [body(7), body(8)], Mark(A, 6)), (["x"], [body(9)], Mark(A, 8))]


def test_the_answer_to_an_earlier_attach_is_ignored(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.told.clear()
    for _ in range(2):
        driver.perform(driver.edge.attach_again(0, driver.now))
    (_, first), (_, second) = driver.attaches()
    driver.attached(client, on(A, 7, cursor=5), number=first.number)
    assert driver.writes() == []
    driver.attached(client, on(A, 8, cursor=5), number=second.number)
    assert [bodies for _, bodies, _ in driver.writes()] == [[body(6), body(7), body(8)]]
    driver.attached(client, on(A, 8, cursor=5), number=second.number)
    assert driver.writes() == []


def test_what_is_unanswered_is_asked_for_in_the_same_breath(driver: Driver) -> None:
    client = driver.hold(channels=("a",))
    driver.attached(client, on(B, 3))
    (effect,) = driver.edge.attach_again(0, driver.now)
    assert isinstance(effect, Tell)
    assert isinstance(effect.message, Attach)
    asked = {cursor.topic: cursor for cursor in effect.message.topics}
    assert asked == {
        user_key("ann"): TopicCursor(user_key("ann")),
        A: TopicCursor(A),
        B: TopicCursor(B, EPOCH, 3),
    }


def test_what_it_has_left_meanwhile_is_not_asked_for_again(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.edge.attach_again(0, driver.now)
    driver.unsubscribed(client, A)
    (effect,) = driver.edge.attach_again(0, driver.now)
    assert isinstance(effect, Tell)
    assert isinstance(effect.message, Attach)
    assert effect.message.topics == []


def test_only_the_shards_own_topics_are_let_go() -> None:
    driver = Driver(2)
    names = [f"ch{number}" for number in range(8)]
    here = next(name for name in names if driver.ring.owner(channel_key(name)) == 0)
    there = next(name for name in names if driver.ring.owner(channel_key(name)) == 1)
    client = driver.hold(channels=(here, there))
    for shard, attach in driver.attaches():
        driver.attached(client, *(on(cursor.topic, 1) for cursor in attach.topics), number=attach.number, shard=shard)
    driver.edge.attach_again(0, driver.now)
    driver.deliver(channel_key(here), 2, shard=0)
    driver.deliver(channel_key(there), 2, shard=1)
    assert [mark for _, _, mark in driver.writes()] == [Mark(channel_key(there), 1)]


def test_what_is_not_answered_is_asked_again_in_the_same_words(driver: Driver) -> None:
    driver.hold()
    ((shard, attach),) = driver.attaches()
    driver.now += ASK_AGAIN_S / 2
    assert driver.edge.ask_again(driver.now) == []
    driver.now += ASK_AGAIN_S / 2
    assert [(one.shard, one.message) for one in driver.edge.ask_again(driver.now)] == [(shard, attach)]
    driver.now += ASK_AGAIN_S
    assert driver.edge.ask_again(driver.now) == []  # more and more rarely: it may only be slow
    driver.now += ASK_AGAIN_S
    assert [(one.shard, one.message) for one in driver.edge.ask_again(driver.now)] == [(shard, attach)]


def test_both_answers_to_what_was_asked_twice_are_taken(driver: Driver) -> None:
    """The first one may be from before the connection joined what it is on."""
    client = driver.hold()
    ((_, asked),) = driver.attaches()
    driver.now += ASK_AGAIN_S
    driver.perform(driver.edge.ask_again(driver.now))
    driver.attached(client, number=asked.number)
    driver.attached(client, on(A, 4, cursor=3), number=asked.number)
    driver.attached(client, on(A, 4, cursor=3), number=asked.number)
    assert driver.writes() == [(["x"], [body(4)], Mark(A, 3))]
    assert driver.edge.ask_again(driver.now + 10 * ASK_AGAIN_S) == []
    driver.release(client)
    driver.assert_empty()


def test_what_only_an_earlier_answer_names_is_taken(driver: Driver) -> None:
    """The shard has attached it and will not say so again."""
    client = driver.hold()
    ((_, first),) = driver.attaches()
    driver.perform(driver.edge.attach_again(0, driver.now))
    ((_, second),) = driver.attaches()
    driver.attached(client, on(A, 4), on(B, 7, cursor=6), number=first.number)
    assert driver.writes() == [(["x"], [body(7)], Mark(B, 6))]
    driver.attached(client, on(A, 5, cursor=4), number=second.number)
    assert driver.writes() == [(["x"], [body(5)], Mark(A, 4))]


# --- thousands that attach again ---


def crowd(driver: Driver, size: int) -> list[Client]:
    """So many on channel a, all attached at 5."""
    return [driver.member(str(number), f"user-{number}", seq=5) for number in range(size)]


def forgotten(driver: Driver) -> list[Attach]:
    """The shard has forgotten all; what is asked of it at once."""
    driver.told.clear()
    driver.perform(driver.edge.attach_again(0, driver.now))
    return [message for _, message in driver.attaches()]


def answered(driver: Driver, attach: Attach, seq: int) -> list[Attach]:
    """One is answered; those that follow it."""
    topics = [on(cursor.topic, seq, cursor.seq, epoch=cursor.epoch) for cursor in attach.topics]
    driver.edge.receive(0, Attached(attach.conn_id, attach.attachment, topics, attach.number), driver.now)
    driver.turn()
    return [message for _, message in driver.attaches()]


def test_a_shard_is_asked_for_so_much_at_a_time_and_the_next_ones_follow_the_answers(driver: Driver) -> None:
    crowd(driver, WINDOW)
    asked = forgotten(driver)
    assert len(asked) == WINDOW // 2  # each weighs two: itself and its topic
    names = [attach.conn_id for attach in asked]
    waiting = deque(asked)
    while waiting:
        more = answered(driver, waiting.popleft(), 5)
        assert len(waiting) + len(more) <= WINDOW // 2
        waiting += more
        names += [attach.conn_id for attach in more]
    assert names == [str(number) for number in range(WINDOW)]


def test_whoever_comes_new_does_not_wait_behind_them(driver: Driver) -> None:
    crowd(driver, WINDOW)
    forgotten(driver)
    driver.hold("new")
    assert [message.conn_id for _, message in driver.attaches()] == ["new"]


def test_what_comes_while_one_waits_for_its_turn_comes_with_its_attach(driver: Driver) -> None:
    crowd(driver, WINDOW)
    waiting = deque(forgotten(driver))
    waiting += answered(driver, waiting.popleft(), 5)
    driver.deliver(A, 6)
    driver.deliver(A, 7)
    assert driver.writes() == [(["0"], [body(6), body(7)], Mark(A, 5))]
    last = None
    while waiting:
        last = waiting.popleft()
        waiting += answered(driver, last, 7)
    assert last is not None
    assert (last.conn_id, last.topics) == (str(WINDOW - 1), [TopicCursor(A, EPOCH, 5)])


def test_until_all_have_attached_a_topic_is_served_only_as_far_as_they_are(driver: Driver) -> None:
    crowd(driver, WINDOW)
    waiting = deque(forgotten(driver))
    waiting += answered(driver, waiting.popleft(), 5)
    driver.deliver(A, 6)
    driver.turn()
    assert driver.edge.moved(0) == {A: 5}
    while waiting:
        waiting += answered(driver, waiting.popleft(), 6)
    assert driver.edge.moved(0) == {A: 6}


def test_one_that_leaves_before_its_turn_attaches_before_it_detaches(driver: Driver) -> None:
    *_, last = crowd(driver, WINDOW)
    asked = forgotten(driver)
    driver.perform(driver.edge.release(last, closed=True))
    attach, detach = (tell.message for tell in driver.told)
    assert isinstance(attach, Attach)
    assert (attach.conn_id, attach.topics) == (last.conn_id, [TopicCursor(A, EPOCH, 5)])
    assert attach.channels == ["a"]
    assert detach == Detach(last.conn_id, 1, True, [TopicCursor(A, EPOCH, 5)])
    driver.told.clear()
    waiting = deque(asked)
    while waiting:
        more = answered(driver, waiting.popleft(), 5)
        assert last.conn_id not in [message.conn_id for message in more]
        waiting += more


def test_one_whose_attach_is_sent_only_detaches(driver: Driver) -> None:
    first, *_ = crowd(driver, WINDOW)
    forgotten(driver)
    assert list(driver.release(first)) == [0]
    assert driver.told == []


def test_what_one_leaves_before_its_turn_is_not_asked_for(driver: Driver) -> None:
    *_, last = crowd(driver, WINDOW)
    waiting = deque(forgotten(driver))
    driver.unsubscribed(last, A)
    attach = None
    while waiting:
        attach = waiting.popleft()
        waiting += answered(driver, attach, 5)
    assert attach is not None
    assert (attach.conn_id, attach.topics, attach.channels) == (last.conn_id, [], [])


def test_those_that_nobody_answers_do_not_hold_up_the_others_for_ever(driver: Driver) -> None:
    crowd(driver, WINDOW)
    asked = forgotten(driver)
    driver.now += ASK_AGAIN_S
    driver.perform(driver.edge.ask_again(driver.now))
    names = [message.conn_id for _, message in driver.attaches()]
    assert names == [*(attach.conn_id for attach in asked), *(str(number) for number in range(len(asked), WINDOW))]


def test_a_shard_that_forgets_twice_is_asked_for_each_once(driver: Driver) -> None:
    crowd(driver, WINDOW)
    first = forgotten(driver)
    second = forgotten(driver)
    assert len(second) == len(first)
    assert answered(driver, first[0], 5) == []  # of the first time: the last one's answer counts
    waiting, names = deque(second), []
    while waiting:
        names.append(waiting[0].conn_id)
        waiting += answered(driver, waiting.popleft(), 5)
    assert sorted(names) == sorted(str(number) for number in range(WINDOW))
    assert len(driver.edge._attaches) == 0


def test_an_attach_says_how_far_a_client_that_is_behind_really_got(driver: Driver) -> None:
    driver.member("x", seq=5)
    driver.deliver(A, 6)
    driver.turn()
    (tell,) = driver.edge.attach_again(0, driver.now)
    assert isinstance(tell, Tell)
    assert tell.client is not None
    assert isinstance(tell.message, Attach)
    assert tell.message.topics == [TopicCursor(A, EPOCH, 6)]
    behind = as_passed_on(tell.message, [Mark(A, 5), Mark(A, 3), Mark(B, 0)])
    assert behind == replace(tell.message, topics=[TopicCursor(A, EPOCH, 6, passed_on=3)])


@pytest.mark.parametrize("unsent", [[], [Mark(B, 0)], [Mark(A, 6)], [Mark(A, 9)]])
def test_an_attach_of_one_that_is_not_behind_stays(driver: Driver, unsent: list[Mark]) -> None:
    message = Attach("x", "ann", 1, [TopicCursor(A, EPOCH, 6), TopicCursor("c/c")], 3)
    assert as_passed_on(message, unsent) == message


# --- silent starvation ---


def compared(driver: Driver, **told: int) -> list[Attach]:
    """What is asked when the shard says that it has told channels so far."""
    driver.told.clear()
    message = BeatAnswer("s-1", {channel_key(name): seq for name, seq in told.items()})
    driver.edge.receive(0, message, driver.now)
    driver.turn()
    return [attach for _, attach in driver.attaches()]


@pytest.mark.parametrize("told", [6, 9, -1])
def test_who_has_not_got_what_the_shard_has_told_attaches_again(driver: Driver, told: int) -> None:
    driver.member("x", seq=5)
    (attach,) = compared(driver, a=told)
    assert attach.topics == [TopicCursor(A, EPOCH, 5)]


@pytest.mark.parametrize("told", [0, 4, 5])
def test_who_has_got_it_all_does_not(driver: Driver, told: int) -> None:
    driver.member("x", seq=5)
    assert compared(driver, a=told) == []


def test_what_is_said_of_a_topic_that_nobody_here_is_on_is_ignored(driver: Driver) -> None:
    driver.member("x", seq=5)
    assert compared(driver, b=7) == []


def test_what_has_come_before_it_in_the_same_turn_counts(driver: Driver) -> None:
    driver.member("x", seq=5)
    driver.deliver(A, 6)
    assert compared(driver, a=6) == []


def test_topics_are_named_in_turns(driver: Driver) -> None:
    names = [f"ch{number}" for number in range(2 * HELD_A_BEAT - 1)]
    client = driver.hold(channels=names)
    driver.answer(client, *(on(channel_key(name), 3) for name in names))
    rounds = [driver.edge.some_held(0) for _ in range(4)]
    assert [len(one) for one in rounds] == [HELD_A_BEAT, HELD_A_BEAT - 1] * 2
    assert {**rounds[0], **rounds[1]} == dict.fromkeys(map(channel_key, names), 3)
    assert rounds[2:] == rounds[:2]


def test_who_has_left_is_not_named(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    assert driver.edge.some_held(0) == {A: 5}
    driver.unsubscribed(client, A)
    assert driver.edge.some_held(0) == {}


# --- how far it is ---


def test_moved_tells_what_is_new_once(driver: Driver) -> None:
    driver.member("x", seq=5)
    assert driver.edge.moved(0) == {}
    driver.deliver(A, 6)
    driver.deliver(A, 7, only=["nobody"])
    driver.turn()
    assert driver.edge.moved(0) == {A: 7}
    assert driver.edge.moved(0) == {}


def test_moved_stays_behind_the_slowest(driver: Driver) -> None:
    driver.member("x", seq=5)
    driver.deliver(A, 6)
    driver.turn()
    assert driver.edge.moved(0, [Mark(A, 6), Mark(A, 3), Mark(A, 4), Mark(B, 0)]) == {A: 3}
    assert driver.edge.moved(0, [Mark(A, 5)]) == {A: 5}
    assert driver.edge.moved(0) == {A: 6}
    assert driver.edge.moved(0) == {}


def test_moved_forgets_what_nobody_is_on(driver: Driver) -> None:
    client = driver.member("x", seq=5)
    driver.deliver(A, 6)
    driver.turn()
    driver.release(client)
    assert driver.edge.moved(0) == {}


# --- nothing is left ---


def test_after_everyone_has_gone_nothing_is_left() -> None:
    driver = Driver(3)
    clients = []
    for number in range(10):
        client = driver.hold(str(number), f"user{number % 3}", [f"ch{number % 4}", "all"])
        clients.append(client)
        attaches = driver.attaches()
        for shard, attach in attaches[: number % 3]:  # some are never answered
            driver.attached(client, *(on(one.topic) for one in attach.topics), number=attach.number, shard=shard)
    driver.deliver(channel_key("all"), 1, shard=driver.ring.owner(channel_key("all")))
    driver.edge.attach_again(1, driver.now)
    assert len(driver.edge) == 10
    for client in clients:
        driver.release(client)
        assert list(client.topics) == []
    driver.turn()
    driver.assert_empty()
    assert (len(driver.edge), driver.edge.channels) == (0, 0)


# --- where a client says itself how far it has come ---


def test_a_client_that_knows_its_position_is_attached_from_there() -> None:
    driver = Driver(3)
    known = {A: TopicCursor(A, "an epoch", 7)}
    client = Client("x", "ann", 1)
    state = ConnectionState("ann", ["a", "b"], [], "edge", 1, 0.0)
    driver.perform(driver.edge.hold(client, state, driver.now, known))
    asked = {cursor.topic: cursor for _, attach in driver.attaches() for cursor in attach.topics}
    assert asked == {A: known[A], B: TopicCursor(B), user_key("ann"): TopicCursor(user_key("ann"))}


def test_every_write_says_where_its_clients_stand_then(driver: Driver) -> None:
    client = driver.hold()
    driver.answer(client, on(A, 5, cursor=3))
    driver.deliver(A, 6)
    driver.deliver(A, 7)
    driver.deliver(A, 8, only=["ann"])
    reached = [effect.reached for effect in driver.turn() if isinstance(effect, Write)]
    assert reached == [TopicCursor(A, EPOCH, seq) for seq in (5, 7, 8)]


def test_who_keeps_its_position_is_told_it_even_where_nothing_was_missed(driver: Driver) -> None:
    class Keeper(Client):
        keeps_position = True

    for kind, told in ((Client, []), (Keeper, [TopicCursor(A, EPOCH, 5)])):
        client = kind(kind.__name__, "ann", 1)
        driver.perform(driver.edge.hold(client, ConnectionState("ann", ["a"], [], "edge", 1, 0.0), driver.now))
        driver.answer(client, on(A, 5))
        writes = [effect for effect in driver.turn() if isinstance(effect, Write)]
        assert [effect.reached for effect in writes] == told
        assert [list(effect.bodies) for effect in writes] == [[] for _ in told]


# --- channels that skip ---


def flags(driver: Driver) -> list[tuple[list[bytes], bool, int | None]]:
    return [(list(one.bodies), one.skippable, one.lost) for one in driver.turn() if isinstance(one, Write)]


def test_what_a_channel_says_of_slow_clients_goes_with_each_write(driver: Driver) -> None:
    driver.member("x")
    driver.deliver(A, 1)
    driver.deliver(A, 2, only=["ann"], skippable=True)
    assert flags(driver) == [([body(1)], False, 0), ([body(2)], True, 0)]


def test_a_channel_that_is_configured_anew_in_a_turn_makes_two_writes(driver: Driver) -> None:
    driver.member("x")
    driver.deliver(A, 1)
    driver.deliver(A, 2, skippable=True)
    driver.deliver(A, 3, skippable=True)
    assert flags(driver) == [([body(1)], False, 0), ([body(2), body(3)], True, 0)]


def test_a_catch_up_says_it_too_and_how_many_it_only_tells_of(driver: Driver) -> None:
    client = driver.hold()
    driver.answer(client, replace(on(A, 9, cursor=7, lost=5), skippable=True))
    ((bodies, skippable, lost),) = flags(driver)
    assert (len(bodies), skippable, lost) == (3, True, 5)
    assert driver.edge.counters.told() == {"gaps_told": 1}


# --- several deliveries in one message ---


def test_several_deliveries_in_one_message_are_as_good_as_in_several(driver: Driver) -> None:
    driver.member("k1")
    driver.member("k2", "bob")
    driver.deliver(A, 3, count=3)
    driver.deliver(A, 5, ["bob"], count=2)
    driver.deliver(A, 6)
    assert driver.writes() == [
        (["k1", "k2"], [body(1), body(2), body(3)], Mark(A, 0)),
        (["k2"], [body(4), body(5)], Mark(A, 3)),
        (["k1", "k2"], [body(6)], Mark(A, 5)),
    ]
    assert driver.edge.moved(0) == {A: 6}


@pytest.mark.parametrize("last", [7, 4], ids=["behind a hole", "from before"])
def test_several_deliveries_that_do_not_follow_are_asked_for_again(driver: Driver, last: int) -> None:
    client = driver.member("k1", seq=3)
    driver.deliver(A, last, count=3)
    assert driver.writes() == []
    ((_, attach),) = driver.attaches()
    assert [(cursor.topic, cursor.seq) for cursor in attach.topics] == [(A, 3)]
    assert not client.topics
