"""How a process is asked to end: real signals, in a process of its own that says what it understood."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelstream.supervision import SOCKET_NAME

PATIENCE_S = 20.0
"""How long a test waits for what must come; it is never waited for in full unless the test fails."""

PROCESS = """
import os, sys
import gevent
from channelstream.stopping import Stopping
stopping = Stopping(sys.argv[1], os.environ)
gevent.spawn(gevent.sleep, 60)  # a process that serves always has a timer; without any, gevent would not wait
print("up", flush=True)
stopping.wait()
print("asked", flush=True)
with gevent.Timeout(20):
    while not stopping.in_a_hurry:
        gevent.sleep(0.01)
print("in a hurry", flush=True)
"""

SUPERVISORD_THAT_ENDS = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("up", flush=True)
    while True:
        with listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"<methodResponse><fault>SHUTDOWN_STATE</fault></methodResponse>")
"""


class Process:
    """Something that runs, line by line."""

    def __init__(self, program: str, argument: Path, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def ended() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.end()


def started(ended: list[Process], program: str, argument: Path, **environ: str) -> Process:
    process = Process(program, argument, **environ)
    ended.append(process)
    assert process.said() == "up"
    return process


def test_sigterm_asks_and_the_second_one_hurries(ended: list[Process], tmp_path: Path) -> None:
    process = started(ended, PROCESS, tmp_path)
    process.process.send_signal(signal.SIGTERM)
    assert process.said() == "asked"
    process.process.send_signal(signal.SIGTERM)
    assert process.said() == "in a hurry"


def test_sigint_hurries(ended: list[Process], tmp_path: Path) -> None:
    process = started(ended, PROCESS, tmp_path)
    process.process.send_signal(signal.SIGINT)
    assert (process.said(), process.said()) == ("asked", "in a hurry")


def test_the_end_of_the_group_hurries(ended: list[Process], tmp_path: Path) -> None:
    started(ended, SUPERVISORD_THAT_ENDS, tmp_path / SOCKET_NAME)
    process = started(ended, PROCESS, tmp_path, SUPERVISOR_ENABLED="1")
    process.process.send_signal(signal.SIGTERM)
    assert (process.said(), process.said()) == ("asked", "in a hurry")


def test_so_does_the_end_of_supervisord(ended: list[Process], tmp_path: Path) -> None:
    process = started(ended, PROCESS, tmp_path, SUPERVISOR_ENABLED="1")
    process.process.send_signal(signal.SIGTERM)
    assert process.said() == "asked"
    assert process.process.stdin is not None
    process.process.stdin.close()
    process.process.stdin = None
    assert process.said() == "in a hurry"
