"""Clients that get nothing."""

import pytest


@pytest.mark.group
def test_it_measures(measured):
    rows = measured("idle", "--clients", "300", "--seconds", "0.5")["rows"]
    assert len(rows) == 1
    assert rows[0]["kb"] > 0
    assert rows[0]["minute_us"] > 0
