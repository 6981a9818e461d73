"""Every client gets exactly its messages, in order, however many publish and wherever they are held."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import uuid
from collections import defaultdict

import pytest
import requests
from websockets.asyncio.client import connect as open_websocket

from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring

CONNECTIONS = 200
CHANNELS = 50
MESSAGES = 2000
PUBLISHERS = 4
LAST = "the last one"
ON_EACH = 5
"""Channels that a connection is on."""


@pytest.mark.promise("3.61", "4.7")
def test_every_client_has_exactly_its_messages(large, name, helpers):
    chance = random.Random(1)
    channels = [f"{name}-{number}" for number in range(CHANNELS)]
    joined = {}
    for number in range(CONNECTIONS):
        mine = chance.sample(channels, ON_EACH)
        joined[large.connect(f"user-{number}-{name}", *mine)] = mine
    published = defaultdict(list)
    seen = asyncio.run(watched(large, joined, channels, published, helpers))
    assert sum(map(len, published.values())) == MESSAGES + CHANNELS
    order = {}
    for conn_id, mine in joined.items():
        assert set(seen[conn_id]) <= set(mine)
        for channel in mine:
            got = seen[conn_id][channel]
            assert [seq for seq, _ in got] == list(range(1, len(published[channel]) + 1)), f"{conn_id} on {channel}"
            assert sorted(text for _, text in got) == sorted(published[channel])
            assert got == order.setdefault(channel, got)


async def watched(large, joined, channels, published, helpers):
    """Open all, publish from threads, and collect per connection and channel what came, until each has its share."""
    seen = {conn_id: defaultdict(list) for conn_id in joined}
    sockets = {}
    for conn_id in joined:
        url = f"ws://127.0.0.1:{large.port}/ws?conn_id={conn_id}"
        sockets[conn_id] = await open_websocket(url, open_timeout=helpers.PATIENCE_S)
    await asyncio.to_thread(helpers.eventually, lambda: all_held(large), "all are held, and not by one edge alone")
    publishing = [
        asyncio.to_thread(publish, large, channels, number, published, helpers) for number in range(PUBLISHERS)
    ]
    reading = [asyncio.create_task(read(sockets[conn_id], seen[conn_id])) for conn_id in joined]
    await asyncio.gather(*publishing)
    # One more on each channel: what comes twice, or too much, comes before it.
    for channel in channels:
        await asyncio.to_thread(large.say, channel, LAST)
        published[channel].append(LAST)
    async with asyncio.timeout(helpers.PATIENCE_S):
        while any(LAST not in [text for _, text in seen[one][channel]] for one in joined for channel in joined[one]):
            await asyncio.sleep(0.02)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    await asyncio.gather(*(socket.close() for socket in sockets.values()))
    return seen


def all_held(large):
    held = [one["connections"] for one in large.health() if one["role"] == "edge"]
    return all(held) and sum(held) >= CONNECTIONS


def publish(large, channels, number, published, helpers):
    """One publisher: batches of messages over random channels, each text its own."""
    chance = random.Random(number)
    with requests.Session() as session:
        left = MESSAGES // PUBLISHERS
        while left:
            batch = min(chance.randint(1, 20), left)
            left -= batch
            messages = [
                {"user": "b", "channel": chance.choice(channels), "message": {"text": str(uuid.uuid4())}}
                for _ in range(batch)
            ]
            signed = helpers.TimestampSigner(helpers.SECRET).sign("/message").decode()
            answer = session.post(
                f"http://127.0.0.1:{large.api_port}/message",
                json=messages,
                headers={"X-Channelstream-Secret": signed},
                timeout=helpers.PATIENCE_S,
            )
            assert answer.status_code == 200, answer.text
            for message in messages:
                published[message["channel"]].append(message["message"]["text"])


async def read(socket, seen):
    async for text in socket:
        for one in json.loads(text):
            seen[one["channel"]].append((one["seq"], one["message"]["text"]))


@pytest.mark.promise("3.61")
def test_clients_on_different_edges_see_one_order(large, name, helpers):
    """Two publishers at once; the order is whatever the shard made it, but one and the same for all."""
    sockets = [large.websocket(large.connect(f"u{number}-{name}", name)) for number in range(12)]
    try:
        publishers = [
            threading.Thread(target=lambda n=number: [large.say(name, f"{n}-{i}") for i in range(60)])
            for number in range(2)
        ]
        for one in publishers:
            one.start()
        for one in publishers:
            one.join()
        seen = [helpers.receive(socket, 120) for socket in sockets]
        assert [one["seq"] for one in seen[0]] == list(range(1, 121))
        assert all(helpers.texts(one) == helpers.texts(seen[0]) for one in seen)
    finally:
        for socket in sockets:
            socket.close()


@pytest.mark.promise("5.2")
def test_a_killed_edge_loses_nothing_that_frames_reach(helpers):
    with helpers.running(shards=2, edges=2, routers=1) as group:
        config = {"c": {"notify_presence": True}}
        watcher = group.connect("ann", "c", channel_configs=config)
        conn_ids = [group.connect(f"user-{number}", "c") for number in range(8)]
        sockets = [group.websocket(conn_id) for conn_id in conn_ids]
        group.say("c", "before")
        for edge in ("edge-0", "edge-1"):
            os.kill(group.pid_of(edge), signal.SIGKILL)
        for socket in sockets:
            socket.close()
        group.say("c", "while away")
        helpers.eventually(lambda: is_listening(group), "an edge is back")
        for conn_id in conn_ids:
            with group.websocket(conn_id) as socket:
                came = []
                while "while away" not in came:
                    came += helpers.texts(json.loads(socket.recv(timeout=helpers.PATIENCE_S)))
                assert came in (["before", "while away"], ["while away"])
        with group.websocket(watcher) as socket:
            presence = [one["message"]["action"] for one in helpers.receive(socket, 10) if one["type"] == "presence"]
            assert presence == ["joined"] * 8


def is_listening(group):
    try:
        return group.get("/readyz", group.port).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.promise("4.20")
def test_a_killed_shard_is_attached_to_again_and_clients_are_told(helpers):
    with helpers.running(shards=1, edges=1, routers=1) as group:
        with group.websocket(group.connect("joe", "c")) as socket:
            group.say("c", "before")
            assert helpers.texts(helpers.receive(socket, 1)) == ["before"]
            os.kill(group.pid_of("shard-0"), signal.SIGKILL)
            told = []
            while {"type": "gap", "channel": "c", "missed": None} not in told:
                told += json.loads(socket.recv(timeout=helpers.PATIENCE_S))
            group.say("c", "after")
            assert helpers.texts(helpers.receive(socket, 1)) == ["after"]


@pytest.mark.promise("4.34")
def test_who_was_away_when_a_shard_died_is_told_to_connect_anew(helpers):
    """Its record is at the other shard and lives on; the channel's shard has forgotten it."""
    with helpers.running(shards=2, edges=1, routers=1, wake_connections_after="0.5", store="memory") as group:
        user, channel = channels_by_shard()[0][0], channels_by_shard()[1][1]
        for kind in ("poll", "websocket"):
            conn_id = group.connect(user, channel, conn_id=id_of_shard(0))
            before = group.pid_of("shard-1")
            os.kill(before, signal.SIGKILL)
            helpers.eventually(lambda old=before: is_ready_without(group, old), "the shard is back")
            if kind == "websocket":
                with group.websocket(conn_id) as socket:
                    assert helpers.close_code(socket) == 4002
            else:
                assert group.listen(conn_id).json() == []
            helpers.eventually(lambda mine=conn_id: group.listen(mine).status_code == 401, "told", patience_s=5)


