"""The REST calls over real shards that are asked at once: exact answers, and what happens when a shard is away."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

import pytest

from channelstream.errors import Invalid, Unavailable
from channelstream.ids import channel_key, user_key
from channelstream.wire.messages import (
    AddChannels,
    Chain,
    Claim,
    CloseConnection,
    Drop,
    EnterUser,
    GetChannels,
    GetStates,
    GetStatus,
    Join,
    Leave,
    OpenConnection,
    Publish,
    RemoveChannels,
    StatusReport,
)

ID = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
OTHER_ID = "4f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
STARTED = "2023-11-14T22:13:20.000000"
"""What the tests' clock shows."""

DEFAULT_SETTINGS = {
    "notify_presence": False,
    "broadcast_presence_with_user_lists": False,
    "notify_state": False,
    "store_history": False,
    "history_size": 10,
    "store_frames": True,
    "frames_size": 100,
    "history_ttl": 0,
    "skip_when_slow": False,
}


def invalid(call: Any, **body: object) -> object:
    """The body of a 422."""
    with pytest.raises(Invalid) as raised:
        call(**body)
    return raised.value.body()


def unavailable(call: Any, *args: Any, **body: object) -> Unavailable:
    """A 503, whose lists are of text."""
    with pytest.raises(Unavailable) as raised:
        call(*args, **body)
    return raised.value


def steps_done(error: Unavailable) -> list[str]:
    """The steps that were complete; of the one that failed, the shards that did answer are left out."""
    return [step for step in error.done if " at shard " not in step]


def names(info: dict[str, Any]) -> list[str]:
    """The channels of an INFO, in their order."""
    return list(info["channels"])


# --- /connect ---


def test_connect_answers_with_all_that_the_contract_names(backend: Any) -> None:
    answer = backend.connect(
        conn_id=ID,
        username="ann",
        channels=["b", "a"],
        channel_configs={"a": {"store_history": True, "history_size": 3}},
        fresh_user_state={"color": "red", "age": 7},
        user_state={"age": 8},
        state_public_keys=["color"],
    )

    ids = {name: (told.pop("uuid"), told.pop("epoch")) for name, told in answer["channels_info"]["channels"].items()}
    assert len({identity for pair in ids.values() for identity in pair}) == 4
    expected = {
        "long_name": None,
        "history": [],
        "last_active": STARTED,
        "total_connections": 1,
        "total_users": 1,
        "users": ["ann"],
        "seq": 0,
    }
    assert answer == {
        "conn_id": ID,
        "username": "ann",
        "state": {"color": "red", "age": 8},
        "public_state": {"color": "red"},
        "channels": ["a", "b"],
        "channels_info": {
            "channels": {
                "a": {
                    "name": "a",
                    "settings": {**DEFAULT_SETTINGS, "store_history": True, "history_size": 3},
                    **expected,
                },
                "b": {"name": "b", "settings": DEFAULT_SETTINGS, **expected},
            },
            "users": [{"user": "ann", "state": {"color": "red", "age": 8}}],
        },
    }


def test_connect_without_anything_makes_an_id(backend: Any) -> None:
    answer = backend.connect(username="ann")

    assert str(UUID(answer["conn_id"])) == answer["conn_id"]
    assert (answer["channels"], answer["state"], answer["public_state"]) == ([], {}, {})
    assert answer["channels_info"] == {"channels": {}, "users": []}


def test_connect_gives_the_id_back_in_canonical_form(backend: Any) -> None:
    assert backend.connect(username="ann", conn_id="{3F2B1C9E7D7F4C2E9A370123456789AB}")["conn_id"] == ID


def test_connect_again_by_the_same_user_adds_channels(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])

    answer = backend.connect(username="ann", conn_id=ID, channels=["b"])

    assert answer["channels"] == ["a", "b"]
    assert names(answer["channels_info"]) == ["b"]  # the channels of this call
    assert backend.info()["channels"]["a"]["total_connections"] == 1


