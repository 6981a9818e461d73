"""Errors as answers: JSON, a plain sentence, and nothing of the inside."""

from __future__ import annotations

import logging
from typing import Any

import falcon
import pytest
from falcon.testing import TestClient

from channelstream.errors import (
    AddressRefused,
    BodyTooLarge,
    CallerError,
    ClientError,
    HttpsRequired,
    Invalid,
    NotJson,
    SignatureMissing,
    SignatureRefused,
    Unavailable,
    UnknownConnection,
)
from channelstream.router import http_errors


class Failing:
    """A resource that fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Fail."""
        resp.set_header("X-Half-Done", "yes")
        raise self.error


def answer_to(error: Exception) -> Any:
    """What a caller gets when this is raised."""
    app: falcon.App[Any, Any] = falcon.App(media_type=http_errors.JSON)
    http_errors.install(app)
    app.add_route("/", Failing(error))
    return TestClient(app).simulate_get("/")


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (AddressRefused("192.0.2.1"), 403, {"error": "address 192.0.2.1 is not allowed to call the API"}),
        (SignatureMissing(), 403, {"error": "no signature: expected the header X-Channelstream-Secret"}),
        (SignatureRefused("inside"), 401, {"request": "Bad Signature"}),
        (SignatureRefused("inside", "clocks"), 401, {"request": "Bad Signature", "hint": "clocks"}),
        (HttpsRequired(), 406, {"error": "https is required"}),
        (NotJson("it is empty"), 400, {"error": "the body is not JSON: it is empty"}),
        (Invalid({"a.b": ["wrong", "bad"]}), 422, {"a.b": ["wrong", "bad"]}),
        (BodyTooLarge(10), 413, {"error": "the body is larger than 10 bytes"}),
        (
            Unavailable([1], ["a"], ["b"]),
            503,
            {"error": "no answer in time from shard 1: repeat the request", "done": ["a"], "unknown": ["b"]},
        ),
        (UnknownConnection(), 401, {"error": "unknown connection"}),
    ],
)
def test_our_errors(error: CallerError | ClientError, status: int, body: object) -> None:
    answer = answer_to(error)

    assert (answer.status_code, answer.json) == (status, body)
    assert answer.headers["Content-Type"] == "application/json"


def test_unavailable_says_when_to_try_again() -> None:
    assert answer_to(Unavailable([0], [], [])).headers["Retry-After"] == "1"


def test_others_do_not() -> None:
    assert "Retry-After" not in answer_to(Invalid({})).headers


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (falcon.HTTPNotFound(), 404, "not found"),
        (falcon.HTTPMethodNotAllowed(["GET", "POST"]), 405, "method not allowed"),
        (falcon.HTTPBadRequest(title="Bad request", description="inside"), 400, "bad request"),
        (falcon.HTTPContentTooLarge(), 413, "content too large"),
    ],
)
def test_falcons_errors_are_a_plain_sentence(error: falcon.HTTPError, status: int, sentence: str) -> None:
    answer = answer_to(error)

    assert (answer.status_code, answer.json) == (status, {"error": sentence})
    assert answer.headers["Content-Type"] == "application/json"


def test_falcons_headers_stay() -> None:
    assert answer_to(falcon.HTTPMethodNotAllowed(["GET", "POST"])).headers["Allow"] == "GET, POST"
    assert answer_to(falcon.HTTPServiceUnavailable(headers={"Retry-After": "3"})).headers["Retry-After"] == "3"


def test_a_status_that_is_raised_is_the_answer() -> None:
    answer = answer_to(falcon.HTTPStatus(falcon.HTTP_202, text="[]"))

    assert (answer.status_code, answer.text) == (202, "[]")


def test_what_nobody_foresaw_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    answer = answer_to(RuntimeError("the secret inside"))

    assert (answer.status_code, answer.json) == (500, {"error": "internal error"})
    assert "secret" not in answer.text
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "GET / failed")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the secret inside"


def test_what_the_caller_did_wrong_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    answer_to(Invalid({"a": ["wrong"]}))

    assert caplog.records == []
