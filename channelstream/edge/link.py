"""The edge's shell: what the shards send goes into `core`, and what comes out is performed.

Everything here runs in the loop's own greenlet or returns at once, but for `take`, which waits for a shard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from gevent import get_hub
from msgspec.structs import replace

from channelstream.bus.base import Dialer
from channelstream.bus.prompt import PromptLinks
from channelstream.clock import monotonic
from channelstream.config import Config
from channelstream.edge.core import Edge, Effect, Held, Tell, as_passed_on
from channelstream.edge.delivery import Deliveries
from channelstream.edge.farewell import Farewell, retry_ms
from channelstream.edge.frames import CLOSE_GOING_AWAY, PING
from channelstream.edge.liveness import Wheel
from channelstream.edge.outbox import Mark
from channelstream.edge.readers import Readers
from channelstream.edge.sending import BROKEN, NOT_DIRECT, send_to_each
from channelstream.errors import ShardAway, UnknownConnection
from channelstream.ids import connection_key
from channelstream.ring import Ring
from channelstream.wire.messages import (
    Attach,
    ConnectionState,
    Detach,
    GetStatus,
    ProcessStatus,
    Result,
    TakeConnection,
    ToPeer,
    TopicCursor,
)

CLOSE_TIMEOUT_S: Final = 5.0
"""How long a client may take to answer our close frame, or to read what was before it, until it is cut off."""

log: Final = logging.getLogger(__name__)


class Link:
    """One edge: its clients, and its links to the shards."""

    def __init__(self, config: Config, dialers: Sequence[Dialer], own: ProcessStatus) -> None:
        self.config: Final = config
        self.loop: Final = get_hub().loop
        self.wheel: Final[Wheel[Any]] = Wheel(config.ping_interval, config.silence_timeout)
        self.readers: Final = Readers(self.loop)
        self._ring: Final = Ring(len(dialers))
        self.links: Final = PromptLinks(
            dialers,
            config.ask_timeout,
            on_push=self._receive,
            on_session=self._attach_again,
            on_turn=self._end_turn,
            status=self._status,
            cursors=self._cursors,
            holds=lambda shard: self._edge.some_held(shard),
            taken=lambda shard: self._edge.taken(shard),
            kept_bytes=config.max_peer_queue,
        )
        self._own: Final = own
        self.counters: Final = self.links.counters
        self._edge: Final = Edge(self._ring, self.counters)
        self._deliveries: Final = Deliveries(
            self.loop.run_callback, compresses=config.compression, on_room=self.links.go_on
        )
        self.links.paused = lambda: self._deliveries.full
        self._closing: dict[Any, float] = {}
        """Clients that were told to go, with the moment at which their time is over."""
        self._behind: dict[Held, None] = {}
        """Clients that have not passed on all that they were given."""
        self._timers: list[Any] = []
        self._farewell: Farewell[Held] | None = None
        """From `leave` on: who is still to be told to go."""
        self._in_turn = False
        """Whether they are told one after another."""

    # --- life ---

    def start(self) -> None:
        """Dial the shards, and keep time."""
        self.links.start()
        for callback, every_s in ((self._ask_again, 1.0), (self._turn_wheel, self.wheel.step_s)):
            timer = self.loop.timer(every_s, repeat=every_s)
            timer.start(callback)
            self._timers.append(timer)

    def leave(self, over_s: float) -> None:
        """Begin to send the clients away: polls now, the others evenly over so many seconds, with `send_away`. Who
        comes from now on is sent away at once. To the shards they are all cut off, and may come back."""
        clients = self._edge.clients()
        self._in_turn = over_s > 0.0
        self._farewell = Farewell([one for one in clients if not one.waits_for_an_answer], monotonic(), over_s)
        for client in clients:
            if client.waits_for_an_answer:
                client.close(CLOSE_GOING_AWAY)

    def hurry(self) -> None:
        """After `leave`: all who are left are due."""
        self._in_turn = False
        if self._farewell is not None:
            self._farewell.hurry()

    def send_away(self) -> bool:
        """After `leave`: tell those whose turn it is. Whether all have been told."""
        if self._farewell is None:
            return False
        for client in self._farewell.due(monotonic(), self._behind.__contains__):
            client.close(CLOSE_GOING_AWAY)
        return self._farewell.is_over

    def retry_ms(self, conn_id: str) -> int:
        """When a client that is told to go should come back."""
        return retry_ms(conn_id, self._in_turn)

    def settle(self) -> None:
        """Wait until each shard has taken all that it was told, or `ask_timeout`: an answer to what was asked last says
        so, since a send does not."""
        self.links.ask_all([(shard, GetStatus()) for shard in range(self._ring.shards)])

    def stop(self) -> None:
        """Let go of the shards."""
        for timer in self._timers:
            timer.stop()
            timer.close()
        self._timers.clear()
        self.readers.close()
        self.links.close()

    @property
    def clients(self) -> int:
        """How many clients are held."""
        return len(self._edge)

    def _status(self) -> ProcessStatus:
        return replace(
            self._own,
            ready=self.links.ready,
            connections=len(self._edge),
            channels=self._edge.channels,
            queue_bytes=self.links.waiting_bytes(),
            counters=self.links.counters.told(),
        )

    # --- clients ---

    # A connection that was taken is attached here: hand the answer to `hold` in the same breath, or give it back with
    # `give_back`.

    def take(self, conn_id: str, attach: bool = True) -> ConnectionState:
        """Ask for a connection, and wait. Raises `UnknownConnection`, `ShardAway`.

        `attach`: whether its shard attaches at once what it owns of it; not for a client that says itself how far it
        was served.
        """
        number = self._edge.next_number() if attach else 0
        taken = _taken(self.links.ask(self._ring.owner(connection_key(conn_id)), TakeConnection(conn_id, number)))
        if not isinstance(taken, ConnectionState):
            raise taken
        return taken

    def take_then(self, conn_id: str, then: Callable[[ConnectionState | UnknownConnection | ShardAway], None]) -> None:
        """The same without waiting: `then` is called in the loop's own greenlet. Raises `ShardAway` where it cannot
        even be asked."""
        command = TakeConnection(conn_id, self._edge.next_number())
        self.links.ask_then(self._ring.owner(connection_key(conn_id)), command, lambda result: then(_taken(result)))

    def hold(self, client: Held, state: ConnectionState, positions: Mapping[str, TopicCursor] | None = None) -> None:
        """A client is here; what it missed and what follows will be given to it. `positions` as in `Edge.hold`."""
        log.debug("+ %s of %s, attachment %d", client.conn_id, client.user, client.attachment)
        self._perform(self._edge.hold(client, state, monotonic(), positions))
        if self._farewell is not None:
            client.close(CLOSE_GOING_AWAY)

    def give_back(self, conn_id: str, state: ConnectionState) -> None:
        """A connection was taken, but its client is gone before it was held."""
        client = Held(conn_id, state.user, state.attachment)
        client.shards |= 1 << self._ring.owner(connection_key(conn_id))
        self._perform(self._edge.release(client, closed=False))

    def release(self, client: Held, closed: bool, unsent: Iterable[Mark] = ()) -> None:
        """A client is here no more. Safe to call again. `unsent`: what it has in its own queue."""
        if not client.released:
            log.debug("- %s %s", client.conn_id, "closed" if closed else "cut off")
            self._behind.pop(client, None)
            marks = [*unsent, *self._deliveries.unsent(client)]
            self._perform(self._edge.release(client, closed, marks))

    def served(self, client: Held) -> list[TopicCursor]:
        """How far a client that has no queue of its own was served."""
        return self._edge.cursors_of(client, self._deliveries.unsent(client))

    def fell_behind(self, client: Held) -> None:
        """It has `unsent` deliveries from now on: shards are not told that they were served."""
        if not client.released:
            self._behind[client] = None

    def caught_up(self, client: Held) -> None:
        """It has none."""
        self._behind.pop(client, None)

    def give_time_to_close(self, client: Any, seconds: float = CLOSE_TIMEOUT_S) -> None:
        """Its `cut` is called when its time is over."""
        self._closing[client] = monotonic() + seconds

    def is_closed(self, client: Any) -> None:
        """It went in time."""
        self._closing.pop(client, None)

    def _cursors(self, shard: int) -> dict[str, int]:
        behind = (mark for client in self._behind for mark in client.oldest_unsent())
        return self._edge.moved(shard, chain(self._deliveries.waiting(), behind))

    # --- what happens ---

    def _receive(self, shard: int, message: ToPeer) -> None:
        self._edge.receive(shard, message, monotonic())

    def _end_turn(self) -> None:
        self._perform(self._edge.end_turn())

    def _attach_again(self, shard: int) -> None:
        # What this turn has brought so far comes first: who is behind with it says so in its attach.
        self._perform(self._edge.end_turn())
        self._perform(self._edge.attach_again(shard, monotonic()))

    def _ask_again(self) -> None:
        self._perform(self._edge.ask_again(monotonic()))

    def _perform(self, effects: Sequence[Effect]) -> None:
        """Closes come before what is told, since a client's end is told before its successor's begin."""
        if not effects:  # PERF: nearly always, where a client comes
            return
        self._deliveries.add(effects)
        for effect in effects:
            if isinstance(effect, Tell):
                self.links.tell(effect.shard, self._as_passed_on(effect))

    def _as_passed_on(self, tell: Tell) -> Attach | Detach:
        """What is told of a client that is behind says so."""
        client, message = tell.client, tell.message
        if client is None or not isinstance(message, Attach):
            return message
        own = client.unsent() if client in self._behind else ()
        return as_passed_on(message, chain(own, self._deliveries.unsent(client)))

    def _ping(self, clients: Sequence[Any]) -> None:
        """PERF: as a fan-out, one system call a client and nothing between two of them."""
        for place, sent in send_to_each([client.direct_fd for client in clients], PING):
            client = clients[place]
            if sent == NOT_DIRECT:
                client.ping()
            elif sent == BROKEN:
                client.lose(())
            else:
                client.took_part((), PING, sent)

    def _turn_wheel(self) -> None:
        now = monotonic()
        due = self.wheel.turn(now)
        for client in due.gone:
            log.debug("- %s: silent for too long", client.conn_id)
            client.cut()
        self._ping(due.ping)
        for client in [client for client, until in self._closing.items() if until <= now]:
            client.cut()


def _taken(result: Result | ShardAway) -> ConnectionState | UnknownConnection | ShardAway:
    """What a shard says of a connection that was asked for."""
    return result if isinstance(result, ConnectionState | ShardAway) else UnknownConnection()
