"""The shard's rules, each in a few lines: commands and the time in, what it sends and stores out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import inf
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from channelstream.ids import channel_key, fingerprint
from channelstream.shard import core as core_module
from channelstream.shard import members
from channelstream.shard.core import (
    CLOSE_DISCONNECTED,
    CLOSE_EXPIRED,
    CLOSE_REPLACED,
    GONE_KEPT_S,
    TAKEN_FOR_S,
    TAKEOVER_WAIT_S,
    USER_KEPT_S,
    Settings,
)
from channelstream.shard.effects import Broadcast, Reply, Send, Store, Tell
from channelstream.shard.peers import SILENCE_S
from channelstream.shard.store.base import (
    ChannelForgotten,
    ChannelSaved,
    ConnectionSaved,
    FramesSaved,
    MessageSaved,
    Place,
    RecordSaved,
    Saved,
    SavedChannel,
    SavedFrame,
    StoredMessage,
    UserForgotten,
    UserSaved,
    subject,
)
from channelstream.wire.chain import filled
from channelstream.wire.messages import (
    AddChannels,
    Answer,
    Ask,
    Attached,
    Beat,
    BeatAnswer,
    Chain,
    Chained,
    ChangeUser,
    ChannelConfig,
    Claim,
    Claimed,
    CloseConnection,
    Configure,
    ConnectionState,
    Deliver,
    Detach,
    Done,
    Drop,
    EnterUser,
    GetChannels,
    GetStatus,
    GetTotals,
    Join,
    Leave,
    OpenConnection,
    OtherUser,
    ProcessStatus,
    Publication,
    Publish,
    RemoveChannels,
    StatusReport,
    TakeConnection,
    TopicCursor,
    Unknown,
    Unsubscribed,
    UsersShown,
)

EDGE = "edge-0:a"
OTHER = "edge-1:b"
Driver = Any
AssertDelivered = Callable[..., list[Deliver]]
AssertMissed = Callable[..., None]


def drops(messages: list[Any]) -> list[tuple[str, int, int]]:
    return [(drop.conn_id, drop.attachment, drop.code) for drop in messages if isinstance(drop, Drop)]


def presence(messages: list[Any]) -> list[tuple[str, str]]:
    bodies = [
        msgspec.json.decode(body) for message in messages if isinstance(message, Deliver) for body in message.bodies
    ]
    return [(body["message"]["action"], body["user"]) for body in bodies if body.get("type") == "presence"]


# --- asks ---


def test_an_ask_is_answered_with_its_number(driver: Driver) -> None:
    effects = driver.handle("router-0:r", Ask(77, driver.clock.now.mono + 1, OpenConnection("k1", "ann", [])))
    answer = Answer(77, ConnectionState("ann", [], [], "", 0, 0.0))
    assert effects == [Store(RecordSaved("k1", "ann", ())), Reply("router-0:r", answer, False)]
    assert driver.effects_of(GetStatus())[0].message.number == 1


@pytest.mark.parametrize(
    "command",
    [
        OpenConnection("k1", "ann", ["a"]),
        Publish([Publication(["c/lobby"], ["m1"], [b"{}"])]),
        Claim("key", 60.0),
        Leave("k0", None),
        CloseConnection("k0"),
    ],
)
def test_an_ask_that_is_past_its_deadline_has_no_effect_at_all(driver: Driver, command: Any) -> None:
    driver.connect("k0", "bob", ["lobby"])
    before = (driver.channels(), driver.shard.status())
    assert driver.handle("router-0:r", Ask(1, driver.clock.now.mono - 0.001, command)) == []
    after = driver.shard.status()
    assert after.counters == {"asks_stale": 1}
    assert (driver.channels(), replace(after, counters={})) == before
    assert driver.ask(OpenConnection("k1", "zoe", [])).user == "zoe"
    assert driver.ask(Claim("key", 60.0)) == Claimed(True)


def test_an_ask_is_good_until_its_deadline(driver: Driver) -> None:
    assert driver.handle("r", Ask(1, driver.clock.now.mono, GetStatus()))


# --- records ---


def test_a_record_gathers_channels(driver: Driver) -> None:
    assert driver.ask(OpenConnection("k1", "ann", ["b", "a"])).channels == ["a", "b"]
    state = driver.ask(OpenConnection("k1", "ann", ["b", "c"]))
    assert (state.channels, state.changed) == (["a", "b", "c"], ["c"])


def test_a_connection_is_of_one_user(driver: Driver) -> None:
    driver.ask(OpenConnection("k1", "ann", []))
    assert driver.ask(OpenConnection("k1", "bob", ["a"])) == OtherUser()
    assert driver.ask(OpenConnection("k1", "ann", [])).channels == []


def test_only_what_changed_is_told_as_changed(driver: Driver) -> None:
    driver.ask(OpenConnection("k1", "ann", ["a", "b"]))
    assert driver.ask(AddChannels("k1", ["b", "c", "c"])).changed == ["c"]
    removed = driver.ask(RemoveChannels("k1", ["a", "x", "a"]))
    assert (removed.changed, removed.channels) == (["a"], ["b", "c"])


@pytest.mark.parametrize(
    "command",
    [AddChannels("k1", ["a"]), RemoveChannels("k1", ["a"]), CloseConnection("k1"), TakeConnection("k1")],
)
def test_what_is_not_there_is_unknown(driver: Driver, command: Any) -> None:
    assert driver.ask(command, peer=EDGE) == Unknown()


def test_taking_says_where_it_is_held(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.take("k1", EDGE)
    assert (state.user, state.channels, state.route, state.detached_for_s) == ("ann", ["a"], EDGE, 0.0)
    assert driver.ask(AddChannels("k1", ["b"])).route == EDGE


def test_attachments_grow_even_where_the_record_was_lost(driver: Driver) -> None:
    driver.connect("k1", "ann")
    first = driver.take("k1", EDGE).attachment
    second = driver.take("k1", EDGE).attachment
    driver.clock.advance(1)
    driver.restart()
    driver.connect("k1", "ann")
    assert first < second < driver.take("k1", EDGE).attachment


# --- joining ---


def test_a_join_makes_what_is_missing_as_configured(driver: Driver) -> None:
    driver.connect("k1", "ann", ["new"], {"new": {"history_size": 3}})
    assert driver.channel("new")["settings"]["history_size"] == 3
    (saved,) = [write for write in driver.writes if isinstance(write, ChannelSaved)]
    assert (saved.channel, saved.config) == ("new", ChannelConfig(history_size=3))


def test_a_join_leaves_what_is_there_as_it_is(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {"history_size": 3}})
    driver.connect("k2", "bob", ["a"], {"a": {"history_size": 7}})
    assert driver.channel("a")["settings"]["history_size"] == 3


def test_a_join_tells_about_what_was_asked_for(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "b"])
    result = driver.join("k1", "ann", ["c"], about=["b", "c", "elsewhere"])
    assert [info.name for info in result.channels] == ["b", "c"]
    assert [info.users for info in result.channels] == [["ann"], ["ann"]]


def test_joining_twice_is_joining_once(driver: Driver) -> None:
    for _ in range(2):
        driver.connect("k1", "ann", ["a"], {"a": {"notify_presence": True}})
    shown = driver.channel("a")
    assert (shown["total_connections"], shown["total_users"], shown["seq"]) == (1, 1, 1)


def test_totals_count_users_and_connections(driver: Driver) -> None:
    for conn_id, user in (("k1", "ann"), ("k2", "ann"), ("k3", "bob")):
        driver.connect(conn_id, user, ["a"])
    shown = driver.channel("a")
    assert (shown["total_connections"], shown["total_users"], shown["users"]) == (3, 2, ["ann", "bob"])


def test_fresh_state_is_for_new_users_alone(driver: Driver) -> None:
    first = driver.enter("k1", "ann", fresh={"a": 1, "b": 1}, state_values={"b": 2}, public_keys=["b"])
    assert (first.state, first.public) == ({"a": 1, "b": 2}, {"b": 2})
    second = driver.enter("k2", "ann", fresh={"a": 9}, state_values={"c": 3})
    assert (second.state, second.public) == ({"a": 1, "b": 2, "c": 3}, {"b": 2})


def test_a_user_is_stored_where_something_changed(driver: Driver) -> None:
    driver.enter("k1", "ann")
    driver.enter("k2", "ann")
    driver.enter("k2", "ann", state_values={"a": 1})
    users = [write for write in driver.writes if isinstance(write, UserSaved)]
    assert users == [UserSaved("ann", {}, ()), UserSaved("ann", {"a": 1}, ())]


def test_a_user_is_told_with_its_connections(driver: Driver) -> None:
    driver.connect("k2", "ann", public={"mood": "fine"})
    driver.connect("k1", "ann")
    assert driver.user("ann") == {"user": "ann", "state": {"mood": "fine"}, "connections": ["k1", "k2"]}
    assert driver.user("nobody") is None


def test_only_channels_that_exist_are_told_of(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "b"])
    assert list(driver.channels(["b", "x"])) == ["b"]
    assert sorted(driver.channels()) == ["a", "b"]


# --- telling who is there ---

WHOLE = UsersShown(include_connections=False, public_only=False)
PUBLIC = UsersShown(include_connections=False, public_only=True)
WITH_CONNECTIONS = UsersShown(include_connections=True, public_only=False)


def told_users(driver: Driver, channels: list[str] | None, shown: UsersShown) -> Any:
    """The users that are told along with channels; None where each channel names its own."""
    told = driver.ask(GetChannels(channels, False, True, shown))
    if told.users is None:
        return None
    assert not any(info.users for info in told.channels)
    return msgspec.json.decode(told.users)


@pytest.fixture(params=[1, 1000], ids=["kept", "made anew"])
def listed(driver: Driver, request: Any, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """zoe with a public key and ann on a channel, ann on another one, whether their lists are kept or not."""
    monkeypatch.setattr(members, "KEPT_FROM", request.param)
    driver.connect("k1", "zoe", ["a"], public={"x": 1})
    driver.ask(ChangeUser("zoe", {"y": 2}, None))
    driver.connect("k2", "ann", ["a", "b"])
    return driver


def test_users_are_told_with_their_channels_each_once_and_sorted(listed: Driver) -> None:
    ann, zoe = {"user": "ann", "state": {}}, {"user": "zoe", "state": {"x": 1, "y": 2}}
    assert told_users(listed, ["a"], WHOLE) == [ann, zoe]
    assert told_users(listed, ["a"], PUBLIC) == [ann, {"user": "zoe", "state": {"x": 1}}]
    assert told_users(listed, ["b"], WHOLE) == [ann]
    assert told_users(listed, ["b", "a"], WHOLE) == told_users(listed, None, WHOLE) == [ann, zoe]
    assert told_users(listed, ["a"], WITH_CONNECTIONS) == [ann | {"connections": ["k2"]}, zoe | {"connections": ["k1"]}]
    assert told_users(listed, [], WHOLE) == []


def test_users_are_told_as_they_are_now(listed: Driver) -> None:
    told_users(listed, ["a"], WHOLE)

    listed.ask(ChangeUser("zoe", {"y": 3}, None))
    assert told_users(listed, ["a"], WHOLE)[1]["state"] == {"x": 1, "y": 3}

    listed.enter("k1", "zoe", state_values={"x": 5})
    assert told_users(listed, ["a"], WHOLE)[1]["state"] == {"x": 5, "y": 3}
    assert told_users(listed, ["a"], PUBLIC)[1]["state"] == {"x": 5}

    listed.unsubscribe("k2", ["a"])
    listed.connect("k3", "bob", ["a"])
    assert [one["user"] for one in told_users(listed, ["a"], WHOLE)] == ["bob", "zoe"]
    assert listed.channel("a")["users"] == ["bob", "zoe"]


def test_where_another_shard_owns_one_of_the_users_each_channel_names_its_own(listed: Driver) -> None:
    listed.join("k4", "theirs", ["a"])

    for channels, shown in itertools.product((["a"], ["a", "b"]), (WHOLE, WITH_CONNECTIONS)):
        assert told_users(listed, channels, shown) is None
    (told,) = listed.ask(GetChannels(["a"], False, True, WHOLE)).channels
    assert sorted(told.users) == ["ann", "theirs", "zoe"]
    assert told_users(listed, ["b"], WHOLE) == [{"user": "ann", "state": {}}]


def test_users_that_nobody_asks_for_are_not_told(listed: Driver) -> None:
    assert listed.ask(GetChannels(["a"], False, False, WHOLE)).users is None
    named = listed.ask(GetChannels(["a"], False, True))
    assert (named.users, sorted(named.channels[0].users)) == (None, ["ann", "zoe"])


# --- chains ---


def last_words(writes: list[Any]) -> dict[Any, Any]:
    """What is written last about each subject."""
    return {subject(write): write for write in writes}


def test_a_chain_is_what_its_steps_would_be_one_after_another(driver: Driver, make_driver: Any) -> None:
    joined = Join("k1", "ann", {}, ["a"], {"a": {"notify_presence": True}}, ["a"], True, True, shown=WHOLE)
    steps = [OpenConnection("k1", "ann", ["a"]), EnterUser("ann", "k1", {"x": 1}, {}, ["x"]), joined]

    chained = driver.ask(Chain(steps))

    other = make_driver()
    other.clock.now = driver.clock.now
    results: list[Any] = []
    for step in steps:
        results.append(other.ask(filled(step, results)))
    assert chained == Chained(results)
    assert last_words(driver.writes) == last_words(other.writes)
    assert driver.channel("a") == other.channel("a")


def test_a_chain_joins_where_the_connection_is_held(driver: Driver, assert_delivered: AssertDelivered) -> None:
    driver.connect("k1", "ann", [])
    driver.hold("k1", EDGE)
    joined = Join("k1", "ann", {}, ["a"], {}, [], False, False)

    driver.ask(Chain([OpenConnection("k1", "ann", ["a"]), EnterUser("ann", "k1", {}, {}, None), joined]))
    driver.publish("c/a", "m1")

    assert_delivered(driver.received(EDGE), "c/a", "m1")


def test_a_chain_that_is_refused_at_a_step_carries_out_none_behind_it(driver: Driver) -> None:
    driver.connect("k1", "ann", [])
    joined = Join("k1", "bob", {}, ["a"], {}, [], False, False)

    told = driver.ask(Chain([OpenConnection("k1", "bob", ["a"]), EnterUser("bob", "k1", {}, {}, None), joined]))

    assert told == Chained([OtherUser()])
    assert driver.user("bob") is None
    assert driver.channels() == {}


# --- messages ---


def test_one_delivery_goes_to_each_edge_however_many_members_it_has(driver: Driver) -> None:
    for conn_id, edge in (("k1", EDGE), ("k2", EDGE), ("k3", OTHER)):
        driver.connect(conn_id, "ann", ["a"])
        driver.hold(conn_id, edge)
    effects = driver.publish("c/a", "m1")
    (broadcast,) = [effect for effect in effects if isinstance(effect, Broadcast)]
    assert sorted(broadcast.peers) == [EDGE, OTHER]
    assert isinstance(effects[-1], Send)
    assert effects[-1].message == Answer(effects[-1].message.number, Done())  # type: ignore[union-attr]


def test_a_message_is_stored_before_it_is_delivered_and_answered(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {"store_history": True}})
    driver.hold("k1", EDGE)
    assert [type(effect) for effect in driver.publish("c/a", "m1")] == [Store, Tell, Reply]
    assert isinstance(driver.writes[-1], MessageSaved)


def test_filters_travel_with_the_delivery(driver: Driver, assert_delivered: AssertDelivered) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    driver.publish("c/a", "m1", only=["bob"], exclude=["ann"])
    (deliver,) = assert_delivered(driver.received(EDGE), "c/a", "m1")
    assert (deliver.only, deliver.exclude) == (["bob"], ["ann"])


def test_a_repeated_message_is_answered_and_not_taken_again(driver: Driver, assert_delivered: AssertDelivered) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    for _ in range(2):
        assert isinstance(driver.publish("c/a", "m1")[-1], Send)
    assert_delivered(driver.received(EDGE), "c/a", "m1")
    assert driver.channel("a")["seq"] == 1


def test_the_order_of_a_request_is_kept(driver: Driver, assert_delivered: AssertDelivered) -> None:
    driver.connect("k1", "ann", ["a", "b"])
    driver.hold("k1", EDGE)
    body = b'{"uuid":"%b"}'
    driver.ask(Publish([Publication(["c/a", "c/b"], [f"m{n}"], [body % b"m%d" % n]) for n in range(5)]))
    messages = driver.received(EDGE)
    for topic in ("c/a", "c/b"):
        assert_delivered(messages, topic, *(f"m{n}" for n in range(5)))


def test_a_message_for_what_does_not_exist_goes_nowhere(driver: Driver) -> None:
    effects = driver.publish("c/nowhere", "m1") + driver.publish("u/nobody", "m2") + driver.publish("x/?", "m3")
    assert [effect.message.result for effect in effects] == [Done()] * 3
    assert driver.channels() == {}


def test_a_private_message_goes_to_all_connections_of_its_user(
    driver: Driver, assert_delivered: AssertDelivered, assert_missed: AssertMissed
) -> None:
    for conn_id in ("k1", "k2"):
        driver.connect(conn_id, "ann", ["a"], {"a": {"store_history": True}})
    driver.connect("k3", "bob", ["a"])
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.publish("u/ann", "m1")
    assert_delivered(driver.received(EDGE), "u/ann", "m1")
    driver.hold("k2", OTHER)
    assert_missed(driver.attached(OTHER)["u/ann"], "m1")
    assert (driver.channel("a")["history"], driver.channel("a")["seq"]) == ([], 0)
    assert not [write for write in driver.writes if isinstance(write, MessageSaved)]


# --- presence ---


@pytest.fixture
def watched(driver: Driver) -> Driver:
    """A channel with presence that bob watches."""
    driver.connect("watcher", "bob", ["p"], {"p": {"notify_presence": True}})
    driver.hold("watcher", EDGE)
    driver.received(EDGE)
    return driver


def test_a_users_first_connection_joins_and_its_last_one_parts(watched: Driver) -> None:
    for conn_id in ("k1", "k2"):
        watched.connect(conn_id, "ann", ["p"])
    watched.unsubscribe("k1", ["p"])
    assert presence(watched.received(EDGE)) == [("joined", "ann")]
    watched.disconnect("k2")
    assert presence(watched.received(EDGE)) == [("parted", "ann")]


def test_who_comes_is_not_told_of_itself_nor_that_it_missed_it(watched: Driver) -> None:
    watched.connect("k1", "ann", ["p"])
    watched.hold("k1", OTHER)
    attached = watched.attached(OTHER)["c/p"]
    assert (attached.missed, attached.lost) == ([], 0)


def test_who_comes_to_a_channel_without_frames_is_not_told_of_a_gap(driver: Driver) -> None:
    driver.connect("k1", "ann", ["p"], {"p": {"notify_presence": True, "store_frames": False}})
    driver.hold("k1", EDGE)
    assert driver.attached(EDGE)["c/p"].lost == 0


def test_an_expired_connection_parts(watched: Driver) -> None:
    watched.connect("k1", "ann", ["p"])
    watched.live(31.0, EDGE)
    assert presence(watched.received(EDGE)) == [("joined", "ann"), ("parted", "ann")]


# --- attaching ---


def test_an_attach_brings_what_was_missed_and_everything_after(
    driver: Driver, assert_delivered: AssertDelivered, assert_missed: AssertMissed
) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.publish("c/a", "m1")
    driver.hold("k1", EDGE)
    driver.publish("c/a", "m2")
    attached, *after = driver.received(EDGE)
    assert isinstance(attached, Attached)
    assert_missed({topic.topic: topic for topic in attached.topics}["c/a"], "m1")
    assert_delivered(after, "c/a", "m2")


def test_an_attach_is_answered_with_its_number(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.take("k1", EDGE)
    driver.attach("k1", EDGE, state, [])
    assert [message.number for message in driver.received(EDGE)] == [1]


def test_an_attached_connection_that_subscribes_is_served_at_once(
    driver: Driver, assert_delivered: AssertDelivered
) -> None:
    driver.connect("k1", "ann")
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.subscribe("k1", ["a"])
    driver.publish("c/a", "m1")
    attached, *after = driver.received(EDGE)
    assert [topic.topic for topic in attached.topics] == ["c/a"]
    assert_delivered(after, "c/a", "m1")


def test_a_join_reaches_an_edge_that_this_shard_has_not_heard_of_yet(driver: Driver) -> None:
    driver.join("k1", "ann", ["a"], held=ConnectionState("ann", ["a"], [], EDGE, 7, 0.0))
    assert list(driver.attached(EDGE)) == ["c/a"]


def test_a_join_with_the_route_of_an_attachment_that_is_over_routes_nothing(driver: Driver) -> None:
    driver.connect("k1", "ann")
    state = driver.hold("k1", EDGE)
    driver.detach("k1", EDGE, state)
    driver.received(EDGE)
    driver.join("k1", "ann", ["a"], held=state)
    assert driver.received(EDGE) == []


def test_who_unsubscribes_gets_nothing_more(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.unsubscribe("k1", ["a", "b"])
    driver.publish("c/a", "m1")
    assert driver.received(EDGE) == [Unsubscribed("k1", ["c/a"])]


def test_a_detached_connection_comes_back_and_misses_nothing(driver: Driver, assert_missed: AssertMissed) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    epoch = driver.attached(EDGE)["c/a"].epoch
    for uuid in ("m1", "m2"):
        driver.publish("c/a", uuid)
    driver.detach("k1", EDGE, state, cursors=[TopicCursor("c/a", epoch, 1)])
    driver.publish("c/a", "m3")
    driver.hold("k1", OTHER)
    assert_missed(driver.attached(OTHER)["c/a"], "m2", "m3")


def test_a_detach_of_an_earlier_attachment_has_no_effect(driver: Driver, assert_delivered: AssertDelivered) -> None:
    driver.connect("k1", "ann", ["a"])
    first = driver.hold("k1", EDGE)
    driver.detach("k1", EDGE, first)
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.detach("k1", EDGE, first, closed=True)
    driver.publish("c/a", "m1")
    assert_delivered(driver.received(EDGE), "c/a", "m1")


# --- taken and attached in one breath ---


def take_and_attach(driver: Driver, conn_id: str, edge: str = EDGE, number: int = 5) -> tuple[Any, list[Any]]:
    """The answer to an edge that wants both, and what else it is sent."""
    driver.received(edge)
    driver.handle(edge, Ask(number, driver.clock.now.mono + 1.0, TakeConnection(conn_id, number)))
    answer, *others = driver.received(edge)
    return answer.result, others


def test_what_this_shard_owns_is_attached_behind_the_answer(
    driver: Driver, assert_missed: AssertMissed, assert_delivered: AssertDelivered
) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.publish("c/a", "m1")

    state, (attached,) = take_and_attach(driver, "k1", number=7)

    assert state.attaching == 7
    assert (attached.conn_id, attached.attachment, attached.number) == ("k1", state.attachment, 7)
    assert [topic.topic for topic in attached.topics] == ["u/ann", "c/a"]
    assert_missed(attached.topics[1], "m1")
    driver.publish("c/a", "m2")
    assert_delivered(driver.received(EDGE), "c/a", "m2")


def test_what_it_does_not_know_is_left_to_an_attach(driver: Driver) -> None:
    driver.ask(OpenConnection("k1", "ann", ["a"]))
    state, others = take_and_attach(driver, "k1")
    assert (state.attaching, others) == (0, [])


def test_who_does_not_ask_for_it_is_given_the_connection_alone(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state, others = take_and_attach(driver, "k1", number=0)
    assert (state.attaching, others) == (0, [])


def test_the_former_edge_is_waited_for(driver: Driver, assert_missed: AssertMissed) -> None:
    driver.connect("k1", "ann", ["a"])
    former = driver.hold("k1", EDGE)
    driver.publish("c/a", "m1")

    state, others = take_and_attach(driver, "k1", OTHER, 8)
    assert (state.attaching, others) == (8, [])

    driver.detach("k1", EDGE, former, cursors=[TopicCursor("c/a", seq=0)])
    (attached,) = driver.received(OTHER)
    assert attached.number == 8
    assert_missed(attached.topics[1], "m1")


def test_an_answer_that_is_given_again_attaches_nothing_and_says_so(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    first, _ = take_and_attach(driver, "k1", number=7)

    driver.handle(EDGE, Ask(7, driver.clock.now.mono + 1.0, TakeConnection("k1", 7), again=True))
    (answer,) = driver.received(EDGE)
    assert answer.result == replace(first, attaching=0)

    driver.attach("k1", EDGE, answer.result)
    (attached,) = driver.received(EDGE)
    assert [topic.topic for topic in attached.topics] == ["u/ann", "c/a"]


@pytest.mark.parametrize(("said", "kept"), [("nothing", False), ("it holds it", True), ("of an earlier one", False)])
def test_an_edge_that_does_not_say_that_it_holds_it_was_given_it_too_late(
    driver: Driver, said: str, kept: bool
) -> None:
    driver.connect("k1", "ann", ["a"])
    state, _ = take_and_attach(driver, "k1")
    taken = {"nothing": {}, "it holds it": {"k1": state.attachment}, "of an earlier one": {"k1": state.attachment - 1}}
    driver.handle(EDGE, Beat("", ProcessStatus("edge", 0, 1, 0.0, "test"), {}, {}, {"k9": 1, **taken[said]}))

    driver.live(TAKEN_FOR_S + 1.0, EDGE)

    driver.received(EDGE)
    driver.take("k1", OTHER)
    assert bool(drops(driver.received(EDGE))) == kept


# --- taking over ---


def test_a_second_client_replaces_the_first(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    first = driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.take("k1", OTHER)
    assert drops(driver.received(EDGE)) == [("k1", first.attachment, CLOSE_REPLACED)]


def test_the_new_edge_waits_until_the_former_one_has_said_how_far_it_served(
    driver: Driver, assert_missed: AssertMissed
) -> None:
    driver.connect("k1", "ann", ["a"])
    first = driver.hold("k1", EDGE)
    epoch = driver.attached(EDGE)["c/a"].epoch
    for uuid in ("m1", "m2"):
        driver.publish("c/a", uuid)
    driver.hold("k1", OTHER)
    assert driver.received(OTHER) == []
    driver.detach("k1", EDGE, first, cursors=[TopicCursor("c/a", epoch, 1)])
    assert_missed(driver.attached(OTHER)["c/a"], "m2")
    driver.received(EDGE)
    driver.publish("c/a", "m3")
    assert driver.received(EDGE) == []


def test_a_former_edge_that_says_nothing_is_passed_over(driver: Driver, assert_missed: AssertMissed) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    driver.publish("c/a", "m1")
    driver.hold("k1", OTHER)
    driver.received(EDGE)
    driver.tick(TAKEOVER_WAIT_S - 0.01)
    assert driver.received(OTHER) == []
    driver.tick(0.01)
    assert_missed(driver.attached(OTHER)["c/a"], "m1")
    assert [code for _, _, code in drops(driver.received(EDGE))] == [CLOSE_REPLACED]


def test_what_beats_have_covered_is_not_repeated_then(driver: Driver, assert_missed: AssertMissed) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    for uuid in ("m1", "m2", "m3"):
        driver.publish("c/a", uuid)
    driver.beat(EDGE, cursors={"c/a": 2})
    driver.hold("k1", OTHER)
    driver.tick(TAKEOVER_WAIT_S)
    assert_missed(driver.attached(OTHER)["c/a"], "m3")


def test_each_wait_has_its_own_second(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    first = driver.hold("k1", EDGE)
    second = driver.hold("k1", OTHER)
    driver.tick(0.1)
    driver.detach("k1", EDGE, first)
    driver.tick(0.8)
    driver.received(OTHER)
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.tick(0.2)
    assert driver.received(EDGE) == []  # 1.1 s after the first wait began, 0.2 s after this one did
    driver.detach("k1", OTHER, second)
    assert list(driver.attached(EDGE)) == ["u/ann", "c/a"]


def test_of_two_that_wait_the_later_one_gets_it(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    first = driver.hold("k1", EDGE)
    early, late = driver.take("k1", "edge-2:c"), driver.take("k1", OTHER)
    driver.attach("k1", OTHER, late)
    driver.received("edge-2:c")
    driver.attach("k1", "edge-2:c", early)
    assert drops(driver.received("edge-2:c")) == [("k1", early.attachment, CLOSE_REPLACED)]
    driver.detach("k1", EDGE, first)
    assert list(driver.attached(OTHER)) == ["u/ann", "c/a"]


def test_an_attach_that_was_overtaken_is_told_to_go(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    early = driver.take("k1", EDGE)
    driver.hold("k1", OTHER)
    driver.received(EDGE)
    driver.attach("k1", EDGE, early)
    assert drops(driver.received(EDGE)) == [("k1", early.attachment, CLOSE_REPLACED)]


# --- lost edges, lost shards ---


@pytest.fixture
def stalled(driver: Driver) -> Driver:
    """A client at an edge that has been silent for too long; m1 was published before, m2 after."""
    driver.connect("k1", "ann", ["a"])
    driver.state = driver.hold("k1", EDGE)
    driver.session = driver.beat(EDGE)
    driver.epochs = {key: topic.epoch for key, topic in driver.attached(EDGE).items()}
    driver.publish("c/a", "m1")
    driver.tick(3.6)
    driver.publish("c/a", "m2")
    return driver


def positions(driver: Driver, seq: int) -> list[TopicCursor]:
    return [TopicCursor("u/ann", driver.epochs["u/ann"], 0), TopicCursor("c/a", driver.epochs["c/a"], seq)]


def test_a_silent_edge_is_sent_nothing(stalled: Driver, assert_delivered: AssertDelivered) -> None:
    assert_delivered(stalled.received(EDGE), "c/a", "m1")


def test_an_edge_that_comes_back_is_told_and_goes_on_from_where_it_was(
    stalled: Driver, assert_missed: AssertMissed
) -> None:
    assert stalled.beat(EDGE, stalled.session) != stalled.session
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    assert_missed(stalled.attached(EDGE)["c/a"], "m2")
    assert stalled.ask(AddChannels("k1", [])).route == EDGE  # and its record is held again
    stalled.live(60.0, EDGE)
    assert stalled.channel("a")["total_connections"] == 1


def test_beats_of_a_session_that_is_over_cover_nothing(stalled: Driver, assert_missed: AssertMissed) -> None:
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    stalled.received(EDGE)
    stalled.publish("c/a", "m3")
    stalled.beat(EDGE, stalled.session, {"c/a": 3})
    stalled.lose(EDGE)
    stalled.hold("k1", OTHER)
    assert_missed(stalled.attached(OTHER)["c/a"], "m2", "m3")


def test_what_was_left_meanwhile_stays_left(stalled: Driver) -> None:
    stalled.unsubscribe("k1", ["a"])
    stalled.received(EDGE)
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    unsubscribed, attached = stalled.received(EDGE)
    assert unsubscribed == Unsubscribed("k1", ["c/a"])
    assert [topic.topic for topic in attached.topics] == ["u/ann"]
    assert stalled.channel("a")["total_connections"] == 0


def test_who_was_disconnected_meanwhile_is_dropped(stalled: Driver) -> None:
    stalled.disconnect("k1")
    stalled.received(EDGE)
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    assert drops(stalled.received(EDGE)) == [("k1", stalled.state.attachment, CLOSE_EXPIRED)]
    assert stalled.channel("a")["total_connections"] == 0


def test_who_has_expired_meanwhile_is_dropped(stalled: Driver) -> None:
    stalled.tick(31.0)
    stalled.received(EDGE)
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    assert drops(stalled.received(EDGE)) == [("k1", stalled.state.attachment, CLOSE_EXPIRED)]


def test_who_went_elsewhere_meanwhile_is_dropped(stalled: Driver) -> None:
    stalled.hold("k1", OTHER)
    stalled.received(EDGE)
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    assert drops(stalled.received(EDGE)) == [("k1", stalled.state.attachment, CLOSE_REPLACED)]


def test_an_edge_that_was_killed_with_the_attach_on_its_way_loses_nothing(
    driver: Driver, assert_missed: AssertMissed
) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.publish("c/a", "m1")
    driver.hold("k1", EDGE)
    driver.lose(EDGE)
    driver.hold("k1", OTHER)
    assert_missed(driver.attached(OTHER)["c/a"], "m1")


def test_an_edge_that_repeats_its_attach_is_answered_from_where_it_stands(
    driver: Driver, assert_missed: AssertMissed
) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    epoch = driver.attached(EDGE)["c/a"].epoch
    for uuid in ("m1", "m2"):
        driver.publish("c/a", uuid)
    driver.received(EDGE)
    driver.attach("k1", EDGE, state, [TopicCursor("c/a", epoch, 1)])
    assert_missed(driver.attached(EDGE)["c/a"], "m2")
    driver.detach("k1", EDGE, state)
    driver.publish("c/a", "m3")
    assert driver.received(EDGE) == []


def test_a_young_shard_does_not_take_in_silently_whom_its_former_life_knew(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.restart()
    state = ConnectionState("ann", ["a"], [], EDGE, 2**50, 0.0)
    driver.attach("k1", EDGE, state)
    assert [(type(one), one.code) for one in driver.received(EDGE)] == [(Drop, 4002)]
    driver.connect("k2", "joe", ["a"])
    driver.hold("k2", EDGE)
    assert "c/a" in driver.attached(EDGE)
    driver.clock.advance(31)
    driver.attach("k3", EDGE, state)
    assert [type(one) for one in driver.received(EDGE)] == [Attached]


def test_who_said_goodbye_is_gone_and_may_be_connected_anew_with_the_same_id(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "b"])
    state = driver.hold("k1", EDGE)
    driver.detach("k1", EDGE, state, closed=True)
    assert driver.ask(TakeConnection("k1")) == Unknown()
    assert driver.ask(AddChannels("k1", ["c"])) == Unknown()
    again = driver.connect("k1", "ann", ["a"])
    driver.tick(5)
    assert again.channels == ["a"]
    assert (driver.channel("a")["users"], driver.channel("b")["users"]) == (["ann"], [])
    driver.hold("k1", EDGE)
    assert "c/a" in driver.attached(EDGE)


def test_who_said_goodbye_may_be_disconnected_for_good_as_long_as_it_is_known(driver: Driver) -> None:
    """A page closes its socket and then says so here, too: it is told that it was known, once."""
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    driver.detach("k1", EDGE, state, closed=True)
    assert isinstance(driver.disconnect("k1"), ConnectionState)
    assert driver.channel("a")["users"] == []
    assert driver.disconnect("k1") == Unknown()


def test_a_lost_peer_that_was_never_known_is_nothing(driver: Driver) -> None:
    assert driver.shard.lose_peer("edge-9:z", driver.clock.now) == []


def test_a_new_shard_learns_from_the_edge_what_it_has_lost(stalled: Driver, assert_delivered: AssertDelivered) -> None:
    stalled.restart()
    stalled.attach("k1", EDGE, stalled.state, positions(stalled, 1))
    attached = stalled.attached(EDGE)
    assert {key: topic.lost for key, topic in attached.items()} == {"u/ann": None, "c/a": None}
    assert attached["c/a"].epoch != stalled.epochs["c/a"]
    assert stalled.channel("a")["users"] == ["ann"]
    stalled.publish("c/a", "m3")
    assert_delivered(stalled.received(EDGE), "c/a", "m3")


def test_what_an_edge_or_a_browser_names_without_an_epoch_is_lost_with_the_rest(
    stalled: Driver, assert_delivered: AssertDelivered
) -> None:
    """An event stream's position names some topics only, and an attach may have been on its way when the shard died."""
    stalled.restart()
    known = [TopicCursor("c/a", stalled.epochs["c/a"], 1), TopicCursor("c/b"), TopicCursor("u/ann")]
    stalled.attach("k1", EDGE, stalled.state, known)
    assert {key: topic.lost for key, topic in stalled.attached(EDGE).items()} == dict.fromkeys(["c/a", "c/b", "u/ann"])
    stalled.publish("c/b", "m3")
    assert_delivered(stalled.received(EDGE), "c/b", "m3")


