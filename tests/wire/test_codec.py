"""Messages ↔ bytes: whole, cut short, damaged, from a newer and from an older writer."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from channelstream.errors import Undecodable, VersionMismatch
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Attached,
    AttachedTopic,
    BeatAnswer,
    Claimed,
    Deliver,
    Done,
    GetStatus,
    ProcessStatus,
    Publication,
    Publish,
    ToPeer,
    ToShard,
)

names = st.text(max_size=8)
numbers = st.integers(min_value=-(2**53), max_value=2**63)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: names,
    bytes: st.binary(max_size=20),
    int: numbers,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if kind in SCALARS:
        return SCALARS[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.deferred(lambda: _structs(kind))
    arguments = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if origin is list:
        return st.lists(_values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_values(arguments[0]), _values(arguments[1]), max_size=3)
    # An int and a float that are equal are different on the wire; which one a state value is, is kept.
    return st.one_of([_values(argument) for argument in arguments])


def _structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: _values(field.type) for field in fields(kind)})


to_shard: st.SearchStrategy[Any] = st.one_of([_structs(kind) for kind in get_args(ToShard)])
to_peer: st.SearchStrategy[Any] = st.one_of([_structs(kind) for kind in get_args(ToPeer)])
generations = st.integers(0, 2**64 - 1)


@given(messages=st.lists(to_shard, max_size=4), generation=generations)
def test_what_is_sent_to_a_shard_comes_out_as_it_was(messages: list[ToShard], generation: int) -> None:
    batch = codec.join(generation, 3, [codec.encode(message) for message in messages])
    assert codec.shard_reader().read(batch) == (generation, 3, messages)


@given(messages=st.lists(to_peer, max_size=4), generation=generations)
def test_what_is_sent_to_a_peer_comes_out_as_it_was(messages: list[ToPeer], generation: int) -> None:
    batch = codec.join(generation, 3, [codec.encode(message) for message in messages])
    assert codec.peer_reader().read(batch) == (generation, 3, messages)


def test_bodies_stay_as_they_are() -> None:
    body = b'{"not": "parsed", "\xff\x00"'
    batch = codec.join(0, 1, [codec.encode(Deliver("c/a", 1, [body]))])
    assert codec.peer_reader().read(batch).messages[0].bodies == [body]  # type: ignore[union-attr]


BATCH = codec.join(7, 1, [codec.encode(Answer(1, Done())), codec.encode(Deliver("c/a", 3, [b"{}"], ["ann"], None))])


@pytest.mark.parametrize("length", range(len(BATCH)))
def test_a_batch_that_is_cut_short_is_undecodable(length: int) -> None:
    with pytest.raises(Undecodable):
        codec.peer_reader().read(BATCH[:length])


def test_a_batch_with_a_tail_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        codec.peer_reader().read(BATCH + b"\x00")


@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused_in_one_of_two_ways(garbage: bytes) -> None:
    with pytest.raises((Undecodable, VersionMismatch)):
        codec.shard_reader().read(b"\x00" + garbage)
    with pytest.raises(Undecodable):
        codec.shard_reader().read(_head() + b"\xc1" + garbage)  # 0xc1 is no type of msgpack


@given(at=st.integers(0, len(BATCH) - 1), value=st.integers(0, 255))
def test_a_damaged_byte_never_raises_anything_else(at: int, value: int) -> None:
    damaged = bytearray(BATCH)
    damaged[at] = value
    with suppress(Undecodable, VersionMismatch):  # it may also still be a message: only another error fails here
        codec.peer_reader().read(bytes(damaged))


@pytest.mark.parametrize(
    "tail",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x00\x00\x01" + b"\x91" * 100_000,
        b"\xdd\x00\x00\x00\x01\x92\xa4Done\xd9\x02\xff\xff",
        b"\xdd\x00\x00\x00\x01\x92\xabBeatAnswer_\xa0",
        b"\xdd\x00\x00\x00\x01\x92\xaaBeatAnswer\xa2\xff\xff",
        b"\x80",
    ],
    ids=["a length of four billion", "too deep", "not of this direction", "unknown name", "not UTF-8", "no array"],
)
def test_hostile_batches_are_undecodable(tail: bytes) -> None:
    with pytest.raises(Undecodable):
        codec.peer_reader().read(_head() + tail)


def test_what_is_of_the_other_direction_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        codec.shard_reader().read(BATCH)


@pytest.mark.parametrize("version", [0, codec.WIRE_VERSION + 1, 255])
def test_another_version_is_refused_and_named(version: int) -> None:
    with pytest.raises(VersionMismatch) as caught:
        codec.peer_reader().read(bytes([version]) + BATCH[1:])
    assert (caught.value.seen, caught.value.expected) == (version, codec.WIRE_VERSION)


def _head() -> bytes:
    return struct.pack(">BQ", codec.WIRE_VERSION, 0)


def _read_one(*fields_on_wire: object) -> ToPeer:
    batch = codec.join(0, 1, [msgspec.msgpack.encode(fields_on_wire)])
    (message,) = codec.peer_reader().read(batch).messages
    return message


def test_fields_of_a_newer_writer_are_skipped() -> None:
    assert _read_one("BeatAnswer", "s1", {}, "new", {"and": "newer"}) == BeatAnswer("s1")
    assert _read_one("Answer", 3, ["Claimed", True, False, "new"], "new") == Answer(3, Claimed(True))


def test_defaulted_fields_of_an_older_writer_are_filled() -> None:
    assert _read_one("Deliver", "c/a", 3, [b"{}"]) == Deliver("c/a", 3, [b"{}"], None, None)
    assert _read_one("Attached", "k", 1, [["c/a", "e", 3, 2, [b"{}"]]]) == Attached(
        "k", 1, [AttachedTopic("c/a", "e", 3, 2, [b"{}"], 0)]
    )


def test_a_required_field_that_is_not_there_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        _read_one("Deliver", "c/a", 3)


def test_structs_inside_of_messages_grow_and_shrink_too() -> None:
    publication = ["Publish", [[["c/a"], ["u1"], [b"{}"]]]]
    batch = codec.join(0, 1, [msgspec.msgpack.encode(["Ask", 1, 2.0, publication, False, "new"])])
    assert codec.shard_reader().read(batch).messages == [Ask(1, 2.0, Publish([Publication(["c/a"], ["u1"], [b"{}"])]))]
    status = ["edge", 0, 1, 2.0, "v", True, 1, 1, 1, {"holes": 2}, *["new"] * 20]
    batch = codec.join(0, 1, [msgspec.msgpack.encode(["Beat", "", status, {}])])
    (beat,) = codec.shard_reader().read(batch).messages
    assert beat.status == ProcessStatus("edge", 0, 1, 2.0, "v", True, 1, 1, 1, {"holes": 2})  # type: ignore[union-attr]


def test_an_encoded_message_can_stand_in_many_batches() -> None:
    encoded = codec.encode(Ask(1, 2.0, GetStatus()))
    assert codec.shard_reader().read(codec.join(0, 1, [encoded, encoded])).messages == [Ask(1, 2.0, GetStatus())] * 2
    assert codec.shard_reader().read(codec.join(5, 6, [])) == (5, 6, [])
