"""Section 3 of docs/contract.md: types, what an answer tells, and a channel's configuration."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


def channel_of(group, name, **info):
    return group.call("/info", {"info": {"channels": [name], **info}})["channels"][name]


# --- types ---


@pytest.mark.promise("3.1")
def test_a_channels_name_has_1_to_256_characters(small, name):
    for fine in (name[0] + uuid.uuid4().hex[0], name.ljust(256, "é")):
        small.connect("joe", fine)
        assert small.say(fine, "hi")
        assert small.call("/info", {"channels": [fine]})["channels"][fine]["seq"] == 1
    for wrong in ("", "x" * 257):
        for path, body in (
            ("/connect", {"username": "joe", "channels": [wrong]}),
            ("/subscribe", {"conn_id": str(uuid.uuid4()), "channels": [wrong]}),
            ("/message", [{"user": "joe", "message": {}, "channel": wrong}]),
            ("/channel_config", {wrong: {}}),
            ("/info", {"channels": [wrong]}),
        ):
            assert small.post(path, body).status_code == 422, path


@pytest.mark.promise("3.2")
def test_a_users_name_has_1_to_512_characters(small, name):
    fine = name.ljust(512, "é")
    assert small.call("/connect", {"username": fine})["username"] == fine
    assert small.call("/connect", {"username": "j"})["username"] == "j"
    for wrong in ("", "x" * 513):
        for path, body in (
            ("/connect", {"username": wrong}),
            ("/user_state", {"user": wrong}),
            ("/message", [{"user": wrong, "message": {}, "channel": name}]),
            ("/message", [{"user": "joe", "message": {}, "pm_users": [wrong]}]),
        ):
            assert small.post(path, body).status_code == 422, path


@pytest.mark.promise("3.3")
def test_values_of_a_state(small, name):
    state = {"text": "é", "empty": "", "integer": -(2**53) - 1, "float": 1.5, "yes": True, "no": False, "none": None}
    told = small.call("/connect", {"username": name, "user_state": state, "fresh_user_state": state})["state"]
    assert told == state
    assert {key: type(value) for key, value in told.items()} == {key: type(value) for key, value in state.items()}
    assert small.call("/user_state", {"user": name, "user_state": state})["user_state"] == state
    for wrong in ([], {}, ["a"], {"a": 1}):
        for field, path in (
            ("user_state", "/connect"),
            ("fresh_user_state", "/connect"),
            ("user_state", "/user_state"),
        ):
            body = {"username": name, "user": name, field: {"key": wrong}}
            refused = small.post(path, body)
            assert (refused.status_code, set(refused.json())) == (422, {f"{field}.key"})


@pytest.mark.promise("3.4")
def test_a_conn_id_in_any_form(small, name, helpers):
    conn_id = str(uuid.uuid4())
    forms = [conn_id, conn_id.upper(), conn_id.replace("-", ""), f"{{{conn_id}}}", f"urn:uuid:{conn_id}"]
    for number, form in enumerate(forms):
        answer = small.call("/connect", {"username": name, "conn_id": form, "channels": [f"{name}-{number}"]})
        assert answer["conn_id"] == conn_id
    assert answer["channels"] == [f"{name}-{number}" for number in range(len(forms))]
    for form in forms:
        small.call("/subscribe", {"conn_id": form, "channels": [name]})
        small.say(name, form)
        assert helpers.texts(small.listen(form).json()) == [form]
    with small.websocket(forms[1]) as socket:
        small.say(name, "by websocket")
        assert helpers.before(socket, "by websocket") == []
        assert small.call("/disconnect", {"conn_id": forms[2]}) is True
    assert small.post("/connect", {"username": name, "conn_id": conn_id[:-1]}).status_code == 422


@pytest.mark.promise("3.5")
def test_times_are_utc_with_microseconds(small, name, helpers):
    config = {name: {"store_history": True, "notify_presence": True}}
    conn_id = small.connect("ann", name, channel_configs=config)
    given = "2026-05-06T09:08:09.00001+02:00"
    message = {"user": "joe", "channel": name, "message": {}}
    old, new = small.call("/message", [{**message, "timestamp": given}, message])
    assert old["timestamp"] == "2026-05-06T07:08:09.000010"
    small.call("/message", [{"uuid": new["uuid"], "channel": name, "message": {}}], method="PATCH")
    small.connect(f"joe-{name}", name)
    with small.websocket(conn_id) as socket:
        _, _, edit, joined = helpers.receive(socket, 4)
    shown = channel_of(small, name)
    times = [new["timestamp"], edit["edited"], joined["timestamp"], joined["date"], shown["last_active"]]
    times += [shown["history"][1]["timestamp"], shown["history"][1]["edited"]]
    for time in (*times, old["timestamp"], shown["history"][0]["date"]):
        assert TIME.fullmatch(time)
    for time in times:
        assert abs(datetime.fromisoformat(time).replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.promise("3.6")
def test_unknown_keys_are_ignored(small, name):
    more = {"surprise": {"deep": [1]}}
    info = {"channels": [name], **more}
    body = {"username": "joe", "channels": [name], "channel_configs": {name: more}, "info": info, **more}
    answer = small.call("/connect", body)
    conn_id = answer["conn_id"]
    answers = [
        answer,
        small.call("/subscribe", {"conn_id": conn_id, "channels": [f"{name}-2"], **more}),
        small.call("/unsubscribe", {"conn_id": conn_id, "channels": [f"{name}-2"], **more}),
        small.call("/user_state", {"user": "joe", **more}),
        small.call("/channel_config", {name: more}),
        small.call("/info", {"info": info, **more}),
        small.call("/disconnect", {"conn_id": conn_id, **more}),
    ]
    assert "surprise" not in str(answers)


@pytest.mark.promise("3.7", "3.50", "4.5")
def test_unknown_keys_of_a_message_travel_along(small, name, helpers):
    conn_id = small.connect("joe", name, channel_configs={name: {"store_history": True}})
    more = {"colour": "red", "deep": {"list": [1, None, {"a": 1.5}]}, "é": "\u2028"}
    message = {"user": "joe", "channel": name, "message": {"any": ["thing"]}, **more}
    (taken,) = small.call("/message", [message])
    with small.websocket(conn_id) as socket:
        (got,) = helpers.receive(socket, 1)
    (kept,) = channel_of(small, name)["history"]
    for seen in (taken, got, kept):
        assert {key: seen[key] for key in more} == more
        assert seen["message"] == {"any": ["thing"]}


# --- what an answer tells ---


@pytest.fixture
def told(large, name):
    """A user with a state on two channels with history; a function that gives /info's answer about them."""
    user, channels = f"joe-{name}", [f"{name}-a", f"{name}-b"]
    config = {channel: {"store_history": True} for channel in channels}
    state = {"user_state": {"shown": 1, "hidden": 2}, "state_public_keys": ["shown"]}
    conn_id = large.connect(user, *channels, channel_configs=config, **state)
    for channel in channels:
        large.say(channel, "kept")

    def tell(**info):
        answer = large.call("/info", {"info": {"channels": channels, **info}})
        return answer["channels"], answer["users"]

    tell.user, tell.channels, tell.conn_id = user, channels, conn_id
    return tell


