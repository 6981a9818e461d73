"""Turns of writes, handed out by a clock and a loop that the test is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from channelstream import failpoints
from channelstream.edge import delivery as delivery_module
from channelstream.edge.core import Close, Effect, Held, Tell, Write
from channelstream.edge.delivery import CLIENTS_A_LOOK, Deliveries
from channelstream.edge.frames import listed, text_frame
from channelstream.edge.outbox import Mark, Ready
from channelstream.edge.sending import JOINED_BYTES
from channelstream.wire.messages import Detach, TopicCursor


class Loop:
    """What a deliveries object knows of the world: time, which stands still unless told, and callbacks for later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[Callable[[], Any]] = []

    def clock(self) -> float:
        return self.now

    def turn(self) -> None:
        waiting, self.waiting[:] = self.waiting[:], []
        for callback in waiting:
            callback()


class Client(Held):
    """Notes what comes to it, in a log that all share; `costs` is the time that it takes."""

    def __init__(self, name: str, loop: Loop, log: list[tuple[str, object]], costs: float = 0.0) -> None:
        super().__init__(name, name, 1)
        self.loop = loop
        self.log = log
        self.costs = costs
        self.unsent_at_close: list[Mark] | None = None
        self.deliveries: Deliveries | None = None

    def deliver(self, ready: Sequence[Ready]) -> None:
        self.loop.now += self.costs
        self.log.append((self.conn_id, b"".join(one.frame for one in ready)))

    def close(self, code: int) -> None:
        if self.deliveries is not None:
            self.unsent_at_close = list(self.deliveries.unsent(self))
        self.released = True
        self.log.append((self.conn_id, code))


Log = list[tuple[str, object]]


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def deliveries(loop: Loop) -> Deliveries:
    return Deliveries(loop.waiting.append, loop.clock)


def write(clients: Sequence[Held], *bodies: bytes, topic: str = "c/a", before: int = 0) -> Write:
    return Write(clients, bodies, Mark(topic, before), TopicCursor(topic, "e", before + len(bodies)))


def frame(*bodies: bytes) -> bytes:
    return text_frame(listed(bodies))


