"""The same work with more processes."""

from __future__ import annotations

import argparse
from typing import Final

from bench.chat import chat
from bench.commands.base import (
    Command,
    add_clients,
    add_rounds,
    add_seconds,
    positive,
    role_columns,
    roles_us,
    whole,
    wholes,
)
from bench.group import Group
from bench.machine import need_descriptors
from bench.progress import Progress
from bench.publisher import Order
from bench.report import Column, Table
from bench.stand import Stand

QUESTION: Final = "How does the cost of the same work grow with more shards and edges?"

PAYLOAD: Final = 300
"""Bytes on the wire."""

USUAL_DELIVERIES: Final = 40_000
"""A second, of a fan-out."""

EACH: Final = 5
"""Channels of a client of the chat."""

COLUMNS: Final = (
    Column("work", "work"),
    Column("processes", "shards and edges"),
    Column("wire_bytes", "bytes"),
    Column("cpu_us", "µs/delivery", 2),
    Column("of_first", "× first", 2),
    *role_columns(2),
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    add_clients(parser, 2000)
    parser.add_argument(
        "--processes", type=wholes, default=(1, 2, 4), metavar="N,N", help="shards and edges (default: 1,2,4)"
    )
    parser.add_argument(
        "--channels", type=whole, default=1000, metavar="N", help="of the chat; each client is on 5 (default: 1000)"
    )
    parser.add_argument(
        "--rate", type=positive, default=400.0, metavar="R", help="messages a second in the chat (default: 400)"
    )
    add_rounds(parser, 3)
    add_seconds(parser, 2.0, "how long a round is")


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """Each work with each number of processes."""
    need_descriptors(options.clients)
    rows: list[dict[str, object]] = []
    for count in options.processes:
        with Group(shards=count, edges=count) as group:
            for work, stand, rate in (
                ("fan-out", Stand(group, options.clients, progress, running=True), USUAL_DELIVERIES / options.clients),
                ("chat", chat(group, options.clients, options.channels, EACH, progress, running=True), options.rate),
            ):
                figures = _measured(stand, min(rate, options.rate), options)
                rows.append({"work": work, "processes": count, **figures})
    rows.sort(key=lambda row: str(row["work"]), reverse=True)
    for row in rows:
        first = next(one for one in rows if one["work"] == row["work"])
        row["of_first"] = float(str(row["cpu_us"])) / float(str(first["cpu_us"]))
    return Table(columns=COLUMNS, rows=rows)


def _measured(stand: Stand, rate: float, options: argparse.Namespace) -> dict[str, object]:
    with stand:
        size = stand.fit(PAYLOAD)
        order = Order(max(1, round(rate * options.seconds)), size, rate)
        turns = [stand.run(order) for _ in range(options.rounds)]
    middle = sorted(turns, key=lambda turn: turn.cpu_us)[len(turns) // 2]
    return {
        "wire_bytes": middle.bytes / max(1, middle.deliveries),
        **roles_us(middle.cpu_s, middle.deliveries),
        "rounds_us": [turn.cpu_us for turn in turns],
        "lost": sum(turn.lost for turn in turns),
    }


COMMAND: Final = Command("scale", QUESTION, add_options, run)
