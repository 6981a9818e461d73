"""What a REST call asks of which shard, and how the answers become one. Pure: a ring in, commands and bodies out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import takewhile
from typing import Final

import msgspec

from channelstream import __version__, errors
from channelstream.errors import Invalid, ShardAway, Unavailable
from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.router.bodies import TakenDeletion, TakenEdit, TakenMessage, TakenMessages
from channelstream.router.schemas import ChannelConfigs, InfoOptions
from channelstream.wire.chain import Step, filled
from channelstream.wire.messages import (
    Chain,
    ChannelInfo,
    Channels,
    Command,
    Configure,
    ConnectionState,
    DeleteMessages,
    Deletion,
    Edit,
    EditMessages,
    GetChannels,
    GetStates,
    Join,
    Leave,
    NotStored,
    Publication,
    Publish,
    Result,
    Totals,
    UserInfo,
    UsersShown,
    UserState,
)

Asked = tuple[int, Command]
"""A shard and what it is asked."""

Placed = tuple[int, Step]
"""The same for one step of a call."""

UNKNOWN_CONNECTION: Final = "Unknown connection"
UNKNOWN_USER: Final = "Unknown user"

_json: Final = msgspec.json.Encoder()


def shard_of_connection(ring: Ring, conn_id: str) -> int:
    """The shard that keeps a connection's record."""
    return ring.owner(connection_key(conn_id))


def shard_of_user(ring: Ring, user: str) -> int:
    """The shard that keeps a user's state and private messages."""
    return ring.owner(user_key(user))


# --- publish ---


_Filters = tuple[list[str] | None, list[str] | None, bool]


def publications(ring: Ring, taken: TakenMessages) -> dict[int, list[Publication]]:
    """The messages of one request by shard, those of each topic in their order.

    PERF: messages of one channel that go to the same people are one publication, which costs as much as one message.
    """
    by_shard: dict[int, list[Publication]] = {}
    last: dict[str, tuple[_Filters, Publication]] = {}
    for message, frame in zip(taken.messages, taken.frames, strict=True):
        channel, uuid = message.channel, str(message.uuid)
        if channel is None:
            _add_private(by_shard, ring, message, uuid, frame)
            continue
        filters = (message.pm_users or None, message.exclude_users or None, message.no_history)
        before = last.get(channel)
        if before is None or before[0] != filters:
            key = channel_key(channel)
            before = last[channel] = filters, Publication([key], [], [], *filters)
            by_shard.setdefault(ring.owner(key), []).append(before[1])
        before[1].uuids.append(uuid)
        before[1].bodies.append(frame)
    return by_shard


def _add_private(
    by_shard: dict[int, list[Publication]], ring: Ring, message: TakenMessage, uuid: str, frame: bytes
) -> None:
    """A message to users wherever they are."""
    places = _topics(ring, None, message.pm_users, message.exclude_users)
    for number, (shard, topics) in enumerate(places.items()):
        publication = Publication(
            topics, [uuid], [frame], None, message.exclude_users or None, message.no_history, number == 0
        )
        by_shard.setdefault(shard, []).append(publication)


def _topics(
    ring: Ring, channel: str | None, pm_users: Sequence[str], exclude_users: Sequence[str] = ()
) -> dict[int, list[str]]:
    """Where something for a channel, or for users wherever they are, goes to: topics by shard."""
    if channel is not None:
        key = channel_key(channel)
        return {ring.owner(key): [key]}
    excluded = frozenset(exclude_users)
    by_shard: dict[int, list[str]] = {}
    for user in dict.fromkeys(pm_users):
        if user not in excluded:
            user_topic = user_key(user)
            by_shard.setdefault(ring.owner(user_topic), []).append(user_topic)
    return by_shard


def edits(ring: Ring, taken: Iterable[TakenEdit]) -> list[Asked]:
    """The edits of one request, one command per shard."""
    by_shard: dict[int, list[Edit]] = {}
    for one in taken:
        for shard, topics in _topics(ring, one.channel, one.pm_users).items():
            edit = Edit(topics, one.uuid, one.changes, one.frame, one.pm_users or None)
            by_shard.setdefault(shard, []).append(edit)
    return [(shard, EditMessages(group)) for shard, group in by_shard.items()]


def deletions(ring: Ring, taken: Iterable[TakenDeletion]) -> list[Asked]:
    """The deletions of one request, one command per shard."""
    by_shard: dict[int, list[Deletion]] = {}
    for one in taken:
        for shard, topics in _topics(ring, one.channel, one.pm_users).items():
            by_shard.setdefault(shard, []).append(Deletion(topics, one.uuid, one.frame, one.pm_users or None))
    return [(shard, DeleteMessages(group)) for shard, group in by_shard.items()]