def test_connect_with_an_id_of_another_user_is_refused_and_changes_nothing(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])

    assert invalid(backend.connect, username="bob", conn_id=ID, channels=["a", "b"]) == {
        "conn_id": ["in use by another user"]
    }
    assert names(backend.info()) == ["a"]
    assert backend.info()["channels"]["a"]["users"] == ["ann"]


def test_a_channel_named_twice_is_joined_once(backend: Any) -> None:
    answer = backend.connect(username="ann", channels=["a", "a"])

    assert answer["channels"] == ["a"]
    assert answer["channels_info"]["channels"]["a"]["total_connections"] == 1


def test_configs_apply_only_to_channels_that_are_made(backend: Any) -> None:
    backend.connect(username="ann", channels=["a"], channel_configs={"a": {"history_size": 3}})

    answer = backend.connect(
        username="bob", channels=["a", "b"], channel_configs={"a": {"history_size": 5}, "b": {"history_size": 6}}
    )

    told = answer["channels_info"]["channels"]
    assert (told["a"]["settings"]["history_size"], told["b"]["settings"]["history_size"]) == (3, 6)


def test_a_config_of_a_channel_that_is_not_joined_makes_none(backend: Any) -> None:
    backend.connect(username="ann", channels=["a"], channel_configs={"b": {"history_size": 5}})

    assert names(backend.info()) == ["a"]


def test_fresh_state_is_only_for_new_users(backend: Any) -> None:
    assert backend.connect(username="ann", fresh_user_state={"a": 1})["state"] == {"a": 1}
    assert backend.connect(username="ann", fresh_user_state={"a": 2, "b": 2})["state"] == {"a": 1}


def test_user_state_is_merged_always(backend: Any) -> None:
    backend.connect(username="ann", user_state={"a": 1, "b": 1})

    assert backend.connect(username="ann", user_state={"b": None, "c": "x"})["state"] == {"a": 1, "b": None, "c": "x"}


def test_user_state_wins_over_fresh_state(backend: Any) -> None:
    answer = backend.connect(username="ann", fresh_user_state={"a": 1, "b": 1}, user_state={"a": 2})

    assert answer["state"] == {"a": 2, "b": 1}


def test_public_keys_stay_unless_they_are_given(backend: Any) -> None:
    state = {"a": 1, "b": 2}
    assert backend.connect(username="ann", user_state=state, state_public_keys=["a"])["public_state"] == {"a": 1}
    assert backend.connect(username="ann")["public_state"] == {"a": 1}
    assert backend.connect(username="ann", state_public_keys=None)["public_state"] == {"a": 1}
    assert backend.connect(username="ann", state_public_keys=["b", "c"])["public_state"] == {"b": 2}
    assert backend.connect(username="ann", state_public_keys=[])["public_state"] == {}


def test_others_on_a_channel_are_told_with_their_states(backend: Any) -> None:
    backend.connect(username="bob", channels=["a"], user_state={"x": 1})

    answer = backend.connect(username="ann", channels=["a"], user_state={"x": 2})

    assert answer["channels_info"]["channels"]["a"]["users"] == ["ann", "bob"]
    assert answer["channels_info"]["users"] == [
        {"user": "ann", "state": {"x": 2}},
        {"user": "bob", "state": {"x": 1}},
    ]


def test_presence_tells_the_public_state_to_the_others(backend: Any, shards: Any) -> None:
    config = {"notify_presence": True}
    backend.connect(username="bob", conn_id=ID, channels=["a"], channel_configs={"a": config})
    shards.attach(ID)

    backend.connect(username="ann", channels=["a"], user_state={"x": 1, "y": 2}, state_public_keys=["x"])

    (joined,) = shards.delivered()
    assert (joined["type"], joined["user"], joined["message"]) == ("presence", "ann", {"action": "joined"})
    assert joined["state"] == {"x": 1}


# --- /subscribe and /unsubscribe ---


