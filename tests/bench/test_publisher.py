"""A publisher, here and as a fork."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from bench.publisher import Done, Order, Publisher, PublisherFailed, publish
from bench.systems import Message


class Sender:
    """Keeps what is sent, and refuses what is too long."""

    def __init__(self) -> None:
        self.sent: list[Sequence[Message]] = []

    def send(self, messages: Sequence[Message]) -> None:
        if len(messages[0].text) > 1000:
            raise ValueError("too long")
        self.sent.append(messages)

    def close(self) -> None:
        """Nothing to close."""


def test_all_of_it_in_batches():
    sender = Sender()
    done = publish(sender, Order(7, size=20, batch=3))
    assert done.messages == 7
    assert [len(messages) for messages in sender.sent] == [3, 3, 1]
    assert {message.text for messages in sender.sent for message in messages} == {"@@" + "x" * 18}


def test_a_message_says_when_it_was_sent():
    sender = Sender()
    before = time.monotonic_ns()
    publish(sender, Order(3, rate=1000))
    stamps = [messages[0].t for messages in sender.sent]
    assert before < stamps[0] < stamps[1] < stamps[2] <= time.monotonic_ns()
    assert stamps[2] - before >= 3_000_000


def test_after_a_time_it_is_enough():
    sender = Sender()
    done = publish(sender, Order(1000, rate=100, at_most_s=0.03))
    assert done.messages == len(sender.sent) < 100


def test_a_fork_publishes_one_order_after_another():
    with Publisher(Sender) as publisher:
        assert isinstance(publisher.publish(Order(5)), Done)
        publisher.start(Order(2))
        while (done := publisher.done()) is None:
            time.sleep(0.001)
        assert done.messages == 2


def test_what_a_system_says_no_to_is_told():
    with Publisher(Sender) as publisher, pytest.raises(PublisherFailed, match="ValueError: too long"):
        publisher.publish(Order(1, size=2000))


def test_a_publisher_that_is_gone_is_told():
    with Publisher(Sender) as publisher:
        with pytest.raises(PublisherFailed):
            publisher.publish(Order(1, size=2000))
        with pytest.raises(PublisherFailed, match="gone"):
            publisher.publish(Order(1))
