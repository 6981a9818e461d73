"""Signatures: the real itsdangerous makes them, ours accepts or refuses them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import itsdangerous
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channelstream.errors import ConfigError, SignatureRefused
from channelstream.signing import (
    MAX_AHEAD_S,
    MAX_SIGNATURE_CHARS,
    REMEMBERED_SIGNATURES,
    Scope,
    Verified,
    Verifier,
    load_checker,
    sign,
    value_to_sign,
)

SECRET = "a secret of some length"
NOW = 1_700_000_000.0
BODY = b'[{"user": "a"}]'


class SignerAt(itsdangerous.TimestampSigner):
    """The library's own signer, as a caller would use it, at a time of our choice."""

    def __init__(self, secret: str | bytes, now: float = NOW) -> None:
        super().__init__(secret)
        self.now = int(now)

    def get_timestamp(self) -> int:
        return self.now


def signed(value: str | bytes, now: float = NOW, secret: str | bytes = SECRET) -> str:
    return SignerAt(secret, now).sign(value).decode()


def verify(
    signature: str,
    scope: Scope = "endpoint",
    *,
    path: str = "/message",
    method: str = "POST",
    body: bytes = BODY,
    endpoint: str | None = None,
    now: float = NOW,
    max_age_s: int | None = 60,
    secret: str | bytes = SECRET,
    checker: Callable[[Any], Any] | None = None,
) -> Verified:
    return Verifier(secret, scope, max_age_s, checker).verify(signature, method, path, body, endpoint, now)


def refusal_of(signature: str, scope: Scope = "endpoint", **options: Any) -> SignatureRefused:
    with pytest.raises(SignatureRefused) as caught:
        verify(signature, scope, **options)
    return caught.value


def test_a_signature_of_the_real_library_is_accepted() -> None:
    real = itsdangerous.TimestampSigner(SECRET)
    signature = real.sign("/message").decode()
    assert verify(signature, now=real.get_timestamp()) == Verified(False, None, 0.0)


def test_the_real_library_accepts_ours() -> None:
    assert SignerAt(SECRET).unsign(sign(SECRET, "/message", NOW), max_age=60) == b"/message"
    assert sign(SECRET, "/message", NOW) == signed("/message")


def test_without_a_time_the_machine_s_clock_is_used() -> None:
    assert itsdangerous.TimestampSigner(SECRET).unsign(sign(SECRET, "/info"), max_age=60) == b"/info"


@pytest.mark.parametrize("secret", [b"bytes", "str", "ünïcode", b"\xff\x00"])
def test_secrets_are_text_or_bytes(secret: str | bytes) -> None:
    assert not verify(signed("/message", secret=secret), secret=secret).legacy


def test_text_and_bytes_of_one_secret_are_the_same() -> None:
    assert not verify(signed("/message", secret=b"xyz"), secret="xyz").legacy


@pytest.mark.parametrize(
    ("scope", "value", "legacy"),
    [
        ("endpoint", "/message", False),
        ("endpoint", "channelstream", True),
        ("strict", "/message", False),
        ("any", "/message", False),
        ("any", "/connect", False),
        ("any", "whatever.with.dots", False),
        ("any", "", False),
        ("any", "channelstream", False),
    ],
)
def test_what_each_scope_accepts(scope: Scope, value: str, legacy: bool) -> None:
    assert verify(signed(value), scope) == Verified(legacy, None, 0.0)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("endpoint", "/connect"),
        ("endpoint", "/messages"),
        ("endpoint", "/Message"),
        ("endpoint", ""),
        ("endpoint", "Channelstream"),
        ("strict", "channelstream"),
        ("strict", "/connect"),
        ("request", "/message"),
        ("request", "channelstream"),
    ],
)
def test_what_each_scope_refuses(scope: Scope, value: str) -> None:
    assert repr(value)[1:-1] in refusal_of(signed(value), scope).reason


