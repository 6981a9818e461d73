"""The API's description: that it is sound, and that it says what the code does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

from channelstream.errors import CallerError
from channelstream.router.bodies import parse_deletions, parse_edits, parse_messages
from channelstream.router.calls import CALLS, PROBLEMS
from channelstream.router.openapi import document
from channelstream.router.schemas import (
    ChannelConfigChange,
    InfoOptions,
    parse_channel_config,
    parse_connect,
    parse_disconnect,
    parse_info,
    parse_subscribe,
    parse_unsubscribe,
    parse_user_state,
)
from channelstream.wire.messages import ChannelConfig, EnterUser, GetChannels

NOW = "2026-05-06T07:08:09.000010"
ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
WHOLE = document("0.1")
EVERYTHING = {(call.method, call.path) for call in CALLS}

PARSERS: dict[tuple[str, str], Callable[[bytes], object]] = {
    ("post", "/connect"): parse_connect,
    ("post", "/subscribe"): parse_subscribe,
    ("post", "/unsubscribe"): parse_unsubscribe,
    ("post", "/user_state"): parse_user_state,
    ("post", "/message"): lambda body: parse_messages(body, lambda: ID, NOW),
    ("post", "/messages"): lambda body: parse_messages(body, lambda: ID, NOW),
    ("patch", "/message"): lambda body: parse_edits(body, NOW),
    ("delete", "/message"): parse_deletions,
    ("post", "/channel_config"): parse_channel_config,
    ("post", "/info"): parse_info,
    ("post", "/disconnect"): parse_disconnect,
}


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(
        {**schema, "components": WHOLE["components"]}, format_checker=FormatChecker(formats=["uuid"])
    )


def complaints(schema: dict[str, Any], value: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(schema).iter_errors(value)]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in WHOLE["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def body_schema(method: str, path: str) -> dict[str, Any]:
    schema: dict[str, Any] = WHOLE["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def response(operation: dict[str, Any], status: int) -> dict[str, Any]:
    told: dict[str, Any] = operation["responses"][str(status)]
    if "$ref" in told:
        return dict(WHOLE["components"]["responses"][told["$ref"].rpartition("/")[2]])
    return told


# --- the document ---


def test_it_is_a_sound_openapi_document() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(WHOLE).iter_errors()] == []
    assert WHOLE["openapi"].startswith("3.1.")
    assert json.loads(json.dumps(WHOLE)) == WHOLE


def test_it_has_every_call_once() -> None:
    assert {(method.upper(), path) for method, path, _ in operations()} == EVERYTHING
    assert len({(call.method, call.path) for call in CALLS}) == len(CALLS)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names) == len(CALLS)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("POST", path)
            for path in ("/connect", "/subscribe", "/unsubscribe", "/user_state", "/message", "/messages")
        ),
        *(("POST", path) for path in ("/channel_config", "/info", "/disconnect", "/admin/admin.json")),
        *(("GET", path) for path in ("/disconnect", "/listen", "/ws", "/events", "/admin/admin.json", "/openapi.json")),
        *(("GET", path) for path in ("/healthz", "/readyz")),
        ("PATCH", "/message"),
        ("DELETE", "/message"),
    ],
)
def test_the_calls_of_the_contract(method: str, path: str) -> None:
    assert method.lower() in WHOLE["paths"][path]


def test_version_and_address() -> None:
    told = document("9.8", "https://chat.example.com")
    assert (told["info"]["version"], told["servers"]) == ("9.8", [{"url": "https://chat.example.com"}])
    assert WHOLE["servers"] == [{"url": "/"}]


def test_what_is_signed_says_so() -> None:
    schemes = WHOLE["components"]["securitySchemes"]
    assert {(one["type"], one["in"], one["name"]) for one in schemes.values()} == {
        ("apiKey", "header", "X-Channelstream-Secret"),
        ("apiKey", "query", "secret"),
    }
    signed = {path for _, path, operation in operations() if operation["security"]}
    assert {tuple(one) for _, _, operation in operations() for one in operation["security"]} <= {
        (name,) for name in schemes
    }
    assert {path for path in WHOLE["paths"] if path not in signed} == {
        "/disconnect",
        "/ws",
        "/listen",
        "/events",
        "/healthz",
        "/readyz",
    }
    for scope in ("endpoint", "strict", "any", "request"):
        assert f"`{scope}`" in schemes["signature"]["description"]


def test_signed_calls_have_the_errors_of_the_contract() -> None:
    for method, path in PARSERS:
        operation = WHOLE["paths"][path][method]
        if operation["security"]:
            assert set(operation["responses"]) == {
                "200", "400", "401", "403", "404", "405", "406", "413", "422", "503", "507", "default"
            }  # fmt: skip
    assert set(WHOLE["paths"]["/disconnect"]["post"]["responses"]) == {
        "200", "400", "403", "406", "413", "422", "503", "default"
    }  # fmt: skip


def test_every_answer_has_a_request_id_and_an_unavailable_one_says_when_to_come_back() -> None:
    for told in WHOLE["components"]["responses"].values():
        assert "X-Request-Id" in told["headers"]
    for _, _, operation in operations():
        for status in operation["responses"]:
            if status not in ("101", "default"):
                assert "X-Request-Id" in response(operation, int(status))["headers"]
    assert "Retry-After" in response(WHOLE["paths"]["/connect"]["post"], 503)["headers"]
    assert "Retry-After" in response(WHOLE["paths"]["/listen"]["get"], 503)["headers"]
    assert "Allow" in response(WHOLE["paths"]["/connect"]["post"], 405)["headers"]


def test_no_error_is_described_in_vain() -> None:
    assert (
        set(PROBLEMS)
        == {"Unexpected", *(name for call in CALLS for name in call.problems)}
        == set(WHOLE["components"]["responses"])
    )


def test_everything_is_told() -> None:
    for method, path, operation in operations():
        assert operation["summary"], (method, path)
        assert operation["description"].endswith("."), (method, path)
    for name, schema in WHOLE["components"]["schemas"].items():
        assert schema["description"].endswith("."), name
    for asked in ("ConnectBody", "SubscribeBody", "UserStateBody", "MessageBody", "EditBody", "InfoOptions"):
        for field, schema in WHOLE["components"]["schemas"][asked]["properties"].items():
            assert schema["description"], (asked, field)


def test_the_defaults_that_a_configuration_is_told_to_have() -> None:
    told = WHOLE["components"]["schemas"]["ChannelConfigChange"]["properties"]
    defaults = msgspec.to_builtins(ChannelConfig())
    assert list(told) == list(defaults) == list(ChannelConfigChange.__struct_fields__)
    for name, default in defaults.items():
        assert told[name]["description"].endswith(f"Default: {json.dumps(default)}."), name
    assert list(WHOLE["components"]["schemas"]["ChannelSettings"]["properties"]) == list(defaults)


# --- examples ---


def examples(part: object) -> Iterator[tuple[dict[str, Any], object]]:
    """Every schema that has an example beside it, with that."""
    if isinstance(part, dict):
        if "example" in part and "schema" in part:
            yield part["schema"], part["example"]
        for item in part.values():
            yield from examples(item)
    elif isinstance(part, list):
        for item in part:
            yield from examples(item)


def test_every_example_fits_its_schema() -> None:
    found = list(examples(WHOLE))
    assert len(found) > 50
    for schema, example in found:
        assert complaints(schema, example) == []


def test_every_body_has_an_example() -> None:
    for method, path, operation in operations():
        contents = list(operation.get("requestBody", {}).get("content", {}).values())
        for told in operation["responses"].values():
            contents += told.get("content", {}).values()
        for told in WHOLE["components"]["responses"].values():
            contents += told["content"].values()
        for content in contents:
            assert "example" in content, (method, path)


@pytest.mark.parametrize(("method", "path"), PARSERS)
def test_the_example_of_a_body_is_taken(method: str, path: str) -> None:
    content = WHOLE["paths"][path][method]["requestBody"]["content"]["application/json"]
    PARSERS[method, path](msgspec.json.encode(content["example"]))


@pytest.mark.parametrize(
    ("method", "edited"), [("post", None), ("patch", "2026-05-06T07:09:00.500000"), ("delete", None)]
)
def test_the_example_of_an_answer_is_what_becomes_of_the_example_of_the_body(method: str, edited: str | None) -> None:
    operation = WHOLE["paths"]["/message"][method]
    body = msgspec.json.encode(operation["requestBody"]["content"]["application/json"]["example"])
    taken: list[Any] = []
    if method == "post":
        taken += msgspec.json.decode(parse_messages(body, lambda: ID, NOW).answer)
    elif method == "patch":
        taken += parse_edits(body, edited or NOW)
    else:
        taken += parse_deletions(body)
    answered = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert [one if isinstance(one, dict) else msgspec.json.decode(one.taken) for one in taken] == answered


# --- bodies: the schema takes what the code takes ---


def accepted(parse: Callable[[bytes], object], value: object) -> bool:
    try:
        parse(msgspec.json.encode(value))
    except CallerError:
        return False
    return True


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("post", "/connect", {"username": "a"}),
        ("post", "/connect", {"username": "u" * 512, "channels": ["c" * 256], "conn_id": None, "more": 1}),
        ("post", "/connect", {"username": "😀" * 512}),
        ("post", "/connect", {"username": "😀" * 513}),
        ("post", "/connect", {}),
        ("post", "/connect", []),
        ("post", "/connect", {"username": ""}),
        ("post", "/connect", {"username": None}),
        ("post", "/connect", {"username": "a", "conn_id": ID.upper().replace("-", "")}),
        ("post", "/connect", {"username": "a", "conn_id": f"urn:uuid:{{{ID}}}"}),
        ("post", "/connect", {"username": "a", "conn_id": ID[1:]}),
        ("post", "/connect", {"username": "a", "channels": ["c" * 257]}),
        ("post", "/connect", {"username": "a", "channels": [""]}),
        ("post", "/connect", {"username": "a", "channel_configs": {"": {}}}),
        ("post", "/connect", {"username": "a", "channel_configs": {"c": {"history_size": -1}}}),
        ("post", "/connect", {"username": "a", "channel_configs": {"c": {"history_size": 100_000, "frames_size": 0}}}),
        ("post", "/connect", {"username": "a", "channel_configs": {"c": {"frames_size": 10_001}}}),
        ("post", "/connect", {"username": "a", "user_state": {"k": [1]}}),
        ("post", "/connect", {"username": "a", "user_state": {"k": None, "l": 1.5, "m": True, "n": "x", "o": -1}}),
        ("post", "/connect", {"username": "a", "info": {"include_users": 1}}),
        ("post", "/connect", {"username": "a", "info": {"channels": None}}),
        ("post", "/subscribe", {"conn_id": ID, "channels": []}),
        ("post", "/subscribe", {"conn_id": ID}),
        ("post", "/unsubscribe", {"conn_id": ID, "channels": ["c"]}),
        ("post", "/user_state", {"user": "a", "state_public_keys": None}),
        ("post", "/user_state", {"user_state": {}}),
        ("post", "/channel_config", {}),
        ("post", "/channel_config", {"c": {"history_ttl": 2**31}}),
        ("post", "/channel_config", {"c" * 257: {}}),
        ("post", "/info", {"channels": ["c"]}),
        ("post", "/info", {"info": None}),
        ("post", "/message", []),
        ("post", "/message", [{"user": "a", "message": {}, "channel": "c", "own": [1]}]),
        ("post", "/message", [{"user": "a", "message": {}, "channel": None}]),
        ("post", "/message", [{"user": "a", "message": {}, "pm_users": []}]),
        ("post", "/message", [{"user": "a", "message": {}, "pm_users": ["b"], "channel": None}]),
        ("post", "/message", [{"user": "a", "message": "text", "channel": "c"}]),
        ("post", "/message", [{"user": "a", "message": {}, "channel": "c", "timestamp": "2024-01-01"}]),
        ("patch", "/message", [{"uuid": ID, "channel": "c"}]),
        ("patch", "/message", [{"uuid": ID, "channel": "c", "message": None}]),
        ("patch", "/message", [{"uuid": ID, "pm_users": []}]),
        ("patch", "/message", [{"channel": "c"}]),
        ("delete", "/message", [{"uuid": ID, "pm_users": ["a"]}]),
        ("delete", "/message", [{"uuid": "x", "channel": "c"}]),
        ("delete", "/message", {"uuid": ID, "channel": "c"}),
    ],
)
def test_schema_and_code_agree(method: str, path: str, value: object) -> None:
    assert (complaints(body_schema(method, path), value) == []) is accepted(PARSERS[method, path], value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e15, 1e15) | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
channels = st.lists(texts | values, max_size=3) | values
plausible = st.fixed_dictionaries(
    {},
    optional={
        "username": texts | values,
        "user": texts | values,
        "conn_id": st.uuids().map(str) | st.uuids().map(lambda uuid: uuid.hex) | values,
        "uuid": st.uuids().map(str) | values,
        "channel": texts | values,
        "channels": channels,
        "pm_users": channels,
        "exclude_users": channels,
        "no_history": st.booleans() | values,
        "message": st.dictionaries(texts, values, max_size=2) | values,
        "timestamp": st.datetimes().map(lambda moment: moment.isoformat()) | st.none(),
        "edited": st.datetimes().map(lambda moment: moment.isoformat()) | st.none(),
        "channel_configs": st.dictionaries(
            texts,
            st.dictionaries(st.sampled_from(ChannelConfigChange.__struct_fields__), leaves, max_size=2) | values,
            max_size=2,
        ),
        "user_state": st.dictionaries(texts, leaves, max_size=2) | values,
        "state_public_keys": channels,
        "info": st.dictionaries(st.sampled_from(InfoOptions.__struct_fields__), leaves, max_size=2) | values,
    },
)


def as_the_code_sees_it(value: object) -> object:
    """Whole floats as floats: JSON Schema takes 1.0 for an integer, and we do not for the size of a history."""
    if isinstance(value, float) and value.is_integer():
        return value + 0.5
    if isinstance(value, dict):
        return {key: as_the_code_sees_it(item) for key, item in value.items()}
    return [as_the_code_sees_it(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("method", "path"), PARSERS)
@settings(deadline=None, max_examples=60)
@given(value=plausible)
def test_schema_and_code_agree_on_anything(method: str, path: str, value: dict[str, Any]) -> None:
    value = as_the_code_sees_it(value)  # type: ignore[assignment]
    body: object = value
    if path in ("/message", "/messages"):
        body = [value]
    elif path in ("/subscribe", "/unsubscribe", "/disconnect"):  # where it may be in the URL
        value.setdefault("conn_id", ID)
    elif path == "/channel_config":
        body = value.get("channel_configs", {})
    assert (complaints(body_schema(method, path), body) == []) is accepted(PARSERS[method, path], body)


@pytest.mark.parametrize(
    ("path", "body"), [("/subscribe", {"channels": ["c"]}), ("/unsubscribe", {"channels": ["c"]}), ("/disconnect", {})]
)
def test_a_conn_id_in_the_url_is_not_missed_in_the_body(path: str, body: object) -> None:
    assert complaints(body_schema("post", path), body) == []
    assert "conn_id" in [one.get("name") for one in WHOLE["paths"][path]["post"]["parameters"]]


def test_where_other_keys_travel_along() -> None:
    schemas = WHOLE["components"]["schemas"]
    open_types = {name for name, schema in schemas.items() if schema.get("additionalProperties") is True}
    assert open_types == {
        "MessageBody", "EditBody", "MessageAnswer", "EditAnswer", "MessageDelivery", "EditDelivery"
    }  # fmt: skip


# --- answers: what the app really says ---


class Journey:
    """Calls the app, and looks at every answer with the eyes of the document."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller
        self.seen: set[tuple[str, str, int]] = set()

    def answers(self, method: str, path: str) -> bool:
        """Whether the app has this call."""
        allowed = self._caller.bare("OPTIONS", path).headers.get("Allow", "")
        return method in allowed.split(", ")

    def call(self, method: str, path: str, body: object = None, expected: int = 200, **more: Any) -> Any:
        """A call with a signature, whose answer has to be as described."""
        raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"X-Channelstream-Secret": self._caller.signature(path), **more.pop("headers", {})}
        answer = self._caller.bare(method, path, body=raw, headers=headers, **more)
        assert answer.status_code == expected, answer.text
        told = response(WHOLE["paths"][path][method.lower()], expected)
        assert set(told["headers"]) <= {name.title() for name in answer.headers} | set(answer.headers)
        ((media_type, content),) = told["content"].items()
        assert answer.headers["Content-Type"] == media_type
        assert complaints(content["schema"], answer.json) == []
        assert is_complete(content["schema"], answer.json)
        self.seen.add((method, path, expected))
        return answer.json