def test_subscribe_answers_with_all_channels_and_those_it_added(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])

    answer = backend.subscribe(conn_id=ID, channels=["c", "b", "a", "c"])

    assert answer["channels"] == ["a", "b", "c"]
    assert answer["subscribed_to"] == ["b", "c"]
    assert names(answer["channels_info"]) == ["a", "b", "c"]
    assert answer["channels_info"]["channels"]["c"]["users"] == ["ann"]
    assert answer["channels_info"]["users"] == [{"user": "ann", "state": {}}]
    assert set(answer) == {"channels", "channels_info", "subscribed_to"}


def test_subscribe_configures_new_channels(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID)

    answer = backend.subscribe(conn_id=ID, channels=["a"], channel_configs={"a": {"notify_state": True}})

    assert answer["channels_info"]["channels"]["a"]["settings"] == {**DEFAULT_SETTINGS, "notify_state": True}


def test_subscribe_leaves_the_state_alone(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID, user_state={"a": 1}, state_public_keys=["a"])

    backend.subscribe(conn_id=ID, channels=["x"])

    answer = backend.connect(username="ann")
    assert (answer["state"], answer["public_state"]) == ({"a": 1}, {"a": 1})


def test_a_subscribed_connection_that_is_attached_gets_what_is_published(backend: Any, shards: Any) -> None:
    backend.connect(username="ann", conn_id=ID)
    shards.attach(ID)
    backend.subscribe(conn_id=ID, channels=["a"])

    backend.message({"user": "bob", "channel": "a", "message": {"text": "hi"}})

    assert [one["message"] for one in shards.delivered()] == [{"text": "hi"}]


def test_unsubscribe_answers_with_what_is_left_and_those_it_removed(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a", "b", "c"])

    answer = backend.unsubscribe(conn_id=ID, channels=["c", "b", "nowhere"])

    assert answer["channels"] == ["a"]
    assert answer["unsubscribed_from"] == ["b", "c"]
    assert names(answer["channels_info"]) == ["a"]
    assert set(answer) == {"channels", "channels_info", "unsubscribed_from"}
    assert backend.info()["channels"]["b"]["total_connections"] == 0


def test_a_connection_with_no_channel_left_has_an_empty_info(backend: Any) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])

    answer = backend.unsubscribe(conn_id=ID, channels=["a"])

    assert answer == {"channels": [], "channels_info": {"channels": {}, "users": []}, "unsubscribed_from": ["a"]}


def test_excluded_channels_are_not_in_the_info_of_any_call(backend: Any) -> None:
    info = {"exclude_channels": ["a"]}

    connected = backend.connect(username="ann", conn_id=ID, channels=["a", "b"], info=info)
    subscribed = backend.subscribe(conn_id=ID, channels=["c"], info=info)
    unsubscribed = backend.unsubscribe(conn_id=ID, channels=["c"], info=info)

    assert connected["channels"] == ["a", "b"]
    assert [names(answer["channels_info"]) for answer in (connected, subscribed, unsubscribed)] == [
        ["b"],
        ["b", "c"],
        ["b"],
    ]
    assert names(backend.info(info=info)) == ["b", "c"]


@pytest.mark.parametrize("call", ["subscribe", "unsubscribe"])
def test_an_unknown_connection_is_refused_as_the_contract_has_it(backend: Any, call: str) -> None:
    told = invalid(getattr(backend, call), conn_id=ID, channels=["a"])

    assert told == {"conn_id": ["Unknown connection"]}
    assert backend.info()["channels"] == {}


# --- /message ---


def test_message_answers_with_the_list_as_it_was_taken(backend: Any) -> None:
    answer = backend.message(
        {"user": "ann", "channel": "a", "message": {"text": "hi"}, "mood": "good"},
        {"user": "ann", "pm_users": ["bob"], "message": {}, "uuid": ID, "timestamp": "2024-05-01T10:00:00"},
    )

    first, second = answer
    assert first.pop("uuid") == "00000000-0000-4000-8000-000000000001"
    assert first == {
        "type": "message",
        "timestamp": STARTED,
        "user": "ann",
        "channel": "a",
        "message": {"text": "hi"},
        "pm_users": [],
        "exclude_users": [],
        "no_history": False,
        "edited": None,
        "mood": "good",
    }
    assert (second["uuid"], second["timestamp"], second["channel"]) == (ID, "2024-05-01T10:00:00.000000", None)


