"""Section 4 of docs/contract.md: the objects that clients receive, and what they missed."""

from __future__ import annotations

import json
import uuid

import pytest

MESSAGE = {"type", "uuid", "timestamp", "date", "user", "channel", "message", "edited", "catchup", "seq"}


@pytest.mark.promise("4.1", "4.2", "4.3")
def test_always_a_list_of_objects(small, hasty, name, helpers):
    batch = [{"user": "b", "channel": name, "message": {"text": number}} for number in range(3)]
    conn_id = small.connect("joe", name)
    small.call("/message", batch)
    with small.websocket(conn_id) as socket:
        first = json.loads(socket.recv(timeout=helpers.PATIENCE_S))
        assert helpers.texts(first) == [0, 1, 2], "what was missed is one list"
        small.say(name, "alone")
        alone = json.loads(socket.recv(timeout=helpers.PATIENCE_S))
    polled = small.connect("joe", name)
    small.call("/message", batch)
    several = small.listen(polled).json()
    for received, count in ((first, 3), (alone, 1), (several, 3)):
        assert isinstance(received, list)
        assert [type(one) for one in received] == [dict] * count
    assert hasty.listen(hasty.connect("joe", name)).json() == []


@pytest.mark.promise("4.4", "4.5", "4.6", "4.8")
def test_the_keys_of_a_message(small, name, helpers):
    with small.websocket(small.connect("joe", name)) as socket:
        helpers.settle(small, socket, name)
        small.say(None, "settled", pm_users=["joe"])
        helpers.receive(socket, 1)
        small.say(name, "plain")
        small.say(name, "all", pm_users=["joe"], exclude_users=["ann"], no_history=True, edited="x", catchup=3, seq=9)
        small.say(None, "private", pm_users=["joe"], own={"key": 1}, timestamp="2020-01-02T03:04:05.000006")
        plain, filtered, private = helpers.receive(socket, 3)
    for one in (plain, filtered, private):
        assert set(one) - {"own"} == MESSAGE
        assert (one["type"], one["edited"], one["catchup"], one["user"]) == ("message", None, False, "backend")
        assert one["date"] == one["timestamp"]
        assert uuid.UUID(one["uuid"]).version
    assert [one["channel"] for one in (plain, filtered, private)] == [name, name, None]
    assert [one["seq"] for one in (plain, filtered)] == [2, 3]
    assert private["own"] == {"key": 1}
    assert private["date"] == "2020-01-02T03:04:05.000006"


@pytest.mark.promise("4.7")
def test_seq_counts_every_delivery_of_a_channel(large, name, helpers):
    """Messages, changes, presence and states; a hole is where somebody else was spoken to."""
    joe, other = f"joe-{name}", f"{name}-other"
    config = {name: {"notify_presence": True, "notify_state": True}}
    with large.websocket(large.connect("ann", name, other, channel_configs=config)) as ann:

        def seen():
            (one,) = helpers.receive(ann, 1)
            return one["type"], one["seq"]

        assert large.say(other, "another channel counts for itself")
        assert seen() == ("message", 1)
        sent = large.say(name, "hi")
        assert seen() == ("message", 2), "after its own arrival, which it does not get"
        conn_id = large.connect(joe, name, user_state={"a": 1}, state_public_keys=["a"])
        assert seen() == ("presence", 3)
        large.call("/message", [{"uuid": sent, "channel": name, "message": {}}], method="PATCH")
        assert seen() == ("message:edit", 4)
        large.call("/user_state", {"user": joe, "user_state": {"a": 2}})
        assert seen() == ("user_state_change", 5)
        large.call("/message", [{"uuid": sent, "channel": name}], method="DELETE")
        assert seen() == ("message:delete", 6)
        large.say(name, "for joe", pm_users=[joe])
        large.call("/disconnect", {"conn_id": conn_id})
        assert seen() == ("presence", 8)
        large.say(other, "two")
        assert seen() == ("message", 2)


@pytest.mark.promise("4.10", "4.11", "4.12")
@pytest.mark.parametrize("lists", [True, False])
def test_the_keys_of_presence(large, name, helpers, lists):
    joe = f"joe-{name}"
    config = {name: {"notify_presence": True, "broadcast_presence_with_user_lists": lists}}
    state = {"user_state": {"shown": 1, "hidden": 2}, "state_public_keys": ["shown"]}
    with large.websocket(large.connect(f"ann-{name}", name, channel_configs=config)) as ann:
        conn_id = large.connect(joe, name, **state)
        large.call("/disconnect", {"conn_id": conn_id})
        joined, parted = helpers.receive(ann, 2)
    for one in (joined, parted):
        assert set(one) == MESSAGE - {"edited"} | {"users", "state"}
        assert (one["type"], one["user"], one["channel"]) == ("presence", joe, name)
        assert one["date"] == one["timestamp"]
        assert uuid.UUID(one["uuid"]).version
    assert (joined["message"], joined["state"]) == ({"action": "joined"}, {"shown": 1})
    assert (parted["message"], parted["state"]) == ({"action": "parted"}, None)
    of_ann, of_joe = {"user": f"ann-{name}", "state": {}}, {"user": joe, "state": {"shown": 1}}
    assert sorted(joined["users"], key=lambda one: one["user"]) == ([of_ann, of_joe] if lists else [])
    assert parted["users"] == ([of_ann] if lists else [])


