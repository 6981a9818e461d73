"""What every bus holds to: one suite over the bus in memory and the one over ZeroMQ.

Nothing here sleeps: what is not there yet is waited for on the descriptor, with a deadline.
"""

from __future__ import annotations

import select
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq

from channelstream.bus.base import Dialer, Listener
from channelstream.bus.memory import MemoryBus
from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import monotonic
from channelstream.errors import QueueFull
from channelstream.wire import codec
from channelstream.wire.messages import (
    Ask,
    BeatAnswer,
    Claim,
    Deliver,
    GetStatus,
    ToPeer,
    ToShard,
)

DEADLINE_S = 10.0
QUEUE_BYTES = 64 * 1024
EDGE = "edge-0:a"
ROUTER = "router-0:b"


@dataclass
class Bus:
    """One address of a bus, and a way to put bytes there that no bus would send."""

    address: str
    raw_to_shard: Callable[[bytes], None]
    """Send a batch to the shard as a stranger."""
    make: Callable[[], Any]
    """What a new process does to get at the bus."""
    unmake: Callable[[Any], None]
    """What becomes of that at its end."""
    processes: dict[Any, Any] = field(default_factory=dict)
    """A listener or dialer → the bus of its process."""

    def listen(self, generation: int = 1, queue_bytes: int = QUEUE_BYTES) -> Listener:
        process = self.make()
        listener: Listener = process.listen(self.address, generation, queue_bytes)
        self.processes[listener] = process
        return listener

    def dial(self, name: str = EDGE, queue_bytes: int = QUEUE_BYTES) -> Dialer:
        process = self.make()
        dialer: Dialer = process.dial(name, self.address, queue_bytes)
        self.processes[dialer] = process
        return dialer

    def end(self, end: Any) -> None:
        """A process ends. On return nothing of it is left: its address can be bound again."""
        end.close()
        self.unmake(self.processes.pop(end))


@pytest.fixture(params=["memory", "zeromq"])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    for bus in _memory() if request.param == "memory" else _zeromq():
        yield bus
        for end in list(bus.processes):
            bus.end(end)


def _memory() -> Iterator[Bus]:
    shared = MemoryBus()
    stranger = shared.dial("stranger-0:x", "shard-0", QUEUE_BYTES)

    def raw_to_shard(batch: bytes) -> None:
        shared.links["stranger-0:x", "shard-0"].up.put(batch)

    yield Bus("shard-0", raw_to_shard, lambda: shared, lambda _: None)
    stranger.close()
    shared.close()


def _zeromq() -> Iterator[Bus]:
    # A path of an ipc address may have 107 bytes, which a test's own folder can exceed.
    with tempfile.TemporaryDirectory(prefix="bus") as folder, zmq.Context() as context:
        address = f"ipc://{Path(folder, 's')}"
        with context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.connect(address)
            yield Bus(address, stranger.send, ZeroMqBus, ZeroMqBus.close)


# --- helpers ---


def ask(number: int) -> Ask:
    return Ask(number, 0.0, GetStatus())


def send(end: Any, *messages: Any, to: str | None = None) -> None:
    for message in messages:
        encoded = codec.encode(message)
        if to is None:
            end.send(encoded)
        else:
            end.send(to, encoded)
    end.flush()


def shard_receives(listener: Listener, count: int, *senders: Dialer) -> list[tuple[str, ToShard]]:
    """So many messages, with their peers."""
    got: list[tuple[str, ToShard]] = []
    deadline = monotonic() + DEADLINE_S
    while len(got) < count:
        assert monotonic() < deadline, f"only {len(got)} of {count} messages came"
        for sender in senders:
            sender.flush()
        for peer, messages, _ in listener.receive(0.02):
            got += [(peer, message) for message in messages]
    return got


def peer_receives(dialer: Dialer, count: int, listener: Listener | None = None) -> list[ToPeer]:
    """So many messages, waited for as an event loop does."""
    got: list[ToPeer] = []
    deadline = monotonic() + DEADLINE_S
    while True:
        got += dialer.receive()
        if len(got) >= count:
            return got
        assert monotonic() < deadline, f"only {len(got)} of {count} messages came"
        if listener is not None:
            listener.flush()
        if not dialer.has_work():
            select.select([dialer.fileno()], [], [], 0.02)


