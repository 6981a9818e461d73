"""Joins and leaves."""

import pytest


@pytest.mark.group
def test_it_measures(measured):
    rows = measured("presence", "--clients", "10", "--events", "2", "--list-events", "2")["rows"]
    assert [(row["what"], row["user_lists"]) for row in rows] == [
        ("join", "no"),
        ("leave", "no"),
        ("join", "yes"),
        ("leave", "yes"),
    ]
    assert all(row["cpu_us"] > 0 and row["event_ms"] > 0 for row in rows)
    assert rows[2]["wire_bytes"] > rows[0]["wire_bytes"] + 100
