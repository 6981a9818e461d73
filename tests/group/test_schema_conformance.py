"""The running group does what its /openapi.json says, tried out by schemathesis: it makes calls from the document, fit
and unfit ones, and compares the answers with it."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from itsdangerous import TimestampSigner
from jsonschema import Draft202012Validator
from schemathesis import checks
from schemathesis.config import ChecksConfig, GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from channelstream.router.calls import CALLS

EXAMPLES = int(os.environ.get("CHANNELSTREAM_TEST_SCHEMA_EXAMPLES", "10"))
"""Calls of each operation that fit its description, and as many that do not."""

SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    # Making unfit bodies takes long and many tries; that says nothing about the server.
    suppress_health_check=list(HealthCheck),
)

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
]

ENDLESS = {("GET", "/ws"), ("GET", "/events")}
"""What schemathesis cannot await the end of: one is no HTTP after its handshake, the other goes on and on."""

OPERATIONS = sorted({(call.method, call.path) for call in CALLS} - ENDLESS)
SPOILABLE = sorted({(call.method, call.path) for call in CALLS if call.body or call.parameters} - ENDLESS)
"""Those of which something besides the signature can be wrong."""

REFUSED = ["400", "401", "413", "422"]

BEYOND_A_SCHEMA = re.compile(
    r"Unknown (connection|user)|in use by another user|expected an ISO 8601 date and time, got .*"
    # To JSON Schema 1.0 is an integer.
    r"|expected `int`, got `float`"
)
"""What may be wrong with a body that fits its schema."""


@pytest.fixture(scope="module")
def group(helpers: Any) -> Iterator[Any]:
    """A group whose long-polls do not wait long, and whose connections wait for the end of the tests."""
    lifetimes = {"wake_connections_after": 0.05, "gc_conns_after": 3600}
    with helpers.running(shards=2, edges=1, routers=1, **lifetimes) as group:
        yield group


@pytest.fixture(scope="module")
def signed(helpers: Any) -> Callable[[str], dict[str, str]]:
    """Makes the header of a call, with a fresh signature."""
    return lambda path: {"X-Channelstream-Secret": TimestampSigner(helpers.SECRET).sign(path).decode()}


@pytest.fixture(scope="module")
def described(group: Any, signed: Any) -> Any:
    """What the group says of itself, as schemathesis reads it."""
    project = ProjectConfig(
        generation=GenerationConfig(with_security_parameters=False, deterministic=True),
        checks=ChecksConfig.from_dict({"negative_data_rejection": {"expected-statuses": REFUSED}}),
    )
    config = SchemathesisConfig(projects=ProjectsConfig(default=project))
    url = f"http://127.0.0.1:{group.port}/openapi.json"
    return schemathesis.openapi.from_url(url, headers=signed("/openapi.json"), config=config)


@pytest.fixture(scope="module")
def known(group: Any) -> Any:
    """A connection and its user: chance finds none."""
    return group.call("/connect", {"username": "joe", "channels": ["lobby"]})


def compare(case: Any, answer: Any, *more: Any) -> None:
    """Whether a call was answered as described."""
    case.validate_response(answer, checks=[*CHECKS, *more])
    # The answer "default" is for what any server may say, and would make every status a described one.
    assert str(answer.status_code) in case.operation.definition.raw["responses"]


def test_the_document_has_the_calls_that_are_tried(described):
    told = {(method.upper(), path) for path, item in described.raw_schema["paths"].items() for method in item}
    assert told == {*OPERATIONS, *ENDLESS}


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_call_that_fits_is_answered_as_described(described, signed, known, method, path):
    @SETTINGS
    @given(case=described[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def conforms(case: Any) -> None:
        if isinstance(case.body, dict):
            case.body = dict(case.body)  # it may be the document's own example, which other calls are made from
        for place in (case.body, case.query):
            if isinstance(place, dict) and "conn_id" in place and path != "/disconnect":
                place["conn_id"] = known["conn_id"]
            if isinstance(place, dict) and path in ("/connect", "/user_state"):
                place |= {"username": known["username"], "user": known["username"]}
        if "X-Channelstream-Endpoint" in case.headers:
            case.headers["X-Channelstream-Endpoint"] = path
        answer = case.call(headers=signed(path))
        compare(case, answer)
        assert answer.status_code in (200, 422)
        if answer.status_code == 422:
            for field, sentences in answer.json().items():
                # It may be in the URL as well, which neither of the two can ask for.
                nowhere = field == "conn_id" and sentences == ["Missing data for required field."]
                assert nowhere or all(map(BEYOND_A_SCHEMA.fullmatch, sentences)), (field, sentences)

    conforms()


@pytest.mark.parametrize(("method", "path"), SPOILABLE)
def test_a_call_that_does_not_fit_is_refused_as_described(described, signed, method, path):
    # With a connection in the URL the body of this call is not looked at, whatever it is.
    more = [] if (method, path) == ("POST", "/disconnect") else [openapi_checks.negative_data_rejection]

    @SETTINGS
    @given(case=described[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def conforms(case: Any) -> None:
        compare(case, case.call(headers=signed(path)), *more)

    conforms()


@pytest.mark.parametrize(("method", "path"), sorted(ENDLESS))
def test_what_never_ends_is_refused_as_described(described, method, path):
    for conn_id in (str(uuid.uuid4()), "x", ""):
        case = described[path][method].Case(query={"conn_id": conn_id})
        answer = case.call()
        assert answer.status_code == {"/ws": 426, "/events": 401}[path]
        compare(case, answer)


def test_what_clients_receive_is_as_described(described, group):
    """By /events, whose answer schemathesis would await to its end, and with it the lists of /ws."""
    components = described.raw_schema["components"]
    delivery = Draft202012Validator({"$ref": "#/components/schemas/Delivery", "components": components})
    told = described.raw_schema["paths"]["/events"]["get"]["responses"]["200"]
    name = uuid.uuid4().hex
    configs = {name: {"notify_presence": True, "notify_state": True, "broadcast_presence_with_user_lists": True}}
    conn_id = group.connect(f"joe-{name}", name, channel_configs=configs, state_public_keys=["a"])
    group.connect(f"ann-{name}", name)
    sent = group.say(name, "hello", own=1)
    group.call("/message", [{"uuid": sent, "channel": name, "message": {"text": "bye"}}], "PATCH")
    group.call("/message", [{"uuid": group.say(name, "gone"), "channel": name}], "DELETE")
    group.call("/user_state", {"user": f"joe-{name}", "user_state": {"a": 1}})
    expected = ["presence", "message", "message:edit", "message:delete", "user_state_change"]
    received: list[Any] = []
    url = f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}"
    with requests.get(url, stream=True, timeout=20) as answer:
        assert {*told["headers"]} <= {*answer.headers}
        assert answer.headers["Content-Type"].partition(";")[0] in told["content"]
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data:"):
                received += json.loads(line.removeprefix(b"data:"))
            if len(received) >= len(expected):
                break
    assert [one["type"] for one in received] == expected
    for one in received:
        assert [error.message for error in delivery.iter_errors(one)] == []
