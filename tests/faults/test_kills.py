"""Processes of a working group are killed and stopped, and everything that was answered is there.

`make faults` makes these runs longer: CHANNELSTREAM_TEST_FAULTS_LENGTH times.
"""

from __future__ import annotations

import os
import signal


def test_one_after_the_other_while_two_publishers_repeat_until_they_are_answered(checked, length):
    """Every answered message is in the history, every client has every one in order, nobody sees anybody part who comes
    back, and nobody waits for an answer for more than 3 s."""
    seconds = 15 * length
    found = checked("--kill", "shard,edge,router", "--every", 2.5, "--publishers", 2, seconds=seconds)
    assert found.code == 0, found.describe()
    assert len(found.summary["recoveries"]) >= (seconds / 2.5 - 1) * 0.75, found.describe()
    assert (found.summary["unknown"], found.summary["failed"]) == (0, 0), found.describe()


def test_edges_and_routers_without_a_store(checked, length):
    """What only passes on loses nothing, whatever the shards keep."""
    found = checked("--kill", "edge,router", "--set", "store=memory", seconds=10 * length)
    assert found.code == 0, found.describe()
    assert found.summary["gaps"] == 0, found.describe()


def test_all_at_once(checked, length):
    found = checked("--kill", "all", "--every", 7, seconds=14 * length)
    assert found.code == 0, found.describe()


def test_stopped_and_let_go_on(checked, length):
    """Longer than it takes to be given up (3.5 s), shorter than clients may be away."""
    found = checked("--stop", "shard,edge,router", "--stop-for", 3.8, "--every", 4, seconds=16 * length)
    assert found.code == 0, found.describe()


def test_kills_at_the_start(groups):
    """Processes that are killed before they have said that they are there are started again, and the group becomes
    ready."""
    group = groups.Group(shards=1, edges=1, routers=1)
    try:
        killed = {}
        for role in ("shard", "edge", "router"):
            pid = groups.eventually(lambda role=role: child_of_role(group.process.pid, role), f"there is a {role}")
            os.kill(pid, signal.SIGKILL)
            killed[f"{role}-0"] = pid
        group.wait_until_ready()
        assert all(group.pid_of(name) != pid for name, pid in killed.items())
        with group.websocket(group.connect("joe", "room")) as socket:
            uuid = group.say("room", "hello")
            assert groups.receive(socket, 1)[0]["uuid"] == uuid
    finally:
        group.stop()
        group.remove()


def child_of_role(launcher: int, role: str) -> int | None:
    """The pid of a grandchild of the launcher that is to become a process of this role, as soon as there is one."""
    for supervisor in children(launcher):
        for pid in children(supervisor):
            if f"channelstream\0{role}\0" in command_line(pid):
                return pid
    return None


def children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []


def command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except FileNotFoundError:
        return ""
