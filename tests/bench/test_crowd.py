"""Clients that count, against a server that sends what a test wants."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bench.crowd import PING, PONG, Crowd, LostClients, upgrade

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
MESSAGE = b'\x81\x20[{"text":"@@xxxx","t":%d}]'


class Server:
    """Answers each client, and keeps what it is connected by."""

    def __init__(self, answer: bytes = ANSWER) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.clients: list[socket.socket] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert client.recv(4096).endswith(b"\r\n\r\n")
            self.clients.append(client)
            client.sendall(self._answer)
            if not self._answer:
                client.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for client in self.clients:
            client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def opened(server: Server, crowd: Crowd, count: int) -> None:
    assert crowd.open(server.address, [upgrade("/")] * count) == count


def test_each_message_is_counted_for_its_client(server: Server) -> None:
    with Crowd() as crowd:
        opened(server, crowd, 3)
        for client in server.clients:
            client.sendall(MESSAGE % 1 + MESSAGE % 2)
        server.clients[0].sendall(MESSAGE % 3)
        assert crowd.receive(5, 7)
        assert sorted(crowd.counts.values()) == [2, 2, 3]
        assert crowd.bytes == 7 * len(MESSAGE % 1)
        assert (crowd.lost(3), crowd.lost(2)) == (2, 0)
        crowd.begin()
        assert (crowd.received, crowd.bytes, crowd.lost(1)) == (0, 0, 3)


@pytest.mark.parametrize("mark", [b"@@", b'"text":"@@', b'"type":"presence"'])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 40])
def test_a_mark_counts_once_wherever_it_is_split(server: Server, mark: bytes, piece: int) -> None:
    stream = (b"[" + mark + b'x"]' + mark[:-1] + b" ") * 3 + mark[:1]
    with Crowd(mark=mark) as crowd:
        opened(server, crowd, 1)
        for at in range(0, len(stream), piece):
            before = crowd.bytes
            server.clients[0].sendall(stream[at : at + piece])
            while crowd.bytes == before:
                crowd.receive(0.001)
        assert crowd.received == 3


def test_a_message_behind_the_answer_is_counted() -> None:
    server = Server(ANSWER + MESSAGE % 1)
    with Crowd() as crowd:
        opened(server, crowd, 2)
        assert crowd.receive(5, 2)
    server.close()


def test_more_than_one_read_takes_is_read_on(server: Server) -> None:
    with Crowd() as crowd:
        opened(server, crowd, 1)
        sending = threading.Thread(target=server.clients[0].sendall, args=(MESSAGE % 1 * 10_000,))
        sending.start()
        assert crowd.receive(10, 10_000)
        sending.join()


@pytest.mark.parametrize("space", [b"", b" "])
def test_of_sampled_clients_the_time_is_told(server: Server, space: bytes) -> None:
    with Crowd(sampled=2) as crowd:
        opened(server, crowd, 4)
        stamp = time.monotonic_ns() - 5_000_000
        for client in server.clients:
            client.sendall((MESSAGE % stamp).replace(b'"t":', b'"t":' + space))
        assert crowd.receive(5, 4)
        assert len(crowd.latencies_ns) == 2
        assert all(5_000_000 <= latency < 5_000_000_000 for latency in crowd.latencies_ns)


@pytest.mark.parametrize("around", [(b"", b""), (MESSAGE % 1, b""), (b"", MESSAGE % 1)])
def test_a_ping_is_answered_even_among_messages(server: Server, around: tuple[bytes, bytes]) -> None:
    with Crowd() as crowd:
        opened(server, crowd, 1)
        server.clients[0].sendall(around[0] + PING + around[1])
        crowd.receive(0.05)
        server.clients[0].settimeout(5)
        assert server.clients[0].recv(100) == PONG


def test_other_manners(server: Server) -> None:
    with Crowd(greet=b"hello", ping=b"\x81\x012", pong=b"here") as crowd:
        opened(server, crowd, 1)
        server.clients[0].settimeout(5)
        assert server.clients[0].recv(100) == b"hello"
        server.clients[0].sendall(b"\x81\x012")
        crowd.receive(0.05)
        assert server.clients[0].recv(100) == b"here"


def test_who_is_cut_off_is_known_and_counts_as_lost(server: Server) -> None:
    with Crowd() as crowd:
        opened(server, crowd, 3)
        server.clients[0].sendall(MESSAGE % 1)
        server.clients[0].close()
        crowd.receive_until_quiet(0.05)
        assert len(crowd) == 2
        assert crowd.gone == [upgrade("/")]
        assert (crowd.received, crowd.lost(1)) == (1, 2)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 401 Unauthorized\r\n\r\nno", b"nonsense", b""])
def test_who_is_refused_is_told(answer: bytes) -> None:
    server = Server(answer)
    with Crowd() as crowd, pytest.raises(LostClients, match=answer[:8].decode() or "closed"):
        crowd.open(server.address, [upgrade("/")])
    server.close()


def test_silence_is_not_waited_for_longer_than_it_may_last(server: Server) -> None:
    with Crowd() as crowd:
        opened(server, crowd, 1)
        assert not crowd.receive(0.01, 1)
        assert crowd.receive(0.01)
