"""Asks by number: closed once, by their answer or by their deadline."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.bus.asks import Asks
from channelstream.errors import QueueFull
from channelstream.wire.messages import Ask, Claim


def test_numbers_grow_and_deadlines_are_a_timeout_away() -> None:
    asks: Asks[str] = Asks(2.0)

    assert asks.add("a", 10.0) == (1, 12.0)
    assert asks.add("b", 11.0) == (2, 13.0)
    assert len(asks) == 2


def test_an_answer_closes_its_ask_once() -> None:
    asks: Asks[str] = Asks(2.0)
    number, _ = asks.add("a", 10.0)

    assert asks.answered(number) == "a"
    assert asks.answered(number) is None
    assert len(asks) == 0


def test_an_answer_to_nothing_is_nobodys() -> None:
    asks: Asks[str] = Asks(2.0)
    asks.add("a", 10.0)

    assert asks.answered(99) is None
    assert len(asks) == 1


def test_answers_come_in_any_order() -> None:
    asks: Asks[str] = Asks(2.0)
    numbers = [asks.add(name, 10.0)[0] for name in "abc"]

    assert [asks.answered(number) for number in (numbers[2], numbers[0], numbers[1])] == ["c", "a", "b"]


def test_an_ask_is_overdue_at_its_deadline_and_not_before() -> None:
    asks: Asks[str] = Asks(2.0)
    asks.add("a", 10.0)
    asks.add("b", 10.5)

    assert list(asks.overdue(11.999)) == []
    assert list(asks.overdue(12.0)) == ["a"]
    assert list(asks.overdue(12.0)) == []
    assert len(asks) == 1


def test_the_first_deadline_is_of_the_oldest_open_ask() -> None:
    asks: Asks[str] = Asks(2.0)
    assert asks.next_due() == inf
    number, _ = asks.add("a", 10.0)
    asks.add("b", 10.5)

    assert asks.next_due() == 12.0
    asks.answered(number)
    assert asks.next_due() == 12.5


def test_an_answer_after_the_deadline_is_too_late() -> None:
    asks: Asks[str] = Asks(2.0)
    number, _ = asks.add("a", 10.0)
    list(asks.overdue(12.0))

    assert asks.answered(number) is None


def test_at_the_end_of_time_all_are_overdue() -> None:
    asks: Asks[str] = Asks(2.0)
    for name in "abc":
        asks.add(name, 10.0)

    assert list(asks.overdue(float("inf"))) == ["a", "b", "c"]


def test_what_happens_while_the_overdue_are_told_counts() -> None:
    asks: Asks[str] = Asks(2.0)
    asks.add("a", 10.0)
    second, _ = asks.add("b", 10.0)
    overdue = asks.overdue(12.0)

    assert next(overdue) == "a"
    asks.answered(second)  # told in the meantime
    asks.add("c", 12.0)  # asked in the meantime

    assert list(overdue) == []
    assert len(asks) == 1


@given(st.lists(st.tuples(st.sampled_from(["ask", "answer", "sweep"]), st.integers(0, 20)), max_size=60))
def test_every_ask_is_closed_exactly_once(steps: list[tuple[str, int]]) -> None:
    asks: Asks[int] = Asks(3.0)
    now, closed, opened = 0.0, [], 0
    for kind, value in steps:
        if kind == "ask":
            opened += 1
            assert asks.add(opened, now)[0] == opened
        elif kind == "answer":
            who = asks.answered(value)
            closed += [] if who is None else [who]
        else:
            now += value / 4
            closed += asks.overdue(now)
    closed += asks.overdue(float("inf"))

    assert sorted(closed) == list(range(1, opened + 1))


# --- what is kept to be said again ---


def kept(bound_bytes: int, *sizes: int) -> Asks[str]:
    asks: Asks[str] = Asks(2.0, "shard 3", bound_bytes)
    for size in sizes:
        number, _ = asks.add("who", 10.0)
        asks.keep(number, Claim(str(number), 1.0), size)
    return asks


def test_what_is_open_is_said_again_in_its_order_with_its_number_and_deadline() -> None:
    asks = kept(1000, 10, 10, 10, 10)
    asks.answered(2)

    assert asks.again(3) == [Ask(1, 12.0, Claim("1", 1.0), True), Ask(3, 12.0, Claim("3", 1.0), True)]
    assert [ask.number for ask in asks.again(asks.last)] == [1, 3, 4]


def test_what_is_closed_is_kept_no_longer() -> None:
    asks = kept(1000, 10, 20, 30)
    assert asks.kept_bytes == 60
    asks.answered(2)
    assert asks.kept_bytes == 40
    list(asks.overdue(12.0))
    assert (asks.kept_bytes, asks.again(asks.last)) == (0, [])


def test_what_is_kept_is_bounded() -> None:
    asks = kept(100, 60, 40)
    number, _ = asks.add("who", 10.0)
    with pytest.raises(QueueFull, match="queue to shard 3 is full: 100 bytes wait, the bound is 100"):
        asks.keep(number, Claim("3", 1.0), 1)
    assert asks.answered(number) == "who"
    assert asks.kept_bytes == 100


def test_where_nothing_is_kept_anything_fits() -> None:
    asks = kept(100, 500)
    assert asks.kept_bytes == 500
