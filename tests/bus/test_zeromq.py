"""What only ZeroMQ can get wrong: how its sockets are set, and who else comes. The rest is in tests/contract."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from channelstream.bus.base import MAX_FRAME_BYTES, TURN_BYTES
from channelstream.bus.zeromq import BATCHES_A_TURN, ZeroMqBus, ZeroMqListener
from channelstream.clock import monotonic
from channelstream.errors import QueueFull
from channelstream.wire import codec
from channelstream.wire.messages import Ask, BeatAnswer, Claim, GetStatus

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


def _push(listener: ZeroMqListener, encoded: bytes, deadline: float) -> None:
    """Into a queue that holds one."""
    while True:
        listener.flush()
        try:
            listener.send("edge-0:a", encoded)
        except QueueFull:
            assert monotonic() < deadline
        else:
            return


def test_a_turn_takes_so_many_bytes_on_both_sides_and_the_rest_with_the_next(
    bus: ZeroMqBus, listener: ZeroMqListener, address: str
) -> None:
    dialer = bus.dial("edge-0:a", address, 100_000_000)
    for number in range(6):
        dialer.send(codec.encode(Ask(number, 0.0, Claim("k" * (TURN_BYTES // 2), 1.0))))
    turns: list[int] = []
    deadline = monotonic() + DEADLINE_S
    while sum(turns) < 6:
        assert monotonic() < deadline, f"only {turns} came"
        dialer.flush()
        turns.append(sum(len(messages) for _, messages, _ in listener.receive(0.05)))
    assert max(turns) <= 3

    for _ in range(6):
        _push(listener, codec.encode(BeatAnswer("s" * (TURN_BYTES // 2))), deadline)
    turns.clear()
    while sum(turns) < 6:
        assert monotonic() < deadline, f"only {turns} came"
        listener.flush()
        turns.append(len(dialer.receive()))
    assert max(turns) <= 3
    dialer.close()


def test_what_waits_for_a_stopped_peer_is_bounded_in_zeromqs_pipe_too(
    bus: ZeroMqBus, listener: ZeroMqListener, address: str, stranger: Any
) -> None:
    """A peer that takes nothing: what is beyond ZeroMQ's own batches stays in the queue, where its bytes count."""
    stranger.identity = b"edge-0:a"
    stranger.rcvhwm = 1
    stranger.connect(address)
    stranger.send(batch(1))
    assert received(listener, 1) == [1]
    encoded = codec.encode(BeatAnswer("s" * 100_000))
    with pytest.raises(QueueFull):
        _send_until_full(listener, encoded, 300)  # our queue, and the kernel's, besides ZeroMQ's


def _send_until_full(listener: ZeroMqListener, encoded: bytes, most: int) -> None:
    for _ in range(most):
        listener.send("edge-0:a", encoded)
        listener.flush()


def test_a_link_that_is_made_again_takes_over_from_the_one_whose_end_nobody_has_seen(
    listener: ZeroMqListener, address: str, stranger: Any
) -> None:
    """So it is for a shard that was stopped: its peers have given the link up and made a new one, under the same name,
    and the shard sees the new one first. Without the takeover it would be deaf to that peer for as long as it lives."""
    stranger.identity = b"edge-0:a"
    stranger.connect(address)
    stranger.send(batch(1))
    assert received(listener, 1) == [1]
    with zmq.Context() as context, context.socket(zmq.DEALER) as again:
        again.linger = 0
        again.identity = b"edge-0:a"
        again.connect(address)
        again.send(batch(2))
        assert received(listener, 1) == [2]
        listener.send("edge-0:a", codec.encode(BeatAnswer("s")))
        assert listener.flush() == []
        assert again.poll(DEADLINE_S * 1000)
