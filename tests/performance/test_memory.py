"""What an idle connection costs, in bytes that Python is asked for: the same on every machine, however busy.

The real cores of a shard and an edge, with every message between them encoded and decoded, so that it brings copies of
its own of every name, as in a group. What the allocator and the kernel add is measured by `bench`.
"""

from __future__ import annotations

import gc
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

import channelstream
from channelstream.clock import Now
from channelstream.edge.core import Edge, Held, Tell
from channelstream.edge.websocket import WebSocketClient
from channelstream.ring import Ring
from channelstream.shard.core import GONE_KEPT_S, Settings, Shard
from channelstream.shard.effects import Send
from channelstream.shard.store.base import Saved
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Beat,
    CloseConnection,
    Command,
    ConnectionState,
    EnterUser,
    Join,
    Leave,
    OpenConnection,
    ProcessStatus,
    Result,
    TakeConnection,
    ToPeer,
    ToShard,
    UserState,
)

CONNECTIONS: Final = 600

# The bounds are a tenth above what was measured with Python 3.11: two small dicts for each connection break them.

ON_ONE_CHANNEL: Final = 1730
"""Bytes at the shard and the edge together for each connection of a user of its own."""

ON_CHANNELS_OF_TEN: Final = 1860
"""The same where each ten of them have a channel of their own."""

WEBSOCKET: Final = 210
"""Bytes of the object that holds a client, with what the garbage collector puts before it."""

KEPT_OF_A_USER: Final = 560
"""Bytes for each user without a connection: it is remembered for a day."""

ROUTER: Final = "router-0:r"
EDGE: Final = "edge-0:e"
STATUS: Final = ProcessStatus("edge", 0, 1, 0.0, "test")
STEP_S: Final = 0.003
GC_HEAD: Final = 16
PACKAGE: Final = str(Path(channelstream.__file__).parent / "*")


class Group:
    """A shard and an edge, with a clock that the test lets run."""

    def __init__(self) -> None:
        self.now = Now(1000.0, 1000.0)
        status = ProcessStatus("shard", 0, 1, 0.0, "test")
        self.shard = Shard(status, Settings(keeps=False), lambda: str(uuid.uuid4()), Saved(), self.now)
        self.edge = Edge(Ring(1))
        self._numbers = count(1)
        self._to_shard, self._to_peer = codec.shard_reader(), codec.peer_reader()

    def tell(self, peer: str, message: ToShard) -> list[ToPeer]:
        """What the shard sends for a message of a peer, both over the wire."""
        (received,) = self._to_shard.read(codec.join(0, 1, [codec.encode(message)])).messages
        effects = self.shard.handle(peer, received, self.now)
        sent = [codec.encode(effect.message) for effect in effects if isinstance(effect, Send)]
        return self._to_peer.read(codec.join(0, 1, sent)).messages

    def ask(self, peer: str, command: Command) -> Result:
        for message in self.tell(peer, Ask(next(self._numbers), self.now.mono + 2.0, command)):
            if isinstance(message, Answer):
                return message.result
        raise AssertionError("no answer")

    def connect(self, conn_id: str, user: str, channel: str) -> None:
        """A client is connected, comes to the edge, and is attached."""
        self.pass_s(STEP_S)
        state = self.ask(ROUTER, OpenConnection(conn_id, user, [channel]))
        assert isinstance(state, ConnectionState)
        held = state.route, state.attachment, state.detached_for_s
        known = self.ask(ROUTER, EnterUser(user, conn_id, {}, {}, None, *held))
        assert isinstance(known, UserState)
        self.ask(ROUTER, Join(conn_id, user, known.public, [channel], {}, [], False, False, *held, state.version))
        taken = self.ask(EDGE, TakeConnection(conn_id))
        assert isinstance(taken, ConnectionState)
        client = Held(str(uuid.UUID(conn_id)), taken.user, taken.attachment)
        self._perform(self.edge.hold(client, taken, self.now.mono))

    def disconnect(self, client: Held) -> None:
        self._perform(self.edge.release(client, closed=True))
        self.ask(ROUTER, CloseConnection(client.conn_id))
        self.ask(ROUTER, Leave(client.conn_id, None))

    def _perform(self, effects: list[Any]) -> None:
        for tell in effects:
            assert isinstance(tell, Tell)
            for message in self.tell(EDGE, tell.message):
                self.edge.receive(0, message, self.now.mono)
        assert self.edge.end_turn() == []

    def pass_s(self, seconds: float) -> None:
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)
        self.shard.tick(self.now)

    def live(self, seconds: int) -> None:
        """All that runs out does, while the edge beats."""
        for _ in range(seconds):
            self.tell(EDGE, Beat("", STATUS, {}))
            self.pass_s(1.0)


@pytest.fixture
def group() -> Iterator[Group]:
    """One that has had a client, so that what is made once is made."""
    made = Group()
    made.connect(str(uuid.uuid4()), "the first", "first")
    tracemalloc.start()
    yield made
    tracemalloc.stop()


def asked_for() -> int:
    """Bytes that the package holds; not those that a library has asked for on its behalf."""
    gc.collect()
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, PACKAGE)])
    return sum(trace.size for trace in ours.traces)


def kept_after(what: Callable[[], None]) -> float:
    """Bytes that something leaves behind for each connection."""
    before = asked_for()
    what()
    return (asked_for() - before) / CONNECTIONS


def come(group: Group, channels: int = 1) -> None:
    for number in range(CONNECTIONS):
        group.connect(str(uuid.uuid4()), f"user-{number}", f"room-{number % channels}")
    group.live(60)


def go(group: Group) -> None:
    for client in group.edge.clients():
        group.disconnect(client)
    for _ in range(3):
        group.pass_s(GONE_KEPT_S)


@pytest.mark.parametrize(("channels", "bound"), [(1, ON_ONE_CHANNEL), (CONNECTIONS // 10, ON_CHANNELS_OF_TEN)])
def test_what_an_idle_connection_costs(group: Group, channels: int, bound: int) -> None:
    assert bound / 2 < kept_after(lambda: come(group, channels)) < bound


def test_what_holds_a_websocket_is_small() -> None:
    assert WEBSOCKET / 2 < WebSocketClient.__basicsize__ + GC_HEAD < WEBSOCKET


def test_what_went_is_given_back(group: Group) -> None:
    def come_and_go() -> None:
        come(group)
        go(group)

    assert kept_after(come_and_go) < KEPT_OF_A_USER
    assert kept_after(come_and_go) < 10
    assert kept_after(lambda: come(group)) < ON_ONE_CHANNEL
