"""What a backend pays."""

import pytest

from bench.commands.publish import targets_of


def test_targets_are_said_for_channels_without_clients_and_history():
    row = {"history": "none", "clients": 0, "batch": 1, "connections": 1, "cpu_us": 200.0}
    batched = {**row, "batch": 100, "cpu_us": 10.0}
    others = [{**row, "clients": 10}, {**row, "history": "sqlite"}]
    assert [target.met for target in targets_of([row, batched, *others])] == [False, True]


@pytest.mark.group
def test_it_measures(measured):
    table = measured("publish", "--few", "2", "--many", "5", "--rounds", "1", "--seconds", "0.1")
    assert len(table["rows"]) == 3 * (3 * 2 + 1)
    assert all(row["cpu_us"] > 0 and row["rate"] > 0 for row in table["rows"])
    assert len(table["targets"]) == 3