def until(condition: Callable[[], bool], step: Callable[[], object]) -> None:
    deadline = monotonic() + DEADLINE_S
    while not condition():
        assert monotonic() < deadline, "it did not happen in time"
        step()


def meet(listener: Listener, dialer: Dialer) -> None:
    """Speak until one is heard: what is sent before a former life of the shard is seen to be over is lost."""

    def speak() -> bool:
        send(dialer, ask(0))
        return bool(listener.receive(0.05))

    deadline = monotonic() + DEADLINE_S
    while not speak():
        assert monotonic() < deadline, "they did not find each other in time"


def introduced(bus: Bus, **options: Any) -> tuple[Listener, Dialer]:
    """A shard and an edge that have spoken, so that the shard knows the way back."""
    listener, dialer = bus.listen(**options), bus.dial()
    send(dialer, ask(0))
    shard_receives(listener, 1, dialer)
    return listener, dialer


# --- order, batches ---


def test_what_a_peer_sends_arrives_under_its_name_and_in_its_order(bus: Bus) -> None:
    listener, edge, router = bus.listen(), bus.dial(EDGE), bus.dial(ROUTER)
    for number in range(200):
        send(edge, ask(number))
        send(router, ask(1000 + number))
    got = shard_receives(listener, 400, edge, router)
    assert [message for peer, message in got if peer == EDGE] == [ask(number) for number in range(200)]
    assert [message for peer, message in got if peer == ROUTER] == [ask(1000 + number) for number in range(200)]


def test_what_a_shard_sends_arrives_in_order_and_at_nobody_else(bus: Bus) -> None:
    listener, edge = introduced(bus)
    router = bus.dial(ROUTER)
    send(router, ask(0))
    shard_receives(listener, 1, router)
    sent = [Deliver("c/a", seq, [b"{}"]) for seq in range(1, 201)]
    for message in sent:
        send(listener, message, to=EDGE)
    send(listener, BeatAnswer("s"), to=ROUTER)
    assert peer_receives(edge, 200, listener) == sent
    assert peer_receives(router, 1, listener) == [BeatAnswer("s")]


def test_all_of_a_turn_is_one_batch(bus: Bus) -> None:
    listener, edge = introduced(bus)
    for number in range(1, 51):
        edge.send(codec.encode(ask(number)))
    edge.flush()
    received: list[Any] = []
    until(lambda: bool(received), lambda: received.extend(listener.receive(0.02)))
    assert [(peer, len(messages)) for peer, messages, _ in received] == [(EDGE, 50)]


def test_nothing_is_sent_before_the_flush(bus: Bus) -> None:
    listener, edge = introduced(bus)
    edge.send(codec.encode(ask(1)))
    assert listener.receive(0) == []
    assert edge.waiting_bytes() == len(codec.encode(ask(1)))
    edge.flush()
    assert edge.waiting_bytes() == 0
    assert shard_receives(listener, 1) == [(EDGE, ask(1))]


def test_a_shard_that_hears_nothing_says_so(bus: Bus) -> None:
    listener = bus.listen()
    assert listener.receive(0.01) == []
    assert listener.flush() == []


def test_the_descriptor_tells_of_what_comes(bus: Bus) -> None:
    listener, edge = introduced(bus)
    assert edge.receive() == []
    assert not edge.has_work()
    send(listener, BeatAnswer("s"), to=EDGE)
    readable, _, _ = select.select([edge.fileno()], [], [], DEADLINE_S)
    assert readable == [edge.fileno()]
    assert peer_receives(edge, 1) == [BeatAnswer("s")]
    assert not edge.has_work()


# --- those who are not there ---


def test_what_is_sent_before_the_shard_is_there_waits_for_it(bus: Bus) -> None:
    edge = bus.dial()
    send(edge, ask(1))
    send(edge, ask(2))
    assert [message for _, message in shard_receives(bus.listen(), 2, edge)] == [ask(1), ask(2)]


def test_what_is_sent_first_goes_before_what_waits(bus: Bus) -> None:
    listener, edge = introduced(bus)
    edge.send(codec.encode(ask(3)))
    edge.send_first([codec.encode(ask(1)), codec.encode(ask(2))])
    edge.flush()
    assert [message for _, message in shard_receives(listener, 3, edge)] == [ask(1), ask(2), ask(3)]


