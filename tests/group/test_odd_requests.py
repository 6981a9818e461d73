"""Hostile and odd requests to the real group: it refuses them in plain words, and goes on."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from itsdangerous import TimestampSigner

ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
BOTH_PORTS = pytest.mark.parametrize("port_name", ["port", "api_port"])
MAX_BODY = 4 * 1024 * 1024
DEEP = b"[" * 100_000 + b"]" * 100_000

WIDE = "😀"
"""One character outside of the Basic Multilingual Plane: four bytes in UTF-8, two units in JavaScript."""

MARKED = "e\u0301"
"""Two characters that are shown as one."""


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def told(self) -> Any:
        """The JSON of an error, which has the form that all errors of its status have."""
        assert self.headers["X-Request-Id"]
        assert self.headers["Content-Type"] == "application/json"
        told = self.json()
        if self.status == 422:
            assert told
            assert all(isinstance(wrong, list) and all(map(str.strip, wrong)) for wrong in told.values())
        elif "request" in told:
            assert (self.status, told["request"]) == (401, "Bad Signature")
        else:
            assert isinstance(told["error"], str)
        return told


def signature(path: str, secret: str = "a secret for tests", age_s: int = 0) -> str:
    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - age_s

    return Signer(secret).sign(path).decode()


def ask(port: int, method: str, target: str, body: bytes = b"", signed: bool = True, **headers: str | None) -> Answer:
    """One request. Underscores in the names of headers stand for hyphens; None leaves a header out."""
    sent: dict[str, str | None] = {"Content_Length": str(len(body)), **headers}
    if signed:
        sent.setdefault("X_Channelstream_Secret", signature(target.partition("?")[0]))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def post(group: Any, path: str, body: bytes | object) -> Answer:
    return ask(group.api_port, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())


def exchange(port: int, *parts: bytes) -> bytes:
    """All that comes back for these bytes, each part sent once something came back for those before it."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        received = b""
        for part in parts:
            client.sendall(part)
            received += client.recv(65536)
        while data := client.recv(65536):
            received += data
    return received


def head(method: str, path: str, *lines: str) -> bytes:
    signed = f"X-Channelstream-Secret: {signature(path)}"
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", signed, *lines, "", ""]).encode()


# --- errors: JSON, with a request id, on both ports ---


REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "no signature": (403, {"signed": False}),
    "nonsense for a signature": (401, {"X_Channelstream_Secret": "nonsense"}),
    "another secret": (401, {"X_Channelstream_Secret": signature("/message", "another")}),
    "signed for another path": (401, {"X_Channelstream_Secret": signature("/info")}),
    "another path in the header": (401, {"X_Channelstream_Endpoint": "/info"}),
    "no JSON": (400, {"body": b'[{"user": '}),
    "does not fit": (422, {"body": b"[{}]"}),
    "unknown path": (404, {"target": "/nowhere"}),
    "other case": (404, {"target": "/Message"}),
    "slash behind": (404, {"target": "/message/"}),
    "slashes in front": (404, {"target": "//message"}),
    "method that the path has not": (405, {"method": "GET"}),
    "method that nobody knows": (405, {"method": "FROB"}),
    "method in lower case": (405, {"method": "post"}),
    "unknown path and method": (404, {"method": "FROB", "target": "/nowhere"}),
}


@BOTH_PORTS
@pytest.mark.parametrize("case", REFUSED)
def test_every_error_is_json_and_carries_the_callers_request_id(small, port_name, case):
    status, given = REFUSED[case]
    request: dict[str, Any] = {"method": "POST", "target": "/message", "body": b"[]", **given}
    answer = ask(getattr(small, port_name), **request, X_Request_Id="r-1/a:b+c=d_e.f")
    assert answer.status == status
    assert answer.told()
    assert answer.headers["X-Request-Id"] == "r-1/a:b+c=d_e.f"
    if status == 401:
        assert answer.json()["request"] == "Bad Signature"
    if status == 405:
        assert answer.headers["Allow"].split(", ") == ["DELETE", "OPTIONS", "PATCH", "POST"]


def test_an_old_signature_is_refused(small):
    assert ask(small.port, "POST", "/info", X_Channelstream_Secret=signature("/info", age_s=30)).status == 200
    answer = ask(small.port, "POST", "/info", X_Channelstream_Secret=signature("/info", age_s=90))
    assert (answer.status, answer.told()["request"]) == (401, "Bad Signature")


