"""One message to many clients."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from statistics import median
from typing import Final

from bench.commands.base import (
    LATENCIES,
    Command,
    add_clients,
    add_peers,
    add_processes,
    add_rounds,
    add_seconds,
    chosen_systems,
    latencies,
    positive,
    wholes,
)
from bench.figures import median_ratio
from bench.floor import Floor
from bench.lineup import Lineup
from bench.machine import most_clients, need_descriptors
from bench.progress import Progress
from bench.publisher import Order
from bench.report import NOTE, Column, Row, Table, Target
from bench.stand import Stand, Turn
from bench.systems import System

QUESTION: Final = "What does it cost to deliver a message to each client of a channel, and how long does it take?"
FLOOR_QUESTION: Final = "What does a program cost that only calls send()?"

USUAL_DELIVERIES: Final = 40_000
"""A second, where no rate is asked for: a quarter of a core of ours, so that slower systems can take part."""
LARGEST_RATE: Final = 100.0
"""Where no rate is asked for: with few clients, publishing would be all that is measured."""

WINDOW: Final = 200
"""Messages under way at full speed: far below what may wait for a client (`max_queue`), even if each waits alone."""
BATCH: Final = 20
"""Of them in a request, where a system takes several."""

TRIAL_S: Final = 1.0

PATIENCE: Final = 2
"""So many times its length a turn may take where a system cannot keep to the rate."""

COLUMNS: Final = (
    Column("system", "system"),
    Column("clients", "clients"),
    Column("rate", "msg/s", 1),
    Column("wire_bytes", "bytes"),
    Column("cpu_us", "µs/delivery", 2),
    Column("of_floor", "× floor", 2),
    Column("of_nchan", "× nchan", 2),
    *LATENCIES,
    Column("lost", "lost"),
)

MOST_OF_FLOOR: Final = 1.2
MOST_OF_NCHAN: Final = 0.75
MOST_AT_FULL_SPEED_US: Final = 2.0
MOST_OF_FLOOR_P99: Final = 1.5
TARGET_CLIENTS: Final = 2000
TARGET_LOAD: Final = 0.5
USUAL_PAYLOAD: Final = 300
"""What the targets are said for."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `fanout`."""
    pace = _add_work(parser)
    pace.add_argument(
        "--load", type=positive, metavar="L",
        help="instead of a rate: so many messages that all processes of ours together use this much of a core, "
        "0.5 for half of one",
    )  # fmt: skip
    pace.add_argument(
        "--full-speed", action="store_true",
        help=f"no rate: as fast as they are taken, {WINDOW} messages under way at a time",
    )  # fmt: skip
    add_processes(parser)
    add_peers(parser)


def add_floor_options(parser: argparse.ArgumentParser) -> None:
    """Of `floor`."""
    _add_work(parser)


