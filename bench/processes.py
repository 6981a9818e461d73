"""Processes to measure: started so that nothing of them stays behind, and what they use, as Linux tells it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

HOST: Final = "127.0.0.1"
"""Everything is on loopback."""

STOPPED_WITHIN_S: Final = 30.0
"""A group ends within five seconds and its kills; then it is killed from here."""

POLL_S: Final = 0.02

PR_SET_PDEATHSIG: Final = 1
"""Of prctl(2)."""

CPUCLOCK_SCHED: Final = 2
"""The kind of a process's clock that counts what it ran, exactly (`clock_getcpuclockid(3)`, whose numbers these are).
PERF: /proc/PID/stat tells ticks of 10 ms, too coarse for what takes microseconds."""


class NotStarted(Exception):
    """A process that is to be measured ended, or was not ready in time; with what it said."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different. Somebody may take one before it is used; then whoever wanted it says
    so."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


# --- what they use ---


def cpu_s(pid: int) -> float:
    """User and system time of a process, its threads included, in seconds. 0 for one that is gone."""
    try:
        return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def pss_kb(pid: int) -> int:
    """The proportional set size of a process in kB: shared memory counts by its part. 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def total_pss_kb(pids: Iterable[int]) -> int:
    """Of all of them."""
    return sum(map(pss_kb, pids))


def children_of(pid: int) -> list[int]:
    """A process's children and theirs. None of one that is gone."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found += [child, *children_of(child)]
    return found


class Cpu:
    """What is used between this moment and a look, by each of some named processes."""

    def __init__(self, pids: Sequence[tuple[str, int]]) -> None:
        self._pids: Final = tuple(pids)
        self._before: Final = [cpu_s(pid) for _, pid in pids]

    def used_s(self) -> dict[str, float]:
        """Seconds of CPU since this was made, by name. A process that is gone has used none."""
        used: dict[str, float] = {}
        for (name, pid), before in zip(self._pids, self._before, strict=True):
            used[name] = used.get(name, 0.0) + max(0.0, cpu_s(pid) - before)
        return used


# --- starting and ending them ---


def ends_with(parent: int) -> Callable[[], None]:
    """What a child does before its program begins (a `preexec_fn`), so that it gets SIGTERM when we are gone. `parent`:
    our own pid."""

    def in_child() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class Child:
    """A program that is measured. What it says goes to a file; an interrupt of the terminal does not reach it, and it
    ends when we do. No thread reads its output: the publisher is a fork, and forks want no threads."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """`log`: a file for what it says, made here. `environ`: ours where it is not given. `folder`: where it runs."""
        self._log: Final = log
        self._name: Final = Path(command[0]).name
        with log.open("wb") as out:
            self._process: Final = subprocess.Popen(
                [str(word) for word in command],
                stdin=stdin,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=None if environ is None else dict(environ),
                cwd=folder,
                start_new_session=True,
                preexec_fn=ends_with(os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Of the process itself, not of its children."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Where `subprocess.PIPE` was asked for."""
        assert self._process.stdin is not None
        return self._process.stdin

    def said(self) -> str:
        """All that it has said so far."""
        return self._log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for a condition. Raises `NotStarted` where the process ends before, or the time is over."""
        until = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None:
                raise NotStarted(f"{self._name} ended with {self._process.returncode}:\n{self.said()}")
            if time.monotonic() > until:
                raise NotStarted(f"{self._name} was not ready within {seconds:.0f} s:\n{self.said()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """SIGTERM; SIGKILL to it and its children where that does not end it."""
        if self._process.poll() is None:
            children = children_of(self.pid)
            self._process.terminate()
            try:
                self._process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                for pid in (self.pid, *children):
                    kill(pid)
                self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def kill(pid: int) -> None:
    """SIGKILL, where it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
