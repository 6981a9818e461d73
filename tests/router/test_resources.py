"""The resources: what of a request they look at, and the shapes of what they answer themselves."""

from __future__ import annotations

from typing import Any

import pytest

from channelstream import __version__
from channelstream.router.service import Service
from channelstream.wire.messages import Beat, GetStatus, ProcessStatus

ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
UNKNOWN = {"conn_id": ["Unknown connection"]}
REQUIRED = {"conn_id": ["Missing data for required field."]}
SHARD = {
    "role": "shard",
    "ready": True,
    "connections": 0,
    "channels": 0,
    "queue_bytes": 0,
    "version": "v",
    "counters": {},
}
MISSING = {
    "pid": None,
    "since": None,
    "ready": False,
    "connections": 0,
    "channels": 0,
    "queue_bytes": 0,
    "version": None,
    "counters": {},
}


def beat(shards: Any, role: str, ready: bool = True) -> None:
    """A router or edge reports in with every shard."""
    status = ProcessStatus(role, 0, 7, 1_700_000_000.0, "v", ready, 3, 2, 1)
    shards.tell_all(f"{role}-0:x", Beat("", status, {}))


# --- the calls ---


def test_every_call_is_answered_with_json(caller: Any) -> None:
    connected = caller.post("/connect", {"username": "ann", "conn_id": ID, "channels": ["a"]})
    subscribed = caller.post("/subscribe", {"conn_id": ID, "channels": ["b"]})
    unsubscribed = caller.post("/unsubscribe", {"conn_id": ID, "channels": ["a"]})
    published = caller.post("/message", [{"user": "ann", "channel": "b", "message": {}}])
    info = caller.post("/info")

    answers = [connected, subscribed, unsubscribed, published, info]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/json"}
    assert connected.json["conn_id"] == ID
    assert subscribed.json["subscribed_to"] == ["b"]
    assert unsubscribed.json["unsubscribed_from"] == ["a"]
    assert published.json[0]["user"] == "ann"
    assert info.json["channels"]["b"]["users"] == ["ann"]


@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
def test_the_id_may_stand_in_the_query(caller: Any, path: str) -> None:
    caller.post("/connect", {"username": "ann", "conn_id": ID, "channels": ["a"]})

    answer = caller.post(path, {"channels": ["a"]}, params={"conn_id": ID.upper()})

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
def test_an_unknown_connection_is_422(caller: Any, path: str) -> None:
    answer = caller.post(path, {"conn_id": ID, "channels": ["a"]})

    assert (answer.status_code, answer.json) == (422, UNKNOWN)


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/connect", {"conn_id": 5, "channels": ["", 3]}, ["channels.0", "channels.1", "conn_id", "username"]),
        ("/subscribe", {"channels": []}, ["channels", "conn_id"]),
        ("/unsubscribe", {}, ["channels", "conn_id"]),
        ("/message", [{"user": "ann", "message": {}}, {"channel": "a"}], ["0.channel", "1.message", "1.user"]),
        ("/info", {"info": {"include_users": 1, "channels": "a"}}, ["info.channels", "info.include_users"]),
    ],
)
def test_a_body_that_does_not_fit_names_every_wrong_field(
    caller: Any, path: str, body: object, fields: list[str]
) -> None:
    answer = caller.post(path, body)

    assert answer.status_code == 422
    assert sorted(answer.json) == fields
    assert all(isinstance(sentence, str) for sentences in answer.json.values() for sentence in sentences)


@pytest.mark.parametrize("path", ["/connect", "/subscribe", "/unsubscribe", "/message", "/info"])
def test_a_body_that_is_not_json_is_400_and_says_where(caller: Any, path: str) -> None:
    answer = caller.post(path, b'{"a": x}')

    assert answer.status_code == 400
    assert answer.json["error"].startswith("the body is not JSON: ")
    assert "byte 6" in answer.json["error"]


# --- /disconnect ---


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_disconnect_with_the_id_in_the_query(caller: Any, method: str) -> None:
    caller.post("/connect", {"username": "ann", "conn_id": ID})

    answers = [caller.bare(method, "/disconnect", params={"conn_id": ID}) for _ in range(2)]

    assert [(answer.status_code, answer.json) for answer in answers] == [(200, True), (200, False)]


