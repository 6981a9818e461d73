"""POST, PATCH and DELETE /message: what becomes of each message, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channelstream.errors import CallerError, Invalid, NotJson
from channelstream.router.bodies import (
    DATETIME_FORMS,
    MAX_MESSAGES,
    MAX_USERS,
    TakenDeletion,
    TakenEdit,
    canonical_timestamp,
    parse_deletions,
    parse_edits,
    parse_messages,
)

ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
NOW = "2024-05-06T07:08:09.000010"
PLAIN = {"user": "ergo", "channel": "pub", "message": {"text": "hi"}}
KNOWN = {"user", "message", "channel", "pm_users", "exclude_users", "no_history", "uuid", "timestamp"}
DROPPED = {"type", "date", "catchup", "seq", "edited", "epoch"}


def uuid_number(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


class Taken(NamedTuple):
    """One message as it was taken."""

    uuid: str | None
    channel: str | None
    pm_users: list[str]
    exclude_users: list[str]
    no_history: bool
    frame: bytes
    taken: bytes
    """What the answer says of it."""


def parse(body: object) -> list[Taken]:
    numbers = count()
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    messages, frames, answer = parse_messages(raw, lambda: uuid_number(next(numbers)), NOW)
    told = msgspec.json.decode(answer, type=list[msgspec.Raw])
    return [
        Taken(one.uuid, one.channel, one.pm_users, one.exclude_users, one.no_history, frame, bytes(raw))
        for one, frame, raw in zip(messages, frames, told, strict=True)
    ]


def one(**changes: object) -> Taken:
    (taken,) = parse([{**PLAIN, **changes}])
    return taken


def wrong(body: object) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        parse(body)
    return caught.value.fields


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), f"a key twice: {[key for key, _ in pairs]}"
    return dict(pairs)


def top_level(raw: bytes) -> dict[str, Any]:
    """The object, after a strict reading: UTF-8, one line, and no key of the top level twice."""
    assert b"\n" not in raw
    assert b"\r" not in raw
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is finished last
        return dict(found)

    json.loads(raw.decode(), object_pairs_hook=keep)
    return unique_keys(pairs)


def as_clients_get_it(taken: Taken, seq: int = 7) -> dict[str, Any]:
    assert taken.frame.endswith(b"}")
    return top_level(taken.frame[:-1] + b',"catchup":false,"seq":%d}' % seq)


def test_a_message_as_clients_get_it() -> None:
    (taken,) = parse([PLAIN])
    assert taken.frame == (
        b'{"type":"message","uuid":"00000000-0000-4000-8000-000000000000","timestamp":"2024-05-06T07:08:09.000010",'
        b'"date":"2024-05-06T07:08:09.000010","user":"ergo","channel":"pub","message":{"text": "hi"},"edited":null}'
    )
    assert as_clients_get_it(taken) == {
        "type": "message",
        "uuid": uuid_number(0),
        "timestamp": NOW,
        "date": NOW,
        "user": "ergo",
        "channel": "pub",
        "message": {"text": "hi"},
        "edited": None,
        "catchup": False,
        "seq": 7,
    }


def test_a_message_as_it_was_taken() -> None:
    taken = one(pm_users=["a", "b"], exclude_users=["c"], no_history=True, uuid=ID)
    assert (taken.uuid, taken.channel) == (ID, "pub")
    assert (taken.pm_users, taken.exclude_users, taken.no_history) == (["a", "b"], ["c"], True)
    assert top_level(taken.taken) == {
        "type": "message",
        "uuid": ID,
        "timestamp": NOW,
        "user": "ergo",
        "channel": "pub",
        "message": {"text": "hi"},
        "pm_users": ["a", "b"],
        "exclude_users": ["c"],
        "no_history": True,
        "edited": None,
    }


def test_who_may_see_it_is_not_told_to_clients() -> None:
    told = as_clients_get_it(one(pm_users=["a"], exclude_users=["b"], no_history=True))
    assert not {"pm_users", "exclude_users", "no_history"} & told.keys()


def test_the_defaults() -> None:
    taken = one()
    assert (taken.pm_users, taken.exclude_users, taken.no_history) == ([], [], False)


def test_a_private_message_has_channel_null() -> None:
    (taken,) = parse([{"user": "a", "pm_users": ["b"], "message": {}}])
    assert taken.channel is None
    assert as_clients_get_it(taken)["channel"] is None
    (taken,) = parse([{"user": "a", "pm_users": ["b"], "channel": None, "message": {}}])
    assert taken.channel is None


def test_the_order_is_kept_and_each_has_its_own_uuid() -> None:
    taken = parse([{**PLAIN, "message": {"n": number}} for number in range(300)])
    assert [as_clients_get_it(each)["message"]["n"] for each in taken] == list(range(300))
    assert [each.uuid for each in taken] == [uuid_number(number) for number in range(300)]


def test_no_messages() -> None:
    assert parse([]) == []


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"n": 1.00, "e": 1E+2, "big": 123456789012345678901234567890, "tiny": 1e-999, "u": "\\u0041\\/"}',
        '{"text": "zażółć 😀 \u2028"}'.encode(),
        b'{"a": {"b": [1, [2, {"c": null}]]}, "a": 2}',
        b'{ "spaced" :\t[ 1 , 2 ] }',
        b'{"\\u0000": "\\ud83d\\ude00 \\n \\\\ \\""}',
    ],
)
def test_the_payload_travels_untouched(payload: bytes) -> None:
    (taken,) = parse(b'[{"user": "a", "channel": "c", "message": %b}]' % payload)
    assert b'"message":' + payload + b',"edited":null' in taken.frame
    assert b'"message":' + payload + b"," in taken.taken
    as_clients_get_it(taken)


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"])
def test_line_breaks_between_tokens_are_left_out(line_break: bytes) -> None:
    body = b'[\n {"user": "a",\n "channel": "c",\n "message": {\n\t"n": 1.50,\n "t": "x\\ny"\n},\n "x": [\n1\n]\n}\n]\n'
    (taken,) = parse(body.replace(b"\n", line_break))
    assert b'"message":{"n":1.50,"t":"x\\ny"},"edited":null,"x":[1]}' in taken.frame
    as_clients_get_it(taken)
    top_level(taken.taken)


def test_the_sender_s_own_keys_travel_along() -> None:
    taken = one(colour="red", nested={"a": [1, None]}, users=[1], state={}, **{'qu"o\nte ż': 1})
    extra = {"colour": "red", "nested": {"a": [1, None]}, "users": [1], "state": {}, 'qu"o\nte ż': 1}
    for told in (as_clients_get_it(taken), top_level(taken.taken)):
        assert {key: told[key] for key in extra} == extra


def test_messages_with_and_without_own_keys_in_one_request() -> None:
    first, second, third = parse([PLAIN, {**PLAIN, "x": 1}, PLAIN])
    assert "x" not in as_clients_get_it(first)
    assert as_clients_get_it(second)["x"] == 1
    assert "x" not in as_clients_get_it(third)


@pytest.mark.parametrize("key", sorted(DROPPED))
def test_a_sender_cannot_forge_our_keys(key: str) -> None:
    taken = one(**{key: "forged", "own": 1})
    assert b"forged" not in taken.frame + taken.taken
    assert as_clients_get_it(taken) == {**as_clients_get_it(one()), "own": 1}


def test_a_forged_key_behind_escapes() -> None:
    (taken,) = parse(b'[{"user": "a", "channel": "c", "message": {}, "\\u0073eq": 99, "\\u0063atchup": true}]')
    assert as_clients_get_it(taken, 3)["seq"] == 3
    assert b"99" not in taken.frame


def test_known_keys_behind_escapes_are_known() -> None:
    (taken,) = parse(
        b'[{"\\u0075ser": "a", "ch\\u0061nnel": "c", "m\\u0065ssage": {"a": 1}, "no_\\u0068istory": true}]'
    )
    assert taken.no_history
    assert as_clients_get_it(taken)["message"] == {"a": 1}


def test_of_keys_that_come_twice_one_goes_out() -> None:
    (taken,) = parse(
        b'[{"user": "a", "user": "b", "channel": "c", "message": {"n": 1}, "x": 1, "message": {"n": 2}, "x": 2}]'
    )
    told = as_clients_get_it(taken)
    assert (told["user"], told["message"], told["x"]) == ("b", {"n": 2}, 2)


@pytest.mark.parametrize("form", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_a_uuid_that_is_given_is_made_canonical(form: str) -> None:
    taken = one(uuid=form)
    assert taken.uuid == ID
    assert as_clients_get_it(taken)["uuid"] == top_level(taken.taken)["uuid"] == ID


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        ("2011-09-15T11:36:18.471862", "2011-09-15T11:36:18.471862"),
        ("2011-09-15T11:36:18", "2011-09-15T11:36:18.000000"),
        ("2011-09-15 11:36:18", "2011-09-15T11:36:18.000000"),
        ("2011-09-15T11:36", "2011-09-15T11:36:00.000000"),
        ("2011-09-15T11:36:18.4", "2011-09-15T11:36:18.400000"),
        ("2011-09-15T11:36:18Z", "2011-09-15T11:36:18.000000"),
        ("2011-09-15T11:36:18.471862+00:00", "2011-09-15T11:36:18.471862"),
        ("2011-09-15T11:36:18+02:00", "2011-09-15T09:36:18.000000"),
        ("2011-12-31T23:36:18-0130", "2012-01-01T01:06:18.000000"),
        ("20110915T113618", "2011-09-15T11:36:18.000000"),
        ("0099-01-01T00:00:00", "0099-01-01T00:00:00.000000"),
        ("2011-09-15t11", "2011-09-15T11:00:00.000000"),
        ("2011-W37-4T11:36:18,4718629", "2011-09-15T11:36:18.471862"),
        ("2011W374T1136+0030", "2011-09-15T11:06:00.000000"),
    ],
)
def test_a_timestamp_that_is_given_is_made_canonical(given_as: str, expected: str) -> None:
    taken = one(timestamp=given_as)
    told = as_clients_get_it(taken)
    assert told["timestamp"] == told["date"] == top_level(taken.taken)["timestamp"] == expected


offsets = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439))


@settings(deadline=None)
@given(st.datetimes(timezones=st.none() | offsets))
def test_canonical_timestamps_stay_as_they_are(moment: datetime) -> None:
    try:
        canonical = canonical_timestamp(moment.isoformat())
    except ValueError:  # at the ends of the calendar, where an offset leads beyond it
        assert moment.year in (1, 9999)
    else:
        assert canonical_timestamp(canonical) == canonical
        assert len(canonical) == len(NOW)


@settings(deadline=None)
@given(st.from_regex(DATETIME_FORMS, fullmatch=True).map(str.strip))
def test_the_forms_of_a_timestamp_that_callers_are_told_are_taken(text: str) -> None:
    try:
        canonical_timestamp(text)
    except ValueError:  # what no pattern knows: the calendar, and where it ends
        assert re.search("(29|3[01]|W53.*)[Tt ]|^(0000|0001|9999)", text), text


def test_null_is_as_good_as_absent() -> None:
    assert one(uuid=None, timestamp=None) == one()


@pytest.mark.parametrize(
    ("key", "value", "path", "sentence"),
    [
        ("user", 7, "0.user", "expected `str`, got `int`"),
        ("user", None, "0.user", "expected `str`, got `null`"),
        ("user", "", "0.user", "expected `str` of length >= 1"),
        ("user", "u" * 513, "0.user", "expected `str` of length <= 512"),
        ("channel", "", "0.channel", "expected `str` of length >= 1"),
        ("channel", "c" * 257, "0.channel", "expected `str` of length <= 256"),
        ("channel", 1, "0.channel", "expected `str | null`, got `int`"),
        ("message", "text", "0.message", "expected `object`, got `str`"),
        ("message", None, "0.message", "expected `object`, got `null`"),
        ("message", [{}], "0.message", "expected `object`, got `array`"),
        ("pm_users", "a", "0.pm_users", "expected `array`, got `str`"),
        ("pm_users", None, "0.pm_users", "expected `array`, got `null`"),
        ("pm_users", ["a", 1], "0.pm_users.1", "expected `str`, got `int`"),
        ("pm_users", ["a"] * (MAX_USERS + 1), "0.pm_users", f"expected `array` of length <= {MAX_USERS}"),
        ("exclude_users", [""], "0.exclude_users.0", "expected `str` of length >= 1"),
        ("no_history", 1, "0.no_history", "expected `bool`, got `int`"),
        ("no_history", "true", "0.no_history", "expected `bool`, got `str`"),
        ("uuid", "abc", "0.uuid", "expected a UUID, got 'abc'"),
        ("uuid", "", "0.uuid", "expected a UUID, got ''"),
        ("uuid", 5, "0.uuid", "expected `str | null`, got `int`"),
        ("timestamp", 5, "0.timestamp", "expected `str | null`, got `int`"),
        ("timestamp", "", "0.timestamp", "expected an ISO 8601 date and time, got ''"),
        ("timestamp", "today", "0.timestamp", "expected an ISO 8601 date and time, got 'today'"),
        *(
            ("timestamp", text, "0.timestamp", f"expected an ISO 8601 date and time, got {text!r}")
            for text in (
                "2011-09-15",
                "2011-09-15x11:36:18",
                "2011-0915T11:36:18",
                "2011-09-15T11:3618",
                "2011-09-15T11:36:18\n",
                "2011-02-29T00:00:00",
                "٢٠١١-09-15T11:36:18",
            )
        ),
        (
            "timestamp",
            "2011-13-15T00:00:00",
            "0.timestamp",
            "expected an ISO 8601 date and time, got '2011-13-15T00:00:00'",
        ),
        (
            "timestamp",
            "0001-01-01T00:00:00+23:00",
            "0.timestamp",
            "expected an ISO 8601 date and time, got '0001-01-01T00:00:00+23:00'",
        ),
    ],
)
def test_one_wrong_field(key: str, value: object, path: str, sentence: str) -> None:
    assert wrong([{**PLAIN, key: value}]) == {path: [sentence]}


@pytest.mark.parametrize(
    "message",
    [
        {"user": "a", "message": {}},
        {"user": "a", "message": {}, "channel": None},
        {"user": "a", "message": {}, "pm_users": []},
        {"user": "a", "message": {}, "exclude_users": ["b"]},
    ],
)
def test_a_message_for_nobody_is_refused(message: object) -> None:
    assert wrong([PLAIN, message]) == {"1.channel": ["expected a channel or pm_users"]}


def test_every_wrong_field_of_every_message_is_named() -> None:
    fields = wrong([PLAIN, {"user": 1, "channel": "c"}, 5, {**PLAIN, "uuid": "x"}, {"user": "a", "message": {}}, PLAIN])
    assert list(fields) == ["1.user", "1.message", "2", "3.uuid", "4.channel"]


def test_one_bad_message_refuses_all_and_uses_no_uuid() -> None:
    def new_uuid() -> str:
        raise AssertionError("a uuid for a request that is refused")

    with pytest.raises(Invalid):
        parse_messages(json.dumps([PLAIN, {**PLAIN, "timestamp": "x"}]).encode(), new_uuid, NOW)


@pytest.mark.parametrize("root", [b"{}", b"null", b'"x"', b'{"user": "a", "channel": "c", "message": {}}'])
def test_a_root_that_is_no_list(root: bytes) -> None:
    assert wrong(root) == {"_schema": ["Invalid input type."]}


def test_limits_at_their_edge() -> None:
    assert len(parse([PLAIN] * MAX_MESSAGES)) == MAX_MESSAGES
    assert wrong([PLAIN] * (MAX_MESSAGES + 1)) == {"_schema": [f"expected `array` of length <= {MAX_MESSAGES}"]}
    names = [f"user-{number}" for number in range(MAX_USERS)]
    assert one(pm_users=names, exclude_users=names).pm_users == names
    assert one(user="😀" * 512, channel="😀" * 256).channel == "😀" * 256


UNSOUND = [
    (b'"\xff"', "invalid UTF-8 (byte 58)"),
    (b'"\xed\xa0\x80"', "invalid UTF-8 (byte 58)"),
    (b'"\\x41"', "invalid escape character in string"),
    (b'"\\ud800 alone"', "surrogate pair"),
    (b'"\x01"', "invalid character"),
    (b'"a\nb"', "invalid character"),
    (b"NaN", "invalid character"),
    (b"-Infinity", "invalid character"),
    (b"01", "invalid number"),
    (b"1.", "invalid number"),
    (b"'a'", "invalid character"),
    (b"[1,]", "trailing comma in array"),
    (b"{1: 2}", "object keys must be strings"),
    (b"tru", "invalid character"),
    (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("value", "detail"), UNSOUND)
def test_an_unsound_payload_never_goes_out(value: bytes, detail: str) -> None:
    with pytest.raises(NotJson, match=detail.replace("(", "\\(").replace(")", "\\)")):
        parse(b'[{"user": "ergo", "channel": "pub!", "message": {"text": '.ljust(56) + value + b"}}]")


@pytest.mark.parametrize("value", [value for value, _ in UNSOUND])
@pytest.mark.parametrize("key", [b"own", b"seq"])
def test_an_unsound_key_of_the_sender_never_goes_out(value: bytes, key: bytes) -> None:
    with pytest.raises(NotJson):
        parse(b'[{"user": "a", "channel": "c", "message": {}, "%b": %b}]' % (key, value))


def test_a_number_that_readers_fail_on_never_goes_out() -> None:
    for number in (b"1e999", b"-1e999", b"9" * 400 + b".5", b"9" * 5000):
        assert "out of range" in wrong(b'[{"user":"a","channel":"c","message":{"n":%b}}]' % number)["_schema"][0]
        assert "out of range" in wrong(b'[{"user":"a","channel":"c","message":{},"n":%b}]' % number)["_schema"][0]


@pytest.mark.parametrize("body", [b"", b" \n", b"[", b"[{]", b"[]]", b"user=a"])
def test_what_is_not_json(body: bytes) -> None:
    with pytest.raises(NotJson):
        parse(body)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(texts, json_values, max_size=4)
names = texts.filter(bool)
good_messages = st.builds(
    lambda extra, ours, known: {**extra, **ours, **known},
    st.dictionaries(texts.filter(lambda key: key not in KNOWN), json_values, max_size=3),
    st.dictionaries(st.sampled_from(sorted(DROPPED)), json_values, max_size=2),
    st.fixed_dictionaries(
        {"user": names, "message": objects, "channel": names},
        optional={
            "pm_users": st.lists(names, max_size=3),
            "exclude_users": st.lists(names, max_size=3),
            "no_history": st.booleans(),
            "uuid": st.uuids().map(str),
        },
    ),
)
likely_messages = st.dictionaries(st.sampled_from(sorted(KNOWN | DROPPED)) | texts, json_values, max_size=6)


@settings(deadline=None)
@given(st.lists(good_messages, max_size=4), st.sampled_from([None, 2]), st.booleans())
def test_every_good_message_comes_out_as_expected(sent: list[dict[str, Any]], indent: int | None, ascii: bool) -> None:
    body = json.dumps(sent, indent=indent, ensure_ascii=ascii).encode()
    taken = parse(body)
    uuids = iter([uuid_number(number) for number in range(len(sent))])
    for seq, (message, each) in enumerate(zip(sent, taken, strict=True)):
        extra = {key: value for key, value in message.items() if key not in KNOWN | DROPPED}
        both = {
            "type": "message",
            "uuid": message["uuid"] if "uuid" in message else next(uuids),
            "timestamp": NOW,
            "user": message["user"],
            "channel": message["channel"],
            "message": message["message"],
            "edited": None,
            **extra,
        }
        filters = {
            "pm_users": message.get("pm_users", []),
            "exclude_users": message.get("exclude_users", []),
            "no_history": message.get("no_history", False),
        }
        assert as_clients_get_it(each, seq) == {**both, "date": NOW, "catchup": False, "seq": seq}
        assert top_level(each.taken) == {**both, **filters}
        assert msgspec.json.decode(each.frame) == {**both, "date": NOW}


def outcome(body: bytes) -> tuple[list[Taken], CallerError | None]:
    """What comes out: messages or a refusal, and nothing else."""
    try:
        return parse(body), None
    except CallerError as refused:
        return [], refused


@settings(deadline=None)
@given(json_values | st.lists(likely_messages | json_values, max_size=3))
def test_any_json_is_taken_or_refused(value: object) -> None:
    taken, refused = outcome(msgspec.json.encode(value))
    if refused is not None:
        assert isinstance(refused, Invalid)
        msgspec.json.encode(refused.body())
    for each in taken:
        as_clients_get_it(each)
        msgspec.msgpack.encode(each)


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 60))
def test_any_bytes_are_taken_or_refused(noise: bytes, position: int) -> None:
    sound = b'[{"user":"a","channel":"c","message":{"t":"x"},"own":[1]}]'
    for body in (noise, sound[:position] + noise + sound[position:], sound[:position]):
        taken, refused = outcome(body)
        if refused is not None:
            msgspec.json.encode(refused.body())
        for each in taken:
            as_clients_get_it(each)


# --- edits ---

AT = "2011-09-15T11:36:18.471862"
EDIT = {"uuid": ID, "channel": "pub"}


def as_json(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def one_edit(**changes: object) -> TakenEdit:
    (edit,) = parse_edits(as_json([{**EDIT, **changes}]), NOW)
    return edit


def wrong_edits(body: object) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        parse_edits(as_json(body), NOW)
    return caught.value.fields


def changed(edit: TakenEdit) -> dict[str, Any]:
    for value in edit.changes.values():
        assert b"\n" not in value
    return {key: json.loads(value) for key, value in edit.changes.items()}


def spliced(frame: bytes) -> dict[str, Any]:
    """The frame as clients get it, without what the shard adds."""
    told = top_level(frame[:-1] + b',"catchup":false,"seq":7}')
    assert (told.pop("catchup"), told.pop("seq")) == (False, 7)
    return told


def test_an_edit_of_the_message() -> None:
    edit = one_edit(message={"text": "new"})
    assert (edit.uuid, edit.channel, edit.pm_users) == (ID, "pub", [])
    assert changed(edit) == {"message": {"text": "new"}, "edited": NOW}
    told = {"type": "message:edit", "uuid": ID, "channel": "pub", "message": {"text": "new"}, "edited": NOW}
    assert spliced(edit.frame) == told
    assert top_level(edit.taken) == {**told, "pm_users": []}


def test_an_edit_of_everything() -> None:
    edit = one_edit(
        uuid=ID.upper(), user="ann", timestamp=f"{AT}+01:00", edited="2012-01-01 00:00", message={}, colour="red", n=[1]
    )
    then = "2011-09-15T10:36:18.471862"
    both = {"user": "ann", "timestamp": then, "message": {}, "edited": "2012-01-01T00:00:00.000000", "colour": "red",
            "n": [1]}  # fmt: skip
    assert changed(edit) == {**both, "date": then}
    assert spliced(edit.frame) == {"type": "message:edit", "uuid": ID, "channel": "pub", **both, "date": then}
    assert top_level(edit.taken) == {"type": "message:edit", "uuid": ID, "channel": "pub", "pm_users": [], **both}


def test_an_edit_of_nothing_says_when() -> None:
    assert changed(one_edit()) == changed(one_edit(edited=None, timestamp=None)) == {"edited": NOW}


def test_an_edit_of_a_private_message() -> None:
    (edit,) = parse_edits(as_json([{"uuid": ID, "pm_users": ["a", "b"], "colour": "red"}]), NOW)
    assert (edit.channel, edit.pm_users) == (None, ["a", "b"])
    assert "pm_users" not in edit.changes
    assert spliced(edit.frame)["channel"] is None
    assert "pm_users" not in spliced(edit.frame)
    assert top_level(edit.taken)["pm_users"] == ["a", "b"]


def test_a_message_that_is_sent_back_as_it_was_taken_can_be_edited() -> None:
    sent = top_level(one(pm_users=["a"], exclude_users=["b"], no_history=True, colour="red").taken)
    (edit,) = parse_edits(as_json([{**sent, "message": {"text": "new"}}]), "2030-01-01T00:00:00.000000")
    assert changed(edit) == {
        "timestamp": NOW,
        "date": NOW,
        "user": "ergo",
        "message": {"text": "new"},
        "edited": "2030-01-01T00:00:00.000000",
        "colour": "red",
    }


@pytest.mark.parametrize("key", ["type", "date", "catchup", "seq", "epoch", "exclude_users", "no_history"])
def test_an_edit_cannot_forge_our_keys(key: str) -> None:
    assert one_edit(**{key: "forged"}) == one_edit()
    (edit,) = parse_edits(b'[{"uuid": "%b", "channel": "pub", "\\u0073eq": 99}]' % ID.encode(), NOW)
    assert edit == one_edit()


def test_an_edits_payload_travels_untouched_but_on_one_line() -> None:
    (edit,) = parse_edits(
        b'[{"uuid": "%b", "channel": "c",\n "m\\u0065ssage": {"n": 1.00,\n"big": 1E+2}, "x": [1,\r\n2]}]' % ID.encode(),
        NOW,
    )
    assert edit.changes["message"] == b'{"n":1.00,"big":1E+2}'
    assert edit.changes["x"] == b"[1,2]"
    spliced(edit.frame)
    (edit,) = parse_edits(b'[{"uuid": "%b", "channel": "c", "message": { "n" : 1.00 }}]' % ID.encode(), NOW)
    assert edit.changes["message"] == b'{ "n" : 1.00 }'
    assert b'"message":{ "n" : 1.00 }' in edit.frame


def test_the_order_of_edits_is_kept() -> None:
    edits = parse_edits(as_json([{**EDIT, "n": number} for number in range(50)]), NOW)
    assert [changed(edit)["n"] for edit in edits] == list(range(50))
    assert parse_edits(b"[]", NOW) == []


@pytest.mark.parametrize(
    ("key", "value", "path", "sentence"),
    [
        ("uuid", "x", "0.uuid", "expected a UUID, got 'x'"),
        ("uuid", None, "0.uuid", "expected `str`, got `null`"),
        ("channel", "c" * 257, "0.channel", "expected `str` of length <= 256"),
        ("channel", None, "0.channel", "expected a channel or pm_users"),
        ("pm_users", [""], "0.pm_users.0", "expected `str` of length >= 1"),
        ("pm_users", ["a"] * (MAX_USERS + 1), "0.pm_users", f"expected `array` of length <= {MAX_USERS}"),
        ("message", "text", "0.message", "expected `object`, got `str`"),
        ("message", None, "0.message", "expected `object`, got `null`"),
        ("user", "", "0.user", "expected `str` of length >= 1"),
        ("user", None, "0.user", "expected `str`, got `null`"),
        ("timestamp", "now", "0.timestamp", "expected an ISO 8601 date and time, got 'now'"),
        ("timestamp", 7, "0.timestamp", "expected `str | null`, got `int`"),
        ("edited", "2024-01-01", "0.edited", "expected an ISO 8601 date and time, got '2024-01-01'"),
    ],
)
def test_one_wrong_field_of_an_edit(key: str, value: object, path: str, sentence: str) -> None:
    assert wrong_edits([{**EDIT, key: value}]) == {path: [sentence]}


def test_every_wrong_field_of_every_edit_is_named() -> None:
    fields = wrong_edits([EDIT, {"channel": 1, "edited": "x"}, 5, {"uuid": ID}, EDIT])
    assert list(fields) == ["1.uuid", "1.channel", "1.edited", "2", "3.channel"]
    assert wrong_edits({}) == {"_schema": ["Invalid input type."]}
    assert wrong_edits([EDIT] * (MAX_MESSAGES + 1)) == {"_schema": [f"expected `array` of length <= {MAX_MESSAGES}"]}


@pytest.mark.parametrize("value", [value for value, _ in UNSOUND])
@pytest.mark.parametrize("key", [b"own", b"seq", b"message"])
def test_nothing_unsound_goes_out_in_an_edit(value: bytes, key: bytes) -> None:
    with pytest.raises(NotJson):
        parse_edits(b'[{"uuid": "%b", "channel": "c", "%b": {"a": %b}}]' % (ID.encode(), key, value), NOW)


def test_a_number_that_readers_fail_on_never_goes_out_in_an_edit() -> None:
    for member in (b'"message":{"n":1e999}', b'"n":1e999'):
        body = b'[{"uuid":"%b","channel":"c",%b}]' % (ID.encode(), member)
        assert "out of range" in wrong_edits(body)["_schema"][0]


# --- deletions ---


def wrong_deletions(body: object) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        parse_deletions(as_json(body))
    return caught.value.fields


def test_a_deletion() -> None:
    (deletion,) = parse_deletions(as_json([{"uuid": ID.upper(), "channel": "pub"}]))
    assert (deletion.uuid, deletion.channel, deletion.pm_users) == (ID, "pub", [])
    assert spliced(deletion.frame) == {"type": "message:delete", "uuid": ID, "channel": "pub"}
    assert top_level(deletion.taken) == {"type": "message:delete", "uuid": ID, "channel": "pub", "pm_users": []}


def test_a_deletion_of_a_private_message() -> None:
    (deletion,) = parse_deletions(as_json([{"uuid": ID, "pm_users": ["a"]}]))
    assert (deletion.channel, deletion.pm_users) == (None, ["a"])
    assert spliced(deletion.frame) == {"type": "message:delete", "uuid": ID, "channel": None}


def test_what_is_deleted_is_not_said_once_more() -> None:
    sent = top_level(one(uuid=ID, message={"text": "regretted"}, colour="regretted").taken)
    (deletion,) = parse_deletions(as_json([sent]))
    assert b"regretted" not in deletion.frame + deletion.taken
    assert deletion == parse_deletions(as_json([EDIT]))[0]


def test_every_wrong_field_of_every_deletion_is_named() -> None:
    fields = wrong_deletions(
        [EDIT, {"channel": ""}, None, {"uuid": "x", "pm_users": "a"}, {"uuid": ID, "pm_users": []}]
    )
    assert list(fields) == ["1.uuid", "1.channel", "2", "3.uuid", "3.pm_users", "4.channel"]
    assert wrong_deletions(b"{}") == {"_schema": ["Invalid input type."]}
    assert list(wrong_deletions([EDIT] * (MAX_MESSAGES + 1))) == ["_schema"]


@pytest.mark.parametrize("parse_list", [parse_deletions, lambda body: parse_edits(body, NOW)])
@pytest.mark.parametrize("body", [b"", b" \n", b"[", b"[{]", b"uuid=a", b'[{"uuid": "\xff"}]', b"[" * 100_000])
def test_no_json_is_no_edit_and_no_deletion(parse_list: Any, body: bytes) -> None:
    with pytest.raises(NotJson):
        parse_list(body)


likely_edits = st.fixed_dictionaries(
    {},
    optional={
        "uuid": st.uuids().map(str) | json_values,
        "channel": names | json_values,
        "pm_users": st.lists(names, max_size=2) | json_values,
        "message": objects | json_values,
        "user": names | json_values,
        "timestamp": st.datetimes().map(datetime.isoformat) | json_values,
        "edited": st.datetimes().map(datetime.isoformat) | json_values,
        "own": json_values,
    },
)


def outcome_of_edits(body: bytes) -> tuple[Sequence[TakenEdit | TakenDeletion], list[CallerError]]:
    """What comes out, read as edits and as deletions."""
    taken: list[TakenEdit | TakenDeletion] = []
    refusals: list[CallerError] = []
    for parse_list in (lambda: parse_edits(body, NOW), lambda: parse_deletions(body)):
        try:
            taken += parse_list()
        except CallerError as refused:
            refusals.append(refused)
    return taken, refusals


@settings(deadline=None)
@given(json_values | st.lists(likely_edits | json_values, max_size=3))
def test_any_json_is_an_edit_or_refused(value: object) -> None:
    taken, refusals = outcome_of_edits(msgspec.json.encode(value))
    for each in taken:
        spliced(each.frame)
        top_level(each.taken)
        msgspec.msgpack.encode(each)
    for refused in refusals:
        assert isinstance(refused, Invalid)
        assert refused.fields
        msgspec.json.encode(refused.body())