@BOTH_PORTS
@pytest.mark.parametrize("path", ["/info", "/nowhere", "/message"])
@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "ä", '"', "a;b"])
def test_a_malformed_request_id_is_replaced(small, port_name, path, given):
    answer = ask(getattr(small, port_name), "POST", path, b"", X_Request_Id=given)
    assert answer.headers["X-Request-Id"] not in ("", given)
    assert str(uuid.UUID(answer.headers["X-Request-Id"])) == answer.headers["X-Request-Id"]


@BOTH_PORTS
@pytest.mark.parametrize("line", [f"Content-Length: {MAX_BODY + 1}", "Transfer-Encoding: chunked"])
def test_a_body_over_max_body_is_refused_before_it_has_come(small, port_name, line):
    begun = b"" if "Length" in line else b"%x\r\n" % (MAX_BODY + 1)
    request = head("POST", "/message", "X-Request-Id: r-5", line) + begun + b"["
    received = exchange(getattr(small, port_name), request)
    told, _, body = received.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nX-Request-Id: r-5" in told
    assert b"\r\nContent-Type: application/json" in told
    assert str(MAX_BODY) in json.loads(body)["error"]


def test_a_body_of_max_body_is_taken(small, name):
    start, end = b'[{"user": "joe", "channel": "%b", "message": {"text": "' % name.encode(), b'"}}]'
    body = start + b"x" * (MAX_BODY - len(start + end)) + end
    assert len(body) == MAX_BODY
    assert post(small, "/message", body).status == 200


@pytest.fixture(scope="module")
def strict(helpers: Any) -> Iterator[Any]:
    """A group that refuses what it can, behind a proxy."""
    with helpers.running(
        shards=1,
        edges=1,
        routers=1,
        enforce_https="true",
        trusted_proxies="127.0.0.1",
        allow_posting_from="127.0.0.1",
        signature_scope="request",
        ask_timeout=0.5,
    ) as group:
        yield group


def signed_request(path: str, body: bytes) -> str:
    return signature(f"POST {path} {hashlib.sha256(body).hexdigest()} {uuid.uuid4()}")


@BOTH_PORTS
def test_the_errors_of_a_strict_server(strict, port_name):
    port = getattr(strict, port_name)
    for given in ({}, {"X_Forwarded_Proto": "http"}, {"X_Forwarded_Proto": "https, http"}):
        answer = ask(port, "POST", "/info", X_Request_Id="r-2", **given)
        assert (answer.status, answer.told()) == (406, {"error": "https is required"})
        assert answer.headers["X-Request-Id"] == "r-2"
    proxied = {"X_Forwarded_Proto": "https", "X_Request_Id": "r-3"}
    foreign = ask(port, "POST", "/info", X_Forwarded_For="8.8.8.8", **proxied)
    assert (foreign.status, foreign.headers["X-Request-Id"]) == (403, "r-3")
    assert "8.8.8.8" in foreign.told()["error"]
    once = signed_request("/info", b"{}")
    first = ask(port, "POST", "/info", b"{}", X_Channelstream_Secret=once, **proxied)
    assert first.status == 200
    again = ask(port, "POST", "/info", b"{}", X_Channelstream_Secret=once, **proxied)
    assert (again.status, again.told()["request"]) == (401, "Bad Signature")
    other = ask(port, "POST", "/info", b"{ }", X_Channelstream_Secret=signed_request("/info", b"{}"), **proxied)
    assert (other.status, other.told()["request"]) == (401, "Bad Signature")


@BOTH_PORTS
def test_a_shard_that_does_not_answer_is_told_as_503(strict, port_name):
    # Health is asked for first: it is the shards that know it.
    health = ask(strict.api_port, "GET", "/healthz", X_Forwarded_Proto="https").json()["processes"]
    (pid,) = (one["pid"] for one in health if one["role"] == "shard")
    sent = str(uuid.uuid4())
    body = json.dumps([{"uuid": sent, "user": "joe", "channel": "c", "message": {}}]).encode()
    # The signature is claimed at a shard, too: what cannot be claimed is not taken.
    headers = {"X_Forwarded_Proto": "https", "X_Channelstream_Secret": signed_request("/message", body)}
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = ask(getattr(strict, port_name), "POST", "/message", body, X_Request_Id="r-4", **headers)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer.status == 503
    told = answer.told()
    assert told.keys() == {"error", "done", "unknown"}
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["X-Request-Id"] == "r-4"


