"""The app as a whole: its routes, its request ids, and that every answer is JSON."""

from __future__ import annotations

from typing import Any

import pytest
from falcon.testing import StartResponseMock, create_environ

from channelstream.errors import HttpsRequired
from channelstream.http_reader import Request
from channelstream.router.app import Api
from channelstream.serving import REFUSED
from channelstream.wire.messages import GetChannels

# The validator that Falcon's client puts in between knows few methods.
pytestmark = pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")

SIGNED = ["/connect", "/subscribe", "/unsubscribe", "/user_state", "/messages", "/channel_config", "/info"]
ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"


# --- routes ---


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/message/", "//message", "///info", "/messages/1", "/Message", "/%2e%2e/etc", "/é"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PROPFIND"])
def test_an_unknown_path_is_404(caller: Any, method: str, path: str) -> None:
    answer = caller.bare(method, path)

    assert (answer.status_code, answer.json) == (404, {"error": "not found"})
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", SIGNED)
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "PROPFIND", "SEARCH", "PURGE", "FROB", "post"]
)
def test_an_unknown_method_is_405_and_says_which_are_known(caller: Any, method: str, path: str) -> None:
    answer = caller.bare(method, path)

    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    if method != "HEAD":
        assert answer.json == {"error": "method not allowed"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/disconnect", {"GET", "POST"}),
        ("/openapi.json", {"GET", "HEAD"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
    ],
)
def test_the_methods_of_the_other_paths(caller: Any, path: str, allowed: set[str]) -> None:
    refused, options = caller.bare("DELETE", path), caller.bare("OPTIONS", path)

    assert (refused.status_code, options.status_code) == (405, 200)
    assert set(refused.headers["Allow"].split(", ")) == {*allowed, "OPTIONS"}
    assert options.headers["Allow"] == refused.headers["Allow"]


def test_a_message_is_published_changed_and_deleted_under_one_path(caller: Any) -> None:
    refused = caller.bare("PUT", "/message")

    assert refused.status_code == 405
    assert set(refused.headers["Allow"].split(", ")) == {"POST", "PATCH", "DELETE", "OPTIONS"}
    assert caller.bare("PATCH", "/message").status_code == 403


def test_the_description_of_the_api_is_signed_for(caller: Any) -> None:
    assert caller.bare("GET", "/openapi.json").status_code == 403
    signed = caller.bare("GET", "/openapi.json", params={"secret": caller.signature("/openapi.json")})
    assert signed.json["openapi"].startswith("3.1")
    assert "/message" in signed.json["paths"]


def test_without_the_api_only_clients_and_operators_are_served(make_caller: Any) -> None:
    caller = make_caller(api=False)

    assert [caller.post(path).status_code for path in SIGNED] == [404] * len(SIGNED)
    described = caller.bare("GET", "/openapi.json", params={"secret": caller.signature("/openapi.json")})
    assert described.status_code == 404
    assert caller.bare("GET", "/disconnect", params={"conn_id": ID}).json is False
    assert caller.bare("GET", "/healthz").status_code == 200
    assert caller.bare("GET", "/readyz").status_code == 503


# --- X-Request-Id ---


def answers(caller: Any, headers: dict[str, str]) -> dict[int, Any]:
    """An answer of each kind."""
    calls = [
        caller.post("/info", headers=headers),
        caller.post("/info", b"nope", headers=headers),
        caller.bare("POST", "/info", headers={**headers, "X-Channelstream-Secret": "wrong"}),
        caller.bare("POST", "/info", headers=headers),
        caller.bare("GET", "/nowhere", headers=headers),
        caller.bare("GET", "/info", headers=headers),
        caller.post("/subscribe", {"conn_id": ID, "channels": ["a"]}, headers=headers),
        caller.bare("GET", "/readyz", headers=headers),
    ]
    return {answer.status_code: answer for answer in calls}


def test_the_callers_request_id_comes_back_on_every_answer(caller: Any) -> None:
    told = {status: one.headers["X-Request-Id"] for status, one in answers(caller, {"X-Request-Id": "r-1"}).items()}

    assert told == dict.fromkeys([200, 400, 401, 403, 404, 405, 422, 503], "r-1")


def test_without_one_each_answer_has_its_own(caller: Any) -> None:
    told = [one.headers["X-Request-Id"] for one in answers(caller, {}).values()]

    assert len(set(told)) == len(told) == 8


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, 'a"b', "a;b", "é"])
def test_one_that_could_break_a_log_line_is_replaced(caller: Any, given: str) -> None:
    told = caller.bare("GET", "/nowhere", headers={"X-Request-Id": given}).headers["X-Request-Id"]

    assert told == "00000000-0000-4000-8000-000000000001"


