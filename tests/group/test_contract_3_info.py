"""Section 3 of docs/contract.md: POST /user_state, /channel_config and /info, what they tell, and /disconnect."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import requests

SETTINGS = {
    "notify_presence",
    "broadcast_presence_with_user_lists",
    "notify_state",
    "store_history",
    "history_size",
    "store_frames",
    "frames_size",
    "history_ttl",
    "skip_when_slow",
}


def signed(group, helpers, path, body):
    """A call whose body is these bytes."""
    headers = {"X-Channelstream-Secret": helpers.signature(path)}
    return requests.post(f"http://127.0.0.1:{group.api_port}{path}", data=body, headers=headers, timeout=20)


# --- POST /user_state ---


@pytest.mark.promise("3.75")
def test_a_state_is_merged(small, name):
    small.connect(name, user_state={"a": 1, "b": 1})
    assert small.call("/user_state", {"user": name})["user_state"] == {"a": 1, "b": 1}
    answer = small.call("/user_state", {"user": name, "user_state": {"b": 2, "c": 3}})
    assert answer["user_state"] == {"a": 1, "b": 2, "c": 3}
    assert small.call("/connect", {"username": name})["state"] == {"a": 1, "b": 2, "c": 3}
    refused = small.post("/user_state", {"user_state": {}})
    assert (refused.status_code, set(refused.json())) == (422, {"user"})


@pytest.mark.promise("3.76")
def test_public_keys_are_kept_or_replaced(small, name):
    small.connect(name, user_state={"a": 1, "b": 1}, state_public_keys=["a"])
    assert small.call("/user_state", {"user": name})["public_keys"] == ["a"]
    assert small.call("/user_state", {"user": name, "state_public_keys": ["b"]})["public_keys"] == ["b"]
    assert small.call("/user_state", {"user": name, "state_public_keys": None})["public_keys"] == ["b"]
    assert small.call("/connect", {"username": name})["public_state"] == {"b": 1}
    assert small.call("/user_state", {"user": name, "state_public_keys": []})["public_keys"] == []


@pytest.mark.promise("3.77")
def test_the_answer_of_user_state(small, name):
    small.connect(name, user_state={"a": 1, "b": 1, "c": 1}, state_public_keys=["a"])
    answer = small.call("/user_state", {"user": name, "user_state": {"a": 1, "b": 2, "c": True, "d": None}})
    assert answer == {
        "user_state": {"a": 1, "b": 2, "c": True, "d": None},
        "changed_state": [{"key": "b", "value": 2}, {"key": "c", "value": True}, {"key": "d", "value": None}],
        "public_keys": ["a"],
    }


@pytest.mark.promise("3.78")
def test_an_unknown_user_has_no_state(small, name):
    refused = small.post("/user_state", {"user": name, "user_state": {"a": 1}})
    assert (refused.status_code, refused.json()) == (422, {"user": ["Unknown user"]})


@pytest.mark.promise("3.79", "4.15")
def test_channels_that_want_to_know_are_told_of_changes(large, name, helpers):
    joe, told, untold, strange = (f"{name}-{word}" for word in ("joe", "told", "untold", "strange"))
    also = f"{name}-also"
    configs = {channel: {"notify_state": True} for channel in (told, also, strange)}
    with large.websocket(large.connect("ann", told, also, untold, strange, channel_configs=configs)) as ann:
        large.connect(joe, told, also, untold, user_state={"a": 1, "b": 1}, state_public_keys=["a", "b"])
        large.call("/user_state", {"user": joe, "user_state": {"a": 2, "hidden": 5}})
        changes = helpers.receive(ann, 2)
        large.call("/user_state", {"user": joe, "user_state": {"a": 2}})
        for channel in (told, also, untold, strange):
            large.say(channel, "end")
        assert helpers.texts(helpers.receive(ann, 4)) == ["end"] * 4, "nothing has changed, so nothing is told"
    assert {one["channel"] for one in changes} == {told, also}
    for one in changes:
        assert (one["type"], one["user"]) == ("user_state_change", joe)
        assert one["message"] == {"state": {"a": 2, "b": 1}, "changed": [{"key": "a", "value": 2}]}


# --- POST /channel_config ---


@pytest.mark.promise("3.23", "3.80", "3.81")
def test_channels_are_made_and_told_without_history_and_users(large, name):
    old, new = f"{name}-old", f"{name}-new"
    large.connect("joe", old, channel_configs={old: {"store_history": True}})
    large.say(old, "kept")
    answer = large.call("/channel_config", {old: {"history_size": 5}, new: {"history_size": 6}})
    assert set(answer) == {"channels", "users"}
    assert {key: one["settings"]["history_size"] for key, one in answer["channels"].items()} == {old: 5, new: 6}
    assert answer["users"] == []
    for one in answer["channels"].values():
        assert (one["history"], one["users"]) == ([], [])
    assert answer["channels"][old]["total_users"] == 1
    assert set(large.call("/info", {"channels": [new]})["channels"]) == {new}


# --- POST /info ---


@pytest.mark.promise("3.12", "3.82", "3.83", "3.84")
def test_what_is_told_is_chosen_or_everything(large, name, helpers):
    one, two = f"{name}-1", f"{name}-2"
    large.connect(name, one, two)
    everything = [
        signed(large, helpers, "/info", b"").json(),
        large.call("/info", {}),
        large.call("/info", {"info": {}}),
        large.call("/info", {"channels": []}),
    ]
    for told in everything:
        assert {one, two} <= set(told["channels"])
        assert name in [user["user"] for user in told["users"]]
        assert set(told["channels"]) == set(everything[0]["channels"])
    assert large.call("/info", {"info": {"channels": []}}) == {"channels": {}, "users": []}
    for chosen in ({"channels": [two, f"{name}-no"]}, {"info": {"channels": [two, f"{name}-no"]}}):
        told = large.call("/info", chosen)
        assert list(told["channels"]) == [two]
        assert [user["user"] for user in told["users"]] == [name]


# --- what is told ---


@pytest.mark.promise("3.85", "3.86", "3.87")
def test_all_that_is_told_of_a_channel(large, name):
    for user in ("tom", "ann", "zoe", "joe", "ann"):
        large.connect(f"{user}-{name}", name)

    def told():
        return large.call("/info", {"channels": [name]})["channels"][name]

    first = told()
    assert set(first) == {
        "name",
        "long_name",
        "uuid",
        "settings",
        "history",
        "last_active",
        "total_connections",
        "total_users",
        "users",
        "seq",
        "epoch",
    }
    assert set(first["settings"]) == SETTINGS
    assert (first["name"], first["long_name"], first["seq"]) == (name, None, 0)
    assert uuid.UUID(first["uuid"]).version
    assert (first["total_connections"], first["total_users"]) == (5, 4)
    assert first["users"] == [f"{user}-{name}" for user in ("ann", "joe", "tom", "zoe")]
    large.say(name, "hi")
    second = told()
    assert second["seq"] == 1
    assert second["last_active"] > first["last_active"]
    assert first["epoch"]
    assert {"seq", "last_active"} == {key for key in first if first[key] != second[key]}
    other = large.call("/channel_config", {f"{name}-2": {}})["channels"][f"{name}-2"]
    assert other["epoch"] != first["epoch"]
    assert other["uuid"] != first["uuid"]


@pytest.mark.promise("3.88", "3.90")
def test_each_user_is_told_once(large, name):
    channels = [f"{name}-{number}" for number in range(5)]
    ann, joe = f"ann-{name}", f"joe-{name}"
    of_ann = large.connect(ann, *channels, user_state={"a": 1})
    of_joe = [large.connect(joe, channel) for channel in channels]
    told = large.call("/info", {"channels": channels})
    assert told["users"] == [{"user": ann, "state": {"a": 1}}, {"user": joe, "state": {}}]
    told = large.call("/info", {"info": {"channels": channels, "include_connections": True}})
    assert [one["connections"] for one in told["users"]] == [[of_ann], sorted(of_joe)]


@pytest.mark.promise("3.89")
def test_users_are_counted_even_where_they_are_not_named(large, name):
    channels = [f"{name}-{number}" for number in range(5)]
    for user in ("ann", "joe", "joe"):
        large.connect(f"{user}-{name}", *channels)
    told = large.call("/info", {"info": {"channels": channels, "include_users": False}})
    assert told["users"] == []
    for one in told["channels"].values():
        assert (one["users"], one["total_users"], one["total_connections"]) == ([], 2, 3)


@pytest.mark.promise("3.91")
def test_history_looks_like_what_clients_got(large, name, helpers):
    with large.websocket(large.connect("joe", name, channel_configs={name: {"store_history": True}})) as socket:
        helpers.settle(large, socket, name)
        for number in range(3):
            large.say(name, number, colour="red", timestamp="2020-01-02T03:04:05.000006")
        got = helpers.receive(socket, 3)
    assert large.call("/info", {"channels": [name]})["channels"][name]["history"][1:] == got


# --- /disconnect ---


@pytest.mark.promise("3.92", "3.93")
def test_a_connection_is_ended_by_its_id(large, name):
    url = f"http://127.0.0.1:{large.port}/disconnect"
    in_url, in_body = (lambda conn_id: f"{url}?conn_id={conn_id}"), (lambda conn_id: json.dumps({"conn_id": conn_id}))
    ways = [
        lambda conn_id: requests.get(in_url(conn_id), timeout=20),
        lambda conn_id: requests.post(in_url(conn_id), timeout=20),
        lambda conn_id: requests.post(url, data=in_body(conn_id), timeout=20),
    ]
    for way in ways:
        conn_id = large.connect("joe", name)
        assert (way(conn_id).status_code, way(str(uuid.uuid4())).json(), way(conn_id).json()) == (200, False, False)
        conn_id = large.connect("joe", name)
        assert way(conn_id).json() is True
    assert large.call("/info", {"channels": [name]})["channels"][name]["total_connections"] == 0
    for answer in (requests.get(url, timeout=20), requests.post(url, data="{}", timeout=20)):
        assert (answer.status_code, set(answer.json())) == (422, {"conn_id"})


@pytest.mark.promise("3.94", "4.32")
def test_who_is_disconnected_is_gone_and_has_parted(large, name, helpers):
    config = {name: {"notify_presence": True}}
    with large.websocket(large.connect("ann", name, channel_configs=config)) as ann:
        conn_id = large.connect(f"joe-{name}", name)
        with large.websocket(conn_id) as joe:
            helpers.receive(ann, 1)
            asked_at = datetime.now(UTC)
            large.get(f"/disconnect?conn_id={conn_id}", large.port)
            (parted,) = helpers.receive(ann, 1)
            assert helpers.close_code(joe) == 4000
    assert (parted["message"], parted["user"]) == ({"action": "parted"}, f"joe-{name}")
    parted_at = datetime.fromisoformat(parted["timestamp"]).replace(tzinfo=UTC)
    assert parted_at - asked_at < timedelta(seconds=1)
    assert large.listen(conn_id).status_code == 401
    assert large.call("/info", {"channels": [name]})["channels"][name]["users"] == ["ann"]
