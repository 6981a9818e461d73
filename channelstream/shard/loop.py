"""The shard's loop: receive, let the core decide, store, send. The I/O around `core`, and nothing decided here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from channelstream import failpoints
from channelstream.bus.base import Listener
from channelstream.clock import Clock, Now
from channelstream.counters import HOLES, PEERS_BEHIND, TOO_LARGE, UNDECODABLE
from channelstream.errors import MessageTooLarge, OwnerLost, QueueFull, StoreError, StoreFull
from channelstream.shard.core import Shard
from channelstream.shard.effects import Broadcast, Effect, Later, Reply, Send, Tell
from channelstream.shard.pipeline import Pipeline
from channelstream.shard.writer import Committing
from channelstream.wire import codec
from channelstream.wire.messages import ToPeer, ToShard

LONGEST_WAIT_S: Final = 1.0
"""The loop turns at least this often, and looks whether its place is still its own. All else that it waits for has its
moment or its descriptor."""

OWNER_LOOK_S: Final = 1.0
"""A shard that has not looked for so long looks whether its place is still its own before it does anything else: it may
have been stopped, and another one have begun."""

RETRY_S: Final = 0.01
"""With something queued for a peer that takes nothing just now, the next try comes this soon."""

log: Final = logging.getLogger(__name__)


class Loop:
    """One turn: all that is there is received and decided; what is to be stored is handed to the writer as one group;
    what waits for nothing is sent, one batch a peer. What waits for a group is sent in the turn that sees it stored."""

    def __init__(
        self,
        shard: Shard,
        listener: Listener,
        writer: Committing,
        clock: Clock,
        has_place: Callable[[], bool] = lambda: True,
    ) -> None:
        self._shard: Final = shard
        self._listener: Final = listener
        self._writer: Final = writer
        self._clock: Final = clock
        self._has_place: Final = has_place
        self._looked_at = clock().mono
        """Monotonic seconds at which the shard's place was its own."""
        self._pipeline: Final = Pipeline()
        self._undecodable = 0
        """How many undecodable batches have been told of."""
        self._complaint = ""
        """Why the last group was not stored; "" where it was."""
        if writer.fileno() >= 0:
            listener.wake_on(writer.fileno())

    def run(self, stopping: Callable[[], bool]) -> None:
        """Turn until it is time to stop. The turn that has begun is finished: what was received is stored and answered.

        Raises `StoreBroken` or `OwnerLost` where the store may not be used any more: then nothing else can be done.
        """
        now = self._clock()
        while not stopping():
            now = self.turn(self._wait_s(now))
        self._finish()

    def turn(self, wait_s: float) -> Now:
        """Receive for at most so long, and carry out all that came and all that is due; when that was comes back."""
        received = self._listener.receive(wait_s)
        now = self._clock()
        if now.mono - self._looked_at >= OWNER_LOOK_S:
            self._look_at_place(now)
        effects: list[Effect] = []
        for peer, messages, hole in received:
            if hole:
                self._shard.counters.count(HOLES)
                log.warning("< %s: something was lost on the way: it attaches again", peer)
                effects += self._shard.lose_peer(peer, now, served_known=False)
            for message in messages:
                effects += self._handled(peer, message, now)
        effects += self._shard.tick(now)
        self._perform(effects, now)
        if not self._pipeline.is_empty:
            self._store(now)
        if self._listener.undecodable != self._undecodable:
            self._tell_of_undecodable()
        return now

    def _look_at_place(self, now: Now) -> None:
        """Raises `OwnerLost`."""
        if not self._has_place():
            raise OwnerLost("another process has taken this shard's place")
        self._looked_at = now.mono

    def _handled(self, peer: str, message: ToShard, now: Now) -> list[Effect]:
        """A message that the core stumbles over is a fault of ours. It costs its sender the answer, and nobody else
        the shard."""
        try:
            return self._shard.handle(peer, message, now)
        except Exception:
            log.exception("< %s: %s failed", peer, type(message).__name__)
            return []

    def _tell_of_undecodable(self) -> None:
        self._shard.counters.count(UNDECODABLE, self._listener.undecodable - self._undecodable)
        self._undecodable = self._listener.undecodable
        log.error("dropped %d undecodable batches so far; %s", self._undecodable, self._listener.complaint)

    def _wait_s(self, turned_at: Now) -> float:
        """How long to wait after a turn."""
        if self._shard.queue_bytes:
            return RETRY_S
        due = min(self._shard.next_due(), self._pipeline.next_due())
        if due >= turned_at.mono + LONGEST_WAIT_S:
            return LONGEST_WAIT_S
        return max(due - self._clock().mono, 0.0)

    # --- the store ---

    def _store(self, now: Now) -> None:
        """Hand the writer what there is, and take what it has done."""
        while True:
            outcome = self._writer.finished() if self._pipeline.is_under_way else None
            if outcome is not None:
                self._settle(outcome.error, now)
            writes = self._pipeline.start(now.mono)
            if not writes:
                return
            self._writer.submit(writes)

    def _settle(self, error: StoreError | None, now: Now) -> None:
        """A group is over. Callers are told before clients."""
        if error is None:
            self._tell_that_it_is_well()
            failpoints.reach("after_commit_before_answer")
            stored = self._pipeline.stored()
            self._perform([effect for effect in stored if type(effect) is Reply], now)
            failpoints.reach("after_answer_before_delivery")
            self._perform_told([effect for effect in stored if type(effect) is Tell], now)
        elif isinstance(error, StoreFull):
            self._refuse(error, now)
        else:
            raise error

    def _perform_told(self, stored: Sequence[Tell], now: Now) -> None:
        effects: list[Effect] = []
        for effect in stored:
            effects += self._shard.told(effect)
        if effects:
            self._perform(effects, now)

    def _refuse(self, error: StoreFull, now: Now) -> None:
        waiting = self._pipeline.not_stored(now.mono)
        effects: list[Effect] = [
            self._shard.refuse(effect, error.reason) for effect in waiting if type(effect) is Reply
        ]
        effects += self._shard.not_stored([effect for effect in waiting if type(effect) is Tell])
        self._perform(effects, now)
        if self._complaint != error.reason:
            self._complaint = error.reason
            log.error("not stored: %s; what is to be stored is refused until it can be", error.reason)

    def _tell_that_it_is_well(self) -> None:
        if self._complaint:
            self._complaint = ""
            log.warning("stored again: what the disk did not take before is down")

    def _finish(self) -> None:
        """The orderly end: all that was received is stored and answered, and frames are kept for the next life."""
        now = self._clock()
        if self._pipeline.is_under_way:
            self._settle(self._writer.wait().error, now)
        last = self._pipeline.start(float("inf"))
        if last:
            self._writer.submit(last)
            self._settle(self._writer.wait().error, now)
        if self._pipeline.owes:
            log.error("%d changes are lost: the disk did not take them", self._pipeline.owes)
            return
        self._writer.submit(self._shard.farewell(now))
        error = self._writer.wait().error
        if error is not None:
            log.error("frames are not kept: %s", error)

    # --- sending ---

    def _perform(self, effects: Iterable[Effect], now: Now) -> None:
        """Send what waits for nothing."""
        ready = self._pipeline.take(effects)
        while ready or self._shard.queue_bytes:
            lost = self._queue(ready)
            lost += self._listener.flush()
            if not lost:
                break
            # Losing a peer cuts its connections off, which others may have waited for.
            ready = self._pipeline.take(
                [effect for peer in dict.fromkeys(lost) for effect in self._shard.lose_peer(peer, now)]
            )
        self._shard.queue_bytes = self._listener.waiting_bytes()
        self._shard.store_is_behind = self._pipeline.is_behind

    def _queue(self, effects: Sequence[Send | Broadcast | Later]) -> list[str]:
        """Queue what is to be sent; the peers that are lost come back: gone, or their queue full and dropped."""
        lost: dict[str, None] = {}
        for effect in effects:
            if isinstance(effect, Send):
                self._send((effect.peer,), effect.message, lost)
            elif isinstance(effect, Broadcast):
                self._send(effect.peers, effect.message, lost)
            elif isinstance(effect, Reply):
                self._send((effect.peer,), effect.answer, lost)
            else:
                for told in self._shard.told(effect):
                    self._send(told.peers, told.message, lost)
        return list(lost)

    def _send(self, peers: Sequence[str], message: ToPeer, lost: dict[str, None]) -> None:
        encoded = codec.encode(message)
        for peer in peers:
            if peer in lost:
                continue
            try:
                self._listener.send(peer, encoded)
            except MessageTooLarge as error:
                self._shard.counters.count(TOO_LARGE)
                log.error("> %s: %s: dropped, it will not be answered", peer, error)
            except QueueFull:
                self._make_room(peer, encoded, lost)

    def _make_room(self, peer: str, encoded: bytes, lost: dict[str, None]) -> None:
        """A turn may hold more than a queue does: what the peers take just now is sent at once. Who takes nothing is
        behind, and is lost."""
        lost.update(dict.fromkeys(self._listener.flush()))
        if peer in lost:
            return
        try:
            self._listener.send(peer, encoded)
        except QueueFull as error:
            log.warning("%s: dropped, it attaches again from its cursors", error)
            self._shard.counters.count(PEERS_BEHIND)
            self._listener.drop(peer)
            lost[peer] = None