@pytest.mark.promise("5.6")
@pytest.mark.parametrize("kind", ["poll", "websocket"])
def test_who_was_away_when_a_shard_died_is_known_again_and_misses_nothing_without_a_word(helpers, kind):
    """What is kept brings everything on the channel with a history; on the other one a gap tells of what is lost."""
    with helpers.running(shards=2, edges=1, routers=1, wake_connections_after="1s", gc_conns_after="5m") as group:
        user, plain = channels_by_shard()[0][0], channels_by_shard()[1][1]
        kept = next(name for name in map(str, range(100)) if Ring(2).owner(channel_key(name)) == 1)
        configs = {kept: {"store_history": True, "history_size": 100}}
        conn_id = group.connect(user, kept, plain, conn_id=id_of_shard(0), channel_configs=configs)
        for channel in (kept, plain):
            group.say(channel, "before")
        former = group.pid_of("shard-1")
        os.kill(former, signal.SIGKILL)
        helpers.eventually(lambda: is_ready_without(group, former), "the shard is back")
        for channel in (kept, plain):
            group.say(channel, "after")
        client = helpers.Follower(group, conn_id, kind)
        client.start()
        try:
            last = {channel: group.say(channel, "last") for channel in (kept, plain)}
            for channel, uuid in last.items():
                helpers.eventually(lambda channel=channel, uuid=uuid: uuid in client.uuids(channel), "the last one")
        finally:
            client.end()
        on = {name: [one for one in client.received if one.get("channel") == name] for name in (kept, plain)}
        assert helpers.texts(on[kept]) == ["before", "after", "last"]
        assert client.gaps(kept) == []
        assert on[plain][0] == {"type": "gap", "channel": plain, "missed": None}
        assert helpers.texts(on[plain]) == ["after", "last"]
        assert len(client.gaps(plain)) == 1


