"""When what is broken, and that it is."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelstream.checking.faults import Aim, Breaker, aims_of, schedule
from channelstream.checking.history import History

KILLS = aims_of(["shard", "edge"], ["router"])


def test_the_round_begins_anew():
    plan = schedule(KILLS, 15, 2.5)
    assert [at for at, _ in plan] == [2.5, 5.0, 7.5, 10.0, 12.5]
    assert [str(aim) for _, aim in plan] == ["kill shard", "kill edge", "stop router", "kill shard", "kill edge"]


@pytest.mark.parametrize(("seconds", "every"), [(5, 2.5), (60, 2.5), (7, 3), (10, 11)])
def test_the_last_fault_has_time_to_be_seen(seconds, every):
    assert all(at + every <= seconds for at, _ in schedule(KILLS, seconds, every))


def test_nothing_to_break():
    assert schedule((), 60, 2.5) == []


class Processes:
    """Real ones that do nothing, shown as a group."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.strangers: set[str] = set()

    def begin(self, *names: str) -> None:
        for name in names:
            self.running[name] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def health(self):
        return [
            {"process": name, "role": name.partition("-")[0], "pid": process.pid}
            for name, process in self.running.items()
        ] + [{"process": "edge-9", "role": "edge", "pid": None}]

    def owns(self, pid: int) -> bool:
        return any(one.pid == pid and name not in self.strangers for name, one in self.running.items())

    def state(self, name: str) -> str:
        return Path(f"/proc/{self.running[name].pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    for process in made.running.values():
        process.kill()
        process.wait()


def broken(processes, plan, wait=lambda seconds: time.sleep(seconds), stop_for_s=0.2, seed=1) -> History:
    history = History()
    Breaker(processes, plan, stop_for_s, history, random.Random(seed), wait).run()
    return history


def test_a_kill_of_one(processes):
    processes.begin("shard-0", "edge-0", "edge-1")
    (fault,) = broken(processes, [(0.0, Aim("kill", "edge"))]).faults()
    assert fault.target in {"edge-0", "edge-1"}
    assert fault.pids == (processes.running[fault.target].pid,)
    assert processes.running[fault.target].wait() == -signal.SIGKILL
    assert [process.poll() for process in processes.running.values()].count(None) == 2


def test_the_choice_is_that_of_the_seed(processes):
    processes.begin(*[f"edge-{number}" for number in range(8)])
    stop = [(0.0, Aim("stop", "edge"))]
    chosen = [broken(processes, stop, stop_for_s=0.0, seed=seed).faults()[0].target for seed in (1, 1, 2, 3, 4)]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1


def test_a_kill_of_all(processes):
    processes.begin("shard-0", "edge-0", "router-0")
    (fault,) = broken(processes, [(0.0, Aim("kill", "all"))]).faults()
    assert (fault.target, len(fault.pids)) == ("all", 3)
    assert {process.wait() for process in processes.running.values()} == {-signal.SIGKILL}


def test_a_stopped_process_goes_on(processes):
    processes.begin("shard-0")
    states = []

    def wait(seconds: float) -> bool:
        states.append(processes.state("shard-0"))
        time.sleep(seconds)
        return False

    (fault,) = broken(processes, [(0.0, Aim("stop", "shard"))], wait).faults()
    assert fault.until - fault.at == pytest.approx(0.2)
    assert "T" in states
    assert processes.state("shard-0") != "T"


def test_a_stopped_process_goes_on_when_the_run_ends_early(processes):
    processes.begin("shard-0")
    broken(processes, [(0.0, Aim("stop", "shard")), (60.0, Aim("kill", "shard"))], lambda seconds: True, stop_for_s=60)
    assert processes.state("shard-0") != "T"
    assert processes.running["shard-0"].poll() is None


def test_somebody_elses_process_is_never_met(processes):
    processes.begin("shard-0", "shard-1")
    processes.strangers.add("shard-0")
    (fault,) = broken(processes, [(0.0, Aim("kill", "all"))]).faults()
    assert fault.pids == (processes.running["shard-1"].pid,)
    assert processes.running["shard-0"].poll() is None


def test_what_is_not_there_is_waited_for(processes):
    def wait(seconds: float) -> bool:
        if "shard-0" not in processes.running:
            processes.begin("shard-0")
        return False

    (fault,) = broken(processes, [(0.0, Aim("kill", "shard"))], wait).faults()
    assert fault.target == "shard-0"


def test_what_never_comes_is_no_fault(processes, monkeypatch):
    monkeypatch.setattr("channelstream.checking.faults.FIND_WITHIN_S", 0.05)
    assert broken(processes, [(0.0, Aim("kill", "shard"))]).faults() == []