def objects_in(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else []


def is_complete(schema: dict[str, Any], value: object) -> bool:
    """Whether the schema knows every key of the objects in the value, as far as it is not open."""
    schema = WHOLE["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(value, list):
        return all(is_complete(schema.get("items", {}), item) for item in value)
    if not isinstance(value, dict) or "properties" not in schema:
        more = schema.get("additionalProperties")
        return not isinstance(more, dict) or all(is_complete(more, item) for item in objects_in(value))
    known = schema["properties"]
    assert schema.get("additionalProperties") is True or value.keys() <= known.keys(), value.keys() - known.keys()
    return all(is_complete(known[key], item) for key, item in value.items() if key in known)


@pytest.fixture
def journey(caller: Any) -> Journey:
    """A journey through the app over three shards."""
    return Journey(caller)


def test_the_app_answers_as_described(journey: Journey) -> None:
    """With the bodies of the examples, one after the other."""
    for call in CALLS:
        if call.signed and call.body is not None and journey.answers(call.method, call.path):
            journey.call(call.method, call.path, call.body.example)
    everything = {"include_connections": True, "include_history": True}
    told = journey.call("POST", "/info", {"info": everything})
    assert told["channels"]["lobby"]["history"] or ("DELETE", "/message", 200) in journey.seen
    journey.call("GET", "/healthz")
    journey.call("GET", "/readyz", expected=503)
    journey.call("GET", "/disconnect", params={"conn_id": ID})
    journey.call("POST", "/disconnect", {"conn_id": ID})
    assert journey.seen >= {
        *(("POST", path, 200) for path in ("/connect", "/subscribe", "/unsubscribe", "/message", "/info")),
    }


def test_history_and_users_are_told_as_described(journey: Journey) -> None:
    connect = {
        "username": "joe",
        "channels": ["lobby"],
        "channel_configs": {"lobby": {"store_history": True}},
        "user_state": {"a": 1},
        "info": {"include_connections": True},
    }
    journey.call("POST", "/connect", connect)
    journey.call("POST", "/message", [{"user": "a", "channel": "lobby", "message": {"n": 1}, "own": 1}])
    told = journey.call("POST", "/connect", connect)["channels_info"]
    assert told["channels"]["lobby"]["history"][0]["own"] == 1
    assert len(told["users"][0]["connections"]) == 2


def test_the_app_refuses_as_described(journey: Journey, caller: Any, shards: Any) -> None:
    journey.call("POST", "/connect", b"nope", expected=400)
    journey.call("POST", "/connect", {}, expected=422)
    journey.call("POST", "/subscribe", {"conn_id": ID, "channels": ["a"]}, expected=422)
    journey.call("POST", "/connect", {}, expected=401, headers={"X-Channelstream-Secret": "wrong"})
    journey.call("POST", "/connect", {}, expected=403, headers={"X-Channelstream-Secret": ""})
    shards.lose(GetChannels, EnterUser)
    journey.call("POST", "/info", expected=503)
    journey.call("POST", "/connect", {"username": "a"}, expected=503)
    for path, method, status in (("/nowhere", "POST", 404), ("/connect", "GET", 405)):
        answer = caller.bare(method, path)
        told = response(WHOLE["paths"]["/connect"]["post"], status)
        assert (answer.status_code, answer.json) == (status, told["content"]["application/json"]["example"])
        assert set(told["headers"]) <= set(answer.headers) | {name.title() for name in answer.headers}


def test_https_is_required_as_described(make_caller: Any) -> None:
    Journey(make_caller(enforce_https="true")).call("POST", "/info", expected=406)


# --- what clients receive ---


def test_deliveries_are_as_described(backend: Any, shards: Any) -> None:
    configs = {"lobby": {"notify_presence": True, "broadcast_presence_with_user_lists": True}}
    first = backend.connect(username="ann", channels=["lobby"], channel_configs=configs)
    shards.attach(first["conn_id"])
    backend.connect(username="joe", channels=["lobby"], user_state={"a": 1}, state_public_keys=["a"])
    backend.message({"user": "joe", "channel": "lobby", "message": {}, "own": 1})
    backend.message({"user": "joe", "pm_users": ["ann"], "message": {}})
    delivered = shards.delivered()
    assert [one["type"] for one in delivered] == ["presence", "message", "message"]
    assert complaints({"type": "array", "items": {"$ref": "#/components/schemas/Delivery"}}, delivered) == []
    for one in delivered:
        assert is_complete({"$ref": "#/components/schemas/" + {"presence": "PresenceDelivery"}.get(
            one["type"], "MessageDelivery")}, one)  # fmt: skip


@pytest.mark.parametrize(
    "taken",
    [
        *parse_edits(b'[{"uuid": "%b", "channel": "c"}]' % ID.encode(), NOW),
        *parse_edits(
            b'[{"uuid": "%b", "pm_users": ["a"], "user": "b", "timestamp": "2024-01-01T00:00", "message": {}, "x": 1}]'
            % ID.encode(),
            NOW,
        ),
        *parse_deletions(
            b'[{"uuid": "%b", "channel": "c"}, {"uuid": "%b", "pm_users": ["a"]}]' % (ID.encode(), ID.encode())
        ),
    ],
)
def test_edits_and_deletions_are_as_described(taken: Any) -> None:
    delivered = {**msgspec.json.decode(taken.frame), "catchup": False, "seq": 1}
    assert complaints({"$ref": "#/components/schemas/Delivery"}, delivered) == []
    kind = {"message:edit": "Edit", "message:delete": "Deletion"}[delivered["type"]]
    for name, value in (("Delivery", delivered), ("Answer", msgspec.json.decode(taken.taken))):
        assert complaints({"$ref": f"#/components/schemas/{kind}{name}"}, value) == []
        assert is_complete({"$ref": f"#/components/schemas/{kind}{name}"}, value)
