"""Users on a channel, counted by their connections."""

from __future__ import annotations

import pytest

from channelstream.shard import members
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


def test_a_listing_goes_with_who_comes_and_leaves(monkeypatch: pytest.MonkeyPatch, ann: Person) -> None:
    for kept_from in (1, 100):
        monkeypatch.setattr(members, "KEPT_FROM", kept_from)
        some, bob = Members(), Person("bob")
        for person in (bob, ann, ann):
            some.add(person)
        assert some.listing().json() == b'["ann","bob"]'
        some.remove(ann)
        assert some.listing().json() == b'["ann","bob"]'
        some.remove(ann)
        some.add(Person("aaa"))
        assert some.listing().json() == b'["aaa","bob"]'


def test_the_listing_of_many_is_kept_and_knows_what_has_changed(monkeypatch: pytest.MonkeyPatch, ann: Person) -> None:
    monkeypatch.setattr(members, "KEPT_FROM", 1)
    some, told = Members(), iter([b"1", b"2"])
    some.add(ann)

    def made(names: list[str]) -> bytes:
        return next(told)

    assert [some.listing().told(made) for _ in range(2)] == [b"[1]", b"[1]"]
    some.touch(ann)
    assert some.listing().told(made) == b"[2]"