def test_no_message_at_all_asks_nobody(backend: Any, shards: Any) -> None:
    assert backend.message() == []
    assert shards.kinds_asked() == [[]]


def test_a_message_is_in_the_history_of_a_channel_that_keeps_one(backend: Any) -> None:
    backend.connect(username="ann", channels=["a"], channel_configs={"a": {"store_history": True}})

    backend.message({"user": "ann", "channel": "a", "message": {"text": "hi"}, "uuid": ID})

    told = backend.info()["channels"]["a"]
    assert told["history"] == [
        {
            "type": "message",
            "uuid": ID,
            "timestamp": STARTED,
            "date": STARTED,
            "user": "ann",
            "channel": "a",
            "message": {"text": "hi"},
            "edited": None,
            "catchup": False,
            "seq": 1,
        }
    ]
    assert told["seq"] == 1


def test_a_message_for_a_channel_that_is_not_there_makes_none(backend: Any) -> None:
    backend.message({"user": "ann", "channel": "nowhere", "message": {}})

    assert backend.info()["channels"] == {}


def test_a_hundred_messages_make_one_publish_per_shard_concerned(backend: Any, shards: Any) -> None:
    channels = [f"channel-{number}" for number in range(10)]

    backend.message(*[{"user": "ann", "channel": channels[n % 10], "message": {}} for n in range(100)])

    (step,) = shards.asked
    assert sorted(shard for shard, _ in step) == sorted({shards.ring.owner(channel_key(name)) for name in channels})
    assert sum(len(one.uuids) for _, command in step for one in command.publications) == 100


def test_one_bad_message_refuses_the_whole_request(backend: Any, shards: Any) -> None:
    with pytest.raises(Invalid) as raised:
        backend.message({"user": "ann", "channel": "a", "message": {}}, {"user": "ann", "message": {}})

    assert list(raised.value.fields) == ["1.channel"]
    assert shards.asked == []


# --- /info ---


@pytest.fixture
def busy(backend: Any) -> Any:
    """Two users on two of three channels, with a state and a history."""
    backend.connect(
        username="ann",
        conn_id=ID,
        channels=["a", "b"],
        channel_configs={"a": {"store_history": True}},
        user_state={"x": 1, "y": 2},
        state_public_keys=["x"],
    )
    backend.connect(username="bob", conn_id=OTHER_ID, channels=["b", "c"])
    backend.message({"user": "ann", "channel": "a", "message": {"text": "hi"}})
    return backend


def test_info_without_a_body_tells_everything(busy: Any) -> None:
    info = busy.info()

    assert names(info) == ["a", "b", "c"]
    assert info["channels"]["b"]["users"] == ["ann", "bob"]
    assert len(info["channels"]["a"]["history"]) == 1
    assert info["users"] == [{"user": "ann", "state": {"x": 1, "y": 2}}, {"user": "bob", "state": {}}]


@pytest.mark.parametrize("body", [{"info": {"channels": ["a", "nowhere", "a"]}}, {"channels": ["a"]}])
def test_info_about_some_channels(busy: Any, body: dict[str, Any]) -> None:
    info = busy.info(**body)

    assert names(info) == ["a"]
    assert [user["user"] for user in info["users"]] == ["ann"]


def test_info_with_an_empty_list_of_channels_tells_everything(busy: Any) -> None:
    assert names(busy.info(channels=[])) == ["a", "b", "c"]


def test_info_without_history(busy: Any) -> None:
    assert busy.info(info={"include_history": False})["channels"]["a"]["history"] == []


