"""Clients, against servers of a few lines that say what a real one may say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar

import pytest
from websockets.sync.server import ServerConnection, serve

from channelstream.checking import clients
from channelstream.checking.api import Reply
from channelstream.checking.clients import Place, PollClient, WebsocketClient
from channelstream.checking.history import Closed, ConnectionLost, GapTold, History, Joined, Opened, Received

PATIENCE_S = 20.0


def message(uuid: str, seq: int, channel: str | None = "a", **more: object) -> dict[str, Any]:
    return {"type": "message", "uuid": uuid, "seq": seq, "channel": channel, "catchup": False, "message": {}, **more}


GAP = {"type": "gap", "channel": "a", "missed": 3}
PARTED = {
    "type": "presence", "uuid": "p", "seq": 5, "channel": "a", "catchup": True, "user": "bob",
    "message": {"action": "parted"},
}  # fmt: skip


def records(history: History, kind: type) -> list[Any]:
    return [record for record in history if isinstance(record, kind)]


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(clients, "AGAIN_AFTER_S", (0.0, 0.01))
    monkeypatch.setattr(clients, "LOOK_S", 0.02)


class Backend:
    """Stands for the API: hands out conn_ids, and answers polls with what it is given."""

    polls: ClassVar[list[Reply]] = []
    made = 0
    refuse = 0

    def __init__(self, *_: object) -> None:
        """Nothing to keep."""

    def call(self, path: str, body: dict[str, Any]) -> Reply:
        assert path == "/connect"
        if Backend.refuse:
            Backend.refuse -= 1
            return Reply(503, b"{}", "")
        Backend.made += 1
        return Reply(200, json.dumps({"conn_id": f"conn-{Backend.made}"}).encode(), "")

    def get(self, path: str) -> Reply:
        assert path == f"/listen?conn_id=conn-{Backend.made}"
        if not Backend.polls:
            time.sleep(0.01)
            return Reply(200, b"[]", "")
        return Backend.polls.pop(0)

    def close(self) -> None:
        """Nothing was opened."""


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    monkeypatch.setattr(clients, "Api", Backend)
    monkeypatch.setattr(Backend, "polls", [])
    monkeypatch.setattr(Backend, "made", 0)
    monkeypatch.setattr(Backend, "refuse", 0)
    return Backend


@contextmanager
def websockets(*scripts: Callable[[ServerConnection], None], refusals: tuple[int, ...] = ()) -> Iterator[int]:
    """A server whose first handshakes are refused with these statuses; its sockets then follow these scripts, the last
    of which holds on."""
    left, statuses = list(scripts), list(refusals)

    def handle(socket: ServerConnection) -> None:
        if left:
            left.pop(0)(socket)
        else:
            for _ in socket:
                continue

    def refuse(socket: ServerConnection, request: object) -> Any:
        return socket.respond(HTTPStatus(statuses.pop(0)), "") if statuses else None

    with serve(handle, "127.0.0.1", 0, process_request=refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def listening(kind: type, port: int = 1) -> Iterator[History]:
    """A client that has connected and listens."""
    history = History()
    client = kind("ann", Place(port, 1, "secret"), ["a"], history, 1)
    assert client.connect()
    client.start()
    try:
        yield history
    finally:
        client.leave()
        client.close()
        client.join(PATIENCE_S)
        assert not client.is_alive()


def test_everything_that_comes_is_recorded():
    def script(socket: ServerConnection) -> None:
        socket.send(json.dumps([message("x", 1), message("y", 1, None)]))
        socket.send(json.dumps([GAP, PARTED]))
        for _ in socket:
            continue

    with websockets(script) as port, listening(WebsocketClient, port) as history:
        until(lambda: len(records(history, Received)) == 3)
    (joined,) = records(history, Joined)
    assert (joined.conn_id, joined.topics) == ("conn-1", ("c/a", "u/ann"))
    x, y, parted = records(history, Received)
    assert (x.topic, x.uuid, x.seq, x.catchup) == ("c/a", "x", 1, False)
    assert y.topic == "u/ann"
    assert (parted.action, parted.user, parted.catchup) == ("parted", "bob", True)
    (gap,) = records(history, GapTold)
    assert (gap.topic, gap.missed, gap.socket) == ("c/a", 3, 1)


def test_it_comes_back_with_the_same_id_whatever_the_code():
    def close(socket: ServerConnection) -> None:
        socket.close(1001)

    def vanish(socket: ServerConnection) -> None:
        socket.socket.close()

    with websockets(close, vanish, refusals=(503,)) as port, listening(WebsocketClient, port) as history:
        until(lambda: len(records(history, Opened)) == 3)
    assert [one.code for one in records(history, Closed)] == [1001, 0]
    assert [one.socket for one in records(history, Opened)] == [1, 2, 3]
    assert len(records(history, Joined)) == 1


@pytest.mark.parametrize("code", [4000, 4002])
def test_a_connection_that_is_over_is_made_anew(code):
    with websockets(lambda socket: socket.close(code)) as port, listening(WebsocketClient, port) as history:
        until(lambda: len(records(history, Opened)) == 2)
    (lost,) = records(history, ConnectionLost)
    assert (lost.conn_id, lost.code) == ("conn-1", code)
    assert [one.conn_id for one in records(history, Joined)] == ["conn-1", "conn-2"]


def test_a_handshake_that_is_answered_401_is_such_an_end():
    with websockets(refusals=(401,)) as port, listening(WebsocketClient, port) as history:
        until(lambda: records(history, Opened))
    assert [one.code for one in records(history, ConnectionLost)] == [401]
    assert not records(history, Closed)


def test_nothing_is_recorded_after_leave():
    over = threading.Event()

    def script(socket: ServerConnection) -> None:
        try:
            while True:
                socket.send(json.dumps([message("x", 1)]))
        finally:
            over.set()

    with websockets(script) as port:
        with listening(WebsocketClient, port) as history:
            until(lambda: records(history, Received))
        before = len(list(history))
        assert over.wait(PATIENCE_S)  # until then there was more to be had
    assert len(list(history)) == before
    assert not records(history, Closed)


def test_polls_follow_each_other(backend):
    backend.polls += [
        Reply(200, json.dumps([message("x", 1)]).encode(), ""),
        Reply(0, b"", "broke"),
        Reply(503, b"{}", ""),
        Reply(200, json.dumps([message("y", 2)]).encode(), ""),
    ]
    with listening(PollClient) as history:
        until(lambda: len(records(history, Closed)) > 4)
    assert [(one.code, one.answered) for one in records(history, Closed)][:4] == [
        (200, True), (0, False), (503, False), (200, True),
    ]  # fmt: skip
    assert [(one.uuid, one.socket) for one in records(history, Received)] == [("x", 1), ("y", 4)]
    assert all(one.is_poll for one in records(history, Opened))


def test_a_poll_that_is_answered_401_ends_the_connection(backend):
    backend.polls.append(Reply(401, b"{}", ""))
    with listening(PollClient) as history:
        until(lambda: len(records(history, Joined)) == 2)
    assert [one.code for one in records(history, ConnectionLost)] == [401]


def test_connecting_is_tried_until_it_works(backend):
    backend.refuse = 3
    with listening(PollClient) as history:
        assert len(records(history, Joined)) == 1


def test_who_leaves_does_not_go_on_connecting(backend):
    backend.refuse = 10**9
    client = PollClient("ann", Place(1, 1, "secret"), ["a"], History(), 1)
    client.leave()
    assert client.connect() is False
