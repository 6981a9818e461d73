"""Section 2 of docs/contract.md: signatures, and what is answered where a call is refused."""

from __future__ import annotations

import hashlib
import json
import os
import socket as sockets
import uuid

import pytest
import requests
from itsdangerous import Signer

CHECKER = '''
class Checker:
    """Takes the word that was agreed on, and wants to be told of the age."""

    def __init__(self, secret):
        self.expected = f"agreed on {secret}"

    def unsign(self, value, max_age=None):
        if value != self.expected or max_age != 60:
            raise ValueError(value)
        return None
'''


def send(group, path, signature=None, body="{}", method="POST", port=None, **headers):
    """A call with this signature and these headers."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if signature is not None:
        headers["X-Channelstream-Secret"] = signature
    url = f"http://127.0.0.1:{port or group.api_port}{path}"
    return requests.request(method, url, data=body, headers=headers, timeout=20)


def is_bad_signature(answer):
    return answer.status_code == 401 and answer.json()["request"] == "Bad Signature"


@pytest.fixture(scope="module")
def strict(helpers):
    """The scope `strict`, a short age, and one network with one address beside it, behind a proxy."""
    allowed = {"allow_posting_from": "10.1.0.0/16, 192.0.2.7", "trusted_proxies": "127.0.0.1"}
    with helpers.running(
        shards=1, edges=1, routers=1, signature_scope="strict", signature_max_age="20s", **allowed
    ) as group:
        yield group


@pytest.fixture(scope="module")
def loose(helpers):
    """All that can be allowed."""
    settings = {"signature_scope": "any", "validate_requests": "false"}
    allowed = {"allow_posting_from": "0.0.0.0", "trusted_proxies": "127.0.0.1"}
    with helpers.running(shards=1, edges=1, routers=1, **settings, **allowed) as group:
        yield group


@pytest.fixture(scope="module")
def bound(helpers):
    """The scope `request`."""
    with helpers.running(
        shards=2, edges=1, routers=1, signature_scope="request", signature_max_age="4s", secret=helpers.SECRET
    ) as group:
        yield group


# --- signatures ---


@pytest.mark.promise("2.1", "2.4")
def test_a_signature_in_the_header_or_in_the_url(small, helpers):
    signed = helpers.signature("/info")
    for port in (small.port, small.api_port):
        assert send(small, "/info", signed, port=port).status_code == 200
        assert send(small, f"/info?secret={signed}", port=port).status_code == 200
        assert is_bad_signature(send(small, f"/info?secret={signed}x", port=port))
        assert is_bad_signature(send(small, "/info", helpers.signature("/info", "another secret"), port=port))
        assert is_bad_signature(send(small, "/info", Signer(helpers.SECRET).sign("/info").decode(), port=port))


@pytest.mark.promise("2.2", "2.16")
def test_a_signature_grows_too_old(small, helpers, defaults):
    assert defaults["signature_max_age"] == 60
    assert send(small, "/info", helpers.signature("/info", age_s=50)).status_code == 200
    assert is_bad_signature(send(small, "/info", helpers.signature("/info", age_s=62)))


@pytest.mark.promise("2.2", "2.7")
def test_the_age_is_a_setting(strict, helpers):
    mine = {"X_Forwarded_For": "10.1.2.3"}
    assert send(strict, "/info", helpers.signature("/info", age_s=10), **mine).status_code == 200
    assert is_bad_signature(send(strict, "/info", helpers.signature("/info", age_s=22), **mine))


@pytest.mark.promise("2.3")
def test_the_age_may_be_left_unchecked(loose, helpers):
    assert send(loose, "/info", helpers.signature("/info", age_s=1_000_000)).status_code == 200
    assert is_bad_signature(send(loose, "/info", helpers.signature("/info", "another secret")))


@pytest.mark.promise("2.4", "2.5")
def test_a_path_is_signed_for_itself(small, helpers, defaults):
    assert defaults["signature_scope"] == "endpoint"
    for path, body in (("/info", "{}"), ("/message", "[]"), ("/channel_config", "{}")):
        assert send(small, path, helpers.signature(path), body).status_code == 200
        for other in {"/info", "/message", "/channel_config", "whatever", ""} - {path}:
            assert is_bad_signature(send(small, path, helpers.signature(other), body))


@pytest.mark.promise("2.6")
def test_the_word_of_older_clients_is_taken_with_one_warning(small, helpers):
    def warnings():
        return [line for line in small.lines if "signs the word channelstream" in line]

    for path, body in (("/info", "{}"), ("/message", "[]"), ("/channel_config", "{}")):
        assert send(small, path, helpers.signature("channelstream"), body).status_code == 200
    helpers.eventually(warnings, "it is in the log")
    assert is_bad_signature(send(small, "/info", "nonsense"))
    helpers.eventually(lambda: any("POST /info refused" in line for line in small.lines), "a later line is there")
    assert len(warnings()) == 1


@pytest.mark.promise("2.7")
def test_strict_takes_the_path_alone(strict, helpers):
    mine = {"X_Forwarded_For": "10.1.2.3"}
    assert send(strict, "/info", helpers.signature("/info"), **mine).status_code == 200
    for value in ("channelstream", "/message", "whatever"):
        assert is_bad_signature(send(strict, "/info", helpers.signature(value), **mine))


@pytest.mark.promise("2.8")
def test_any_takes_whatever_was_signed(loose, helpers):
    for value in ("/info", "channelstream", "/message", "whatever"):
        assert send(loose, "/info", helpers.signature(value)).status_code == 200


@pytest.mark.promise("2.9")
def test_a_named_endpoint_must_be_the_path(small, loose, helpers):
    for group in (small, loose):
        signed = helpers.signature("/info")
        assert send(group, "/info", signed).status_code == 200
        assert send(group, "/info", signed, X_Channelstream_Endpoint="/info").status_code == 200
        assert is_bad_signature(send(group, "/info", signed, X_Channelstream_Endpoint="/message"))


def bound_signature(helpers, method, path, body):
    return helpers.signature(f"{method} {path} {hashlib.sha256(body.encode()).hexdigest()} {uuid.uuid4()}")


@pytest.mark.promise("2.10")
def test_a_signature_is_bound_to_method_path_and_body(bound, helpers):
    body = json.dumps([{"uuid": str(uuid.uuid4()), "user": "joe", "channel": "c", "message": {}}])
    assert send(bound, "/message", bound_signature(helpers, "POST", "/message", body), body).status_code == 200
    assert (
        send(bound, "/message", bound_signature(helpers, "PATCH", "/message", body), body, "PATCH").status_code == 200
    )
    for method, path, other in (("PATCH", "/message", body), ("POST", "/messages", body), ("POST", "/message", "[]")):
        assert is_bad_signature(send(bound, "/message", bound_signature(helpers, method, path, other), body))
    for value in ("/message", "channelstream", "POST /message"):
        assert is_bad_signature(send(bound, "/message", helpers.signature(value), body))


@pytest.mark.promise("2.11", "2.16")
def test_a_signature_is_taken_once_by_all_processes(bound, helpers):
    signed = bound_signature(helpers, "POST", "/info", "{}")
    assert send(bound, "/info", signed).status_code == 200
    refusals = []

    def too_old():
        for port in (bound.api_port, bound.port):
            answer = send(bound, "/info", signed, port=port)
            assert is_bad_signature(answer)
            refusals.append(answer.text)
        return "s old" in refusals[-1]

    helpers.eventually(too_old, "it is refused for its age")
    assert len(set(refusals)) > 1, "before, it was refused as a replay"


@pytest.mark.promise("1.4", "1.8", "2.12", "2.15")
def test_only_some_addresses_may_call(strict, helpers):
    calls = [("POST", path) for path in ("/connect", "/message", "/info")] + [("GET", "/openapi.json")]
    for port in (strict.port, strict.api_port):
        for method, path in (*calls, ("GET", "/healthz"), ("GET", "/readyz")):
            signed = helpers.signature(path)
            for address in ("10.1.0.0", "10.1.255.255", "192.0.2.7"):
                assert send(strict, path, signed, "{}", method, port, X_Forwarded_For=address).status_code in (200, 422)
            for address in ("10.2.0.0", "192.0.2.8", "203.0.113.9"):
                refused = send(strict, path, signed, "{}", method, port, X_Forwarded_For=address)
                assert refused.status_code == 403
                assert address in refused.json()["error"]
            assert send(strict, path, signed, "{}", method, port).status_code == 403, "the proxy itself"


@pytest.mark.promise("1.5")
def test_a_client_may_come_from_anywhere(strict, helpers, name):
    signed, body = helpers.signature("/connect"), json.dumps({"username": "joe", "channels": [name]})
    conn_id = send(strict, "/connect", signed, body, X_Forwarded_For="10.1.2.3").json()["conn_id"]
    with strict.websocket(conn_id):
        pass
    third = send(strict, "/connect", signed, body, X_Forwarded_For="10.1.2.3").json()["conn_id"]
    url = f"http://127.0.0.1:{strict.port}/events?conn_id={third}"
    with requests.get(url, stream=True, timeout=helpers.PATIENCE_S) as events:
        assert events.status_code == 200
    other = send(strict, "/connect", signed, body, X_Forwarded_For="10.1.2.3").json()["conn_id"]
    message = json.dumps([{"user": "joe", "channel": name, "message": {"text": "hi"}}])
    send(strict, "/message", helpers.signature("/message"), message, X_Forwarded_For="10.1.2.3")
    assert helpers.texts(strict.listen(other).json()) == ["hi"]
    assert strict.get(f"/disconnect?conn_id={other}", strict.port).json() is True


@pytest.mark.promise("2.13")
def test_all_addresses_may_call(loose, helpers):
    for address in ("127.0.0.1", "203.0.113.9", "2001:db8::1"):
        assert send(loose, "/info", helpers.signature("/info"), X_Forwarded_For=address).status_code == 200


@pytest.mark.promise("2.14")
def test_a_checker_of_the_operators(helpers, tmp_path, monkeypatch):
    (tmp_path / "operators_checker.py").write_text(CHECKER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    with helpers.running(
        shards=1, edges=1, routers=1, signature_checker="operators_checker.Checker", secret="tea"
    ) as group:
        for port in (group.port, group.api_port):
            assert send(group, "/info", "agreed on tea", port=port).status_code == 200
            assert is_bad_signature(send(group, "/info", "agreed on coffee", port=port))
            assert is_bad_signature(send(group, "/info", helpers.signature("/info", "tea"), port=port))


# --- errors ---


@pytest.mark.promise("2.18")
@pytest.mark.parametrize(
    ("body", "where"), [('{"username": "joe",}', 19), ("[1, 2", 5), ('{"username": \xff}', 13), ("[1, x]", 4)]
)
def test_a_body_that_is_not_json_says_where(small, helpers, body, where):
    for port in (small.port, small.api_port):
        answer = send(small, "/connect", helpers.signature("/connect"), body.encode("latin-1"), port=port)
        assert answer.status_code == 400
        assert f"(byte {where})" in answer.json()["error"]


@pytest.mark.promise("2.19")
def test_every_wrong_field_is_named_by_its_path(small):
    answer = small.post(
        "/connect",
        {
            "username": 1,
            "channels": ["fine", 2, ""],
            "channel_configs": {"fine": {"history_size": -1, "notify_presence": "yes"}},
            "user_state": {"list": []},
            "info": {"include_users": 0},
        },
    )
    assert answer.status_code == 422
    wrong = answer.json()
    assert set(wrong) == {
        "username",
        "channels.1",
        "channels.2",
        "channel_configs.fine.history_size",
        "channel_configs.fine.notify_presence",
        "user_state.list",
        "info.include_users",
    }
    for sentences in wrong.values():
        assert sentences
        assert all(isinstance(sentence, str) and sentence for sentence in sentences)


@pytest.mark.promise("2.20")
def test_a_body_may_be_so_large(small, helpers, defaults):
    assert defaults["max_body"] == 4 * 1024 * 1024
    for port in (small.port, small.api_port):
        fits = b"{}".ljust(defaults["max_body"])
        assert send(small, "/info", helpers.signature("/info"), fits, port=port).status_code == 200
        refused = send(small, "/info", helpers.signature("/info"), fits + b" ", port=port)
        assert refused.status_code == 413
        assert "error" in refused.json()


@pytest.mark.promise("2.21")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/nope", 404),
        ("GET", "/message/1", 404),
        ("GET", "/message", 405),
        ("PUT", "/message", 405),
        ("DELETE", "/info", 405),
        ("POST", "/listen", 405),
        ("PATCH", "/disconnect", 405),
    ],
)
def test_no_such_path_and_no_such_method(small, helpers, method, path, status):
    answer = send(small, path, helpers.signature(path), method=method, port=small.port)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert "error" in answer.json()
    assert status == 404 or answer.headers["Allow"]


ERRORS = [
    ("POST", "/info", None, b"{", 403),
    ("POST", "/info", "nonsense", b"{}", 401),
    ("POST", "/info", "/info", b"{", 400),
    ("POST", "/connect", "/connect", b"{}", 422),
    ("PUT", "/info", "/info", b"{}", 405),
    ("GET", "/nope", None, b"", 404),
    ("GET", "/listen", None, b"", 401),
    ("GET", "/events", None, b"", 401),
    ("POST", "/events", None, b"", 405),
    ("GET", "/ws", None, b"", 426),
    ("GET", "/disconnect", None, b"", 422),
    ("GET", "/disconnect?conn_id=no", None, b"", 422),
    ("GET", "/openapi.json", None, b"", 403),
]


@pytest.mark.promise("2.23", "2.24")
@pytest.mark.parametrize(("method", "path", "signed", "body", "status"), ERRORS)
def test_every_error_is_json_and_has_a_request_id(small, helpers, method, path, signed, body, status):
    signature = helpers.signature(signed) if signed and signed.startswith("/") else signed
    for given in ("mine-1.2", None):
        headers = {} if given is None else {"X_Request_Id": given}
        answer = send(small, path, signature, body, method, small.port, **headers)
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/json"
        assert isinstance(answer.json(), dict)
        assert answer.headers["X-Request-Id"] == given or (given is None and uuid.UUID(answer.headers["X-Request-Id"]))


@pytest.mark.promise("2.23", "2.24")
def test_even_what_is_not_http_gets_json(small):
    for port in (small.port, small.api_port):
        with sockets.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b"this is not HTTP\r\n\r\n")
            with plain.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nx-request-id: " in head.lower()
        assert "error" in json.loads(body)


@pytest.mark.promise("2.24")
def test_a_websocket_begins_with_a_request_id(small, name):
    for _ in range(2):
        with small.websocket(small.connect("joe", name)) as socket:
            assert uuid.UUID(socket.response.headers["X-Request-Id"])


@pytest.mark.promise("2.24")
def test_what_went_well_has_a_request_id_too(small, helpers, name):
    conn_id = small.connect("joe", name)
    small.say(name, "hi")
    paths = [("POST", "/info"), ("GET", "/healthz"), ("GET", f"/listen?conn_id={conn_id}"), ("GET", "/disconnect")]
    for method, path in paths:
        path = f"{path}?conn_id={conn_id}" if path == "/disconnect" else path
        seen = set()
        for headers in ({"X_Request_Id": "mine"}, {}, {}):
            small.say(name, "hi")
            answer = send(small, path, helpers.signature(path), method=method, port=small.port, **headers)
            assert answer.status_code in (200, 401)
            seen.add(answer.headers["X-Request-Id"])
        assert "mine" in seen
        assert len(seen) == 3, "one of its own for each"
