"""A channel: its configuration, what it takes, whom it tells, what is told of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from channelstream.clock import Now
from channelstream.shard.channel import Channel, configured
from channelstream.shard.connection import Connection
from channelstream.shard.members import Person
from channelstream.shard.store.base import ChannelCounted, ChannelSaved, MessageSaved, SavedChannel, StoredMessage
from channelstream.wire.messages import ChannelConfig, ConfigChange, Publication

NOW = Now(100.0, 1_700_000_000.0)


def channel(**config: Any) -> Channel:
    return Channel("lobby", "u1", "e1", ChannelConfig(**config), NOW)


def publication(uuid: str = "m1", **options: Any) -> Publication:
    return Publication(["c/lobby"], uuid, b'{"uuid":"%b"}' % uuid.encode(), **options)


def told(channel: Channel, now: Now = NOW, history: bool = True, users: bool = True) -> dict[str, Any]:
    channel.told = channel.seq  # all of it has gone out
    shown: dict[str, Any] = msgspec.json.decode(channel.info(now, history, users))
    return shown


def history(channel: Channel, now: Now = NOW) -> list[str]:
    return [message["uuid"] for message in told(channel, now)["history"]]


# --- configuration ---


def test_a_change_leaves_the_other_keys_alone() -> None:
    config = configured(ChannelConfig(history_size=3), {"notify_presence": True})
    assert config == ChannelConfig(history_size=3, notify_presence=True)


@pytest.mark.parametrize(
    ("config", "kept"), [({}, 100), ({"frames_size": 7}, 7), ({"store_frames": False, "frames_size": 7}, 0)]
)
def test_frames_are_kept_as_configured(config: ConfigChange, kept: int) -> None:
    assert channel(**config).frames_kept == kept


# --- messages ---


def test_a_message_is_delivered_and_not_stored_unless_asked() -> None:
    taken = channel().publish(publication(), NOW)
    assert taken is not None
    deliver, writes = taken
    assert (deliver.seq, writes) == (1, [])


def test_a_channel_with_history_stores_what_it_takes() -> None:
    taken = channel(store_history=True, history_size=3).publish(publication(), NOW)
    assert taken is not None
    message = StoredMessage("m1", 1, b'{"uuid":"m1"}', NOW.wall)
    assert taken[1] == [MessageSaved("lobby", message)]


@pytest.mark.parametrize(
    ("options", "is_stored"),
    [
        ({}, True),
        ({"exclude": []}, True),
        ({"only": ["ann"]}, False),
        ({"only": []}, False),
        ({"exclude": ["ann"]}, False),
        ({"no_history": True}, False),
    ],
)
def test_history_holds_what_everybody_may_read(options: dict[str, Any], is_stored: bool) -> None:
    lobby = channel(store_history=True)
    taken = lobby.publish(publication(**options), NOW)
    assert taken is not None
    assert [type(write) for write in taken[1]] == [MessageSaved if is_stored else ChannelCounted]
    assert history(lobby) == (["m1"] if is_stored else [])


@pytest.mark.parametrize(
    ("config", "taken_again"),
    [
        pytest.param({}, False, id="held by frames"),
        pytest.param({"store_frames": False, "store_history": True}, False, id="held by history"),
        pytest.param({"store_frames": False}, True, id="held by nobody"),
        pytest.param({"frames_size": 0}, True, id="no frames"),
        pytest.param({"frames_size": 1}, True, id="no longer held by frames"),
        pytest.param({"frames_size": 1, "store_history": True, "history_size": 1}, True, id="no longer held by either"),
    ],
)
def test_a_message_is_not_taken_twice_while_it_is_held(config: ConfigChange, taken_again: bool) -> None:
    lobby = channel(**config)
    for uuid in ("m1", "m2", "m3"):
        assert lobby.publish(publication(uuid), NOW) is not None
    assert (lobby.publish(publication("m1"), NOW) is not None) is taken_again
    assert lobby.seq == (4 if taken_again else 3)


def test_history_keeps_its_size() -> None:
    lobby = channel(store_history=True, history_size=2)
    for number in range(5):
        lobby.publish(publication(f"m{number}"), NOW)
    assert history(lobby) == ["m3", "m4"]


def test_a_history_of_no_size_holds_nothing() -> None:
    lobby = channel(store_history=True, history_size=0)
    lobby.publish(publication(), NOW)
    assert history(lobby) == []


@pytest.mark.parametrize(("after", "shown"), [(59.0, ["m1"]), (60.0, []), (3600.0, [])])
def test_history_is_not_shown_when_it_is_too_old(after: float, shown: list[str]) -> None:
    lobby = channel(store_history=True, history_ttl=60)
    lobby.publish(publication(), NOW)
    assert history(lobby, Now(NOW.mono + after, NOW.wall + after)) == shown


def test_without_a_limit_history_does_not_age() -> None:
    lobby = channel(store_history=True)
    lobby.publish(publication(), NOW)
    assert history(lobby, Now(NOW.mono, NOW.wall + 1e9)) == ["m1"]


def test_history_is_in_the_form_in_which_clients_get_it() -> None:
    lobby = channel(store_history=True)
    lobby.publish(publication(), NOW)
    assert told(lobby)["history"] == [{"uuid": "m1", "catchup": False, "seq": 1}]


# --- presence ---


def ann() -> Person:
    person = Person("ann")
    person.public = {"mood": "fine"}
    return person


def test_presence_is_not_told_unless_asked() -> None:
    lobby = channel()
    assert lobby.presence(ann(), "joined", "p1", NOW) is None
    assert lobby.seq == 0


@pytest.mark.parametrize(("action", "state"), [("joined", {"mood": "fine"}), ("parted", None)])
def test_presence_is_told_to_all_but_the_user(action: str, state: object) -> None:
    deliver = channel(notify_presence=True).presence(ann(), action, "p1", NOW)
    assert deliver is not None
    assert (deliver.only, deliver.exclude) == (None, ["ann"])
    assert msgspec.json.decode(deliver.body) == {
        "type": "presence",
        "uuid": "p1",
        "timestamp": "2023-11-14T22:13:20.000000",
        "date": "2023-11-14T22:13:20.000000",
        "user": "ann",
        "channel": "lobby",
        "message": {"action": action},
        "users": [],
        "state": state,
        "catchup": False,
        "seq": 1,
    }


def test_presence_lists_the_users_where_asked() -> None:
    lobby = channel(notify_presence=True, broadcast_presence_with_user_lists=True)
    person = ann()
    lobby.members_by_user.add(person)
    deliver = lobby.presence(person, "joined", "p1", NOW)
    assert deliver is not None
    assert msgspec.json.decode(deliver.body)["users"] == [{"user": "ann", "state": {"mood": "fine"}}]


# --- what is told of it ---


def test_all_that_is_told() -> None:
    lobby = channel(history_size=3)
    for conn_id, user in (("k1", "bob"), ("k2", "ann"), ("k3", "ann")):
        lobby.join(Connection(conn_id, user, 0.0))
    bob, ann_ = Person("bob"), Person("ann")
    for person in (bob, ann_, ann_):
        lobby.members_by_user.add(person)
    assert told(lobby) == {
        "name": "lobby",
        "long_name": None,
        "uuid": "u1",
        "settings": msgspec.to_builtins(ChannelConfig(history_size=3)),
        "history": [],
        "last_active": "2023-11-14T22:13:20.000000",
        "total_connections": 3,
        "total_users": 2,
        "users": ["ann", "bob"],
        "seq": 0,
        "epoch": "e1",
    }


def test_without_users_the_totals_are_still_right() -> None:
    lobby = channel(store_history=True)
    lobby.members_by_user.add(Person("ann"))
    lobby.publish(publication(), NOW)
    shown = told(lobby, history=False, users=False)
    assert (shown["users"], shown["total_users"], shown["history"], shown["seq"]) == ([], 1, [], 1)


def test_a_message_makes_it_active() -> None:
    lobby = channel()
    lobby.publish(publication(), Now(105.0, NOW.wall + 5))
    assert (told(lobby)["last_active"], lobby.last_active_mono) == ("2023-11-14T22:13:25.000000", 105.0)


# --- saved and restored ---


def test_what_a_store_is_told() -> None:
    assert channel(history_size=3).saved() == ChannelSaved("lobby", "u1", "e1", 0, ChannelConfig(history_size=3))


def test_a_restored_channel_goes_on_behind_its_history() -> None:
    messages = [StoredMessage(f"m{seq}", seq, b'{"uuid":"m%d"}' % seq, NOW.wall) for seq in (4, 9)]
    saved = SavedChannel("u1", "e1", 9, ChannelConfig(store_history=True), messages)
    lobby = Channel.restored("lobby", saved, None, "e2", NOW)
    assert (lobby.uuid, lobby.epoch, lobby.seq, history(lobby)) == ("u1", "e1", 9, ["m4", "m9"])
    assert lobby.publish(publication("m9"), NOW) is None
    taken = lobby.publish(publication("m10"), NOW)
    assert taken is not None
    assert taken[0].seq == 10


def test_what_is_delivered_says_what_becomes_of_slow_clients() -> None:
    lobby = channel()
    flags = []
    for change in ({}, {"skip_when_slow": True}, {"skip_when_slow": False}):
        lobby.configure(change, NOW)
        deliver, _ = lobby.publish(publication(f"m{len(flags)}"), NOW) or (None, None)
        assert deliver is not None
        flags.append(deliver.skippable)
    assert flags == [False, True, False]
