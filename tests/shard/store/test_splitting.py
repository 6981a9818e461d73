"""Another number of shards: nothing is lost, nothing is twice, and each thing is where the ring has it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.shard.store.base import (
    ConnectionSaved,
    FramesSaved,
    Place,
    RecordSaved,
    Saved,
    SavedChannel,
    UserSaved,
)
from channelstream.shard.store.splitting import split
from channelstream.wire.messages import ChannelConfig

NAMES = some.sets(some.text(min_size=1, max_size=5), max_size=30)


@some.composite
def saved_by_one(draw: Any) -> Saved:
    """What one shard of one might hold."""
    channels, users = sorted(draw(NAMES)), sorted(draw(NAMES))
    topics = [*map(channel_key, channels), *map(user_key, users)]
    found = Saved(is_complete=draw(some.booleans()))
    for at, name in enumerate(channels):
        found.channels[name] = SavedChannel(name, f"e{at}", at, ChannelConfig(), is_whole=draw(some.booleans()))
    for name in users:
        found.users[name] = UserSaved(name, {"name": name}, ())
        found.records[f"k-{name}"] = RecordSaved(f"k-{name}", name, tuple(channels))
        mine = draw(some.lists(some.sampled_from(topics), unique=True))
        places = tuple(Place(topic, at, at + 1) for at, topic in enumerate(mine))
        if places:
            found.connections[f"k-{name}"] = ConnectionSaved(f"k-{name}", name, {}, places)
    for topic in draw(some.lists(some.sampled_from(topics), unique=True)) if topics else []:
        found.frames[topic] = FramesSaved(topic, "e", 5, ())
    return found


@given(saved_by_one(), some.integers(1, 8))
def test_each_thing_is_once_and_at_its_owner(one: Saved, shards: int) -> None:
    ring = Ring(shards)
    several = split([one], ring)
    assert len(several) == shards
    assert sum(len(each.channels) for each in several) == len(one.channels)
    assert sum(len(each.users) for each in several) == len(one.users)
    for index, each in enumerate(several):
        assert each.is_complete == one.is_complete
        assert {name: one.channels[name] for name in each.channels} == each.channels
        assert {ring.owner(channel_key(name)) for name in each.channels} <= {index}
        assert {ring.owner(user_key(name)) for name in each.users} <= {index}
        assert {ring.owner(connection_key(name)) for name in each.records} <= {index}
        assert {ring.owner(topic) for topic in each.frames} <= {index}
        topics = {place.topic for connection in each.connections.values() for place in connection.places}
        assert {ring.owner(topic) for topic in topics} <= {index}


@given(saved_by_one(), some.integers(1, 8), some.integers(1, 8))
def test_it_can_be_moved_about_and_back(one: Saved, first: int, second: int) -> None:
    back = split(split(split([one], Ring(first)), Ring(second)), Ring(1))[0]
    assert (back.channels, back.users, back.records, back.frames) == (one.channels, one.users, one.records, one.frames)
    assert back.connections.keys() == one.connections.keys()
    for conn_id, connection in back.connections.items():
        known = one.connections[conn_id]
        assert set(connection.places) == set(known.places)
        assert len(connection.places) == len(known.places)


def test_one_that_lost_something_makes_all_incomplete() -> None:
    assert [each.is_complete for each in split([Saved(is_complete=True), Saved()], Ring(3))] == [False] * 3


def test_a_channel_that_two_have_is_the_one_that_counted_more() -> None:
    less = Saved(channels={"a": SavedChannel("u", "e1", 3, ChannelConfig())})
    more = Saved(channels={"a": SavedChannel("u", "e2", 4, ChannelConfig())})
    assert split([less, more], Ring(1))[0].channels["a"].epoch == "e2"
    assert split([more, less], Ring(1))[0].channels["a"].epoch == "e2"
