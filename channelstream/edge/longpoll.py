"""A client held by one long-poll: what comes for it is gathered and goes out as the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gevent.event import Event

from channelstream.clock import monotonic
from channelstream.edge.core import Held
from channelstream.edge.frames import CLOSE_EXPIRED, CLOSE_REPLACED, listed
from channelstream.edge.link import Link
from channelstream.edge.outbox import Mark, Ready

GATHER_S: Final = 0.25
"""After the first message, this long for what follows it. The contract's number."""


class PollClient(Held):
    """See the module. Call `answer` once, then `over` when it is known whether the answer went out."""

    __slots__ = ("_bodies", "_bytes", "_late", "_link", "_marks", "_stirred", "_stopped")

    waits_for_an_answer = True

    def __init__(self, conn_id: str, user: str, attachment: int, link: Link) -> None:
        super().__init__(conn_id, user, attachment)
        self._link: Final = link
        self._bodies: list[bytes] = []
        self._marks: dict[str, Mark] = {}
        """Of what is in `_bodies`, the first of each topic: those behind it say nothing more."""
        self._bytes = 0
        self._late: dict[str, Mark] = {}
        """The same of what came when no more was taken: the next poll gets it."""
        self._stirred: Any = Event()
        self._stopped = False
        """Whether no more is taken."""

    def deliver(self, ready: Sequence[Ready]) -> None:
        """See `Held.deliver`. A full answer goes out at once: with `max_queue` bytes, and what the last write brings
        over that (a turn, or a catch-up, which are bounded)."""
        for one in ready:
            if self._stopped:
                self._late.setdefault(one.mark.topic, one.mark)
                continue
            self._bodies.extend(one.bodies)
            self._marks.setdefault(one.mark.topic, one.mark)
            self._bytes += sum(map(len, one.bodies))
            self._stopped = self._bytes >= self._link.config.max_queue
        self._link.fell_behind(self)
        self._stirred.set()

    def unsent(self) -> list[Mark]:
        """See `Held.unsent`: nothing has gone out before the answer has."""
        return [*self._marks.values(), *self._late.values()]

    def close(self, code: int) -> None:
        """See `Held.close`: the poll ends with what it has. One that another poll has replaced leaves everything to
        that one, since nobody may be there any more to read this one's answer."""
        self._stopped = True
        if code == CLOSE_REPLACED:
            # It waits to its end with nothing: answered at once it would come back at once and replace the other, and
            # two windows with one conn_id would keep each other from ever getting anything.
            self.over(answered=False)
            self._bodies.clear()
            self._stirred.clear()
            return
        if code == CLOSE_EXPIRED:
            # Over at every shard: the next poll is refused, and so the client learns that it has to connect anew.
            self._link.release(self, closed=True, unsent=self.unsent())
        self._stirred.set()

    def answer(self, wait_s: float, gather_s: float = GATHER_S) -> bytes:
        """Wait for something for at most so long, gather what follows it, and give the list."""
        if self._stirred.wait(wait_s):
            until = monotonic() + gather_s
            while not self._stopped and (left := until - monotonic()) > 0:
                self._stirred.clear()
                self._stirred.wait(left)
        self._stopped = True
        return listed(self._bodies)

    def over(self, answered: bool) -> None:
        """The answer has gone out, or the client is not there to get it: then the next poll gets all of it again."""
        self._link.release(self, closed=False, unsent=self._late.values() if answered else self.unsent())
