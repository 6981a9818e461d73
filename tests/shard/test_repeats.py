"""Asks that come twice: in one life, and in the next one, which may know what the former one did."""

from __future__ import annotations

import json
from typing import Any

import pytest

from channelstream.shard import repeats
from channelstream.shard.effects import Broadcast, Reply, Send, Tell
from channelstream.shard.repeats import Answers, completed
from channelstream.shard.store.base import Saved, UserSaved
from channelstream.wire.messages import (
    AddChannels,
    Ask,
    Chain,
    Chained,
    ChangeUser,
    Channels,
    Claim,
    Claimed,
    CloseConnection,
    ConnectionState,
    DeleteMessages,
    Deletion,
    Deliver,
    Done,
    Edit,
    EditMessages,
    EnterUser,
    GetStatus,
    Join,
    OpenConnection,
    OtherUser,
    Publication,
    Publish,
    RemoveChannels,
    Result,
    TakeConnection,
    TellState,
    Unknown,
    UserChanged,
    UserState,
)

ROUTER = "router-0:r"
EDGE = "edge-0:a"
Driver = Any


def say(driver: Driver, command: Any, number: int = 900, peer: str = ROUTER, again: bool = False) -> tuple[Result, Any]:
    """The answer to an ask, and whatever else it causes."""
    ask = Ask(number, driver.clock.now.mono + 2.0, command, again=again)
    effects = driver.handle(peer, ask)
    sent = [one for one in effects if isinstance(one, Reply) or (isinstance(one, Send) and one.peer == peer)]
    (answer,) = (one.answer if isinstance(one, Reply) else one.message for one in sent)
    driver.mail[peer].remove(answer)
    return answer.result, [one for one in effects if one not in sent]


def deliveries(effects: Any) -> list[Deliver]:
    return [one.deliver if isinstance(one, Tell) else one.message for one in effects if isinstance(one, DELIVERING)]


DELIVERING = (Broadcast, Tell)


COMMANDS = [
    OpenConnection("k2", "bob", ["lobby"]),
    AddChannels("k1", ["new", "lobby"]),
    RemoveChannels("k1", ["lobby"]),
    CloseConnection("k1"),
    TakeConnection("k1"),
    EnterUser("ann", "k1", {}, {"x": 1}, ["x"], "", 0, 0.0),
    Publish([Publication(["c/lobby"], ["m1"], [b'{"x":1}'])]),
    EditMessages([Edit(["c/lobby"], "m0", {"message": b"2"}, b'{"x":2}')]),
    DeleteMessages([Deletion(["c/lobby"], "m0", b'{"x":3}')]),
    ChangeUser("ann", {"age": 2}, ["age"]),
    TellState("ann", {"age": 2}, ["age"]),
    Claim("nonce", 60.0),
]


@pytest.fixture
def lively(driver: Driver) -> Driver:
    """A shard with ann on a channel that tells everything and keeps no frames, held by an edge."""
    driver.connect("k1", "ann", ["lobby"], {"lobby": {"notify_state": True, "store_frames": False}})
    driver.hold("k1", EDGE)
    driver.publish("c/lobby", "m0")
    return driver


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_the_same_life_answers_the_same_and_does_nothing(lively: Driver, command: Any) -> None:
    first, _ = say(lively, command)
    second, effects = say(lively, command, again=True)
    assert (second, effects) == (first, [])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_every_command_that_changes_something_is_remembered(command: Any) -> None:
    answers = Answers()
    answers.remember(ROUTER, Ask(1, 5.0, command), Done())
    assert answers.of(ROUTER, Ask(1, 5.0, command, again=True)) == Done()


CHAIN = Chain(
    [
        OpenConnection("k2", "bob", ["lobby"]),
        EnterUser("bob", "k2", {}, {"x": 1}, ["x"]),
        Join("k2", "bob", {}, ["lobby"], {}, ["lobby"], True, True),
    ]
)


def test_a_chain_that_comes_again_changes_nothing_and_tells_channels_as_they_are_now(lively: Driver) -> None:
    first, _ = say(lively, CHAIN)
    lively.ask(ChangeUser("bob", {"x": 2}, None))  # later than the chain, so that its state counts
    lively.connect("k3", "cid", ["lobby"])

    second, effects = say(lively, CHAIN, again=True)

    assert effects == []
    assert second.results[:2] == first.results[:2]  # type: ignore[union-attr]
    assert lively.user("bob", include_connections=False)["state"] == {"x": 2}
    assert json.loads(second.results[2].channels[0].json)["users"] == ["ann", "bob", "cid"]  # type: ignore[union-attr]


def test_of_a_chain_what_its_steps_have_answered_is_remembered_but_for_what_may_be_large() -> None:
    answers = Answers()
    results: list[Result] = [ConnectionState("bob", [], [], "", 0, 0.0), UserState({}, {}), Channels([])]
    answers.remember(ROUTER, Ask(1, 5.0, CHAIN), Chained(results))
    answers.remember(ROUTER, Ask(2, 5.0, CHAIN), Chained([OtherUser()]))
    assert answers.of(ROUTER, Ask(1, 5.0, CHAIN, again=True)) == Chained(results[:2])
    assert answers.of(ROUTER, Ask(2, 5.0, CHAIN, again=True)) == Chained([OtherUser()])


def test_a_chain_that_was_refused_is_refused_again(lively: Driver) -> None:
    theirs = Chain([OpenConnection("k1", "bob", ["lobby"]), *CHAIN.steps[1:]])
    assert say(lively, theirs)[0] == Chained([OtherUser()])
    lively.disconnect("k1")
    assert say(lively, theirs, again=True)[0] == Chained([OtherUser()])