def test_disconnect_with_the_id_in_the_body(caller: Any) -> None:
    caller.post("/connect", {"username": "ann", "conn_id": ID})

    assert caller.bare("POST", "/disconnect", json={"conn_id": ID}).json is True


def test_disconnect_of_a_beacon_whose_body_is_no_json(caller: Any) -> None:
    caller.post("/connect", {"username": "ann", "conn_id": ID})

    assert caller.bare("POST", "/disconnect", params={"conn_id": ID}, body=b"bye").json is True


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_disconnect_of_nobody_is_422(caller: Any, method: str) -> None:
    answer = caller.bare(method, "/disconnect")

    assert (answer.status_code, answer.json) == (422, REQUIRED)


def test_disconnect_of_what_is_no_id_is_422(caller: Any) -> None:
    answer = caller.bare("GET", "/disconnect", params={"conn_id": "nonsense"})

    assert answer.status_code == 422
    assert answer.json == {"conn_id": ["expected a UUID, got 'nonsense'"]}


def test_looking_with_head_disconnects_nobody(caller: Any) -> None:
    caller.post("/connect", {"username": "ann", "conn_id": ID})

    assert caller.bare("HEAD", "/disconnect", params={"conn_id": ID}).status_code == 405
    assert caller.bare("GET", "/disconnect", params={"conn_id": ID}).json is True


# --- /readyz and /healthz ---


def test_not_ready_while_a_process_is_missing(caller: Any, shards: Any) -> None:
    beat(shards, "router")

    answer = caller.bare("GET", "/readyz")

    assert (answer.status_code, answer.json) == (503, {"ready": False, "waiting_for": ["edge-0"]})


def test_not_ready_while_a_process_is_not_linked_to_all(caller: Any, shards: Any) -> None:
    beat(shards, "router", ready=False)
    beat(shards, "edge")

    assert caller.bare("GET", "/readyz").json == {"ready": False, "waiting_for": ["router-0"]}


def test_not_ready_while_a_shard_is_away(caller: Any, shards: Any) -> None:
    beat(shards, "router")
    beat(shards, "edge")
    shards.lose(GetStatus, at=1)

    assert caller.bare("GET", "/readyz").json == {"ready": False, "waiting_for": ["shard-1"]}


def test_ready_once_everybody_has_reported_in(caller: Any, shards: Any) -> None:
    beat(shards, "router")
    beat(shards, "edge")

    answer = caller.bare("GET", "/readyz")

    assert (answer.status_code, answer.json) == (200, {"ready": True, "waiting_for": []})


def test_health_shows_every_process(caller: Any, shards: Any) -> None:
    beat(shards, "router")
    shards.lose(GetStatus, at=2)
    moment = "1970-01-01T00:00:50.000000"

    answer = caller.bare("GET", "/healthz")

    assert answer.status_code == 200
    assert answer.json == {
        "version": __version__,
        "ready": False,
        "processes": [
            {
                "process": "router-0",
                "role": "router",
                "index": 0,
                "pid": 7,
                "since": "2023-11-14T22:13:20.000000",
                "ready": True,
                "connections": 3,
                "channels": 2,
                "queue_bytes": 1,
                "version": "v",
                "counters": {},
            },
            {"process": "shard-0", "index": 0, "pid": 100, "since": moment, **SHARD},
            {"process": "shard-1", "index": 1, "pid": 101, "since": moment, **SHARD},
            {"process": "shard-2", "role": "shard", "index": 2, **MISSING},
            {"process": "edge-0", "role": "edge", "index": 0, **MISSING},
        ],
    }


def test_health_answers_when_no_shard_does(caller: Any, shards: Any) -> None:
    shards.lose(GetStatus)

    answer = caller.bare("GET", "/healthz")

    assert answer.status_code == 200
    assert {process["pid"] for process in answer.json["processes"]} == {None}


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 503)])
def test_health_may_be_asked_with_head(caller: Any, path: str, status: int) -> None:
    answer = caller.bare("HEAD", path)

    assert (answer.status_code, answer.content) == (status, b"")


# --- faults of ours ---


def test_a_fault_of_ours_is_500_and_says_no_more(
    caller: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("inside")

    monkeypatch.setattr(Service, "info", fail)

    answer = caller.post("/info")

    assert (answer.status_code, answer.json) == (500, {"error": "internal error"})
    assert "POST /info failed" in caplog.text
    assert answer.headers["X-Request-Id"]