@pytest.mark.promise("3.8")
def test_history_is_told_unless_it_is_declined(told):
    for given in ({}, {"include_history": True}):
        assert [len(one["history"]) for one in told(**given)[0].values()] == [1, 1]
    channels, users = told(include_history=False)
    assert [one["history"] for one in channels.values()] == [[], []]
    assert [one["user"] for one in users] == [told.user]


@pytest.mark.promise("3.9", "3.89")
def test_users_are_told_unless_they_are_declined(told):
    for given in ({}, {"include_users": True}):
        channels, users = told(**given)
        assert [one["users"] for one in channels.values()] == [[told.user]] * 2
        assert [one["user"] for one in users] == [told.user]
    channels, users = told(include_users=False)
    assert [(one["users"], one["total_users"]) for one in channels.values()] == [([], 1)] * 2
    assert users == []


@pytest.mark.promise("3.10", "3.90")
def test_connections_are_told_on_demand(told, large):
    for given in ({}, {"include_connections": False}):
        assert "connections" not in told(**given)[1][0]
    assert told(include_connections=True)[1][0]["connections"] == [told.conn_id]
    second = large.connect(told.user, told.channels[0])
    assert told(include_connections=True)[1][0]["connections"] == sorted([told.conn_id, second])


@pytest.mark.promise("3.11")
def test_channels_are_left_out_on_demand(told):
    assert sorted(told()[0]) == sorted(told(exclude_channels=[])[0]) == told.channels
    assert sorted(told(exclude_channels=[told.channels[0], "other"])[0]) == [told.channels[1]]


