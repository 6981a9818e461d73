"""What breaks on the way, and what is so after it has healed. Every test makes its fault for real on the memory bus."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from channelstream.errors import Unavailable

NewId = Callable[[int], str]
UUID = "d0000000-0000-4000-8000-000000000001"


def connected(world: Any, conn_id: NewId, number: int = 1, edge: int = 0, **more: Any) -> Any:
    """A client of its own user, attached at an edge."""
    world.connect(username=f"user-{number}", conn_id=conn_id(number), **{"channels": ["a"], **more})
    return world.edges[edge].attach(conn_id(number))


# --- a link that is blocked one way ---


def test_deliveries_that_are_held_arrive_once_and_in_order(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    down = world.down(0, world.shard_of("a"))

    down.held = True
    world.say("a", 1, 2)
    world.live(2)
    assert client.texts() == []
    down.release()
    world.say("a", 3)
    world.settle()

    assert client.texts() == [1, 2, 3]
    assert all(one["catchup"] is False for one in client.got)


def test_a_link_that_is_blocked_towards_the_edge_for_long(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    down = world.down(0, world.shard_of("a"))

    down.held = True
    for text in range(10):
        world.say("a", text)
        world.live(1)
    down.release()
    world.live(2)

    assert client.texts() == list(range(10))
    assert client.codes == []


def test_a_link_that_is_blocked_towards_the_shard_heals_and_nothing_is_missed(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    up = world.up(0, world.shard_of("a"))

    up.held = True
    for text in range(10):
        world.say("a", text)
        world.live(1)
    up.release()
    world.live(2)
    world.say("a", 10)
    world.settle()

    assert client.texts() == list(range(11))
    assert client.of_type("gap") == []


def test_a_link_that_is_blocked_both_ways_heals_and_nothing_is_missed(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    shard = world.shard_of("a")

    world.up(0, shard).held = world.down(0, shard).held = True
    for text in range(10):
        world.say("a", text)
        world.live(1)
    world.up(0, shard).release()
    world.down(0, shard).release()
    world.live(3)
    world.say("a", 10)
    world.settle()

    assert client.texts() == list(range(11))


def test_an_edge_that_is_blocked_for_longer_than_connections_are_kept(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    other = connected(world, conn_id, 2, edge=1)

    for shard in range(3):
        world.up(0, shard).held = True
    world.live(40)
    assert world.info()["channels"]["a"]["total_connections"] == 1
    for shard in range(3):
        world.up(0, shard).release()
    world.live(3)
    world.say("a", "after")
    world.settle()

    assert (client.codes, client.texts()) == ([4002], [])  # it is told that it is over
    assert other.texts() == ["after"]


def test_others_do_not_wait_for_a_blocked_link(world: Any, conn_id: NewId) -> None:
    connected(world, conn_id, 1, edge=0)
    other = connected(world, conn_id, 2, edge=1)
    world.down(0, world.shard_of("a")).held = True

    world.say("a", 1, 2)
    world.settle()

    assert other.texts() == [1, 2]


# --- a link that loses what is in it ---


def test_lost_deliveries_are_noticed_by_the_next_one(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    down = world.down(0, world.shard_of("a"))
    world.say("a", 1)
    world.settle()

    down.held = True
    world.say("a", 2, 3)
    world.settle()
    down.lose_all()
    down.release()
    world.say("a", 4)
    world.settle()

    assert client.texts() == [1, 2, 3, 4]
    assert client.of_type("gap") == []


def test_a_link_that_loses_everything_for_long_heals(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    shard = world.shard_of("a")

    for text in range(10):
        world.up(0, shard).held = world.down(0, shard).held = True
        world.say("a", text)
        world.live(1)
        world.up(0, shard).lose_all()
        world.down(0, shard).lose_all()
    world.up(0, shard).release()
    world.down(0, shard).release()
    world.live(3)
    world.say("a", 10)
    world.settle()

    assert client.texts() == list(range(11))


def test_an_attach_that_is_lost_is_sent_again(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    shards = [shard for shard in range(3) if shard != world.ring.owner(f"k/{conn_id(1)}")]
    for shard in shards:
        world.up(0, shard).held = True
    client = world.edges[0].attach(conn_id(1))
    for shard in shards:
        world.up(0, shard).lose_all()
        world.up(0, shard).release()
    world.say("a", 1)

    world.live(3)
    world.say("a", 2)
    world.settle()

    assert client.texts() == [1, 2]


def test_word_of_a_subscription_that_is_lost_is_made_up_for(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    channel = world.channel_of((world.shard_of("a") + 1) % 3)
    down = world.down(0, world.shard_of(channel))

    down.held = True
    world.subscribe(conn_id=conn_id(1), channels=[channel])
    world.say(channel, 1)
    world.settle()
    up = world.up(0, world.shard_of(channel))
    up.held = True  # as when a process is stopped for longer than it may be silent
    world.live(5)
    down.lose_all()
    down.release()
    up.release()
    world.live(3)
    world.say(channel, 2)
    world.settle()

    assert client.texts() == [1, 2]


# --- a shard that dies ---


def test_a_shard_that_dies_is_found_again_and_what_it_lost_is_told(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    shard = world.shard_of("a")
    world.say("a", 1)
    world.settle()

    world.shards[shard].kill()
    world.live(1)
    world.shards[shard].start()
    world.live(3)
    world.say("a", 2)
    world.settle()

    assert client.texts() == [1, 2]
    assert [gap["missed"] for gap in client.of_type("gap") if gap["channel"] == "a"] == [None]
    assert client.codes == []
    assert world.info()["channels"]["a"]["users"] == ["user-1"]


def test_all_shards_die_at_once_and_clients_stay(world: Any, conn_id: NewId) -> None:
    clients = [connected(world, conn_id, number, edge=number % 2) for number in range(4)]

    for shard in world.shards:
        shard.kill()
    world.live(2)
    for shard in world.shards:
        shard.start()
    world.live(3)
    world.say("a", "on")
    world.say(None, "psst", pm_users=["user-3"])
    world.subscribe(conn_id=conn_id(1), channels=["b"])
    world.say("b", "new")
    world.settle()

    assert [client.texts() for client in clients] == [["on"], ["on", "new"], ["on"], ["on", "psst"]]
    assert world.service.disconnect(conn_id(2)) is True


def test_a_call_to_a_dead_shard_is_503_within_the_deadline_and_the_others_go_on(world: Any, conn_id: NewId) -> None:
    shard = world.shard_of("a")
    client = connected(world, conn_id, channels=["a", world.channel_of((shard + 1) % 3)])
    world.shards[shard].kill()
    before = world.clock().mono

    with pytest.raises(Unavailable) as raised:
        world.say("a", 1, uuid=UUID)

    assert world.clock().mono - before <= 2.0
    assert (raised.value.shards, raised.value.done, raised.value.unknown) == ([shard], [], [UUID])
    world.say(world.channel_of((shard + 1) % 3), "elsewhere")
    world.settle()
    assert client.texts() == ["elsewhere"]


# --- words between router and shard that are lost ---


def test_an_answer_that_is_lost_is_503_and_the_repeated_message_is_delivered_once(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    answers = world.answered(world.shard_of("a"))

    answers.held = True
    with pytest.raises(Unavailable) as raised:
        world.say("a", "once", uuid=UUID)
    answers.lose_all()
    answers.release()
    assert raised.value.unknown == [UUID]
    world.say("a", "once", uuid=UUID)
    world.settle()

    assert client.texts() == ["once"]


def test_an_answer_that_comes_too_late_answers_nothing_else(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    answers = world.answered(world.shard_of("a"))

    answers.held = True
    with pytest.raises(Unavailable):
        world.say("a", "late", uuid=UUID)
    answers.release()
    world.say("a", "next")
    world.settle()

    assert client.texts() == ["late", "next"]
    assert world.info()["channels"]["a"]["users"] == ["user-1"]


def test_a_command_that_is_older_than_its_deadline_is_not_carried_out(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id)
    asked = world.asked(world.shard_of("a"))

    asked.held = True
    with pytest.raises(Unavailable):
        world.say("a", "stale", uuid=UUID)
    world.clock.advance(0.001)
    asked.release()
    world.settle()
    assert client.texts() == []

    world.say("a", "stale", uuid=UUID)
    world.settle()
    assert client.texts() == ["stale"]


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("way", ["asked", "answered"])
def test_a_connect_that_is_lost_on_the_way_is_whole_when_repeated(
    world: Any, conn_id: NewId, way: str, shard: int
) -> None:
    channels = [world.channel_of(index) for index in range(3)]
    body = {"username": "ann", "conn_id": conn_id(1), "channels": channels, "fresh_user_state": {"x": 1}}
    pipe = getattr(world, way)(shard)

    pipe.held = True
    with pytest.raises(Unavailable):
        world.connect(**body)
    pipe.lose_all()
    pipe.release()
    answer = world.connect(**body)
    client = world.edges[0].attach(conn_id(1))
    for channel in channels:
        world.say(channel, channel)
    world.settle()

    assert (answer["state"], answer["channels"]) == ({"x": 1}, sorted(channels))
    assert sorted(client.texts()) == sorted(channels)


def test_a_subscribe_that_is_lost_on_the_way_is_whole_when_repeated(world: Any, conn_id: NewId) -> None:
    client = connected(world, conn_id, channels=[])
    pipe = world.asked(world.shard_of("a"))

    pipe.held = True
    with pytest.raises(Unavailable):
        world.subscribe(conn_id=conn_id(1), channels=["a"])
    pipe.lose_all()
    pipe.release()
    world.subscribe(conn_id=conn_id(1), channels=["a"])
    world.say("a", 1)
    world.settle()

    assert client.texts() == [1]


# --- an edge that dies ---


def test_the_clients_of_a_dead_edge_come_back_elsewhere_and_miss_nothing(world: Any, conn_id: NewId) -> None:
    config = {"a": {"notify_presence": True}}
    client = connected(world, conn_id, channel_configs=config)
    other = connected(world, conn_id, 2, edge=1)
    client.got.clear()
    world.say("a", 1)
    world.settle()
    dead = world.edges[0]
    world.live(1)  # its cursors are told

    world.edges.remove(dead)
    world.say("a", 2)
    world.live(6)
    back = world.edges[0].attach(conn_id(1))
    world.say("a", 3)
    world.settle()

    assert (client.texts(), back.texts()) == ([1], [2, 3])
    assert other.of_type("presence") == []


def test_a_client_of_a_dead_edge_that_is_back_at_once_waits_a_second_and_misses_nothing(
    world: Any, conn_id: NewId
) -> None:
    connected(world, conn_id)
    world.say("a", 1)
    world.settle()
    world.live(1)
    del world.edges[0]

    back = world.edges[0].attach(conn_id(1))
    world.say("a", 2)
    world.live(2)

    assert back.texts() == [2]


# --- everything at once ---


def held_or_lost(world: Any, random: Random, lossy: bool) -> None:
    """Block, free, or empty some links between edges and shards."""
    for edge in range(2):
        for shard in range(3):
            for pipe in (world.up(edge, shard), world.down(edge, shard)):
                if pipe.held and lossy and random.random() < 0.3:
                    pipe.lose_all()
                if random.random() < 0.4:
                    pipe.held = True
                elif pipe.held:
                    pipe.release()


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_after_any_trouble_with_the_links_everybody_has_everything_once_and_in_order(
    world: Any, conn_id: NewId, seed: int, lossy: bool
) -> None:
    random = Random(seed)
    channels = [world.channel_of(shard) for shard in range(3)]
    clients = [connected(world, conn_id, number, edge=number % 2, channels=channels) for number in range(3)]

    for text in range(30):
        held_or_lost(world, random, lossy)
        world.say_until_taken(channels[text % 3], text, f"d0000000-0000-4000-8000-{text:012d}")
        world.live(random.choice([0, 0, 1, 2]))
    for edge in range(2):
        for shard in range(3):
            world.up(edge, shard).release()
            world.down(edge, shard).release()
    world.live(3)
    for channel in channels:
        world.say(channel, "last")
    world.live(3)

    for client in clients:
        assert client.codes == []
        assert client.of_type("gap") == []
        for index, channel in enumerate(channels):
            told = [one["message"]["text"] for one in client.of_type("message") if one["channel"] == channel]
            assert told == [*range(index, 30, 3), "last"]
