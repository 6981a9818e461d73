"""What holds for every message: it cannot be changed, it can grow at its end, and its docstring says who sends it."""

from __future__ import annotations

import inspect
from typing import get_args

import msgspec
import pytest
from msgspec.structs import fields

from channelstream.wire import messages
from channelstream.wire.messages import ChannelConfig, Command, Result, ToPeer, ToShard

STRUCTS = [
    kind
    for name, kind in inspect.getmembers(messages, inspect.isclass)
    if issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct and not name.startswith("_")
]
SENT = [*get_args(ToShard), *get_args(ToPeer), *get_args(Command), *get_args(Result)]


@pytest.mark.parametrize("kind", STRUCTS)
def test_it_is_frozen(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize("kind", STRUCTS)
def test_it_says_what_it_is_for(kind: type[msgspec.Struct]) -> None:
    assert kind.__doc__


@pytest.mark.parametrize("kind", SENT)
def test_it_is_told_apart_by_its_name(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.tag == kind.__name__
    assert kind.__struct_config__.array_like


@pytest.mark.parametrize("union", [ToShard, ToPeer, Command, Result])
def test_no_two_of_a_union_have_the_same_name(union: object) -> None:
    names = [kind.__name__ for kind in get_args(union)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", STRUCTS)
def test_fields_with_a_default_come_last(kind: type[msgspec.Struct]) -> None:
    required = [field.required for field in fields(kind)]
    assert required == sorted(required, reverse=True)


def test_the_defaults_of_a_channel_are_the_contracts() -> None:
    assert msgspec.to_builtins(ChannelConfig()) == {
        "notify_presence": False,
        "broadcast_presence_with_user_lists": False,
        "notify_state": False,
        "store_history": False,
        "history_size": 10,
        "store_frames": True,
        "frames_size": 100,
        "history_ttl": 0,
        "skip_when_slow": False,
    }
