"""Section 3 of docs/contract.md: POST, PATCH and DELETE /message."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

DEFAULTS = {"pm_users": [], "exclude_users": [], "no_history": False, "edited": None}


def history(group, name):
    return group.call("/info", {"channels": [name]})["channels"][name]["history"]


def is_now(time):
    return abs(datetime.fromisoformat(time).replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=5)


# --- POST ---


@pytest.mark.promise("3.46", "3.63")
def test_a_message_has_a_user_and_an_object(small, name):
    good = {"user": "joe", "message": {}, "channel": name}
    for wrong in ({"message": {}, "channel": name}, {**good, "user": ""}, {**good, "user": None}):
        refused = small.post("/message", [good, wrong])
        assert (refused.status_code, set(refused.json())) == (422, {"1.user"})
    for wrong in ("text", 1, [], None):
        refused = small.post("/message", [good, good, {**good, "message": wrong}])
        assert (refused.status_code, set(refused.json())) == (422, {"2.message"})


@pytest.mark.promise("3.47", "3.48", "3.49", "3.51")
def test_what_is_left_out_is_filled_in(small, name):
    first, second = small.call("/message", [{"user": "joe", "channel": name, "message": {"a": 1}}] * 2)
    assert set(first) >= {"uuid", "timestamp", "pm_users", "exclude_users", "no_history", "channel", "edited"}
    assert {key: first[key] for key in DEFAULTS} == DEFAULTS
    assert (first["channel"], first["user"], first["message"]) == (name, "joe", {"a": 1})
    assert uuid.UUID(first["uuid"]).version
    assert first["uuid"] != second["uuid"]
    assert is_now(first["timestamp"])


@pytest.mark.promise("3.47", "3.48", "3.49", "3.51")
def test_what_is_given_is_taken(small, name):
    given = {
        "uuid": str(uuid.uuid4()),
        "timestamp": "2020-01-02T03:04:05.000006",
        "user": "joe",
        "channel": name,
        "message": {"a": [1]},
        "pm_users": ["ann", "joe"],
        "exclude_users": ["tom"],
        "no_history": True,
    }
    (taken,) = small.call("/message", [given])
    assert {key: taken[key] for key in given} == given
    assert taken["edited"] is None


@pytest.mark.promise("3.47")
def test_no_history_is_delivered_and_not_kept(small, name, helpers):
    conn_id = small.connect("joe", name, channel_configs={name: {"store_history": True}})
    small.say(name, "kept")
    small.say(name, "gone", no_history=True)
    with small.websocket(conn_id) as socket:
        assert helpers.texts(helpers.receive(socket, 2)) == ["kept", "gone"]
    assert helpers.texts(history(small, name)) == ["kept"]


@pytest.mark.promise("3.52", "3.53", "3.54", "3.55")
def test_private_messages_reach_who_is_off_the_channel(large, name, helpers):
    """By channel and users: those on it. By users alone: wherever they are, also on no channel at all."""
    ann, joe = f"ann-{name}", f"joe-{name}"
    with large.websocket(large.connect(ann, name)) as on, large.websocket(large.connect(ann)) as off:
        with large.websocket(large.connect(joe, name)) as other:
            large.say(name, "for ann on the channel", pm_users=[ann])
            large.say(name, "end")
            assert helpers.texts(helpers.before(on, "end")) == ["for ann on the channel"]
            assert helpers.before(other, "end") == []
            large.say(None, "for ann", pm_users=[ann, joe], exclude_users=[joe])
            large.say(None, "private end", pm_users=[ann, joe])
            for socket in (on, off):
                assert helpers.texts(helpers.before(socket, "private end")) == ["for ann"]
            assert helpers.before(other, "private end") == []


@pytest.mark.promise("3.56")
def test_a_message_for_nobody_is_refused(small, name):
    message = {"user": "joe", "message": {}}
    for wrong in (message, {**message, "channel": None}, {**message, "pm_users": []}):
        for body, field in (([wrong], "0.channel"), ([{**message, "channel": name}, wrong], "1.channel")):
            refused = small.post("/message", body)
            assert (refused.status_code, set(refused.json())) == (422, {field})


@pytest.mark.promise("3.57")
def test_a_channel_that_is_not_there_is_no_error(small, name):
    assert small.say(name, "into the void")
    assert small.say(None, "to nobody", pm_users=[f"nobody-{name}"])
    assert small.call("/info", {"channels": [name]}) == {"channels": {}, "users": []}
    made = small.call("/channel_config", {name: {"store_history": True}})["channels"][name]
    assert made["seq"] == 0


@pytest.mark.promise("3.58")
def test_what_is_answered_is_there(large, name, helpers):
    channels = [f"{name}-{number}" for number in range(9)]
    half = {channel: {"store_history": True} for channel in channels[::2]}
    conn_id = large.connect("joe", *channels, channel_configs=half)
    for number in range(10):
        for channel in channels:
            large.say(channel, number)
        told = large.call("/info", {"channels": channels})["channels"]
        assert [told[channel]["seq"] for channel in channels] == [number + 1] * 9
        assert all(told[channel]["history"][-1]["message"] == {"text": number} for channel in half)
    with large.websocket(conn_id) as socket:
        caught_up = helpers.receive(socket, 90)
    for channel in channels:
        assert [one["message"]["text"] for one in caught_up if one["channel"] == channel] == list(range(10))


@pytest.mark.promise("3.59")
def test_a_uuid_is_taken_once(large, name, helpers):
    """With history and without, while somebody listens and while nobody does, as another spelling of it too."""
    kept, plain = f"{name}-kept", f"{name}-plain"
    config = {kept: {"store_history": True, "store_frames": False}}
    with large.websocket(large.connect("joe", kept, plain, channel_configs=config)) as socket:
        for channel in (kept, plain):
            again = str(uuid.uuid4())
            for spelling in (again, again.upper(), again.replace("-", "")):
                assert large.say(channel, "once", uuid=spelling) == again
            large.say(channel, channel)
            assert [one["message"]["text"] for one in helpers.receive(socket, 2)] == ["once", channel]
    assert helpers.texts(history(large, kept)) == ["once", kept]


@pytest.mark.promise("3.60")
def test_messages_of_one_request_keep_their_order(large, name, helpers):
    channels = [f"{name}-{number}" for number in range(4)]
    with large.websocket(large.connect("joe", *channels)) as socket:
        large.call(
            "/message",
            [{"user": "b", "channel": channels[n % 4], "message": {"text": n}} for n in range(80)],
        )
        seen = helpers.receive(socket, 80)
    for number, channel in enumerate(channels):
        texts = [one["message"]["text"] for one in seen if one["channel"] == channel]
        assert texts == list(range(number, 80, 4))


@pytest.mark.promise("3.62", "3.63")
def test_one_bad_message_refuses_all(large, name, helpers):
    channels = [f"{name}-{number}" for number in range(4)]
    config = {channel: {"store_history": True} for channel in channels}
    with large.websocket(large.connect("joe", *channels, channel_configs=config)) as socket:
        good = [{"user": "b", "channel": channel, "message": {"text": "no"}} for channel in channels]
        refused = large.post("/message", [*good, {**good[0], "uuid": "x"}, good[1], {**good[2], "timestamp": "soon"}])
        assert (refused.status_code, set(refused.json())) == (422, {"4.uuid", "6.timestamp"})
        for channel in channels:
            large.say(channel, "end")
        assert helpers.texts(helpers.receive(socket, 4)) == ["end"] * 4
    assert [helpers.texts(history(large, channel)) for channel in channels] == [["end"]] * 4


# --- PATCH and DELETE ---


@pytest.mark.promise("3.64", "3.65", "3.71")
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_change_says_what_and_where(small, name, method):
    good = {"uuid": str(uuid.uuid4()), "channel": name}
    for wrong, field in (
        ({"channel": name}, "1.uuid"),
        ({**good, "uuid": "x"}, "1.uuid"),
        ({"uuid": good["uuid"]}, "1.channel"),
        ({"uuid": good["uuid"], "pm_users": []}, "1.channel"),
    ):
        refused = small.post("/message", [good, wrong], method=method)
        assert (refused.status_code, set(refused.json())) == (422, {field})
    assert small.post("/message", good, method=method).status_code == 422, "it is a list"
    assert small.post("/message", [good], method=method).status_code == 200


@pytest.mark.promise("3.66", "3.67", "3.68", "3.69", "4.9")
def test_an_edit_changes_what_it_gives(large, name, helpers):
    with large.websocket(large.connect("joe", name, channel_configs={name: {"store_history": True}})) as socket:
        helpers.settle(large, socket, name)
        sent = large.say(name, "first", mood="good", colour="red")
        (original,) = helpers.receive(socket, 1)
        changes = [
            {"message": {"text": "second"}},
            {"user": "ann"},
            {"timestamp": "2020-01-02T03:04:05.000006", "mood": "bad"},
            {"edited": "2020-02-03T04:05:06.000007"},
        ]
        expected = {**original}
        for number, change in enumerate(changes):
            large.call("/message", [{"uuid": sent, "channel": name, **change}], method="PATCH")
            (told,) = helpers.receive(socket, 1)
            if "timestamp" in change:
                change = {**change, "date": change["timestamp"]}
            assert (told["type"], told["uuid"], told["channel"]) == ("message:edit", sent, name)
            assert told["seq"] == number + 3
            assert is_now(told["edited"]) or told["edited"] == change["edited"]
            assert set(told) == {"type", "uuid", "channel", "edited", "catchup", "seq", *change}
            expected |= change | {"edited": told["edited"]}
            _, kept = history(large, name)
            assert kept == expected
    assert kept["edited"] == "2020-02-03T04:05:06.000007"
    assert (kept["colour"], kept["mood"]) == ("red", "bad")


@pytest.mark.promise("3.67", "3.72")
def test_frames_are_changed_too(large, name, helpers):
    """Also where there is no history: who comes later sees the message as it is now, and never what was deleted."""
    conn_id = large.connect("joe", name)
    changed, deleted = large.say(name, "wrong", mood="good"), large.say(name, "gone")
    large.call("/message", [{"uuid": changed, "channel": name, "message": {"text": "right"}}], method="PATCH")
    large.call("/message", [{"uuid": deleted, "channel": name}], method="DELETE")
    large.say(name, "end")
    with large.websocket(conn_id) as socket:
        seen = helpers.before(socket, "end")
    (message,) = (one for one in seen if one["type"] == "message")
    assert (message["message"], message["mood"], message["uuid"]) == ({"text": "right"}, "good", changed)
    assert {one["uuid"]: one["type"] for one in seen[1:]} == {changed: "message:edit", deleted: "message:delete"}


@pytest.mark.promise("3.65", "3.69", "3.71", "3.73")
def test_a_private_message_is_changed_and_deleted(large, name, helpers):
    ann, joe = f"ann-{name}", f"joe-{name}"
    with large.websocket(large.connect(ann)) as socket, large.websocket(large.connect(joe)) as other:
        sent = large.say(None, "psst", pm_users=[ann])
        helpers.receive(socket, 1)
        edit = {"uuid": sent, "pm_users": [ann], "message": {"text": "hush"}}
        large.call("/message", [edit], method="PATCH")
        (told,) = helpers.receive(socket, 1)
        assert (told["type"], told["uuid"], told["message"]) == ("message:edit", sent, {"text": "hush"})
        large.call("/message", [{"uuid": sent, "pm_users": [ann]}], method="DELETE")
        (told,) = helpers.receive(socket, 1)
        assert (told["type"], told["uuid"]) == ("message:delete", sent)
        large.say(None, "end", pm_users=[joe])
        assert helpers.before(other, "end") == []


@pytest.mark.promise("3.69", "3.73")
def test_changes_reach_those_who_may_see_the_message(large, name, helpers):
    ann, joe = f"ann-{name}", f"joe-{name}"
    with large.websocket(large.connect(ann, name)) as socket, large.websocket(large.connect(joe, name)) as other:
        for sent in (large.say(name, "psst", pm_users=[ann]), large.say(name, "hush", exclude_users=[joe])):
            large.call("/message", [{"uuid": sent, "channel": name, "message": {"text": "!"}}], method="PATCH")
            large.call("/message", [{"uuid": sent, "channel": name}], method="DELETE")
        large.say(name, "end")
        seen = [one["type"] for one in helpers.before(socket, "end")]
        assert sorted(seen) == sorted(["message", "message:edit", "message:delete"] * 2)
        assert helpers.before(other, "end") == []


@pytest.mark.promise("3.72", "3.73", "4.9")
def test_a_deletion_leaves_nothing(large, name, helpers):
    with large.websocket(large.connect("joe", name, channel_configs={name: {"store_history": True}})) as socket:
        sent = [large.say(name, number) for number in range(3)]
        helpers.receive(socket, 3)
        large.call("/message", [{"uuid": sent[1], "channel": name}], method="DELETE")
        (told,) = helpers.receive(socket, 1)
    expected = {"type": "message:delete", "uuid": sent[1], "channel": name, "catchup": False, "seq": 4}
    assert {key: told[key] for key in expected} == expected
    assert not {"message", "user"} & set(told)
    assert helpers.texts(history(large, name)) == [0, 2]


@pytest.mark.promise("3.66", "3.70", "3.74")
def test_the_answers_are_the_lists_as_they_were_taken(large, name):
    channels = [f"{name}-{number}" for number in range(4)]
    edits = [{"uuid": str(uuid.uuid4()), "channel": channel, "user": "ann", "mood": 1} for channel in channels]
    taken = large.call("/message", edits, method="PATCH")
    assert [{key: one[key] for key in edits[0]} for one in taken] == edits
    assert all(is_now(one["edited"]) for one in taken)
    deletions = [{"uuid": edit["uuid"].upper(), "channel": edit["channel"]} for edit in edits]
    taken = large.call("/message", deletions, method="DELETE")
    assert [(one["uuid"], one["channel"]) for one in taken] == [(one["uuid"], one["channel"]) for one in edits]
