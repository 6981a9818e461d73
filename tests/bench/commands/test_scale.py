"""The same work with more processes."""

import pytest


@pytest.mark.group
def test_it_measures(measured):
    rows = measured(
        "scale", "--clients", "20", "--channels", "10", "--processes", "1,2", "--seconds", "0.2", "--rounds", "1"
    )["rows"]
    assert [(row["work"], row["processes"]) for row in rows] == [
        ("fan-out", 1),
        ("fan-out", 2),
        ("chat", 1),
        ("chat", 2),
    ]
    assert all(row["cpu_us"] > 0 for row in rows)
    assert [row["of_first"] for row in rows if row["processes"] == 1] == [1.0, 1.0]
