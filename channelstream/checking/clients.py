"""Clients as browsers are: a websocket, or long-polls, that come back with the same `conn_id` whatever happens.

Each is a thread that records all that it gets. It judges nothing: what came, came.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

from channelstream.checking.api import LOOPBACK, Api
from channelstream.checking.history import (
    NO_ANSWER,
    Closed,
    ConnectionLost,
    GapTold,
    History,
    Joined,
    Opened,
    Received,
)
from channelstream.clock import monotonic
from channelstream.ids import channel_key, user_key

OPEN_WITHIN_S: Final = 5.0
"""How long a handshake may take. A stopped edge accepts in its kernel and says nothing: the client turns to another."""

POLL_DEADLINE_S: Final = 15.0
"""How long a poll waits: the server ends it after 5 s."""

LOOK_S: Final = 0.2
"""How often a client that gets nothing looks whether it is over."""

AGAIN_AFTER_S: Final = (0.05, 0.5)
"""A client comes back at a moment of its own in this range: soon, so that what is measured is the server's part, and
spread, so that it is no stampede."""

UNKNOWN_CONNECTION: Final = 401
OVER: Final = frozenset({UNKNOWN_CONNECTION, 4000, 4002})
"""Statuses and close codes after which the `conn_id` is of no use any more."""


class Place(NamedTuple):
    """Where the group is, for one thread."""

    port: int
    api_port: int
    secret: str


class Client(threading.Thread):
    """One user with one connection on some channels. `connect` first, then `start`, then `leave`, then `join`."""

    def __init__(self, name: str, place: Place, channels: Sequence[str], history: History, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self._place: Final = place
        self._channels: Final = list(channels)
        self._history: Final = history
        self._chance: Final = random.Random(f"{seed} {name}")
        self._conn_id = ""
        self._sockets = 0
        """How many sockets or polls there have been."""
        self._leaving: Final = threading.Event()
        self._may_close: Final = threading.Event()

    def leave(self) -> None:
        """Record nothing any more. The connection stays, so that nobody sees others go because of it."""
        self._leaving.set()

    def close(self) -> None:
        """End the connection. Call it when all clients have been told to leave."""
        self._may_close.set()

    def connect(self) -> bool:
        """Have a backend make the connection. False where it could not before `leave`."""
        api = Api(self._place.api_port, self._place.secret)
        body = {"username": self.name, "channels": self._channels, "info": {"include_history": False}}
        try:
            while not self._leaving.is_set():
                reply = api.call("/connect", body)
                if reply.ok:
                    self._conn_id = reply.json()["conn_id"]
                    topics = (*map(channel_key, self._channels), user_key(self.name))
                    self._history.add(Joined(self.name, self._conn_id, topics, monotonic()))
                    return True
                self._pause()
            return False
        finally:
            api.close()

    def run(self) -> None:
        """Listen until told to leave; where the connection is lost, get a new one."""
        while not self._leaving.is_set():
            code = self.listen_once()
            if code in OVER:
                self._history.add(ConnectionLost(self.name, self._conn_id, code, monotonic()))
                self.connect()
            elif not self.goes_on_after(code):
                self._pause()

    def listen_once(self) -> int:
        """One socket or one poll. Gives the code or status that it ended with, 0 for none."""
        raise NotImplementedError

    def goes_on_after(self, code: int) -> bool:
        """Whether the next one follows without a pause."""
        return False

    def _pause(self) -> None:
        self._leaving.wait(self._chance.uniform(*AGAIN_AFTER_S))

    def record(self, text: str | bytes, at: float) -> None:
        """Record a list of objects that came."""
        for one in msgspec.json.decode(text, type=list[dict[str, Any]]):
            topic = user_key(self.name) if one["channel"] is None else channel_key(one["channel"])
            if one["type"] == "gap":
                self._history.add(GapTold(self.name, self._sockets, topic, one["missed"], at))
            else:
                self._history.add(self._received(one, topic, at))

    def _received(self, one: dict[str, Any], topic: str, at: float) -> Received:
        action = one["message"].get("action", "") if one["type"] == "presence" else ""
        return Received(
            self.name, self._sockets, topic, one["type"], one["uuid"], one["seq"], one["catchup"], at,
            one.get("user") or "", action,
        )  # fmt: skip


class WebsocketClient(Client):
    """Listens on a websocket."""

    def listen_once(self) -> int:
        """One socket, from the handshake to its end."""
        url = f"ws://{LOOPBACK}:{self._place.port}/ws?conn_id={self._conn_id}"
        try:
            socket = open_websocket(
                url, open_timeout=OPEN_WITHIN_S, close_timeout=1, max_size=None, ping_interval=None, proxy=None
            )
            with socket as opened:
                return self._listened(opened)
        except InvalidStatus as error:
            return error.response.status_code
        except (OSError, InvalidHandshake):
            return NO_ANSWER

    def _listened(self, socket: ClientConnection) -> int:
        self._sockets += 1
        self._history.add(Opened(self.name, self._sockets, monotonic()))
        try:
            while not self._leaving.is_set():
                try:
                    text = socket.recv(timeout=LOOK_S)
                except TimeoutError:
                    continue
                if not self._leaving.is_set():
                    self.record(text, monotonic())
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else NO_ANSWER
            if not self._leaving.is_set():
                self._history.add(Closed(self.name, self._sockets, code, monotonic()))
            return code
        self._may_close.wait()
        return NO_ANSWER


class PollClient(Client):
    """Listens with one long-poll after another, each on a connection of its own, so that it may land on any edge."""

    def listen_once(self) -> int:
        """One poll."""
        self._sockets += 1
        self._history.add(Opened(self.name, self._sockets, monotonic(), is_poll=True))
        api = Api(self._place.port, self._place.secret, POLL_DEADLINE_S)
        reply = api.get(f"/listen?conn_id={self._conn_id}")
        api.close()
        at = monotonic()
        if self._leaving.is_set():
            return NO_ANSWER
        if reply.ok:
            self.record(reply.body, at)
        self._history.add(Closed(self.name, self._sockets, reply.status, at, answered=reply.ok))
        return reply.status

    def goes_on_after(self, code: int) -> bool:
        """At once after an answer."""
        return 200 <= code < 300
