"""Which shard is asked what, and how the answers become one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from channelstream.errors import ShardAway, Unavailable
from channelstream.ids import channel_key, user_key
from channelstream.ring import Ring
from channelstream.router import plan
from channelstream.router.bodies import TakenDeletion, TakenMessage, TakenMessages
from channelstream.router.schemas import ChannelConfigChange, InfoOptions
from channelstream.wire.messages import (
    Chain,
    ChannelInfo,
    Channels,
    ConnectionState,
    Done,
    EnterUser,
    GetChannels,
    GetStates,
    Join,
    Leave,
    OpenConnection,
    Publish,
    UserInfo,
    UsersShown,
    UserState,
)

RING = Ring(3)
CONN = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
STATE = ConnectionState("ann", ["a"], ["a"], "edge-0:e", 7, 0.0, 3)


def owned_by(shard: int, prefix: str) -> Iterator[str]:
    """Names whose topics that shard owns."""
    return (f"n{number}" for number in range(10_000) if RING.owner(f"{prefix}n{number}") == shard)


def message(uuid: str, channel: str | None = None, **fields: Any) -> TakenMessage:
    """A message as it was taken."""
    return TakenMessage(uuid=uuid, user="ann", channel=channel, message={}, **fields)


def taken(*messages: TakenMessage) -> TakenMessages:
    """A request as it was taken."""
    return TakenMessages(list(messages), [b'{"uuid":"%b"}' % str(one.uuid).encode() for one in messages], b"[]")


# --- publications ---


def test_messages_go_to_the_owner_of_their_channel_in_the_order_of_the_request() -> None:
    here, there = next(owned_by(0, "c/")), next(owned_by(1, "c/"))

    by_shard = plan.publications(
        RING, taken(message("1", here), message("2", there), message("3", here), message("4", there))
    )

    assert {shard: [one.uuids for one in group] for shard, group in by_shard.items()} == {
        0: [["1", "3"]],
        1: [["2", "4"]],
    }
    assert by_shard[0][0].topics == [channel_key(here)]


def test_a_hundred_messages_are_one_publish_per_shard() -> None:
    channels = [f"channel-{number}" for number in range(10)]

    asked = plan.publishes(plan.publications(RING, taken(*(message(str(n), channels[n % 10]) for n in range(100)))))

    assert sorted(shard for shard, _ in asked) == sorted({RING.owner(channel_key(name)) for name in channels})
    commands = [command for _, command in asked if isinstance(command, Publish)]
    assert len(commands) == len(asked)
    publications = [one for command in commands for one in command.publications]
    assert {tuple(one.topics): len(one.uuids) for one in publications} == {(f"c/{name}",): 10 for name in channels}
    assert len(publications) == 10


def test_messages_of_a_channel_for_other_people_are_apart_and_keep_their_order() -> None:
    sent = [
        message("1", "a"),
        message("2", "a"),
        message("3", "a", exclude_users=["bob"]),
        message("4", "b", exclude_users=["bob"]),
        message("5", "a", exclude_users=["bob"]),
        message("6", "a", pm_users=["bob"]),
        message("7", "a", no_history=True),
        message("8", "a"),
        message("9", "a"),
    ]

    by_shard = plan.publications(RING, taken(*sent))

    of_a = [one for group in by_shard.values() for one in group if one.topics == ["c/a"]]
    assert [one.uuids for one in of_a] == [["1", "2"], ["3", "5"], ["6"], ["7"], ["8", "9"]]
    assert [one.bodies[-1] for one in of_a] == [b'{"uuid":"%d"}' % last for last in (2, 5, 6, 7, 9)]
    assert [(one.only, one.exclude, one.no_history) for one in of_a[1:4]] == [
        (None, ["bob"], False),
        (["bob"], None, False),
        (None, None, True),
    ]


def test_a_channels_filters_travel() -> None:
    sent = message("1", "a", pm_users=["ann", "bob"], exclude_users=["bob"], no_history=True)

    ((publication,),) = plan.publications(RING, taken(sent)).values()

    assert (publication.only, publication.exclude, publication.no_history) == (["ann", "bob"], ["bob"], True)


def test_no_filter_is_none() -> None:
    ((publication,),) = plan.publications(RING, taken(message("1", "a"))).values()

    assert (publication.only, publication.exclude) == (None, None)


def test_a_private_message_goes_to_its_users_but_the_excluded_ones() -> None:
    sent = message("1", pm_users=["ann", "bob", "cid"], exclude_users=["bob"])

    by_shard = plan.publications(RING, taken(sent))

    topics = {topic for group in by_shard.values() for publication in group for topic in publication.topics}
    assert topics == {user_key("ann"), user_key("cid")}
    assert all(publication.only is None for group in by_shard.values() for publication in group)


def test_users_of_one_shard_share_one_publication_and_are_named_once() -> None:
    names = owned_by(2, "u/")
    first, second = next(names), next(names)

    by_shard = plan.publications(RING, taken(message("1", pm_users=[first, second, first])))

    assert {shard: [one.topics for one in group] for shard, group in by_shard.items()} == {
        2: [[user_key(first), user_key(second)]]
    }


def test_a_private_message_that_excludes_everybody_goes_nowhere() -> None:
    assert plan.publications(RING, taken(message("1", pm_users=["ann"], exclude_users=["ann"]))) == {}


def test_the_answer_is_the_list_as_it_was_taken() -> None:
    deletions = [TakenDeletion(uuid, "a", [], b"{}", b'{"uuid":"%b"}' % uuid.encode()) for uuid in "12"]
    assert plan.changed_body(deletions) == b'[{"uuid":"1"},{"uuid":"2"}]'
    assert plan.changed_body([]) == b"[]"


def test_what_a_missing_shard_was_given_is_unknown_and_the_rest_is_done() -> None:
    here, there = next(owned_by(0, "c/")), next(owned_by(1, "c/"))
    by_shard = plan.publications(RING, taken(message("1", here), message("2", there), message("3", here)))

    assert plan.unpublished(by_shard, [1]) == (["1", "3"], ["2"])
    assert plan.unpublished(by_shard, [0, 1]) == ([], ["1", "3", "2"])


def test_a_private_message_that_only_some_shards_have_is_unknown_and_named_once() -> None:
    here, there = next(owned_by(0, "u/")), next(owned_by(1, "u/"))
    by_shard = plan.publications(RING, taken(message("1", pm_users=[here, there])))

    assert plan.unpublished(by_shard, [1]) == ([], ["1"])


# --- joining and leaving ---


def joined(
    channels: list[str], about: list[str], configs: dict[str, Any] | None = None, **options: Any
) -> list[plan.Asked]:
    """The joins of a connection that an edge holds."""
    asked = plan.joins(RING, CONN, "ann", channels, configs or {}, about, InfoOptions(**options))
    return plan.at_once(asked, [STATE, UserState({"color": "red", "age": 7}, {"color": "red"})])


def test_a_join_per_shard_tells_about_its_channels_in_the_same_answer() -> None:
    names = owned_by(0, "c/")
    mine, too, theirs = next(names), next(names), next(owned_by(1, "c/"))
    configs = {mine: ChannelConfigChange(store_history=True), "elsewhere": ChannelConfigChange(notify_state=True)}

    asked = joined([mine, theirs, too], [mine, theirs, too], configs, include_history=False)

    held = ("edge-0:e", 7, 0.0, 3, UsersShown(include_connections=False, public_only=False))
    assert asked == [
        (
            0,
            Join(CONN, "ann", {"color": "red"}, [mine, too], {mine: {"store_history": True}}, [mine, too], False, True,
                 *held),
        ),
        (1, Join(CONN, "ann", {"color": "red"}, [theirs], {}, [theirs], False, True, *held)),
    ]  # fmt: skip


def test_shards_that_are_only_asked_about_channels_are_told_no_join() -> None:
    mine, theirs = next(owned_by(0, "c/")), next(owned_by(1, "c/"))

    asked = joined([mine], [theirs], include_users=False)

    assert [(shard, type(command)) for shard, command in asked] == [(0, Join), (1, GetChannels)]
    assert asked[1][1] == GetChannels([theirs], True, False, UsersShown(include_connections=False, public_only=False))


def test_nothing_to_join_and_nothing_to_tell_asks_nobody() -> None:
    assert joined([], []) == []


def test_a_leave_goes_to_each_shard_of_the_channels() -> None:
    names = owned_by(0, "c/")
    mine, too, theirs = next(names), next(names), next(owned_by(2, "c/"))

    connection = ConnectionState("ann", [], [], "", 0, 0.0, 7)
    assert plan.leaves(RING, connection, CONN, [mine, theirs, too]) == [
        (0, Leave(CONN, [mine, too], 7)),
        (2, Leave(CONN, [theirs], 7)),
    ]


def test_a_farewell_goes_once_to_every_shard_that_knows_the_connection() -> None:
    user = next(owned_by(1, "u/"))
    names = owned_by(1, "c/")
    state = ConnectionState(user, [next(names), next(names), next(owned_by(2, "c/"))], [], "", 0, 0.0)

    assert plan.farewells(RING, state, CONN) == [(1, Leave(CONN, None)), (2, Leave(CONN, None))]


def test_a_connection_without_channels_says_farewell_to_its_users_shard() -> None:
    user = next(owned_by(2, "u/"))

    assert plan.farewells(RING, ConnectionState(user, [], [], "", 0, 0.0), CONN) == [(2, Leave(CONN, None))]


# --- who comes ---

OPEN = OpenConnection(CONN, "ann", ["a"])
ENTER = EnterUser("ann", CONN, {}, {}, None)


def join(*channels: str) -> Join:
    return Join(CONN, "ann", {}, list(channels), {}, [], True, True)


def test_the_users_shard_is_asked_for_its_channels_behind_the_user_and_the_others_at_once() -> None:
    asked: list[plan.Asked] = [(0, join("a")), (1, join("b")), (2, GetChannels(["c"], True, True))]

    assert plan.arrival([(0, OPEN), (1, ENTER)], 1, asked) == (
        [(0, OPEN), (1, ENTER), (1, join("b"))],
        [asked[0], asked[2]],
    )
    assert plan.arrival([(0, OPEN), (2, ENTER)], 2, asked) == ([(0, OPEN), (2, ENTER)], asked)


def test_steps_in_a_row_of_one_shard_are_one_command_and_one_alone_is_itself() -> None:
    assert plan.next_step([(1, OPEN), (1, ENTER), (1, join("b"))], []) == (1, Chain([OPEN, ENTER, join("b")]))
    assert plan.next_step([(1, OPEN), (1, ENTER), (2, join("b"))], []) == (1, Chain([OPEN, ENTER]))
    assert plan.next_step([(1, OPEN), (2, ENTER), (1, join("b"))], []) == (1, OPEN)


def test_a_step_is_filled_in_with_what_is_known_before_it_is_asked() -> None:
    shard, command = plan.next_step([(2, ENTER), (2, join("b"))], [STATE])

    assert shard == 2
    assert isinstance(command, Chain)
    assert command.steps[0] == EnterUser("ann", CONN, {}, {}, None, "edge-0:e", 7, 0.0)
    assert command.steps[1].version == 3  # type: ignore[union-attr]


def test_what_was_carried_out_has_a_name() -> None:
    assert plan.done([], 2) == []
    assert plan.done([STATE, UserState({}, {}), Channels([])], 2) == ["connection", "user", "Join at shard 2"]


# --- INFO ---


def test_excluded_channels_are_not_told_and_the_others_once() -> None:
    assert plan.told_channels(["a", "b", "a", "c"], InfoOptions(exclude_channels=["b"])) == ["a", "c"]


def test_the_states_of_all_named_users_are_asked_for_once() -> None:
    infos = [ChannelInfo("a", b"{}", ["ann", "bob"]), ChannelInfo("b", b"{}", ["bob", "cid"])]

    asked = plan.states(RING, infos, InfoOptions(include_connections=True, return_public_state=True))

    assert sorted(name for _, command in asked if isinstance(command, GetStates) for name in command.users) == [
        "ann",
        "bob",
        "cid",
    ]
    assert all(
        isinstance(command, GetStates) and (command.include_connections, command.public_only) == (True, True)
        for _, command in asked
    )
    assert all(
        RING.owner(user_key(name)) == shard
        for shard, command in asked
        if isinstance(command, GetStates)
        for name in command.users
    )
    assert len({shard for shard, _ in asked}) == len(asked)


def test_info_is_sorted_and_holds_what_the_shards_made() -> None:
    body = plan.info(
        [ChannelInfo("b", b'{"name":"b"}', []), ChannelInfo("a", b'{"name":"a"}', [])],
        [UserInfo("zoe", b'{"user":"zoe"}'), UserInfo("ann", b'{"user":"ann"}')],
    )

    assert plan.encoded(body) == (
        b'{"channels":{"a":{"name":"a"},"b":{"name":"b"}},"users":[{"user":"ann"},{"user":"zoe"}]}'
    )


def test_users_that_a_shard_has_told_together_are_passed_on_as_they_are() -> None:
    told = b'[{"user":"ann"},{"user":"zoe"}]'
    assert plan.encoded(plan.info([], [], [told])["users"]) == told
    assert plan.encoded(plan.info([], [], [b"[]", told])["users"]) == told


def test_users_that_several_have_told_are_shown_once_and_sorted() -> None:
    lists = [b'[{"user":"ann","state":{}},{"user":"z\\"oe"}]', b'[{"user":"bob"},{"user":"z\\"oe"}]']
    users = plan.info([], [UserInfo("cid", b'{"user":"cid"}'), UserInfo("bob", b'{"user":"bob"}')], lists)["users"]
    assert plan.encoded(users) == b'[{"user":"ann","state":{}},{"user":"bob"},{"user":"cid"},{"user":"z\\"oe"}]'


def test_info_of_nothing() -> None:
    assert msgspec.json.decode(plan.encoded(plan.info([], []))) == {"channels": {}, "users": []}


# --- answers ---


def test_complete_gives_the_results_in_order() -> None:
    first, second = ConnectionState("ann", [], [], "", 0, 0.0), Done()

    assert plan.complete([(0, Leave(CONN, None)), (1, Leave(CONN, None))], [first, second]) == [first, second]


def test_what_is_incomplete_says_what_was_carried_out_and_what_is_unknown() -> None:
    asked: list[plan.Asked] = [(0, Leave(CONN, None)), (1, Leave(CONN, None)), (2, GetStates([], False, False))]

    with pytest.raises(Unavailable) as raised:
        plan.complete(asked, [Done(), ShardAway(1, "late"), ShardAway(2, "late")], ["connection"])

    assert raised.value.body() == {
        "error": "no answer in time from shard 1, 2: repeat the request",
        "done": ["connection", "Leave at shard 0"],
        "unknown": ["Leave at shard 1", "GetStates at shard 2"],
    }


def test_an_unknown_connection_is_named_as_the_contract_has_it() -> None:
    error = plan.unknown_connection()

    assert (error.status, error.body()) == (422, {"conn_id": ["Unknown connection"]})
