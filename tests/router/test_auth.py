"""Who may call: addresses, https, and the matrix of signatures."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from channelstream.errors import ConfigError
from channelstream.signing import sign
from channelstream.wire.messages import Claim

BAD = {"request": "Bad Signature"}
INFO = "/info"
SCOPES = ["endpoint", "strict", "any", "request"]


def with_signature(signature: str, **more: str) -> dict[str, str]:
    """Headers."""
    return {"X-Channelstream-Secret": signature, **more}


# --- the signature ---


@pytest.mark.parametrize("scope", SCOPES)
def test_a_signed_call_is_taken_in_every_scope(make_caller: Any, scope: str) -> None:
    caller = make_caller(signature_scope=scope)

    assert caller.post(INFO, {"channels": []}).status_code == 200


@pytest.mark.parametrize("scope", SCOPES)
def test_a_call_without_a_signature_is_forbidden(make_caller: Any, scope: str) -> None:
    answer = make_caller(signature_scope=scope).bare("POST", INFO)

    assert answer.status_code == 403
    assert answer.json == {"error": "no signature: expected the header X-Channelstream-Secret"}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("signature", ["x", "a.b.c", "/info.aaaa.bbbb", "é", "x" * 5000])
def test_a_wrong_signature_is_refused(make_caller: Any, scope: str, signature: str) -> None:
    answer = make_caller(signature_scope=scope).bare("POST", INFO, params={"secret": signature})

    assert (answer.status_code, answer.json) == (401, BAD)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_signature_of_another_secret_is_refused(make_caller: Any, clock: Any, scope: str) -> None:
    signature = sign("another secret", INFO, clock().wall)

    answer = make_caller(signature_scope=scope).bare("POST", INFO, headers=with_signature(signature))

    assert (answer.status_code, answer.json) == (401, BAD)


def test_an_empty_signature_is_none(caller: Any) -> None:
    assert caller.bare("POST", INFO, headers=with_signature("")).status_code == 403


@pytest.mark.parametrize("scope", SCOPES)
def test_an_expired_signature_is_refused_with_a_hint_at_the_clocks(make_caller: Any, scope: str) -> None:
    caller = make_caller(signature_scope=scope)

    answer = caller.bare("POST", INFO, headers=with_signature(caller.signature(INFO, age_s=61)))

    assert answer.status_code == 401
    assert answer.json["request"] == "Bad Signature"
    assert "clock" in answer.json["hint"]


def test_a_signature_lives_as_long_as_the_settings_say(make_caller: Any) -> None:
    caller = make_caller(signature_max_age="10s")

    ages = {
        age: caller.bare("POST", INFO, headers=with_signature(caller.signature(INFO, age_s=age))) for age in (10, 11)
    }

    assert {age: answer.status_code for age, answer in ages.items()} == {10: 200, 11: 401}


def test_without_validation_an_old_signature_is_taken(make_caller: Any) -> None:
    caller = make_caller(validate_requests="false")

    answer = caller.bare("POST", INFO, headers=with_signature(caller.signature(INFO, age_s=1e6)))

    assert answer.status_code == 200


@pytest.mark.parametrize("scope", SCOPES)
def test_a_signature_may_stand_in_the_query(make_caller: Any, scope: str) -> None:
    caller = make_caller(signature_scope=scope)

    answer = caller.bare("POST", INFO, params={"secret": caller.signature(INFO)})

    assert answer.status_code == 200


def test_the_header_wins_over_the_query(caller: Any) -> None:
    answer = caller.bare("POST", INFO, headers=with_signature("wrong"), params={"secret": caller.signature(INFO)})

    assert answer.status_code == 401


@pytest.mark.parametrize(("scope", "expected"), [("endpoint", 401), ("strict", 401), ("any", 200), ("request", 401)])
def test_a_signature_of_another_path(make_caller: Any, clock: Any, scope: str, expected: int) -> None:
    caller = make_caller(signature_scope=scope)

    answer = caller.bare("POST", INFO, headers=with_signature(sign("s3", "/connect", clock().wall)))

    assert answer.status_code == expected


@pytest.mark.parametrize(("scope", "expected"), [("endpoint", 200), ("strict", 401), ("any", 200), ("request", 401)])
def test_the_word_that_older_clients_sign(make_caller: Any, clock: Any, scope: str, expected: int) -> None:
    caller = make_caller(signature_scope=scope)

    answer = caller.bare("POST", INFO, headers=with_signature(sign("s3", "channelstream", clock().wall)))

    assert answer.status_code == expected


def test_the_word_of_older_clients_is_warned_about_once(
    caller: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    signature = sign("s3", "channelstream", clock().wall)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            caller.bare("POST", INFO, headers=with_signature(signature))

    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("endpoint", "expected"), [(INFO, 200), ("/connect", 401)])
def test_the_endpoint_header_must_be_the_path(make_caller: Any, scope: str, endpoint: str, expected: int) -> None:
    caller = make_caller(signature_scope=scope)

    assert caller.post(INFO, headers={"X-Channelstream-Endpoint": endpoint}).status_code == expected


def test_a_refusal_is_logged_with_its_reason_which_the_caller_does_not_see(
    caller: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = caller.post(INFO, headers={"X-Channelstream-Endpoint": "/connect"})

    assert answer.json == BAD
    assert "X-Channelstream-Endpoint is '/connect', the path is '/info'" in caplog.text


def test_a_checker_of_the_operator(make_caller: Any) -> None:
    caller = make_caller(signature_checker=f"{__name__}.Sesame")

    assert caller.bare("POST", INFO, headers=with_signature("open sesame")).status_code == 200
    assert caller.post(INFO).status_code == 401


def test_a_checker_that_cannot_be_loaded_stops_the_start(make_caller: Any) -> None:
    with pytest.raises(ConfigError, match="signature_checker"):
        make_caller(signature_checker="no.such.Checker")


# --- a signature for one request ---


def test_a_signature_of_a_request_is_taken_once(make_caller: Any) -> None:
    caller = make_caller(signature_scope="request")

    answers = [caller.post(INFO, {"channels": ["a"]}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 401]
    assert answers[1].json["request"] == "Bad Signature"
    assert "nonce" in answers[1].json["hint"]


def test_with_nonces_the_same_request_is_taken_again(make_caller: Any) -> None:
    caller = make_caller(signature_scope="request")

    answers = [caller.bare("POST", INFO, headers=with_signature(caller.signature(INFO, nonce=nonce))) for nonce in "ab"]

    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_signature_binds_the_body(make_caller: Any) -> None:
    caller = make_caller(signature_scope="request")

    answer = caller.bare("POST", INFO, headers=with_signature(caller.signature(INFO, body=b"{}")), body=b"[]")

    assert (answer.status_code, answer.json) == (401, BAD)


def test_a_signature_binds_the_method(make_caller: Any) -> None:
    caller = make_caller(signature_scope="request")

    signature = caller.signature(INFO, method="PATCH")

    assert caller.bare("POST", INFO, headers=with_signature(signature)).status_code == 401


def test_a_refused_signature_claims_nothing(make_caller: Any, shards: Any) -> None:
    caller = make_caller(signature_scope="request")

    caller.bare("POST", INFO, headers=with_signature(caller.signature(INFO, age_s=61)))
    caller.bare("POST", INFO, headers=with_signature("x"))

    assert shards.asked == []


def test_the_other_scopes_claim_nothing(caller: Any, shards: Any) -> None:
    caller.post(INFO, {"channels": ["a"]})
    caller.post(INFO, {"channels": ["a"]})

    assert not any(isinstance(command, Claim) for step in shards.asked for _, command in step)


def test_a_claim_that_cannot_be_made_is_503_and_the_call_is_not_carried_out(make_caller: Any, shards: Any) -> None:
    caller = make_caller(signature_scope="request")
    shards.lose(Claim)

    answer = caller.post("/connect", {"username": "ann"})

    assert answer.status_code == 503
    assert shards.kinds_asked() == [["Claim"]]


def test_a_claim_is_kept_for_as_long_as_the_signature_would_be_taken(make_caller: Any, shards: Any, clock: Any) -> None:
    caller = make_caller(signature_scope="request")
    signature = caller.signature(INFO)
    told = []

    for _ in range(4):
        told.append(caller.bare("POST", INFO, headers=with_signature(signature)).json)
        shards.tick(clock.advance(20.5))

    assert "channels" in told[0]
    assert ["used before" in str(one) or "nonce" in str(one) for one in told[1:3]] == [True, True]
    assert "61 s old" in told[3]["hint"]


# --- addresses ---


@pytest.mark.parametrize(
    ("allowed", "address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", 200),
        ("127.0.0.1", "192.0.2.1", 403),
        ("192.0.2.0/24", "192.0.2.1", 200),
        ("192.0.2.0/24", "198.51.100.1", 403),
        ("0.0.0.0", "198.51.100.1", 200),
        ("::1", "::1", 200),
    ],
)
def test_the_callers_address_must_be_allowed(make_caller: Any, allowed: str, address: str, expected: int) -> None:
    caller = make_caller(allow_posting_from=allowed)

    answer = caller.post(INFO, remote_addr=address)

    assert answer.status_code == expected
    if expected == 403:
        assert answer.json == {"error": f"address {address} is not allowed to call the API"}


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("10.0.0.1", "192.0.2.7", 200),  # through our proxy
        ("10.0.0.1", "192.0.2.7, 10.0.0.2", 200),  # through two of them
        ("10.0.0.1", "192.0.2.7, 198.51.100.1", 403),  # a stranger claims to speak for somebody allowed
        ("198.51.100.1", "192.0.2.7", 403),  # a stranger without any proxy does
        ("192.0.2.7", None, 200),
        ("10.0.0.1", None, 403),  # the proxy itself is nobody who may call
    ],
)
def test_behind_trusted_proxies(make_caller: Any, remote: str, forwarded: str | None, expected: int) -> None:
    caller = make_caller(allow_posting_from="192.0.2.7", trusted_proxies="10.0.0.0/24")
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

    assert caller.post(INFO, headers=headers, remote_addr=remote).status_code == expected


def test_without_trusted_proxies_nobody_is_believed(make_caller: Any) -> None:
    caller = make_caller(allow_posting_from="192.0.2.7")

    answer = caller.post(INFO, headers={"X-Forwarded-For": "192.0.2.7"}, remote_addr="10.0.0.1")

    assert answer.status_code == 403


def test_an_address_that_is_refused_is_not_asked_for_a_signature(make_caller: Any, shards: Any) -> None:
    caller = make_caller(signature_scope="request", allow_posting_from="192.0.2.7")

    assert caller.post(INFO, remote_addr="198.51.100.1").status_code == 403
    assert shards.asked == []


def test_health_asks_for_the_address_alone(make_caller: Any) -> None:
    caller = make_caller(allow_posting_from="192.0.2.7")

    assert caller.bare("GET", "/healthz", remote_addr="192.0.2.7").status_code == 200
    assert caller.bare("GET", "/healthz", remote_addr="198.51.100.1").status_code == 403


def test_disconnect_is_for_whoever_knows_the_id(make_caller: Any) -> None:
    caller = make_caller(allow_posting_from="192.0.2.7")

    answer = caller.bare(
        "GET", "/disconnect", params={"conn_id": "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"}, remote_addr="198.51.100.1"
    )

    assert (answer.status_code, answer.json) == (200, False)


# --- https ---


@pytest.mark.parametrize(("scheme", "expected"), [("http", 406), ("https", 200)])
def test_https_where_it_is_enforced(make_caller: Any, scheme: str, expected: int) -> None:
    answer = make_caller(enforce_https="true").post(INFO, protocol=scheme)

    assert answer.status_code == expected
    if expected == 406:
        assert answer.json == {"error": "https is required"}


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("127.0.0.1", "https", 200),
        ("127.0.0.1", "HTTPS", 200),
        ("127.0.0.1", "http", 406),
        ("127.0.0.1", "https, http", 406),  # the last one to speak is the proxy that we trust
        ("192.0.2.1", "https", 406),
    ],
)
def test_a_trusted_proxy_says_what_the_caller_used(
    make_caller: Any, remote: str, forwarded: str, expected: int
) -> None:
    caller = make_caller(enforce_https="true", trusted_proxies="127.0.0.1", allow_posting_from="0.0.0.0")

    answer = caller.post(INFO, headers={"X-Forwarded-Proto": forwarded}, remote_addr=remote)

    assert answer.status_code == expected


def test_without_a_trusted_proxys_word_the_connection_itself_counts(make_caller: Any) -> None:
    caller = make_caller(enforce_https="true", trusted_proxies="127.0.0.1")

    assert caller.post(INFO, protocol="https").status_code == 200


def test_https_is_for_clients_too(make_caller: Any) -> None:
    answer = make_caller(enforce_https="true").bare("GET", "/disconnect", params={"conn_id": "x"})

    assert answer.status_code == 406


# --- what is asked of nobody ---


@pytest.mark.parametrize("path", ["/connect", "/subscribe", "/unsubscribe", "/message", "/info"])
def test_options_and_a_wrong_method_need_no_signature(caller: Any, path: str) -> None:
    options, get = caller.bare("OPTIONS", path), caller.bare("GET", path)

    assert (options.status_code, get.status_code) == (200, 405)


class Sesame:
    """A `signature_checker` of an operator: takes only "open sesame", which stands for /info."""

    def __init__(self, secret: str) -> None:
        assert secret == "s3"

    def unsign(self, value: str, max_age: int | None = None) -> str:
        """What was signed. Raises to refuse."""
        if value != "open sesame":
            raise ValueError("no sesame")
        return INFO