@pytest.mark.parametrize(
    "signature",
    [
        "",
        ".",
        "..",
        "...",
        "/message",
        "/message.x.y",
        "/message.ZVLx.",
        "\x00.\x00.\x00",
        "☃",
        "é.é.é",
        "\ud800.\ud800",
        "=.=.=",
        signed("/message", secret="another"),
        signed("/message") + "x",
        "x" + signed("/message"),
        signed("/message").replace(".", "", 1),
        signed("/message").upper(),
        SignerAt(SECRET).sign("/message").decode()[:-1],
    ],
)
@pytest.mark.parametrize("scope", ["endpoint", "strict", "any", "request"])
def test_garbage_is_refused_without_a_hint(signature: str, scope: Scope) -> None:
    refused = refusal_of(signature, scope)
    assert refused.reason == "it was not made with our secret"
    assert refused.body() == {"request": "Bad Signature"}


def test_a_signature_without_a_timestamp_is_refused() -> None:
    plain = itsdangerous.Signer(SECRET)
    assert refusal_of(plain.sign("/message").decode(), "any").reason == "it was signed without a timestamp"
    assert refusal_of(plain.sign("/message.a").decode(), "any").reason == "its timestamp is malformed"


@pytest.mark.parametrize(("size", "reason"), [(8, "in the future"), (9, "malformed"), (200, "malformed")])
def test_a_timestamp_beyond_any_calendar_is_refused(size: int, reason: str) -> None:
    ages_ahead = base64.urlsafe_b64encode(b"\xff" * size).decode().rstrip("=")
    signature = itsdangerous.Signer(SECRET).sign(f"/message.{ages_ahead}").decode()
    assert reason in refusal_of(signature).reason


@pytest.mark.parametrize("age_s", [0, 1, 59, 60, 60.9, -1, -MAX_AHEAD_S])
def test_ages_that_are_accepted(age_s: float) -> None:
    assert not verify(signed("/message"), now=NOW + age_s).legacy


@pytest.mark.parametrize(
    ("age_s", "hint"),
    [
        (61, "timestamp is 61 s old, at most 60 s are accepted: check the clocks"),
        (75, "timestamp is 75 s old, at most 60 s are accepted: check the clocks"),
        (-6, "timestamp is 6 s in the future, at most 5 s are accepted: check the clocks"),
        (-3600, "timestamp is 3600 s in the future, at most 5 s are accepted: check the clocks"),
    ],
)
@pytest.mark.parametrize("scope", ["endpoint", "strict", "any", "request"])
def test_ages_that_are_refused_say_clock(age_s: float, hint: str, scope: Scope) -> None:
    refused = refusal_of(signed("/message"), scope, now=NOW + age_s)
    assert refused.body() == {"request": "Bad Signature", "hint": hint}


def test_what_is_remembered_as_genuine_still_expires() -> None:
    verifier = Verifier(SECRET, "endpoint", 60)
    signature = signed("/message")
    for _ in range(2):
        verifier.verify(signature, "POST", "/message", b"", None, NOW)
    with pytest.raises(SignatureRefused, match="61 s old"):
        verifier.verify(signature, "POST", "/message", b"", None, NOW + 61)


def test_what_is_remembered_as_genuine_is_still_for_one_path() -> None:
    verifier = Verifier(SECRET, "endpoint", 60)
    signature = signed("/message")
    verifier.verify(signature, "POST", "/message", b"", None, NOW)
    with pytest.raises(SignatureRefused, match="/connect"):
        verifier.verify(signature, "POST", "/connect", b"", None, NOW)


def test_a_repeated_signature_is_read_once_and_judged_once_a_second_and_garbage_is_not_kept() -> None:
    verifier = Verifier(SECRET, "endpoint", 60)
    signature = signed("/message")
    for second in (0.0, 0.2, 1.1, 1.9, 2.0):
        verifier.verify(signature, "POST", "/message", b"", None, NOW + second)
        with pytest.raises(SignatureRefused):
            verifier.verify("/message.a.b", "POST", "/message", b"", None, NOW + second)
    info = verifier._genuine.cache_info()
    assert (info.hits, info.currsize, info.maxsize) == (2, 1, REMEMBERED_SIGNATURES)
    assert verifier._accepted.cache_info().currsize == 3


