"""Clients that come back."""

import pytest


@pytest.mark.group
def test_it_measures(measured):
    (row,) = measured("reconnect", "--clients", "20", "--rounds", "1")["rows"]
    assert 10 <= row["back"] <= 20
    assert row["cpu_us"] > 0
    assert row["took_s"] > 0