# --- what a client claims about itself ---


@pytest.mark.parametrize("epoch", ["made up", None])
def test_a_claim_shows_nothing_from_before_the_membership(
    driver: Driver, assert_missed: AssertMissed, epoch: Any
) -> None:
    """None: the right epoch."""
    driver.connect("k0", "bob", ["a"])
    driver.publish("c/a", "before")
    driver.connect("k1", "ann", ["a"])
    driver.publish("c/a", "after")
    state = driver.take("k1", EDGE)
    told = fingerprint(driver.channel("a")["epoch"]) if epoch is None else epoch
    driver.attach("k1", EDGE, state, [TopicCursor("c/a", told, 0, claimed=True)])
    assert_missed(driver.attached(EDGE)["c/a"], "after", lost=0 if epoch is None else None)


def test_a_claim_makes_nobody_a_member(driver: Driver) -> None:
    """An unsubscribe that comes between a client's coming back and its attach stays one."""
    driver.connect("k1", "ann", ["a", "b"])
    state = driver.take("k1", EDGE)
    driver.unsubscribe("k1", ["a"])
    claims = [TopicCursor(f"c/{name}", "made up", 0, claimed=True) for name in "ab"]
    driver.attach("k1", EDGE, state, claims)
    assert set(driver.attached(EDGE)) == {"u/ann", "c/b"}
    assert driver.channel("a")["users"] == []


