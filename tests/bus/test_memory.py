"""What only the bus in memory can do: misbehave when it is told to. What it shares with ZeroMQ is in tests/contract."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

from channelstream.bus.memory import Link, MemoryBus, MemoryDialer, MemoryListener
from channelstream.wire import codec
from channelstream.wire.messages import Ask, BeatAnswer, GetStatus

EDGE = "edge-0:a"


@pytest.fixture
def bus() -> Iterator[MemoryBus]:
    bus = MemoryBus(capacity=2)
    yield bus
    bus.close()


@pytest.fixture
def ends(bus: MemoryBus) -> tuple[MemoryListener, MemoryDialer, Link]:
    dialer = bus.dial(EDGE, "shard-0", 10_000)
    return bus.listen("shard-0", 1, 10_000), dialer, bus.links[EDGE, "shard-0"]


Ends = tuple[MemoryListener, MemoryDialer, Link]


def send_ask(dialer: MemoryDialer, number: int) -> None:
    dialer.send(codec.encode(Ask(number, 0.0, GetStatus())))
    dialer.flush()


def numbers(listener: MemoryListener) -> list[int]:
    return [
        message.number for _, messages, _ in listener.receive(0) for message in messages if isinstance(message, Ask)
    ]


def is_readable(end: Any) -> bool:
    return bool(select.select([end], [], [], 0)[0])


def test_a_held_link_gives_nothing_until_it_is_released(ends: Ends) -> None:
    listener, dialer, link = ends
    link.up.held = True
    send_ask(dialer, 1)
    assert (numbers(listener), is_readable(link.up)) == ([], False)
    link.up.release()
    assert is_readable(link.up)
    assert numbers(listener) == [1]


def test_one_direction_can_be_blocked_alone(ends: Ends) -> None:
    listener, dialer, link = ends
    link.down.held = True
    listener.send(EDGE, codec.encode(BeatAnswer("s")))
    assert listener.flush() == []
    send_ask(dialer, 1)
    assert numbers(listener) == [1]
    assert (dialer.receive(), dialer.has_work()) == ([], False)
    link.down.release()
    assert dialer.has_work()
    assert dialer.receive() == [BeatAnswer("s")]


def test_a_full_pipe_leaves_the_rest_in_the_queue(ends: Ends) -> None:
    listener, dialer, _ = ends
    for number in range(4):
        send_ask(dialer, number)
    assert dialer.waiting_bytes() > 0
    assert numbers(listener) == [0, 1]
    dialer.flush()
    assert numbers(listener) == [2, 3]
    assert dialer.waiting_bytes() == 0


def test_what_is_lost_in_the_pipe_does_not_come(ends: Ends) -> None:
    listener, dialer, link = ends
    send_ask(dialer, 1)
    link.up.lose_all()
    send_ask(dialer, 2)
    assert numbers(listener) == [2]


def test_a_reversed_pipe_breaks_the_order(ends: Ends) -> None:
    listener, dialer, link = ends
    send_ask(dialer, 1)
    send_ask(dialer, 2)
    link.up.reverse()
    assert numbers(listener) == [2, 1]


def test_a_descriptor_is_quiet_after_it_was_drained(ends: Ends) -> None:
    listener, dialer, _ = ends
    listener.send(EDGE, codec.encode(BeatAnswer("s")))
    listener.flush()
    assert is_readable(dialer)
    dialer.receive()
    assert not is_readable(dialer)


def test_addresses_are_apart(bus: MemoryBus) -> None:
    near, far = bus.dial(EDGE, "shard-0", 1000), bus.dial(EDGE, "shard-1", 1000)
    listener = bus.listen("shard-1", 1, 1000)
    send_ask(near, 1)
    send_ask(far, 2)
    assert numbers(listener) == [2]
