"""What supervisord is asked over its socket; that it answers like this is shown with a real one in tests/group."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelstream.supervision import SOCKET_NAME, GroupState, group_state, knock, state_in

RUNNING = b"HTTP/1.0 200 OK\r\n\r\n<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><struct>\n\
<member>\n<name>statecode</name>\n<value><int>1</int></value>\n</member>\n<member>\n<name>statename</name>\n\
<value><string>RUNNING</string></value>\n</member>\n</struct></value>\n</param>\n</params>\n</methodResponse>\n"
ENDING = b"HTTP/1.0 200 OK\r\n\r\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultString</name>\n\
<value><string>SHUTDOWN_STATE</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (RUNNING, GroupState.RUNNING),
        (ENDING, GroupState.ENDING),
        (b"", GroupState.UNKNOWN),
        (b"HTTP/1.0 500 Internal Server Error\r\n\r\n", GroupState.UNKNOWN),
        (RUNNING[:60], GroupState.UNKNOWN),
    ],
)
def test_what_an_answer_says(answer: bytes, state: GroupState) -> None:
    assert state_in(answer) is state


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen(8)
        listener.settimeout(10)
        yield listener


def test_asking_it(listener: socket.socket, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer() -> None:
        with listener.accept()[0] as connection:
            asked.append(connection.recv(4096))
            connection.sendall(RUNNING[:100])
            connection.sendall(RUNNING[100:])

    thread = threading.Thread(target=answer)
    thread.start()
    assert group_state(str(tmp_path)) is GroupState.RUNNING
    thread.join()
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /RPC2 HTTP/1.0\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert b"<methodName>supervisor.getState</methodName>" in body


def test_nobody_there_and_nobody_who_answers(listener: socket.socket, tmp_path: Path) -> None:
    assert group_state(str(tmp_path / "elsewhere")) is GroupState.UNKNOWN
    assert group_state(str(tmp_path)) is GroupState.UNKNOWN, "it takes the connection and says nothing"


def test_a_knock_is_a_connection(listener: socket.socket, tmp_path: Path) -> None:
    knock(str(tmp_path))
    with listener.accept()[0] as connection:
        assert connection.recv(1) == b""
    knock(str(tmp_path / "elsewhere"))
