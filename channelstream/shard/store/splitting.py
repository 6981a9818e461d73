"""What belongs to which shard, when there is another number of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.shard.store.base import ConnectionSaved, Place, Saved, SavedChannel


def split(former: Sequence[Saved], ring: Ring) -> list[Saved]:
    """All that some shards hold, as it belongs to those of the ring. Epochs and seqs stay."""
    is_complete = all(saved.is_complete for saved in former)
    split_up = [Saved(is_complete=is_complete) for _ in range(ring.shards)]
    for saved in former:
        for name, channel in saved.channels.items():
            there = split_up[ring.owner(channel_key(name))].channels
            there[name] = further(channel, there.get(name))
        for name, user in saved.users.items():
            split_up[ring.owner(user_key(name))].users[name] = user
        for conn_id, record in saved.records.items():
            split_up[ring.owner(connection_key(conn_id))].records[conn_id] = record
        for topic, frames in saved.frames.items():
            split_up[ring.owner(topic)].frames[topic] = frames
        for connection in saved.connections.values():
            _split_connection(connection, ring, split_up)
    return split_up


def further(channel: SavedChannel, other: SavedChannel | None) -> SavedChannel:
    """Of a channel that two shards hold, which no sound shards do, the one that has counted more."""
    return other if other is not None and other.seq > channel.seq else channel


def _split_connection(connection: ConnectionSaved, ring: Ring, split_up: Sequence[Saved]) -> None:
    """A connection is at each shard that owns a topic that it is on, and with the topics of several shards at one."""
    by_owner: dict[int, list[Place]] = {}
    for place in connection.places:
        by_owner.setdefault(ring.owner(place.topic), []).append(place)
    for owner, places in by_owner.items():
        there = split_up[owner].connections
        known = there.get(connection.conn_id)
        both = places if known is None else united(known.places, places)
        there[connection.conn_id] = replace(connection, places=tuple(both))


def united(some: Iterable[Place], more: Iterable[Place]) -> list[Place]:
    """Places on different topics; where both are on one, the first ones'."""
    by_topic: dict[str, Place] = {place.topic: place for place in some}
    for place in more:
        by_topic.setdefault(place.topic, place)
    return list(by_topic.values())
