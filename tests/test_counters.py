"""Counters: names that operators know, and numbers that only grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelstream import counters
from channelstream.counters import GAPS_TOLD, MEANINGS, SKIPPED, Counters

LIMITS = Path(__file__).parents[1] / "docs" / "limits.md"


def test_what_has_not_happened_is_not_told() -> None:
    assert Counters().told() == {}


def test_counts_add_up_by_name() -> None:
    counted = Counters()
    counted.count(SKIPPED)
    counted.count(SKIPPED, 4)
    counted.count(GAPS_TOLD)
    assert counted.told() == {SKIPPED: 5, GAPS_TOLD: 1}


def test_what_is_told_is_a_copy() -> None:
    counted = Counters()
    counted.count(SKIPPED)
    counted.told()[SKIPPED] = 100
    assert counted.told() == {SKIPPED: 1}


def test_a_name_that_nobody_knows_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Counters().count("skiped")


def test_every_constant_has_a_meaning() -> None:
    constants = {value for name, value in vars(counters).items() if name.isupper() and isinstance(value, str)}
    assert constants == set(MEANINGS)


@pytest.mark.parametrize("name", MEANINGS)
def test_operators_find_each_in_the_table_of_limits(name: str) -> None:
    assert f"| `{name}` | {MEANINGS[name]} |" in LIMITS.read_text()
