"""The life of a real group: its start, what it says, its end, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests


def test_says_what_it_is_and_ready_once(large):
    text = "\n".join(large.lines)
    assert text.startswith("channelstream ")
    assert f"ws://127.0.0.1:{large.port}/ws" in text
    assert f"http://127.0.0.1:{large.api_port}" in text
    assert sum(line.startswith("ready") for line in large.lines) == 1


@pytest.mark.promise("1.8", "1.9")
def test_readyz_and_healthz_on_both_ports(large):
    for port in (large.port, large.api_port):
        ready = large.get("/readyz", port)
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "waiting_for": []})
        health = large.get("/healthz", port).json()
        named = [one["process"] for one in health["processes"]]
        assert named == ["router-0", "router-1", "shard-0", "shard-1", "shard-2", "edge-0", "edge-1"]
        assert all(one["ready"] and one["pid"] and one["since"] for one in health["processes"])


def test_status_shows_every_process(large):
    command = [sys.executable, "-m", "channelstream", *large.flags(), "status", "--json"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {(one["role"], one["index"]) for one in shown} >= {("router", 1), ("shard", 2), ("edge", 1)}
    assert {one["pid"] for one in shown} == {one["pid"] for one in large.health()}


def test_each_process_is_small(large):
    """40 MB of memory of its own (PSS), at rest."""
    for one in large.health():
        rollup = Path(f"/proc/{one['pid']}/smaps_rollup").read_text().splitlines()
        (pss_kb,) = (int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        assert pss_kb < 40_000, f"{one['process']}: {pss_kb} kB"


def test_a_second_start_is_refused_with_a_plain_sentence(large):
    command = [sys.executable, "-m", "channelstream", *large.flags()]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode != 0
    assert "already running" in second.stdout + second.stderr
    assert str(large.process.pid) in second.stdout + second.stderr


@pytest.mark.promise("4.29")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_leaves_nothing(number, helpers):
    group = helpers.Group(shards=2, edges=2, routers=1)
    try:
        group.wait_until_ready()
        pids = [one["pid"] for one in group.health()]
        with group.websocket(group.connect("joe", "c")) as socket:
            group.process.send_signal(number)
            code = group.process.wait(5)
            assert helpers.close_code(socket) == 1001
        assert code == 0, group.log()
        assert not [pid for pid in pids if helpers.is_running(pid)]
        assert not group.run_dir.exists() or not os.listdir(group.run_dir)
    finally:
        group.stop()
        group.remove()


def test_kill_9_of_the_launcher_leaves_no_process(helpers):
    group = helpers.Group(shards=1, edges=1, routers=1)
    try:
        group.wait_until_ready()
        pids = [one["pid"] for one in group.health()]
        group.process.kill()
        helpers.eventually(lambda: not any(map(helpers.is_running, pids)), "all processes are gone")
    finally:
        group.stop()
        group.remove()


def test_a_killed_process_comes_back(helpers):
    with helpers.running(shards=1, edges=1, routers=1) as group:
        for name in ("shard-0", "edge-0", "router-0"):
            before = group.pid_of(name)
            os.kill(before, signal.SIGKILL)

            def is_back(name=name, before=before):
                try:
                    health = {one["process"]: one for one in group.health()}
                except requests.ConnectionError:
                    return False
                return health[name]["ready"] and health[name]["pid"] != before and group.get("/readyz").ok

            helpers.eventually(is_back, f"{name} is back")
