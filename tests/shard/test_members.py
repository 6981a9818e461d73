"""Users on a channel, counted by their connections."""

from __future__ import annotations

import pytest

from channelstream.shard.members import Members, Person


@pytest.fixture
def ann() -> Person:
    person = Person("ann")
    person.public = {"mood": "fine"}
    return person


def test_only_the_first_connection_of_a_user_is_its_coming(ann: Person) -> None:
    members = Members()
    assert [members.add(ann) for _ in range(3)] == [True, False, False]
    assert len(members) == 1


def test_only_the_last_connection_of_a_user_is_its_going(ann: Person) -> None:
    members = Members()
    for _ in range(3):
        members.add(ann)
    assert [members.remove(ann) for _ in range(3)] == [False, False, True]
    assert len(members) == 0


def test_who_comes_again_has_come_anew(ann: Person) -> None:
    members = Members()
    members.add(ann)
    members.remove(ann)
    assert members.add(ann)


def test_who_is_not_here_cannot_go(ann: Person) -> None:
    with pytest.raises(KeyError):
        Members().remove(ann)


def test_users_are_named_in_the_order_in_which_they_came(ann: Person) -> None:
    members = Members()
    for person in (Person("bob"), ann):
        members.add(person)
    assert members.names() == ["bob", "ann"]
    assert members.with_states() == [{"user": "bob", "state": {}}, {"user": "ann", "state": {"mood": "fine"}}]