# --- errors ---


def test_every_error_is_json(caller: Any) -> None:
    for status, answer in answers(caller, {}).items():
        assert answer.headers["Content-Type"] == "application/json", status
        assert isinstance(answer.json, dict), status


def test_an_absent_shard_is_503_with_what_is_done_and_when_to_try_again(caller: Any, shards: Any) -> None:
    shards.lose(GetChannels, at=1)

    answer = caller.post("/info")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {
        "error": "no answer in time from shard 1: repeat the request",
        "done": ["GetChannels at shard 0", "GetChannels at shard 2"],
        "unknown": ["GetChannels at shard 1"],
    }
    assert answer.headers["X-Request-Id"]


def test_a_body_is_read_once_for_the_signature_and_the_call(make_caller: Any) -> None:
    caller = make_caller(signature_scope="request")

    assert caller.post("/connect", {"username": "ann", "channels": ["a"]}).json["channels"] == ["a"]


def test_a_body_is_no_longer_than_it_says(caller: Any) -> None:
    answer = caller.post("/info", b'{"channels": ["a"]}nope', headers={"Content-Length": "19"})

    assert answer.status_code == 200


# --- behind a proxy, and called by pages ---


@pytest.mark.parametrize("path", ["/", "/connect", "/nowhere", "/healthz"])
def test_where_https_is_enforced_nothing_is_answered_in_the_clear(make_caller: Any, path: str) -> None:
    caller = make_caller(enforce_https="true", trusted_proxies="127.0.0.1")

    assert caller.bare("GET", path).status_code == 406
    assert caller.bare("GET", path, headers={"X-Forwarded-Proto": "https"}).status_code != 406


def test_pages_may_call_what_clients_call_and_nothing_else(make_caller: Any) -> None:
    caller = make_caller(allow_cors="https://a.example")
    page, foreign = {"Origin": "https://a.example"}, {"Origin": "https://b.example"}

    assert caller.bare("GET", f"/disconnect?conn_id={ID}", headers=page).headers["Access-Control-Allow-Origin"]
    assert caller.bare("GET", "/disconnect", headers=page).headers["Access-Control-Allow-Origin"]
    preflight = caller.bare("OPTIONS", "/disconnect", headers=page).headers
    assert set(preflight["Access-Control-Allow-Methods"].split(", ")) == {"GET", "POST", "OPTIONS"}
    assert "Access-Control-Allow-Origin" not in caller.bare("OPTIONS", "/disconnect", headers=foreign).headers
    refused = caller.bare("POST", f"/disconnect?conn_id={ID}", headers=foreign)
    assert (refused.status_code, refused.json) == (403, {"error": "origin 'https://b.example' is not among allow_cors"})
    assert "Access-Control-Allow-Origin" not in caller.bare("OPTIONS", "/connect", headers=page).headers
    assert "Access-Control-Allow-Origin" not in caller.post("/info", headers=page).headers


def test_the_description_says_where_the_calls_are(make_caller: Any) -> None:
    def servers(**flags: str) -> Any:
        caller = make_caller(**flags)
        signed = {"secret": caller.signature("/openapi.json")}
        return caller.bare("GET", "/openapi.json", params=signed, headers={"Host": "push.example"}).json["servers"]

    assert servers() == [{"url": "/"}]
    assert servers(http_scheme="https") == [{"url": "https://push.example"}]


# --- the admin's numbers ---


def test_the_numbers_of_the_group_are_added_up_over_all_shards(caller: Any) -> None:
    channels = [f"room-{number}" for number in range(12)]
    for user in ("ann", "bob"):
        caller.post("/connect", {"username": user, "channels": channels})
    caller.post("/message", [{"user": "x", "channel": name, "message": {}} for name in channels])
    caller.post("/message", [{"user": "x", "pm_users": ["ann", "bob", "zoe"], "message": {}}])

    told = caller.post("/admin/admin.json").json
    got = caller.bare("GET", "/admin/admin.json", params={"secret": caller.signature("/admin/admin.json")}).json

    assert told == got
    assert sorted(told) == sorted(
        [
            "remembered_user_count",
            "unique_user_count",
            "total_connections",
            "total_channels",
            "total_messages",
            "total_unique_messages",
            "channels",
            "users",
            "uptime",
            "version",
        ]
    )
    assert (told["remembered_user_count"], told["unique_user_count"], told["total_connections"]) == (2, 2, 2)
    assert (told["total_channels"], sorted(told["channels"])) == (12, sorted(channels))
    assert (told["total_unique_messages"], told["total_messages"]) == (13, 26)
    assert [user["user"] for user in told["users"]] == ["ann", "bob"]
    assert all(len(user["connections"]) == 1 for user in told["users"])


