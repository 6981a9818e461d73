"""Clients that get nothing."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from functools import partial
from typing import Final

from bench.commands.base import (
    Command,
    add_clients,
    add_peers,
    add_processes,
    add_seconds,
    chosen_systems,
)
from bench.lineup import Lineup
from bench.machine import most_clients, need_descriptors
from bench.processes import Cpu, total_pss_kb
from bench.progress import Progress
from bench.report import Column, Row, Table, Target
from bench.systems import System, crowd_for

QUESTION: Final = "What does a client cost that gets nothing?"

PING_EACH_S: Final = 25.0
"""`ping_interval`: in so long each client of ours gets one ping."""

SETTLED_S: Final = 2.0
MOST_KB: Final = 3.0
TARGET_CLIENTS: Final = 10_000
FIRST: Final = 10
"""Clients that are there before the others are counted: what a server loads with its first ones is not theirs."""

COLUMNS: Final = (
    Column("system", "system"),
    Column("clients", "clients"),
    Column("kb", "kB/client", 2),
    Column("minute_us", "µs/client and minute", 1),
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    add_clients(parser, 10_000)
    add_seconds(parser, PING_EACH_S, "how long they are idle; ours gets a ping in that time")
    add_processes(parser)
    add_peers(parser)


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """All systems at once, or, where that would be too many sockets, one after the other."""
    need_descriptors(options.clients + FIRST)
    systems = chosen_systems(options, floor=False)
    all_at_once = len(systems) * (options.clients + FIRST) <= most_clients()
    rows: list[Row] = []
    for those in [systems] if all_at_once else [[system] for system in systems]:
        with Lineup(those, partial(Idlers, options=options, progress=progress)) as lineup:
            for step in (Idlers.begin, Idlers.fill, Idlers.let):
                lineup.each(step)
            lineup.first.wait()
            lineup.each(partial(_append_to, rows))
            rows += lineup.notes
    return Table(columns=COLUMNS, rows=rows, targets=targets_of(rows))


def targets_of(rows: list[Row]) -> list[Target]:
    """Said for so many clients that what a process is without them counts for little."""
    if int(str(rows[0]["clients"])) < TARGET_CLIENTS:
        return []
    return [Target("memory of an idle client", float(str(rows[0]["kb"])), MOST_KB, "kB")]


def _append_to(rows: list[Row], idlers: Idlers) -> None:
    rows.append(idlers.row())


class Idlers:
    """A system with clients that get nothing. Use it with `with`, and call `begin`, `fill`, `let`, `wait` and `row` in
    this order; each of them for all systems, since what they share counts for each of them by its part."""

    def __init__(self, system: System, options: argparse.Namespace, progress: Progress) -> None:
        self._system: Final = system
        self._count: Final[int] = options.clients
        self._seconds: Final[float] = options.seconds
        self._progress: Final = progress

    def __enter__(self) -> Idlers:
        with ExitStack() as stack:
            stack.enter_context(self._system)
            self._crowd = stack.enter_context(crowd_for(self._system))
            self._requests = self._system.requests(self._count + FIRST)
            self._crowd.open(self._system.address, [next(self._requests) for _ in range(FIRST)])
            self._crowd.receive(SETTLED_S)
            self._stack = stack.pop_all()
        return self

    def begin(self) -> None:
        """The memory of before."""
        self._before_kb = self._kb()

    def fill(self) -> None:
        """The clients come."""
        self._crowd.open(self._system.address, self._requests, on_progress=self._show)
        self._crowd.receive(SETTLED_S)

    def _show(self, there: int) -> None:
        self._progress.show(f"{self._system.name}: {there:,} of {self._count:,} clients")

    def let(self) -> None:
        """The memory of after; from here on they are idle."""
        self._kb_each = (self._kb() - self._before_kb) / self._count
        self._cpu, self._since = Cpu(self._system.pids), time.monotonic()

    def _kb(self) -> int:
        return total_pss_kb(pid for _, pid in self._system.pids)

    def wait(self) -> None:
        """Let time pass, for all crowds."""
        self._progress.show(f"{self._count:,} clients idle for {self._seconds:g} s")
        self._crowd.receive(self._seconds)

    def row(self) -> Row:
        """What it was."""
        used_s, took_s = sum(self._cpu.used_s().values()), time.monotonic() - self._since
        return {
            "system": self._system.name,
            "clients": self._count,
            "kb": self._kb_each,
            "minute_us": used_s * 60 / took_s * 1e6 / self._count,
            "processes_kb": {name: total_pss_kb([pid]) for name, pid in self._system.pids},
            "lost": len(self._crowd.gone),
        }

    def __exit__(self, *_: object) -> None:
        self._stack.close()


COMMAND: Final = Command("idle", QUESTION, add_options, run)
