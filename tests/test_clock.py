"""Moments, and how they are shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.clock import Now, monotonic, real_clock, timestamp


def test_the_real_clock_does_not_go_back() -> None:
    first, second = real_clock(), real_clock()
    assert first.mono <= second.mono <= monotonic()


def test_the_wall_clock_is_of_this_century() -> None:
    assert timestamp(real_clock().wall) > "2024-01-01T00:00:00.000000"


def test_a_moment_names_its_two_clocks() -> None:
    assert Now(1.0, 2.0) == (1.0, 2.0)
    assert Now(1.0, 2.0).wall == 2.0


@pytest.mark.parametrize(
    ("wall", "shown"),
    [
        (0.0, "1970-01-01T00:00:00.000000"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500000"),
        (1_700_000_000.000001, "2023-11-14T22:13:20.000001"),
    ],
)
def test_a_timestamp_is_utc_without_offset_and_always_has_microseconds(wall: float, shown: str) -> None:
    assert timestamp(wall) == shown


@given(
    st.floats(min_value=-1e9, max_value=4e9)
    | st.integers(-2_000_000_000, 4_000_000_000).map(lambda half: half / 2e6)
    | st.integers(1, 1000).map(lambda number: 1_700_000_000 + 1 - number * 1e-7)
)
def test_a_timestamp_is_rounded_as_the_calendar_does_it(wall: float) -> None:
    moment = datetime.fromtimestamp(wall, UTC).replace(tzinfo=None)
    assert timestamp(wall) == moment.isoformat(timespec="microseconds")