def test_the_numbers_are_signed_for(caller: Any) -> None:
    assert caller.bare("GET", "/admin/admin.json").status_code == 403
    assert caller.bare("GET", "/admin/admin.json", params={"secret": "x"}).status_code == 401


# --- the quick way of calls that their body says all of ---


def answered(app: Api, path: str, body: bytes, headers: dict[str, str], quick: bool) -> tuple[str, Any, bytes]:
    """Status, headers and body of a POST, the quick way, as a server goes it, or Falcon's."""
    given = {"X-Request-Id": "r1", **headers}
    environ = create_environ(path, method="POST", body=body, headers=given, remote_addr="127.0.0.1")
    if quick:
        by_name = {name: value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))}
        try:
            made = app.quick(Request("POST", path, "", "HTTP/1.1", by_name, True, body), "127.0.0.1")
        except Exception as error:
            environ[REFUSED] = error
        else:
            if made is not None:
                lines = [line.split(": ") for line in made[0].decode().split("\r\n")[:-1]]
                return "200 OK", dict(lines), made[1]
    told = StartResponseMock()
    answer = b"".join(app(environ, told))
    heads = {name.lower(): value for name, value in told.headers if name.lower() != "content-length"}
    return told.status, heads, answer


def test_who_is_answered_quickly(caller: Any) -> None:
    signed = {"HTTP_X_CHANNELSTREAM_SECRET": caller.signature("/info")}
    app: Api = caller.client.app

    def is_quick(method: str, path: str, headers: dict[str, str]) -> bool:
        return app.quick(Request(method, path, "", "HTTP/1.1", headers, True, b"{}"), "127.0.0.1") is not None

    assert is_quick("POST", "/info", signed)
    assert not is_quick("GET", "/info", signed)
    assert not is_quick("POST", "/nowhere", signed)
    assert not is_quick("POST", "/subscribe", signed)
    assert not is_quick("POST", "/info", {})
    assert not is_quick("POST", "/info", {**signed, "HTTP_X_SCRIPT_NAME": "/chat"})


@pytest.mark.parametrize("proto", [None, "https"])
def test_https_is_enforced_on_the_quick_way_too(make_caller: Any, proto: str | None) -> None:
    caller = make_caller(enforce_https="true", trusted_proxies="127.0.0.1")
    headers = {"HTTP_X_CHANNELSTREAM_SECRET": caller.signature("/info")}
    if proto is not None:
        headers["HTTP_X_FORWARDED_PROTO"] = proto
    request = Request("POST", "/info", "", "HTTP/1.1", headers, True, b"{}")
    if proto is None:
        with pytest.raises(HttpsRequired):
            caller.client.app.quick(request, "127.0.0.1")
    else:
        assert caller.client.app.quick(request, "127.0.0.1") is not None


@pytest.mark.parametrize("path", ["/message", "/messages", "/connect", "/info", "/channel_config", "/user_state"])
@pytest.mark.parametrize(
    "body",
    [
        b'[{"user": "ann", "channel": "a", "message": {}, "uuid": "%b"}]' % b"3f2b1c9e-7d7f-4c2e-9a37-0123456789ab",
        b'{"username": "ann", "conn_id": "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab", "channels": ["a"]}',
        b'{"user": "ann", "user_state": {"a": 1}}',
        b'{"a": {"notify_presence": true}}',
        b'{"channels": []}',
        b"[]",
        b"{",
        b"",
    ],
)
@pytest.mark.parametrize("signed", ["well", "for another path", "badly", "not at all"])
def test_the_quick_way_answers_as_falcon_does(caller: Any, path: str, body: bytes, signed: str) -> None:
    signature = {"well": caller.signature(path), "for another path": caller.signature("/else"), "badly": "x.y.z"}
    headers = {"X-Channelstream-Secret": signature[signed]} if signed in signature else {}
    app = caller.client.app
    plain = answered(app, path, body, headers, quick=False)
    swift = answered(app, path, body, headers, quick=True)
    if path in ("/message", "/messages"):  # which have the time in them
        plain, swift = (plain[0], plain[1], plain[2][:60]), (swift[0], swift[1], swift[2][:60])
    assert swift == plain


@pytest.mark.parametrize("quick", [True, False])
def test_a_fault_of_ours_is_told_without_detail_either_way(caller: Any, quick: bool) -> None:
    app = caller.client.app

    def fail(body: bytes) -> bytes:
        raise RuntimeError("a secret of ours")

    for call in app._calls.values():
        call.answer = fail
    status, _, answer = answered(app, "/info", b"{}", {"X-Channelstream-Secret": caller.signature("/info")}, quick)
    assert (status, answer) == ("500 Internal Server Error", b'{"error":"internal error"}')
