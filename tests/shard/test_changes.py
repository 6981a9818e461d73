"""Messages that are changed and deleted, states that change, channels that are configured: what is told, and what is
never shown again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from channelstream.shard.effects import Store
from channelstream.shard.store.base import ChannelCounted, ChannelSaved, MessageChanged, MessageForgotten
from channelstream.wire.messages import (
    AttachedTopic,
    ChangeUser,
    Configure,
    DeleteMessages,
    Deletion,
    Deliver,
    Edit,
    EditMessages,
    TellState,
    TopicCursor,
    Unknown,
    UserChanged,
)

EDGE = "edge-0:e"
HISTORY = {"store_history": True}


def edit(uuid: str, text: str, topic: str = "c/a", only: list[str] | None = None) -> EditMessages:
    body = b'{"type":"message:edit","uuid":"%b","text":"%b"}' % (uuid.encode(), text.encode())
    return EditMessages([Edit([topic], uuid, {"text": b'"%b"' % text.encode()}, body, only)])


def deletion(uuid: str, topic: str = "c/a") -> DeleteMessages:
    return DeleteMessages([Deletion([topic], uuid, b'{"type":"message:delete","uuid":"%b"}' % uuid.encode())])


def shown(topic: AttachedTopic) -> list[dict[str, Any]]:
    return [json.loads(body) for body in topic.missed]


def catch_up(driver: Any, conn_id: str = "k1", key: str = "c/a") -> list[dict[str, Any]]:
    driver.hold(conn_id, EDGE)
    return shown(driver.attached(EDGE)[key])


def deliveries(driver: Any) -> list[dict[str, Any]]:
    return [json.loads(body) for one in driver.received(EDGE) if isinstance(one, Deliver) for body in one.bodies]


def test_an_edit_is_delivered_and_who_comes_later_sees_the_new_text_alone(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.connect("k2", "joe", ["a"])
    driver.hold("k2", EDGE)
    driver.received(EDGE)
    driver.publish("c/a", "m1")
    driver.ask(edit("m1", "first"))
    driver.ask(edit("m1", "second"))
    assert [one.get("text") for one in deliveries(driver)] == [None, "first", "second"]
    missed = catch_up(driver)
    assert [(one.get("type"), one["text"], one["seq"]) for one in missed] == [
        (None, "second", 1),
        ("message:edit", "second", 3),
    ]
    (kept,) = driver.channel("a")["history"]
    assert (kept["uuid"], kept["text"], kept["seq"]) == ("m1", "second", 1)


def test_a_deleted_message_is_never_seen_again_and_leaves_no_hole(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.publish("c/a", "m1")
    driver.ask(edit("m1", "secret"))
    driver.publish("c/a", "m2")
    driver.ask(deletion("m1"))
    driver.hold("k1", EDGE)
    topic = driver.attached(EDGE)["c/a"]
    assert topic.lost == 0
    assert [(one.get("type"), one["uuid"]) for one in shown(topic)] == [(None, "m2"), ("message:delete", "m1")]
    assert [one["uuid"] for one in driver.channel("a")["history"]] == ["m2"]


def test_a_deleted_message_is_not_taken_again(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.publish("c/a", "m1")
    driver.ask(deletion("m1"))
    driver.publish("c/a", "m1")
    assert driver.channel("a")["history"] == []


def test_a_change_of_what_only_some_may_see_is_for_them(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.connect("k2", "joe", ["a"])
    driver.publish("c/a", "m1", only=["joe"])
    driver.ask(edit("m1", "for joe"))
    assert catch_up(driver, "k1") == []
    assert [one["text"] for one in catch_up(driver, "k2")] == ["for joe", "for joe"]


def test_an_edit_of_what_is_not_held_is_told_to_those_that_it_names(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"])
    driver.connect("k2", "joe", ["a"])
    driver.ask(edit("long ago", "x", only=["joe"]))
    assert catch_up(driver, "k1") == []
    assert [one["text"] for one in catch_up(driver, "k2")] == ["x"]


def test_private_messages_change_too(driver: Any) -> None:
    driver.connect("k1", "ann", [])
    driver.publish("u/ann", "m1")
    driver.publish("u/ann", "m2")
    driver.ask(edit("m1", "new", "u/ann"))
    driver.ask(deletion("m2", "u/ann"))
    missed = catch_up(driver, key="u/ann")
    assert [one["uuid"] for one in missed] == ["m1", "m1", "m2"]
    assert missed[0]["text"] == "new"


@pytest.mark.parametrize("command", [edit("m1", "x", "c/nowhere"), deletion("m1", "c/nowhere")])
def test_a_change_on_a_channel_that_is_not_there_goes_nowhere(driver: Any, command: Any) -> None:
    driver.ask(command)
    assert driver.channels(None) == {}


def test_what_a_store_is_told(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": HISTORY})
    driver.publish("c/a", "m1")
    writes: list[object] = []
    for command in (edit("m1", "x"), edit("other", "x"), deletion("m1"), deletion("m1")):
        writes += (effect.write for effect in driver.effects_of(command) if isinstance(effect, Store))
    assert [type(write) for write in writes] == [
        MessageChanged, ChannelCounted, ChannelCounted, MessageForgotten, ChannelCounted, ChannelCounted,
    ]  # fmt: skip


# --- states ---


def test_a_state_is_merged_and_what_changed_is_told(driver: Any) -> None:
    driver.connect("k1", "ann", [])
    first = driver.ask(ChangeUser("ann", {"a": 1, "b": "x"}, ["a"]))
    assert first == UserChanged({"a": 1, "b": "x"}, {"a": 1}, ["a", "b"], ["a"], True)
    again = driver.ask(ChangeUser("ann", {"a": 1, "b": "y"}, None))
    assert again == UserChanged({"a": 1, "b": "y"}, {"a": 1}, ["b"], ["a"])
    assert driver.ask(ChangeUser("ann", {"a": True}, None)).changed == ["a"]
    assert driver.ask(ChangeUser("nobody", {}, None)) == Unknown()


def test_channels_that_tell_states_tell_them(driver: Any) -> None:
    driver.connect("k1", "ann", ["a", "b"], {"a": {"notify_state": True}})
    driver.hold("k1", EDGE)
    driver.received(EDGE)
    driver.ask(TellState("ann", {"x": 1, "y": 2}, ["y"]))
    (told,) = deliveries(driver)
    assert (told["type"], told["user"], told["channel"]) == ("user_state_change", "ann", "a")
    assert told["message"] == {"state": {"x": 1, "y": 2}, "changed": [{"key": "y", "value": 2}]}
    driver.ask(TellState("nobody", {}, []))
    assert deliveries(driver) == []


# --- configuration ---


def test_a_channel_is_made_or_changed(driver: Any) -> None:
    driver.ask(Configure({"new": {"history_size": 3}}))
    assert driver.channel("new")["settings"]["history_size"] == 3
    driver.connect("k1", "ann", ["a"], {"a": {"store_history": True, "notify_presence": True}})
    for number in range(4):
        driver.publish("c/a", f"m{number}")
    told = driver.ask(Configure({"a": {"history_size": 2}}))
    assert [(one.name, one.users) for one in told.channels] == [("a", [])]
    settings = driver.channel("a")["settings"]
    assert (settings["history_size"], settings["store_history"], settings["notify_presence"]) == (2, True, True)
    assert [one["uuid"] for one in driver.channel("a")["history"]] == ["m2", "m3"]
    writes = [effect.write for effect in driver.effects_of(Configure({"a": {}})) if isinstance(effect, Store)]
    assert [type(write) for write in writes] == [ChannelSaved]


def test_whoever_connects_with_another_public_state_is_to_be_told_of(driver: Any) -> None:
    driver.connect("x", "ann", public={"mood": 1})
    assert driver.enter("y", "ann", state_values={"secret": 1}).public_changed is False
    assert driver.enter("y", "ann", state_values={"mood": True}).public_changed is True
    assert driver.enter("z", "new", state_values={"mood": 1}, public_keys=["mood"]).public_changed is False
    assert driver.ask(ChangeUser("ann", {}, ["mood"])).public_changed is False
    assert driver.ask(ChangeUser("ann", {}, [])).public_changed is True


def test_a_quiet_change_is_seen_by_whoever_asks_and_told_to_nobody(driver: Any) -> None:
    config = {"notify_state": True, "notify_presence": True, "broadcast_presence_with_user_lists": True}
    driver.connect("x", "ann", ["c"], {"c": config}, {"mood": 1})
    driver.hold("x", "edge")
    driver.received("edge")
    driver.ask(TellState("ann", {"mood": 2}, [], quiet=True))
    assert driver.received("edge") == []
    driver.connect("y", "bob", ["c"])
    (joined,) = driver.received("edge")
    assert {"user": "ann", "state": {"mood": 2}} in json.loads(joined.bodies[0])["users"]


def told(**fields: object) -> bytes:
    """The body of a change, as a router makes it."""
    return json.dumps(fields).encode()


def test_who_was_away_gets_all_that_was_edited_in_one(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", "edge")
    driver.publish("c/a", "m1")
    driver.detach("k1", "edge", state, cursors=[TopicCursor("c/a", "", 1)])
    driver.ask(
        EditMessages([Edit(["c/a"], "m1", {"message": b'{"t":"clean"}'}, told(uuid="m1", message={"t": "clean"}))])
    )
    driver.ask(EditMessages([Edit(["c/a"], "m1", {"user": b'"bob"'}, told(uuid="m1", user="bob"))]))
    driver.received("edge")
    driver.hold("k1", "edge")
    (missed,) = map(json.loads, driver.attached("edge")["c/a"].missed)
    assert (missed["message"], missed["user"], missed["seq"]) == ({"t": "clean"}, "bob", 3)


def test_a_late_edit_of_a_deleted_message_hides_the_deletion_from_nobody(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"])
    state = driver.hold("k1", "edge")
    driver.publish("c/a", "m1")
    driver.detach("k1", "edge", state, cursors=[TopicCursor("c/a", "", 1)])
    driver.ask(DeleteMessages([Deletion(["c/a"], "m1", told(type="message:delete", uuid="m1"))]))
    driver.ask(EditMessages([Edit(["c/a"], "m1", {"user": b'"bob"'}, told(type="message:edit", uuid="m1"))]))
    assert driver.channel("a")["seq"] == 2
    driver.hold("k1", "edge")
    assert [json.loads(body)["type"] for body in driver.attached("edge")["c/a"].missed] == ["message:delete"]


def test_a_change_is_forgotten_with_its_frame(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {"frames_size": 2}})
    for number in range(20):
        driver.publish("c/a", f"m{number}")
        driver.ask(DeleteMessages([Deletion(["c/a"], f"m{number}", told(uuid=f"m{number}"))]))
    topic = driver.shard._topics["c/a"]
    assert list(topic._changes) == ["m19"]
    driver.publish("c/a", "n1")
    driver.publish("c/a", "n2")
    assert topic._changes == {}


def test_a_deleted_message_does_not_come_back_while_its_deletion_is_held(driver: Any) -> None:
    driver.connect("k1", "ann", ["a"], {"a": {"frames_size": 2}})
    driver.publish("c/a", "m1")
    driver.ask(deletion("m1"))
    driver.publish("c/a", "m2")  # the frame of m1 is gone, that of its deletion is not
    driver.publish("c/a", "m1")
    assert driver.channel("a")["seq"] == 3
