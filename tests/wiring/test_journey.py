"""From a backend's call to a client: all roles together, with nothing in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from channelstream.errors import Invalid

NewId = Callable[[int], str]


def test_connect_attach_publish_delivered(world: Any, conn_id: NewId) -> None:
    channels = [world.channel_of(shard) for shard in range(3)]
    world.connect(username="ann", conn_id=conn_id(1), channels=channels)
    client = world.edges[0].attach(conn_id(1))

    for channel in channels:
        world.say(channel, f"on {channel}")
    world.settle()

    assert client.texts() == [f"on {channel}" for channel in channels]
    assert all(one["catchup"] is False and one["seq"] == 1 for one in client.got)


def test_what_came_between_connect_and_attach_is_caught_up(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    world.say("a", 1, 2)

    client = world.edges[0].attach(conn_id(1))
    world.say("a", 3)
    world.settle()

    assert client.texts() == [1, 2, 3]
    assert [one["catchup"] for one in client.got] == [True, True, False]


def test_the_order_of_a_request_is_kept_and_everybody_sees_the_same(world: Any, conn_id: NewId) -> None:
    clients = []
    for number in range(4):
        world.connect(username=f"user-{number}", conn_id=conn_id(number), channels=["a"])
        clients.append(world.edges[number % 2].attach(conn_id(number)))

    world.say("a", *range(50))
    world.say("a", *range(50, 60))
    world.settle()

    assert [client.texts() for client in clients] == [list(range(60))] * 4


def test_private_messages_reach_all_connections_of_their_users_only(world: Any, conn_id: NewId) -> None:
    clients = []
    for number, user in enumerate(["ann", "ann", "bob", "cid"]):
        world.connect(username=user, conn_id=conn_id(number), channels=["a"])
        clients.append(world.edges[number % 2].attach(conn_id(number)))

    world.say(None, "psst", pm_users=["ann", "bob"])
    world.say(None, "not bob", pm_users=["ann", "bob"], exclude_users=["bob"])
    world.settle()

    assert [client.texts() for client in clients] == [["psst", "not bob"]] * 2 + [["psst"], []]


def test_filters_on_a_channel(world: Any, conn_id: NewId) -> None:
    clients = {}
    for number, user in enumerate(["ann", "bob", "cid"]):
        world.connect(username=user, conn_id=conn_id(number), channels=["a"] if user != "cid" else [])
        clients[user] = world.edges[0].attach(conn_id(number))

    world.say("a", "some", pm_users=["ann", "cid"])
    world.say("a", "others", exclude_users=["ann"])
    world.say("a", "all")
    world.settle()

    assert {user: client.texts() for user, client in clients.items()} == {
        "ann": ["some", "all"],
        "bob": ["others", "all"],
        "cid": [],
    }


def test_subscribing_and_unsubscribing_while_attached(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1))
    client = world.edges[0].attach(conn_id(1))
    channels = [world.channel_of(shard) for shard in range(3)]

    for channel in channels:
        world.say(channel, "before")
    world.subscribe(conn_id=conn_id(1), channels=channels)
    for channel in channels:
        world.say(channel, f"on {channel}")
    world.unsubscribe(conn_id=conn_id(1), channels=channels[:1])
    for channel in channels:
        world.say(channel, "after")
    world.settle()

    assert sorted(client.texts()) == sorted([f"on {channel}" for channel in channels] + ["after"] * 2)


def test_presence_is_for_the_others(world: Any, conn_id: NewId) -> None:
    config = {"a": {"notify_presence": True, "broadcast_presence_with_user_lists": True}}
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"], channel_configs=config)
    ann = world.edges[0].attach(conn_id(1))

    world.connect(
        username="bob", conn_id=conn_id(2), channels=["a"], user_state={"x": 1, "y": 2}, state_public_keys=["x"]
    )
    bob = world.edges[1].attach(conn_id(2))
    world.service.disconnect(conn_id(2))
    world.settle()

    joined, parted = ann.of_type("presence")
    assert (joined["user"], joined["message"], joined["state"]) == ("bob", {"action": "joined"}, {"x": 1})
    assert [user["user"] for user in joined["users"]] == ["ann", "bob"]
    assert (parted["user"], parted["message"], parted["state"]) == ("bob", {"action": "parted"}, None)
    assert bob.of_type("presence") == []
    assert bob.codes == [4000]


def test_after_a_disconnect_nobody_is_there(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a", "b"])
    client = world.edges[0].attach(conn_id(1))

    assert world.service.disconnect(conn_id(1)) is True
    world.settle()
    world.say("a", "nobody is here")
    world.say(None, "nor here", pm_users=["ann"])
    world.settle()

    assert client.texts() == []
    assert [told["total_connections"] for told in world.info()["channels"].values()] == [0, 0]
    with pytest.raises(Invalid):
        world.subscribe(conn_id=conn_id(1), channels=["c"])


def test_a_second_socket_takes_over_and_nothing_is_lost_or_said_twice(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    first = world.edges[0].attach(conn_id(1))
    world.say("a", 1, 2)
    world.settle()

    second = world.edges[1].attach(conn_id(1))
    world.say("a", 3, 4)
    world.settle()

    assert first.codes == [4001]
    assert (first.texts(), second.texts()) == ([1, 2], [3, 4])


def test_one_that_is_cut_off_comes_back_elsewhere_and_misses_nothing(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))
    world.say("a", 1)
    world.settle()
    world.edges[0].detach(client, closed=False)
    world.say("a", 2, 3)
    world.live(20)

    back = world.edges[1].attach(conn_id(1))

    assert (client.texts(), back.texts()) == ([1], [2, 3])


def test_one_that_is_cut_off_for_too_long_is_gone(world: Any, conn_id: NewId) -> None:
    config = {"a": {"notify_presence": True}}
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"], channel_configs=config)
    world.connect(username="bob", conn_id=conn_id(2), channels=["a"])
    ann, bob = world.edges[0].attach(conn_id(1)), world.edges[1].attach(conn_id(2))
    assert bob.got == []

    world.edges[0].detach(ann, closed=False)
    world.live(32)

    (parted,) = bob.of_type("presence")
    assert (parted["user"], parted["message"]) == ("ann", {"action": "parted"})


def test_one_that_says_good_bye_is_gone_within_a_second(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    ann = world.edges[0].attach(conn_id(1))

    world.edges[0].detach(ann, closed=True)
    world.live(1)

    assert world.info()["channels"]["a"]["total_connections"] == 0


def test_one_batch_carries_a_whole_request(world: Any, conn_id: NewId) -> None:
    world.connect(username="ann", conn_id=conn_id(1), channels=["a"])
    client = world.edges[0].attach(conn_id(1))
    asked, down = world.asked(world.shard_of("a")), world.down(0, world.shard_of("a"))
    asked.capacity = 1  # a batch a turn: a hundred would not be there before the deadline
    down.capacity = 1
    down.held = True  # takes one batch, and no second one before that is read

    world.say("a", *range(100))
    down.release()
    world.edges[0].turn()

    assert client.texts() == list(range(100))


def test_health_is_whole_when_everybody_beats(world: Any) -> None:
    told = {(one.role, one.index): one.ready for one in world.service.statuses()}

    assert told == {
        ("router", 0): False,  # this one only asks
        ("shard", 0): True,
        ("shard", 1): True,
        ("shard", 2): True,
        ("edge", 0): True,
        ("edge", 1): True,
    }
