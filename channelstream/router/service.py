"""Runs plans: asks the shards, waits for them under a deadline, and answers. The I/O around `plan`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from channelstream.clock import Clock, timestamp
from channelstream.errors import Invalid, ShardAway, Unavailable
from channelstream.ids import TopicKey
from channelstream.ring import Ring
from channelstream.router import plan
from channelstream.router.bodies import parse_deletions, parse_edits, parse_messages
from channelstream.router.schemas import (
    ChannelConfigs,
    ConnectBody,
    InfoOptions,
    SubscribeBody,
    UnsubscribeBody,
    UserStateBody,
)
from channelstream.status import Sizes, merged
from channelstream.wire.messages import (
    AddChannels,
    Chained,
    ChangeUser,
    Channels,
    Claim,
    Claimed,
    CloseConnection,
    Command,
    ConnectionState,
    EnterUser,
    GetChannels,
    GetStatus,
    GetTotals,
    OpenConnection,
    OtherUser,
    ProcessStatus,
    RemoveChannels,
    Result,
    States,
    StatusReport,
    TellState,
    Totals,
    Unknown,
    UserChanged,
    UserState,
)

R = TypeVar("R", bound=Result)


class Asking(Protocol):
    """What the service needs of the links to the shards."""

    def ask_all(self, commands: Sequence[tuple[int, Command]]) -> list[Result | ShardAway]:
        """Ask several shards at once and wait for all of them."""


class Service:
    """The REST calls, one method each: a parsed body in, the answer's JSON out. Raises `CallerError`."""

    def __init__(self, links: Asking, sizes: Sizes, clock: Clock, new_uuid: Callable[[], str]) -> None:
        self._links: Final = links
        self._sizes: Final = sizes
        self._ring: Final = Ring(sizes.shards)
        self._clock: Final = clock
        self._new_uuid: Final = new_uuid

    # --- the calls ---

    def message(self, body: bytes) -> bytes:
        """POST /message. PERF: the hot path of the router; the body is parsed and made here in one go."""
        taken = parse_messages(body, self._new_uuid, timestamp(self._clock().wall))
        by_shard = plan.publications(self._ring, taken)
        results = self._links.ask_all(plan.publishes(by_shard))
        away = [result.shard for result in results if isinstance(result, ShardAway)]
        if away:
            raise Unavailable(away, *plan.unpublished(by_shard, away))
        refused = plan.refused(taken.messages, results)
        if refused is not None:
            raise refused
        return taken.answer

    def edit(self, body: bytes) -> bytes:
        """PATCH /message."""
        edits = parse_edits(body, timestamp(self._clock().wall))
        self._ask(plan.edits(self._ring, edits), [])
        return plan.changed_body(edits)

    def delete(self, body: bytes) -> bytes:
        """DELETE /message."""
        deletions = parse_deletions(body)
        self._ask(plan.deletions(self._ring, deletions), [])
        return plan.changed_body(deletions)

    def user_state(self, body: UserStateBody) -> bytes:
        """POST /user_state."""
        command = ChangeUser(body.user, body.user_state, body.state_public_keys)
        user = self._ask_one(plan.shard_of_user(self._ring, body.user), command)
        if isinstance(user, Unknown):
            raise Invalid({"user": [plan.UNKNOWN_USER]})
        user = _expect(UserChanged, user)
        if user.changed or user.public_changed:
            told = TellState(
                body.user, user.public, [key for key in user.changed if key in user.public], quiet=not user.changed
            )
            self._ask([(shard, told) for shard in range(self._ring.shards)], ["user"])
        return plan.encoded(
            {
                "user_state": user.state,
                "changed_state": [{"key": key, "value": user.state[key]} for key in user.changed],
                "public_keys": user.public_keys,
            }
        )

    def channel_config(self, configs: ChannelConfigs) -> bytes:
        """POST /channel_config."""
        results = self._ask(plan.configures(self._ring, configs), [])
        return plan.encoded(plan.info([info for result in results for info in _expect(Channels, result).channels], []))

    def connect(self, body: ConnectBody) -> bytes:
        """POST /connect."""
        conn_id = body.conn_id or self._new_uuid()
        channels = list(dict.fromkeys(body.channels))
        opening = OpenConnection(conn_id, body.username, channels)
        entering = EnterUser(body.username, conn_id, body.fresh_user_state, body.user_state, body.state_public_keys)
        about = plan.told_channels(channels, body.info)
        asked = plan.joins(self._ring, conn_id, body.username, channels, body.channel_configs, about, body.info)
        place = plan.shard_of_user(self._ring, body.username)
        steps: list[plan.Placed] = [(plan.shard_of_connection(self._ring, conn_id), opening), (place, entering)]
        connection, user, told = self._arrive([], steps, place, asked)
        return plan.encoded(
            {
                "conn_id": conn_id,
                "username": body.username,
                "state": user.state,
                "public_state": user.public,
                "channels": connection.channels,
                "channels_info": self._shown(told, body.info, ["connection", "user", "channels"]),
            }
        )

    def subscribe(self, body: SubscribeBody) -> bytes:
        """POST /subscribe."""
        channels = list(dict.fromkeys(body.channels))
        connection = self._changed(body.conn_id, AddChannels(body.conn_id, channels))
        entering = EnterUser(connection.user, body.conn_id, {}, {}, None)
        about = plan.told_channels(connection.channels, body.info)
        asked = plan.joins(self._ring, body.conn_id, connection.user, channels, body.channel_configs, about, body.info)
        place = plan.shard_of_user(self._ring, connection.user)
        _, _, told = self._arrive([connection], [(place, entering)], place, asked)
        return plan.encoded(
            {
                "channels": connection.channels,
                "channels_info": self._shown(told, body.info, ["connection", "user", "channels"]),
                "subscribed_to": sorted(connection.changed),
            }
        )

    def unsubscribe(self, body: UnsubscribeBody) -> bytes:
        """POST /unsubscribe."""
        channels = list(dict.fromkeys(body.channels))
        connection = self._changed(body.conn_id, RemoveChannels(body.conn_id, channels))
        self._ask(plan.leaves(self._ring, connection, body.conn_id, channels), ["connection"])
        about = plan.told_channels(connection.channels, body.info)
        asked = plan.tells(self._ring.group(about, "c/"), body.info)
        return plan.encoded(
            {
                "channels": connection.channels,
                "channels_info": self._info(asked, body.info, ["connection", "leaving"]),
                "unsubscribed_from": sorted(connection.changed),
            }
        )

    def info(self, options: InfoOptions) -> bytes:
        """POST /info."""
        if options.channels is None:
            # Shards are not told which channels are left out, so they cannot tell who is on the others.
            shown = None if options.exclude_channels else plan.shown(options)
            everything = GetChannels(None, options.include_history, options.include_users, shown)
            asked: list[plan.Asked] = [(shard, everything) for shard in range(self._ring.shards)]
        else:
            asked = plan.tells(self._ring.group(plan.told_channels(options.channels, options), "c/"), options)
        return plan.encoded(self._info(asked, options, []))

    def disconnect(self, conn_id: str) -> bool:
        """/disconnect: whether the connection was known."""
        shard = plan.shard_of_connection(self._ring, conn_id)
        connection = self._ask_one(shard, CloseConnection(conn_id))
        if isinstance(connection, Unknown):
            return False
        self._ask(plan.farewells(self._ring, _expect(ConnectionState, connection), conn_id), ["connection"])
        return True

    def admin(self) -> bytes:
        """/admin/admin.json."""
        shards = range(self._ring.shards)
        results = self._ask([(shard, GetTotals()) for shard in shards], [])
        listed = self._ask([(shard, GetChannels(None, True, True)) for shard in shards], ["totals"])
        infos = [info for result in listed for info in _expect(Channels, result).channels]
        totals = [_expect(Totals, result) for result in results]
        return plan.encoded(plan.admin(totals, infos, self._clock().wall))

    def claim(self, key: str, for_s: float) -> bool:
        """Whether nobody has claimed this key in the last so many seconds; from now on somebody has. Raises
        `Unavailable` where it cannot be remembered."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        shard = self._ring.owner(TopicKey(f"s/{digest}"))
        claimed = _expect(Claimed, self._ask_one(shard, Claim(digest, for_s)))
        if claimed.full:
            raise Unavailable([shard], [], [])
        return claimed.fresh

    def statuses(self) -> list[ProcessStatus]:
        """How every process of the group is; one that is not heard of has pid 0."""
        results = self._links.ask_all([(shard, GetStatus()) for shard in range(self._ring.shards)])
        return merged(self._sizes, (result for result in results if isinstance(result, StatusReport)))

    # --- the steps ---

    def _ask(self, asked: Sequence[plan.Asked], done: Sequence[str]) -> list[Result]:
        return plan.complete(asked, self._links.ask_all(asked), done)

    def _ask_one(self, shard: int, command: Command) -> Result:
        return self._ask([(shard, command)], [])[0]

    def _changed(self, conn_id: str, command: AddChannels | RemoveChannels) -> ConnectionState:
        result = self._ask_one(plan.shard_of_connection(self._ring, conn_id), command)
        if isinstance(result, Unknown):
            raise plan.unknown_connection()
        return _expect(ConnectionState, result)

    def _arrive(
        self, known: Sequence[Result], steps: Sequence[plan.Placed], place: int, asked: Sequence[plan.Asked]
    ) -> tuple[ConnectionState, UserState, list[Channels]]:
        """A connection comes: the steps in their order, those in a row that one shard owns in one go, and then what is
        left of what is `asked` about channels; see `plan.arrival`. `known`: the results of what was taken before.
        Gives what is known of the connection and the user, and what is told of channels."""
        left, rest = plan.arrival(steps, place, asked)
        results = list(known)
        while left:
            (result,) = self._ask([plan.next_step(left, results)], plan.done(results, place))
            new: Sequence[Result] = result.results if isinstance(result, Chained) else [result]
            if isinstance(new[-1], OtherUser):
                raise Invalid({"conn_id": ["in use by another user"]})
            results += new
            left = left[len(new) :]
        done = plan.done(results, place)
        connection, user = _expect(ConnectionState, results[0]), _expect(UserState, results[1])
        if user.public_changed:
            # The lists of other channels that the user is on show it as it is now, wherever they are.
            tell = TellState(connection.user, user.public, [], quiet=True)
            self._ask([(shard, tell) for shard in range(self._ring.shards)], done)
        results += self._ask(plan.at_once(rest, results), done)
        return connection, user, [_expect(Channels, result) for result in results[2:]]

    def _info(self, asked: Sequence[plan.Asked], options: InfoOptions, done: Sequence[str]) -> dict[str, object]:
        told = [_expect(Channels, result) for result in self._ask(asked, done)]
        return self._shown(told, options, [*done, "channels"])

    def _shown(self, told: Sequence[Channels], options: InfoOptions, done: Sequence[str]) -> dict[str, object]:
        """INFO of what shards have told. The users that they do not own are asked for."""
        excluded = frozenset(options.exclude_channels)
        infos = [info for one in told for info in one.channels if info.name not in excluded]
        users = self._ask(plan.states(self._ring, infos, options), done)
        lists = [one.users for one in told if one.users is not None]
        return plan.info(infos, (user for result in users for user in _expect(States, result).users), lists)


def _expect(kind: type[R], result: Result) -> R:
    """The result as the kind that its command is answered with; another one is a fault of ours."""
    if not isinstance(result, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(result).__name__}")
    return result
