"""What several commands have in common."""

import argparse

import pytest

from bench.commands.base import chosen_systems, latencies, role_columns, roles_us


def test_latencies_are_medians_of_rounds_but_for_the_largest():
    rounds = [[1_000_000] * 10, [2_000_000] * 10, [90_000_000] * 10]
    assert latencies(rounds) == {"p50_ms": 2.0, "p95_ms": 2.0, "p99_ms": 2.0, "max_ms": 90.0}
    assert latencies([[]])["p99_ms"] == 0.0


def test_what_each_role_used_for_a_unit():
    used = {"router-0": 0.001, "shard-0": 0.002, "shard-1": 0.002, "edge-0": 0.005}
    found = roles_us(used, 1000)
    assert {key: pytest.approx(value) for key, value in found.items()} == {
        "cpu_us": 10.0,
        "router_us": 1.0,
        "shard_us": 4.0,
        "edge_us": 5.0,
    }
    assert {column.key for column in role_columns(1)} < set(found)
    assert roles_us({"nginx worker": 1.0}, 1_000_000) == {"cpu_us": 1.0}


def test_ours_comes_first_and_peers_where_they_are_asked_for():
    options = argparse.Namespace(shards=1, edges=1, routers=1, peers=False)
    assert [system.name for system in chosen_systems(options, floor=True)] == ["ours", "floor"]
    options.peers = True
    assert [system.name for system in chosen_systems(options, floor=False)][:2] == ["ours", "nchan"]