def test_without_validation_the_age_does_not_matter() -> None:
    assert not verify(signed("/message"), now=NOW + 10**8, max_age_s=None).legacy
    assert not verify(signed("/message"), now=NOW - 10**8, max_age_s=None).legacy


def test_without_validation_the_path_still_matters() -> None:
    refusal_of(signed("/connect"), max_age_s=None)


def test_the_endpoint_header_must_equal_the_path() -> None:
    assert not verify(signed("/message"), endpoint="/message").legacy
    for other in ("/connect", "", "/messages", "message"):
        for scope in ("endpoint", "strict", "any"):
            assert "X-Channelstream-Endpoint" in refusal_of(signed("/message"), scope, endpoint=other).reason


def test_a_long_signature_is_refused_before_it_is_read() -> None:
    longest = signed("a" * (MAX_SIGNATURE_CHARS - len(signed(""))))
    assert len(longest) == MAX_SIGNATURE_CHARS
    assert not verify(longest, "any").legacy
    too_long = signed("a" * (MAX_SIGNATURE_CHARS - len(signed("")) + 1))
    assert "2049 characters" in refusal_of(too_long, "any").reason


@pytest.mark.parametrize("as_header", [True, False])
def test_paths_beyond_ascii(as_header: bool) -> None:
    signature = signed("/zażółć")
    if as_header:  # PEP 3333: the bytes of a header arrive as latin-1
        signature = signature.encode().decode("latin-1")
    assert not verify(signature, "strict", path="/zażółć").legacy
    refusal_of(signature, "strict", path="/zazolc")


@pytest.mark.parametrize(
    ("scope", "nonce", "expected"),
    [
        ("endpoint", "", "/message"),
        ("strict", "n", "/message"),
        ("any", "", "/message"),
        ("request", "", f"POST /message {hashlib.sha256(BODY).hexdigest()}"),
        ("request", "n1", f"POST /message {hashlib.sha256(BODY).hexdigest()} n1"),
    ],
)
def test_what_a_caller_signs(scope: Scope, nonce: str, expected: str) -> None:
    value = value_to_sign(scope, "post", "/message", BODY, nonce)
    assert value == expected
    assert verify(sign(SECRET, value, NOW), scope).legacy is False


@pytest.mark.parametrize("change", [{"method": "DELETE"}, {"path": "/connect"}, {"body": BODY + b" "}, {"body": b""}])
def test_scope_request_binds_method_path_and_body(change: dict[str, Any]) -> None:
    signature = sign(SECRET, value_to_sign("request", "POST", "/message", BODY, "n"), NOW)
    assert "not for this method, path and body" in refusal_of(signature, "request", **change).reason


def test_a_hash_with_a_tail_that_is_no_nonce_is_refused() -> None:
    refusal_of(signed(value_to_sign("request", "POST", "/message", BODY) + "n"), "request")


def replay_key(value: str, made_at: float = NOW) -> str:
    key = verify(signed(value, made_at), "request").replay_key
    assert key is not None
    return key


def test_replay_keys_tell_requests_apart() -> None:
    value = value_to_sign("request", "POST", "/message", BODY)
    keys = {replay_key(value), replay_key(value + " n1"), replay_key(value + " n2"), replay_key(value, NOW - 1)}
    assert len(keys) == 4
    assert replay_key(value) in keys


def test_another_spelling_of_a_signature_is_the_same_replay() -> None:
    signature = signed(value_to_sign("request", "POST", "/message", BODY))
    head, mac = signature[:-27], signature[-27:]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    unused_bit = alphabet[alphabet.index(mac[-1]) ^ 1]
    spellings = {signature, head + mac[:-1] + unused_bit, head + mac + "=", head + "!" + mac}
    keys = set()
    for spelling in spellings:
        try:
            keys.add(verify(spelling, "request").replay_key)
        except SignatureRefused:
            continue
    assert keys == {verify(signature, "request").replay_key}