# --- names and texts at their limits ---


@pytest.mark.parametrize("username", ["a" * 512, WIDE * 512, MARKED * 256, "\u0000", " ", "/", '"\\', "\u2028\u202e"])
def test_usernames_are_taken_up_to_512_characters(large, name, username):
    username = (name + username)[-512:] if len(username) < 512 else username
    conn_id = large.connect(username, name)
    large.call("/message", [{"user": username, "pm_users": [username], "message": {"text": username}}])
    (got,) = large.listen(conn_id).json()
    assert (got["user"], got["message"]["text"]) == (username, username)
    told = large.call("/info", {"channels": [name]})
    assert told["channels"][name]["users"] == [one["user"] for one in told["users"]] == [username]
    assert large.call("/user_state", {"user": username, "user_state": {username: username}})["changed_state"]


@pytest.mark.parametrize("channel", ["a" * 256, WIDE * 256, MARKED * 128, "\u0000", "c/u/k", "\u2028", "..", "%2f"])
def test_channels_are_taken_up_to_256_characters(large, name, channel):
    conn_id = large.connect("joe", channel, channel_configs={channel: {"store_history": True}})
    before = large.call("/info", {"channels": [channel]})["channels"][channel]["seq"]
    large.say(channel, name)
    (got,) = large.listen(conn_id).json()
    assert (got["channel"], got["seq"], got["message"]["text"]) == (channel, before + 1, name)
    assert large.call("/info", {"channels": [channel]})["channels"][channel]["history"][-1]["uuid"] == got["uuid"]
    assert large.call("/unsubscribe", {"conn_id": conn_id, "channels": [channel]})["unsubscribed_from"] == [channel]


def message(**more: object) -> list[dict[str, object]]:
    return [{"user": "joe", "channel": "c", "message": {}, **more}]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/connect", {"username": "a" * 513}, "username"),
        ("/connect", {"username": WIDE * 513}, "username"),
        ("/connect", {"username": MARKED * 256 + "a"}, "username"),
        ("/connect", {"username": ""}, "username"),
        ("/connect", {"username": 5}, "username"),
        ("/connect", {"username": None}, "username"),
        ("/connect", {"username": "a", "channels": ["c" * 257]}, "channels.0"),
        ("/connect", {"username": "a", "channels": [WIDE * 257]}, "channels.0"),
        ("/connect", {"username": "a", "channels": [""]}, "channels.0"),
        ("/connect", {"username": "a", "channels": [5]}, "channels.0"),
        ("/connect", {"username": "a", "conn_id": ""}, "conn_id"),
        ("/subscribe", {"conn_id": ID, "channels": []}, "channels"),
        ("/unsubscribe", {"conn_id": ID, "channels": []}, "channels"),
        ("/subscribe", {"conn_id": ID, "channels": ["c" * 257]}, "channels.0"),
        ("/unsubscribe", {"conn_id": ID, "channels": ["c" * 257]}, "channels.0"),
        ("/user_state", {"user": ""}, "user"),
        ("/user_state", {"user": 5}, "user"),
        ("/user_state", {"user": "a" * 513}, "user"),
        ("/channel_config", {"c" * 257: {}}, "c" * 257),
        ("/channel_config", {"": {}}, "_schema"),
        ("/info", {"channels": ["c" * 257]}, "channels.0"),
        ("/info", {"info": {"exclude_channels": [""]}}, "info.exclude_channels.0"),
        ("/disconnect", {"conn_id": ""}, "conn_id"),
        ("/message", message(user=""), "0.user"),
        ("/message", message(user=5), "0.user"),
        ("/message", message(user="a" * 513), "0.user"),
        ("/message", message(channel=""), "0.channel"),
        ("/message", message(channel="c" * 257), "0.channel"),
        ("/message", message(pm_users=[""]), "0.pm_users.0"),
        ("/message", message(pm_users=[5]), "0.pm_users.0"),
        ("/message", message(exclude_users=["a" * 513]), "0.exclude_users.0"),
        ("/message", message(channel=None, pm_users=[]), "0.channel"),
        ("/message", message(uuid=""), "0.uuid"),
        ("/message", message(timestamp=""), "0.timestamp"),
    ],
)
def test_what_is_too_long_or_empty_or_no_text_is_named(small, path, body, field):
    answer = post(small, path, body)
    assert answer.status == 422
    assert list(answer.told()) == [field]


