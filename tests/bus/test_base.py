"""The queue to one peer: order, bounds, and what makes a batch."""

from __future__ import annotations

import pytest

from channelstream.bus.base import MAX_BATCH_BYTES, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, Outgoing
from channelstream.errors import MessageTooLarge, QueueFull


def test_an_empty_queue_has_nothing() -> None:
    queue = Outgoing("edge-0:a", 100)
    assert (bool(queue), queue.bytes, list(queue.next_batch())) == (False, 0, [])


def test_all_that_waits_is_one_batch_in_its_order() -> None:
    queue = Outgoing("edge-0:a", 100)
    for encoded in (b"one", b"two", b"three"):
        queue.push(encoded)
    assert list(queue.next_batch()) == [b"one", b"two", b"three"]
    assert queue.bytes == 11


def test_a_batch_stays_in_the_queue_until_it_is_sent() -> None:
    queue = Outgoing("edge-0:a", 100)
    queue.push(b"one")
    queue.push(b"two")
    assert list(queue.next_batch()) == list(queue.next_batch())
    queue.sent(1)
    assert (list(queue.next_batch()), queue.bytes) == ([b"two"], 3)
    queue.sent(1)
    assert (bool(queue), queue.bytes) == (False, 0)


def test_what_does_not_fit_is_not_taken_and_nothing_is_lost() -> None:
    queue = Outgoing("edge-0:a", 10)
    queue.push(b"123456")
    queue.push(b"1234")
    with pytest.raises(QueueFull) as caught:
        queue.push(b"x")
    assert (caught.value.peer, caught.value.waiting_bytes, caught.value.bound_bytes) == ("edge-0:a", 10, 10)
    assert list(queue.next_batch()) == [b"123456", b"1234"]


def test_an_empty_queue_takes_a_message_of_any_size() -> None:
    queue = Outgoing("edge-0:a", 10)
    queue.push(b"x" * 1000)
    with pytest.raises(QueueFull):
        queue.push(b"")
    queue.sent(1)
    queue.push(b"y" * 1000)
    assert queue.bytes == 1000


def test_a_message_that_no_socket_would_take_is_refused() -> None:
    assert MAX_MESSAGE_BYTES < MAX_FRAME_BYTES
    queue = Outgoing("edge-0:a", 10)
    with pytest.raises(MessageTooLarge):
        queue.push(bytes(MAX_MESSAGE_BYTES + 1))
    assert (bool(queue), queue.bytes) == (False, 0)


def test_a_batch_is_closed_at_its_size() -> None:
    half = b"x" * (MAX_BATCH_BYTES // 2)
    queue = Outgoing("edge-0:a", 10 * MAX_BATCH_BYTES)
    for _ in range(3):
        queue.push(half)
    assert len(queue.next_batch()) == 2
    queue.sent(2)
    assert len(queue.next_batch()) == 1


def test_a_message_larger_than_a_batch_is_one_by_itself() -> None:
    queue = Outgoing("edge-0:a", 10 * MAX_BATCH_BYTES)
    for encoded in (b"x" * (MAX_BATCH_BYTES + 1), b"y"):
        queue.push(encoded)
    assert [len(encoded) for encoded in queue.next_batch()] == [MAX_BATCH_BYTES + 1]


def test_what_is_to_come_first_does_and_needs_no_room() -> None:
    queue = Outgoing("shard", 4)
    queue.push(b"last")
    queue.push_first([b"first", b"second"])
    assert (queue.next_batch(), queue.bytes) == ([b"first", b"second", b"last"], 15)
    with pytest.raises(QueueFull):
        queue.push(b"x")


def test_a_cleared_queue_has_nothing() -> None:
    queue = Outgoing("edge-0:a", 100)
    queue.push(b"one")
    queue.clear()
    assert (bool(queue), queue.bytes) == (False, 0)