def test_a_peer_that_was_never_there_is_reported_once(bus: Bus) -> None:
    listener = bus.listen()
    listener.send("edge-9:z", codec.encode(BeatAnswer("s")))
    assert listener.flush() == ["edge-9:z"]
    assert listener.flush() == []
    assert listener.waiting_bytes() == 0


def test_a_peer_that_is_gone_is_reported_and_the_others_get_theirs(bus: Bus) -> None:
    listener, edge = introduced(bus)
    router = bus.dial(ROUTER)
    send(router, ask(0))
    shard_receives(listener, 1, router)
    bus.end(edge)
    gone: list[str] = []

    def talk() -> None:
        listener.send(EDGE, codec.encode(BeatAnswer("s")))
        listener.receive(0.01)  # where the bus hears that it has gone
        gone.extend(listener.flush())

    until(lambda: bool(gone), talk)
    assert gone == [EDGE]
    send(listener, BeatAnswer("t"), to=ROUTER)
    assert peer_receives(router, 1, listener) == [BeatAnswer("t")]


# --- the link itself ---


def look(dialer: Dialer) -> bool:
    """Wait for news of the link as an event loop does, and see what they are."""
    if not dialer.connected:
        dialer.look()
    select.select([dialer.link_fileno()], [], [], 0.02)
    dialer.look()
    return dialer.connected


def test_a_link_to_nobody_is_not_made(bus: Bus) -> None:
    edge = bus.dial()
    send(edge, ask(1))
    assert not look(edge)
    assert edge.times_made == 0


def test_a_link_is_made_when_the_shard_is_there(bus: Bus) -> None:
    edge = bus.dial()
    assert not look(edge)
    bus.listen()
    until(lambda: edge.connected, lambda: look(edge))
    assert edge.times_made == 1


def test_a_link_is_made_when_the_shard_was_there_first(bus: Bus) -> None:
    bus.listen()
    edge = bus.dial()
    until(lambda: edge.connected, lambda: look(edge))
    assert edge.times_made == 1


def test_a_link_is_gone_with_the_shard_and_made_again_with_its_successor(bus: Bus) -> None:
    first, edge = introduced(bus)
    until(lambda: edge.connected, lambda: look(edge))
    bus.end(first)
    until(lambda: not edge.connected, lambda: look(edge))
    successor = bus.listen(generation=2)
    until(lambda: edge.times_made == 2, lambda: look(edge))
    assert edge.connected
    send(edge, ask(1))
    assert shard_receives(successor, 1, edge) == [(EDGE, ask(1))]


def test_the_links_descriptor_tells_of_what_becomes_of_it(bus: Bus) -> None:
    listener, edge = introduced(bus)
    until(lambda: edge.connected, lambda: look(edge))
    edge.look()
    assert select.select([edge.link_fileno()], [], [], 0)[0] == []
    bus.end(listener)
    assert select.select([edge.link_fileno()], [], [], DEADLINE_S)[0] == [edge.link_fileno()]
    edge.look()
    assert not edge.connected


# --- bounds ---


def fill(push: Callable[[bytes], None], messages: Iterable[Any]) -> list[Any]:
    """Push until it is refused; those that were taken come back."""
    taken: list[Any] = []
    for message in messages:
        try:
            push(codec.encode(message))
        except QueueFull:
            return taken
        taken.append(message)
    pytest.fail("it was never full")


def test_a_full_queue_to_a_shard_refuses_and_loses_nothing(bus: Bus) -> None:
    edge = bus.dial(queue_bytes=200)
    taken = fill(edge.send, map(ask, range(1000)))  # nobody listens, and nothing is flushed
    assert 100 < edge.waiting_bytes() <= 200
    assert [message for _, message in shard_receives(bus.listen(), len(taken), edge)] == taken
    send(edge, ask(9999))


def test_a_full_queue_to_a_peer_refuses_and_loses_nothing(bus: Bus) -> None:
    listener, edge = introduced(bus, queue_bytes=200)
    taken = fill(lambda encoded: listener.send(EDGE, encoded), (Deliver("c/a", seq, [b"{}"]) for seq in range(1, 1000)))
    assert 100 < listener.waiting_bytes() <= 200
    assert peer_receives(edge, len(taken), listener) == taken
    send(listener, BeatAnswer("s"), to=EDGE)
    assert peer_receives(edge, 1, listener) == [BeatAnswer("s")]


