"""Small collections behave as large ones do, and take less room."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream import few
from channelstream.few import SMALL, Few, Pairs, Shared

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 2 * SMALL)), max_size=8 * SMALL)
"""What is put in or taken out, one after another."""


@given(STEPS)
def test_a_set_has_what_was_added_and_not_removed_in_its_order(steps: list[tuple[bool, int]]) -> None:
    kept: Few[int] = ()
    model: dict[int, None] = {}
    for adding, item in steps:
        if adding:
            kept = few.added(kept, item)
            model.setdefault(item)
        else:
            kept = few.removed(kept, item)
            model.pop(item, None)
        assert (list(kept), len(kept), item in kept) == (list(model), len(model), item in model)


@given(STEPS)
def test_pairs_have_the_last_value_of_each_key_in_the_order_of_keys(steps: list[tuple[bool, int]]) -> None:
    kept: Pairs[int, int] = ()
    model: dict[int, int] = {}
    for number, (putting, key) in enumerate(steps):
        if putting:
            kept = few.put(kept, key, number)
            model[key] = number
        else:
            kept = few.dropped(kept, key)
            model.pop(key, None)
        assert list(few.keys(kept)) == list(model)
        assert [few.value(kept, one) for one in model] == list(model.values())


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1])
def test_a_key_that_is_not_there_has_no_value(size: int) -> None:
    kept: Pairs[int, int] = ()
    for key in range(size):
        kept = few.put(kept, key, -1)
    with pytest.raises(KeyError):
        few.value(kept, -1)


def test_what_is_empty_again_is_as_small_as_at_first() -> None:
    kept: Few[int] = ()
    pairs: Pairs[int, int] = ()
    for key in range(2 * SMALL):
        kept, pairs = few.added(kept, key), few.put(pairs, key, key)
    for key in range(2 * SMALL):
        kept, pairs = few.removed(kept, key), few.dropped(pairs, key)
    assert (kept, pairs) == ((), ())


def test_a_few_take_a_third_of_what_a_dict_takes() -> None:
    assert sys.getsizeof(few.added((), "a")) * 3 < sys.getsizeof({"a": None})
    assert sys.getsizeof(few.put((), "a", 1)) * 3 < sys.getsizeof({"a": 1})


def test_equal_names_become_one_object() -> None:
    shared: Shared[str] = Shared(10)
    first, second = "name".upper(), "NAME".lower().upper()
    assert first is not second
    assert shared.of(first) is shared.of(second) is first


def test_no_more_are_known_than_it_was_made_for() -> None:
    shared: Shared[int] = Shared(10)
    for number in range(25):
        assert shared.of(number) == number
    assert len(shared._known) <= 10
