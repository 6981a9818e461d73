"""Several crowds in one process, of which one works at a time."""

import socket
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from bench.crowd import PING, PONG, Crowd, upgrade


def take_client(listener: socket.socket) -> socket.socket:
    """The server's end of a client that comes, once it is answered."""
    client = listener.accept()[0]
    client.settimeout(10)
    assert client.recv(4096).endswith(b"\r\n\r\n")
    client.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    return client


def test_a_crowd_whose_turn_it_is_not_answers_its_pings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        with Crowd() as idle, Crowd() as working:
            coming = pool.submit(take_client, listener)
            idle.open(listener.getsockname(), [upgrade("/")])
            with coming.result() as client:
                client.sendall(PING)
                pong = pool.submit(client.recv, len(PONG))
                until = monotonic() + 10
                while not pong.done() and monotonic() < until:
                    working.receive(0.05)
                assert pong.result() == PONG
