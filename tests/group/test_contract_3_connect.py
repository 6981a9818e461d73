"""Section 3 of docs/contract.md: POST /connect, /subscribe and /unsubscribe."""

from __future__ import annotations

import json
import uuid

import pytest
import requests


def with_query(group, helpers, path, conn_id, body):
    """A call with the connection in its URL."""
    headers = {"X-Channelstream-Secret": helpers.signature(path)}
    url = f"http://127.0.0.1:{group.api_port}{path}?conn_id={conn_id}"
    return requests.post(url, data=json.dumps(body), headers=headers, timeout=20)


@pytest.mark.promise("3.25", "3.26", "3.27", "3.28", "3.32", "3.33")
def test_a_username_is_enough(small, name):
    answer = small.call("/connect", {"username": name})
    assert uuid.UUID(answer.pop("conn_id")).version
    assert answer == {
        "username": name,
        "state": {},
        "public_state": {},
        "channels": [],
        "channels_info": {"channels": {}, "users": []},
    }
    refused = small.post("/connect", {"channels": [name]})
    assert (refused.status_code, refused.json()) == (422, {"username": ["Missing data for required field."]})


@pytest.mark.promise("3.26")
def test_a_conn_id_is_given_or_made(small, name):
    made = {small.call("/connect", {"username": name, "conn_id": None})["conn_id"] for _ in range(3)}
    assert len(made) == 3
    given = str(uuid.uuid4())
    assert small.call("/connect", {"username": name, "conn_id": given})["conn_id"] == given
    refused = small.post("/connect", {"username": name, "conn_id": "no uuid"})
    assert (refused.status_code, set(refused.json())) == (422, {"conn_id"})


@pytest.mark.promise("3.29", "3.30")
def test_fresh_state_is_for_new_users(large, name):
    first = large.call("/connect", {"username": name, "fresh_user_state": {"a": 1, "b": 1}, "user_state": {"b": 2}})
    assert first["state"] == {"a": 1, "b": 2}
    again = {"username": name, "fresh_user_state": {"a": 3, "c": 3}, "user_state": {"d": 4, "b": None}}
    assert large.call("/connect", again)["state"] == {"a": 1, "b": None, "d": 4}
    assert large.call("/connect", {"username": name})["state"] == {"a": 1, "b": None, "d": 4}


@pytest.mark.promise("3.31")
def test_public_keys_are_replaced_where_they_are_given(large, name):
    def public(**more):
        return large.call("/connect", {"username": name, **more})["public_state"]

    assert public(user_state={"a": 1, "b": 2}) == {}
    assert public(state_public_keys=["a", "missing"]) == {"a": 1}
    assert public() == {"a": 1}
    assert public(state_public_keys=None) == {"a": 1}
    assert public(state_public_keys=["b"]) == {"b": 2}
    assert public(state_public_keys=[]) == {}


@pytest.mark.promise("3.32", "3.40")
def test_info_shapes_the_answer(large, name):
    one, two = f"{name}-1", f"{name}-2"
    large.call("/channel_config", {channel: {"store_history": True} for channel in (one, two)})
    large.say(one, "kept")
    info = {
        "include_history": False,
        "include_users": True,
        "include_connections": True,
        "exclude_channels": [two],
        "return_public_state": True,
    }
    state = {"user_state": {"a": 1, "b": 2}, "state_public_keys": ["a"]}
    answer = large.call("/connect", {"username": name, "channels": [one, two], "info": info, **state})
    conn_id, told = answer["conn_id"], answer["channels_info"]
    expected_user = {"user": name, "state": {"a": 1}, "connections": [conn_id]}
    assert (list(told["channels"]), told["channels"][one]["history"]) == ([one], [])
    assert told["users"] == [expected_user]
    for path in ("/subscribe", "/unsubscribe"):
        told = large.call(path, {"conn_id": conn_id, "channels": [f"{name}-3"], "info": info})["channels_info"]
        assert set(told["channels"]) - {f"{name}-3"} == {one}
        assert told["channels"][one]["history"] == []
        assert told["users"] == [expected_user]
    plain = large.call("/subscribe", {"conn_id": conn_id, "channels": [one]})["channels_info"]
    assert sorted(plain["channels"]) == [one, two]
    assert len(plain["channels"][one]["history"]) == 1


