"""Clients that come back."""

from __future__ import annotations

import argparse
import time
from typing import Final

from bench.commands.base import Command, add_clients, add_rounds, role_columns, roles_us, whole
from bench.group import Group
from bench.machine import need_descriptors
from bench.processes import Cpu, kill
from bench.progress import Progress
from bench.publisher import Order
from bench.report import Column, Table
from bench.stand import Stand

QUESTION: Final = "What does it cost, and how long does it take, that all clients of a killed edge come back?"

MISSED: Final = 20
"""Messages that are published while they are away."""

LAST_SECOND_S: Final = 1.5
"""What went out in an edge's last second may come twice (docs/architecture.md): so much is waited for before."""

NOTICED_S: Final = 0.2
BACK_WITHIN_S: Final = 30.0

COLUMNS: Final = (
    Column("round", "round"),
    Column("clients", "clients"),
    Column("back", "came back"),
    Column("took_s", "s until all are there", 2),
    Column("rate", "connections/s"),
    Column("cpu_us", "µs/connection"),
    *role_columns(0),
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    add_clients(parser, 2000)
    parser.add_argument(
        "--edges", type=whole, default=2, metavar="N",
        help="edges; the one with most clients is killed in each round (default: 2)",
    )  # fmt: skip
    add_rounds(parser, 3)


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """An edge is killed, its clients miss some messages, and come back all at once."""
    need_descriptors(options.clients)
    group = Group(edges=options.edges)
    rows = []
    with Stand(group, options.clients, progress) as stand:
        for number in range(options.rounds):
            rows.append({"round": number + 1, "clients": options.clients, **_killed(group, stand, progress)})
    return Table(columns=COLUMNS, rows=rows)


def _killed(group: Group, stand: Stand, progress: Progress) -> dict[str, object]:
    crowd = stand.crowd
    stand.run(Order(1))
    crowd.receive(LAST_SECOND_S)
    edge = group.fullest_edge()
    others = [(name, pid) for name, pid in group.pids if pid != edge]
    kill(edge)
    progress.show("an edge was killed")
    crowd.receive_until_quiet(NOTICED_S)
    crowd.begin()
    away, crowd.gone = crowd.gone, []
    stand.publish(Order(MISSED))
    cpu, began = Cpu(others), time.monotonic()
    crowd.open(group.address, away)
    wanted = MISSED * stand.clients
    crowd.receive(BACK_WITHIN_S, wanted)
    took_s, used = time.monotonic() - began, cpu.used_s()
    group.wait_until_replaced(edge)
    return {
        "back": len(away),
        "took_s": took_s,
        "rate": len(away) / took_s,
        **roles_us(used, len(away)),
        "lost": crowd.lost(MISSED),
    }


COMMAND: Final = Command("reconnect", QUESTION, add_options, run)