def publishes(by_shard: dict[int, list[Publication]]) -> list[Asked]:
    """One command per shard."""
    return [(shard, Publish(group)) for shard, group in by_shard.items()]


def changed_body(messages: Iterable[TakenEdit | TakenDeletion]) -> bytes:
    """The answer to edits and deletions: the list as it was taken."""
    return b"[%b]" % b",".join([message.taken for message in messages])


def unpublished(by_shard: dict[int, list[Publication]], away: Sequence[int]) -> tuple[list[str], list[str]]:
    """After some shards did not answer: the uuids that were taken everywhere, and those of which that is unknown."""
    unknown = dict.fromkeys(uuid for shard in away for uuid in _uuids(by_shard[shard]))
    done = dict.fromkeys(uuid for group in by_shard.values() for uuid in _uuids(group) if uuid not in unknown)
    return list(done), list(unknown)


def _uuids(group: Iterable[Publication]) -> Iterator[str]:
    return (uuid for publication in group for uuid in publication.uuids)


def refused(messages: Iterable[TakenMessage], results: Iterable[Result | ShardAway]) -> errors.NotStored | None:
    """What to tell where disks did not take some of the messages of a request; None where they took all."""
    not_stored = [result for result in results if isinstance(result, NotStored)]
    if not not_stored:
        return None
    uuids = dict.fromkeys(uuid for result in not_stored for uuid in result.refused)
    done = [str(message.uuid) for message in messages if message.uuid not in uuids]
    return errors.NotStored(not_stored[0].reason, done, list(uuids))


# --- joining and leaving ---


def joins(
    ring: Ring,
    conn_id: str,
    user: str,
    channels: Sequence[str],
    configs: ChannelConfigs,
    about: Sequence[str],
    options: InfoOptions,
) -> list[Asked]:
    """A join per shard of `channels`, which tells about those of `about` in the same answer; shards that own only
    something of `about` are asked for that. The joins have yet to be `filled`."""
    joining = ring.group(channels, "c/")
    telling = ring.group(about, "c/")
    changes = {name: change.given() for name, change in configs.items()}
    asked: list[Asked] = []
    for shard, names in joining.items():
        asked.append(
            (
                shard,
                Join(
                    conn_id,
                    user,
                    {},
                    names,
                    {name: changes[name] for name in names if name in changes},
                    telling.pop(shard, []),
                    options.include_history,
                    options.include_users,
                    shown=shown(options),
                ),
            )
        )
    return asked + tells(telling, options)


def tells(by_shard: dict[int, list[str]], options: InfoOptions) -> list[Asked]:
    """What asks each shard about its channels."""
    return [
        (shard, GetChannels(names, options.include_history, options.include_users, shown(options)))
        for shard, names in by_shard.items()
    ]


def shown(options: InfoOptions) -> UsersShown:
    """How users are to be shown."""
    return UsersShown(options.include_connections, options.return_public_state)


def leaves(ring: Ring, connection: ConnectionState, conn_id: str, channels: Sequence[str]) -> list[Asked]:
    """A leave per shard of `channels`."""
    grouped = ring.group(channels, "c/")
    return [(shard, Leave(conn_id, names, connection.version)) for shard, names in grouped.items()]


def farewells(ring: Ring, connection: ConnectionState, conn_id: str) -> list[Asked]:
    """A leave of everything, at every shard that knows the connection."""
    shards = {shard_of_user(ring, connection.user): None, **dict.fromkeys(ring.group(connection.channels, "c/"))}
    return [(shard, Leave(conn_id, None)) for shard in shards]


def configures(ring: Ring, configs: ChannelConfigs) -> list[Asked]:
    """A change of channels' configurations, one command per shard."""
    return [
        (shard, Configure({name: configs[name].given() for name in names}))
        for shard, names in ring.group(configs, "c/").items()
    ]


# --- who comes ---


def arrival(steps: Sequence[Placed], place: int, asked: Sequence[Asked]) -> tuple[list[Placed], list[Asked]]:
    """What is asked one after another where a connection comes: `steps`, of which the last one enters its user at the
    shard `place`, and a join that this shard is asked for. And what can be asked at once behind them: the rest."""
    joins = [(shard, command) for shard, command in asked if shard == place and isinstance(command, Join)]
    rest = [(shard, command) for shard, command in asked if shard != place or not isinstance(command, Join)]
    return [*steps, *joins], rest


