"""A user: state, public keys, private messages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from channelstream.shard.connection import Connection
from channelstream.shard.store.base import UserSaved
from channelstream.shard.topic import new_ones
from channelstream.shard.user import PRIVATE_FRAMES, User
from channelstream.wire.messages import Publication


@pytest.fixture
def ann() -> User:
    return User("ann", "e1", 100.0)


def told(user: User, include_connections: bool = False, public_only: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.json.decode(user.info(include_connections, public_only))
    return shown


def test_state_is_merged(ann: User) -> None:
    assert ann.change({"a": 1, "b": 2}, None)
    assert ann.change({"b": 3}, None)
    assert ann.state == {"a": 1, "b": 3}


def test_public_keys_are_replaced_where_given(ann: User) -> None:
    assert ann.change({}, ["a", "b", "a"])
    assert ann.public_keys == ("a", "b")
    assert not ann.change({}, None)
    assert ann.change({}, [])
    assert not ann.public_keys


def test_what_changes_nothing_says_so(ann: User) -> None:
    ann.change({"a": 1}, ["a"])
    assert not ann.change({"a": 1}, ["a"])


def test_others_see_the_public_keys_alone(ann: User) -> None:
    ann.change({"a": 1, "secret": 2}, ["a", "missing"])
    assert ann.public() == {"a": 1}
    assert told(ann) == {"user": "ann", "state": {"a": 1, "secret": 2}}
    assert told(ann, public_only=True) == {"user": "ann", "state": {"a": 1}}


def test_connections_are_shown_where_asked(ann: User) -> None:
    for conn_id in ("k2", "k1"):
        ann.join(Connection(conn_id, "ann", 0.0))
    assert told(ann, include_connections=True)["connections"] == ["k1", "k2"]
    assert "connections" not in told(ann)


def test_what_is_saved_does_not_change_with_the_user(ann: User) -> None:
    ann.change({"a": 1}, ["a"])
    saved = ann.saved()
    ann.change({"a": 2}, [])
    assert saved == UserSaved("ann", {"a": 1}, ("a",))


def test_a_restored_user_is_what_was_saved(ann: User) -> None:
    ann.change({"a": 1}, ["a"])
    saved = ann.saved()
    again = User.restored(saved, None, "e2", 200.0)
    assert (again.name, again.state, again.public_keys, again.epoch) == ("ann", {"a": 1}, ("a",), "e2")
    again.change({"a": 2}, None)
    assert saved.state == {"a": 1}


def test_a_private_message_is_taken_once(ann: User) -> None:
    publication = Publication(["u/ann"], ["m1"], [b'{"uuid":"m1"}'])
    ((uuids, bodies),) = new_ones(publication, ann.holds_any)
    deliver = ann.publish(uuids, bodies)
    assert (deliver.topic, deliver.seq, deliver.bodies) == ("u/ann", 1, [b'{"uuid":"m1","catchup":false,"seq":1}'])
    assert list(new_ones(publication, ann.holds_any)) == []
    assert ann.seq == 1


def test_so_many_private_messages_are_kept(ann: User) -> None:
    for number in range(PRIVATE_FRAMES + 1):
        ann.publish([f"m{number}"], [b"{}"])
    assert not ann.holds("m0")
    assert ann.holds("m1")
    assert PRIVATE_FRAMES == 50


def test_a_value_of_another_kind_is_a_change() -> None:
    user = User("ann", "e", 0.0)
    assert user.change({"x": 1}, None) is True
    assert user.change({"x": True}, None) is True
    assert user.change({"x": True}, None) is False
