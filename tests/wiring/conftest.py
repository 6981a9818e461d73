"""All roles in one process: shards, edges and a router over the memory bus, turned by hand, with a clock that stands
still until a test lets time go by. Only sockets are missing: a client is a list of what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import pytest

from channelstream.bus.asks import Asks
from channelstream.bus.memory import MemoryBus, Pipe
from channelstream.clock import Now
from channelstream.edge.core import Close, Edge, Effect, Held, Tell, Write
from channelstream.edge.outbox import Ready
from channelstream.errors import NotStored, ShardAway, StoreFull, Unavailable
from channelstream.ids import channel_key, connection_key
from channelstream.ring import Ring
from channelstream.router.schemas import parse_connect, parse_info, parse_subscribe, parse_unsubscribe
from channelstream.router.service import Service
from channelstream.shard.core import Settings, Shard
from channelstream.shard.loop import Loop
from channelstream.shard.pipeline import PACE_S
from channelstream.shard.store.base import Saved
from channelstream.shard.store.base import Write as StoreWrite
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.writer import AtOnce, Committing, Outcome
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Beat,
    BeatAnswer,
    Command,
    ConnectionState,
    ProcessStatus,
    Result,
    TakeConnection,
)

QUEUE_BYTES: Final = 1 << 20
ASK_TIMEOUT_S: Final = 2.0
ROUTER: Final = "router-0:r"


class TurnedClock(Protocol):
    """The clock of the tests."""

    now: Now

    def __call__(self) -> Now: ...
    def advance(self, seconds: float) -> Now: ...


class Sizes(NamedTuple):
    """A group."""

    routers: int = 1
    shards: int = 3
    edges: int = 2


class Client(Held):
    """Somebody on a socket: what it was given, and how it was let go."""

    def __init__(self, conn_id: str, user: str, attachment: int) -> None:
        super().__init__(conn_id, user, attachment)
        self.got: list[dict[str, Any]] = []
        self.codes: list[int] = []

    def deliver(self, ready: Sequence[Ready]) -> None:
        """See `Held`."""
        self.got += [msgspec.json.decode(body) for one in ready for body in one.bodies]

    def close(self, code: int) -> None:
        """See `Held`."""
        self.codes.append(code)

    def texts(self) -> list[object]:
        """The texts of the messages that it was given."""
        return [one["message"]["text"] for one in self.got if one["type"] == "message"]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Everything of one type."""
        return [one for one in self.got if one["type"] == kind]


class Disk:
    """What a shard keeps over its lives, and a writer that takes its time: a group is over some looks after it was
    handed in, and is on the disk some looks before that."""

    def __init__(self, random: Random) -> None:
        self._random: Final = random
        self._store: Final = MemoryStore(replay=True)
        self._store.load()
        self.full = False
        """Whether nothing is taken."""
        self._group: Sequence[StoreWrite] | None = None
        self._outcome: Outcome | None = None

    def load(self) -> Saved:
        """A life begins; a group that was not on the disk yet is gone with the one before."""
        self._group = self._outcome = None
        return self._store.load()

    def fileno(self) -> int:
        """See `Committing`, as the others."""
        return -1

    def submit(self, writes: Sequence[StoreWrite]) -> None:
        assert self._group is None
        self._group = writes

    def finished(self) -> Outcome | None:
        if self._group is not None and self._random.random() < 0.5:
            self._outcome = self._commit(self._group)
            self._group = None
        elif self._outcome is not None and self._random.random() < 0.7:
            outcome, self._outcome = self._outcome, None
            return outcome
        return None

    def wait(self) -> Outcome:
        outcome = self._outcome or self._commit(self._group or [])
        self._group = self._outcome = None
        return outcome

    def _commit(self, writes: Sequence[StoreWrite]) -> Outcome:
        if self.full:
            return Outcome(StoreFull("the disk is full"))
        self._store.commit(writes)
        return Outcome()


class ShardProcess:
    """One shard, in one life after the other. Without a disk it forgets all in between."""

    def __init__(self, world: World, index: int, disk: Disk | None) -> None:
        self._world: Final = world
        self._index: Final = index
        self.disk: Final = disk
        self._lives = count(1)
        self.running = True
        self.start()

    def start(self) -> None:
        """A new life."""
        self.running = True
        generation = next(self._lives)
        ids = count(1)
        own = ProcessStatus("shard", self._index, generation, float(generation), "v")
        shard = Shard(
            own,
            Settings(keeps=False) if self.disk is None else Settings(keep_connections_s=1e6, keeps=True),
            lambda: f"s{self._index}-{generation}-{next(ids)}",
            Saved() if self.disk is None else self.disk.load(),
            self._world.clock.now,
        )
        listener = self._world.bus.listen(f"shard-{self._index}", generation, QUEUE_BYTES)
        writer: Committing = self.disk or AtOnce(MemoryStore())
        self._loop = Loop(shard, listener, writer, self._world.clock)

    def end(self) -> None:
        """An orderly end: what was received is stored and answered. What is on its way is gone."""
        self._loop.run(lambda: True)
        self.kill()

    def kill(self) -> None:
        """What it was sent and has not read is gone with it."""
        self.running = False
        for (_, address), link in self._world.bus.links.items():
            if address == f"shard-{self._index}":
                link.up.lose_all()

    def turn(self) -> None:
        """One turn of its loop."""
        if self.running:
            self._loop.turn(0.0)