def test_info_without_users_still_counts_them(busy: Any, shards: Any) -> None:
    shards.kinds_asked()

    info = busy.info(info={"include_users": False})

    assert info["users"] == []
    assert (info["channels"]["b"]["users"], info["channels"]["b"]["total_users"]) == ([], 2)
    assert shards.kinds_asked() == [["GetChannels"] * 3]


def test_info_with_connections(busy: Any) -> None:
    assert busy.info(info={"include_connections": True})["users"] == [
        {"user": "ann", "state": {"x": 1, "y": 2}, "connections": [ID]},
        {"user": "bob", "state": {}, "connections": [OTHER_ID]},
    ]


def test_info_with_public_states_only(busy: Any) -> None:
    assert busy.info(info={"return_public_state": True})["users"] == [
        {"user": "ann", "state": {"x": 1}},
        {"user": "bob", "state": {}},
    ]


def test_excluded_channels_do_not_name_their_users(busy: Any) -> None:
    info = busy.info(info={"exclude_channels": ["b", "c"]})

    assert names(info) == ["a"]
    assert [user["user"] for user in info["users"]] == ["ann"]


# --- /disconnect ---


def test_disconnect_ends_a_connection_everywhere(busy: Any, service: Any) -> None:
    assert service.disconnect(ID) is True

    info = busy.info(info={"include_connections": True})
    assert [info["channels"][name]["users"] for name in "abc"] == [[], ["bob"], ["bob"]]
    assert [user["user"] for user in info["users"]] == ["bob"]


def test_disconnect_tells_the_edge_and_the_others(backend: Any, service: Any, shards: Any) -> None:
    config = {"notify_presence": True}
    backend.connect(username="ann", conn_id=ID, channels=["a"], channel_configs={"a": config})
    backend.connect(username="bob", conn_id=OTHER_ID, channels=["a"])
    shards.attach(ID, "edge-0:e")
    shards.attach(OTHER_ID, "edge-1:e")

    assert service.disconnect(ID) is True

    assert [message.code for message in shards.received("edge-0:e") if isinstance(message, Drop)] == [4000]
    (parted,) = shards.delivered("edge-1:e")
    assert (parted["user"], parted["message"]) == ("ann", {"action": "parted"})


def test_disconnect_of_what_is_unknown_is_false(service: Any) -> None:
    assert service.disconnect(ID) is False


def test_disconnect_twice_is_false_the_second_time(busy: Any, service: Any) -> None:
    assert (service.disconnect(ID), service.disconnect(ID)) == (True, False)


def test_an_ended_id_may_be_used_again_by_anybody(busy: Any, service: Any) -> None:
    service.disconnect(ID)

    assert busy.connect(username="cid", conn_id=ID, channels=["a"])["channels"] == ["a"]


# --- claims and statuses ---


def test_a_claim_is_fresh_once_until_it_is_over(service: Any, shards: Any, clock: Any) -> None:
    assert (service.claim("key", 5.0), service.claim("key", 5.0), service.claim("other", 5.0)) == (True, False, True)

    shards.tick(clock.advance(5.0))

    assert service.claim("key", 5.0) is True


def test_claims_are_spread_over_the_shards_and_one_key_has_one_owner(service: Any, shards: Any) -> None:
    for number in range(40):
        service.claim(f"key-{number}", 5.0)

    owners = [shard for step in shards.asked for shard, command in step if isinstance(command, Claim)]
    assert set(owners) == {0, 1, 2}


