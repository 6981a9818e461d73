"""Clients that get nothing."""

import pytest

from bench.commands.idle import targets_of


def test_the_target_is_said_for_many_clients():
    assert targets_of([{"clients": 1000, "kb": 2.0}]) == []
    assert [target.met for target in targets_of([{"clients": 10_000, "kb": 3.5}])] == [False]


@pytest.mark.group
def test_it_measures(measured):
    rows = measured("idle", "--clients", "300", "--seconds", "0.5")["rows"]
    assert len(rows) == 1
    # With so few clients, what a process frees meanwhile may be more than they take; and a process that wakes once a
    # second may do nothing for them in half of one.
    assert rows[0]["kb"] < 100
    assert 0 <= rows[0]["minute_us"] < 10_000
