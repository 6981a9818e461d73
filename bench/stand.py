"""A system with a crowd on one channel and a publisher: what most commands measure, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final, NamedTuple

from bench.crowd import Crowd, LostClients
from bench.processes import Cpu
from bench.progress import Progress
from bench.publisher import Order, Publisher
from bench.systems import Sender, System, crowd_for

STALLED_S: Final = 10.0
"""When all is published and nothing has come for so long, what is missing is lost."""

LOOK_S: Final = 0.5
"""How often it is looked whether something comes."""

SETTLED_S: Final = 0.5
"""After which a start's and many new clients' timers have run out."""

SHORTEST: Final = 2
"""Bytes of text: the mark."""


class Turn(NamedTuple):
    """What one turn has shown."""

    messages: int
    deliveries: int
    lost: int
    cpu_s: dict[str, float]
    """By process."""
    latencies_ns: list[int]
    bytes: int
    reads: int
    took_s: float

    @property
    def cpu_us(self) -> float:
        """Of all processes, for each delivery."""
        return sum(self.cpu_s.values()) * 1e6 / max(1, self.deliveries)


class Stand:
    """Use it with `with`: the system is started and the clients are there inside. Raises what a system and a crowd
    raise, and `LostClients` where clients are there and get nothing."""

    def __init__(
        self,
        system: System,
        clients: int,
        progress: Progress,
        *,
        sender: Callable[[], Sender] | None = None,
        requests: Callable[[], Iterable[bytes]] | None = None,
        reach: int | None = None,
        running: bool = False,
    ) -> None:
        """`sender`, `requests`: others than the system's own. `reach`: how many clients a message is for, where not for
        each of them; then what is lost is counted as a whole. `running`: whether the system is started already, and is
        to go on afterwards."""
        self.system: Final = system
        self.clients: Final = clients
        self._progress: Final = progress
        self._sender: Final = sender
        self._requests: Final = requests
        self._running: Final = running
        self._for_all: Final = reach is None
        self._reach: Final = clients if reach is None else reach
        self.crowd: Crowd

    def __enter__(self) -> Stand:
        system = self.system
        with ExitStack() as stack:
            if not self._running:
                self._progress.show(f"{system.name}: starting")
                stack.enter_context(system)
            self._publisher = stack.enter_context(Publisher(self._sender or system.sender))
            self.crowd = stack.enter_context(crowd_for(system))
            requests = system.requests(self.clients) if self._requests is None else self._requests()
            self.crowd.open(system.address, requests, on_progress=self._show_clients)
            self.crowd.receive(SETTLED_S)
            self._stack = stack.pop_all()
        return self

    def _show_clients(self, count: int) -> None:
        self._progress.show(f"{self.system.name}: {count:,} of {self.clients:,} clients")

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- turns ---

    def fit(self, wire: int) -> int:
        """The text's length with which a delivery has so many bytes on the wire, as far as the system can be so short.
        Two messages are published for that, and both must arrive."""
        size = max(SHORTEST, wire // 2)
        for _ in range(2):
            turn = self.run(Order(1, size=size))
            if turn.lost or not turn.deliveries:
                raise LostClients(f"{self.system.name}: {turn.lost} of {self._reach} clients got nothing")
            size = max(SHORTEST, size + wire - round(turn.bytes / turn.deliveries))
        return size

    def publish(self, order: Order) -> None:
        """Publish, and receive nothing meanwhile."""
        self._publisher.publish(order)

    def run(self, order: Order) -> Turn:
        """Publish, and receive until all of it is there."""
        return self.run_all([order], float("inf"))

    def run_all(self, orders: Iterable[Order], seconds: float) -> Turn:
        """One order after another, each when all of the one before it is there, until the time is over."""
        crowd, messages, until = self.crowd, 0, time.monotonic() + seconds
        crowd.begin()
        cpu, began = Cpu(self.system.pids), time.monotonic()
        for order in orders:
            self._publisher.start(order)
            published, all_there = self._receive(messages, order)
            messages += published
            if not all_there or time.monotonic() > until:
                break
        used, took_s = cpu.used_s(), time.monotonic() - began
        lost = crowd.lost(messages) if self._for_all else max(0, messages * self._reach - crowd.received)
        return Turn(messages, crowd.received, lost, used, crowd.latencies_ns, crowd.bytes, crowd.reads, took_s)

    def _receive(self, before: int, order: Order) -> tuple[int, bool]:
        """Until what was published, besides the messages before, is there. How many that is, and whether it is."""
        crowd, moved, done = self.crowd, time.monotonic(), None
        published = order.messages
        while time.monotonic() - moved < STALLED_S:
            had, wanted = crowd.received, (before + published) * self._reach
            all_there = crowd.receive(LOOK_S, wanted)
            done = done or self._publisher.done()
            if done is not None and done.messages < published:
                published = done.messages
            elif done is not None and all_there:
                return published, True
            elif all_there:
                crowd.receive(0.001)
            if crowd.received > had or done is None:
                moved = time.monotonic()
            self._progress.show(f"{self.system.name}: {crowd.received:,} of {wanted:,} deliveries")
        return published, False
