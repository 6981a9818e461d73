"""Who comes and goes, told to a large channel."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from bench.calls import Backend
from bench.commands.base import Command, add_clients, add_processes, group_of, role_columns, roles_us, whole
from bench.crowd import Crowd
from bench.group import CHANNEL, SECRET, Group
from bench.machine import need_descriptors
from bench.processes import Cpu
from bench.progress import Progress
from bench.report import Column, Row, Table

QUESTION: Final = "What does it cost that somebody joins or leaves a large channel that is told of it?"

PRESENCE: Final = b'"type":"presence"'
"""What is counted: it is once in each message of a join or a leave."""

PATIENCE_S: Final = 30.0
"""With user lists, one join is a message of some hundred kB for each client."""

COLUMNS: Final = (
    Column("what", "what"),
    Column("user_lists", "user lists"),
    Column("clients", "clients"),
    Column("wire_bytes", "bytes"),
    Column("event_ms", "ms/event", 1),
    Column("cpu_us", "µs/delivery", 1),
    *role_columns(2),
    Column("lost", "lost"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    add_clients(parser, 5000)
    parser.add_argument(
        "--events", type=whole, default=20, metavar="N", help="how many join, and leave, one at a time (default: 20)"
    )
    parser.add_argument(
        "--list-events", type=whole, default=3, metavar="N", help="the same with user lists (default: 3)"
    )
    add_processes(parser)


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """Without user lists, and with them."""
    need_descriptors(options.clients)
    rows: list[Row] = []
    with ExitStack() as stack:
        group = stack.enter_context(group_of(options))
        crowd = stack.enter_context(Crowd(mark=PRESENCE))
        crowd.open(
            group.address,
            group.requests(options.clients),
            on_progress=lambda count: progress.show(f"{count:,} of {options.clients:,} clients"),
        )
        for user_lists, events in ((False, options.events), (True, options.list_events)):
            backend = group.backend()
            config = {"notify_presence": True, "broadcast_presence_with_user_lists": user_lists}
            backend.call("/channel_config", {CHANNEL: config})
            backend.close()
            conn_ids = [str(uuid.uuid4()) for _ in range(events)]
            for what, path, bodies in (
                ("join", "/connect", [joining(conn_id) for conn_id in conn_ids]),
                ("leave", "/disconnect", [{"conn_id": conn_id} for conn_id in conn_ids]),
            ):
                progress.show(f"{what}, {'with' if user_lists else 'without'} user lists")
                figures = told(group, crowd, path, bodies)
                rows.append({"what": what, "user_lists": "yes" if user_lists else "no", **figures})
    return Table(columns=COLUMNS, rows=rows)


def joining(conn_id: str) -> dict[str, object]:
    """A /connect that asks for nothing back."""
    info = {"include_users": False, "include_history": False}
    return {"username": f"user-{conn_id}", "conn_id": conn_id, "channels": [CHANNEL], "info": info}


def told(group: Group, crowd: Crowd, path: str, bodies: Sequence[object]) -> dict[str, object]:
    """One event after another, each when all have been told of the one before it."""
    backend = Backend(group.address, SECRET)
    crowd.begin()
    cpu = Cpu(group.pids)
    for number, body in enumerate(bodies):
        backend.call(path, body)
        if not crowd.receive(PATIENCE_S, (number + 1) * len(crowd)):
            break
    used = cpu.used_s()
    backend.close()
    return {
        "clients": len(crowd),
        "wire_bytes": crowd.bytes / max(1, crowd.received),
        "event_ms": sum(used.values()) * 1e3 / len(bodies),
        **roles_us(used, crowd.received),
        "lost": crowd.lost(len(bodies)),
    }


COMMAND: Final = Command("presence", QUESTION, add_options, run)