def test_a_peer_that_reads_nothing_fills_its_queue_and_gets_all_that_was_taken(bus: Bus) -> None:
    listener, edge = introduced(bus, queue_bytes=20_000)
    body = b'{"x":"' + b"x" * 5000 + b'"}'

    def push(encoded: bytes) -> None:
        listener.send(EDGE, encoded)
        assert listener.flush() == []

    taken = fill(push, (Deliver("c/a", seq, [body]) for seq in range(1, 100_000)))
    assert 10_000 < listener.waiting_bytes() <= 20_000
    assert peer_receives(edge, len(taken), listener) == taken


def test_a_link_that_was_full_tells_when_it_is_not(bus: Bus) -> None:
    """As an event loop does it: nothing is tried before the descriptor tells."""
    listener, edge = introduced(bus)
    sent: list[Any] = []
    while not edge.waiting_bytes() or edge.has_work():
        sent.append(Ask(len(sent), 0.0, Claim("k" * 10_000, 1.0)))
        send(edge, sent[-1])
    got: list[Any] = []
    deadline = monotonic() + DEADLINE_S
    while len(got) < len(sent):
        assert monotonic() < deadline, f"only {len(got)} of {len(sent)} came"
        got += [message for _, messages, _ in listener.receive(0.0) for message in messages]
        if select.select([edge.fileno()], [], [], 0.01)[0]:
            edge.receive()
            edge.flush()
            while edge.has_work():
                edge.flush()
    assert got == sent


def test_what_is_dropped_does_not_arrive(bus: Bus) -> None:
    listener, edge = introduced(bus)
    listener.send(EDGE, codec.encode(BeatAnswer("dropped")))
    listener.drop(EDGE)
    assert listener.waiting_bytes() == 0
    send(listener, BeatAnswer("kept"), to=EDGE)
    assert peer_receives(edge, 1, listener) == [BeatAnswer("kept")]


# --- what is no message ---


GARBAGE = [
    b"",
    b"hello",
    bytes([codec.WIRE_VERSION + 1]) + codec.join(0, 1, [codec.encode(ask(1))])[1:],
    codec.join(0, 1, [codec.encode(BeatAnswer("of the other direction"))]),
    codec.join(0, 1, [codec.encode(ask(1))])[:-1],
]


def test_garbage_is_counted_and_dropped_and_what_follows_is_read(bus: Bus) -> None:
    listener, edge = introduced(bus)
    for batch in GARBAGE:
        bus.raw_to_shard(batch)
    until(lambda: listener.undecodable == len(GARBAGE), lambda: listener.receive(0.02))
    assert "undecodable" in listener.complaint
    send(edge, ask(1))
    assert shard_receives(listener, 1, edge) == [(EDGE, ask(1))]


def test_one_bad_message_costs_its_batch_alone(bus: Bus) -> None:
    listener, edge = introduced(bus)
    edge.send(codec.encode(ask(1)))
    edge.send(b"\xc1")
    edge.flush()
    send(edge, ask(2))
    assert shard_receives(listener, 1, edge) == [(EDGE, ask(2))]
    assert listener.undecodable == 1


def test_a_peer_counts_and_drops_garbage_too(bus: Bus) -> None:
    listener, edge = introduced(bus)
    listener.send(EDGE, b"\xc1")
    listener.flush()
    send(listener, BeatAnswer("s"), to=EDGE)
    assert peer_receives(edge, 1, listener) == [BeatAnswer("s")]
    assert edge.undecodable == 1


# --- one owner ---


def test_a_former_owner_is_refused(bus: Bus) -> None:
    first, edge = introduced(bus, generation=5)
    send(first, BeatAnswer("of generation 5"), to=EDGE)
    assert peer_receives(edge, 1, first) == [BeatAnswer("of generation 5")]
    bus.end(first)
    former = bus.listen(generation=4)
    meet(former, edge)
    send(former, BeatAnswer("of generation 4"), to=EDGE)
    until(lambda: edge.undecodable == 1, edge.receive)
    bus.end(former)
    successor = bus.listen(generation=6)
    meet(successor, edge)
    send(successor, BeatAnswer("of generation 6"), to=EDGE)
    assert peer_receives(edge, 1, successor) == [BeatAnswer("of generation 6")]
    assert 0 < edge.former_owners <= edge.undecodable
