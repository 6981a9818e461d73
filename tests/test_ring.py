"""The ring: balance, stability, and the same answer everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from channelstream.ring import Ring

KEYS = [f"c/{number}" for number in range(100_000)]

KNOWN_KEYS = ["c/lobby", "u/ann", "k/7b9e1d6e-0f0a-4b7e-9a55-2f7b1c3d4e5f", "c/", "c/ünïcode", "s/claim"]
KNOWN = {
    1: [0, 0, 0, 0, 0, 0],
    2: [1, 1, 0, 0, 0, 0],
    3: [1, 1, 0, 0, 2, 0],
    4: [1, 1, 0, 0, 3, 3],
    16: [12, 8, 13, 9, 9, 3],
}


@pytest.mark.parametrize("shards", range(2, 17))
def test_every_shard_has_about_its_share(shards: int) -> None:
    owned = Counter(map(Ring(shards).owner, KEYS))
    share = len(KEYS) / shards
    assert set(owned) == set(range(shards))
    assert all(0.75 * share <= count <= 1.25 * share for count in owned.values()), owned


@pytest.mark.parametrize("shards", range(1, 16))
def test_another_shard_takes_its_share_and_nothing_else_moves(shards: int) -> None:
    before, after = Ring(shards), Ring(shards + 1)
    moved = [key for key in KEYS if before.owner(key) != after.owner(key)]
    assert {after.owner(key) for key in moved} == {shards}
    share = len(KEYS) / (shards + 1)
    assert 0.75 * share <= len(moved) <= 1.25 * share


@pytest.mark.parametrize("shards", KNOWN)
def test_known_answers(shards: int) -> None:
    """A changed algorithm would send a topic to a shard that has never heard of it: it must not change by accident."""
    assert [Ring(shards).owner(key) for key in KNOWN_KEYS] == KNOWN[shards]


def test_a_fresh_process_gives_the_same_answers() -> None:
    program = "import sys; from channelstream.ring import Ring; print([Ring(16).owner(key) for key in sys.argv[1:]])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program, *KNOWN_KEYS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {str(KNOWN[16])}


def test_one_shard_owns_everything() -> None:
    assert {Ring(1).owner(key) for key in KNOWN_KEYS} == {0}


@pytest.mark.parametrize("shards", [0, -1])
def test_a_ring_of_nothing_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        Ring(shards)


def test_a_group_keeps_the_order_and_loses_nothing() -> None:
    ring = Ring(4)
    names = [str(number) for number in range(200)]
    grouped = ring.group(names, "c/")
    assert sorted(name for group in grouped.values() for name in group) == sorted(names)
    for shard, group in grouped.items():
        assert group == [name for name in names if ring.owner("c/" + name) == shard]


def test_a_group_of_nothing_asks_nobody() -> None:
    assert Ring(4).group([], "c/") == {}
