"""The arithmetic."""

import pytest

from bench.figures import by_role, median_ratio, percentile_ms


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 51.0), (95, 96.0), (99, 100.0), (100, 100.0)])
def test_percentiles_of_a_hundred_values(percent, expected):
    values_ns = [1_000_000 * (number + 1) for number in range(100)]
    assert percentile_ms(values_ns[::-1], percent) == expected


def test_percentiles_of_one_value_and_of_none():
    assert percentile_ms([2_000_000], 99) == 2.0
    assert percentile_ms([], 99) == 0.0


def test_a_ratio_is_the_median_of_each_rounds_ratio():
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0
    assert median_ratio([1.0], []) is None
    assert median_ratio([1.0], [0.0]) is None


def test_processes_of_a_role_are_one():
    used = {"router-0": 1.0, "router-1": 2.0, "edge-0": 3.0, "floor": 4.0}
    assert by_role(used) == {"router": 3.0, "edge": 3.0, "floor": 4.0}