@pytest.mark.parametrize("path", ["/connect", "/subscribe", "/unsubscribe", "/user_state", "/message", "/info"])
@pytest.mark.parametrize("root", [b"null", b"true", b"5", b'"text"', b"[[]]", b'{"a": ]'])
def test_a_root_of_the_wrong_type_is_told_in_the_words_of_older_servers(small, path, root):
    answer = post(small, path, root if path != "/message" or root != b"[[]]" else b"{}")
    if root == b'{"a": ]':
        assert (answer.status, list(answer.told())) == (400, ["error"])
    else:
        assert (answer.status, answer.told()) == (422, {"_schema": ["Invalid input type."]})


def test_what_is_missing_is_told_in_the_words_of_older_servers(small):
    missing = ["Missing data for required field."]
    assert post(small, "/connect", {}).told() == {"username": missing}
    assert post(small, "/subscribe", {}).told() == {"conn_id": missing, "channels": missing}
    told = post(small, "/message", [{"channel": "c"}, {"user": "a", "channel": "c"}]).told()
    assert told == {"0.user": missing, "0.message": missing, "1.message": missing}


def test_lists_and_objects_that_may_be_empty(small, name):
    for method, path in [("POST", "/message"), ("POST", "/messages"), ("PATCH", "/message"), ("DELETE", "/message")]:
        assert small.call(path, [], method) == []
    assert small.call("/channel_config", {}) == {"channels": {}, "users": []}
    conn_id = small.connect("joe-" + name, name, user_state={"a": 1, "": ""}, state_public_keys=["a"])
    assert name in small.call("/info", {"channels": []})["channels"]
    assert small.call("/info", {"info": {"channels": []}}) == {"channels": {}, "users": []}
    answer = small.call(
        "/connect", {"username": "joe-" + name, "conn_id": conn_id, "channels": [], "state_public_keys": []}
    )
    assert (answer["channels"], answer["channels_info"]) == ([name], {"channels": {}, "users": []})
    assert (answer["state"], answer["public_state"]) == ({"a": 1, "": ""}, {})


# --- much ---


def test_ten_thousand_channels_in_one_call_and_not_one_more(helpers, name):
    with helpers.running(shards=2, edges=1, routers=1) as group:
        channels = [f"{name}-{number:05}" for number in range(10_000)]
        answer = group.call("/connect", {"username": "joe", "channels": channels})
        assert answer["channels"] == channels
        assert len(answer["channels_info"]["channels"]) == 10_000
        refused = post(group, "/connect", {"username": "joe", "channels": [*channels, "one-more"]})
        assert (refused.status, list(refused.told())) == (422, ["channels"])
        assert "one-more" not in group.call("/info", {"info": {"include_users": False}})["channels"]
        assert group.call("/disconnect", {"conn_id": answer["conn_id"]}) is True


def test_a_message_of_a_mebibyte_arrives_whole(small, name, helpers):
    text = (name + WIDE) * 65536
    assert len(text.encode()) == 1024 * 1024
    conn_id = small.connect("joe", name)
    with small.websocket(conn_id) as client:
        small.say(name, text)
        (got,) = helpers.receive(client, 1)
        assert got["message"]["text"] == text
        small.say(name, "and on")
        assert helpers.texts(helpers.receive(client, 1)) == ["and on"]
    later = small.connect("joe", name)
    small.say(name, text)
    small.say(name, "and on")
    with small.websocket(later) as client:
        assert helpers.texts(helpers.receive(client, 2)) == [text, "and on"]
    polled = small.connect("joe", name)
    small.say(name, text)
    assert helpers.texts(small.listen(polled).json()) == [text]


