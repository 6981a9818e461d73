"""The list of who is on a channel, kept in parts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.shard import listing
from channelstream.shard.listing import Listing

States = dict[str, int]


def made_of(states: States) -> Callable[[list[str]], bytes | None]:
    """Makes what is told of users from what is known of them."""

    def made(names: list[str]) -> bytes | None:
        if not all(name in states for name in names):
            return None
        return msgspec.json.encode([[name, states[name]] for name in names])[1:-1]

    return made


def read(joined: bytes | None) -> object:
    assert joined is not None
    return msgspec.json.decode(joined)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PART", 3)


def test_names_are_told_in_their_order_whatever_is_in_them() -> None:
    names = ["zoe", "ann", 'b"ob', "é", "a,b", "ann2"]
    assert read(Listing(names).json()) == sorted(names)
    assert Listing([]).json() == b"[]"


def test_what_is_told_of_a_user_is_made_anew_when_it_has_changed_and_only_then() -> None:
    calls: list[list[str]] = []
    states = {f"u{number}": 0 for number in range(9)}

    def made(names: list[str]) -> bytes | None:
        calls.append(list(names))
        return made_of(states)(names)

    some = Listing(states)
    some.told(made)
    assert len(calls) == 3

    states["u4"] = 1
    some.touch("u4")
    assert read(some.told(made)) == [[name, states[name]] for name in sorted(states)]
    assert calls[3:] == [["u3", "u4", "u5"]]


def test_another_way_of_telling_is_not_answered_with_the_former_one() -> None:
    some = Listing(["a", "b"])
    assert read(some.told(made_of({"a": 1, "b": 2}))) == [["a", 1], ["b", 2]]
    assert read(some.told(made_of({"a": 3, "b": 4}))) == [["a", 3], ["b", 4]]


def test_where_one_is_not_known_nothing_is_told() -> None:
    some = Listing(["a", "b", "c", "d", "e"])
    assert some.told(made_of(dict.fromkeys("abcd", 1))) is None
    assert read(some.told(made_of(dict.fromkeys("abcde", 1)))) == [[name, 1] for name in "abcde"]


@given(st.sets(st.text(max_size=3), max_size=12), st.lists(st.tuples(st.booleans(), st.text(max_size=3)), max_size=60))
def test_it_is_what_a_sorted_set_would_be(start: set[str], changes: list[tuple[bool, str]]) -> None:
    some, names, states = Listing(start), set(start), dict.fromkeys(start, 0)
    made = made_of(states)
    for comes, name in changes:
        if comes and name not in names:
            some.add(name)
            names.add(name)
            states[name] = 0
        elif not comes and name in names:
            some.remove(name)
            names.discard(name)
        elif name in names:
            states[name] += 1
            some.touch(name)
        assert read(some.json()) == sorted(names)
        assert read(some.told(made)) == [[one, states[one]] for one in sorted(names)]
