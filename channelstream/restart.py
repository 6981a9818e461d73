"""Restarts the processes of a running group, one at a time, so that whoever uses the group does not notice.

What lives here: which process goes when, what is waited for, and what a person is told meanwhile. Each is asked to
leave (SIGTERM), and supervisord starts it again, whoever runs that supervisord. Where a role has one process only,
another one stands in for it: it listens on the same port, and lives as long as this command.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TextIO

from channelstream.clock import monotonic
from channelstream.config import Config
from channelstream.errors import NotBack, RestartRefused
from channelstream.group import flags_variable
from channelstream.leaving import stop_wait_s
from channelstream.process import Lock, RunDir, tied_to
from channelstream.status import reports
from channelstream.supervision import GroupState, group_state
from channelstream.wire.messages import StatusReport

ROLES: Final = ("shard", "router", "edge")
"""In this order: who is asked before who asks, so that nobody new meets a shard that does not know what it says yet.
Clients are sent away last, to processes that all are as they will stay; and not at all where something before them did
not come back."""

SHARES_A_PORT: Final = ("router", "edge")
"""Roles of which another process can stand in."""

START_WITHIN_S: Final = 15.0
"""From its end until a process is ready again; it takes a second, and several on a machine that has a lot to do."""

LOOK_S: Final = 0.02
"""How often it is looked whether a process is back."""

ASK_TIMEOUT_S: Final = 0.3
"""How long one look for readiness may take."""


class StandIn(NamedTuple):
    """Start another process of a role, under the number behind the last one."""

    role: str
    number: int


class Renew(NamedTuple):
    """Let a process end, and wait until it is back."""

    role: str
    number: int


class Dismiss(NamedTuple):
    """Let the process end that stood in."""

    role: str
    number: int


Step = StandIn | Renew | Dismiss


class Renewed(NamedTuple):
    """A process that is back."""

    process: str
    former_pid: int
    pid: int
    seconds: float
    """From the signal until it was ready."""


# --- deciding ---------------------------------------------------------------------------------------------------------


def counts_of(config: Config) -> dict[str, int]:
    """How many processes of each role there are to be."""
    return {"shard": config.shards, "router": config.routers, "edge": config.edges}


def steps_for(counts: Mapping[str, int], roles: Collection[str]) -> list[Step]:
    """What to do, in order."""
    steps: list[Step] = []
    for role in ROLES:
        if role in roles:
            count = counts[role]
            alone = count == 1 and role in SHARES_A_PORT
            steps += [StandIn(role, count)] if alone else []
            steps += [Renew(role, index) for index in range(count)]
            steps += [Dismiss(role, count)] if alone else []
    return steps


def refusal(counts: Mapping[str, int], held: Iterable[str], ready: Collection[str]) -> str | None:
    """Why a group cannot be restarted one by one; None where it can. `held`: the processes that run; `ready`: those
    that answer."""
    expected = {f"{role}-{index}" for role, count in counts.items() for index in range(count)}
    running = {name for name in held if name.startswith(tuple(f"{role}-" for role in counts))}
    if not running:
        return "no process of it runs"
    if running - expected:
        names = ", ".join(sorted(running - expected))
        return f"{names} runs, and the settings name no such process: end the group and start it to change its numbers"
    if expected - running:
        names = ", ".join(sorted(expected - running))
        return f"{names} does not run: with one process missing, no other one is ended"
    if expected - set(ready):
        names = ", ".join(sorted(expected - set(ready)))
        return f"{names} is not ready: with one process missing, no other one is ended"
    return None


def ready_processes(counts: Mapping[str, int], answers: Sequence[StatusReport]) -> dict[str, int]:
    """The processes that can be relied on, `role-index` → pid: a shard that every router and edge talks to, and a
    router or edge that is linked to every shard."""
    found: dict[str, int] = {}
    since: dict[str, float] = {}
    for answer in answers:
        present = {(peer.role, peer.index) for peer in answer.peers}
        expected = {(role, index) for role in SHARES_A_PORT for index in range(counts[role])}
        if answer.own.ready and expected <= present:
            found[f"{answer.own.role}-{answer.own.index}"] = answer.own.pid
        for peer in answer.peers:
            name = f"{peer.role}-{peer.index}"
            # Of two lives of one process the younger counts.
            if peer.since >= since.get(name, 0.0):
                since[name] = peer.since
                found[name] = peer.pid if peer.ready else 0
    return {name: pid for name, pid in found.items() if pid}


class Return:
    """Whether one process is back. `former_pid` is 0 for one that was not there before."""

    def __init__(self, process: str, former_pid: int, now: float, within_s: float) -> None:
        self.process: Final = process
        self.former_pid: Final = former_pid
        self._within_s: Final = within_s
        self._until: Final = now + within_s

    def look(self, now: float, holder: int | None, ready_pid: int) -> bool:
        """`holder`: the pid that has the process's place now, None for nobody; `ready_pid`: the one that is ready, 0
        for none. Raises `NotBack` where its time is over."""
        if holder and holder != self.former_pid and holder == ready_pid:
            return True
        if now < self._until:
            return False
        raise NotBack(self.process, f"{self._what_is_wrong(holder)} within {self._within_s:.0f} s")

    def _what_is_wrong(self, holder: int | None) -> str:
        if holder and holder == self.former_pid:
            return f"pid {holder} did not end"
        if holder is None:
            return "it was not started again"
        return f"pid {holder} was not ready"


# --- doing ------------------------------------------------------------------------------------------------------------


def stand_in_command(role: str, number: int, ini: str | None) -> list[str]:
    """The command line of a process that stands in. Flags are handed down in the environment, where others do not see
    the secrets among them."""
    words = [sys.executable, "-m", "channelstream", role, "--index", str(number), "--stand-in"]
    return [*words, "-i", ini] if ini else words


class Restart:
    """One restart of a group. Make it, then `run`."""

    def __init__(
        self, config: Config, ini: str | None, flags: Mapping[str, str], within_s: float | None, out: TextIO
    ) -> None:
        self._config: Final = config
        self._counts: Final = counts_of(config)
        self._ini: Final = ini
        self._flags: Final = flags
        self._within_s: Final = within_s
        self._out: Final = out
        self._run_dir: Final = RunDir(config.run_dir)
        self._stand_in: subprocess.Popen[bytes] | None = None
        self.renewed: Final[list[Renewed]] = []
        """Those that are back, in order."""

    def run(self, roles: Collection[str]) -> None:
        """Restart all processes of these roles. Raises `RestartRefused`, `AlreadyRunning` where nothing was done, and
        `NotBack` where it could not be gone on with."""
        if group_state(self._config.run_dir) is not GroupState.RUNNING:
            raise RestartRefused(self._config.run_dir, "no supervisord answers there")
        lock = Lock(self._run_dir, "restart", 0)
        lock.take()
        try:
            why_not = refusal(self._counts, self._run_dir.held_locks(), self._ready())
            if why_not is not None:
                raise RestartRefused(self._config.run_dir, why_not)
            for step in steps_for(self._counts, roles):
                self._take(step)
        finally:
            self._end_stand_in()
            lock.release()

    def _take(self, step: Step) -> None:
        match step:
            case StandIn(role, number):
                self._stand_in = self._started_stand_in(role, number)
                self._wait(Return(f"{role}-{number}", 0, monotonic(), self._limit_s(role)))
                self._say(f"{role}-{number} stands in")
            case Renew(role, number):
                self._renew(role, number)
            case Dismiss(role, number):
                self._end_stand_in(self._limit_s(role))
                self._say(f"{role}-{number} has gone")

    def _renew(self, role: str, number: int) -> None:
        name, began = f"{role}-{number}", monotonic()
        former_pid = self._run_dir.held_locks().get(name, 0)
        if former_pid:
            with suppress(ProcessLookupError):  # it ended by itself just now, which is what is wanted
                os.kill(former_pid, signal.SIGTERM)
        pid = self._wait(Return(name, former_pid, began, self._limit_s(role)))
        self.renewed.append(Renewed(name, former_pid, pid, round(monotonic() - began, 3)))
        self._say(f"{name} is back: pid {former_pid} was, {pid} is ready after {monotonic() - began:.2f} s")

    def _wait(self, back: Return) -> int:
        """The pid of a process that is back."""
        while True:
            holder = self._run_dir.held_locks().get(back.process)
            may_be_ready = holder and holder != back.former_pid
            ready_pid = self._ready().get(back.process, 0) if may_be_ready else 0
            if back.look(monotonic(), holder, ready_pid):
                return ready_pid
            self._check_stand_in()
            # Asking wakes supervisord, which would see an end and start a process again within two seconds only.
            if holder is None and group_state(self._config.run_dir) is not GroupState.RUNNING:
                raise NotBack(back.process, "the group has ended meanwhile")
            pause(LOOK_S)

    def _ready(self) -> dict[str, int]:
        return ready_processes(self._counts, reports(self._config, ASK_TIMEOUT_S))

    def _limit_s(self, role: str) -> float:
        return stop_wait_s(role, self._config) + START_WITHIN_S if self._within_s is None else self._within_s

    def _say(self, line: str) -> None:
        # Whoever was reading may have gone; the group is to be restarted all the same.
        with suppress(BrokenPipeError, ValueError):
            self._out.write(line + "\n")
            self._out.flush()

    # --- standing in ---

    def _started_stand_in(self, role: str, number: int) -> subprocess.Popen[bytes]:
        # NOTE: a session of its own: Ctrl-C for this command must not hurry it.
        return subprocess.Popen(
            stand_in_command(role, number, self._ini),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, **flags_variable(self._flags, os.environ)},
            start_new_session=True,
            preexec_fn=tied_to(os.getpid()),
        )

    def _check_stand_in(self) -> None:
        """Raises `NotBack` where the one that is to stand in has ended."""
        if self._stand_in is not None and self._stand_in.poll() is not None:
            raise NotBack("the process that stands in", f"it has ended with exit status {self._stand_in.returncode}")

    def _end_stand_in(self, within_s: float | None = None) -> None:
        """Ask it to leave; with `within_s`, wait for it. Without, it goes by itself in its own time."""
        stand_in, self._stand_in = self._stand_in, None
        if stand_in is None:
            return
        stand_in.terminate()
        if within_s is None:
            return
        try:
            stand_in.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise NotBack("the process that stood in", f"it did not end within {within_s:.0f} s") from error


def pause(seconds: float) -> None:
    """Sleep."""
    select.select([], [], [], seconds)
