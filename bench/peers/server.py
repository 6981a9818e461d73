"""What the peers have in common: each is one program, started with a folder of its own and a free port of loopback."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from bench.calls import Line
from bench.peers.installed import DEFAULT_FOLDER
from bench.processes import HOST, Child, NotStarted, children_of, free_ports
from bench.systems import Message, Sender, Websockets

CHANNEL: Final = "bench"
PUBLISH_PATH: Final = "/publish"
WEBSOCKET_PATH: Final = "/ws"

READY_WITHIN_S: Final = 30.0
ANSWERS_WITHIN_S: Final = 5.0


class Peer(Websockets, ABC):
    """A system of one program and its children. Its heirs say which program that is and what a client asks for."""

    name: str

    def __init__(self, installed: Path = DEFAULT_FOLDER) -> None:
        """`installed`: the folder that the peers were installed into."""
        self._installed: Final = installed
        self.pids: list[tuple[str, int]] = []
        self.address = HOST, 0

    @abstractmethod
    def command(self, folder: Path, port: int) -> Sequence[str | Path]:
        """What starts it on this port of loopback. What it has to read is written into the folder."""

    @abstractmethod
    def requests(self, count: int) -> Iterator[bytes]:
        """See `bench.systems.System`."""

    def environ(self) -> Mapping[str, str]:
        """The program's."""
        return os.environ

    def process_name(self, number: int) -> str:
        """Of the program itself (0) and of its children."""
        return f"{self.name} {number}" if number else self.name

    def __enter__(self) -> Self:
        if (missing := self.missing()) is not None:
            raise NotStarted(missing)
        self.address = HOST, free_ports(1)[0]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="cs-bench-", ignore_cleanup_errors=True)))
            command = self.command(folder, self.address[1])
            child = Child(command, folder / "log", environ=self.environ(), folder=folder)
            stack.callback(child.stop)
            child.wait_until(lambda: answers(self.address), READY_WITHIN_S)
            self._leaving = stack.pop_all()
        pids = [child.pid, *children_of(child.pid)]
        self.pids = [(self.process_name(number), pid) for number, pid in enumerate(pids)]
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.close()

    def sender(self) -> Sender:
        """Posts to the port that clients come to."""
        return PostSender(self.address)


class PostSender:
    """Posts the text of each message: see `bench.systems.Sender`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._line: Final = Line(address)

    def send(self, messages: Sequence[Message]) -> None:
        """A request for each of them."""
        for message in messages:
            self._line.exchange(post(PUBLISH_PATH, message.json()))

    def close(self) -> None:
        """No more."""
        self._line.close()


def post(path: str, body: bytes) -> bytes:
    """A request with JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def answers(address: tuple[str, int]) -> bool:
    """Whether a web server answers there, whatever it says."""
    connection = HTTPConnection(*address, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except OSError:
        return False
    finally:
        connection.close()
    return True
