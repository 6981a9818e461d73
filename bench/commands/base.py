"""What a command is, and the options that several have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

from bench.figures import by_role, percentile_ms
from bench.floor import Floor
from bench.group import Group
from bench.peers import all_peers
from bench.progress import Progress
from bench.report import Column, Table
from bench.systems import System


class Command(NamedTuple):
    """One of the commands."""

    name: str
    question: str
    """That it answers, in a line."""
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Progress], Table]
    """Measures. What the table is called is filled in by whoever calls."""


LATENCIES: Final = (
    Column("p50_ms", "p50 ms", 1),
    Column("p95_ms", "p95 ms", 1),
    Column("p99_ms", "p99 ms", 1),
    Column("max_ms", "max ms", 1),
)


def latencies(rounds: Sequence[Sequence[int]]) -> dict[str, object]:
    """A row's part of them: from publish to socket. Medians of what each round's percentiles are, so that one disturbed
    round says little; the largest of all."""
    found: dict[str, object] = {
        f"p{percent}_ms": median(percentile_ms(values, percent) for values in rounds) for percent in (50, 95, 99)
    }
    return {**found, "max_ms": max(percentile_ms(values, 100) for values in rounds)}


ROLES: Final = ("router", "shard", "edge")


def roles_us(cpu_s: dict[str, float], units: float) -> dict[str, object]:
    """A row's part of which process used how many µs a unit: by role, and `cpu_us` of all."""
    roles = by_role(cpu_s)
    parts = {f"{role}_us": roles[role] * 1e6 / max(1.0, units) for role in ROLES if role in roles}
    return {"cpu_us": sum(cpu_s.values()) * 1e6 / max(1.0, units), **parts}


def role_columns(decimals: int) -> tuple[Column, ...]:
    """Of `roles_us`, without the sum."""
    return tuple(Column(f"{role}_us", role, decimals) for role in ROLES)


# --- options ---


def whole(text: str) -> int:
    """A whole number above 0. Raises `ArgumentTypeError`, as all of these do."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def wholes(text: str) -> tuple[int, ...]:
    """Several of them, with commas between."""
    return tuple(whole(word) for word in text.split(","))


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def add_clients(parser: argparse.ArgumentParser, default: int, several: bool = False) -> None:
    """--clients."""
    kind, more = (wholes, ", or several with commas between") if several else (whole, "")
    shown = (default,) if several else default
    parser.add_argument(
        "--clients", type=kind, default=shown, metavar="N", help=f"how many clients{more} (default: {default})"
    )


def add_seconds(parser: argparse.ArgumentParser, default: float, what: str) -> None:
    """--seconds."""
    parser.add_argument("--seconds", type=positive, default=default, metavar="S", help=f"{what} (default: {default:g})")


def add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    """--rounds."""
    parser.add_argument(
        "--rounds", type=whole, default=default, metavar="N",
        help=f"how often each takes its turn; medians are shown (default: {default})",
    )  # fmt: skip


def add_processes(parser: argparse.ArgumentParser) -> None:
    """--shards, --edges, --routers of ours."""
    for role in ("shards", "edges", "routers"):
        parser.add_argument(f"--{role}", type=whole, default=1, metavar="N", help=f"{role} of ours (default: 1)")


def add_peers(parser: argparse.ArgumentParser) -> None:
    """--peers."""
    parser.add_argument(
        "--peers", action="store_true", help="nchan, ws, Socket.IO and channelstream 0.7.1 take turns with ours"
    )


def group_of(options: argparse.Namespace, **settings: object) -> Group:
    """Ours, with the processes that were asked for."""
    return Group(shards=options.shards, edges=options.edges, routers=options.routers, **settings)


def chosen_systems(options: argparse.Namespace, floor: bool) -> list[System]:
    """Ours, the floor where it makes sense, and the peers where they were asked for."""
    return [group_of(options), *([Floor()] if floor else []), *(all_peers() if options.peers else [])]
