"""What only ZeroMQ can get wrong: how its sockets are set, and who else comes. The rest is in tests/contract."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from channelstream.bus.base import MAX_FRAME_BYTES
from channelstream.bus.zeromq import BATCHES_A_TURN, ZeroMqBus, ZeroMqListener
from channelstream.clock import monotonic
from channelstream.wire import codec
from channelstream.wire.messages import Ask, BeatAnswer, GetStatus

DEADLINE_S = 10.0


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="zmq") as folder:
        yield f"ipc://{Path(folder, 's')}"


@pytest.fixture
def bus() -> Iterator[ZeroMqBus]:
    bus = ZeroMqBus()
    yield bus
    bus.close()


@pytest.fixture
def listener(bus: ZeroMqBus, address: str) -> Iterator[ZeroMqListener]:
    listener = bus.listen(address, 1, 1000)
    yield listener
    listener.close()


@pytest.fixture
def stranger() -> Iterator[Any]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        yield socket


def batch(*numbers: int) -> bytes:
    return codec.join(0, 1, [codec.encode(Ask(number, 0.0, GetStatus())) for number in numbers])


def received(listener: Any, count: int) -> list[int]:
    """The numbers of so many asks."""
    got: list[int] = []
    deadline = monotonic() + DEADLINE_S
    while len(got) < count:
        assert monotonic() < deadline, f"only {got} came"
        got += [message.number for _, messages, _ in listener.receive(0.05) for message in messages]
    return got


def test_sockets_are_bounded_and_never_wait_at_the_end(bus: ZeroMqBus, listener: ZeroMqListener, address: str) -> None:
    dialer = bus.dial("edge-0:a", address, 1000)
    sockets: tuple[Any, Any] = (listener._socket, dialer._socket)
    for socket in sockets:
        assert socket.linger == 0
        assert 0 < socket.sndhwm <= 10_000
        assert 0 < socket.rcvhwm <= 10_000
        assert socket.maxmsgsize == MAX_FRAME_BYTES
        assert 0 < socket.heartbeat_ivl < socket.heartbeat_timeout <= 5000
        assert 0 < socket.handshake_ivl <= 5000
        assert 0 < socket.reconnect_ivl <= socket.reconnect_ivl_max <= 5000
    assert dialer._socket.identity == b"edge-0:a"
    dialer.close()


def test_the_file_of_a_former_life_is_in_nobodys_way(address: str, stranger: Any) -> None:
    stranger.connect(address)
    for number in (1, 2):
        bus = ZeroMqBus()
        listener = bus.listen(address, number, 1000)
        stranger.send(batch(number))
        assert received(listener, 1) == [number]
        listener.close()
        bus.close()
        assert os.path.exists(address.removeprefix("ipc://"))


def test_a_batch_in_several_frames_is_read_as_one(listener: ZeroMqListener, address: str, stranger: Any) -> None:
    stranger.connect(address)
    whole = batch(1, 2)
    stranger.send_multipart([whole[:5], whole[5:20], whole[20:]])
    assert received(listener, 2) == [1, 2]


def test_a_stranger_without_a_proper_name_hurts_nobody(listener: ZeroMqListener, address: str, stranger: Any) -> None:
    stranger.identity = b"\xff\xfe not a name"
    stranger.connect(address)
    stranger.send(batch(1))
    ((peer, _, _),) = _first(listener)
    listener.send(peer, codec.encode(BeatAnswer("s")))
    assert listener.flush() == [peer]  # no way leads back there
    stranger.send(batch(2))
    assert received(listener, 1) == [2]


def _first(listener: Any) -> list[Any]:
    deadline = monotonic() + DEADLINE_S
    while not (got := listener.receive(0.05)):
        assert monotonic() < deadline, "nothing came"
    return list(got)


def test_a_flood_is_read_in_turns_and_nothing_of_it_is_lost(
    listener: ZeroMqListener, address: str, stranger: Any
) -> None:
    stranger.sndhwm = 10 * BATCHES_A_TURN
    stranger.connect(address)
    total = 3 * BATCHES_A_TURN
    for number in range(total):
        stranger.send(batch(number))
    sizes: list[int] = []
    got: list[int] = []
    deadline = monotonic() + DEADLINE_S
    while len(got) < total:
        assert monotonic() < deadline, f"only {len(got)} came"
        turn = listener.receive(0.05)
        sizes.append(len(turn))
        got += [message.number for _, messages, _ in turn for message in messages]  # type: ignore[union-attr]
    assert got == list(range(total))
    assert max(sizes) <= BATCHES_A_TURN