def test_a_claim_that_cannot_be_remembered_is_not_given(
    service: Any, shards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channelstream.shard.core.MAX_CLAIMS", 0)

    unavailable(service.claim, "key", 5.0)


def test_a_claim_that_nobody_answers_is_not_given(service: Any, shards: Any) -> None:
    shards.lose(Claim)

    unavailable(service.claim, "key", 5.0)


def test_statuses_name_every_process_of_the_group(service: Any, shards: Any) -> None:
    shards.lose(GetStatus, at=1)

    told = [(status.role, status.index, status.pid) for status in service.statuses()]

    assert told == [("router", 0, 0), ("shard", 0, 100), ("shard", 1, 0), ("shard", 2, 102), ("edge", 0, 0)]


# --- a shard is away ---


def shard_of_user(shards: Any, user: str) -> int:
    owner: int = shards.ring.owner(user_key(user))
    return owner


APART = ["a", "c", "e"]
"""Channels of other shards than the one that owns `ann`, which owns `ID` neither: each step is asked by itself."""

CONNECT_STEPS = [
    (OpenConnection, [], "OpenConnection"),
    (EnterUser, ["connection"], "EnterUser"),
    (Join, ["connection", "user"], "Join"),
    (GetStates, ["connection", "user", "channels"], "GetStates"),
]


@pytest.mark.parametrize("fate", ["lose", "leave_unanswered"])
@pytest.mark.parametrize(("kind", "done", "step"), CONNECT_STEPS)
def test_a_connect_that_fails_at_a_step_says_so_and_repeating_it_makes_things_whole(
    backend: Any, shards: Any, kind: type, done: list[str], step: str, fate: str
) -> None:
    body = {
        "username": "ann",
        "conn_id": ID,
        "channels": APART,
        "fresh_user_state": {"x": 1},
        "channel_configs": {"a": {"notify_presence": True}},
    }
    getattr(shards, fate)(kind)

    error = unavailable(backend.connect, **body)

    assert error.status == 503
    assert steps_done(error) == done
    assert error.unknown
    assert all(unknown.startswith(f"{step} at shard ") for unknown in error.unknown)

    shards.heal()
    answer = backend.connect(**body)
    assert (answer["state"], answer["channels"]) == ({"x": 1}, APART)
    told = answer["channels_info"]["channels"]
    assert [(told[name]["total_connections"], told[name]["users"]) for name in APART] == [(1, ["ann"])] * 3
    assert told["a"]["seq"] == 1  # one "joined", however often it was tried


def test_of_the_shards_of_one_step_each_is_named_where_it_belongs(backend: Any, shards: Any) -> None:
    channels = [f"channel-{number}" for number in range(20)]
    shards.lose(Join, at=1)

    error = unavailable(backend.connect, username="joe", channels=channels)

    assert sorted(error.done) == ["Join at shard 0", "Join at shard 2", "connection", "user"]
    assert error.unknown == ["Join at shard 1"]
    assert error.shards == [1]
    assert str(error) == "no answer in time from shard 1: repeat the request"


@pytest.mark.parametrize("fate", ["lose", "leave_unanswered"])
@pytest.mark.parametrize(
    ("kind", "done"),
    [
        (AddChannels, []),
        (EnterUser, ["connection"]),
        (Join, ["connection", "user"]),
        (GetStates, ["connection", "user", "channels"]),
    ],
)
def test_a_subscribe_that_fails_at_a_step_is_whole_when_repeated(
    backend: Any, shards: Any, kind: type, done: list[str], fate: str
) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])
    getattr(shards, fate)(kind)

    assert steps_done(unavailable(backend.subscribe, conn_id=ID, channels=["c", "e"])) == done

    shards.heal()
    answer = backend.subscribe(conn_id=ID, channels=["c", "e"])
    assert answer["channels"] == APART
    told = answer["channels_info"]["channels"]
    assert [(told[name]["total_connections"], told[name]["users"]) for name in APART] == [(1, ["ann"])] * 3


@pytest.mark.parametrize("fate", ["lose", "leave_unanswered"])
def test_steps_that_one_shard_owns_are_asked_as_one_and_are_unknown_as_one(
    backend: Any, shards: Any, fate: str
) -> None:
    body = {"username": "eve", "conn_id": ID, "channels": ["c"], "fresh_user_state": {"x": 1}}
    getattr(shards, fate)(Chain)

    error = unavailable(backend.connect, **body)

    at = shard_of_user(shards, "eve")
    assert error.done == []
    assert error.unknown == [f"{step} at shard {at}" for step in ("OpenConnection", "EnterUser", "Join")]

    shards.heal()
    shards.kinds_asked()
    answer = backend.connect(**body)
    assert shards.kinds_asked() == [["Chain"]]
    assert (answer["state"], answer["channels"]) == ({"x": 1}, ["c"])
    told = answer["channels_info"]
    assert (told["channels"]["c"]["users"], told["users"]) == (["eve"], [{"user": "eve", "state": {"x": 1}}])


