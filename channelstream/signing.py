"""Signatures of requests: made for callers, verified for the router.

The form is itsdangerous' `TimestampSigner(secret).sign(value)` with its default salt and digest, so that any client
library that has it can call us; what `value` has to be is the scope's business. Time comes in as an argument. What is
not known here: HTTP, settings files, and who remembers the signatures that were used.
"""

from __future__ import annotations

import hashlib
import importlib
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

import itsdangerous
from itsdangerous.encoding import base64_decode, bytes_to_int

from channelstream.clock import real_clock
from channelstream.errors import ConfigError, SignatureRefused

Scope = Literal["endpoint", "strict", "any", "request"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

Secret = str | bytes

LEGACY_VALUE: Final = b"channelstream"
"""What the clients of channelstream 0.7 sign, whichever endpoint they call."""

MAX_SIGNATURE_CHARS: Final = 2048
"""A signature is a path or a method, path, hash and nonce, and some 40 characters more. What is longer is refused
before any work is put into it."""

MAX_AHEAD_S: Final = 5
"""How far a caller's clock may be ahead of ours. itsdangerous refuses what is a second ahead, which NTP does not
promise between two machines; more than a few seconds is a clock that somebody should look at."""

REMEMBERED_SIGNATURES: Final = 4096
"""Signatures known to be genuine. A backend that signs once and sends many requests pays for the HMAC once; the
bound keeps what is remembered below 10 MB with the longest signatures."""


REMEMBERED_VERDICTS: Final = 1024
"""Signatures that were accepted for a path in this second, and in some before. A router that is busy has a few hundred
callers a second; each of these is some hundred bytes, and shares its signature with those above."""


class Checker(Protocol):
    """What a class named by `signature_checker` has to offer."""

    def unsign(self, value: str, max_age: int | None = None) -> Any:
        """What was signed. Raises, whatever it likes, to refuse."""
        ...


MakeChecker = Callable[[Any], Checker]
"""Called with the secret, once, at start."""


class Verified(NamedTuple):
    """A signature that is accepted."""

    legacy: bool
    """It was not made for this endpoint in particular but is taken for the sake of older clients: worth a warning."""

    replay_key: str | None
    """Scope `request` only: to be claimed once, by whoever remembers; refused where it was claimed before."""

    replay_for_s: float
    """How long the claim has to be remembered: as long as the signature would be accepted again. 0 without a key."""


class _Signed(NamedTuple):
    """What a genuine signature holds."""

    value: bytes
    made_at: int | None
    """Seconds since the epoch. None where a custom checker answered, which judges the age itself."""


class _TimedSigner(itsdangerous.TimestampSigner):
    """A `TimestampSigner` that is told the time."""

    def __init__(self, secret: Secret, now: float) -> None:
        super().__init__(secret)
        self._now = int(now)

    def get_timestamp(self) -> int:
        return self._now


def sign(secret: Secret, value: str, now: float | None = None) -> str:
    """A signature of `value`, made at `now` (seconds since the epoch; left out: by the machine's clock)."""
    return _TimedSigner(secret, real_clock().wall if now is None else now).sign(value).decode()


def value_to_sign(scope: Scope, method: str, path: str, body: bytes, nonce: str = "") -> str:
    """What a caller signs: the path, or in the scope `request` `METHOD PATH SHA256HEX[ NONCE]`.

    Two requests that are alike to the byte within one second need nonces, or the second is taken for a replay.
    """
    if scope != "request":
        return path
    bound = f"{method.upper()} {path} {hashlib.sha256(body).hexdigest()}"
    return f"{bound} {nonce}" if nonce else bound


def load_checker(dotted: str) -> MakeChecker:
    """The class that `signature_checker` names as `package.module.Class`. Raises `ConfigError`."""

    def refused(why: str) -> ConfigError:
        return ConfigError("signature_checker", dotted, f"package.module.Class of a class with unsign(), but {why}")

    module_name, dot, class_name = dotted.rpartition(".")
    if not (dot and module_name and class_name):
        raise refused("there is no dot in it")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the operator's: importing it may raise anything
        raise refused(f"importing {module_name} failed: {error!r}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise refused(f"{module_name} has no class {class_name}")
    if not callable(getattr(found, "unsign", None)):
        raise refused(f"{class_name} has no unsign()")
    return found


class Verifier:
    """Verifies the signatures of one secret and scope."""

    def __init__(self, secret: Secret, scope: Scope, max_age_s: int | None, checker: MakeChecker | None = None) -> None:
        """`max_age_s` None: the age is not checked. Raises `ConfigError` where the settings do not go together."""
        if scope not in SCOPES:
            raise ConfigError("signature_scope", scope, f"one of {', '.join(SCOPES)}")
        if scope == "request" and max_age_s is None:
            # Without an age a signature is valid for ever, and nobody can remember for ever that it was used.
            raise ConfigError("validate_requests", False, "true where signature_scope = request")
        self._scope: Final = scope
        self._max_age_s: Final = max_age_s
        # Only its HMAC is used here, which has no time in it.
        self._signer: Final = itsdangerous.Signer(secret)
        self._checker: Final = _made(checker, secret) if checker else None
        self._genuine: Final = lru_cache(REMEMBERED_SIGNATURES)(self._read)
        self._accepted: Final = lru_cache(REMEMBERED_VERDICTS)(self._judged)

    def verify(
        self, signature: str, method: str, path: str, body: bytes, endpoint_header: str | None, now: float
    ) -> Verified:
        """Accepts the signature of a request, or raises `SignatureRefused`.

        `endpoint_header` is X-Channelstream-Endpoint, None where it was not sent; `now` is seconds since the epoch.
        In the scope `request` the caller has to claim `Verified.replay_key` before it acts.
        """
        if len(signature) > MAX_SIGNATURE_CHARS:
            raise SignatureRefused(f"{len(signature)} characters, expected at most {MAX_SIGNATURE_CHARS}")
        if endpoint_header is not None and endpoint_header != path:
            raise SignatureRefused(f"X-Channelstream-Endpoint is {endpoint_header!r}, the path is {path!r}")
        if self._checker is None and self._scope != "request":
            return self._accepted(signature, path, int(now))
        signed = self._signed(signature)
        if signed is None:
            return Verified(self._trusted_without_value(), None, 0.0)
        self._refuse_if_old(signed, now)
        if self._scope == "request":
            return self._bound_to_request(signed, method, path, body, now)
        return Verified(self._is_legacy(signed.value, path), None, 0.0)

    def _judged(self, signature: str, path: str, second: int) -> Verified:
        """The verdict where it rests on nothing but these: in another second it may be another one. PERF: only what is
        accepted is remembered, as with `_genuine`."""
        signed = self._genuine(signature)
        self._refuse_if_old(signed, second)
        return Verified(self._is_legacy(signed.value, path), None, 0.0)

    def _refuse_if_old(self, signed: _Signed, now: float) -> None:
        """Raises `SignatureRefused`."""
        if signed.made_at is not None and self._max_age_s is not None:
            _refuse_age(int(now) - signed.made_at, self._max_age_s)

    def _signed(self, signature: str) -> _Signed | None:
        """What was signed. None where a custom checker accepted without saying what."""
        if self._checker is None:
            # Only what is genuine is remembered: a refusal is an exception, and those pass the cache by.
            return self._genuine(signature)
        try:
            value = self._checker.unsign(signature, max_age=self._max_age_s)
        except Exception as error:  # whatever a checker raises is its way to refuse
            raise SignatureRefused(f"signature_checker refused it: {error!r}") from error
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        return _Signed(value, None) if isinstance(value, bytes) else None

    def _read(self, signature: str) -> _Signed:
        """What a genuine signature holds; its age is not looked at. Raises `SignatureRefused`."""
        value, dot, made_at = self._payload(signature).rpartition(b".")
        if not dot:
            raise SignatureRefused("it was signed without a timestamp")
        try:
            return _Signed(value, bytes_to_int(base64_decode(made_at)))
        except (itsdangerous.BadData, struct.error) as error:  # the latter for more than 64 bits
            raise SignatureRefused("its timestamp is malformed") from error

    def _payload(self, signature: str) -> bytes:
        """Value and timestamp of a genuine signature. Raises `SignatureRefused`."""
        for spelling in _spellings(signature):
            try:
                return self._signer.unsign(spelling)
            except itsdangerous.BadSignature:
                continue
        raise SignatureRefused("it was not made with our secret")

    def _trusted_without_value(self) -> bool:
        """Always true (legacy): older checkers return anything, and only raise to refuse.

        Raises `SignatureRefused` in the scopes that promise more than a checker without a value can keep.
        """
        if self._scope in ("strict", "request"):
            raise SignatureRefused(f"signature_checker did not say what was signed, scope {self._scope} needs it")
        return True

    def _is_legacy(self, value: bytes, path: str) -> bool:
        """Whether the value is the word of older clients. Raises `SignatureRefused` where it is out of scope."""
        if self._scope == "any" or value == path.encode("utf-8", "surrogateescape"):
            return False
        if self._scope == "endpoint" and value == LEGACY_VALUE:
            return True
        raise SignatureRefused(f"it was made for {_shown(value)}, not for {path!r}")

    def _bound_to_request(self, signed: _Signed, method: str, path: str, body: bytes, now: float) -> Verified:
        expected = value_to_sign("request", method, path, body).encode("utf-8", "surrogateescape")
        value = signed.value
        if value != expected and not value.startswith(expected + b" "):
            raise SignatureRefused(f"it was made for {_shown(value)}, not for this method, path and body")
        max_age_s = self._max_age_s or 0
        if signed.made_at is None:
            return Verified(False, _replay_key(signed), float(max_age_s + MAX_AHEAD_S))
        return Verified(False, _replay_key(signed), signed.made_at + max_age_s + 1 - now)


def _made(make: MakeChecker, secret: Secret) -> Checker:
    try:
        return make(secret)
    except Exception as error:  # the class is the operator's: making one may raise anything
        name = getattr(make, "__qualname__", repr(make))
        raise ConfigError("signature_checker", name, f"a class that takes the secret, but {error!r}") from error


def _spellings(signature: str) -> list[bytes]:
    """The bytes that a caller may have sent: a header arrives as latin-1 (PEP 3333), a query parameter as UTF-8."""
    if signature.isascii():
        return [signature.encode()]
    spellings = [signature.encode("utf-8", "surrogatepass")]
    if all(ord(character) < 256 for character in signature):
        spellings.append(signature.encode("latin-1"))
    return spellings


def _refuse_age(age_s: int, max_age_s: int) -> None:
    """Raises `SignatureRefused` where a timestamp is too old or too far ahead, with a hint at the clocks."""
    if age_s > max_age_s:
        hint = f"timestamp is {age_s} s old, at most {max_age_s} s are accepted: check the clocks"
    elif age_s < -MAX_AHEAD_S:
        hint = f"timestamp is {-age_s} s in the future, at most {MAX_AHEAD_S} s are accepted: check the clocks"
    else:
        return
    raise SignatureRefused(hint, hint)


def _replay_key(signed: _Signed) -> str:
    """The same for every spelling of one signature.

    Made from what the HMAC covers, never from the signature's own characters: base64 has many spellings of one HMAC
    (unused bits, characters that decoders skip), and each would be a fresh key for a replay.
    """
    made_at = "" if signed.made_at is None else str(signed.made_at)
    return hashlib.sha256(signed.value + b"\n" + made_at.encode()).hexdigest()


def _shown(value: bytes) -> str:
    """A signed value for the log: short, and nothing in it that could break a line."""
    return repr(value[:200].decode("utf-8", "replace"))
