"""Section 1 of docs/contract.md: who talks to whom."""

from __future__ import annotations

import json
import re
import uuid

import pytest
import requests

BACKEND = [
    ("POST", "/connect"),
    ("POST", "/subscribe"),
    ("POST", "/unsubscribe"),
    ("POST", "/user_state"),
    ("POST", "/message"),
    ("POST", "/messages"),
    ("POST", "/channel_config"),
    ("POST", "/info"),
    ("PATCH", "/message"),
    ("DELETE", "/message"),
]


def ask(group, method, path, port=None, **more):
    """A call without a signature."""
    return requests.request(method, f"http://127.0.0.1:{port or group.port}{path}", timeout=20, **more)


@pytest.mark.promise("1.2")
def test_a_client_receives_with_the_conn_id_of_its_backend(small, name, helpers):
    conn_id = small.call("/connect", {"username": "joe", "channels": [name]})["conn_id"]
    with small.websocket(conn_id) as socket:
        small.say(name, "by websocket")
        assert helpers.texts(helpers.receive(socket, 1)) == ["by websocket"]
    conn_id = small.call("/connect", {"username": "joe", "channels": [name]})["conn_id"]
    small.say(name, "by poll")
    assert helpers.texts(small.listen(conn_id).json()) == ["by poll"]


@pytest.mark.promise("1.3", "4.26")
def test_what_a_client_sends_reaches_nobody(small, name, helpers):
    message = json.dumps([{"type": "message", "user": "joe", "channel": name, "message": {"text": "psst"}}])
    conn_id = small.connect("joe", name)
    with small.websocket(small.connect("ann", name)) as ann, small.websocket(conn_id) as joe:
        joe.send(message)
        joe.send(message.encode())
        assert joe.ping().wait(helpers.PATIENCE_S), "it has read what came before"
        for path in ("/ws", "/listen", "/events"):
            assert ask(small, "POST", f"{path}?conn_id={conn_id}", data=message).status_code in (405, 426)
        assert ask(small, "POST", f"/message?conn_id={conn_id}", data=message).status_code == 403
        small.say(name, "end")
        for socket in (ann, joe):
            (only,) = helpers.receive(socket, 1)
            assert (only["message"]["text"], only["seq"]) == ("end", 1)


@pytest.mark.promise("1.4", "1.9", "1.11", "2.15")
@pytest.mark.parametrize(("method", "path"), BACKEND)
def test_a_backends_call_needs_a_signature(small, method, path):
    for port in (small.port, small.api_port):
        unsigned = ask(small, method, path, port, data="{}")
        assert unsigned.status_code == 403
        assert "signature" in unsigned.json()["error"]
        signed = small.post(path, {"user": 1, "conn_id": 1}, port, method)
        assert signed.status_code in (200, 422), "it is looked at"


@pytest.mark.promise("1.5", "1.9")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_needs_a_conn_id_and_nothing_else(small, name, method, helpers):
    conn_id = small.connect("joe", name)
    with small.websocket(conn_id) as socket:
        small.say(name, "hi")
        assert helpers.texts(helpers.receive(socket, 1)) == ["hi"]
    other = small.connect("joe", name)
    small.say(name, "hi")
    assert ask(small, "GET", f"/listen?conn_id={other}").status_code == 200
    with ask(small, "GET", f"/events?conn_id={other}", stream=True) as events:
        assert events.status_code == 200
    assert ask(small, method, f"/disconnect?conn_id={other}").json() is True
    for path in ("/listen", "/events"):
        assert ask(small, "GET", path).status_code == 401
        assert ask(small, "GET", f"{path}?conn_id={uuid.uuid4()}").status_code == 401
    assert ask(small, method, f"/disconnect?conn_id={uuid.uuid4()}").json() is False


@pytest.mark.promise("1.6", "1.9")
def test_the_description_answers_to_a_signature(small, helpers):
    for port in (small.port, small.api_port):
        assert ask(small, "GET", "/openapi.json", port).status_code == 403
        signed = {"X-Channelstream-Secret": helpers.signature("/openapi.json")}
        described = ask(small, "GET", "/openapi.json", port, headers=signed)
        assert described.status_code == 200
        assert set(described.json()["paths"]) >= {path for _, path in BACKEND}


@pytest.mark.promise("1.6", "1.9")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_numbers_answer_to_a_signature(large, name, helpers, method):
    path, user = "/admin/admin.json", f"joe-{name}"
    signed = {"X-Channelstream-Secret": helpers.signature(path)}

    def numbers(port):
        answer = ask(large, method, path, port, headers=signed)
        assert answer.status_code == 200
        return answer.json()

    before = numbers(large.port)
    channels = [f"{name}-{number}" for number in range(9)]
    large.connect(user, *channels)
    large.connect(user, *channels)
    for channel in channels:
        large.say(channel, "hi")
    for port in (large.port, large.api_port):
        assert ask(large, method, path, port).status_code == 403
        after = numbers(port)
        grown = {key: after[key] - before[key] for key in after if isinstance(after[key], int)}
        assert grown == {
            "remembered_user_count": 1,
            "unique_user_count": 1,
            "total_connections": 2,
            "total_channels": 9,
            "total_messages": 18,
            "total_unique_messages": 9,
        }
        assert set(after) == {*grown, "channels", "users", "uptime", "version"}
        assert set(channels) <= set(after["channels"])
        assert user in [one["user"] for one in after["users"]]
        assert re.fullmatch(r"(\d+ days?, )?\d+:\d\d:\d\d", after["uptime"])


@pytest.mark.promise("1.8", "1.9", "1.11")
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_signature(small, path):
    for port in (small.port, small.api_port):
        assert ask(small, "GET", path, port).status_code == 200


@pytest.mark.promise("1.10", "1.11")
def test_default_ports(defaults):
    assert defaults["port"] == 8000
    assert (defaults["api_host"], defaults["api_port"]) == ("127.0.0.1", 8001)
    assert defaults["public_api"] is True