def test_a_claim_does_not_make_a_young_shard_take_somebody_in(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.restart()
    state = ConnectionState("ann", ["a"], [], EDGE, 2**50, 0.0)
    driver.attach("k1", EDGE, state, [TopicCursor("c/a", "made up", 0, claimed=True)])
    assert [(type(one), one.code) for one in driver.received(EDGE)] == [(Drop, 4002)]


def test_what_was_said_while_it_was_off_is_not_shown_by_an_epoch_that_was_lost(
    driver: Driver, assert_missed: AssertMissed
) -> None:
    driver.connect("k1", "ann", ["a"])
    old = [TopicCursor("c/a", fingerprint(driver.channel("a")["epoch"]), 1, claimed=True)]
    driver.restart()
    driver.connect("k1", "ann", ["a"])
    driver.unsubscribe("k1", ["a"])
    driver.publish("c/a", "while off")
    driver.subscribe("k1", ["a"])
    driver.publish("c/a", "back on")
    driver.attach("k1", EDGE, driver.take("k1", EDGE), old)
    assert_missed(driver.attached(EDGE)["c/a"], "back on", lost=None)


def test_a_new_shard_that_kept_the_epoch_tells_of_no_gap(make_driver: Any, assert_missed: AssertMissed) -> None:
    messages = [StoredMessage(f"m{seq}", seq, b'{"uuid":"m%d"}' % seq, 0.0) for seq in (1, 2)]
    saved = Saved({"a": SavedChannel("u", "e", 2, ChannelConfig(store_history=True), messages)}, {})
    driver = make_driver(saved=saved)
    state = ConnectionState("ann", ["a"], [], EDGE, 9, 0.0)
    driver.attach("k1", EDGE, state, [TopicCursor("c/a", "e", 2)])
    attached = driver.attached(EDGE)["c/a"]
    assert_missed(attached)
    assert attached.epoch == "e"


def test_an_id_that_another_user_has_now_brings_nothing_of_the_former_one(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "b"], {"a": {"notify_presence": True}})
    driver.ask(CloseConnection("k1"))  # the router was killed before it said so to the channels
    driver.connect("k1", "bob", ["a"])
    assert (driver.channel("a")["users"], driver.channel("b")["users"]) == (["bob"], [])
    driver.disconnect("k1")
    assert driver.channel("a")["users"] == []


