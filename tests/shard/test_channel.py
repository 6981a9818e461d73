"""A channel: its configuration, what it takes, whom it tells, what is told of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.clock import Now
from channelstream.shard.channel import Channel, Taken, configured
from channelstream.shard.connection import Connection
from channelstream.shard.members import Person
from channelstream.shard.store.base import ChannelCounted, ChannelSaved, MessageSaved, SavedChannel, StoredMessage
from channelstream.shard.topic import new_ones
from channelstream.wire.messages import ChannelConfig, ConfigChange, Publication

NOW = Now(100.0, 1_700_000_000.0)


def channel(**config: Any) -> Channel:
    return Channel("lobby", "u1", "e1", ChannelConfig(**config), NOW)


def publication(uuid: str = "m1", **options: Any) -> Publication:
    return Publication(["c/lobby"], [uuid], [b'{"uuid":"%b"}' % uuid.encode()], **options)


def publish(lobby: Channel, taken: Publication, now: Now = NOW) -> list[Taken]:
    """What comes of a publication, part by part."""
    return [lobby.publish(uuids, bodies, taken, now) for uuids, bodies in new_ones(taken, lobby.knows_any)]


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
    ((deliver, writes, undone),) = publish(channel(), publication())
    assert (deliver.seq, writes, undone) == (1, [], ())


def test_a_channel_with_history_stores_what_it_takes() -> None:
    (taken,) = publish(channel(store_history=True, history_size=3), publication())
    message = StoredMessage("m1", 1, b'{"uuid":"m1"}', NOW.wall)
    assert (taken.writes, taken.undone) == ([MessageSaved("lobby", message)], ["m1"])


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
    (taken,) = publish(lobby, publication(**options))
    assert [type(write) for write in taken.writes] == [MessageSaved if is_stored else ChannelCounted]
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
        assert publish(lobby, publication(uuid))
    assert bool(publish(lobby, publication("m1"))) is taken_again
    assert lobby.seq == (4 if taken_again else 3)


def test_history_keeps_its_size() -> None:
    lobby = channel(store_history=True, history_size=2)
    for number in range(5):
        publish(lobby, publication(f"m{number}"))
    assert history(lobby) == ["m3", "m4"]


def test_a_history_of_no_size_holds_nothing() -> None:
    lobby = channel(store_history=True, history_size=0)
    publish(lobby, publication())
    assert history(lobby) == []


@pytest.mark.parametrize(("after", "shown"), [(59.0, ["m1"]), (60.0, []), (3600.0, [])])
def test_history_is_not_shown_when_it_is_too_old(after: float, shown: list[str]) -> None:
    lobby = channel(store_history=True, history_ttl=60)
    publish(lobby, publication())
    assert history(lobby, Now(NOW.mono + after, NOW.wall + after)) == shown


def test_without_a_limit_history_does_not_age() -> None:
    lobby = channel(store_history=True)
    publish(lobby, publication())
    assert history(lobby, Now(NOW.mono, NOW.wall + 1e9)) == ["m1"]


def test_history_is_in_the_form_in_which_clients_get_it() -> None:
    lobby = channel(store_history=True)
    publish(lobby, publication())
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
    assert msgspec.json.decode(deliver.bodies[0]) == {
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
    assert msgspec.json.decode(deliver.bodies[0])["users"] == [{"user": "ann", "state": {"mood": "fine"}}]


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
    publish(lobby, publication())
    shown = told(lobby, history=False, users=False)
    assert (shown["users"], shown["total_users"], shown["history"], shown["seq"]) == ([], 1, [], 1)


def test_a_message_makes_it_active() -> None:
    lobby = channel()
    publish(lobby, publication(), Now(105.0, NOW.wall + 5))
    assert (told(lobby)["last_active"], lobby.last_active_mono) == ("2023-11-14T22:13:25.000000", 105.0)


# --- saved and restored ---


def test_what_a_store_is_told() -> None:
    assert channel(history_size=3).saved() == ChannelSaved("lobby", "u1", "e1", 0, ChannelConfig(history_size=3))


def test_a_restored_channel_goes_on_behind_its_history() -> None:
    messages = [StoredMessage(f"m{seq}", seq, b'{"uuid":"m%d"}' % seq, NOW.wall) for seq in (4, 9)]
    saved = SavedChannel("u1", "e1", 9, ChannelConfig(store_history=True), messages)
    lobby = Channel.restored("lobby", saved, None, "e2", NOW)
    assert (lobby.uuid, lobby.epoch, lobby.seq, history(lobby)) == ("u1", "e1", 9, ["m4", "m9"])
    assert publish(lobby, publication("m9")) == []
    (taken,) = publish(lobby, publication("m10"))
    assert taken.deliver.seq == 10


def test_what_is_delivered_says_what_becomes_of_slow_clients() -> None:
    lobby = channel()
    flags = []
    for change in ({}, {"skip_when_slow": True}, {"skip_when_slow": False}):
        lobby.configure(change, NOW)
        (taken,) = publish(lobby, publication(f"m{len(flags)}"))
        flags.append(taken.deliver.skippable)
    assert flags == [False, True, False]


@given(
    runs=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), max_size=5),
    config=st.sampled_from(
        [{}, {"store_history": True, "history_size": 3}, {"store_frames": False, "store_history": True}]
    ),
    options=st.lists(st.sampled_from([{}, {"exclude": ["ann"]}, {"no_history": True}]), min_size=5, max_size=5),
)
def test_messages_that_come_together_are_taken_as_those_that_come_one_after_another(
    runs: list[list[int]], config: dict[str, Any], options: list[dict[str, Any]]
) -> None:
    together, apart = channel(**config), channel(**config)
    for run, option in zip(runs, options, strict=False):
        singles = [publication(f"m{number}", **option) for number in run]
        uuids, bodies = [one.uuids[0] for one in singles], [one.bodies[0] for one in singles]
        at_once = publish(together, Publication(["c/lobby"], uuids, bodies, **option))
        one_by_one = [taken for one in singles for taken in publish(apart, one)]
        for found in (at_once, one_by_one):
            assert [write.message.uuid for taken in found for write in taken.writes if type(write) is MessageSaved] == [
                uuid for taken in found for uuid in taken.undone
            ]
        assert [body for taken in at_once for body in taken.deliver.bodies] == [
            body for taken in one_by_one for body in taken.deliver.bodies
        ]
        together.settle()
        apart.settle()
    assert together.saved_frames() == apart.saved_frames()
    assert list(together.history) == list(apart.history)
