"""The REST calls of a backend against the real group, over HTTP."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest
import requests
from itsdangerous import TimestampSigner

GOOD = {"user": "a", "message": {}, "channel": "c"}


@pytest.mark.promise("3.28", "3.30", "3.33", "3.35")
def test_connect_answers_with_everything(large, name):
    channels = [f"{name}-{number}" for number in range(10)]
    config = {"store_history": True, "history_size": 5}
    answer = large.call(
        "/connect",
        {
            "username": f"joe-{name}",
            "channels": channels,
            "channel_configs": {channels[0]: config},
            "fresh_user_state": {"bar": 1, "key": "a"},
            "user_state": {"bar": 2},
            "state_public_keys": ["bar"],
        },
    )
    assert uuid.UUID(answer["conn_id"])
    assert answer["username"] == f"joe-{name}"
    assert answer["state"] == {"bar": 2, "key": "a"}
    assert answer["public_state"] == {"bar": 2}
    assert answer["channels"] == sorted(channels)
    info = answer["channels_info"]
    assert sorted(info["channels"]) == sorted(channels)
    assert info["channels"][channels[0]]["settings"]["history_size"] == 5
    assert info["channels"][channels[1]]["settings"]["store_history"] is False
    assert info["users"] == [{"user": f"joe-{name}", "state": {"bar": 2, "key": "a"}}]


@pytest.mark.promise("3.41", "3.42", "3.43", "3.45")
def test_subscribe_and_unsubscribe(large, name):
    one, two, three = (f"{name}-{number}" for number in range(3))
    conn_id = large.connect("joe", one)
    answer = large.call("/subscribe", {"conn_id": conn_id, "channels": [two, one, three]})
    assert answer["channels"] == [one, two, three]
    assert answer["subscribed_to"] == [two, three]
    assert sorted(answer["channels_info"]["channels"]) == [one, two, three]
    answer = large.call("/unsubscribe", {"conn_id": conn_id, "channels": [two, "never"]})
    assert answer["channels"] == [one, three]
    assert answer["unsubscribed_from"] == [two]
    answer = large.call("/unsubscribe", {"conn_id": conn_id, "channels": [one, three]})
    assert answer["channels"] == []
    assert answer["channels_info"] == {"channels": {}, "users": []}


@pytest.mark.promise("3.17", "3.18")
def test_history_is_kept_over_all_shards(large, name):
    channels = [f"{name}-{number}" for number in range(6)]
    configs = {channel: {"store_history": True, "history_size": 2} for channel in channels}
    large.connect("joe", *channels, channel_configs=configs)
    for number in range(3):
        large.call(
            "/message", [{"user": "joe", "channel": channel, "message": {"text": number}} for channel in channels]
        )
    info = large.call("/info", {"info": {"channels": channels}})
    for channel in channels:
        shown = info["channels"][channel]
        assert [one["message"]["text"] for one in shown["history"]] == [1, 2]
        assert [one["seq"] for one in shown["history"]] == [2, 3]
        assert shown["seq"] == 3
    everything = large.call("/info", {})
    assert set(channels) <= set(everything["channels"])


@pytest.mark.promise("3.59")
def test_a_repeated_message_is_taken_once(large, name):
    large.connect("joe", name, channel_configs={name: {"store_history": True}})
    again = str(uuid.uuid4())
    for _ in range(3):
        assert large.say(name, "once", uuid=again) == again
    assert len(large.call("/info", {"channels": [name]})["channels"][name]["history"]) == 1


@pytest.mark.promise("3.92", "3.93")
def test_disconnect(large, name):
    conn_id = large.connect("joe", name)
    assert large.call("/disconnect", {"conn_id": conn_id}) is True
    assert large.call("/disconnect", {"conn_id": conn_id}) is False
    assert large.get(f"/disconnect?conn_id={large.connect('joe', name)}", large.port).json() is True
    assert large.call("/info", {"channels": [name]})["channels"][name]["total_connections"] == 0


@pytest.mark.promise("2.19", "3.25", "3.39", "3.44", "3.46", "3.56", "3.63")
@pytest.mark.parametrize(
    ("path", "body", "status", "fields"),
    [
        ("/connect", {}, 422, {"username"}),
        (
            "/connect",
            {"username": "", "channels": ["", "a"], "conn_id": "no"},
            422,
            {"username", "channels.0", "conn_id"},
        ),
        ("/subscribe", {"conn_id": str(uuid.uuid4()), "channels": ["a"]}, 422, {"conn_id"}),
        ("/subscribe", {"conn_id": str(uuid.uuid4()), "channels": []}, 422, {"channels"}),
        (
            "/message",
            [{"user": "a", "message": {}, "channel": "c"}, {"message": 1}],
            422,
            {"1.user", "1.message", "1.channel"},
        ),
        ("/message", {}, 422, {"_schema"}),
    ],
)
def test_what_does_not_fit_is_named_in_full(small, path, body, status, fields):
    answer = small.post(path, body)
    assert answer.status_code == status
    assert set(answer.json()) == fields
    assert answer.headers["X-Request-Id"]


@pytest.mark.promise("3.62")
def test_a_message_is_taken_whole_or_not_at_all(small, name):
    small.connect("joe", name, channel_configs={name: {"store_history": True}})
    good = {"user": "joe", "channel": name, "message": {}}
    assert small.post("/message", [good, {"user": "joe"}]).status_code == 422
    assert small.call("/info", {"channels": [name]})["channels"][name]["history"] == []


@pytest.mark.promise("2.15", "2.16")
@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 403),
        ("nonsense", 401),
        (TimestampSigner("another secret").sign("/message").decode(), 401),
    ],
)
def test_signatures(small, header, status):
    url = f"http://127.0.0.1:{small.api_port}/message"
    answer = requests.post(url, data="[]", headers={"X-Channelstream-Secret": header} if header else {}, timeout=10)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    if status == 401:
        assert answer.json()["request"] == "Bad Signature"


@pytest.mark.promise("2.1", "2.5")
def test_a_signature_for_another_path_is_refused(small, helpers):
    signed = TimestampSigner(helpers.SECRET).sign("/info").decode()
    url = f"http://127.0.0.1:{small.port}/message"
    assert requests.post(url, data="[]", headers={"X-Channelstream-Secret": signed}, timeout=10).status_code == 401
    url = f"http://127.0.0.1:{small.port}/info?secret={signed}"
    assert requests.post(url, timeout=10).status_code == 200


@pytest.mark.promise("1.1")
def test_the_printed_curl_works(small, name):
    flags = small.flags()
    body = f'[{{"user": "joe", "channel": "{name}", "message": {{"text": "hi"}}}}]'
    command = [sys.executable, "-m", "channelstream", *flags, "sign", "/message", "--curl", "--data", body]
    curl = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer = subprocess.run(["sh", "-c", curl], check=True, capture_output=True, text=True).stdout
    assert '"text": "hi"' in answer


@pytest.mark.promise("2.21")
def test_unknown_paths_and_methods_are_json(small):
    for port in (small.port, small.api_port):
        missing = small.get("/nope", port)
        assert (missing.status_code, missing.json()) == (404, {"error": "not found"})
        wrong = small.get("/message", port)
        assert (wrong.status_code, wrong.json()) == (405, {"error": "method not allowed"})


@pytest.mark.promise("1.12")
def test_public_api_off(helpers):
    with helpers.running(public_api="false", shards=1, edges=1, routers=1) as group:
        assert group.post("/info", {}, group.port).status_code == 404
        assert group.get(f"/openapi.json?secret={helpers.signature('/openapi.json')}", group.port).status_code == 404
        assert group.post("/info", {}, group.api_port).status_code == 200
        assert group.get(f"/disconnect?conn_id={uuid.uuid4()}", group.port).json() is False


@pytest.mark.promise("3.67", "3.68", "3.69", "3.72", "3.73")
def test_a_message_is_changed_and_deleted(large, name, helpers):
    conn_id = large.connect("joe", name, channel_configs={name: {"store_history": True}})
    sent = large.say(name, "frist")
    other = large.say(name, "another")
    with large.websocket(conn_id) as socket:
        helpers.receive(socket, 2)
        edit = {"uuid": sent, "channel": name, "message": {"text": "first"}, "mood": "sorry"}
        (taken,) = large.call("/message", [edit], method="PATCH")
        assert (taken["uuid"], taken["message"], taken["mood"]) == (sent, {"text": "first"}, "sorry")
        (edited,) = helpers.receive(socket, 1)
        assert (edited["type"], edited["uuid"], edited["message"]) == ("message:edit", sent, {"text": "first"})
        assert edited["edited"]
        assert large.call("/message", [{"uuid": other, "channel": name}], method="DELETE")[0]["uuid"] == other
        (deleted,) = helpers.receive(socket, 1)
        assert (deleted["type"], deleted["uuid"]) == ("message:delete", other)
    (kept,) = large.call("/info", {"channels": [name]})["channels"][name]["history"]
    assert (kept["uuid"], kept["message"], kept["user"], kept["mood"]) == (sent, {"text": "first"}, "backend", "sorry")
    assert kept["edited"] == edited["edited"]


@pytest.mark.promise("3.67", "3.72")
def test_who_was_away_never_sees_what_was_taken_back(large, name, helpers):
    conn_id = large.connect("joe", name)
    wrong, gone = large.say(name, "wrong"), large.say(name, "gone")
    large.call("/message", [{"uuid": wrong, "channel": name, "message": {"text": "right"}}], method="PATCH")
    large.call("/message", [{"uuid": gone, "channel": name}], method="DELETE")
    with large.websocket(conn_id) as socket:
        missed = helpers.receive(socket, 3)
    assert [one["type"] for one in missed] == ["message", "message:edit", "message:delete"]
    assert "wrong" not in str(missed)
    assert "gone" not in str(missed)


@pytest.mark.promise("1.4")
def test_messages_is_another_name_of_message(small, name):
    taken = small.call("/messages", [{"user": "joe", "channel": name, "message": {}}])
    assert taken[0]["channel"] == name


@pytest.mark.promise("3.77", "3.78", "3.79", "4.15")
def test_user_state(large, name, helpers):
    user, config = f"joe-{name}", {name: {"notify_state": True}}
    conn_id = large.connect(user, name, channel_configs=config, user_state={"a": 1, "b": 1}, state_public_keys=["a"])
    with large.websocket(conn_id) as socket:
        answer = large.call("/user_state", {"user": user, "user_state": {"a": 2, "b": 2, "c": None}})
        assert answer["user_state"] == {"a": 2, "b": 2, "c": None}
        assert answer["changed_state"] == [
            {"key": "a", "value": 2},
            {"key": "b", "value": 2},
            {"key": "c", "value": None},
        ]
        assert answer["public_keys"] == ["a"]
        (told,) = helpers.receive(socket, 1)
        assert (told["type"], told["user"], told["channel"]) == ("user_state_change", user, name)
        assert told["message"] == {"state": {"a": 2}, "changed": [{"key": "a", "value": 2}]}
        assert large.call("/user_state", {"user": user, "user_state": {"a": 2}})["changed_state"] == []
    unknown = large.post("/user_state", {"user": f"nobody-{name}"})
    assert (unknown.status_code, unknown.json()) == (422, {"user": ["Unknown user"]})


@pytest.mark.promise("3.23", "3.24", "3.80", "3.81")
def test_channel_config(large, name):
    channels = [f"{name}-{number}" for number in range(4)]
    answer = large.call("/channel_config", {channel: {"store_history": True} for channel in channels})
    assert sorted(answer["channels"]) == channels
    assert answer["users"] == []
    large.say(channels[0], "kept")
    answer = large.call("/channel_config", {channels[0]: {"notify_presence": True}})["channels"][channels[0]]
    assert (answer["settings"]["store_history"], answer["settings"]["notify_presence"]) == (True, True)
    assert answer["history"] == []
    assert len(large.call("/info", {"channels": [channels[0]]})["channels"][channels[0]]["history"]) == 1


def test_the_api_describes_itself(small, helpers):
    signed = TimestampSigner(helpers.SECRET).sign("/openapi.json").decode()
    described = small.get(f"/openapi.json?secret={signed}").json()
    assert {"/connect", "/message", "/user_state", "/channel_config", "/openapi.json"} <= set(described["paths"])


@pytest.mark.promise("3.30", "4.11")
def test_who_connects_with_a_new_state_shows_it_on_every_channel(large, name, helpers):
    """Also on channels of other shards, which learn of the user's state only by being told."""
    user, channels = f"joe-{name}", [f"{name}-{number}" for number in range(8)]
    config = {"notify_presence": True, "broadcast_presence_with_user_lists": True, "notify_state": True}
    large.connect(user, *channels, user_state={"mood": "old"}, state_public_keys=["mood"])
    large.call("/channel_config", dict.fromkeys(channels, config))
    with large.websocket(large.connect(f"ann-{name}", *channels)) as ann:
        large.connect(user, user_state={"mood": "new"})
        large.connect(f"tom-{name}", *channels)
        told = helpers.receive(ann, len(channels))
    assert {one["type"] for one in told} == {"presence"}
    for one in told:
        assert {"user": user, "state": {"mood": "new"}} in one["users"]
