"""Clients that get nothing."""

import pytest

from bench.commands.idle import targets_of


def test_the_target_is_said_for_many_clients():
    assert targets_of([{"clients": 1000, "kb": 2.0}]) == []
    assert [target.met for target in targets_of([{"clients": 10_000, "kb": 3.5}])] == [False]


@pytest.mark.group
def test_it_measures(measured):
    # Processes that have nothing to do wake once a second: in less there may be no CPU to see.
    rows = measured("idle", "--clients", "300", "--seconds", "2.5")["rows"]
    assert len(rows) == 1
    # With so few clients, what a process frees meanwhile may be more than they take.
    assert rows[0]["kb"] < 100
    assert rows[0]["minute_us"] > 0