def _add_work(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Gives the options of which one can be asked for."""
    add_clients(parser, TARGET_CLIENTS, several=True)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--rate", type=positive, metavar="R",
        help=f"messages a second (default: {USUAL_DELIVERIES:,} deliveries a second, {LARGEST_RATE:.0f} messages at "
        "most)",
    )  # fmt: skip
    parser.add_argument(
        "--payload", type=wholes, default=(USUAL_PAYLOAD,), metavar="BYTES",
        help="bytes of a delivery on the wire, or several with commas between; ours has 260 around a message "
        f"(default: {USUAL_PAYLOAD})",
    )  # fmt: skip
    add_rounds(parser, 3)
    add_seconds(parser, 2.0, "how long a turn is")
    parser.set_defaults(load=None, full_speed=False)
    return pace


def run(options: argparse.Namespace, progress: Progress) -> Table:
    """All systems, for each number of clients and each payload."""
    return _measure(options, chosen_systems(options, floor=True), progress)


def run_floor(options: argparse.Namespace, progress: Progress) -> Table:
    """The floor alone."""
    return _measure(options, [Floor()], progress)


def _measure(options: argparse.Namespace, systems: list[System], progress: Progress) -> Table:
    rows: list[Row] = []
    notes: dict[object, Row] = {}
    targets: list[Target] = []
    for clients in options.clients:
        need_descriptors(clients)
        work = Work(options, clients, progress)
        # All of them at once, or, where that would be too many sockets, one after the other.
        for those in [systems] if clients * len(systems) <= most_clients() else [[system] for system in systems]:
            work.measure(those)
        notes |= {note["system"]: note for note in work.notes}
        for payload, turns in work.turns.items():
            found = rows_of(turns, clients)
            if (clients, payload) == (TARGET_CLIENTS, USUAL_PAYLOAD):
                targets += targets_of(found, options)
            rows += found
    # Without a single figure, why there is none is a failure, and not a remark.
    failed = "" if rows else "; ".join(str(note[NOTE]) for note in notes.values())
    return Table(columns=COLUMNS, rows=[*rows, *notes.values()], targets=targets, failed=failed)


class Work:
    """So many rounds with a number of clients, each system in turn."""

    def __init__(self, options: argparse.Namespace, clients: int, progress: Progress) -> None:
        self._options: Final = options
        self._clients: Final = clients
        self._progress: Final = progress
        self._rate: float | None = options.rate
        """Messages a second; what the first system says where it is not asked for."""
        self.turns: Final[dict[int, dict[str, list[Turn]]]] = {payload: {} for payload in options.payload}
        """By payload and system."""
        self.notes: Final[list[Row]] = []

    def measure(self, systems: Sequence[System]) -> None:
        """All of it, with these."""
        with Lineup(systems, partial(Stand, clients=self._clients, progress=self._progress)) as lineup:
            for payload, turns in self.turns.items():
                sizes: dict[str, int] = {}
                lineup.each(partial(self._fit, payload, sizes))
                for _ in range(self._options.rounds):
                    lineup.each(partial(self._turn, sizes, turns))
            self.notes.extend(lineup.notes)

    def _fit(self, payload: int, sizes: dict[str, int], stand: Stand) -> None:
        size = sizes[stand.system.name] = stand.fit(payload)
        if self._rate is None:
            self._rate = self._chosen_rate(stand, size)

    def _chosen_rate(self, stand: Stand, size: int) -> float:
        usual = min(LARGEST_RATE, USUAL_DELIVERIES / self._clients)
        if not self._options.load:
            return usual
        trial = stand.run(Order(max(1, round(usual * TRIAL_S)), size, usual))
        return float(self._options.load) / (trial.cpu_us / 1e6 * self._clients)

    def _turn(self, sizes: dict[str, int], turns: dict[str, list[Turn]], stand: Stand) -> None:
        name, seconds = stand.system.name, self._options.seconds
        if self._options.full_speed:
            turn = stand.run_all(repeat(Order(WINDOW, sizes[name], batch=BATCH)), seconds)
        else:
            assert self._rate is not None
            count = max(1, round(self._rate * seconds))
            turn = stand.run(Order(count, sizes[name], self._rate, at_most_s=PATIENCE * seconds))
        turns.setdefault(name, []).append(turn)


def rows_of(turns: dict[str, list[Turn]], clients: int) -> list[Row]:
    """One for each system."""
    costs = {name: [turn.cpu_us for turn in those] for name, those in turns.items()}
    return [
        {
            "system": name,
            "clients": clients,
            "rate": median(turn.messages / turn.took_s for turn in those),
            "wire_bytes": median(turn.bytes / max(1, turn.deliveries) for turn in those),
            "cpu_us": median(costs[name]),
            "rounds_us": costs[name],
            "of_floor": median_ratio(costs[name], costs.get("floor", [])),
            "of_nchan": median_ratio(costs[name], costs.get("nchan", [])),
            **latencies([turn.latencies_ns for turn in those]),
            "processes_us": dict(_processes(those)),
            "lost": sum(turn.lost for turn in those),
        }
        for name, those in turns.items()
    ]


def _processes(turns: list[Turn]) -> Iterator[tuple[str, float]]:
    deliveries = sum(turn.deliveries for turn in turns)
    for name in turns[0].cpu_s:
        yield name, sum(turn.cpu_s[name] for turn in turns) * 1e6 / max(1, deliveries)


def targets_of(rows: Sequence[Row], options: argparse.Namespace) -> Iterator[Target]:
    """Those that are said for what was measured."""
    by_name = {str(row["system"]): row for row in rows}
    ours, floor = by_name.get("ours"), by_name.get("floor")
    if ours is None:
        return
    if options.full_speed:
        yield Target("µs a delivery at full speed", _figure(ours, "cpu_us"), MOST_AT_FULL_SPEED_US, "µs")
        return
    if options.load:
        if options.load == TARGET_LOAD and floor is not None and _figure(floor, "p99_ms"):
            ratio = _figure(ours, "p99_ms") / _figure(floor, "p99_ms")
            yield Target(f"p99 at {TARGET_LOAD:.0%} of a core, of the floor's", ratio, MOST_OF_FLOOR_P99)
        return
    if ours["of_floor"] is not None:
        yield Target("a delivery, of the floor's", _figure(ours, "of_floor"), MOST_OF_FLOOR)
    if ours["of_nchan"] is not None:
        yield Target("a delivery, of nchan's", _figure(ours, "of_nchan"), MOST_OF_NCHAN)


def _figure(row: Row, key: str) -> float:
    return float(str(row[key]))


COMMAND: Final = Command("fanout", QUESTION, add_options, run)
FLOOR: Final = Command("floor", FLOOR_QUESTION, add_floor_options, run_floor)