def test_what_only_asks_is_carried_out_again(lively: Driver) -> None:
    say(lively, GetStatus())
    lively.connect("k9", "zoe")
    status, _ = say(lively, GetStatus(), again=True)
    assert status.own.connections == 2


def test_an_ask_that_is_not_marked_is_another_one(lively: Driver) -> None:
    assert say(lively, Claim("nonce", 60.0))[0] == Claimed(True)
    assert say(lively, Claim("nonce", 60.0))[0] == Claimed(False)


def test_answers_are_told_apart_by_who_asked(lively: Driver) -> None:
    assert say(lively, Claim("nonce", 60.0))[0] == Claimed(True)
    assert say(lively, Claim("nonce", 60.0), peer="router-1:r", again=True)[0] == Claimed(False)


def test_an_ask_that_never_came_is_carried_out_when_it_comes_again(lively: Driver) -> None:
    result, effects = say(lively, Publish([Publication(["c/lobby"], ["m1"], [b'{"x":1}'])]), again=True)
    assert result == Done()
    assert [one.seq for one in deliveries(effects)] == [2]


def test_answers_are_forgotten_when_nobody_waits_for_them_any_more() -> None:
    answers = Answers()
    answers.remember(ROUTER, Ask(1, 5.0, Claim("a", 1.0)), Claimed(True))
    answers.remember(ROUTER, Ask(2, 5.5, Claim("b", 1.0)), Claimed(True))
    answers.remember(EDGE, Ask(1, 5.0, Claim("c", 1.0)), Claimed(True))
    answers.forget_before(5.0)
    assert len(answers) == 3
    answers.forget_before(5.5)
    assert len(answers) == 1
    assert answers.of(ROUTER, Ask(1, 5.0, Claim("a", 1.0), again=True)) is None
    assert answers.of(ROUTER, Ask(2, 5.5, Claim("b", 1.0), again=True)) == Claimed(True)


def test_a_shard_that_is_asked_nothing_more_forgets_them_too(driver: Driver) -> None:
    say(driver, Claim("a", 60.0))
    driver.clock.advance(2.1)
    driver.tick()
    assert len(driver.shard._answers) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST_REMEMBERED", 10)
    answers = Answers()
    for number in range(25):
        answers.remember(ROUTER, Ask(number, 9.0, Claim("a", 1.0)), Claimed(True))
    assert len(answers) == 10
    assert answers.of(ROUTER, Ask(24, 9.0, Claim("a", 1.0), again=True)) == Claimed(True)


# --- the next life ---


def test_a_claim_is_fresh_again_in_the_next_life(driver: Driver) -> None:
    command = Claim("nonce", 60.0)
    assert say(driver, command)[0] == Claimed(True)
    driver.restart()
    assert say(driver, command, again=True)[0] == Claimed(True)


def test_a_state_that_the_former_life_has_stored_is_still_told_of(driver: Driver) -> None:
    driver.restart(Saved(users={"ann": UserSaved("ann", {"age": 2, "town": "x"}, ("age",))}))
    result, _ = say(driver, ChangeUser("ann", {"age": 2}, None), again=True)
    assert result == UserChanged({"age": 2, "town": "x"}, {"age": 2}, ["age"], ["age"], True)


@pytest.mark.parametrize(
    ("command", "result", "expected"),
    [
        (AddChannels("k", ["b", "a", "b"]), ConnectionState("ann", ["a", "b"], [], "", 0, 0.0), ["b", "a"]),
        (AddChannels("k", ["a", "b"]), ConnectionState("ann", ["a", "b"], ["b"], "", 0, 0.0), ["b"]),
        (RemoveChannels("k", ["a"]), ConnectionState("ann", [], [], "", 0, 0.0), ["a"]),
        (ChangeUser("ann", {"x": 1, "y": 2}, None), UserChanged({"x": 1, "y": 2}, {}, [], []), ["x", "y"]),
        (ChangeUser("ann", {"x": 1, "y": 2}, None), UserChanged({"x": 1, "y": 2}, {}, ["y"], []), ["y"]),
    ],
)
def test_where_nothing_is_left_to_change_all_is_answered_as_changed(
    command: Any, result: Any, expected: list[str]
) -> None:
    told = completed(command, result)
    assert told.changed == expected  # type: ignore[union-attr]


def test_that_others_are_to_hear_of_a_public_state_is_answered_in_any_case() -> None:
    entered = completed(EnterUser("ann", "k", {}, {}, None, "", 0, 0.0), UserState({}, {}, False))
    assert entered == UserState({}, {}, True)


def test_the_steps_of_a_chain_are_completed_as_they_would_be_by_themselves() -> None:
    opened, channels = ConnectionState("bob", [], [], "", 0, 0.0), Channels([])
    told = completed(CHAIN, Chained([opened, UserState({}, {}, False), channels]))
    assert told == Chained([opened, UserState({}, {}, True), channels])
    assert completed(CHAIN, Chained([OtherUser()])) == Chained([OtherUser()])


def test_other_answers_stay() -> None:
    assert completed(AddChannels("k", ["a"]), Unknown()) == Unknown()
    assert completed(Claim("k", 1.0), Claimed(False)) == Claimed(False)
    taken = ConnectionState("ann", ["a"], [], EDGE, 3, 0.0)
    assert completed(TakeConnection("k"), taken) == taken
