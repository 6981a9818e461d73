"""Clients that come."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from statistics import median
from typing import Final

from bench.commands.base import (
    Command,
    add_clients,
    add_peers,
    add_processes,
    add_rounds,
    chosen_systems,
    role_columns,
    roles_us,
    whole,
)
from bench.group import Group
from bench.lineup import Lineup
from bench.machine import need_descriptors
from bench.peers.channelstream_0_7_1.peer import OldChannelstream
from bench.processes import Cpu
from bench.progress import Progress
from bench.report import Column, Row, Table, Target
from bench.systems import System, crowd_for

QUESTION: Final = "What does it cost that a client comes: the backend's /connect, and its websocket?"

MOST_US: Final = 500.0
SETTLED_S: Final = 0.2

WITH_CONNECT: Final = (Group, OldChannelstream)
"""Those with a /connect, which costs by the channels of a user and by who is on them."""

COLUMNS: Final = (
    Column("system", "system"),
    Column("clients", "clients"),
    Column("channels", "channels"),
    Column("cpu_us", "µs/connection"),
    *role_columns(0),
    Column("rate", "connections/s"),
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    add_clients(parser, 2000)
    parser.add_argument(
        "--channels", type=whole, default=1, metavar="N", help="on how many channels each user is (default: 1)"
    )
    parser.add_argument(
        "--members", type=whole, default=10, metavar="N",
        help="how many share them; each /connect is told who is there (default: 10)",
    )  # fmt: skip
    add_rounds(parser, 4)
    add_processes(parser)
    add_peers(parser)


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """In rounds: a part of the clients comes to each system in turn, and stays."""
    systems = chosen_systems(options, floor=False)
    need_descriptors(sum(options.clients for system in systems if system.missing() is None))
    with Lineup(systems, partial(Arrivals, options=options, progress=progress)) as lineup:
        for _ in range(options.rounds):
            lineup.each(Arrivals.round)
        rows: list[Row] = []
        lineup.each(lambda arrivals: rows.append(arrivals.row()))
        rows += lineup.notes
    return Table(columns=COLUMNS, rows=rows, targets=targets_of(rows, options))


def targets_of(rows: list[Row], options: argparse.Namespace) -> list[Target]:
    """Said for one channel."""
    if options.channels > 1:
        return []
    return [Target("/connect and /ws, one channel", float(str(rows[0]["cpu_us"])), MOST_US, "µs", 0)]


class Arrivals:
    """A system, and clients that come in rounds. Use it with `with`."""

    def __init__(self, system: System, options: argparse.Namespace, progress: Progress) -> None:
        self._system: Final = system
        self._options: Final = options
        self._progress: Final = progress
        self._share: Final = max(1, options.clients // options.rounds)
        self._costs: Final[list[dict[str, float]]] = []
        self._rates: Final[list[float]] = []

    def __enter__(self) -> Arrivals:
        with ExitStack() as stack:
            stack.enter_context(self._system)
            self._crowd = stack.enter_context(crowd_for(self._system))
            self._requests = self._all_requests()
            self._stack = stack.pop_all()
        return self

    def _all_requests(self) -> Iterator[bytes]:
        count = self._share * self._options.rounds
        if isinstance(self._system, WITH_CONNECT):
            return self._system.connections(rooms(count, self._options.channels, self._options.members))
        return self._system.requests(count)

    def round(self) -> None:
        """The next ones."""
        cpu, began = Cpu(self._system.pids), time.monotonic()
        self._crowd.open(self._system.address, islice(self._requests, self._share), on_progress=self._show)
        self._rates.append(self._share / (time.monotonic() - began))
        self._crowd.receive(SETTLED_S)
        self._costs.append(cpu.used_s())

    def _show(self, there: int) -> None:
        self._progress.show(f"{self._system.name}: {there:,} clients")

    def row(self) -> Row:
        """The round in the middle of all."""
        middle = sorted(self._costs, key=lambda used: sum(used.values()))[len(self._costs) // 2]
        return {
            "system": self._system.name,
            "clients": len(self._crowd),
            "channels": self._options.channels if isinstance(self._system, WITH_CONNECT) else 1,
            **roles_us(middle, self._share),
            "rounds_us": [sum(used.values()) * 1e6 / self._share for used in self._costs],
            "rate": median(self._rates),
            "lost": len(self._crowd.gone),
        }

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def rooms(clients: int, each: int, members: int) -> list[list[str]]:
    """The channels of each client: so many that it shares with the next ones. Pure."""
    return [[f"room-{client // members}-{number}" for number in range(each)] for client in range(clients)]


COMMAND: Final = Command("connect", QUESTION, add_options, run)
