"""Sections 1 to 3 of docs/contract.md: what pages of other origins may do, and what a proxy tells."""

from __future__ import annotations

import http.client
import json

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

PAGE, STRANGER = "https://example.com", "https://example.com.evil.net"
METHODS = {"/ws": {"GET"}, "/listen": {"GET"}, "/events": {"GET"}, "/disconnect": {"GET", "POST"}}


@pytest.fixture(scope="module")
def listed(helpers):
    """Where pages of two origins are welcome."""
    with helpers.running(shards=1, edges=1, routers=1, allow_cors=f"{PAGE}, http://localhost:3000") as group:
        yield group


def from_page(group, origin, path, conn_id=None, method="GET", **more):
    url = f"http://127.0.0.1:{group.port}{path}" + (f"?conn_id={conn_id}" if conn_id else "")
    return requests.request(method, url, headers={"Origin": origin}, timeout=20, stream=path == "/events", **more)


def heard(group, name):
    """A connection for which something waits, so that a poll is answered soon."""
    conn_id = group.connect("joe", name)
    group.say(name, "hi")
    return conn_id


@pytest.mark.promise("1.13", "3.95")
@pytest.mark.parametrize("path", ["/listen", "/events", "/disconnect"])
def test_all_pages_are_welcome_without_a_list(small, name, path):
    for conn_id in (heard(small, name), None):
        with from_page(small, STRANGER, path, conn_id) as answer:
            assert answer.status_code == 200 if conn_id else answer.status_code in (401, 422)
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.promise("1.13", "3.95")
@pytest.mark.parametrize("path", ["/listen", "/events", "/disconnect"])
def test_pages_of_the_list_are_welcome(listed, name, path):
    for origin in (PAGE, "http://localhost:3000"):
        for conn_id in (heard(listed, name), None):
            with from_page(listed, origin, path, conn_id) as answer:
                assert answer.status_code == 200 if conn_id else answer.status_code in (401, 422)
                assert answer.headers["Access-Control-Allow-Origin"] == origin
                assert answer.headers["Access-Control-Allow-Credentials"] == "true"
                assert answer.headers["Vary"] == "Origin"


@pytest.mark.promise("1.13", "3.95")
@pytest.mark.parametrize("origin", [STRANGER, "http://example.com", "https://example.com:8443", "null"])
def test_other_pages_may_read_nothing(listed, name, origin, helpers):
    conn_id = heard(listed, name)
    for path in METHODS:
        with from_page(listed, origin, path, None if path == "/disconnect" else conn_id) as answer:
            assert answer.status_code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert answer.headers["Vary"] == "Origin"
    assert helpers.texts(listed.listen(conn_id).json()) == ["hi"], "nothing was taken"


@pytest.mark.promise("1.13")
def test_websockets_of_pages(small, listed, name, helpers):
    for group, origins in ((small, [STRANGER, None]), (listed, [PAGE, f"http://127.0.0.1:{listed.port}", None])):
        for origin in origins:
            conn_id = heard(group, name)
            url = f"ws://127.0.0.1:{group.port}/ws?conn_id={conn_id}"
            with open_websocket(url, origin=origin) as socket:
                assert helpers.texts(helpers.receive(socket, 1)) == ["hi"]
    conn_id = heard(listed, name)
    url = f"ws://127.0.0.1:{listed.port}/ws?conn_id={conn_id}"
    with pytest.raises(InvalidStatus) as refused:
        open_websocket(url, origin=STRANGER)
    assert refused.value.response.status_code == 403
    assert helpers.texts(listed.listen(conn_id).json()) == ["hi"], "it has not lost its connection"


@pytest.mark.promise("1.13", "3.95")
@pytest.mark.parametrize("path", METHODS)
def test_browsers_may_ask_before(small, listed, path):
    for group, origin, allowed in ((small, STRANGER, "*"), (listed, PAGE, PAGE), (listed, STRANGER, None)):
        answer = from_page(group, origin, path, method="OPTIONS")
        assert answer.status_code == 200
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        methods = answer.headers.get("Access-Control-Allow-Methods", "")
        assert {method.strip() for method in methods.split(",")} >= (METHODS[path] if allowed else set())
        assert allowed or not methods


@pytest.mark.promise("1.13")
@pytest.mark.parametrize("path", ["/message", "/info", "/healthz", "/openapi.json"])
def test_no_page_may_call_the_api(small, listed, path):
    for group, origin in ((small, STRANGER), (listed, PAGE)):
        for method in ("OPTIONS", "GET", "POST"):
            assert "Access-Control-Allow-Origin" not in from_page(group, origin, path, method=method).headers


# --- proxies ---


@pytest.mark.promise("1.14")
def test_a_prefix_is_taken_off(small, name, helpers):
    mounted = {"X-Script-Name": "/push"}
    signed = {"X-Channelstream-Secret": helpers.signature("/connect")}
    for port in (small.port, small.api_port):
        for path, status in (("/push/connect", 200), ("/connect", 200), ("/pushed/connect", 404)):
            body = json.dumps({"username": "joe", "channels": [name]})
            url = f"http://127.0.0.1:{port}{path}"
            answer = requests.post(url, data=body, headers={**mounted, **signed}, timeout=20)
            assert answer.status_code == status
    conn_id = heard(small, name)
    url = f"http://127.0.0.1:{small.port}/push/listen?conn_id={conn_id}"
    assert helpers.texts(requests.get(url, headers=mounted, timeout=20).json()) == ["hi"]
    assert requests.get(url, timeout=20).status_code == 404
    url = f"ws://127.0.0.1:{small.port}/push/ws?conn_id={conn_id}"
    with open_websocket(url, additional_headers=mounted) as socket:
        small.say(name, "more")
        assert helpers.texts(helpers.receive(socket, 1)) == ["more"]


@pytest.mark.promise("2.17")
def test_https_is_required_on_every_path(helpers, name):
    """A proxy on 127.0.0.2 is believed, whoever comes from 127.0.0.1 is not."""
    settings = {"enforce_https": "true", "trusted_proxies": "127.0.0.2", "allow_posting_from": "127.0.0.0/8"}
    with helpers.running(shards=1, edges=1, routers=1, **settings) as group:

        def ask(path, port, source="127.0.0.1", method="GET", body=None, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
            headers = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body, {"Connection": "close", **headers})
            answer = connection.getresponse()
            told = answer.status, json.loads(answer.read() or b"{}")
            connection.close()
            return told

        paths = ["/info", "/connect", "/message", "/disconnect", "/healthz", "/readyz", "/openapi.json", "/nope", "/"]
        for port in (group.port, group.api_port):
            for path in (*paths, *(["/ws", "/listen", "/events"] if port == group.port else [])):
                for headers in ({}, {"X_Forwarded_Proto": "https"}):
                    status, told = ask(path, port, **headers)
                    assert (status, list(told)) == (406, ["error"]), path
                assert ask(path, port, "127.0.0.2", X_Forwarded_Proto="http")[0] == 406
            body = json.dumps({"username": "joe", "channels": [name]})
            signed = {"X_Channelstream_Secret": helpers.signature("/connect"), "X_Forwarded_Proto": "https"}
            status, told = ask("/connect", port, "127.0.0.2", "POST", body, **signed)
            assert (status, told["username"]) == (200, "joe")
            assert ask("/nope", port, "127.0.0.2", X_Forwarded_Proto="https")[0] == 404
        assert ask("/listen", group.port, "127.0.0.2", X_Forwarded_Proto="https")[0] == 401
