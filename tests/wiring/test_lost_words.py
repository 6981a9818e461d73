"""Single words between an edge and a shard that are lost, or late, while both go on talking: as when a link breaks and
is made again faster than either side takes the other for gone. Nothing repeats these words by itself: the hole in the
numbers of the batches tells.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from channelstream.wire import codec
from channelstream.wire.messages import Deliver, TakeConnection, Unsubscribed

NewId = Callable[[int], str]


def test_a_good_bye_that_is_lost_does_not_keep_a_connection_for_ever(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))

    for shard in range(3):
        world.up(0, shard).held = True
    world.edges[0].detach(client, closed=True)
    for shard in range(3):
        world.up(0, shard).lose_all()
        world.up(0, shard).release()
    world.live(60)

    assert world.info()["channels"]["a"]["total_connections"] == 0


def test_one_whose_cut_off_was_lost_is_not_taken_for_served_with_the_others(world: Any, conn_id: NewId) -> None:
    for number in (1, 2):
        world.connect(username=f"user-{number}", conn_id=conn_id(number), channels=["a"])
    client = world.edges[0].attach(conn_id(1))
    world.edges[0].attach(conn_id(2))
    up = world.up(0, world.shard_of("a"))

    up.held = True
    world.edges[0].detach(client, closed=False)
    up.lose_all()
    up.release()
    world.say("a", "for both")
    world.live(2)
    back = world.edges[1].attach(conn_id(1))
    world.live(3)

    assert back.texts() == ["for both"]


def test_a_client_whose_end_was_lost_on_the_way_is_let_go(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))

    for shard in range(3):
        world.down(0, shard).held = True
    world.service.disconnect(conn_id(1))
    for shard in range(3):
        world.down(0, shard).lose_all()
        world.down(0, shard).release()
    world.live(10)

    assert client.codes != []


def test_the_last_delivery_is_not_missed_for_ever(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))
    down = world.down(0, world.shard_of("a"))

    down.held = True
    world.say("a", "the last one")
    world.settle()
    down.lose_all()
    down.release()
    world.live(10)

    assert client.texts() == ["the last one"]


def test_a_connection_that_was_taken_but_not_answered_in_time_is_over_in_time(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    owner = world.ring.owner(f"k/{conn_id(1)}")

    world.down(0, owner).held = True
    world.edges[0].asking.ask_all([(owner, TakeConnection(conn_id(1)))])
    world.down(0, owner).release()
    world.live(60)

    assert world.service.disconnect(conn_id(1)) is False


def test_a_client_that_comes_when_some_shards_have_forgotten_it_is_told_so(world: Any, conn_id: NewId) -> None:
    owner = world.ring.owner(f"k/{conn_id(1)}")
    channel = world.channel_of((owner + 1) % 3)
    world.connect(username="ann", conn_id=conn_id(1), channels=[channel])
    client = world.edges[0].attach(conn_id(1))

    up = world.up(0, owner)
    up.held = True  # so one shard hears of the cut-off three seconds after the others
    world.edges[0].detach(client, closed=False)
    world.live(3)
    up.release()
    world.live(28)
    back = world.edges[1].attach(conn_id(1))
    world.say(channel, "after")
    world.live(2)

    assert back.codes == [4002]


def without(down: Any, *kinds: type) -> None:
    """Take such messages out of the batches of a pipe. The batches keep their numbers: it is a fault of ours that does
    so, and no link."""
    reader = codec.peer_reader()
    batches = []
    while (batch := down.take()) is not None:
        generation, number, messages = reader.read(batch)
        left = [codec.encode(message) for message in messages if not isinstance(message, kinds)]
        batches.append(codec.join(generation, number, left))
    for batch in batches:
        down.put(batch)


def losing(world: Any, shard: int, what: Callable[[], object], *kinds: type) -> None:
    """Do something of which such words of a shard are lost on their way to the first edge."""
    down = world.down(0, shard)
    down.held = True
    what()
    world.shards[shard].turn()
    down.held = False
    without(down, *kinds)
    world.settle()


def test_one_delivery_that_is_lost_without_a_trace_before_a_silence_comes_with_the_next_beats(
    world: Any, conn_id: NewId
) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))
    world.live(2)

    losing(world, world.shard_of("a"), lambda: world.say("a", "the last one"), Deliver)
    assert client.texts() == []
    world.live(2)

    assert client.texts() == ["the last one"]
    assert [one["seq"] for one in client.got] == [1]


def test_one_that_its_shard_takes_for_gone_from_a_topic_is_attached_there_again(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))
    world.live(2)

    losing(world, world.shard_of("a"), lambda: world.unsubscribe(conn_id=conn_id(1), channels=["a"]), Unsubscribed)
    assert client.topics
    world.live(2)

    assert {topic.key for topic in client.topics} == {"u/ann"}
    world.say("a", "for others")
    world.settle()
    assert client.texts() == []


def test_where_nothing_is_lost_nobody_attaches_again(world: Any, conn_id: NewId) -> None:
    for number in (1, 2, 3):
        world.connect(username=f"user-{number}", conn_id=conn_id(number), channels=["a", "b", "c"])
        world.edges[number % 2].attach(conn_id(number))
    attachments: list[int] = []

    for text in range(5):
        world.say("a", text)
        world.say("b", text)
        world.live(1)
        attachments.append(sum(edge._core._attaches.next_number() for edge in world.edges))

    assert [later - earlier for earlier, later in pairwise(attachments)] == [len(world.edges)] * 4  # of this counting