def test_a_chain_ends_where_its_shard_does_and_the_rest_is_asked_at_once(backend: Any, shards: Any) -> None:
    backend.connect(username="eve", conn_id=ID, channels=["a", "b", "c"])  # of the shards 2, 1 and 0; eve is of 0
    assert shards.kinds_asked() == [["Chain"], ["Join", "Join"], ["GetStates"]]

    of_shard_2 = OTHER_ID[:-1] + "c"
    backend.connect(username="ann", conn_id=of_shard_2, channels=["b", "d"])  # the rest is of shard 1
    assert shards.kinds_asked()[:2] == [["OpenConnection"], ["Chain"]]

    backend.subscribe(conn_id=ID, channels=["e"])
    assert shards.kinds_asked()[:2] == [["AddChannels"], ["Chain"]]


def test_where_the_id_is_in_use_by_another_user_a_chain_does_nothing_more(backend: Any, shards: Any) -> None:
    backend.connect(username="ann", conn_id=ID)

    assert invalid(backend.connect, username="eve", conn_id=ID, channels=["c"]) == {
        "conn_id": ["in use by another user"]
    }

    assert shards.kinds_asked()[-1] == ["Chain"]
    assert backend.info() == {"channels": {}, "users": []}


def test_a_public_state_that_a_chain_brings_is_told_to_all_shards(backend: Any, shards: Any) -> None:
    backend.connect(username="eve", conn_id=ID, channels=["c"])
    shards.kinds_asked()

    backend.connect(username="eve", conn_id=ID, channels=["a", "c"], user_state={"x": 1}, state_public_keys=["x"])

    assert shards.kinds_asked()[:3] == [["Chain"], ["TellState"] * 3, ["Join"]]


def test_users_of_channels_at_several_shards_are_each_told_once_and_sorted(backend: Any, shards: Any) -> None:
    names = ["eve", "ann", "joe", "dan", "bob"]
    for name in names:
        backend.connect(username=name, channels=["a", "b", "c"], fresh_user_state={"name": name})
    alone = [name for name in ("eve", "x1", "x2", "x3", "x4") if shard_of_user(shards, name) == 0][:2]
    for name in alone:
        backend.connect(username=name, channels=["e"])  # all its users are of its shard

    told = backend.info(channels=["e", "a"])["users"]

    assert [one["user"] for one in told] == sorted({*names, *alone})
    assert {one["user"]: one["state"] for one in told if one["user"] in names} == {
        name: {"name": name} for name in names
    }


def test_users_of_a_channel_that_is_left_out_are_not_told(backend: Any) -> None:
    backend.connect(username="eve", channels=["c"])
    backend.connect(username="joe", channels=["a"])

    for wanted in ({}, {"channels": ["a", "c"]}):
        told = backend.info(info={"exclude_channels": ["c"], **wanted})
        assert (names(told), [one["user"] for one in told["users"]]) == (["a"], ["joe"])


@pytest.mark.parametrize("fate", ["lose", "leave_unanswered"])
@pytest.mark.parametrize(
    ("kind", "done"),
    [
        (RemoveChannels, []),
        (Leave, ["connection"]),
        (GetChannels, ["connection", "leaving"]),
        (GetStates, ["connection", "leaving", "channels"]),
    ],
)
def test_an_unsubscribe_that_fails_at_a_step_is_whole_when_repeated(
    backend: Any, shards: Any, kind: type, done: list[str], fate: str
) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a", "b"])
    getattr(shards, fate)(kind)

    error = unavailable(backend.unsubscribe, conn_id=ID, channels=["b"])
    assert steps_done(error) == done

    shards.heal()
    answer = backend.unsubscribe(conn_id=ID, channels=["b"])
    assert (answer["channels"], names(answer["channels_info"])) == (["a"], ["a"])
    told = backend.info()["channels"]
    assert (told["a"]["users"], told["b"]["users"]) == (["ann"], [])


