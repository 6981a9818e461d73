"""Sockets on one epoll, turned by the test."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from itertools import pairwise

import gevent
import pytest

from channelstream.edge.readers import AT_ONCE, SLICE_S, Readers

WaitFor = Callable[..., None]


class Client:
    """Reads a byte when it is told to, and does what the test wants it to."""

    def __init__(self, readers: Readers) -> None:
        self.readers = readers
        self.ours, self.theirs = socket.socketpair()
        self.fd = self.ours.fileno()
        self.got = b""
        self.then: Callable[[], None] = lambda: None
        readers.add(self.fd, self)

    def on_readable(self) -> None:
        self.got += self.ours.recv(1)
        self.then()

    def cut(self) -> None:
        if self.ours.fileno() >= 0:
            self.readers.remove(self.fd)
            self.ours.close()


@pytest.fixture
def readers() -> Iterator[Readers]:
    made = Readers(gevent.get_hub().loop)
    yield made
    made.close()


@pytest.fixture
def make_client(readers: Readers) -> Iterator[Callable[[], Client]]:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client(readers))
        return made[-1]

    yield make
    for client in made:
        client.cut()
        client.theirs.close()


def test_who_has_bytes_is_read_and_nobody_else(make_client: Callable[[], Client], wait_for: WaitFor) -> None:
    one, other = make_client(), make_client()
    one.theirs.send(b"a")
    wait_for(lambda: one.got == b"a")
    assert other.got == b""


def test_what_was_not_taken_is_told_of_again(make_client: Callable[[], Client], wait_for: WaitFor) -> None:
    client = make_client()
    client.theirs.send(b"abc")
    wait_for(lambda: client.got == b"abc")


def test_more_clients_than_are_read_in_one_go(make_client: Callable[[], Client], wait_for: WaitFor) -> None:
    clients = [make_client() for _ in range(AT_ONCE // 8)]
    for client in clients:
        client.theirs.send(b"x" * 16)
    wait_for(lambda: all(client.got == b"x" * 16 for client in clients))


def test_one_that_is_closed_for_what_another_one_said_is_not_read(
    make_client: Callable[[], Client], wait_for: WaitFor
) -> None:
    clients = [make_client(), make_client()]
    for client, other in zip(clients, reversed(clients), strict=True):
        client.then = other.cut
        client.theirs.send(b"x")
    wait_for(lambda: any(client.got for client in clients))
    gevent.sleep(0)
    assert sorted(client.got for client in clients) == [b"", b"x"]


def test_a_descriptor_that_is_used_again_is_the_new_clients(
    make_client: Callable[[], Client], wait_for: WaitFor
) -> None:
    former = make_client()
    former.cut()
    client = make_client()
    assert client.fd == former.fd
    client.theirs.send(b"x")
    wait_for(lambda: client.got == b"x")
    assert former.got == b""


def test_a_fault_of_ours_costs_one_client(
    make_client: Callable[[], Client], wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble() -> None:
        raise RuntimeError("a fault of ours")

    bad, good = make_client(), make_client()
    bad.then = stumble
    with caplog.at_level(logging.ERROR):
        bad.theirs.send(b"x")
        good.theirs.send(b"y")
        wait_for(lambda: good.got == b"y")
        wait_for(lambda: bad.ours.fileno() == -1)
    assert "a fault of ours" in caplog.text


def test_when_reading_takes_long_the_others_have_their_turn_first() -> None:
    now = 0.0
    order: list[str] = []
    rest = [0]
    readers = Readers(gevent.get_hub().loop, clock=lambda: now)
    names = ["a", "b", "c"]
    clients = {name: Client(readers) for name in names}

    def reading(name: str) -> Callable[[], None]:
        def take_time() -> None:
            nonlocal now
            order.append(name)
            now += SLICE_S * 0.6  # two of them are a slice

        return take_time

    for name, client in clients.items():
        client.then = reading(name)
        client.theirs.send(b"x" * 4)  # and each of them has more after its first byte
    try:
        for _ in range(6):
            readers._read()
            rest.append(len(order))
    finally:
        for client in clients.values():
            client.cut()
            client.theirs.close()
        readers.close()
    assert [after - before for before, after in pairwise(rest)] == [2] + [1, 2] * 2 + [1]
    assert order[:9] == names * 3
