"""Processes that are measured, and that leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import Child, Cpu, NotStarted, children_of, cpu_s, free_ports, kill, listens, pss_kb, total_pss_kb

SLEEPS = [sys.executable, "-c", "print('here', flush=True); import time; time.sleep(60)"]


def test_what_a_process_used_is_told_exactly():
    before, cpu = time.process_time(), Cpu([("me", os.getpid())])
    while time.process_time() < before + 0.05:
        sum(range(1000))
    assert 0.04 < cpu.used_s()["me"] < 5


def test_one_that_is_gone_uses_nothing():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert (cpu_s(gone.pid), pss_kb(gone.pid), children_of(gone.pid)) == (0.0, 0, [])
    assert Cpu([("gone", gone.pid)]).used_s() == {"gone": 0.0}


def test_memory_is_counted_for_each():
    mine = pss_kb(os.getpid())
    assert mine > 1000
    assert total_pss_kb([os.getpid(), os.getpid()]) > mine


def test_ports_are_free_and_different():
    ports = free_ports(3)
    assert len(set(ports)) == 3
    assert not listens(ports[0])
    with socket.create_server(("127.0.0.1", ports[0])):
        assert listens(ports[0])


def test_a_child_says_what_it_says_and_ends(tmp_path: Path):
    child = Child(SLEEPS, tmp_path / "log")
    child.wait_until(lambda: "here" in child.said(), 30)
    assert child.pid in children_of(os.getpid())
    child.stop()
    assert child.pid not in children_of(os.getpid())
    child.stop()


@pytest.mark.parametrize(
    ("program", "seconds"), [("raise SystemExit('no room')", 30), ("import time; time.sleep(60)", 0)]
)
def test_a_child_that_does_not_start_is_told(tmp_path: Path, program: str, seconds: float):
    child = Child([sys.executable, "-c", program], tmp_path / "log")
    with pytest.raises(NotStarted, match="no room" if seconds else "not ready"):
        child.wait_until(lambda: False, seconds)
    child.stop()


def test_a_child_ends_when_we_are_gone(tmp_path: Path):
    starter = (
        "import sys, time; from pathlib import Path; from bench.processes import Child\n"
        f"print(Child({SLEEPS!r}, Path({str(tmp_path / 'log')!r})).pid, flush=True); time.sleep(60)"
    )
    us = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert us.stdout is not None
    pid = int(us.stdout.readline())
    us.send_signal(signal.SIGKILL)
    us.communicate()
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_is_gone_cannot_be_killed_again():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kill(gone.pid)