@pytest.mark.parametrize("age_s", [-5, 0, 0.5, 30, 60, 60.9])
def test_a_replay_is_remembered_for_as_long_as_it_would_be_accepted(age_s: float) -> None:
    signature = signed(value_to_sign("request", "POST", "/message", BODY))
    accepted = verify(signature, "request", now=NOW + age_s)
    assert accepted.replay_for_s > 0
    forgotten_at = NOW + age_s + accepted.replay_for_s
    assert "old" in refusal_of(signature, "request", now=forgotten_at).reason


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="validate_requests"):
        Verifier(SECRET, "request", None)
    with pytest.raises(ConfigError, match="one of endpoint, strict, any, request"):
        Verifier(SECRET, "everything", 60)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.text(max_size=100), st.text(max_size=60))
def test_any_text_is_verified_or_refused(signature: str, path: str) -> None:
    for scope in ("endpoint", "strict", "any", "request"):
        refusal_of(signature, scope, path=path)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_value_that_was_signed_is_read_back(value: str) -> None:
    assert not verify(signed(value), "strict", path=value).legacy


class Fixed:
    """A checker that accepts everything and answers what its class says."""

    answer: object = "/message"

    def __init__(self, secret: str) -> None:
        assert secret == SECRET

    def unsign(self, value: str, max_age: int | None = None) -> object:
        assert max_age in (60, None)
        return self.answer


class Silent(Fixed):
    answer = None


class Legacy(Fixed):
    answer = b"channelstream"


class Refusing(Fixed):
    def unsign(self, value: str, max_age: int | None = None) -> object:
        raise KeyError(value)


class Unmakeable:
    def __init__(self, secret: str) -> None:
        raise OSError("no key file")

    def unsign(self, value: str, max_age: int | None = None) -> object:
        return None


class NoUnsign:
    pass


def test_a_checker_s_value_is_held_against_the_scope() -> None:
    assert verify("x", checker=Fixed) == Verified(False, None, 0.0)
    assert verify("x", "strict", checker=Fixed) == Verified(False, None, 0.0)
    assert verify("x", checker=Legacy).legacy
    refusal_of("x", path="/connect", checker=Fixed)
    refusal_of("x", "strict", checker=Legacy)


def test_a_checker_may_say_nothing_but_not_where_a_scope_needs_it() -> None:
    assert verify("x", checker=Silent).legacy
    assert verify("x", "any", checker=Silent).legacy
    for scope in ("strict", "request"):
        assert "did not say what was signed" in refusal_of("x", scope, checker=Silent).reason


def test_whatever_a_checker_raises_is_a_refusal() -> None:
    refused = refusal_of("abc", checker=Refusing)
    assert "KeyError('abc')" in refused.reason
    assert refused.body() == {"request": "Bad Signature"}


def test_a_checker_in_scope_request_gets_a_replay_key() -> None:
    class Bound(Fixed):
        answer = value_to_sign("request", "POST", "/message", BODY, "n1")

    accepted = verify("x", "request", checker=Bound)
    assert accepted.replay_key is not None
    assert accepted.replay_for_s >= 60


def test_the_real_library_as_a_checker() -> None:
    make = load_checker("itsdangerous.TimestampSigner")
    assert verify(sign(SECRET, "/message"), checker=make) == Verified(False, None, 0.0)
    assert "SignatureExpired" in refusal_of(sign(SECRET, "/message", NOW), checker=make).reason


@pytest.mark.parametrize(
    ("dotted", "why"),
    [
        ("", "no dot"),
        ("NoDot", "no dot"),
        (".Class", "no dot"),
        ("module.", "no dot"),
        ("no_such_module_at_all.Class", "ModuleNotFoundError"),
        ("itsdangerous.NoSuchClass", "no class NoSuchClass"),
        ("itsdangerous.want_bytes", "no class want_bytes"),
        ("itsdangerous.BadData", "no unsign"),
    ],
)
def test_a_checker_that_cannot_be_loaded(dotted: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        load_checker(dotted)
    assert caught.value.key == "signature_checker"


def test_a_checker_that_cannot_be_made() -> None:
    with pytest.raises(ConfigError, match="no key file"):
        Verifier(SECRET, "endpoint", 60, Unmakeable)
