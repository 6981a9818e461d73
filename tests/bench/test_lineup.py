"""Systems that take turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.lineup import Lineup


class One:
    """As much of a system as a lineup looks at."""

    def __init__(self, name: str, lacks: str | None = None, starts: bool = True) -> None:
        self.name, self.lacks, self.starts = name, lacks, starts
        self.turns = 0
        self.ended = False

    def missing(self) -> str | None:
        return self.lacks


@contextmanager
def start(system: Any) -> Iterator[One]:
    if not system.starts:
        raise ValueError("does not start")
    yield system
    system.ended = True


def turn(system: One) -> None:
    system.turns += 1
    if system.name == "weak" and system.turns == 2:
        raise ValueError("no more")


def test_who_lacks_something_or_fails_says_so_and_the_others_go_on() -> None:
    systems: list[Any] = [
        One("ours"),
        One("absent", lacks="apt-get"),
        One("broken", starts=False),
        One("weak"),
        One("ws"),
    ]
    with Lineup(systems, start) as lineup:
        assert lineup.first is systems[0]
        for _ in range(3):
            lineup.each(turn)
        assert [system.turns for system in systems] == [3, 0, 0, 2, 3]
        assert [dict(note) for note in lineup.notes] == [
            {"system": "absent", "note": "not installed: apt-get"},
            {"system": "broken", "note": "failed: does not start"},
            {"system": "weak", "note": "failed: no more"},
        ]
    assert [system.ended for system in systems] == [True, False, False, True, True]


def test_the_first_ones_failure_is_everybodys() -> None:
    systems: list[Any] = [One("weak"), One("ws")]
    with Lineup(systems, start) as lineup:
        lineup.each(turn)
        with pytest.raises(ValueError):
            lineup.each(turn)
    assert systems[1].ended
    with pytest.raises(ValueError):
        Lineup([One("ours", starts=False)], start)  # type: ignore[list-item]
