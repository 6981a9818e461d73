"""The bodies of the REST calls: what is taken, with which defaults, and what is told about the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from channelstream.errors import CallerError, Invalid, NotJson
from channelstream.router.schemas import (
    MAX_CHANNELS,
    MAX_FRAMES_SIZE,
    MAX_HISTORY_SIZE,
    MAX_HISTORY_TTL_S,
    MAX_WRONG_FIELDS,
    ROOT,
    UUID_FORMS,
    ChannelConfigChange,
    ConnectBody,
    InfoOptions,
    State,
    UserStateBody,
    canonical_uuid,
    explain,
    parse_channel_config,
    parse_connect,
    parse_disconnect,
    parse_info,
    parse_subscribe,
    parse_unsubscribe,
    parse_user_state,
    refusal,
)

ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
PARSERS: list[Callable[[bytes], object]] = [
    parse_connect,
    parse_subscribe,
    parse_unsubscribe,
    parse_info,
    parse_disconnect,
    parse_user_state,
    parse_channel_config,
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
plausible = st.fixed_dictionaries(
    {},
    optional={
        "username": st.text(max_size=5) | json_values,
        "user": st.text(max_size=5) | json_values,
        "conn_id": st.uuids().map(str) | json_values,
        "channels": st.lists(st.text(max_size=3) | json_values, max_size=3) | json_values,
        "channel_configs": st.dictionaries(
            st.text(max_size=3),
            st.dictionaries(st.sampled_from(ChannelConfigChange.__struct_fields__), json_values) | json_values,
            max_size=3,
        ),
        "fresh_user_state": json_values,
        "user_state": st.dictionaries(st.text(max_size=3), json_values, max_size=3),
        "state_public_keys": st.lists(st.text(max_size=3) | json_values, max_size=3) | json_values,
        "info": st.dictionaries(st.sampled_from(InfoOptions.__struct_fields__), json_values, max_size=4) | json_values,
    },
)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def wrong(parse: Callable[..., object], value: object, *more: Any) -> dict[str, list[str]]:
    body = value if isinstance(value, bytes) else as_json(value)
    with pytest.raises(Invalid) as caught:
        parse(body, *more)
    return caught.value.fields


def not_json(parse: Callable[..., object], body: bytes) -> str:
    with pytest.raises(NotJson) as caught:
        parse(body)
    return caught.value.detail


def test_connect_with_its_defaults() -> None:
    assert parse_connect(b'{"username": "a"}') == ConnectBody(
        username="a",
        conn_id=None,
        channels=[],
        channel_configs={},
        fresh_user_state={},
        user_state={},
        state_public_keys=None,
        info=InfoOptions(
            include_history=True,
            include_users=True,
            include_connections=False,
            exclude_channels=[],
            channels=None,
            return_public_state=False,
        ),
    )


def test_connect_with_everything() -> None:
    parsed = parse_connect(
        as_json(
            {
                "username": "ergo",
                "conn_id": ID.upper(),
                "channels": ["a", "ż", "a"],
                "channel_configs": {"a": {"notify_presence": True, "history_size": 50, "colour": "red"}},
                "fresh_user_state": {"avatar": "foo", "n": 1, "f": 1.5, "t": True, "none": None},
                "user_state": {"bar": 2},
                "state_public_keys": [],
                "info": {"exclude_channels": ["b"], "include_history": False, "more": 1},
                "something": {"else": [1]},
            }
        )
    )
    assert (parsed.username, parsed.conn_id, parsed.channels) == ("ergo", ID, ["a", "ż", "a"])
    assert parsed.channel_configs["a"].given() == {"notify_presence": True, "history_size": 50}
    assert parsed.channel_configs["a"].store_frames is UNSET
    assert parsed.fresh_user_state == {"avatar": "foo", "n": 1, "f": 1.5, "t": True, "none": None}
    assert (parsed.user_state, parsed.state_public_keys) == ({"bar": 2}, [])
    assert parsed.info == InfoOptions(include_history=False, exclude_channels=["b"])


def test_the_defaults_of_two_bodies_are_not_shared() -> None:
    parse_connect(b'{"username": "a"}').channels.append("x")
    assert parse_connect(b'{"username": "a"}').channels == []


def test_ten_thousand_channels_in_one_connect() -> None:
    channels = [f"channel-{number}" for number in range(10_000)]
    assert parse_connect(as_json({"username": "a", "channels": channels})).channels == channels


@pytest.mark.parametrize(
    "form", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", ID.replace("-", "").upper()]
)
def test_conn_id_in_any_form_is_given_back_in_one(form: str) -> None:
    assert parse_connect(as_json({"username": "a", "conn_id": form})).conn_id == ID
    assert parse_subscribe(as_json({"conn_id": form, "channels": ["c"]})).conn_id == ID
    assert parse_unsubscribe(as_json({"channels": ["c"]}), form).conn_id == ID
    assert parse_disconnect(b"", form).conn_id == ID
    assert parse_disconnect(as_json({"conn_id": form})).conn_id == ID


@settings(deadline=None)
@given(st.text(max_size=40))
def test_canonical_uuid_takes_what_the_library_takes(text: str) -> None:
    try:
        expected = str(UUID(text))
    except ValueError:
        with pytest.raises(ValueError, match="expected a UUID, got"):
            canonical_uuid(text)
    else:
        assert canonical_uuid(text) == expected


@settings(deadline=None, max_examples=25)
@given(st.from_regex(UUID_FORMS, fullmatch=True))
def test_the_forms_that_callers_are_told_are_taken(text: str) -> None:
    canonical_uuid(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ID, True),
        (ID.upper().replace("-", ""), True),
        (f"{{{ID}}}", True),
        (f"urn:uuid:{ID}", True),
        (f"urn:uuid:{{{ID}}}", True),
        (ID[:-1], False),
        (ID + "0", False),
        (ID[:-1] + "g", False),
        ("", False),
    ],
)
def test_the_forms_that_callers_are_told(text: str, told: bool) -> None:
    assert bool(re.search(UUID_FORMS, text)) is told


@pytest.mark.parametrize(
    ("key", "value", "path", "sentence"),
    [
        ("username", "", "username", "expected `str` of length >= 1"),
        ("username", "u" * 513, "username", "expected `str` of length <= 512"),
        ("username", 7, "username", "expected `str`, got `int`"),
        ("username", None, "username", "expected `str`, got `null`"),
        ("conn_id", "abc", "conn_id", "expected a UUID, got 'abc'"),
        ("conn_id", "", "conn_id", "expected a UUID, got ''"),
        ("conn_id", 1, "conn_id", "expected `str | null`, got `int`"),
        ("channels", "a", "channels", "expected `array`, got `str`"),
        ("channels", None, "channels", "expected `array`, got `null`"),
        ("channels", ["a", "", "b"], "channels.1", "expected `str` of length >= 1"),
        ("channels", ["c" * 257], "channels.0", "expected `str` of length <= 256"),
        ("channels", ["c", None], "channels.1", "expected `str`, got `null`"),
        ("channels", ["c"] * (MAX_CHANNELS + 1), "channels", f"expected `array` of length <= {MAX_CHANNELS}"),
        ("channel_configs", [], "channel_configs", "expected `object`, got `array`"),
        ("channel_configs", {"a": None}, "channel_configs.a", "expected `object`, got `null`"),
        ("channel_configs", {"": {}}, "channel_configs.", "expected `str` of length >= 1"),
        ("channel_configs", {"a": {"history_size": -1}}, "channel_configs.a.history_size", "expected `int` >= 0"),
        (
            "channel_configs",
            {"a": {"history_size": True}},
            "channel_configs.a.history_size",
            "expected `int`, got `bool`",
        ),
        (
            "channel_configs",
            {"a": {"history_size": "5"}},
            "channel_configs.a.history_size",
            "expected `int`, got `str`",
        ),
        (
            "channel_configs",
            {"a": {"history_size": MAX_HISTORY_SIZE + 1}},
            "channel_configs.a.history_size",
            f"expected `int` <= {MAX_HISTORY_SIZE}",
        ),
        (
            "channel_configs",
            {"a": {"frames_size": MAX_FRAMES_SIZE + 1}},
            "channel_configs.a.frames_size",
            f"expected `int` <= {MAX_FRAMES_SIZE}",
        ),
        (
            "channel_configs",
            {"a": {"history_ttl": MAX_HISTORY_TTL_S + 1}},
            "channel_configs.a.history_ttl",
            f"expected `int` <= {MAX_HISTORY_TTL_S}",
        ),
        ("channel_configs", {"a": {"history_ttl": -1}}, "channel_configs.a.history_ttl", "expected `int` >= 0"),
        ("channel_configs", {"a": {"notify_state": 1}}, "channel_configs.a.notify_state", "expected `bool`, got `int`"),
        ("user_state", [], "user_state", "expected `object`, got `array`"),
        ("user_state", {"k": []}, "user_state.k", "expected `bool | int | float | str | null`, got `array`"),
        ("user_state", {"k": 2**63}, "user_state.k", f"expected `int` <= {2**63 - 1}"),
        (
            "fresh_user_state",
            {"k": {}},
            "fresh_user_state.k",
            "expected `bool | int | float | str | null`, got `object`",
        ),
        ("state_public_keys", "k", "state_public_keys", "expected `array | null`, got `str`"),
        ("state_public_keys", ["k", 1], "state_public_keys.1", "expected `str`, got `int`"),
        ("info", None, "info", "expected `object`, got `null`"),
        ("info", {"include_users": "yes"}, "info.include_users", "expected `bool`, got `str`"),
        ("info", {"exclude_channels": [3]}, "info.exclude_channels.0", "expected `str`, got `int`"),
    ],
)
def test_one_wrong_field(key: str, value: object, path: str, sentence: str) -> None:
    assert wrong(parse_connect, {"username": "a", key: value}) == {path: [sentence]}


def test_every_wrong_field_is_named() -> None:
    body = {
        "conn_id": "zzz",
        "channels": ["ok", 1, "x" * 257],
        "channel_configs": {"a": {"history_size": -1, "notify_presence": "no"}, "b": 3, "c": {}},
        "user_state": {"good": 1, "bad": [1]},
        "info": {"include_users": 1},
    }
    assert set(wrong(parse_connect, body)) == {
        "username",
        "conn_id",
        "channels.1",
        "channels.2",
        "channel_configs.a.history_size",
        "channel_configs.a.notify_presence",
        "channel_configs.b",
        "user_state.bad",
        "info.include_users",
    }


def test_a_list_that_is_too_long_and_has_wrong_items_is_told_both() -> None:
    fields = wrong(parse_connect, {"username": "a", "channels": [*["c"] * MAX_CHANNELS, 7]})
    assert set(fields) == {"channels", f"channels.{MAX_CHANNELS}"}


def test_not_more_wrong_fields_than_a_person_can_read() -> None:
    fields = wrong(parse_connect, {"username": "a", "channels": [0] * 50_000})
    assert len(fields) == MAX_WRONG_FIELDS + 1
    assert fields[ROOT] == [f"more than {MAX_WRONG_FIELDS} wrong fields: the rest are not named"]
    assert len(wrong(parse_connect, {"username": "a", "channels": [0] * MAX_WRONG_FIELDS})) == MAX_WRONG_FIELDS


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"username": "u" * 512}, True),
        ({"username": "😀" * 512}, True),
        ({"username": "😀" * 513}, False),
        ({"username": "a", "channels": ["c" * 256]}, True),
        ({"username": "a", "channels": ["c" * 257]}, False),
        ({"username": "a", "channel_configs": {"c" * 256: {}}}, True),
        ({"username": "a", "channel_configs": {"c" * 257: {}}}, False),
        ({"username": "a", "channel_configs": {"c": {"history_size": 0, "frames_size": 0, "history_ttl": 0}}}, True),
        ({"username": "a", "channel_configs": {"c": {"history_size": MAX_HISTORY_SIZE}}}, True),
        ({"username": "a", "channel_configs": {"c": {"frames_size": MAX_FRAMES_SIZE}}}, True),
        ({"username": "a", "user_state": {"k": 2**63 - 1, "l": -(2**63)}}, True),
        ({"username": "a", "user_state": {"k": -(2**63) - 1}}, False),
        ({"username": "a", "conn_id": None, "state_public_keys": None}, True),
    ],
)
def test_limits_at_their_edge(body: object, accepted: bool) -> None:
    if accepted:
        msgspec.msgpack.encode(parse_connect(as_json(body)))
    else:
        wrong(parse_connect, body)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("root", ["[]", "null", '"text"', "1", "true"])
def test_a_root_that_is_no_object(parse: Callable[[bytes], object], root: str) -> None:
    assert wrong(parse, root.encode()) == {ROOT: ["Invalid input type."]}


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "it ends too early (byte 1)"),
        (b'{"username": "a"', "it ends too early (byte 16)"),
        (b'{"username": a}', "invalid character (byte 13)"),
        (b'{"username": "a",}', "trailing comma in object (byte 17)"),
        (b'{"username": NaN}', "invalid character (byte 13)"),
        (b'{"user_state": {"a": Infinity}}', "invalid character (byte 21)"),
        (b'{"user_state": {"a": -Infinity}}', "invalid character (byte 22)"),
        (b'{"username": "a"} x', "trailing characters (byte 18)"),
        (b'{"username": "\\ud800"}', "half a surrogate pair (byte 14)"),
        (b'{"ignored": "\\uD8aF---"}', "half a surrogate pair (byte 13)"),
        (b'{"ignored": "\\ud800 and so on"}', "unexpected end of escaped utf-16 surrogate pair (byte 19)"),
        (b'{"username": "\\ud83d\\ude', "it ends too early (byte 24)"),
        (b'{"username": "\\ud83d\\', "it ends too early (byte 21)"),
        (b'{"username": "\\ud83d', "it ends too early (byte 20)"),
        (b'{"username": "\xff"}', "invalid UTF-8 (byte 14)"),
        (b'{"ignored": "\xc0\x80"}', "invalid UTF-8 (byte 13)"),
        (b'{"\xed\xa0\x80": 1}', "invalid UTF-8 (byte 2)"),
        (b'{"username": "a\nb"}', "invalid character (byte 15)"),
        (b'{"username": 1, "channels": [}', "invalid character (byte 29)"),
        (b"\xef\xbb\xbf{}", "invalid character (byte 0)"),
        (b"user=a&channels=b", "invalid character (byte 0)"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"username": ' + b'{"a":' * 100_000, "it is nested too deeply"),
        (b'{"ignored": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
    ],
)
def test_what_is_not_json_says_where(parse: Callable[[bytes], object], body: bytes, detail: str) -> None:
    assert not_json(parse, body) == detail


@pytest.mark.parametrize("name", ["\\ud800", "\\ud800 and more", "\\udc00", "a\\ud83d\\u0041b"])
def test_lone_surrogates_are_refused(name: str) -> None:
    not_json(parse_connect, b'{"username": "%b"}' % name.encode())
    not_json(parse_connect, b'{"username": "a", "channels": ["%b"]}' % name.encode())


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_connect(b'{"username": "\\ud83d\\ude00"}').username == "😀"


@pytest.mark.parametrize(
    "parse", [parse_connect, parse_subscribe, parse_unsubscribe, parse_user_state, parse_channel_config]
)
@pytest.mark.parametrize("body", [b"", b"  \r\n"])
def test_an_empty_body_where_one_is_needed(parse: Callable[[bytes], object], body: bytes) -> None:
    assert not_json(parse, body) == "it is empty"


def test_a_number_that_nobody_can_hold() -> None:
    assert wrong(parse_connect, b'{"username": "a", "user_state": {"a": 1e999}}') == {ROOT: ["number out of range"]}


def test_a_body_too_deep_for_the_fast_reading_is_not_read_again() -> None:
    refused = refusal(ConnectBody, b"{}", RecursionError())
    assert isinstance(refused, NotJson)
    assert refused.body() == {"error": "the body is not JSON: it is nested too deeply"}


def test_the_last_of_two_equal_keys_counts_but_the_first_must_fit_too() -> None:
    assert parse_connect(b'{"username": "a", "username": "b"}').username == "b"
    assert wrong(parse_connect, b'{"username": 1, "username": "b"}') == {ROOT: ["expected `str`, got `int`"]}


@pytest.mark.parametrize("parse", [parse_subscribe, parse_unsubscribe])
def test_subscribe_and_unsubscribe(parse: Callable[..., Any]) -> None:
    parsed = parse(as_json({"conn_id": ID, "channels": ["a"], "info": {"include_users": False}}))
    assert (parsed.conn_id, parsed.channels, parsed.info) == (ID, ["a"], InfoOptions(include_users=False))
    assert set(wrong(parse, {})) == {"conn_id", "channels"}
    assert set(wrong(parse, {"conn_id": None, "channels": []})) == {"conn_id", "channels"}
    assert wrong(parse, {"conn_id": ID, "channels": []}) == {"channels": ["expected `array` of length >= 1"]}


@pytest.mark.parametrize("parse", [parse_subscribe, parse_unsubscribe])
def test_conn_id_of_the_url(parse: Callable[..., Any]) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    assert parse(as_json({"channels": ["a"]}), ID).conn_id == ID
    assert parse(as_json({"channels": ["a"], "conn_id": ID}), other).conn_id == ID
    assert wrong(parse, {"channels": [1]}, "nonsense") == {
        "conn_id": ["expected a UUID, got 'nonsense'"],
        "channels.0": ["expected `str`, got `int`"],
    }
    assert list(wrong(parse, [], ID)) == [ROOT]
    with pytest.raises(NotJson):
        parse(b"", ID)


def test_subscribe_configures_channels() -> None:
    parsed = parse_subscribe(as_json({"conn_id": ID, "channels": ["a"], "channel_configs": {"a": {"frames_size": 3}}}))
    assert parsed.channel_configs["a"].given() == {"frames_size": 3}


@pytest.mark.parametrize(
    ("body", "channels"),
    [
        (b"", None),
        (b" \n", None),
        (b"{}", None),
        (b'{"info": {}}', None),
        (b'{"channels": []}', None),
        (b'{"channels": null}', None),
        (b'{"info": {"channels": []}}', []),
        (b'{"info": {"channels": null}}', None),
        (b'{"channels": ["a"]}', ["a"]),
        (b'{"info": {"channels": ["a"]}}', ["a"]),
        (b'{"info": {"channels": ["a"]}, "channels": ["b"]}', ["a"]),
        (b'{"info": {"channels": []}, "channels": ["b"]}', []),
    ],
)
def test_info_and_its_channels(body: bytes, channels: list[str] | None) -> None:
    assert parse_info(body) == InfoOptions(channels=channels)


def test_info_keeps_its_other_options() -> None:
    parsed = parse_info(b'{"info": {"include_history": false, "return_public_state": true}, "channels": ["a"]}')
    assert parsed == InfoOptions(include_history=False, return_public_state=True, channels=["a"])
    assert wrong(parse_info, {"channels": "a"}) == {"channels": ["expected `array | null`, got `str`"]}


def test_user_state_with_its_defaults() -> None:
    assert parse_user_state(b'{"user": "a"}') == UserStateBody(user="a", user_state={}, state_public_keys=None)
    assert parse_user_state(b'{"user": "a", "state_public_keys": null}').state_public_keys is None


def test_user_state_with_everything() -> None:
    state: State = {"avatar": "foo", "n": 1, "f": 1.5, "t": True, "none": None}
    parsed = parse_user_state(as_json({"user": "a", "user_state": state, "state_public_keys": [], "more": [1]}))
    assert parsed == UserStateBody(user="a", user_state=state, state_public_keys=[])


def test_every_wrong_field_of_a_user_state_is_named() -> None:
    body = {"user": "u" * 513, "user_state": {"good": 1, "bad": {}, "big": 2**63}, "state_public_keys": ["k", 1]}
    assert wrong(parse_user_state, body) == {
        "user": ["expected `str` of length <= 512"],
        "user_state.bad": ["expected `bool | int | float | str | null`, got `object`"],
        "user_state.big": [f"expected `int` <= {2**63 - 1}"],
        "state_public_keys.1": ["expected `str`, got `int`"],
    }
    assert wrong(parse_user_state, {}) == {"user": ["Missing data for required field."]}


def test_channel_config_keeps_to_the_keys_that_are_given() -> None:
    parsed = parse_channel_config(as_json({"a": {"history_size": 0, "colour": "red"}, "ż" * 256: {}}))
    assert {name: change.given() for name, change in parsed.items()} == {"a": {"history_size": 0}, "ż" * 256: {}}
    assert parse_channel_config(b"{}") == {}


def test_every_wrong_field_of_every_channel_is_named() -> None:
    body = {
        "a": {"history_size": -1, "notify_presence": "no"},
        "b": None,
        "": {},
        "c" * 257: {"history_ttl": 1.5},
        "fine": {"store_history": True},
    }
    assert set(wrong(parse_channel_config, body)) == {
        "a.history_size",
        "a.notify_presence",
        "b",
        ROOT,
        "c" * 257,
        "c" * 257 + ".history_ttl",
    }


def test_not_more_configurations_than_channels() -> None:
    configs: dict[str, object] = {f"c{number}": {} for number in range(MAX_CHANNELS + 1)}
    sentence = f"expected `object` of length <= {MAX_CHANNELS}"
    assert wrong(parse_channel_config, configs) == {ROOT: [sentence]}
    assert wrong(parse_connect, {"username": "a", "channel_configs": configs}) == {"channel_configs": [sentence]}
    del configs["c0"]
    assert len(parse_channel_config(as_json(configs))) == MAX_CHANNELS


def test_disconnect_without_an_id() -> None:
    for body in (b"", b"{}"):
        assert wrong(parse_disconnect, body) == {"conn_id": ["Missing data for required field."]}
    assert wrong(parse_disconnect, b"", "abc") == {"conn_id": ["expected a UUID, got 'abc'"]}


def test_disconnect_with_an_id_in_the_url_does_not_look_at_the_body() -> None:
    assert parse_disconnect(b"\xff not json", ID).conn_id == ID


def outcome(parse: Callable[[bytes], object], body: bytes) -> tuple[object, CallerError | None]:
    """What comes out: a parsed body or a refusal, and nothing else."""
    try:
        return parse(body), None
    except CallerError as refused:
        return None, refused


@pytest.mark.parametrize("parse", PARSERS)
@settings(deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(parse: Callable[[bytes], object], body: bytes) -> None:
    _, refused = outcome(parse, body)
    if refused is not None:
        msgspec.json.encode(refused.body())


@pytest.mark.parametrize("parse", PARSERS)
@settings(deadline=None)
@given(value=json_values | plausible)
def test_any_json_is_parsed_or_refused(parse: Callable[[bytes], object], value: object) -> None:
    parsed, refused = outcome(parse, msgspec.json.encode(value))
    if refused is None:
        msgspec.msgpack.encode(parsed)  # it can cross the wire, and every text in it can be encoded
    else:
        assert isinstance(refused, Invalid)
        assert refused.fields
        assert all(refused.fields.values())


@settings(deadline=None)
@given(plausible)
def test_what_is_named_is_what_is_wrong(value: dict[str, Any]) -> None:
    """The slow reading finds something exactly where the fast one stumbles, and only below keys that were given."""
    _, refused = outcome(parse_connect, msgspec.json.encode(value))
    fields = refused.fields if isinstance(refused, Invalid) else {}
    assert explain(ConnectBody, value) == fields
    assert (refused is None) == (not fields)
    assert {path.partition(".")[0] for path in fields} <= {*value, "username"}