# --- disconnecting ---


def test_a_disconnected_client_is_dropped(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.disconnect("k1")
    assert drops(driver.received(EDGE)) == [("k1", state.attachment, CLOSE_DISCONNECTED)]
    assert driver.channel("a")["total_connections"] == 0
    driver.publish("c/a", "m1")
    assert driver.received(EDGE) == []


def test_leaving_what_is_not_there_is_done(driver: Driver) -> None:
    assert driver.ask(Leave("k1", None)) == Done()
    driver.connect("k1", "ann", ["a"])
    assert driver.ask(Leave("k1", ["x"])) == Done()


# --- lifetimes ---


def known(driver: Driver, conn_id: str = "k1") -> bool:
    return isinstance(driver.ask(AddChannels(conn_id, [])), ConnectionState)


def test_who_never_attaches_expires(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.tick(29.9)
    assert known(driver)
    driver.tick(0.2)
    assert not known(driver)
    assert driver.channel("a")["total_connections"] == 0


def test_who_is_attached_does_not_expire(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    driver.live(120.0, EDGE)
    assert known(driver)
    assert driver.channel("a")["total_connections"] == 1


@pytest.mark.parametrize(("closed", "kept_s"), [(True, 0.5), (False, 30.0)])
def test_who_is_gone_is_kept_by_how_it_went(driver: Driver, closed: bool, kept_s: float) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    driver.live(100.0, EDGE)
    driver.detach("k1", EDGE, state, closed=closed)
    driver.live(kept_s - 0.01, EDGE)
    assert driver.channel("a")["total_connections"] == 1
    assert known(driver) is not closed  # who has said good-bye is gone for whoever asks, at once
    driver.live(0.02, EDGE)
    assert not known(driver)
    assert driver.channel("a")["total_connections"] == 0


def test_who_comes_back_in_time_stays(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    driver.detach("k1", EDGE, state, closed=False)
    driver.hold("k1", OTHER)
    driver.live(60.0, EDGE, OTHER)
    assert known(driver)


def test_who_is_elsewhere_before_its_good_bye_is_heard_stays(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    later = driver.take("k1", OTHER)
    driver.detach("k1", EDGE, state, closed=True)
    driver.attach("k1", OTHER, later)
    driver.live(60.0, EDGE, OTHER)
    assert known(driver)
    assert driver.channel("a")["total_connections"] == 1


def test_a_step_of_the_wall_clock_ends_nothing(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.clock.now = driver.clock.now._replace(wall=driver.clock.now.wall + 7200)
    driver.tick(1.0)
    assert known(driver)


def test_settings_say_how_long(make_driver: Any) -> None:
    driver = make_driver(Settings(keep_connections_s=2.0, keep_channels_s=10.0))
    driver.connect("k1", "ann", ["a"])
    driver.tick(2.1)
    assert not known(driver)
    driver.tick(10.1)
    assert driver.channels() == {}


def test_a_channel_without_connections_and_activity_is_forgotten(make_driver: Any) -> None:
    driver = make_driver(Settings(keep_channels_s=100.0))
    driver.connect("k1", "ann", ["a"])
    driver.disconnect("k1")
    driver.tick(60.0)
    driver.publish("c/a", "m1")
    driver.tick(60.0)
    assert list(driver.channels()) == ["a"]
    driver.tick(41.0)
    assert driver.channels() == {}
    assert driver.writes[-1] == ChannelForgotten("a")


def test_a_channel_with_connections_is_not_forgotten(make_driver: Any) -> None:
    driver = make_driver(Settings(keep_channels_s=100.0))
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    driver.live(300.0, EDGE)
    assert list(driver.channels()) == ["a"]


def test_a_channel_that_was_configured_and_never_used_is_forgotten(make_driver: Any) -> None:
    driver = make_driver(Settings(keep_channels_s=100.0))
    driver.ask(Configure({"a": {}, "b": {}}))
    driver.tick(60.0)
    driver.ask(Configure({"a": {"history_size": 3}}))
    driver.connect("k1", "ann", ["b"])
    driver.hold("k1", EDGE)
    driver.live(99.0, EDGE)
    assert sorted(driver.channels()) == ["a", "b"]
    driver.live(2.0, EDGE)
    assert sorted(driver.channels()) == ["b"]
    assert len(driver.shard._topic_ends) == 0


def test_a_channel_of_the_same_name_is_another_one(make_driver: Any) -> None:
    driver = make_driver(Settings(keep_channels_s=100.0))
    seen = []
    for _ in range(2):
        driver.connect("k1", "ann", ["a"])
        seen.append((driver.channel("a")["uuid"], driver.channel("a")["epoch"]))
        driver.disconnect("k1")
        driver.tick(101.0)
    assert len(set(seen)) == 2


@pytest.mark.promise("5.4")
def test_a_user_is_remembered_for_a_day(driver: Driver) -> None:
    assert USER_KEPT_S == 24 * 60 * 60
    driver.connect("k1", "ann")
    driver.disconnect("k1")
    driver.tick(USER_KEPT_S - 1)
    assert driver.user("ann") is not None
    driver.tick(2.0)
    assert driver.user("ann") is None
    assert driver.writes[-1] == UserForgotten("ann")


def test_a_user_that_is_made_anew_counts_on_behind_the_one_that_was_forgotten(driver: Driver) -> None:
    """All users of a shard's life have one epoch, so that none needs its own: a position in it is never used twice."""
    driver.connect("k1", "ann")
    driver.publish("u/ann", "m1")
    driver.publish("u/ann", "m2")
    before = driver.shard._users["ann"]
    driver.disconnect("k1")
    driver.tick(USER_KEPT_S + 1)
    driver.connect("k2", "ann")
    after = driver.shard._users["ann"]
    assert (after is before, after.epoch == before.epoch) == (False, True)
    assert after.began > before.seq == 2


def test_a_user_that_comes_back_is_remembered_anew(driver: Driver) -> None:
    driver.connect("k1", "ann")
    driver.disconnect("k1")
    driver.tick(USER_KEPT_S - 1)
    driver.connect("k1", "ann")
    driver.tick(10.0)
    assert driver.user("ann") is not None
    driver.disconnect("k1")
    driver.tick(USER_KEPT_S - 1)
    assert driver.user("ann") is not None


def test_what_is_restored_and_not_used_is_forgotten_too(make_driver: Any) -> None:
    saved = Saved({"a": SavedChannel("u", "e", 0, ChannelConfig())}, {"ann": UserSaved("ann", {"x": 1}, ())})
    driver = make_driver(saved=saved)
    assert driver.user("ann")["state"] == {"x": 1}
    driver.tick(4 * USER_KEPT_S)
    assert (driver.channels(), driver.user("ann")) == ({}, None)


def test_reminders_do_not_pile_up(driver: Driver) -> None:
    """A client that comes and goes all day must not leave a reminder each time for a thing that lives for a day."""
    for number in range(200):
        driver.connect(f"k{number}", "ann", ["a"])
        driver.disconnect(f"k{number}")
    driver.tick(GONE_KEPT_S + 1)
    driver.tick(GONE_KEPT_S)
    assert len(driver.shard._topic_ends) == 2
    assert len(driver.shard._connection_ends) == 0
    assert len(driver.shard._gone) == 0


def test_the_next_moment_is_known(driver: Driver) -> None:
    assert driver.shard.next_due() == inf
    driver.ask(Claim("key", 60.0))
    assert driver.shard.next_due() == driver.clock.now.mono + 60.0
    driver.connect("k1", "ann")
    assert driver.shard.next_due() == driver.clock.now.mono + 30.0


def test_the_silence_of_a_peer_is_looked_for_when_it_may_be_one(driver: Driver) -> None:
    driver.beat(EDGE)
    assert driver.shard.next_due() == driver.clock.now.mono + SILENCE_S
    driver.live(2 * SILENCE_S, EDGE)
    assert driver.shard.counters.told() == {}
    driver.tick(SILENCE_S)
    assert driver.shard.counters.told() == {"peers_silent": 1}
    assert driver.shard.next_due() == inf


def test_what_is_remembered_of_a_lost_peer_does_not_shorten_its_next_life(driver: Driver) -> None:
    driver.beat(EDGE)
    driver.tick(SILENCE_S - 1.0)
    driver.lose(EDGE)
    driver.beat(EDGE)
    driver.tick(SILENCE_S - 1.0)
    assert driver.shard.counters.told() == {}
    driver.tick(1.0)
    assert driver.shard.counters.told() == {"peers_silent": 1}


# --- claims, status ---


def test_so_many_keys_can_be_claimed_at_a_time(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "MAX_CLAIMS", 2)
    for key in ("a", "b"):
        assert driver.ask(Claim(key, 60.0)) == Claimed(True)
    assert driver.ask(Claim("c", 60.0)) == Claimed(False, full=True)
    assert driver.ask(Claim("a", 60.0)) == Claimed(False)  # known, and no reason to try again
    assert driver.shard.counters.told() == {"claims_refused": 1}
    driver.tick(60.1)
    assert driver.ask(Claim("c", 60.0)) == Claimed(True)


def test_so_many_ends_are_remembered(driver: Driver) -> None:
    driver.shard._gone._most = 4
    for number in range(5):
        driver.connect(f"k{number}", "ann", [])
        driver.disconnect(f"k{number}")
    assert [driver.shard._gone.get(f"k{number}") for number in range(5)] == [None, None, 0, 0, 0]
    driver.tick(GONE_KEPT_S)
    assert driver.shard._gone.get("k4") == 0
    driver.tick(GONE_KEPT_S)
    assert len(driver.shard._gone) == 0


def test_a_key_can_be_claimed_once_while_it_is_claimed(driver: Driver) -> None:
    assert [driver.ask(Claim("key", 60.0)) for _ in range(2)] == [Claimed(True), Claimed(False)]
    assert driver.ask(Claim("other", 60.0)) == Claimed(True)
    driver.tick(59.9)
    assert driver.ask(Claim("key", 60.0)) == Claimed(False)
    driver.tick(0.2)
    assert driver.ask(Claim("key", 60.0)) == Claimed(True)


def test_status_counts_what_is_here_and_names_who_beats(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "b"])
    driver.shard.queue_bytes = 12
    driver.beat(EDGE)
    report = driver.ask(GetStatus())
    assert isinstance(report, StatusReport)
    assert (report.own.role, report.own.ready, report.own.connections) == ("shard", True, 1)
    assert (report.own.channels, report.own.queue_bytes) == (2, 12)
    assert report.peers == [ProcessStatus("edge", 0, 1, 0.0, "test")]
    driver.tick(3.6)
    assert driver.ask(GetStatus()).peers == []


def test_a_session_lasts_as_long_as_its_peer_beats(driver: Driver) -> None:
    session = driver.beat(EDGE)
    for _ in range(5):
        driver.tick(3.0)
        assert driver.beat(EDGE, session) == session
    assert driver.beat(OTHER) != session


def test_a_position_of_a_channels_former_life_covers_nothing_in_the_next(
    make_driver: Any, assert_missed: AssertMissed
) -> None:
    driver = make_driver(Settings(keep_channels_s=10.0))
    driver.connect("k1", "ann", ["a"])
    driver.hold("k1", EDGE)
    for number in range(5):
        driver.publish("c/a", f"m{number}")
    driver.beat(EDGE, cursors={channel_key("a"): 5})
    driver.unsubscribe("k1", ["a"])
    driver.live(11.0, EDGE)
    driver.subscribe("k1", ["a"])
    driver.publish("c/a", "n1")
    driver.lose(EDGE)
    driver.hold("k1", OTHER)
    assert_missed(driver.attached(OTHER)["c/a"], "n1")


# --- totals ---


def test_what_is_there_and_what_was_said_is_counted(driver: Any) -> None:
    driver.connect("a1", "ann", ["c"])
    driver.connect("a2", "ann", ["c"])
    driver.connect("b1", "bob", ["c"])
    driver.enter("z", "zoe")
    driver.ask(Leave("z", None))
    driver.publish("c/c", "m1")
    driver.publish("c/c", "m1")
    driver.publish("c/c", "m2", only=["ann", "ann", "nobody"])
    driver.publish("c/c", "m3", only=["ann", "bob"], exclude=["ann"])
    driver.publish("c/c", "m4", exclude=["bob", "nobody"])
    driver.publish("c/none", "m5")
    driver.publish("u/ann", "m6")

    totals = driver.ask(GetTotals())

    assert (totals.remembered_users, totals.connections, totals.channels) == (3, 3, 1)
    assert [user.user for user in totals.users] == ["ann", "bob"]
    assert totals.messages == 3 + 2 + 1 + 2 + 0 + 2
    assert totals.unique_messages == 6


def test_an_attach_brings_so_much_and_tells_of_the_rest(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "MAX_CATCHUP_BYTES", 250)
    driver.connect("k1", "ann", ["a", "b"])
    for number in range(3):
        for channel in ("a", "b"):
            driver.publish(f"c/{channel}", f"{channel}{number}" + "x" * 60)
    driver.hold("k1", EDGE)
    topics = {key: one for key, one in driver.attached(EDGE).items() if key.startswith("c/")}
    assert 0 < sum(len(body) for one in topics.values() for body in one.missed) <= 250
    assert {key: (one.lost or 0) + len(one.missed) for key, one in topics.items()} == {"c/a": 3, "c/b": 3}


def test_a_beat_is_answered_with_what_the_edge_has_not_got(driver: Driver) -> None:
    driver.connect("k1", "ann", ["lobby"])
    driver.hold("k1", EDGE)
    driver.publish("c/lobby", "m1")
    session = driver.beat(EDGE)

    def answered(session: str, holds: dict[str, int]) -> BeatAnswer:
        driver.handle(EDGE, Beat(session, ProcessStatus("edge", 0, 1, 0.0, "test"), {}, holds))
        answer = driver.mail[EDGE].pop()
        assert isinstance(answer, BeatAnswer)
        return answer

    assert answered(session, {"c/lobby": 1}) == BeatAnswer(session)
    assert answered(session, {"c/lobby": 0, "c/other": 4}) == BeatAnswer(session, {"c/lobby": 1, "c/other": -1})
    assert answered("of another life", {"c/lobby": 0}) == BeatAnswer(session)


def test_one_that_is_ended_while_an_edge_holds_it_is_told_off_its_topics_on_their_own_pipe(driver: Driver) -> None:
    driver.connect("k1", "ann", ["lobby"])
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.ask(Leave("k1", None))
    (told,) = driver.received(EDGE)
    assert isinstance(told, Unsubscribed)
    assert (told.conn_id, sorted(told.topics)) == ("k1", ["c/lobby", "u/ann"])


def test_a_former_edge_is_told_by_the_shard_that_waits_for_it_so_that_one_that_is_gone_is_seen(driver: Driver) -> None:
    driver.connect("k1", "ann", ["lobby"])
    first = driver.hold("k1", EDGE)
    second = driver.take("k1", OTHER)
    driver.received(EDGE)
    driver.attach("k1", OTHER, second)
    assert drops(driver.received(EDGE)) == [("k1", first.attachment, CLOSE_REPLACED)]
    driver.attach("k1", OTHER, second)
    assert driver.received(EDGE) == []
    driver.lose(EDGE)  # the bus could not send it
    assert set(driver.attached(OTHER)) == {"c/lobby", "u/ann"}


def restored(make_driver: Any, cursor: int) -> Any:
    """A shard in its second life, with a channel of three frames and a connection that was served up to `cursor`."""
    frames = tuple(SavedFrame(f"m{seq}", seq, b'{"uuid":"m%d"}' % seq, None, None) for seq in (1, 2, 3))
    saved = Saved(
        {"a": SavedChannel("u", "e", 3, ChannelConfig())},
        connections={"k1": ConnectionSaved("k1", "ann", {}, (Place("c/a", 0, cursor),))},
        frames={"c/a": FramesSaved("c/a", "e", 3, frames)},
        is_complete=True,
    )
    return make_driver(saved=saved)


@pytest.mark.parametrize(
    ("told", "missed"),
    [
        (TopicCursor("c/a", "e", 3), []),
        (TopicCursor("c/a", "e", 1), ["m3"]),  # from an earlier attach
        (TopicCursor("c/a", "another", 3), ["m3"]),
        (TopicCursor("c/b", "e", 3), ["m3"]),
    ],
)
def test_what_an_edge_let_go_while_the_shard_was_away_was_served_as_far_as_it_says(
    make_driver: Any, assert_missed: AssertMissed, told: TopicCursor, missed: list[str]
) -> None:
    driver = restored(make_driver, cursor=2)
    driver.handle(EDGE, Detach("k1", 7, True, [told]))
    driver.attach("k1", EDGE, ConnectionState("ann", ["a"], [], EDGE, 8, 0.0), [TopicCursor("c/a")])
    assert_missed(driver.attached(EDGE)["c/a"], *missed)


def test_but_not_when_another_attach_has_come_before_it(make_driver: Any, assert_missed: AssertMissed) -> None:
    driver = restored(make_driver, cursor=2)
    state = ConnectionState("ann", ["a"], [], OTHER, 8, 0.0)
    driver.attach("k1", OTHER, state, [TopicCursor("c/a")])
    assert_missed(driver.attached(OTHER)["c/a"], "m3")
    driver.handle(EDGE, Detach("k1", 7, True, [TopicCursor("c/a", "e", 3)]))
    driver.handle(OTHER, Detach("k1", 8, False, [TopicCursor("c/a", "e", 2)]))
    driver.attach("k1", EDGE, ConnectionState("ann", ["a"], [], EDGE, 9, 0.0), [TopicCursor("c/a")])
    assert_missed(driver.attached(EDGE)["c/a"], "m3")