class Asking:
    """Asks over the bus, for a router or an edge: the world turns until the answers are there or time is over."""

    def __init__(self, world: World, name: str) -> None:
        self._world: Final = world
        self.dialers: Final = [
            world.bus.dial(name, f"shard-{shard}", QUEUE_BYTES) for shard in range(world.sizes.shards)
        ]
        self._asks: Final[list[Asks[int]]] = [Asks(ASK_TIMEOUT_S) for _ in self.dialers]
        self._answers: dict[int, Result] = {}
        self._places = count(1)

    def ask_all(self, commands: Sequence[tuple[int, Command]]) -> list[Result | ShardAway]:
        """As `Links.ask_all`."""
        places = [next(self._places) for _ in commands]
        for place, (shard, command) in zip(places, commands, strict=True):
            number, deadline = self._asks[shard].add(place, self._world.clock().mono)
            self.dialers[shard].send(codec.encode(Ask(number, deadline, command)))
        self._world.settle()
        if not all(place in self._answers for place in places):
            self._world.clock.advance(ASK_TIMEOUT_S)
            for asks in self._asks:
                list(asks.overdue(self._world.clock().mono))
        return [
            self._answers.pop(place, ShardAway(shard, "no answer within the deadline"))
            for place, (shard, _) in zip(places, commands, strict=True)
        ]

    def take_answer(self, shard: int, answer: Answer) -> None:
        """An answer has come, maybe too late."""
        place = self._asks[shard].answered(answer.number)
        if place is not None:
            self._answers[place] = answer.result

    def flush(self) -> None:
        """Send what waits."""
        for dialer in self.dialers:
            dialer.flush()


class RouterProcess:
    """A router, which only asks."""

    def __init__(self, world: World) -> None:
        self.asking: Final = Asking(world, ROUTER)

    def turn(self) -> None:
        """Send and receive."""
        self.asking.flush()
        for shard, dialer in enumerate(self.asking.dialers):
            for message in dialer.receive():
                assert isinstance(message, Answer)
                self.asking.take_answer(shard, message)


class EdgeProcess:
    """An edge: its core, and the shell's part of the work by hand."""

    def __init__(self, world: World, index: int) -> None:
        self._world: Final = world
        self.name: Final = f"edge-{index}:e"
        self.asking: Final = Asking(world, self.name)
        self._status: Final = ProcessStatus("edge", index, 7, 50.0, "v", True)
        self._sessions: Final = [""] * world.sizes.shards
        self._holes: Final = [0] * world.sizes.shards
        self._core: Final = Edge(world.ring)

    def attach(self, conn_id: str) -> Client:
        """A client comes with this id."""
        shard = self._world.ring.owner(connection_key(conn_id))
        (state,) = self.asking.ask_all([(shard, TakeConnection(conn_id, self._core.next_number()))])
        assert isinstance(state, ConnectionState), state
        client = Client(conn_id, state.user, state.attachment)
        self._perform(self._core.hold(client, state, self._now()))
        self._world.settle()
        return client

    def detach(self, client: Client, closed: bool) -> None:
        """A client goes, with a good-bye or without."""
        self._perform(self._core.release(client, closed))
        self._world.settle()

    def second(self) -> None:
        """What happens each second."""
        self._perform(self._core.ask_again(self._now()))
        for shard, dialer in enumerate(self.asking.dialers):
            held, taken = self._core.some_held(shard), self._core.taken(shard)
            beat = Beat(self._sessions[shard], self._status, self._core.moved(shard), held, taken)
            dialer.send(codec.encode(beat))

    def turn(self) -> None:
        """Send and receive."""
        for shard, dialer in enumerate(self.asking.dialers):
            dialer.flush()
            for message in dialer.receive():
                if isinstance(message, Answer):
                    self.asking.take_answer(shard, message)
                elif isinstance(message, BeatAnswer):
                    self._take_session(shard, message)
                else:
                    self._core.receive(shard, message, self._now())
            self._perform(self._core.end_turn())
            if dialer.holes != self._holes[shard]:
                self._holes[shard] = dialer.holes
                self._perform(self._core.attach_again(shard, self._now()))
            dialer.flush()

    def _take_session(self, shard: int, answer: BeatAnswer) -> None:
        known, self._sessions[shard] = self._sessions[shard], answer.session
        if known == answer.session:
            self._core.receive(shard, answer, self._now())
        elif known:
            self._perform(self._core.attach_again(shard, self._now()))

    def _perform(self, effects: Sequence[Effect]) -> None:
        """As the shell does: what is written, then who is closed, then what is told."""
        for effect in effects:
            if isinstance(effect, Write):
                for client in effect.clients:
                    if not client.released:
                        client.deliver([Ready(b"", effect.bodies, effect.mark)])
        for effect in effects:
            if isinstance(effect, Close):
                effect.client.close(effect.code)
                self._perform(self._core.release(effect.client, closed=False))
        for effect in effects:
            if isinstance(effect, Tell):
                self.asking.dialers[effect.shard].send(codec.encode(effect.message))

    def _now(self) -> float:
        return self._world.clock().mono


