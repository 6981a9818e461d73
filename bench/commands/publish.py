"""What a backend pays."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import repeat, takewhile
from statistics import median
from typing import Final

from bench.commands.base import Command, add_rounds, add_seconds, role_columns, roles_us, whole
from bench.group import Group, compact
from bench.machine import need_descriptors
from bench.processes import Cpu
from bench.progress import Progress
from bench.publisher import Order
from bench.report import Column, Row, Table, Target
from bench.stand import Stand, Turn
from bench.systems import filled

QUESTION: Final = "What does a published message cost, alone and in batches, with clients and history or without?"

SIZE: Final = 100
"""Bytes of text in a message."""

CONNECTIONS: Final = 8
"""Of a backend that calls as fast as it can."""

BATCH: Final = 100
WINDOWS: Final = {1: 50, BATCH: 400}
"""Messages that are under way to clients at a time, by batch: far below what may wait for a client (`max_queue`)."""

MOST_SINGLE_US: Final = 180.0
MOST_BATCHED_US: Final = 12.0

HISTORIES: Final = {"none": ("memory", False), "memory": ("memory", True), "sqlite": ("sqlite", True)}
"""The group's store, and whether the channel stores a history."""

COLUMNS: Final = (
    Column("history", "history"),
    Column("clients", "clients"),
    Column("batch", "batch"),
    Column("connections", "connections"),
    Column("cpu_us", "µs/message", 1),
    *role_columns(1),
    Column("rate", "msg/s"),
    Column("requests_rate", "requests/s"),
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--few", type=whole, default=10, metavar="N", help="what few clients are (default: 10)")
    parser.add_argument("--many", type=whole, default=2000, metavar="N", help="what many clients are (default: 2000)")
    add_rounds(parser, 3)
    add_seconds(parser, 1.0, "how long a round is")


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """Each history, with each number of clients, alone and in batches."""
    need_descriptors(options.many)
    rows: list[Row] = []
    for history, (store, stored) in HISTORIES.items():
        with Group(store=store) as group:
            for clients in (0, options.few, options.many):
                channel = f"channel-{clients}"
                configure(group, channel, stored)
                stand = audience(group, channel, clients, progress)
                rows += [{"history": history, **row} for row in published(stand, options)]
                if not clients:
                    figures = storm(group, channel, options.seconds * options.rounds)
                    rows.append({"history": history, "clients": 0, "batch": 1, "connections": CONNECTIONS, **figures})
    return Table(columns=COLUMNS, rows=rows, targets=list(targets_of(rows)))


def configure(group: Group, channel: str, stored: bool) -> None:
    """Whether the channel has a history."""
    backend = group.backend()
    backend.call("/channel_config", {channel: {"store_history": stored}})
    backend.close()


def audience(group: Group, channel: str, clients: int, progress: Progress) -> Stand:
    """So many clients on the channel, and a publisher to it."""
    return Stand(
        group,
        clients,
        progress,
        sender=lambda: group.sender([channel]),
        requests=lambda: group.on_channel(channel, clients),
        running=True,
    )


def published(stand: Stand, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Alone, and in batches."""
    with stand:
        for batch in (1, BATCH):
            turns = [one_turn(stand, batch, options.seconds) for _ in range(options.rounds)]
            yield {"clients": stand.clients, "batch": batch, "connections": 1, **figures_of(turns, batch)}


def one_turn(stand: Stand, batch: int, seconds: float) -> Turn:
    """Request after request on a connection that is kept, each when the one before it is answered; and no more than a
    window ahead of the clients."""
    return stand.run_all(repeat(Order(WINDOWS[batch], SIZE, batch=batch)), seconds)


def storm(group: Group, channel: str, seconds: float) -> dict[str, object]:
    """A message a request, over several connections at once that are kept."""
    until = time.monotonic() + seconds
    body = compact([{"user": "bench", "channel": channel, "message": filled(SIZE, 0).fields()}])
    bodies = takewhile(lambda _: time.monotonic() < until, repeat(("", body)))
    backend = group.backend()
    cpu, began = Cpu(group.pids), time.monotonic()
    requests = sum(1 for _ in backend.send_all("/message", bodies, CONNECTIONS))
    used, took_s = cpu.used_s(), time.monotonic() - began
    backend.close()
    rate = requests / took_s
    return {**roles_us(used, requests), "rate": rate, "requests_rate": rate, "lost": 0}


def figures_of(turns: list[Turn], batch: int) -> dict[str, object]:
    """The round in the middle of all."""
    middle = sorted(turns, key=_cost)[len(turns) // 2]
    rate = median(turn.messages / turn.took_s for turn in turns)
    return {
        **roles_us(middle.cpu_s, middle.messages),
        "rounds_us": [_cost(turn) for turn in turns],
        "rate": rate,
        "requests_rate": rate / batch,
        "lost": sum(turn.lost for turn in turns),
    }


def _cost(turn: Turn) -> float:
    return sum(turn.cpu_s.values()) * 1e6 / turn.messages


def targets_of(rows: list[Row]) -> Iterator[Target]:
    """Said for channels without clients and history."""
    for batch, connections, what, limit in (
        (1, 1, "a message a request, one after another", MOST_SINGLE_US),
        (1, CONNECTIONS, f"a message a request, over {CONNECTIONS} connections", MOST_SINGLE_US),
        (BATCH, 1, f"a message of {BATCH} in a request", MOST_BATCHED_US),
    ):
        for row in rows:
            if (row["history"], row["clients"], row["batch"], row["connections"]) == ("none", 0, batch, connections):
                yield Target(what, float(str(row["cpu_us"])), limit, "µs", 1)


COMMAND: Final = Command("publish", QUESTION, add_options, run)