# --- JSON that is none, or is at its limits ---


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/connect", DEEP),
        ("POST", "/connect", b'{"username": "a", "ignored": ' + DEEP + b"}"),
        ("POST", "/connect", b'{"username": "a", "ignored": ' + b"[" * 100_000),
        ("POST", "/connect", b'{"username": "a", "user_state": {"k": ' + DEEP + b"}}"),
        ("POST", "/info", DEEP),
        ("POST", "/channel_config", b'{"c": {"ignored": ' + DEEP + b"}}"),
        ("POST", "/disconnect", DEEP),
        ("POST", "/message", DEEP),
        ("POST", "/message", b'[{"user": "a", "channel": "c", "message": {"k": ' + DEEP + b"}}]"),
        ("POST", "/message", b'[{"user": "a", "channel": "c", "message": {}, "own": ' + DEEP + b"}]"),
        (
            "POST",
            "/message",
            b'[{"user": "a", "channel": "c", "message": ' + b'{"k":' * 100_000 + b"1" + b"}" * 100_002,
        ),
        ("PATCH", "/message", b'[{"uuid": "%b", "channel": "c", "own": ' % ID.encode() + DEEP + b"}]"),
        ("DELETE", "/message", b'[{"uuid": "%b", "channel": "c", "own": ' % ID.encode() + DEEP + b"}]"),
    ],
)
def test_what_is_nested_too_deeply_is_refused_and_everybody_lives_on(small, method, path, body):
    before = [one["pid"] for one in small.health()]
    for port in (small.port, small.api_port):
        answer = ask(port, method, path, body)
        assert answer.status == 400
        assert "nested too deeply" in answer.told()["error"]
    assert [one["pid"] for one in small.health()] == before


def test_what_is_nested_to_a_sensible_depth_travels_unchanged(small, name):
    nested: Any = "core"
    for _ in range(200):
        nested = {"k": [nested]}
    conn_id = small.connect("joe", name, channel_configs={name: {"store_history": True}})
    small.say(name, nested, own=nested)
    (got,) = small.listen(conn_id).json()
    assert got["message"]["text"] == got["own"] == nested
    assert small.call("/info", {"channels": [name]})["channels"][name]["history"][0]["own"] == nested


def unique_keys(members: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in members}) == len(members), members
    return dict(members)


def test_keys_that_come_twice_go_out_once(small, name):
    conn_id = small.connect("joe", name, channel_configs={name: {"store_history": True}})
    twice = (
        '[{"user": "a", "channel": "nowhere", "message": {"n": 1}, "own": 1, "type": "x", "seq": 5, "catchup": 1,'
        '"\\u0073eq": 6, "dat\\u0065": 1, "edited": 1, "epoch": 1,'
        '"us\\u0065r": "b", "channel": "CHANNEL", "message": {"n": 2}, "own": 2, "\\u006fwn": 3, "type": "y"}]'
    ).replace("CHANNEL", name)
    (taken,) = json.loads(post(small, "/message", twice.encode()).body, object_pairs_hook=unique_keys)
    edit = (
        '[{"uuid": "ID", "channel": "CHANNEL", "own": 4, "own": 5, "edited": null, "edit\\u0065d": null, "seq": 1,'
        '"uuid": "ID", "new": 1, "n\\u0065w": 2, "type": "x", "catchup": 1, "date": "x"}]'
    )
    edit = edit.replace("ID", taken["uuid"]).replace("CHANNEL", name)
    (got,) = json.loads(small.listen(conn_id).content, object_pairs_hook=unique_keys)
    (edited,) = json.loads(ask(small.api_port, "PATCH", "/message", edit.encode()).body, object_pairs_hook=unique_keys)
    assert (edited["own"], edited["new"]) == (5, 2)
    (changed,) = json.loads(small.listen(conn_id).content, object_pairs_hook=unique_keys)
    assert (got["type"], got["user"], got["channel"], got["message"]) == ("message", "b", name, {"n": 2})
    assert (got["own"], got["seq"], got["catchup"], got["edited"]) == (3, 1, True, None)
    assert got["date"] == got["timestamp"]
    assert "epoch" not in got
    assert (changed["type"], changed["own"], changed["new"]) == ("message:edit", 5, 2)
    answer = post(small, "/info", {"channels": [name]}).body
    (kept,) = json.loads(answer, object_pairs_hook=unique_keys)["channels"][name]["history"]
    assert (kept["type"], kept["own"], kept["new"], kept["message"]) == ("message", 5, 2, {"n": 2})


