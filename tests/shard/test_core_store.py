"""What waits for the store, what comes back from it, and what is undone: the shard's rules about all three."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from channelstream.shard.core import CLOSE_EXPIRED, CROSSING_S, DISK_IS_BEHIND, Settings, Shard
from channelstream.shard.effects import Broadcast, Effect, Reply, Send, Store, Tell
from channelstream.shard.store.base import (
    ChannelSaved,
    HistoryCut,
    MessageSaved,
    Saved,
)
from channelstream.shard.store.memory import MemoryStore
from channelstream.wire.messages import (
    AddChannels,
    Answer,
    Ask,
    Attach,
    Attached,
    CloseConnection,
    Configure,
    Deliver,
    Done,
    Drop,
    Join,
    Leave,
    NotStored,
    Publication,
    Publish,
    RemoveChannels,
    TellState,
    TopicCursor,
    Unsubscribed,
)

EDGE = "edge-0:a"
ROUTER = "router-0:r"
HISTORY = {"store_history": True, "history_size": 5}
Driver = Any


def reborn(driver: Driver, orderly: bool = False) -> Driver:
    """Another life of the shard, from what this one has had stored."""
    store = MemoryStore(replay=True)
    store.load()  # a store that was there before: what it holds is all there is
    store.commit(driver.writes)
    if orderly:
        store.commit(driver.shard.farewell(driver.clock.now))
    other = type(driver)(clock=driver.clock, saved=store.load(), new_id=driver._new_id)
    other.tick()
    other.writes = [*driver.writes, *other.writes]
    return other


def uuids(bodies: Any) -> list[str]:
    return [json.loads(body)["uuid"] for body in bodies]


def history(driver: Driver, name: str = "a") -> list[str]:
    return [message["uuid"] for message in driver.channel(name)["history"]]


# --- what waits ---


def publish(*keys_and_uuids: tuple[str, str], number: int = 1, again: bool = False) -> Ask:
    messages = [Publication([key], [uuid], [b'{"uuid":"%b"}' % uuid.encode()]) for key, uuid in keys_and_uuids]
    return Ask(number, float("inf"), Publish(messages), again)


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def test_a_channel_without_history_waits_for_nothing(driver: Driver) -> None:
    driver.connect("k1", "ann", ["plain"])
    driver.hold("k1", EDGE)
    assert kinds(driver.effects_of(publish(("c/plain", "m1")).command)) == [Broadcast, Send]


def test_what_goes_out_on_a_channel_with_history_is_counted_first_whatever_it_is(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "notify_presence": True}})
    driver.hold("k1", EDGE)
    driver.publish("c/a", "m1", only=["ann"])
    driver.publish("c/a", "m2", no_history=True)
    driver.connect("k2", "bob", ["a"])
    assert reborn(driver).channel("a")["seq"] == 4


def test_what_waits_is_told_in_order_and_to_who_is_there_by_then(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    shard, now = driver.shard, driver.clock.now
    tells = [
        effect
        for number in (1, 2)
        for effect in shard.handle(ROUTER, publish(("c/a", f"m{number}"), number=number), now)
        if isinstance(effect, Tell)
    ]
    driver.hold("k1", EDGE)
    attached = driver.attached(EDGE)["c/a"]
    assert (attached.seq, attached.missed) == (0, [])  # nothing of it is known to be safe
    assert [told.peers for tell in tells for told in shard.told(tell)] == [(EDGE,), (EDGE,)]


def test_a_repetition_waits_for_what_the_first_one_waits_for(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    now = driver.clock.now
    driver.shard.handle(ROUTER, publish(("c/a", "m1"), number=1), now)
    (reply,) = driver.shard.handle(ROUTER, publish(("c/a", "m1"), number=2), now)
    assert reply == Reply(ROUTER, Answer(2, Done()), True, ("m1",))
    (again,) = driver.shard.handle(ROUTER, publish(("c/a", "m1"), number=1, again=True), now)
    assert isinstance(again, Reply)


def test_without_a_store_nothing_is_stored_and_nothing_waits(make_driver: Callable[..., Driver]) -> None:
    driver = make_driver(Settings(keeps=False))
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.hold("k1", EDGE)
    assert kinds(driver.publish("c/a", "m1")) == [Broadcast, Send]
    assert (driver.writes, driver.shard.farewell(driver.clock.now), history(driver)) == ([], [], ["m1"])


def test_with_too_much_on_its_way_to_the_disk_messages_for_histories_are_refused(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "plain"], {"a": HISTORY})
    driver.shard.store_is_behind = True
    command = publish(("c/a", "m1"), ("c/plain", "m2")).command
    assert driver.ask(command) == NotStored(DISK_IS_BEHIND, ["m1", "m2"])
    assert driver.ask(publish(("c/plain", "m2")).command) == Done()
    assert history(driver) == []


# --- what is undone ---


def test_a_message_that_is_not_stored_is_as_if_it_had_never_come(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.connect("k2", "bob", ["a"])
    driver.hold("k1", EDGE)
    driver.publish("c/a", "m1")
    driver.received(EDGE)
    shard, now = driver.shard, driver.clock.now
    *_, tell, reply = shard.handle(ROUTER, publish(("c/a", "m2")), now)
    assert shard.refuse(reply, "full") == Send(ROUTER, Answer(1, NotStored("full", ["m2"])))
    assert shard.not_stored([tell]) == []
    assert history(driver) == ["m1"]
    driver.publish("c/a", "m2")
    assert history(driver) == ["m1", "m2"]
    driver.received(EDGE)
    driver.hold("k2", EDGE)
    attached = driver.attached(EDGE)["c/a"]
    assert (uuids(attached.missed), attached.lost, attached.seq) == (["m1", "m2"], 0, 2)


def test_messages_that_come_together_are_undone_together(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "frames_size": 2, "history_size": 2}})
    driver.hold("k1", EDGE)
    driver.publish("c/a", "m1")
    driver.publish("c/a", "m2")
    driver.received(EDGE)
    shard, now = driver.shard, driver.clock.now
    three = Publish([Publication(["c/a"], ["m3", "m4", "m5"], [b'{"uuid":"m%d"}' % number for number in (3, 4, 5)])])
    *_, tell, reply = shard.handle(ROUTER, Ask(1, float("inf"), three), now)
    assert shard.refuse(reply, "full") == Send(ROUTER, Answer(1, NotStored("full", ["m3", "m4", "m5"])))
    assert shard.not_stored([tell]) == []
    assert history(driver) == ["m1", "m2"]
    assert shard._topics["c/a"].seq == 2
    driver.ask(three)
    assert history(driver) == ["m4", "m5"]
    (deliver,) = [message for message in driver.received(EDGE) if isinstance(message, Deliver)]
    assert (uuids(deliver.bodies), deliver.seq) == (["m3", "m4", "m5"], 5)
    assert [frame.key for frame in shard._topics["c/a"].saved_frames().frames] == ["m4", "m5"]
    assert len(shard._channels["a"].history) == 2


def test_of_messages_that_are_undone_between_what_is_in_force_the_numbers_go_out(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    shard, now = driver.shard, driver.clock.now
    two = Publish([Publication(["c/a"], ["m1", "m2"], [b'{"uuid":"m1"}', b'{"uuid":"m2"}'])])
    only = Publish([Publication(["c/a"], ["m3"], [b'{"uuid":"m3"}'], ["ann"])])
    effects = [
        *shard.handle(ROUTER, Ask(1, float("inf"), two), now),
        *shard.handle(ROUTER, Ask(2, float("inf"), only), now),
    ]
    told = shard.not_stored([effect for effect in effects if isinstance(effect, Tell)])
    assert [(one.message.seq, len(one.message.bodies)) for one in told] == [(1, 0), (2, 0), (3, 1)]
    assert shard._topics["c/a"].untold == 0


def test_of_a_message_between_what_is_in_force_the_number_goes_out(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.connect("k2", "bob", ["a"])
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    shard, now = driver.shard, driver.clock.now
    effects = shard.handle(ROUTER, publish(("c/a", "m1")), now)
    effects += shard.handle(
        ROUTER, Ask(2, float("inf"), Publish([Publication(["c/a"], ["live"], [b"{}"], ["ann"])])), now
    )
    effects += shard.handle(ROUTER, publish(("c/a", "m2"), number=3), now)
    told = shard.not_stored([effect for effect in effects if isinstance(effect, Tell)])
    assert [(one.message.seq, one.message.bodies != []) for one in told] == [(1, False), (2, True)]
    driver.publish("c/a", "m3")
    driver.hold("k2", EDGE)
    attached = driver.attached(EDGE)["c/a"]
    assert (uuids(attached.missed), attached.lost, attached.seq) == (["m3"], 0, 3)


def test_what_has_gone_out_pushes_out_what_it_was_to(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "frames_size": 2}})
    for number in range(5):
        driver.publish("c/a", f"m{number}")
    driver.hold("k1", EDGE)
    attached = driver.attached(EDGE)["c/a"]
    assert (uuids(attached.missed), attached.lost) == (["m3", "m4"], 3)


def test_what_is_refused_pushes_nothing_out_and_is_seen_by_nobody(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "history_size": 3, "frames_size": 3}})
    kept = ["m0", "m1", "m2"]
    for uuid in kept:
        driver.publish("c/a", uuid)
    shard, now = driver.shard, driver.clock.now
    for number in range(20):
        effects = shard.handle(ROUTER, publish(("c/a", f"refused {number}"), number=number), now)
        assert history(driver) == kept
        shard.not_stored([effect for effect in effects if isinstance(effect, Tell)])
    driver.hold("k1", EDGE)
    attached = driver.attached(EDGE)["c/a"]
    assert (history(driver), uuids(attached.missed), attached.lost) == (kept, kept, 0)


def test_what_is_refused_is_not_answered_otherwise_when_it_is_asked_again(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    shard, now = driver.shard, driver.clock.now
    *_, tell, reply = shard.handle(ROUTER, publish(("c/a", "m1")), now)
    shard.refuse(reply, "full")
    shard.not_stored([tell])
    assert Store in kinds(shard.handle(ROUTER, publish(("c/a", "m1"), again=True), now))


def test_a_repetition_of_what_is_safe_by_now_is_not_refused(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    shard, now = driver.shard, driver.clock.now
    *_, tell, _ = shard.handle(ROUTER, publish(("c/a", "m1")), now)
    (repeated,) = shard.handle(ROUTER, publish(("c/a", "m1"), number=2), now)
    shard.told(tell)
    assert shard.refuse(repeated, "full") == Send(ROUTER, Answer(2, Done()))


@pytest.mark.parametrize("keeps", [False, True])
def test_a_channel_keeps_as_many_frames_as_it_is_to(make_driver: Callable[..., Driver], keeps: bool) -> None:
    driver = make_driver(Settings(keeps=keeps))
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "frames_size": 3}})
    for number in range(9):
        driver.publish("c/a", f"m{number}")
    driver.hold("k1", EDGE)
    attached = driver.attached(EDGE)["c/a"]
    assert (uuids(attached.missed), attached.lost) == (["m6", "m7", "m8"], 6)


def test_a_state_that_others_see_is_stored_with_its_users_connections_alone(driver: Driver) -> None:
    for number in range(20):
        driver.connect(f"other-{number}", f"other-{number}", ["a", "b"])
    driver.connect("k1", "ann", ["a", "b"])
    driver.connect("k2", "ann", ["b"])
    driver.writes.clear()
    driver.ask(TellState("ann", {"mood": "fine"}, ["mood"]))
    assert [(write.conn_id, write.public) for write in driver.writes] == [
        ("k1", {"mood": "fine"}),
        ("k2", {"mood": "fine"}),
    ]
    driver.unsubscribe("k2", ["b"])
    driver.writes.clear()
    driver.ask(TellState("ann", {"mood": "off"}, ["mood"]))
    assert [write.conn_id for write in driver.writes] == ["k1"]


def test_what_does_not_say_that_it_is_stored_is_answered_all_the_same(driver: Driver) -> None:
    effects = driver.shard.handle(ROUTER, Ask(1, float("inf"), AddChannels("k1", ["b"])), driver.clock.now)
    driver.connect("k1", "ann", ["a"])
    effects = driver.shard.handle(ROUTER, Ask(1, float("inf"), AddChannels("k1", ["b"])), driver.clock.now)
    (reply,) = (effect for effect in effects if isinstance(effect, Reply))
    assert driver.shard.refuse(reply, "full") == Send(ROUTER, reply.answer)


def test_an_edit_that_is_not_stored_is_told_and_is_in_force(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.hold("k1", EDGE)
    tell = Tell(driver.shard._topics["c/a"], Deliver("c/a", 1, [b"{}"]))
    assert driver.shard.not_stored([tell]) == [Broadcast((EDGE,), Deliver("c/a", 1, [b"{}"]))]


# --- what comes back ---


@pytest.mark.parametrize("orderly", [False, True])
def test_who_was_there_is_there_and_nobody_is_told_that_anybody_came_or_went(driver: Driver, orderly: bool) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "notify_presence": True}}, {"mood": "fine"})
    driver.connect("k2", "bob", ["a"])
    driver.publish("c/a", "m1")
    other = reborn(driver, orderly)
    assert (other.channel("a")["users"], other.channel("a")["total_connections"]) == (["ann", "bob"], 2)
    assert other.user("ann")["connections"] == ["k1"]
    other.hold("k2", EDGE)
    bodies = [json.loads(body) for body in other.attached(EDGE)["c/a"].missed]
    assert [body["uuid"] for body in bodies if body.get("type") != "presence"] == ["m1"]
    assert not [write for write in other.writes[len(driver.writes) :] if isinstance(write, MessageSaved)]


def test_who_does_not_come_back_is_parted_in_time(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {"notify_presence": True}})
    driver.connect("k2", "bob", ["a"])
    other = reborn(driver)
    other.hold("k2", EDGE)
    other.received(EDGE)
    other.live(31.0, EDGE)
    told = [json.loads(body) for one in other.received(EDGE) if isinstance(one, Deliver) for body in one.bodies]
    assert [(body["message"]["action"], body["user"]) for body in told] == [("parted", "ann")]


def test_a_killed_shard_goes_on_in_the_epoch_of_a_history_and_knows_what_is_missing(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    for uuid in ("m1", "m2"):
        driver.publish("c/a", uuid)
    driver.publish("c/a", "for bob", only=["bob"])
    driver.publish("c/a", "m4")
    other = reborn(driver)
    assert other.channel("a")["epoch"] == driver.channel("a")["epoch"]
    other.hold("k1", EDGE)
    attached = other.attached(EDGE)["c/a"]
    assert (uuids(attached.missed), attached.lost, attached.seq) == (["m1", "m2", "m4"], 1, 4)


def test_one_that_was_served_all_is_told_of_no_gap(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "notify_presence": True}})
    state = driver.hold("k1", EDGE)
    driver.publish("c/a", "m1")
    driver.publish("c/a", "not kept", no_history=True)
    other = reborn(driver)
    seq, epoch = other.channel("a")["seq"], other.channel("a")["epoch"]
    other.attach("k1", EDGE, state, [TopicCursor("c/a", epoch, seq)])
    attached = other.attached(EDGE)["c/a"]
    assert (attached.missed, attached.lost) == ([], 0)


def test_who_has_just_joined_has_not_missed_that_it_did(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "notify_presence": True}})
    other = reborn(driver)
    other.hold("k1", EDGE)
    assert other.attached(EDGE)["c/a"].lost == 0


def test_frames_reach_back_as_far_as_before_even_where_history_does_not(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "frames_size": 200}})
    for number in range(150):
        driver.publish("c/a", f"m{number}")
    other = reborn(driver)
    other.hold("k1", EDGE)
    attached = other.attached(EDGE)["c/a"]
    assert (len(attached.missed), attached.lost, len(history(other))) == (150, 0, 5)


def test_what_no_history_and_no_frame_needs_is_cut_off_in_steps(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "frames_size": 10}})
    for number in range(200):
        driver.publish("c/a", f"m{number}")
    cuts = [write.first for write in driver.writes if isinstance(write, HistoryCut)]
    assert 2 <= len(cuts) <= 4
    assert cuts[-1] > 100


@pytest.mark.parametrize("orderly", [False, True])
def test_a_channel_without_history_is_another_one_after_a_kill_and_the_same_after_an_orderly_end(
    driver: Driver, orderly: bool
) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.publish("c/a", "m1")
    other = reborn(driver, orderly)
    assert (other.channel("a")["epoch"] == driver.channel("a")["epoch"]) is orderly
    other.publish("c/a", "m2")
    other.hold("k1", EDGE)
    topics = other.attached(EDGE)
    expected = (["m1", "m2"], 0) if orderly else (["m2"], None)
    assert (uuids(topics["c/a"].missed), topics["c/a"].lost) == expected
    assert topics["u/ann"].lost == (0 if orderly else None)


def test_after_a_kill_an_orderly_end_goes_on_too(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    killed = reborn(driver)
    killed.hold("k1", EDGE)
    epoch = killed.channel("a")["epoch"]
    assert reborn(killed, orderly=True).channel("a")["epoch"] == epoch


def test_an_edit_that_was_a_frame_is_one_again(driver: Driver) -> None:
    from channelstream.wire.messages import DeleteMessages, Deletion, Edit, EditMessages

    driver.connect("k1", "ann", ["a"])
    for uuid in ("m1", "m2"):
        driver.publish("c/a", uuid)
    driver.ask(EditMessages([Edit(["c/a"], "m1", {"text": b'"new"'}, b'{"uuid":"m1","type":"message:edit"}')]))
    driver.ask(DeleteMessages([Deletion(["c/a"], "m2", b'{"uuid":"m2","type":"message:delete"}')]))
    other = reborn(driver, orderly=True)
    assert other.ask(publish(("c/a", "m2")).command) == Done()  # a late repetition
    edit = Edit(["c/a"], "m2", {"text": b'"x"'}, b'{"uuid":"m2","type":"message:edit"}')
    other.ask(EditMessages([edit]))  # of a deleted message: nobody is told
    other.hold("k1", EDGE)
    kinds_seen = [json.loads(body).get("type") for body in other.attached(EDGE)["c/a"].missed]
    assert kinds_seen == [None, "message:edit", "message:delete"]


def test_a_damaged_history_begins_a_new_epoch_which_is_stored(driver: Driver, make_driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.publish("c/a", "m1")
    store = MemoryStore(replay=True)
    store.commit(driver.writes)
    saved: Saved = store.load()
    saved.channels["a"].is_whole = False
    other = make_driver(saved=saved)
    other.tick()
    (renewed,) = (write for write in other.writes if isinstance(write, ChannelSaved))
    assert (renewed.epoch, renewed.seq) == (other.channel("a")["epoch"], 2)
    assert (renewed.epoch != driver.channel("a")["epoch"], history(other)) == (True, ["m1"])


# --- what an edge says to a shard that knows better ---


def test_an_edge_cannot_bring_back_a_connection_that_was_ended(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", EDGE)
    driver.ask(CloseConnection("k1"))
    driver.ask(Leave("k1", None))
    other = reborn(driver)
    topics = [TopicCursor("c/a", driver.channel("a")["epoch"], 0)]
    other.handle(EDGE, Attach("k1", "ann", state.attachment, topics, 1, ["a"]))
    assert other.received(EDGE) == [Drop("k1", state.attachment, CLOSE_EXPIRED)]


def test_an_edge_cannot_bring_back_a_subscription_that_was_ended(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a", "b"])
    state = driver.hold("k1", EDGE)
    driver.unsubscribe("k1", ["b"])
    other = reborn(driver)
    topics = [TopicCursor(f"c/{name}", driver.channel(name)["epoch"], 0) for name in ("a", "b")]
    other.handle(EDGE, Attach("k1", "ann", state.attachment, topics, 1, ["a", "b"]))
    received = other.received(EDGE)
    assert [message.topics for message in received if isinstance(message, Unsubscribed)] == [["c/b"]]
    (attached,) = (message for message in received if isinstance(message, Attached))
    assert "c/b" not in [topic.topic for topic in attached.topics]
    assert other.ask(AddChannels("k1", [])).channels == ["a"]


# --- history_ttl ---


def test_what_is_too_old_leaves_history_and_the_store_by_itself(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {**HISTORY, "history_ttl": 60}})
    driver.publish("c/a", "m1")
    driver.clock.advance(40)
    driver.publish("c/a", "m2")
    driver.writes.clear()
    driver.tick(21)
    assert (driver.writes[:1], history(driver)) == ([HistoryCut("a", 2)], ["m2"])
    driver.tick(40)
    assert history(driver) == []


def test_a_lifetime_that_is_set_later_counts_for_what_is_there(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.publish("c/a", "m1")
    driver.ask(Configure({"a": {"history_ttl": 5}}))
    driver.tick(6)
    assert (history(driver), [type(write) for write in driver.writes][-1]) == ([], HistoryCut)


# --- what crosses on its way ---


def join(name: str, version: int) -> Join:
    return Join("k1", "ann", {}, [name], {}, [], False, False, "", 0, 0.0, version)


@pytest.mark.parametrize("overtaken", [False, True])
def test_of_two_that_cross_the_later_one_counts(driver: Driver, overtaken: bool) -> None:
    driver.connect("k1", "ann", ["a"])
    added = driver.ask(AddChannels("k1", ["b"])).version
    removed = driver.ask(RemoveChannels("k1", ["b"])).version
    commands = [join("b", added), Leave("k1", ["b"], removed)]
    for command in reversed(commands) if overtaken else commands:
        driver.ask(command)
    assert driver.channels(["b"]).get("b", {"users": []})["users"] == []


def test_versions_grow_over_the_lives_of_a_shard_and_are_forgotten_in_time(driver: Driver) -> None:
    driver.connect("k1", "ann", ["a"])
    added = driver.ask(AddChannels("k1", ["b"])).version
    driver.clock.advance(1)
    other = reborn(driver)
    assert other.ask(AddChannels("k1", ["c"])).version > added
    other.ask(join("c", added + 1))
    shard: Shard = other.shard
    assert len(shard._versions)
    other.tick(CROSSING_S)
    other.tick(CROSSING_S)
    assert not len(shard._versions)