@pytest.mark.promise("3.33", "3.35")
def test_the_answer_of_connect(large, name):
    channels = [f"{name}-{number}" for number in (3, 1, 2)]
    assert not set(channels) & set(large.call("/info", {})["channels"])
    state = {"user_state": {"a": 1, "b": 2}, "state_public_keys": ["a"]}
    answer = large.call("/connect", {"username": name, "channels": [*channels, channels[0]], **state})
    assert set(answer) == {"conn_id", "username", "state", "public_state", "channels", "channels_info"}
    assert (answer["username"], answer["state"], answer["public_state"]) == (name, {"a": 1, "b": 2}, {"a": 1})
    assert answer["channels"] == sorted(channels)
    assert set(answer["channels_info"]["channels"]) == set(channels)
    assert set(channels) <= set(large.call("/info", {})["channels"])


@pytest.mark.promise("3.34", "3.36")
def test_a_second_connect_adds_channels(large, name, helpers):
    one, two = f"{name}-1", f"{name}-2"
    conn_id = large.connect(name, one)
    with large.websocket(conn_id) as socket:
        large.say(one, "before")
        assert helpers.before(socket, "before") == []
        answer = large.call("/connect", {"username": name, "conn_id": conn_id, "channels": [two]})
        assert answer["conn_id"] == conn_id
        assert answer["channels"] == [one, two]
        assert list(answer["channels_info"]["channels"]) == [two]
        for channel in (one, two):
            large.say(channel, channel)
            assert helpers.before(socket, channel) == []


@pytest.mark.promise("3.37")
def test_a_conn_id_of_another_user_is_refused(large, name, helpers):
    conn_id = large.connect(f"joe-{name}", name)
    refused = large.post("/connect", {"username": f"ann-{name}", "conn_id": conn_id, "channels": [f"{name}-2"]})
    assert (refused.status_code, set(refused.json())) == (422, {"conn_id"})
    shown = large.call("/info", {"channels": [name, f"{name}-2"]})
    assert list(shown["channels"]) == [name]
    assert shown["channels"][name]["users"] == [f"joe-{name}"]


@pytest.mark.promise("3.38", "3.44")
@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
def test_the_connection_is_in_the_body_or_in_the_url(large, name, helpers, path):
    changed = {"/subscribe": "subscribed_to", "/unsubscribe": "unsubscribed_from"}[path]
    one, two = f"{name}-1", f"{name}-2"
    conn_id = large.connect("joe", *([one, two] if path == "/unsubscribe" else []))
    assert large.call(path, {"conn_id": conn_id, "channels": [one]})[changed] == [one]
    assert with_query(large, helpers, path, conn_id, {"channels": [two]}).json()[changed] == [two]
    missing = large.post(path, {"channels": [one]})
    assert (missing.status_code, missing.json()) == (422, {"conn_id": ["Missing data for required field."]})
    unknown = {"conn_id": ["Unknown connection"]}
    refused = large.post(path, {"conn_id": str(uuid.uuid4()), "channels": [one]})
    assert (refused.status_code, refused.json()) == (422, unknown)
    refused = with_query(large, helpers, path, uuid.uuid4(), {"channels": [one]})
    assert (refused.status_code, refused.json()) == (422, unknown)


@pytest.mark.promise("3.39")
@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
def test_at_least_one_channel_is_required(small, path):
    conn_id = small.connect("joe", "a")
    for body in ({"conn_id": conn_id}, {"conn_id": conn_id, "channels": []}):
        refused = small.post(path, body)
        assert (refused.status_code, set(refused.json())) == (422, {"channels"})


@pytest.mark.promise("3.41", "3.42", "3.43", "3.45")
def test_what_a_connection_is_on_and_what_has_changed(large, name):
    a, b, c, d = (f"{name}-{letter}" for letter in "abcd")
    conn_id = large.connect("joe", c)
    answer = large.call("/subscribe", {"conn_id": conn_id, "channels": [d, c, a, a]})
    assert set(answer) == {"channels", "channels_info", "subscribed_to"}
    assert (answer["channels"], answer["subscribed_to"]) == ([a, c, d], [a, d])
    assert sorted(answer["channels_info"]["channels"]) == [a, c, d]
    answer = large.call("/unsubscribe", {"conn_id": conn_id, "channels": [d, b, a]})
    assert set(answer) == {"channels", "channels_info", "unsubscribed_from"}
    assert (answer["channels"], answer["unsubscribed_from"]) == ([c], [a, d])
    assert list(answer["channels_info"]["channels"]) == [c]
    answer = large.call("/unsubscribe", {"conn_id": conn_id, "channels": [c]})
    assert (answer["channels"], answer["unsubscribed_from"]) == ([], [c])
    assert answer["channels_info"] == {"channels": {}, "users": []}
