"""How a process goes that others go on without: how long it may take, and when it is done. Pure."""

from __future__ import annotations

import math
from typing import Final

from channelstream.config import Config

ASKS_OF_A_CALL: Final = 4
"""So often, at most, a REST call waits for shards one after the other: the record, the channels, states, what is
undone. Each wait ends with `ask_timeout`."""

QUIET_MARGIN_S: Final = 1.5
"""More than a server that drains waits for another request, `serving.QUIET_S`."""

CLOSE_ANSWER_S: Final = 1.5
"""Clients that were told to go have this long to answer; what they were told is with the kernel by then."""

MARGIN_S: Final = 1.0
"""What a process needs besides, on a machine that has a lot to do, before it is taken for one that hangs."""

QUICK_S: Final = 1.5
"""An edge's whole end where the group ends with it: clients have this long to answer, and calls to be answered."""

QUICK_ROUTER_S: Final = 0.8
"""A router's, which comes after the edges'."""


def calls_within_s(config: Config) -> float:
    """How long the calls take at most that a process has when it is asked to go, and those that come meanwhile."""
    return ASKS_OF_A_CALL * config.ask_timeout + QUIET_MARGIN_S


def edge_within_s(config: Config) -> float:
    """How long clients and calls may keep an edge."""
    return max(config.drain_seconds + CLOSE_ANSWER_S, calls_within_s(config))


def stop_wait_s(role: str, config: Config) -> int:
    """After how many seconds a process that was asked to go, and did not, is to be killed (stopwaitsecs)."""
    if role == "edge":
        # Its last word to the shards is an ask of its own.
        return math.ceil(edge_within_s(config) + config.ask_timeout + MARGIN_S)
    return math.ceil(calls_within_s(config) + MARGIN_S)


class Leaving:
    """One departure. All times are monotonic seconds."""

    def __init__(self, now: float, within_s: float, quick_s: float) -> None:
        self._until = now + within_s
        self._quick_s: Final = quick_s
        self.hurried = False
        """Whether the whole group ends, or somebody has asked twice."""
        self._told_at: float | None = None
        """Since when no client is left to be told."""

    def hurry(self, now: float) -> None:
        """It must not take long any more."""
        if not self.hurried:
            self.hurried = True
            self._until = min(self._until, now + self._quick_s)

    def is_over(self, now: float, sockets: int, all_told: bool, is_quiet: bool) -> bool:
        """Whether to go now. `sockets`: clients whose sockets are open; `all_told`: whether they know that they are to
        go; `is_quiet`: whether no request is under way, nor to be expected."""
        if now >= self._until:
            return True
        if all_told and self._told_at is None:
            self._told_at = now
        if not (all_told and is_quiet):
            return False
        return not sockets or now >= (self._told_at or 0.0) + CLOSE_ANSWER_S
