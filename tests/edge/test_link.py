"""The edge's shell over the memory bus: real shards, turned by the test, and the loop's own timers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final

import gevent
import pytest

from channelstream.bus.memory import MemoryBus
from channelstream.clock import monotonic, real_clock
from channelstream.config import Config
from channelstream.edge.core import Held
from channelstream.edge.frames import CLOSE_DISCONNECTED, CLOSE_GOING_AWAY, CLOSE_REPLACED
from channelstream.edge.link import Link
from channelstream.edge.outbox import Mark, Ready
from channelstream.errors import ShardAway, UnknownConnection
from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.shard.core import Settings, Shard
from channelstream.shard.loop import Loop
from channelstream.shard.store.base import Saved
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.writer import AtOnce
from channelstream.wire.messages import (
    Ask,
    CloseConnection,
    Command,
    ConnectionState,
    EnterUser,
    Join,
    OpenConnection,
    ProcessStatus,
    Publication,
    Publish,
)

SHARDS: Final = 2
QUEUE: Final = 1 << 20
NAME: Final = "edge-0:i"
STATUS: Final = ProcessStatus("edge", 0, 1, 0.0, "")


class Client(Held):
    """Keeps what it gets; leaves when it is told to."""

    def __init__(self, link: Link, conn_id: str, state: ConnectionState) -> None:
        super().__init__(conn_id, state.user, state.attachment)
        self.link = link
        self.got: list[Any] = []
        self.queue: list[Mark] = []
        self.codes: list[int] = []
        self.last_heard = monotonic()
        self.pings = 0
        self.cuts = 0

    def deliver(self, ready: Sequence[Ready]) -> None:
        self.got += [json.loads(body) for one in ready for body in one.bodies]

    def close(self, code: int) -> None:
        self.codes.append(code)
        self.link.release(self, closed=False)

    def unsent(self) -> list[Mark]:
        return self.queue

    def ping(self) -> None:
        self.pings += 1

    def cut(self) -> None:
        self.cuts += 1
        self.link.release(self, closed=False)


class World:
    """One edge, two shards that turn in a greenlet, and a backend that speaks to the shards directly."""

    def __init__(self, config: Config, wait_for: Callable[..., None]) -> None:
        self.wait_for = wait_for
        self.ring = Ring(SHARDS)
        self.bus = MemoryBus()
        ids = count()
        self.new_id = lambda: f"id-{next(ids)}"
        self.dialers = [self.bus.dial(NAME, f"mem://{shard}", QUEUE) for shard in range(SHARDS)]
        self.link = Link(config, self.dialers, STATUS)
        self.shards: list[Shard] = []
        self.loops: list[Loop] = []
        for index in range(SHARDS):
            self.start_shard(index)
        self.link.start()
        self.turning = gevent.spawn(self._turn)
        self.wait_for(lambda: self.link.links.ready, "the shards answered")

    def start_shard(self, index: int) -> None:
        own = ProcessStatus("shard", index, 1, 0.0, "")
        shard = Shard(own, Settings(keeps=False), self.new_id, Saved(), real_clock())
        listener = self.bus.listen(f"mem://{index}", 1, QUEUE)
        self.shards[index : index + 1] = [shard]
        self.loops[index : index + 1] = [Loop(shard, listener, AtOnce(MemoryStore()), real_clock)]

    def _turn(self) -> None:
        while True:
            for loop in self.loops:
                loop.turn(0)
            gevent.sleep(0.001)

    def close(self) -> None:
        self.turning.kill()
        self.link.stop()
        self.bus.close()

    # --- the backend ---

    def ask(self, key: str, command: Command) -> None:
        shard = self.shards[self.ring.owner(key)]
        effects = shard.handle("router-0:r", Ask(1, monotonic() + 5.0, command), real_clock())
        self.loops[self.ring.owner(key)]._perform(
            [effect for effect in effects if getattr(effect, "peer", "") != "router-0:r"], real_clock()
        )

    def connect(self, conn_id: str, *channels: str) -> None:
        self.ask(connection_key(conn_id), OpenConnection(conn_id, "ann", list(channels)))
        self.ask(user_key("ann"), EnterUser("ann", conn_id, {}, {}, None, "", 0, 0.0))
        for name in channels:
            self.ask(channel_key(name), Join(conn_id, "ann", {}, [name], {}, [], False, False, "", 0, 0.0))

    def publish(self, channel: str, number: int) -> None:
        key = channel_key(channel)
        publication = Publication([key], [f"{channel}-{number}"], [b'{"n":%d}' % number])
        self.ask(key, Publish([publication]))

    # --- clients ---

    def hold(self, conn_id: str) -> Client:
        state = self.link.take(conn_id)
        client = Client(self.link, conn_id, state)
        self.link.hold(client, state)
        return client

    def route(self, conn_id: str, channel: str) -> str:
        """Where the shard of a channel takes a connection to be."""
        return self.shards[self.ring.owner(channel_key(channel))]._connections[conn_id].route

    def wait_got(self, client: Client, *numbers: int) -> None:
        self.wait_for(lambda: len(client.got) >= len(numbers), f"{numbers}, {client.got} so far")
        assert [message["n"] for message in client.got] == list(numbers)


@pytest.fixture
def make_world(make_config: Callable[..., Config], wait_for: Callable[..., None]) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**flags: str) -> World:
        made.append(World(make_config(**flags), wait_for))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


def test_an_unknown_connection_cannot_be_taken(world: World) -> None:
    with pytest.raises(UnknownConnection):
        world.link.take("nobody")


def test_taking_without_waiting(world: World) -> None:
    world.connect("x", "room")
    unknown: list[Any] = []
    held: list[Client] = []

    def hold(state: Any) -> None:
        held.append(Client(world.link, "x", state))
        world.link.hold(held[0], state)

    world.link.take_then("nobody", unknown.append)
    world.link.take_then("x", hold)
    assert not unknown
    world.wait_for(lambda: unknown and held)
    assert isinstance(unknown[0], UnknownConnection)
    world.publish("room", 1)
    world.wait_got(held[0], 1)


def test_a_shard_that_does_not_answer_is_away(make_world: Callable[..., World]) -> None:
    world = make_world(ask_timeout="100ms")
    world.connect("x")
    for link in world.bus.links.values():
        link.up.held = True
    with pytest.raises(ShardAway):
        world.link.take("x")


def test_a_client_gets_what_it_missed_and_what_follows(world: World) -> None:
    world.connect("x", "a", "b", "c", "d")
    for channel in "abcd":
        world.publish(channel, 1)
    client = world.hold("x")
    world.wait_for(lambda: len(client.got) == 4)
    assert all(message["catchup"] for message in client.got)
    client.got.clear()
    world.publish("a", 2)
    world.publish("a", 3)
    world.wait_got(client, 2, 3)
    assert world.link.clients == 1


def test_that_a_client_is_held_is_said_without_an_attach_at_its_own_shard(world: World) -> None:
    world.connect("x", "a")
    home = world.ring.owner(connection_key("x"))
    record = world.shards[home]._records["x"]
    world.ask(user_key("ann"), EnterUser("ann", "x", {}, {}, None, "", 0, 0.0))
    world.ask(connection_key("x"), Join("x", "ann", {}, ["here"], {}, [], False, False, "", 0, 0.0))

    state = world.link.take("x")
    client = Client(world.link, "x", state)
    world.link.hold(client, state)

    assert (state.attaching, record.is_held) == (1, False)
    world.wait_for(lambda: channel_key("here") in {topic.key for topic in client.topics}, "attached")
    world.wait_for(lambda: record.is_held, "the next beat")


def test_who_says_itself_how_far_it_was_served_is_attached_with_that(world: World) -> None:
    world.connect("x", "a")
    assert world.link.take("x", attach=False).attaching == 0


def test_a_client_that_leaves_comes_back_where_it_was(world: World) -> None:
    world.connect("x", "a")
    first = world.hold("x")
    world.publish("a", 1)
    world.wait_got(first, 1)
    world.publish("a", 2)
    world.wait_got(first, 1, 2)
    world.link.release(first, closed=False, unsent=[Mark(channel_key("a"), 1)])
    world.link.release(first, closed=True)
    world.wait_for(lambda: world.route("x", "a") == "")
    world.publish("a", 3)
    world.wait_got(world.hold("x"), 2, 3)


def test_a_second_socket_takes_over(world: World) -> None:
    world.connect("x", "a")
    first, second = world.hold("x"), world.hold("x")
    world.publish("a", 1)
    world.wait_got(second, 1)
    assert (first.got, set(first.codes)) == ([], {CLOSE_REPLACED})
    assert world.link.clients == 1


def test_the_backend_ends_a_connection(world: World) -> None:
    world.connect("x", "a")
    client = world.hold("x")
    world.ask(connection_key("x"), CloseConnection("x"))
    world.wait_for(lambda: client.codes == [CLOSE_DISCONNECTED])


def test_a_connection_that_was_taken_in_vain_is_given_back(world: World) -> None:
    world.connect("x", "a")
    state = world.link.take("x")
    record = world.shards[world.ring.owner(connection_key("x"))]._records["x"]
    assert record.route == NAME
    world.link.give_back("x", state)
    world.wait_for(lambda: record.route == "")
    assert world.link.clients == 0


def test_a_new_shard_hears_of_everyone_again(world: World) -> None:
    world.connect("x", "a")
    client = world.hold("x")
    world.publish("a", 1)
    world.wait_got(client, 1)
    world.start_shard(world.ring.owner(channel_key("a")))
    world.wait_for(lambda: len(client.got) == 2)
    assert client.got[1] == {"type": "gap", "channel": "a", "missed": None}
    world.publish("a", 2)
    world.wait_for(lambda: len(client.got) == 3)
    assert (client.got[2]["n"], client.got[2]["catchup"]) == (2, False)


def test_one_that_is_behind_when_its_shard_comes_back_is_not_taken_for_served_when_its_edge_is_lost(
    world: World,
) -> None:
    world.connect("x", "a")
    client = world.hold("x")
    world.publish("a", 1)
    world.publish("a", 2)
    world.wait_got(client, 1, 2)
    client.queue = [Mark(channel_key("a"), 1)]  # the second one has not gone out
    world.link.fell_behind(client)
    shard = world.shards[world.ring.owner(channel_key("a"))]
    shard.lose_peer(NAME, real_clock())
    world.wait_for(lambda: world.route("x", "a") == NAME, "attached again")

    shard.lose_peer(NAME, real_clock())

    connection, topic = shard._connections["x"], shard._topics[channel_key("a")]
    assert (connection.joined_at(topic), topic.cursor(connection)) == (0, 1)


def test_beats_say_how_far_the_slowest_is(world: World) -> None:
    world.connect("x", "a")
    client = world.hold("x")
    key = channel_key("a")
    world.wait_for(lambda: key in {topic.key for topic in client.topics})
    client.queue = [Mark(key, 1)]
    world.link.fell_behind(client)
    world.publish("a", 1)
    world.publish("a", 2)
    world.wait_got(client, 1, 2)
    served = world.shards[world.ring.owner(key)]._peers[NAME].served
    world.wait_for(lambda: key in served)
    assert served[key] == 1
    world.link.caught_up(client)
    world.wait_for(lambda: served[key] == 2)


def test_everyone_is_told_to_go(world: World) -> None:
    world.connect("x", "a")
    world.connect("y", "a")
    clients = [world.hold("x"), world.hold("y")]
    assert not world.link.send_away(), "nobody leaves yet"
    world.link.leave(0.0)
    assert world.link.send_away()
    assert [client.codes for client in clients] == [[CLOSE_GOING_AWAY]] * 2
    assert all(1000 <= world.link.retry_ms(client.conn_id) < 5000 for client in clients), "all at once: spread out"
    world.link.settle()
    assert world.route("x", "a") == world.route("y", "a") == "", "the shards know it when they are settled"


def test_in_turn_unless_somebody_hurries(world: World) -> None:
    for conn_id in "xyz":
        world.connect(conn_id, "a")
    first, poll, last = (world.hold(conn_id) for conn_id in "xyz")
    poll.waits_for_an_answer = True
    world.link.leave(1000.0)
    assert poll.codes == [CLOSE_GOING_AWAY], "answered now"
    assert not world.link.send_away()
    assert (first.codes, last.codes) == ([CLOSE_GOING_AWAY], [])
    assert world.link.retry_ms("x") < 1000, "they have been spread"
    world.link.hurry()
    assert world.link.send_away()
    assert last.codes == [CLOSE_GOING_AWAY]


def test_who_comes_to_an_edge_that_leaves_is_sent_away(world: World) -> None:
    world.connect("x", "a")
    world.link.leave(1000.0)
    assert world.hold("x").codes == [CLOSE_GOING_AWAY]
    world.wait_for(lambda: world.route("x", "a") == "")


def test_clients_are_pinged_and_the_silent_ones_cut(make_world: Callable[..., World]) -> None:
    world = make_world(ping_interval="100ms", silence_timeout="250ms")
    world.connect("x", "a")
    client = world.hold("x")
    world.link.wheel.add(client)
    world.wait_for(lambda: client.cuts)
    assert client.pings >= 1
    assert world.link.clients == 0


def test_who_does_not_close_in_time_is_cut(make_world: Callable[..., World]) -> None:
    world = make_world(ping_interval="100ms", silence_timeout="200s")
    world.connect("x", "a")
    world.connect("y", "a")
    late, in_time = world.hold("x"), world.hold("y")
    world.link.give_time_to_close(late, 0.01)
    world.link.give_time_to_close(in_time, 0.01)
    world.link.is_closed(in_time)
    world.wait_for(lambda: late.cuts)
    assert in_time.cuts == 0
    world.link.is_closed(late)


def test_the_status_counts(world: World) -> None:
    world.connect("x", "a", "b")
    world.hold("x")

    def told() -> ProcessStatus | None:
        return world.shards[0]._peers[NAME].status

    world.wait_for(lambda: (status := told()) and (status.connections, status.channels, status.ready) == (1, 2, True))
