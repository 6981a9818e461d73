"""Reminders: in the order of their moments, each once."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from channelstream.shard.lifetimes import STEPS_A_SECOND, Agenda, Lately, Reminders

STEP_S = 1 / STEPS_A_SECOND


def test_nothing_is_due_before_its_moment() -> None:
    reminders: Reminders[str] = Reminders(Agenda())
    reminders.remind("a", 10.0)
    assert list(reminders.due(9.9)) == []
    assert list(reminders.due(10.0)) == ["a"]
    assert list(reminders.due(99.0)) == []


def test_the_next_moment_is_the_earliest() -> None:
    reminders: Reminders[str] = Reminders(Agenda())
    assert reminders.first == inf
    reminders.remind("late", 20.0)
    reminders.remind("soon", 10.0)
    assert (reminders.first, len(reminders)) == (10.0, 2)


def test_keys_need_no_order_of_their_own() -> None:
    reminders: Reminders[object] = Reminders(Agenda())
    keys = [object() for _ in range(5)]
    for key in keys:
        reminders.remind(key, 1.0)
    assert list(reminders.due(1.0)) == keys


def test_a_key_may_be_reminded_of_while_others_are_given_out() -> None:
    reminders: Reminders[str] = Reminders(Agenda())
    reminders.remind("a", 1.0)
    reminders.remind("b", 2.0)
    given_out = []
    for key in reminders.due(2.0):
        given_out.append(key)
        if len(given_out) == 1:
            reminders.remind("again", 1.5)
            reminders.remind("later", 3.0)
    assert given_out == ["a", "again", "b"]
    assert reminders.first == 3.0


@given(st.lists(st.floats(0, 100)), st.floats(0, 100))
def test_what_is_due_comes_out_within_a_step_and_in_order(moments: list[float], now: float) -> None:
    reminders: Reminders[float] = Reminders(Agenda())
    for moment in moments:
        reminders.remind(moment, moment)
    out = list(reminders.due(now))
    assert all(moment <= now for moment in out)
    assert {moment for moment in moments if moment <= now - STEP_S} <= set(out)
    assert all(later >= moment - STEP_S for moment, later in pairwise(out))
    assert len(reminders) == len(moments) - len(out)
    assert (reminders.first == inf) == (len(reminders) == 0)
    assert reminders.first > now


def test_thousands_that_come_in_one_second_have_a_dozen_moments() -> None:
    reminders: Reminders[int] = Reminders(Agenda())
    steps = {reminders.remind(number, 100.0 + number / 5000) for number in range(5000)}
    assert steps == {100.0 + step * STEP_S for step in range(STEPS_A_SECOND + 1)}


def test_an_agenda_knows_the_first_moment_of_all() -> None:
    agenda = Agenda()
    some: Reminders[str] = Reminders(agenda)
    others: Reminders[int] = Reminders(agenda)
    assert agenda.first == inf
    some.remind("late", 20.0)
    others.remind(1, 10.0)
    others.remind(2, 15.0)
    assert agenda.first == 10.0
    assert list(others.due(15.0)) == [1, 2]
    agenda.look()
    assert agenda.first == 20.0
    assert list(some.due(20.0)) == ["late"]
    agenda.look()
    assert agenda.first == inf


def test_what_was_last_put_is_remembered_for_as_long_as_was_asked() -> None:
    lately: Lately[str, int] = Lately(10.0, 100, 0.0)
    lately.put("a", 1, 9.0)
    for now in range(10, 20):
        lately.forget(float(now))
        assert lately.get("a") == 1
    lately.put("a", 2, 19.0)
    lately.forget(20.0)
    assert (lately.get("a"), lately.get("b"), len(lately)) == (2, None, 1)


@given(st.floats(0, 99), st.floats(0, 10))
def test_nothing_is_remembered_for_longer_than_twice_that(at: float, step_s: float) -> None:
    lately: Lately[str, int] = Lately(10.0, 100, 0.0)
    now = 0.0
    while now < at:
        now += max(step_s, 0.1)
        lately.forget(now)
    lately.put("a", 1, now)
    until = now + 10.0
    while now < until:
        assert lately.get("a") == 1
        now += max(step_s, 0.1)
        lately.forget(now)
    lately.forget(until + 20.0)
    lately.forget(until + 30.0)
    assert len(lately) == 0


def test_of_too_many_the_last_ones_are_remembered() -> None:
    lately: Lately[int, int] = Lately(10.0, 20, 0.0)
    for number in range(100):
        lately.put(number, number, 0.0)
        assert len(lately) <= 20
        assert all(lately.get(one) == one for one in range(max(0, number - 9), number + 1))