def test_one_write_is_one_frame_for_all(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    clients = [Client(name, loop, log) for name in "abc"]
    deliveries.add([write(clients, b"1", b"2")])
    assert log == [(name, frame(b"1", b"2")) for name in "abc"]
    assert log[0][1] is not None
    assert loop.waiting == []


def test_the_failpoint_in_a_fan_out_is_where_some_have_it_and_others_do_not(
    deliveries: Deliveries, loop: Loop, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "reach", lambda name: log.append((name, "reached")))
    deliveries.add([write([Client("a", loop, log)], b"1")])
    assert ("mid_fanout", "reached") not in log
    deliveries.add([write([Client(name, loop, log) for name in "abc"], b"2")])
    assert [name for name, _ in log] == ["a", "a", "mid_fanout", "b", "c"]


def test_the_frame_is_made_once(deliveries: Deliveries, loop: Loop) -> None:
    class Keeping(Client):
        def deliver(self, ready: Sequence[Ready]) -> None:
            self.log.append((self.conn_id, ready[0].frame))

    log: Log = []
    deliveries.add([write([Keeping("a", loop, log), Keeping("b", loop, log)], b"1")])
    assert log[0][1] is log[1][1]


def test_several_writes_of_a_turn_come_in_one_go_and_in_order(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    both, one = Client("both", loop, log), Client("one", loop, log)
    deliveries.add([write([both, one], b"1"), write([both], b"2", topic="c/b"), write([one, both], b"3")])
    assert log == [("both", frame(b"1") + frame(b"2") + frame(b"3")), ("one", frame(b"1") + frame(b"3"))]


def test_closes_come_after_the_writes_of_their_turn(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    client = Client("a", loop, log)
    effects: list[Effect] = [Close(client, 4000), write([client], b"1"), Tell(0, Detach("a", 1, False, []))]
    deliveries.add(effects)
    assert log == [("a", frame(b"1")), ("a", 4000)]


def test_the_released_get_nothing(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    gone, here = Client("gone", loop, log), Client("here", loop, log)
    gone.released = True
    deliveries.add([write([gone, here], b"1")])
    assert log == [("here", frame(b"1"))]


def test_nothing_to_do_is_nothing_done(deliveries: Deliveries, loop: Loop) -> None:
    deliveries.add([])
    deliveries.add([Tell(0, Detach("a", 1, False, []))])
    assert loop.waiting == []


def crowd(loop: Loop, log: Log, count: int = 5 * CLIENTS_A_LOOK) -> list[Client]:
    """Each look's worth of clients takes two milliseconds."""
    return [Client(f"{number:04}", loop, log, costs=0.002 / CLIENTS_A_LOOK) for number in range(count)]


def test_a_large_fan_out_pauses_for_the_loop(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    clients = crowd(loop, log)
    deliveries.add([write(clients, b"1")])
    handed = [len(log)]
    while loop.waiting:
        assert len(loop.waiting) == 1
        loop.turn()
        handed.append(len(log))
    assert handed == [1 + 2 * CLIENTS_A_LOOK, 1 + 4 * CLIENTS_A_LOOK, 5 * CLIENTS_A_LOOK]
    assert [name for name, _ in log] == [client.conn_id for client in clients]


def test_what_comes_in_a_pause_waits_for_its_turn(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    clients = crowd(loop, log)
    last = clients[-1]
    deliveries.add([write(clients, b"1")])
    deliveries.add([write([last], b"2"), Close(last, 4000)])
    deliveries.add([write([clients[0]], b"3")])
    assert len(log) == 1 + 2 * CLIENTS_A_LOOK
    while loop.waiting:
        assert len(loop.waiting) == 1
        loop.turn()
    assert [said for name, said in log if name == last.conn_id] == [frame(b"1"), frame(b"2"), 4000]
    assert log[-1] == (clients[0].conn_id, frame(b"3"))


def test_what_is_queued_is_unsent_and_what_is_handed_out_is_not(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    clients = crowd(loop, log)
    deliveries.add([write(clients, b"1", before=4)])
    deliveries.add([write([clients[0], clients[-1]], b"2", before=5), write(clients[-1:], b"3", topic="c/b", before=9)])
    assert list(deliveries.unsent(clients[0])) == [Mark("c/a", 5)]
    assert list(deliveries.unsent(clients[-1])) == [Mark("c/a", 4), Mark("c/a", 5), Mark("c/b", 9)]
    while loop.waiting:
        loop.turn()
    assert list(deliveries.unsent(clients[-1])) == []


def test_the_client_that_is_written_to_knows_of_its_own_write(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    """One that breaks in the middle of `deliver` counts that write itself."""

    class Breaking(Client):
        def deliver(self, ready: Sequence[Ready]) -> None:
            self.log.append(("unsent", list(deliveries.unsent(self))))

    client = Breaking("a", loop, log)
    deliveries.add([write([client], b"1")])
    assert log == [("unsent", [])]


def test_who_is_closed_between_turns_finds_its_marks(deliveries: Deliveries, loop: Loop, log: Log) -> None:
    clients = crowd(loop, log)
    first = clients[0]
    first.deliveries = deliveries
    deliveries.add([write(clients, b"1"), Close(first, 4001)])
    deliveries.add([write([first], b"2", before=7)])
    while loop.waiting:
        loop.turn()
    assert first.unsent_at_close == [Mark("c/a", 7)]
    assert [said for name, said in log if name == first.conn_id] == [frame(b"1"), 4001]


def test_it_is_full_with_so_much_to_hand_out(
    deliveries: Deliveries, loop: Loop, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "MAX_WAITING_BYTES", 30)
    clients = crowd(loop, log)
    deliveries.add([write(clients, b"x" * 20)])  # begun, and not over
    assert not deliveries.full
    deliveries.add([write(clients[:1], b"x" * 5, b"y" * 5)])
    assert (deliveries.bytes, deliveries.full) == (30, True)
    deliveries.add([write(clients[:1], b"z")])  # taken all the same
    while loop.waiting:
        loop.turn()
    assert (deliveries.bytes, deliveries.full) == (0, False)
    assert log[-1] == (clients[0].conn_id, frame(b"z"))


def test_it_tells_once_when_it_is_full_no_more(loop: Loop, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "MAX_WAITING_BYTES", 30)
    room: list[bool] = []
    deliveries = Deliveries(loop.waiting.append, loop.clock, on_room=lambda: room.append(deliveries.full))
    clients = crowd(loop, log)
    for size in (20, 5, 20, 5):
        deliveries.add([write(clients, b"x" * size)])
    assert deliveries.full
    while deliveries.full:
        loop.turn()
    assert room == []  # with the loop's next turn, and not in the middle of handing out
    while loop.waiting:
        loop.turn()
    assert room == [False]


def test_room_that_was_never_missed_is_not_told_of(loop: Loop, log: Log) -> None:
    room: list[bool] = []
    deliveries = Deliveries(loop.waiting.append, loop.clock, on_room=lambda: room.append(True))
    deliveries.add([write(crowd(loop, log), b"1")])
    while loop.waiting:
        loop.turn()
    assert room == []


# --- clients that take frames as they are ---


class Direct(Client):
    """Has a socket that what it is given goes to without its doing."""

    def __init__(self, name: str, loop: Loop, log: Log) -> None:
        super().__init__(name, loop, log)
        ours, self.page = socket.socketpair()
        ours.setblocking(False)
        self.ours = ours
        self.direct_fd = ours.fileno()

    def took_part(self, ready: Sequence[Ready], frame: bytes, sent: int) -> None:
        self.log.append((self.conn_id, ("took", sent, "of", frame, [one.mark for one in ready])))

    def lose(self, ready: Sequence[Ready]) -> None:
        self.log.append((self.conn_id, ("lost", [one.mark for one in ready])))

    def received(self) -> bytes:
        return self.page.recv(1 << 20)


@pytest.fixture
def direct(loop: Loop, log: Log) -> Iterator[list[Direct]]:
    clients = [Direct(name, loop, log) for name in "abc"]
    yield clients
    for client in clients:
        client.ours.close()
        client.page.close()


def test_they_are_sent_the_frame_and_asked_nothing(deliveries: Deliveries, direct: list[Direct], log: Log) -> None:
    deliveries.add([write(direct, b"1", b"2")])
    assert [client.received() for client in direct] == [frame(b"1", b"2")] * 3
    assert log == []


def test_several_writes_of_a_turn_are_sent_together(deliveries: Deliveries, direct: list[Direct], log: Log) -> None:
    a, b, c = direct
    deliveries.add([write([a, b], b"1"), write([b, c], b"2", topic="c/b")])
    assert [client.received() for client in direct] == [frame(b"1"), frame(b"1") + frame(b"2"), frame(b"2")]
    assert log == []


def test_very_much_of_a_turn_is_not_copied_together(deliveries: Deliveries, direct: list[Direct], log: Log) -> None:
    half = b"x" * (JOINED_BYTES // 2)
    deliveries.add([write(direct[:2], half), write(direct[:1], half, topic="c/b"), write(direct[2:], b"1")])
    assert log == [("a", frame(half) * 2)]  # it is left to the client itself
    assert direct[1].received() == frame(half)
    assert direct[2].received() == frame(b"1")


def test_who_takes_a_part_of_it_is_told_which(deliveries: Deliveries, direct: list[Direct], log: Log) -> None:
    much = b"x" * (8 << 20)
    deliveries.add([write(direct[:2], much, before=3)])
    assert [name for name, _ in log] == ["a", "b"]
    for _, (_, sent, _, whole, marks) in log:  # type: ignore[misc]
        assert 0 < sent < len(much)  # type: ignore[has-type]
        assert (whole, marks) == (frame(much), [Mark("c/a", 3)])  # type: ignore[has-type]
    deliveries.add([write(direct, b"1", before=4)])
    assert log[2:] == [(name, ("took", 0, "of", frame(b"1"), [Mark("c/a", 4)])) for name in "ab"]
    assert direct[2].received() == frame(b"1")


def test_each_is_told_the_part_of_its_own_frame(deliveries: Deliveries, direct: list[Direct], log: Log) -> None:
    much = b"x" * (8 << 20)
    deliveries.add([write(direct, b"1"), write(direct[1:2], much, topic="c/b")])
    # Together they would be copied, so the client does it itself.
    assert log == [("b", frame(b"1") + frame(much))]
    assert direct[0].received() == direct[2].received() == frame(b"1")


def test_who_agreed_to_compression_gets_the_same_compressed_once(
    direct: list[Direct], loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []

    def deflated(payload: bytes) -> bytes:
        made.append(payload)
        return b"deflated"

    monkeypatch.setattr(delivery_module, "deflated_frame", deflated)
    deliveries = Deliveries(loop.waiting.append, loop.clock, compresses=True)
    direct[0].deflates = direct[2].deflates = True
    deliveries.add([write(direct, b"1")])
    assert [client.received() for client in direct] == [b"deflated", frame(b"1"), b"deflated"]
    assert made == [b"[1]"]
    deliveries.add([write(direct, b"2"), write(direct[:1], b"3", topic="c/b"), write(direct[1:2], b"4", topic="c/d")])
    assert [client.received() for client in direct] == [b"deflated" * 2, frame(b"2") + frame(b"4"), b"deflated"]
    assert made == [b"[1]", b"[2]", b"[3]"]


def test_whose_socket_is_broken_is_told_what_it_lost(deliveries: Deliveries, direct: list[Direct], log: Log) -> None:
    direct[1].page.close()
    deliveries.add([write(direct, b"1", before=8)])
    assert log == [("b", ("lost", [Mark("c/a", 8)]))]
    assert direct[0].received() == direct[2].received() == frame(b"1")


def test_a_fault_of_ours_costs_one_client_and_not_those_behind_it(
    deliveries: Deliveries, direct: list[Direct], loop: Loop, log: Log
) -> None:
    class Faulty(Client):
        def deliver(self, ready: Sequence[Ready]) -> None:
            raise RuntimeError("a fault of ours")

    deliveries.add([write([Faulty("f", loop, log), *direct, Client("last", loop, log)], b"1")])
    assert [client.received() for client in direct] == [frame(b"1")] * 3
    assert log == [("last", frame(b"1"))]