def is_ready_without(group, pid):
    return group.get("/readyz").ok and pid not in [one["pid"] for one in group.health()]


def id_of_shard(shard):
    """A fresh connection id whose record the shard (of two) keeps."""
    return next(one for one in iter(lambda: str(uuid.uuid4()), "") if Ring(2).owner(connection_key(one)) == shard)


@pytest.mark.promise("2.22", "3.58", "3.59")
def test_a_stopped_shard_is_503_in_time_and_the_rest_goes_on(helpers):
    with helpers.running(shards=2, edges=1, routers=1, ask_timeout="0.5") as group:
        by_shard = channels_by_shard()
        sockets = {shard: group.websocket(group.connect(*owned)) for shard, owned in by_shard.items()}
        stopped = group.pid_of("shard-1")
        os.kill(stopped, signal.SIGSTOP)
        try:
            message = {"user": "b", "message": {"text": "hi"}, "uuid": str(uuid.uuid4())}
            other = {**message, "uuid": str(uuid.uuid4()), "channel": by_shard[0][1]}
            refused = group.post("/message", [{**message, "channel": by_shard[1][1]}, other])
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "1"
            assert (refused.json()["done"], refused.json()["unknown"]) == ([other["uuid"]], [message["uuid"]])
            assert "shard 1" in refused.json()["error"]
            group.say(by_shard[0][1], "goes on")
            assert helpers.texts(helpers.receive(sockets[0], 2)) == ["hi", "goes on"]
        finally:
            os.kill(stopped, signal.SIGCONT)

        def taken():
            return group.post("/message", [{**message, "channel": by_shard[1][1]}]).status_code == 200

        helpers.eventually(taken, "taken once the shard goes on")
        group.say(by_shard[1][1], "end")
        assert helpers.texts(helpers.before(sockets[1], "end")) == ["hi"], "repeated, and taken once"
        for socket in sockets.values():
            socket.close()


def channels_by_shard():
    """For each of two shards a user and a channel that it owns."""
    ring = Ring(2)
    names = [f"name-{number}" for number in range(100)]
    return {
        shard: (
            next(name for name in names if ring.owner(user_key(name)) == shard),
            next(name for name in names if ring.owner(channel_key(name)) == shard),
        )
        for shard in range(2)
    }
