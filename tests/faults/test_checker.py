"""The checker is checked: builds that are broken on purpose are caught, each by its own finding; sound ones are green.

What breaks them is in broken/sitecustomize.py. The periods are short, so that a run of a few seconds meets them often.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

SMALL = ("--shards", 1, "--edges", 1, "--routers", 1, "--clients", 3, "--publishers", 2, "--rate", 30)
QUIETLY = (*SMALL, "--kill", "none")
KILLED = (*SMALL, "--kill", "shard")
IN_MEMORY = (*KILLED, "--set", "store=memory")

RUNS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "sound": ("", QUIETLY),
    "drops": ("drop:40", QUIETLY),
    "swaps": ("swap:40", QUIETLY),
    "repeats": ("repeat:40", QUIETLY),
    "killed": ("", KILLED),
    "answers early": ("early:20", KILLED),
    "killed in memory": ("", IN_MEMORY),
    "keeps the epoch": ("epoch:1", IN_MEMORY),
}
"""What is broken, and how the run is made."""

AT_ONCE = 3
"""Checks that run beside each other: each uses a fraction of a core, and waits for most of its time."""


@pytest.fixture(scope="module")
def runs(checked) -> Iterator[dict[str, Future[Any]]]:
    """Every run of this module."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(checked, *words, broken=broken) for name, (broken, words) in RUNS.items()}


def test_a_sound_build_is_green(runs):
    found = runs["sound"].result()
    assert found.code == 0, found.describe()
    assert found.summary["ok"] >= 100
    assert found.summary["findings"] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drops", {"lost for a client", "hole without a word"}),
        ("swaps", {"out of order"}),
        ("repeats", {"came twice"}),
    ],
)
def test_a_build_that_delivers_wrongly_is_caught(runs, name, expected):
    found = runs[name].result()
    assert found.code == 1, found.describe()
    assert found.kinds >= expected, found.describe()
    assert not found.kinds & {"lost from history", "phantom", "old epoch"}, found.describe()


def test_a_killed_shard_loses_nothing(runs):
    found = runs["killed"].result()
    assert found.code == 0, found.describe()


def test_a_build_that_answers_before_the_commit_is_caught(runs):
    found = runs["answers early"].result()
    assert found.code == 1, found.describe()
    assert "lost from history" in found.kinds, found.describe()


def test_a_loss_is_found_and_told_by_another_epoch(runs):
    """Nothing is kept here, so that a killed shard loses what it had."""
    found = runs["killed in memory"].result()
    assert found.code == 1, found.describe()
    assert "lost from history" in found.kinds, found.describe()
    assert "old epoch" not in found.kinds, found.describe()
    assert found.summary["gaps"] > 0, found.describe()


def test_a_build_that_keeps_the_old_epoch_after_a_loss_is_caught(runs):
    found = runs["keeps the epoch"].result()
    assert found.code == 1, found.describe()
    assert "old epoch" in found.kinds, found.describe()
    assert found.summary["gaps"] == 0, found.describe()
