"""Chat-like work: many channels with a few clients each, each client on a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Final

from bench.group import Group
from bench.progress import Progress
from bench.stand import Stand

STRIDE: Final = 7919
"""Channels of one client are so far apart, about: a prime."""


class UnevenPlaces(Exception):
    """Channels that would not all have the same number of clients."""


def channel_names(count: int) -> list[str]:
    """So many."""
    return [f"room-{number}" for number in range(count)]


def places(clients: int, channels: Sequence[str], each: int) -> list[list[str]]:
    """The channels of each client, `each` of them, so that all channels have as many clients, and a client meets others
    on each of its channels. Pure. Raises `UnevenPlaces`."""
    count = len(channels)
    if count % each or clients * each % count:
        raise UnevenPlaces(f"{clients} clients on {each} of {count} channels each: some would have more than others")
    laps = [_stride(count, lap) for lap in range(clients * each // count)]
    slots = [channels[place * stride % count] for stride in laps for place in range(count)]
    return [slots[at : at + each] for at in range(0, len(slots), each)]


def _stride(count: int, lap: int) -> int:
    """Another one for each lap over the channels, so that nobody meets the same others again; each leads to all."""
    stride = STRIDE * (lap + 1)
    while gcd(stride, count) != 1:
        stride += 1
    return stride


def chat(group: Group, clients: int, channels: int, each: int, progress: Progress, running: bool = False) -> Stand:
    """Such clients, and a publisher that publishes to the channels in turn."""
    names = channel_names(channels)
    where = places(clients, names, each)
    return Stand(
        group,
        clients,
        progress,
        sender=lambda: group.sender(names),
        requests=lambda: group.connections(where),
        reach=clients * each // channels,
        running=running,
    )
