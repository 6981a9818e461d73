"""Publishers: one message after the other, each until it is answered."""

from __future__ import annotations

import pytest

from channelstream.checking import publishers
from channelstream.checking.api import Reply
from channelstream.checking.history import NO_ANSWER, History, Outcome
from channelstream.checking.publishers import Publisher, message_for
from channelstream.ids import channel_key, user_key

TOPICS = [channel_key("a"), user_key("ann")]


class Backend:
    """Answers with what it is given, then with success; ends the publisher after so many calls."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[dict[str, object]] = []
        self.closed = False
        self.publisher: Publisher | None = None
        self.last = 10

    def call(self, path, body):
        assert path == "/message"
        self.bodies += body
        assert self.publisher is not None
        if len(self.bodies) >= self.last:
            self.publisher.give_up()
        return Reply(self.statuses.pop(0) if self.statuses else 200, b"", "why")

    def close(self):
        self.closed = True


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(publishers, "AGAIN_AFTER_S", (0.0, 0.001))

    def make(*statuses, last=10):
        backend, history = Backend(*statuses), History()
        backend.last = last
        backend.publisher = Publisher("pub", backend, TOPICS, 10_000.0, history, 1)
        return backend.publisher, backend, history

    return make


def test_a_message_for_a_channel_and_one_for_a_user():
    assert message_for("pub", 1, channel_key("a"), "x")["channel"] == "a"
    private = message_for("pub", 1, user_key("ann"), "x")
    assert private["pm_users"] == ["ann"]
    assert "channel" not in private


def test_topics_in_turn_each_with_a_uuid_of_its_own(made):
    publisher, backend, history = made(last=4)
    publisher.run()
    assert [body.get("channel") for body in backend.bodies] == ["a", None, "a", None]
    assert len({body["uuid"] for body in backend.bodies}) == 4
    assert [(one.number, one.topic) for one in history.attempts()] == [
        (1, "c/a"), (2, "u/ann"), (3, "c/a"), (4, "u/ann"),
    ]  # fmt: skip
    assert backend.closed


def test_the_same_uuid_until_it_is_answered(made):
    publisher, backend, history = made(NO_ANSWER, 503, 500, 200)
    assert publisher.publish(1, TOPICS[0]) is Outcome.OK
    assert len({body["uuid"] for body in backend.bodies}) == 1
    assert [one.status for one in history.attempts()] == [NO_ANSWER, 503, 500, 200]
    assert {one.reason for one in history.attempts()} == {"why"}


@pytest.mark.parametrize("status", [422, 507])
def test_a_refusal_is_an_answer(made, status):
    publisher, backend, _ = made(status)
    assert publisher.publish(1, TOPICS[0]) is Outcome.FAILED
    assert len(backend.bodies) == 1


def test_who_gives_up_repeats_nothing(made):
    publisher, backend, history = made(*[503] * 50, last=3)
    publisher.run()
    assert len(backend.bodies) == 3
    (message,) = history.messages()
    assert (message.outcome, message.attempts) == (Outcome.UNKNOWN, 3)


def test_the_same_seed_makes_the_same_uuids(made):
    uuids = []
    for _ in range(2):
        publisher, backend, _ = made(last=3)
        publisher.run()
        uuids.append([body["uuid"] for body in backend.bodies])
    assert uuids[0] == uuids[1]
