"""The attaches of an edge that are not answered: which are sent, which wait for their turn, which are sent again. Pure.

A shard that comes back is to get what thousands of clients are on. Sent at once that would keep both sides from all
else, and what is busy would be asked again for being slow. So a shard has so much to answer at a time, and the next
attaches follow as answers come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from channelstream.wire.messages import TopicCursor

if TYPE_CHECKING:
    from channelstream.edge.core import Held

WINDOW: Final = 1000
"""Clients and topics that a shard has to answer for at a time. It takes a shard some ten milliseconds, so that a
publish behind them is hardly late; and it is more than it answers in the time that the next ones take to come."""

ASK_AGAIN_S: Final = 1.0
"""An attach that is not answered is sent again after this long, then after twice as long, and so on. What a link loses
is noticed without it."""

LONGEST_WAIT_S: Final = 8.0
"""It is not sent more rarely than this."""


class Waiting:
    """A client's attach at one shard, until it is answered."""

    __slots__ = ("client", "is_again", "number", "sent_at", "shard", "topics", "wait_s")

    def __init__(self, client: Held, shard: int, topics: dict[str, TopicCursor], is_again: bool) -> None:
        self.client: Final = client
        self.shard: Final = shard
        self.topics: Final = topics
        """What it names, by topic. What the client leaves meanwhile is taken out."""
        self.is_again: Final = is_again
        """Whether the shard may have forgotten the connection: then it is told all channels that it is on."""
        self.number = 0
        """The one that its answer will carry; 0 until it is sent."""
        self.sent_at: float | None = None
        """Monotonic seconds of the last time; None until it is sent."""
        self.wait_s = ASK_AGAIN_S
        """How long after that it is sent again."""

    @property
    def weight(self) -> int:
        """What it takes of the window."""
        return 1 + len(self.topics)


class Attaches:
    """All of them. What is taken from here is sent at once, in that order. `window` as `WINDOW`."""

    def __init__(self, shards: int, window: int = WINDOW) -> None:
        self._window: Final = window
        self._waiting: dict[tuple[Held, int], Waiting] = {}
        self._queues: Final[list[dict[Waiting, None]]] = [{} for _ in range(shards)]
        """Per shard: what has not been sent, first come first."""
        self._under_way: Final[list[dict[Waiting, int]]] = [{} for _ in range(shards)]
        """Per shard: what has been sent lately, with its weight then."""
        self._weights: Final = [0] * shards
        """Their sum."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def of(self, client: Held, shard: int) -> Waiting | None:
        """A client's attach at a shard; None where it is answered."""
        return self._waiting.get((client, shard))

    def at(self, shard: int) -> Iterator[Waiting]:
        """All of a shard."""
        return (waiting for (_, at), waiting in self._waiting.items() if at == shard)

    def queued(self, shard: int) -> bool:
        """Whether one waits for its turn at a shard."""
        return bool(self._queues[shard])

    def put(self, waiting: Waiting) -> None:
        """Queue one; an earlier one of the client at that shard, sent or not, counts no more."""
        earlier = self._waiting.get((waiting.client, waiting.shard))
        if earlier is not None:
            self._remove(earlier)
        self._waiting[waiting.client, waiting.shard] = waiting
        self._queues[waiting.shard][waiting] = None

    def remove(self, client: Held, shard: int) -> Waiting | None:
        """It is answered, or nobody waits for it any more. It comes back, if there was one."""
        waiting = self._waiting.pop((client, shard), None)
        if waiting is not None:
            self._remove(waiting)
        return waiting

    def send(self, waiting: Waiting, now: float) -> Waiting:
        """One that is sent now, whatever else waits."""
        del self._queues[waiting.shard][waiting]
        self._depart(waiting, self.next_number(), now)
        return waiting

    def asked(self, waiting: Waiting, number: int, now: float) -> None:
        """One that was asked for together with its connection, with a number from here: its answer is on its way."""
        self._waiting[waiting.client, waiting.shard] = waiting
        self._depart(waiting, number, now)

    def _depart(self, waiting: Waiting, number: int, now: float) -> None:
        waiting.number = number
        waiting.sent_at = now
        weight = waiting.weight
        self._under_way[waiting.shard][waiting] = weight
        self._weights[waiting.shard] += weight

    def next_number(self) -> int:
        """Each attach that is sent has its own."""
        self._last_number += 1
        return self._last_number

    def next_to_send(self, shard: int, now: float) -> Iterator[Waiting]:
        """What the shard's window has room for."""
        queue = self._queues[shard]
        while queue and self._weights[shard] < self._window:
            yield self.send(next(iter(queue)), now)

    def late(self, now: float) -> Iterator[Waiting]:
        """What has not been answered for too long, to be sent again as it is; not more than a window for each shard.
        They make room for others: what nobody answers must not hold up all."""
        left = [self._window] * len(self._weights)
        for waiting in self._waiting.values():
            if waiting.sent_at is None or now - waiting.sent_at < waiting.wait_s or left[waiting.shard] <= 0:
                continue
            left[waiting.shard] -= waiting.weight
            self._arrive(waiting)
            waiting.sent_at = now
            waiting.wait_s = min(2 * waiting.wait_s, LONGEST_WAIT_S)
            yield waiting

    def _remove(self, waiting: Waiting) -> None:
        self._queues[waiting.shard].pop(waiting, None)
        self._arrive(waiting)

    def _arrive(self, waiting: Waiting) -> None:
        self._weights[waiting.shard] -= self._under_way[waiting.shard].pop(waiting, 0)