PLACES = {
    "state": ("/connect", b'{"username": "a", "user_state": {"k": VALUE}}'),
    "payload": ("/message", b'[{"user": "a", "channel": "c", "message": {"k": VALUE}}]'),
    "own key": ("/message", b'[{"user": "a", "channel": "c", "message": {}, "own": VALUE}]'),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"NaN", 400),
        (b"Infinity", 400),
        (b"-Infinity", 400),
        (b"1e999", 422),
        (b"-1e999", 422),
        (b"9" * 5000, 422),
        (b"01", 400),
        (b"+1", 400),
        (b"1.", 400),
        (b"0x10", 400),
        (b'"\\ud800"', 400),
        (b'"\\udfff"', 400),
        (b'"\\ud800\\ud800"', 400),
        (b'"\\udc00\\ud800 and more"', 400),
        (b'"\xed\xa0\x80"', 400),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', 400),
        (b'"\xff"', 400),
        (b'"\xc0\x80"', 400),
        (b'"\xf4\x90\x80\x80"', 400),
        (b'"\xe2\x82"', 400),
        (b'"\x00"', 400),
        (b'"\n"', 400),
        (b"'text'", 400),
        (b"1 /* one */", 400),
        (b"[1,]", 400),
        (b"undefined", 400),
        (b"", 400),
    ],
)
def test_numbers_and_texts_that_are_none(small, place, value, status):
    path, body = PLACES[place]
    answer = post(small, path, body.replace(b"VALUE", value))
    assert answer.status == status
    told = answer.told()
    if status == 422:
        assert "out of range" in str(told)
    else:
        assert told["error"].startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (b"-0", 0),
        (b"1E+2", 100.0),
        (b"1e-999", 0.0),
        (b"18446744073709551616", 2**64),
        (b"-" + b"9" * 30, -int("9" * 30)),
        (b"0.1000000000000000055511151231257827", 0.1),
        (b'"\\ud83d\\ude00"', WIDE),
        (b'"\\u0000\\u001f\\/\\u2028"', "\x00\x1f/\u2028"),
        ('"\u2028\ufeff\uffff\U0010ffff"'.encode(), "\u2028\ufeff\uffff\U0010ffff"),
        (b'"</script>"', "</script>"),
    ],
)
def test_numbers_and_texts_at_their_limits_travel(small, name, value, seen):
    conn_id = small.connect("joe", name)
    body = b'[{"user": "a", "channel": "%b", "message": {"k": VALUE}, "own": VALUE}]' % name.encode()
    assert post(small, "/message", body.replace(b"VALUE", value)).status == 200
    (got,) = small.listen(conn_id).json()
    assert got["message"]["k"] == got["own"] == seen


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_integers_of_a_state_have_64_bits(small, name, value):
    assert list(post(small, "/connect", {"username": "a", "user_state": {"k": value}}).told()) == ["user_state.k"]
    ends = {"low": -(2**63), "high": 2**63 - 1}
    assert small.call("/connect", {"username": name, "user_state": ends})["state"] == ends


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"username": "\\ud800"}', "surrogate"),
        (b'{"username": "\\ud800 and much more behind it"}', "surrogate"),
        (b'{"ignored": "\\ud800", "username": "a"}', "surrogate"),
        (b'{"username": "\xff"}', "UTF-8 (byte 14)"),
        (b'{"username": "a", "ignored": "\xff"}', "UTF-8 (byte 30)"),
        (b'\xef\xbb\xbf{"username": "a"}', "byte 0"),
        ('{"username": "a"}'.encode("utf-16"), "UTF-8 (byte 0)"),
        (b'{"username": "a"', "too early (byte 16)"),
        (b'{"username": "\\ud83d\\ude', "too early (byte 24)"),
        (b'{"username": "a"} {}', "byte 18"),
        (b"username=a", "byte 0"),
        (b" \r\n\t", "empty"),
    ],
)
def test_what_is_not_json_is_told_with_its_place(small, body, where):
    answer = post(small, "/connect", body)
    assert answer.status == 400
    assert where in answer.told()["error"]


# --- HTTP ---


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense", "a/b; charset=x"],
)
def test_the_content_type_does_not_matter(small, name, content_type):
    body = json.dumps({"username": "joe", "channels": [name]}).encode()
    for port in (small.port, small.api_port):
        assert ask(port, "POST", "/connect", body, Content_Type=content_type).json()["channels"] == [name]


@BOTH_PORTS
@pytest.mark.parametrize(
    "path", ["/connect", "/subscribe", "/unsubscribe", "/user_state", "/message", "/channel_config"]
)
@pytest.mark.parametrize("length", ["0", None])
def test_an_empty_body_is_no_json(small, port_name, path, length):
    answer = ask(getattr(small, port_name), "POST", path, Content_Length=length)
    assert (answer.status, answer.told()) == (400, {"error": "the body is not JSON: it is empty"})


