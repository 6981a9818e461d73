"""What is said to the servers of Node.js."""

from pathlib import Path

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event, TextMessage

from bench.peers import nodes
from bench.peers.nodes import SocketIo, Ws


def heard(data: bytes, by: ConnectionType) -> list[Event]:
    """What one end makes of the other's bytes."""
    connection = Connection(by)
    connection.receive_data(data)
    return list(connection.events())


@pytest.mark.parametrize(("frame", "text"), [(nodes.SOCKET_IO_CONNECT, "40"), (nodes.SOCKET_IO_PONG, "3")])
def test_a_client_of_socket_io_says_in_a_masked_frame(frame: bytes, text: str) -> None:
    assert heard(frame, ConnectionType.SERVER) == [TextMessage(data=text)]


def test_socket_io_pings_with_a_text() -> None:
    assert heard(nodes.SOCKET_IO_PING, ConnectionType.CLIENT) == [TextMessage(data="2")]


def test_a_client_of_socket_io_asks_for_a_websocket_at_once() -> None:
    (request,) = SocketIo().requests(1)
    assert request.startswith(b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n")


def test_a_client_of_ws_asks_for_its_path_and_says_nothing_more() -> None:
    (request,) = Ws().requests(1)
    assert request.startswith(b"GET /ws HTTP/1.1\r\n")
    assert Ws.greet == b""


def test_the_libraries_are_looked_for_where_they_were_installed(tmp_path: Path) -> None:
    assert Ws(tmp_path).environ()["NODE_PATH"] == str(tmp_path / "node" / "node_modules")


@pytest.mark.parametrize("peer", [Ws, SocketIo])
def test_the_server_is_told_its_port(peer: type[Ws | SocketIo], tmp_path: Path) -> None:
    program, server, port = peer(tmp_path).command(tmp_path, 12345)
    assert (program, port) == ("node", "12345")
    assert Path(server).is_file()
