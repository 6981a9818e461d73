"""What waits for the disk, in groups: one is being stored while the next one fills. Pure.

All of a group is stored, or none of it. Behind it wait the answers and deliveries that rest on it. A group that could
not be stored takes the one that fills along, so that whatever was refused is refused in one piece; what both of them
hold that is not undone (all but messages) is in force, and is stored with the next group that can be.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, Final

from channelstream.shard.effects import Broadcast, Effect, Later, Reply, Send, Store, Tell
from channelstream.shard.store.base import OF_CHANNELS, ChannelForgotten, MessageSaved, Write, subject

LATER: Final = (Tell, Reply)

PACE_S: Final = 0.002
"""A group begins no sooner than this after the one before it. Under load it gathers what several callers have said, and
a group costs a quarter of a millisecond of CPU, whatever is in it; who comes alone does not wait."""

AGAIN_AFTER_S: Final = 0.25
"""After a group that could not be stored the next one is not tried sooner: a full disk is asked some times a second,
however many want to write."""

RETRY_AFTER_S: Final = 1.0
"""What is still to be stored is tried this often where nobody wants to write."""


MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bodies of messages that may wait for the disk. With more, a disk that hangs takes the machine's memory along."""

MAX_WAITING_WRITES: Final = 200_000
"""The same for their number. A disk that works takes so many in a second or two."""


class _Group:
    """Writes, and what waits for them."""

    __slots__ = ("bytes", "later", "writes")

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.bytes = 0
        """Of the bodies in them."""
        self.later: list[Later] = []


class Pipeline:
    """The order of calls: `take` for the effects of a turn, then `start` whenever nothing is under way, and `stored`
    or `not_stored` when that which was started is over."""

    def __init__(self) -> None:
        self._filling = _Group()
        self._under_way: _Group | None = None
        self._owed: dict[tuple[Any, ...], Write] = {}
        """Writes of groups that could not be stored, the last one about each subject."""
        self._not_before = 0.0
        """Monotonic seconds before which nothing is tried."""

    def take(self, effects: Iterable[Effect]) -> list[Send | Broadcast | Later]:
        """What is to be performed now; the rest is kept until it may be."""
        now: list[Send | Broadcast | Later] = []
        filling = self._filling
        # PERF: several of these for each message that is stored.
        for effect in effects:
            if isinstance(effect, Store):
                write = effect.write
                filling.writes.append(write)
                if isinstance(write, MessageSaved):
                    filling.bytes += len(write.message.body)
            elif isinstance(effect, LATER):
                self._last_group_or(now).append(effect)
            else:
                now.append(effect)
        return now

    def _last_group_or(self, now: list[Any]) -> list[Any]:
        if self._filling.writes or self._filling.later:
            return self._filling.later
        return now if self._under_way is None else self._under_way.later

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and nothing is owed."""
        return self._under_way is None and not self._filling.writes and not self._owed

    @property
    def is_under_way(self) -> bool:
        """Whether the writer has a group."""
        return self._under_way is not None

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that no more messages should be taken."""
        return self._filling.bytes > MAX_WAITING_BYTES or len(self._filling.writes) > MAX_WAITING_WRITES

    @property
    def owes(self) -> int:
        """How many writes could not be stored so far."""
        return len(self._owed)

    def next_due(self) -> float:
        """The moment (monotonic) from which `start` gives something; infinity where it does not by itself."""
        if self._under_way is not None or self.is_empty:
            return inf
        return self._not_before if self._filling.writes else self._not_before + RETRY_AFTER_S - AGAIN_AFTER_S

    def start(self, now_mono: float) -> list[Write]:
        """The writes of the next group, which is under way from here on; empty where there is none to start now."""
        if self.next_due() > now_mono:
            return []
        self._under_way, self._filling = self._filling, _Group()
        self._not_before = now_mono + PACE_S
        return [*self._owed.values(), *self._under_way.writes]

    def stored(self) -> list[Later]:
        """What was under way is down: what waited for it."""
        group, self._under_way = self._under_way, None
        self._owed.clear()
        return [] if group is None else group.later

    def not_stored(self, now_mono: float) -> list[Later]:
        """What was under way could not be stored: what waited for it, and for what was to follow."""
        groups = [group for group in (self._under_way, self._filling) if group is not None]
        self._under_way, self._filling = None, _Group()
        self._not_before = now_mono + AGAIN_AFTER_S
        for group in groups:
            for write in group.writes:
                if not isinstance(write, MessageSaved):
                    self._owe(write)
        return [later for group in groups for later in group.later]

    def _owe(self, write: Write) -> None:
        """In the place of an earlier one about the same: what came in between may rest on it."""
        if isinstance(write, ChannelForgotten):
            over = [key for key in self._owed if key[0] in OF_CHANNELS and key[1] == write.channel]
            for key in over:
                del self._owed[key]
        self._owed[subject(write)] = write
