"""Many small channels."""

from __future__ import annotations

import argparse
from typing import Final

from bench.chat import chat
from bench.commands.base import (
    LATENCIES,
    Command,
    add_clients,
    add_processes,
    add_rounds,
    add_seconds,
    group_of,
    latencies,
    positive,
    role_columns,
    roles_us,
    whole,
)
from bench.machine import need_descriptors
from bench.progress import Progress
from bench.publisher import Order
from bench.report import Column, Table

QUESTION: Final = "What does a message cost in a chat with thousands of small channels, and how long does it take?"

COLUMNS: Final = (
    Column("round", "round"),
    Column("clients", "clients"),
    Column("channels", "channels"),
    Column("members", "members"),
    Column("rate", "msg/s"),
    Column("wire_bytes", "bytes"),
    Column("message_us", "µs/message"),
    Column("cpu_us", "µs/delivery", 1),
    *role_columns(1),
    *LATENCIES,
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    add_clients(parser, 10_000)
    parser.add_argument("--channels", type=whole, default=5000, metavar="N", help="how many channels (default: 5000)")
    parser.add_argument(
        "--each", type=whole, default=5, metavar="N",
        help="on how many of them each client is; a channel has clients × each / channels members (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=positive, default=500.0, metavar="R", help="messages a second in all channels (default: 500)"
    )
    parser.add_argument(
        "--payload", type=whole, default=300, metavar="BYTES", help="bytes of a delivery on the wire (default: 300)"
    )
    add_rounds(parser, 3)
    add_seconds(parser, 4.0, "how long a round is")
    add_processes(parser)


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """A row for each round."""
    need_descriptors(options.clients)
    rows: list[dict[str, object]] = []
    with chat(group_of(options), options.clients, options.channels, options.each, progress) as stand:
        size = stand.fit(options.payload)
        for number in range(options.rounds):
            turn = stand.run(Order(max(1, round(options.rate * options.seconds)), size, options.rate))
            rows.append(
                {
                    "round": number + 1,
                    "clients": options.clients,
                    "channels": options.channels,
                    "members": options.clients * options.each // options.channels,
                    "rate": turn.messages / turn.took_s,
                    "wire_bytes": turn.bytes / max(1, turn.deliveries),
                    "message_us": sum(turn.cpu_s.values()) * 1e6 / turn.messages,
                    **roles_us(turn.cpu_s, turn.deliveries),
                    **latencies([turn.latencies_ns]),
                    "lost": turn.lost,
                }
            )
    return Table(columns=COLUMNS, rows=rows)


COMMAND: Final = Command("many_channels", QUESTION, add_options, run)
