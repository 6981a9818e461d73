"""The tree of exceptions: what its drawing says, what callers are told, and what each sentence holds."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from channelstream import errors
from channelstream.errors import (
    AddressRefused,
    BadHistoryFile,
    BodyTooLarge,
    CallerError,
    ChannelstreamError,
    ClientError,
    ConfigError,
    ConfigErrors,
    DataDirInUse,
    Invalid,
    MalformedRequest,
    NotJson,
    OperatorError,
    PeerError,
    QueueFull,
    ShardAway,
    SignatureMissing,
    SignatureRefused,
    Unavailable,
    Undecodable,
    UnknownConnection,
    VersionMismatch,
)

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ChannelstreamError)]


def _drawn() -> dict[str, str]:
    """Class → base, as the docstring of the module draws them."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)(?:\s|$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        if depth:
            parents[match[2]] = path[depth - 1]
    return parents


def test_the_drawn_tree_is_the_tree() -> None:
    assert _drawn() == {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES if kind is not ChannelstreamError}


@pytest.mark.parametrize("branch", [OperatorError, CallerError, ClientError, PeerError])
def test_there_is_one_branch_for_each_whose_fault_it_can_be(branch: type) -> None:
    assert branch.__base__ is ChannelstreamError


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (AddressRefused("10.0.0.9"), 403, {"error": "address 10.0.0.9 is not allowed to call the API"}),
        (SignatureMissing(), 403, {"error": "no signature: expected the header X-Channelstream-Secret"}),
        (SignatureRefused("expired"), 401, {"request": "Bad Signature"}),
        (SignatureRefused("expired", hint="clock"), 401, {"request": "Bad Signature", "hint": "clock"}),
        (NotJson("line 1"), 400, {"error": "the body is not JSON: line 1"}),
        (Invalid({"user": ["is missing"]}), 422, {"user": ["is missing"]}),
        (BodyTooLarge(100), 413, {"error": "the body is larger than 100 bytes"}),
        (UnknownConnection(), 401, {"error": "unknown connection"}),
        (MalformedRequest("no host"), 400, {"error": "no host"}),
    ],
)
def test_what_the_other_side_is_told(error: Any, status: int, body: object) -> None:
    assert (error.status, error.body()) == (status, body)


def test_unavailable_says_what_was_done_and_what_is_unknown() -> None:
    error = Unavailable([0, 2], ["a"], ["b"])
    body: Any = error.body()
    assert (body["done"], body["unknown"]) == (["a"], ["b"])
    assert "0, 2" in body["error"]
    assert error.retry_after_s > 0


def test_the_reason_of_a_refused_signature_is_not_told() -> None:
    assert "expired" not in str(SignatureRefused("expired").body())


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (ConfigError("port", "x", "a number"), ["port", "'x'", "a number"]),
        (ConfigError("port", "x", "a number", "server.ini"), ["(from server.ini)"]),
        (ConfigErrors((ConfigError("a", 1, "2"), ConfigError("b", 3, "4"))), ["a = 1", "\n", "b = 3"]),
        (Invalid({"a": ["b", "c"], "d": ["e"]}), ["a: b, c", "d: e"]),
        (DataDirInUse("/data", "shard-1", 77), ["/data", "shard-1 has pid 77", "end it first"]),
        (DataDirInUse("/data", "shard-1", 0), ["shard-1 is running"]),
        (BadHistoryFile(9, "a reason"), ["line 9: a reason", "nothing was imported"]),
        (VersionMismatch(2, 1), ["2", "expected 1"]),
        (Undecodable("truncated"), ["truncated"]),
        (QueueFull("edge-0:a", 90, 100), ["edge-0:a", "90", "100"]),
        (ShardAway(3, "no answer"), ["shard 3", "no answer"]),
    ],
)
def test_a_sentence_holds_the_facts(error: ChannelstreamError, facts: list[str]) -> None:
    assert [fact for fact in facts if fact not in str(error)] == []