class World:
    """A router, edges and shards."""

    def __init__(self, clock: TurnedClock, random: Random | None = None) -> None:
        """With `random` each shard has a disk, which is sometimes slow."""
        self.sizes: Final = Sizes()
        self.ring: Final = Ring(self.sizes.shards)
        self.clock: Final = clock
        self.bus: Final = MemoryBus()
        uuids = count(1)
        self.shards: Final = [
            ShardProcess(self, index, None if random is None else Disk(random)) for index in range(self.sizes.shards)
        ]
        self.router: Final = RouterProcess(self)
        self.edges: Final = [EdgeProcess(self, index) for index in range(self.sizes.edges)]
        self.service: Final = Service(
            self.router.asking, self.sizes, clock, lambda: f"00000000-0000-4000-8000-{next(uuids):012d}"
        )

    # --- time and turns ---

    def settle(self) -> None:
        """Turn everybody until all that can be said has been said: a chain of words is never this long, and a disk
        never this slow."""
        keeping = self.shards[0].disk is not None
        for _ in range(40 if keeping else 8):
            if keeping:
                self.clock.advance(PACE_S)
            for edge in self.edges:
                edge.turn()
            self.router.turn()
            for shard in self.shards:
                shard.turn()
        for edge in self.edges:
            edge.turn()
        self.router.turn()

    def live(self, seconds: int) -> None:
        """Time goes by, second after second."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            for edge in self.edges:
                edge.second()
            self.settle()

    # --- the bus ---

    def up(self, edge: int, shard: int) -> Pipe:
        """From an edge to a shard."""
        return self.bus.links[self.edges[edge].name, f"shard-{shard}"].up

    def down(self, edge: int, shard: int) -> Pipe:
        """From a shard to an edge."""
        return self.bus.links[self.edges[edge].name, f"shard-{shard}"].down

    def asked(self, shard: int) -> Pipe:
        """From the router to a shard."""
        return self.bus.links[ROUTER, f"shard-{shard}"].up

    def answered(self, shard: int) -> Pipe:
        """From a shard to the router."""
        return self.bus.links[ROUTER, f"shard-{shard}"].down

    def shard_of(self, channel: str) -> int:
        """Who owns a channel."""
        return self.ring.owner(channel_key(channel))

    def channel_of(self, shard: int) -> str:
        """A channel that this shard owns."""
        return next(name for name in (f"channel-{number}" for number in count()) if self.shard_of(name) == shard)

    # --- the backend ---

    def connect(self, **body: object) -> dict[str, Any]:
        """POST /connect."""
        return _decoded(self.service.connect(parse_connect(msgspec.json.encode(body))))

    def subscribe(self, **body: object) -> dict[str, Any]:
        """POST /subscribe."""
        return _decoded(self.service.subscribe(parse_subscribe(msgspec.json.encode(body))))

    def unsubscribe(self, **body: object) -> dict[str, Any]:
        """POST /unsubscribe."""
        return _decoded(self.service.unsubscribe(parse_unsubscribe(msgspec.json.encode(body))))

    def info(self) -> dict[str, Any]:
        """POST /info."""
        return _decoded(self.service.info(parse_info(b"")))

    def say(self, channel: str | None, *texts: object, **more: object) -> None:
        """POST /message, one for each text."""
        messages = [{"user": "backend", "channel": channel, "message": {"text": text}, **more} for text in texts]
        self.service.message(msgspec.json.encode(messages))

    def say_until_taken(self, channel: str, text: object, uuid: str) -> int:
        """Repeat a message until it is answered with 200; how often it took comes back."""
        for tries in range(1, 20):
            try:
                self.say(channel, text, uuid=uuid)
            except (Unavailable, NotStored):
                self.live(1)
            else:
                return tries
        raise AssertionError("never taken")


def _decoded(answer: bytes) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(answer)
    return body


@pytest.fixture
def world(clock: TurnedClock) -> Iterator[World]:
    """A router, two edges, three shards; two seconds old, so that everybody knows everybody."""
    world = World(clock)
    world.live(2)
    yield world
    world.bus.close()


@pytest.fixture
def keeping_world(clock: TurnedClock, request: pytest.FixtureRequest) -> Iterator[World]:
    """The same with shards that have disks; its parameter is a seed."""
    world = World(clock, Random(request.param))
    world.live(2)
    yield world
    world.bus.close()


@pytest.fixture
def conn_id() -> Callable[[int], str]:
    """Connections' ids, by number."""
    return lambda number: f"c0000000-0000-4000-8000-{number:012d}"