@pytest.mark.promise("3.12", "3.83")
def test_channels_are_chosen_in_info_only(told, large, name):
    assert sorted(large.call("/info", {"info": {"channels": [told.channels[0]]}})["channels"]) == [told.channels[0]]
    everything = large.call("/info", {"info": {}})
    assert set(told.channels) <= set(everything["channels"])
    body = {"username": told.user, "channels": told.channels, "info": {"channels": [f"{name}-other"]}}
    assert sorted(large.call("/connect", body)["channels_info"]["channels"]) == told.channels


@pytest.mark.promise("3.13", "3.88")
def test_the_public_state_alone_is_told_on_demand(told):
    for given in ({}, {"return_public_state": False}):
        assert told(**given)[1] == [{"user": told.user, "state": {"shown": 1, "hidden": 2}}]
    assert told(return_public_state=True)[1] == [{"user": told.user, "state": {"shown": 1}}]


# --- a channel's configuration ---

DEFAULTS = {
    "notify_presence": False,
    "broadcast_presence_with_user_lists": False,
    "notify_state": False,
    "store_history": False,
    "history_size": 10,
    "store_frames": True,
    "frames_size": 100,
    "history_ttl": 0,
    "skip_when_slow": False,
}


@pytest.mark.promise("3.14", "3.15", "3.16", "3.17", "3.18", "3.19", "3.20", "3.21", "3.86")
def test_the_default_settings(small, name):
    small.connect("joe", name)
    assert channel_of(small, name)["settings"] == DEFAULTS
    small.call("/channel_config", {f"{name}-2": {}})
    assert channel_of(small, f"{name}-2")["settings"] == DEFAULTS


@pytest.mark.promise("3.14", "3.16", "3.17", "4.13")
def test_nothing_is_told_or_kept_by_default(small, name, helpers):
    with small.websocket(small.connect("ann", name)) as ann:
        other = small.connect(f"joe-{name}", name)
        small.call("/user_state", {"user": f"joe-{name}", "user_state": {"a": 1}, "state_public_keys": ["a"]})
        small.call("/disconnect", {"conn_id": other})
        small.say(name, "end")
        (only,) = helpers.receive(ann, 1)
    assert (only["message"], only["seq"]) == ({"text": "end"}, 1)
    assert channel_of(small, name)["history"] == []


@pytest.mark.promise("3.15", "4.11")
def test_lists_of_users_are_off_by_default(small, name, helpers):
    with small.websocket(small.connect("ann", name, channel_configs={name: {"notify_presence": True}})) as ann:
        small.connect(f"joe-{name}", name)
        (joined,) = helpers.receive(ann, 1)
    assert joined["users"] == []


