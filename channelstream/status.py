"""How every process of a group is: reports merged into one list, and a client that asks for them from outside."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from channelstream import __version__
from channelstream.bus.zeromq import ZeroMqBus, ZeroMqDialer
from channelstream.clock import monotonic, real_clock
from channelstream.config import Config, shard_address
from channelstream.process import new_incarnation
from channelstream.wire import codec
from channelstream.wire.messages import Answer, Ask, GetStatus, ProcessStatus, StatusReport, ToPeer

QUEUE_BYTES: Final = 64 * 1024
"""A status client sends a few bytes to each shard, once."""

GROUP_READY_TIMEOUT_S: Final = 0.3
"""How long one look for readiness may take; the launcher looks again and again."""


class Sizes(Protocol):
    """The numbers of processes, as the configuration has them."""

    @property
    def routers(self) -> int: ...
    @property
    def shards(self) -> int: ...
    @property
    def edges(self) -> int: ...


def own_status(role: str, index: int) -> ProcessStatus:
    """What a process says of itself at its start."""
    return ProcessStatus(role, index, os.getpid(), real_clock().wall, __version__)


def missing(role: str, index: int) -> ProcessStatus:
    """A process that nobody has heard of."""
    return ProcessStatus(role, index, 0, 0.0, "")


def merged(sizes: Sizes, reports: Iterable[StatusReport]) -> list[ProcessStatus]:
    """Every process that the configuration names, by role and index; pid 0 for one that nobody has heard of.

    Of two lives of one process the younger counts.
    """
    known: dict[tuple[str, int], ProcessStatus] = {}
    for report in reports:
        for status in (report.own, *report.peers):
            place = (status.role, status.index)
            if place not in known or known[place].since < status.since:
                known[place] = status
    expected = (("router", sizes.routers), ("shard", sizes.shards), ("edge", sizes.edges))
    return [known.get((role, index)) or missing(role, index) for role, count in expected for index in range(count)]


def all_ready(statuses: Sequence[ProcessStatus]) -> bool:
    """Whether every process is there and linked to all shards."""
    return all(status.ready for status in statuses)


def gather(config: Config, timeout_s: float) -> list[ProcessStatus]:
    """Ask every shard of a running group, waiting at most so long; what does not answer is missing."""
    return merged(config, reports(config, timeout_s))


def reports(config: Config, timeout_s: float) -> list[StatusReport]:
    """What the shards say that answer within so long: of themselves, and of those that talk to them."""
    bus = ZeroMqBus()
    name = f"tool-{os.getpid()}:{new_incarnation()}"
    try:
        dialers = [bus.dial(name, shard_address(config, shard), QUEUE_BYTES) for shard in range(config.shards)]
        return _asked(dialers, monotonic() + timeout_s)
    finally:
        bus.close()


def _asked(dialers: list[ZeroMqDialer], deadline: float) -> list[StatusReport]:
    reports: list[StatusReport] = []
    for dialer in dialers:
        dialer.send(codec.encode(Ask(1, deadline, GetStatus())))  # the first in its queue: never full
    while len(reports) < len(dialers) and (left := deadline - monotonic()) > 0:
        for dialer in dialers:
            dialer.flush()
            reports += _reports_in(dialer.receive())
        # A link that is only now being made is no readable descriptor: look again soon.
        select.select([dialer.fileno() for dialer in dialers], [], [], min(left, 0.02))
    return reports


def _reports_in(messages: list[ToPeer]) -> list[StatusReport]:
    return [
        message.result
        for message in messages
        if isinstance(message, Answer) and isinstance(message.result, StatusReport)
    ]


def group_ready(config: Config) -> bool:
    """Whether every process of the group has reported in."""
    return all_ready(gather(config, GROUP_READY_TIMEOUT_S))