@pytest.mark.promise("4.13", "4.14")
def test_presence_is_of_users_not_of_connections_and_not_for_oneself(large, name, helpers):
    joe, config = f"joe-{name}", {name: {"notify_presence": True}}
    with large.websocket(large.connect(f"ann-{name}", name, channel_configs=config)) as ann:
        first = large.connect(joe, name)
        with large.websocket(first) as socket:
            second = large.connect(joe, name)
            with large.websocket(second) as other:
                large.call("/unsubscribe", {"conn_id": second, "channels": [name]})
                large.call("/subscribe", {"conn_id": second, "channels": [name]})
                large.call("/disconnect", {"conn_id": second})
                assert helpers.close_code(other) == 4000
            large.say(name, "end")
            assert helpers.before(socket, "end") == []
            (joined,) = helpers.before(ann, "end")
            assert (joined["user"], joined["message"]) == (joe, {"action": "joined"})
            large.call("/unsubscribe", {"conn_id": first, "channels": [name]})
            (parted,) = helpers.receive(ann, 1)
            assert (parted["user"], parted["message"]) == (joe, {"action": "parted"})
            large.call("/subscribe", {"conn_id": first, "channels": [name]})
            (joined,) = helpers.receive(ann, 1)
            assert joined["message"] == {"action": "joined"}
            large.say(name, "at last")
            assert helpers.before(socket, "at last") == []


@pytest.mark.promise("4.15")
def test_the_keys_of_a_state_change(large, name, helpers):
    joe, config = f"joe-{name}", {name: {"notify_state": True}}
    with large.websocket(large.connect(f"ann-{name}", name, channel_configs=config)) as ann:
        large.connect(joe, name, user_state={"a": 1, "b": 1, "hidden": 1}, state_public_keys=["a", "b"])
        large.call("/user_state", {"user": joe, "user_state": {"b": 2, "hidden": 2}})
        (told,) = helpers.receive(ann, 1)
    assert set(told) == MESSAGE - {"edited"}
    assert (told["type"], told["user"], told["channel"], told["seq"]) == ("user_state_change", joe, name, 1)
    assert told["message"] == {"state": {"a": 1, "b": 2}, "changed": [{"key": "b", "value": 2}]}
    assert told["date"] == told["timestamp"]


# --- catch-up ---


@pytest.mark.promise("4.16", "5.2")
def test_what_was_missed_since_the_last_delivery_comes_first(large, name, helpers):
    channels = [f"{name}-{number}" for number in range(3)]
    conn_id = large.connect(f"joe-{name}", *channels)

    def say(text):
        for channel in channels:
            large.say(channel, text)
        large.say(None, text, pm_users=[f"joe-{name}"])

    say("since connect")
    for expected in (["since connect"], ["away 0", "away 1"], ["away 0", "away 1"]):
        with large.websocket(conn_id) as socket:
            missed = helpers.receive(socket, 4 * len(expected))
            say("live")
            live = helpers.receive(socket, 4)
            helpers.cut_off(large, socket)
        for channel in (*channels, None):
            assert [one["message"]["text"] for one in missed if one["channel"] == channel] == expected
        assert {one["catchup"] for one in missed} == {True}
        assert [(one["message"]["text"], one["catchup"]) for one in live] == [("live", False)] * 4
        say("away 0")
        say("away 1")


@pytest.mark.promise("4.18", "4.20")
def test_fifty_private_messages_are_kept(large, name, helpers):
    conn_id = large.connect(name)
    for number in range(53):
        large.say(None, number, pm_users=[name])
    with large.websocket(conn_id) as socket:
        gap, *missed = helpers.receive(socket, 51)
    assert gap == {"type": "gap", "channel": None, "missed": 3}
    assert helpers.texts(missed) == list(range(3, 53))
    assert {one["catchup"] for one in missed} == {True}


@pytest.mark.promise("4.17", "4.20", "4.21")
def test_what_frames_do_not_reach_is_told_and_can_be_read(large, name, helpers):
    config = {name: {"frames_size": 4, "store_history": True, "history_size": 20}}
    conn_id = large.connect("joe", name, channel_configs=config)
    for number in range(10):
        large.say(name, number)
    with large.websocket(conn_id) as socket:
        gap, *missed = helpers.receive(socket, 5)
    assert gap == {"type": "gap", "channel": name, "missed": 6}
    assert helpers.texts(missed) == [6, 7, 8, 9]
    kept = large.call("/info", {"channels": [name]})["channels"][name]["history"]
    assert helpers.texts(kept)[:6] == [0, 1, 2, 3, 4, 5]