def test_a_message_whose_shard_is_away_is_unknown_and_the_others_are_done(backend: Any, shards: Any) -> None:
    channels = [f"channel-{number}" for number in range(20)]
    backend.connect(username="ann", conn_id=ID, channels=channels)
    shards.attach(ID)
    uuids = [f"00000000-0000-4000-9000-{number:012d}" for number in range(20)]
    messages = [
        {"user": "ann", "channel": name, "message": {}, "uuid": uuid}
        for name, uuid in zip(channels, uuids, strict=True)
    ]
    away = [uuid for name, uuid in zip(channels, uuids, strict=True) if shards.ring.owner(channel_key(name)) == 2]
    shards.lose(Publish, at=2)

    error = unavailable(backend.message, *messages)

    assert sorted(error.unknown) == sorted(away)
    assert sorted(error.done + error.unknown) == sorted(uuids)

    shards.heal()
    backend.message(*messages)
    delivered = [one["uuid"] for one in shards.delivered()]
    assert sorted(delivered) == sorted(uuids)  # each one once


def test_a_message_whose_answer_is_lost_is_taken_once_when_repeated(backend: Any, shards: Any) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])
    shards.attach(ID)
    message = {"user": "bob", "channel": "a", "message": {"text": "hi"}, "uuid": OTHER_ID}
    shards.leave_unanswered(Publish)

    assert unavailable(backend.message, message).unknown == [OTHER_ID]

    shards.heal()
    assert [one["uuid"] for one in backend.message(message)] == [OTHER_ID]
    assert [one["uuid"] for one in shards.delivered()] == [OTHER_ID]


def test_a_private_message_whose_answer_is_lost_is_taken_once_when_repeated(backend: Any, shards: Any) -> None:
    backend.connect(username="ann", conn_id=ID)
    shards.attach(ID)
    message = {"user": "bob", "pm_users": ["ann"], "message": {}, "uuid": OTHER_ID}
    shards.leave_unanswered(Publish)
    unavailable(backend.message, message)
    shards.heal()

    backend.message(message)

    assert [one["uuid"] for one in shards.delivered()] == [OTHER_ID]


def test_info_is_whole_or_not_at_all(busy: Any, shards: Any) -> None:
    shards.lose(GetChannels, at=0)

    assert unavailable(busy.info).unknown == ["GetChannels at shard 0"]

    shards.heal()
    assert names(busy.info()) == ["a", "b", "c"]


@pytest.mark.parametrize("fate", ["lose", "leave_unanswered"])
@pytest.mark.parametrize(("kind", "done"), [(CloseConnection, []), (Leave, ["connection"])])
def test_a_disconnect_that_fails_at_a_step_is_over_when_repeated_or_soon_by_itself(
    backend: Any, service: Any, shards: Any, clock: Any, kind: type, done: list[str], fate: str
) -> None:
    backend.connect(username="ann", conn_id=ID, channels=["a"])
    getattr(shards, fate)(kind)

    assert steps_done(unavailable(service.disconnect, ID)) == done

    shards.heal()
    with contextlib.suppress(Unavailable):
        service.disconnect(ID)
    shards.tick(clock.advance(31.0))
    assert service.disconnect(ID) is False
    assert backend.info()["channels"]["a"]["users"] == []


def test_an_answer_of_the_wrong_kind_is_a_fault_of_ours(service: Any, shards: Any, monkeypatch: Any) -> None:
    report = StatusReport(shards.ask_all([(0, GetStatus())])[0].own, [])
    monkeypatch.setattr(shards, "ask_all", lambda commands: [report for _ in commands])

    with pytest.raises(TypeError, match="expected Claimed, got StatusReport"):
        service.claim("key", 1.0)