def test_an_empty_body_where_it_is_none_that_is_needed(small, name):
    conn_id = small.connect("joe", name)
    assert name in ask(small.port, "POST", "/info").json()["channels"]
    assert list(ask(small.port, "POST", "/disconnect", signed=False).told()) == ["conn_id"]
    assert ask(small.port, "POST", f"/disconnect?conn_id={conn_id}", signed=False).json() is True


def test_a_body_in_chunks_with_trailers(small, name):
    body = json.dumps({"username": "joe", "channels": [name]}).encode()
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (1, body[at : at + 1]) for at in range(len(body)))
    for port in (small.port, small.api_port):
        for trailers in (b"", b"X-Checksum: 1\r\nX-Request-Id: from-the-trailer\r\n"):
            received = exchange(
                port, head("POST", "/connect", "Transfer-Encoding: chunked") + chunks + b"0\r\n" + trailers + b"\r\n"
            )
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b"from-the-trailer" not in received
            assert json.loads(received.partition(b"\r\n\r\n")[2])["channels"] == [name]


def test_a_signature_in_a_trailer_is_none(small):
    unsigned = b"POST /info HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailer = b"0\r\nX-Channelstream-Secret: " + signature("/info").encode() + b"\r\n\r\n"
    assert exchange(small.api_port, unsigned + trailer).startswith(b"HTTP/1.1 403 ")


@BOTH_PORTS
def test_who_asks_whether_to_go_on_is_told_to(small, port_name, name):
    body = json.dumps({"username": "joe", "channels": [name]}).encode()
    lines = ("Expect: 100-continue", f"Content-Length: {len(body)}")
    received = exchange(getattr(small, port_name), head("POST", "/connect", *lines), body)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@BOTH_PORTS
def test_who_asks_with_too_much_is_not_told_to_go_on(small, port_name):
    lines = ("Expect: 100-continue", f"Content-Length: {MAX_BODY + 1}")
    assert exchange(getattr(small, port_name), head("POST", "/connect", *lines)).startswith(b"HTTP/1.1 413 ")


@BOTH_PORTS
def test_requests_behind_one_another_are_answered_in_their_order(small, port_name, name):
    bodies = [json.dumps({"username": f"joe-{number}", "channels": [name]}).encode() for number in range(3)]
    requests = [
        head("POST", "/connect", f"Content-Length: {len(body)}").replace(b"Connection: close\r\n", b"") + body
        for body in bodies
    ]
    received = exchange(getattr(small, port_name), b"".join(requests) + head("GET", "/nowhere"))
    assert [received.find(b'"username":"joe-%d"' % number) > 0 for number in range(3)] == [True] * 3
    assert received.find(b'"joe-0"') < received.find(b'"joe-1"') < received.find(b'"joe-2"')
    assert received.count(b"HTTP/1.1 404 ") == 1


# --- methods ---


METHODS = {
    "/connect": {"POST"},
    "/subscribe": {"POST"},
    "/unsubscribe": {"POST"},
    "/user_state": {"POST"},
    "/message": {"POST", "PATCH", "DELETE"},
    "/messages": {"POST"},
    "/channel_config": {"POST"},
    "/info": {"POST"},
    "/disconnect": {"GET", "POST"},
    "/openapi.json": {"GET", "HEAD"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
}
CLIENTS = {"/ws": {"GET"}, "/listen": {"GET"}, "/events": {"GET"}}


@BOTH_PORTS
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get"]
)
def test_every_path_says_which_methods_it_has(small, port_name, method):
    known = METHODS if port_name == "api_port" else METHODS | CLIENTS
    for path, methods in known.items():
        if method in methods:
            continue
        answer = ask(getattr(small, port_name), method, path, signed=False)
        assert answer.status == (200 if method == "OPTIONS" else 405), path
        assert set(answer.headers["Allow"].split(", ")) == methods | {"OPTIONS"}, path
        assert answer.headers["X-Request-Id"]
        assert method in ("HEAD", "OPTIONS") or answer.told(), path


@BOTH_PORTS
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "QUERY"])
@pytest.mark.parametrize("path", ["/nowhere", "/message/", "/%00", "/%ff", "/..", "/*"])
def test_an_unknown_path_is_404_whatever_the_method(small, port_name, method, path):
    answer = ask(getattr(small, port_name), method, path)
    assert answer.status == 404
    assert answer.headers["X-Request-Id"]
    assert answer.body == b"" if method == "HEAD" else answer.told() == {"error": "not found"}


