"""Shards with slow and full disks that are killed and ended at any moment, with everything else of the server around
them: what was answered is in history once, and every client has all of it in order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

NewId = Callable[[int], str]
SEEDS = range(12)
"""Some seconds each. After a change to what is stored or comes back, run it with a few hundred."""
TEXTS = 25
HISTORY = {"store_history": True, "history_size": 1000, "frames_size": 1000}


def trouble(world: Any, random: Random) -> None:
    """Something happens to a shard, and what happened before is over or not."""
    shard = random.choice(world.shards)
    match random.choice(["nothing", "nothing", "kill", "end", "full", "there is space"]):
        case "kill" if shard.running:
            shard.kill()
        case "end" if shard.running:
            shard.end()
        case "full":
            shard.disk.full = True
        case "there is space":
            shard.disk.full = False
    for one in world.shards:
        if not one.running and random.random() < 0.6:
            one.start()


def come_and_go(world: Any, random: Random, clients: dict[str, Any]) -> None:
    """Some client is cut off, or comes back to any edge. What it was given stays with it."""
    conn_id = random.choice([*clients])
    client = clients[conn_id]
    if client.released:
        if all(shard.running for shard in world.shards):
            again = random.choice(world.edges).attach(conn_id)
            again.got[:0] = client.got
            clients[conn_id] = again
    elif random.random() < 0.3:
        for edge in world.edges:
            if client in edge._core.clients():
                edge.detach(client, closed=False)


def heal(world: Any) -> None:
    for shard in world.shards:
        shard.disk.full = False
        if not shard.running:
            shard.start()
    world.live(5)


def history(world: Any, channel: str) -> list[Any]:
    return [message["message"]["text"] for message in world.info()["channels"][channel]["history"]]


def seen(client: Any, channel: str) -> list[Any]:
    """What a client was told on a channel: what comes again is the same by its uuid."""
    return list({one["uuid"]: one["message"]["text"] for one in client.of_type("message") if one["channel"] == channel}
                .values())  # fmt: skip


@pytest.mark.parametrize("keeping_world", SEEDS, indirect=True, ids=str)
def test_what_is_answered_is_kept_once_and_everybody_gets_all_of_it_in_order(
    keeping_world: Any, conn_id: NewId, request: pytest.FixtureRequest
) -> None:
    world, random = keeping_world, Random(request.node.callspec.params["keeping_world"])
    channels = [world.channel_of(shard) for shard in range(3)]
    clients = {}
    for number in range(3):
        configs = dict.fromkeys(channels, HISTORY)
        body = {"username": f"user-{number}", "conn_id": conn_id(number), "channels": channels}
        world.connect(**body, channel_configs=configs)
        clients[conn_id(number)] = world.edges[number % 2].attach(conn_id(number))

    for text in range(TEXTS):
        trouble(world, random)
        come_and_go(world, random, clients)
        uuid = f"d0000000-0000-4000-8000-{text:012d}"
        for _ in range(8):
            for shard in world.shards:
                if not shard.running and random.random() < 0.5:
                    shard.start()
                shard.disk.full = shard.disk.full and random.random() < 0.7
            try:
                world.say_until_taken(channels[text % 3], text, uuid)
            except AssertionError:
                continue
            break
        else:
            heal(world)
            world.say_until_taken(channels[text % 3], text, uuid)
    heal(world)
    for conn_id_, client in clients.items():
        if client.released:
            again = world.edges[0].attach(conn_id_)
            again.got[:0] = client.got
            clients[conn_id_] = again
    for channel in channels:
        world.say_until_taken(channel, "last", f"e0000000-0000-4000-8000-{channels.index(channel):012d}")
    world.live(5)

    for index, channel in enumerate(channels):
        said = [*range(index, TEXTS, 3), "last"]
        assert history(world, channel) == said
        for client in clients.values():
            assert client.codes == []
            assert seen(client, channel) == said
            assert [one for one in client.of_type("gap") if one["channel"] == channel] == []