def next_step(left: Sequence[Placed], results: Sequence[Result]) -> Asked:
    """The first of the steps that are left, together with those behind it that its shard owns too."""
    shard = left[0][0]
    here = [filled(step, results) for _, step in takewhile(lambda one: one[0] == shard, left)]
    return shard, here[0] if len(here) == 1 else Chain(here)


def at_once(asked: Sequence[Asked], results: Sequence[Result]) -> list[Asked]:
    """What is asked of several shards at once, joins filled in with the results so far."""
    return [(shard, filled(command, results) if isinstance(command, Join) else command) for shard, command in asked]


def done(results: Sequence[Result], place: int) -> list[str]:
    """The names of the steps that have these results. `place` as in `arrival`."""
    names = {ConnectionState: "connection", UserState: "user", Channels: f"Join at shard {place}"}
    return [names[type(result)] for result in results]


# --- INFO ---


def told_channels(channels: Iterable[str], options: InfoOptions) -> list[str]:
    """The channels that the caller wants to hear about."""
    excluded = frozenset(options.exclude_channels)
    return [name for name in dict.fromkeys(channels) if name not in excluded]


def states(ring: Ring, infos: Iterable[ChannelInfo], options: InfoOptions) -> list[Asked]:
    """What asks for the states of all users that the channels name."""
    users = dict.fromkeys(user for info in infos for user in info.users)
    return [
        (shard, GetStates(names, options.include_connections, options.return_public_state))
        for shard, names in ring.group(users, "u/").items()
    ]


def info(infos: Iterable[ChannelInfo], users: Iterable[UserInfo], lists: Sequence[bytes] = ()) -> dict[str, object]:
    """INFO: the channels by name, the users by theirs. `lists`: users as `Channels` tells them; who is in several of
    them, or among `users` too, is shown once."""
    return {
        "channels": {one.name: msgspec.Raw(one.json) for one in sorted(infos, key=lambda one: one.name)},
        "users": _users({one.user: one.json for one in users}, lists),
    }


def _users(users: dict[str, bytes], lists: Sequence[bytes]) -> msgspec.Raw:
    """PERF: a list that is the only one is passed on as it is: it may be of thousands of users."""
    if len(lists) == 1 and not users:
        return msgspec.Raw(lists[0])
    for some in lists:
        users.update((_read_user(one).user, bytes(one)) for one in _read_list(some))
    return msgspec.Raw(b"[%b]" % b",".join([users[name] for name in sorted(users)]))


class _Named(msgspec.Struct):
    """Of a user's object, who it is about."""

    user: str


_read_user: Final = msgspec.json.Decoder(_Named).decode
_read_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def admin(totals: Sequence[Totals], infos: Iterable[ChannelInfo], now: float) -> dict[str, object]:
    """What an admin sees: the shards' numbers added up, and every channel and every user that is there. `now`: seconds
    since the epoch."""
    users = [user for one in totals for user in one.users]
    uptime = timedelta(seconds=max(0, int(now - min(one.since for one in totals))))
    return {
        "remembered_user_count": sum(one.remembered_users for one in totals),
        "unique_user_count": len(users),
        "total_connections": sum(one.connections for one in totals),
        "total_channels": sum(one.channels for one in totals),
        "total_messages": sum(one.messages for one in totals),
        "total_unique_messages": sum(one.unique_messages for one in totals),
        **info(infos, users),
        "uptime": str(uptime),
        "version": __version__,
    }


# --- answers ---


def encoded(body: object) -> bytes:
    """An answer's JSON."""
    return _json.encode(body)


def unknown_connection() -> Invalid:
    """The error of a call about a connection that is not there."""
    return Invalid({"conn_id": [UNKNOWN_CONNECTION]})


def complete(asked: Sequence[Asked], results: Sequence[Result | ShardAway], done: Sequence[str] = ()) -> list[Result]:
    """The results, all of them there. Raises `Unavailable`, which says what was carried out before and here, or
    `errors.NotStored` where a disk did not take it.

    `done` names the steps of the call that were complete already.
    """
    there = [result for result in results if not isinstance(result, ShardAway)]
    for one in there:
        if isinstance(one, NotStored):
            raise errors.NotStored(f"{one.reason}; it is in force, and is stored when it can be", list(done), [])
    if len(there) == len(results):
        return there
    carried_out = list(done)
    unknown: list[str] = []
    for (shard, command), result in zip(asked, results, strict=True):
        steps = command.steps if isinstance(command, Chain) else [command]
        named = [f"{type(step).__name__} at shard {shard}" for step in steps]
        (unknown if isinstance(result, ShardAway) else carried_out).extend(named)
    raise Unavailable([result.shard for result in results if isinstance(result, ShardAway)], carried_out, unknown)
