"""The shard's loop: receive, let the core decide, store, send. The I/O around `core`, and nothing decided here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from channelstream.bus.base import Listener
from channelstream.clock import Clock, Now
from channelstream.counters import HOLES, PEERS_BEHIND, TOO_LARGE, UNDECODABLE
from channelstream.errors import MessageTooLarge, QueueFull
from channelstream.shard.core import Shard
from channelstream.shard.effects import Broadcast, Effect, Send, Store
from channelstream.shard.store.base import Store as StorePort
from channelstream.shard.store.base import Write
from channelstream.wire import codec
from channelstream.wire.messages import ToShard

LONGEST_WAIT_S: Final = 0.25
"""The loop turns at least this often: silent peers are looked for, and a wish to stop is seen."""

RETRY_S: Final = 0.01
"""With something queued for a peer that takes nothing just now, the next try comes this soon."""

log: Final = logging.getLogger(__name__)


class Loop:
    """One turn: all that is there is received and decided, then stored as one group, then sent as one batch a peer."""

    def __init__(self, shard: Shard, listener: Listener, store: StorePort, clock: Clock) -> None:
        self._shard: Final = shard
        self._listener: Final = listener
        self._store: Final = store
        self._clock: Final = clock
        self._undecodable = 0
        """How many undecodable batches have been told of."""

    def run(self, stopping: Callable[[], bool]) -> None:
        """Turn until it is time to stop. The turn that has begun is finished: what was received is answered."""
        while not stopping():
            self.turn(self._wait_s(self._clock()))

    def turn(self, wait_s: float) -> None:
        """Receive for at most so long, and carry out all that came and all that is due."""
        received = self._listener.receive(wait_s)
        now = self._clock()
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
        self._tell_of_undecodable()

    def _handled(self, peer: str, message: ToShard, now: Now) -> list[Effect]:
        """A message that the core stumbles over is a fault of ours. It costs its sender the answer, and nobody else
        the shard."""
        try:
            return self._shard.handle(peer, message, now)
        except Exception:
            log.exception("< %s: %s failed", peer, type(message).__name__)
            return []

    def _tell_of_undecodable(self) -> None:
        if self._listener.undecodable != self._undecodable:
            self._shard.counters.count(UNDECODABLE, self._listener.undecodable - self._undecodable)
            self._undecodable = self._listener.undecodable
            log.error("dropped %d undecodable batches so far; %s", self._undecodable, self._listener.complaint)

    def _wait_s(self, now: Now) -> float:
        if self._listener.waiting_bytes():
            return RETRY_S
        due = self._shard.next_due()
        return LONGEST_WAIT_S if due is None else min(max(due - now.mono, 0.0), LONGEST_WAIT_S)

    def _perform(self, effects: list[Effect], now: Now) -> None:
        """Store first: nothing is answered or delivered before what it rests on is down."""
        while True:
            writes: list[Write] = [effect.write for effect in effects if isinstance(effect, Store)]
            if writes:
                self._store.commit(writes)
            lost = self._queue(effects)
            lost += self._listener.flush()
            if not lost:
                break
            # Losing a peer cuts its connections off, which others may have waited for.
            effects = [effect for peer in dict.fromkeys(lost) for effect in self._shard.lose_peer(peer, now)]
        self._shard.queue_bytes = self._listener.waiting_bytes()

    def _queue(self, effects: list[Effect]) -> list[str]:
        """Queue what is to be sent; the peers that are lost come back: gone, or their queue full and dropped."""
        lost: dict[str, None] = {}
        for effect in effects:
            if isinstance(effect, Send):
                peers: tuple[str, ...] = (effect.peer,)
            elif isinstance(effect, Broadcast):
                peers = tuple(effect.peers)
            else:
                continue
            encoded = codec.encode(effect.message)
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
        return list(lost)

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