@pytest.mark.promise("3.17", "3.18")
def test_history_has_a_size(small, name):
    channels = {f"{name}-{size}": size for size in (None, 0, 3)}
    for channel, size in channels.items():
        config = {"store_history": True} | ({} if size is None else {"history_size": size})
        small.call("/channel_config", {channel: config})
        small.call("/message", [{"user": "b", "channel": channel, "message": {"text": n}} for n in range(12)])
        kept = [one["message"]["text"] for one in channel_of(small, channel)["history"]]
        assert kept == list(range(12 - (10 if size is None else size), 12))
    refused = small.post("/channel_config", {name: {"history_size": -1}})
    assert (refused.status_code, set(refused.json())) == (422, {f"{name}.history_size"})


@pytest.mark.promise("3.19", "4.19", "4.20", "4.21")
def test_frames_may_be_off_and_history_does_not_stand_in(small, name, helpers):
    config = {name: {"store_frames": False, "store_history": True}}
    conn_id = small.connect("joe", name, channel_configs=config)
    for number in range(3):
        small.say(name, number)
    with small.websocket(conn_id) as socket:
        assert helpers.receive(socket, 1) == [{"type": "gap", "channel": name, "missed": 3}]
        small.say(name, "live")
        assert helpers.texts(helpers.receive(socket, 1)) == ["live"]
    assert [one["message"]["text"] for one in channel_of(small, name)["history"]] == [0, 1, 2, "live"]


@pytest.mark.promise("3.19", "3.20", "4.17")
def test_a_hundred_frames_are_kept_by_default(small, name, helpers):
    conn_id = small.connect("joe", name)
    small.call("/message", [{"user": "b", "channel": name, "message": {"text": n}} for n in range(103)])
    with small.websocket(conn_id) as socket:
        gap, *caught_up = helpers.receive(socket, 101)
    assert gap == {"type": "gap", "channel": name, "missed": 3}
    assert helpers.texts(caught_up) == list(range(3, 103))


@pytest.mark.promise("3.21")
def test_history_has_an_age(small, name, helpers):
    old, kept = f"{name}-old", f"{name}-kept"
    small.call("/channel_config", {old: {"store_history": True, "history_ttl": 2}, kept: {"store_history": True}})
    for channel in (old, kept):
        small.say(channel, "hi")
    assert len(channel_of(small, kept)["history"]) == 1
    assert len(channel_of(small, old)["history"]) == 1
    helpers.eventually(lambda: channel_of(small, old)["history"] == [], "it is too old")
    assert len(channel_of(small, kept)["history"]) == 1


@pytest.mark.promise("3.22", "3.28", "3.40")
def test_configs_count_for_new_channels_only(large, name):
    old, new, newest = f"{name}-old", f"{name}-new", f"{name}-newest"
    large.connect("ann", old, channel_configs={old: {"history_size": 3}})
    wish = {channel: {"history_size": 7} for channel in (old, new, newest)}
    answer = large.call("/connect", {"username": "joe", "channels": [old, new], "channel_configs": wish})
    settings = {key: one["settings"]["history_size"] for key, one in answer["channels_info"]["channels"].items()}
    assert settings == {old: 3, new: 7}
    wish = {channel: {"history_size": 8} for channel in (old, new, newest)}
    body = {"conn_id": answer["conn_id"], "channels": [old, new, newest], "channel_configs": wish}
    told = large.call("/subscribe", body)["channels_info"]["channels"]
    assert {key: one["settings"]["history_size"] for key, one in told.items()} == {old: 3, new: 7, newest: 8}


@pytest.mark.promise("3.23", "3.24")
def test_only_what_is_given_changes(large, name):
    settings = DEFAULTS | {"notify_presence": True, "history_size": 4}
    assert (
        large.call("/channel_config", {name: {"notify_presence": True, "history_size": 4}})["channels"][name][
            "settings"
        ]
        == settings
    )
    for change in ({"history_size": 5}, {"store_frames": False, "frames_size": 7}, {"notify_presence": False}, {}):
        settings |= change
        assert large.call("/channel_config", {name: change})["channels"][name]["settings"] == settings
