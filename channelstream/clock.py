"""Time as a value. The only module of the package that imports `time`.

Deciding code never asks for the time: it is handed a `Now`. Lifetimes and deadlines use `mono`, which no clock
step can move; `wall` is only ever shown to people and written into messages.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from math import modf
from typing import NamedTuple, Protocol


class Now(NamedTuple):
    """One moment, read once per turn of a loop."""

    mono: float
    """Seconds of the machine's monotonic clock (CLOCK_MONOTONIC). All processes of one machine share it, so a
    deadline may cross from one to another."""

    wall: float
    """Seconds since the epoch, UTC."""


class Clock(Protocol):
    """Where a loop gets its moments from."""

    def __call__(self) -> Now: ...


def real_clock() -> Now:
    """The machine's clocks."""
    return Now(time.monotonic(), time.time())


def monotonic() -> float:
    """Seconds of the monotonic clock alone, for loops that need nothing else."""
    return time.monotonic()


def timestamp(wall: float) -> str:
    """A moment as clients see it: UTC, ISO 8601, without offset, always with microseconds."""
    # PERF: the calendar is asked once a second. Rounded as `datetime` does it, half to even.
    fraction, second = modf(wall)
    microseconds = round(fraction * 1e6)
    if not 0 <= microseconds < 1_000_000:
        second, microseconds = second + microseconds // 1_000_000, microseconds % 1_000_000
    return f"{_second(second)}.{microseconds:06d}"


@lru_cache(maxsize=8)
def _second(wall: float) -> str:
    """A whole second, without its fraction."""
    return datetime.fromtimestamp(wall, UTC).replace(tzinfo=None).isoformat()
