"""Many small channels."""

import pytest


@pytest.mark.group
def test_it_measures(measured):
    rows = measured("many_channels", "--clients", "20", "--channels", "10", "--seconds", "0.5", "--rounds", "2")["rows"]
    assert [row["round"] for row in rows] == [1, 2]
    assert all(row["members"] == 10 and row["cpu_us"] > 0 and row["p99_ms"] > 0 for row in rows)