@BOTH_PORTS
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "get"])
def test_only_the_methods_of_disconnect_end_a_connection(small, port_name, name, method):
    conn_id = small.connect("joe", name)
    answer = ask(getattr(small, port_name), method, f"/disconnect?conn_id={conn_id}", signed=False)
    assert answer.status == (200 if method == "OPTIONS" else 405)
    assert small.call("/disconnect", {"conn_id": conn_id}) is True


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "DELETE"])
def test_only_get_takes_what_there_is_to_listen_to(small, name, method):
    conn_id = small.connect("joe", name)
    small.say(name, "still here")
    answer = ask(small.port, method, f"/listen?conn_id={conn_id}", signed=False)
    assert answer.status == (200 if method == "OPTIONS" else 405)
    assert b"still here" not in answer.body
    assert [one["message"]["text"] for one in small.listen(conn_id).json()] == ["still here"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
def test_only_get_opens_a_websocket(small, name, method, helpers):
    conn_id = small.connect("joe", name)
    with small.websocket(conn_id) as client:
        answer = ask(
            small.port,
            method,
            f"/ws?conn_id={conn_id}",
            signed=False,
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert answer.status == (200 if method == "OPTIONS" else 405)
        small.say(name, "not replaced")
        assert helpers.texts(helpers.receive(client, 1)) == ["not replaced"]


@BOTH_PORTS
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_is_get_without_the_body(small, port_name, path):
    got, told = (ask(getattr(small, port_name), method, path, signed=False) for method in ("GET", "HEAD"))
    assert (told.status, told.body) == (got.status, b"")
    assert told.headers["Content-Type"] == got.headers["Content-Type"]
    assert int(told.headers["Content-Length"]) > 0


# --- headers and queries ---

ODD_VALUES = ["", " ", ",", "\xff\xfe", "ä", "a" * 8000, "*", "null", "-1", "1e9", "NaN", "::1", "0.0.0.0", "https://"]
ODD_VALUES += ["//", "/..", "/%00", "a, b", "127.0.0.1, 127.0.0.1", '"', ";", "=", "9" * 400]
ODD_QUERIES = [
    "",
    "%",
    "%zz",
    "%00",
    "%ff",
    "%ed%a0%80",
    "%0d%0aX-Evil:1",
    "&&",
    "=",
    ID + "%00",
    "x" * 5000,
    "[]",
    "+",
]


@BOTH_PORTS
@pytest.mark.parametrize(
    "header",
    [
        "X_Channelstream_Secret",
        "X_Channelstream_Endpoint",
        "X_Forwarded_For",
        "X_Forwarded_Proto",
        "X_Script_Name",
        "X_Request_Id",
        "Origin",
        "Last_Event_ID",
        "Content_Type",
        "Accept",
        "Cookie",
        "Range",
        "Access_Control_Request_Method",
    ],
)
def test_no_value_of_a_header_is_too_odd(small, port_name, header):
    for value in ODD_VALUES:
        for method, target in [
            ("POST", "/info"),
            ("GET", "/disconnect?conn_id=x"),
            ("GET", "/listen?conn_id=x"),
            ("GET", "/events?conn_id=x"),
            ("OPTIONS", "/disconnect"),
        ]:
            answer = ask(getattr(small, port_name), method, target, **{header: value})
            assert answer.status < 500, (method, target, value)
            assert len(answer.headers.get_all("X-Request-Id")) == 1
            assert answer.status < 400 or answer.told()


@BOTH_PORTS
@pytest.mark.parametrize("key", ["conn_id", "secret", "callback", ""])
def test_no_query_is_too_odd(small, port_name, key):
    for value in ODD_QUERIES:
        for method, target in [
            ("GET", "/disconnect"),
            ("POST", "/disconnect"),
            ("POST", "/subscribe"),
            ("POST", "/info"),
            ("GET", "/listen"),
            ("GET", "/events"),
            ("GET", "/ws"),
        ]:
            answer = ask(getattr(small, port_name), method, f"{target}?{key}={value}", signed=False)
            assert 400 <= answer.status < 500 or answer.json() is False, (target, value)
            assert answer.headers["X-Evil"] is None
            assert answer.status < 400 or answer.told()
