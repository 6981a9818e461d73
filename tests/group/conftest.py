"""Real groups: `channelstream` itself, started as a person would, with clients that are not ours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import pytest
import requests
from itsdangerous import TimestampSigner
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

PATIENCE_S = 20 * float(os.environ.get("CHANNELSTREAM_TEST_TIMEOUT_FACTOR", "1"))
"""How long a test waits for what must happen. Nothing is slower where it works."""

SECRET = "a secret for tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.group)


def eventually(met: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition, and give what it gave."""
    until = time.monotonic() + patience_s
    while not (seen := met()):
        if time.monotonic() > until:
            raise AssertionError(f"still not: {what}")
        time.sleep(0.01)
    return seen


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Group:
    """A running group, and the calls of a backend."""

    prefix: tuple[str, ...] = ()
    """What the launcher is started by, where it is not started directly; it has to become the launcher (exec)."""

    def __init__(self, **settings: object) -> None:
        self.port, self.api_port = free_ports(2)
        self.run_dir = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
        self.data_dir = Path(tempfile.mkdtemp(prefix="cs-data-", dir="/tmp"))
        self._settings = {
            "port": self.port,
            "api_port": self.api_port,
            "run_dir": self.run_dir,
            "data_dir": self.data_dir,
            "secret": SECRET,
            **settings,
        }
        self.start()

    def start(self) -> None:
        """A person types the command."""
        self.lines: list[str] = []
        self.session = requests.Session()
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")}
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "channelstream", *self.flags()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
        )
        self._reading = threading.Event()
        self._reading.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def flags(self) -> list[str]:
        return [f"--{key.replace('_', '-')}={value}" for key, value in self._settings.items()]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._reading.wait()

    def stop_reading(self) -> None:
        """Take no more of what the group says."""
        self._reading.clear()

    def go_on_reading(self) -> None:
        self._reading.set()

    def log(self) -> str:
        return "\n".join(self.lines[-60:])

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the group ended by itself:\n{self.log()}"
            return any(line.startswith("ready") for line in self.lines)

        eventually(ready, "ready")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not stop:\n{self.log()}") from None
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.session.close()
        return code

    def set(self, **settings: object) -> None:
        """Other settings, for the next start."""
        self._settings |= settings

    def again(self) -> None:
        """Stopped, and started once more."""
        assert self.stop() == 0
        self.start()
        self.wait_until_ready()

    def remove(self) -> None:
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    # --- as a backend ---

    def post(self, path: str, body: object, port: int | None = None, method: str = "POST") -> requests.Response:
        signed = TimestampSigner(str(self._settings["secret"])).sign(path).decode()
        return self.session.request(
            method,
            f"http://127.0.0.1:{port or self.api_port}{path}",
            data=json.dumps(body),
            headers={"X-Channelstream-Secret": signed, "Content-Type": "application/json"},
            timeout=PATIENCE_S,
        )

    def call(self, path: str, body: object, method: str = "POST") -> Any:
        answer = self.post(path, body, method=method)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}\n{self.log()}"
        return answer.json()

    def connect(self, username: str, *channels: str, **more: object) -> str:
        """A new connection of a user; its id."""
        body = {"username": username, "channels": list(channels), **more}
        conn_id: str = self.call("/connect", body)["conn_id"]
        return conn_id

    def say(self, channel: str | None, text: object, **more: object) -> str:
        """Publish one message; its uuid."""
        message = {"user": "backend", "channel": channel, "message": {"text": text}, **more}
        taken: str = self.call("/message", [message])[0]["uuid"]
        return taken

    # --- as an operator ---

    def get(self, path: str, port: int | None = None) -> requests.Response:
        return self.session.get(f"http://127.0.0.1:{port or self.api_port}{path}", timeout=PATIENCE_S)

    def health(self) -> list[dict[str, Any]]:
        processes: list[dict[str, Any]] = self.get("/healthz").json()["processes"]
        return processes

    def pid_of(self, name: str) -> int:
        (pid,) = (one["pid"] for one in self.health() if one["process"] == name)
        assert pid
        return int(pid)

    # --- as a client ---

    def websocket(self, conn_id: str) -> ClientConnection:
        url = f"ws://127.0.0.1:{self.port}/ws?conn_id={conn_id}"
        # `legacy`: the tests close it where they like.
        return open_websocket(url, open_timeout=PATIENCE_S, max_size=None, legacy=True)

    def listen(self, conn_id: str) -> requests.Response:
        """One long-poll on a connection of its own, so that it may land on any edge."""
        url = f"http://127.0.0.1:{self.port}/listen?conn_id={conn_id}"
        return requests.get(url, timeout=PATIENCE_S, headers={"Connection": "close"})


def texts(messages: list[dict[str, Any]]) -> list[Any]:
    """What was said, of a client's list."""
    return [one["message"]["text"] for one in messages if one["type"] == "message"]


def receive(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    """So many objects, however they were joined into lists."""
    received: list[dict[str, Any]] = []
    while len(received) < count:
        received += json.loads(socket.recv(timeout=PATIENCE_S))
    assert len(received) == count, received
    return received


def holder_of_a_client(group: Group) -> int | None:
    """The pid of the edge that holds one; its beats tell, once a second."""
    return next((one["pid"] for one in group.health() if one["role"] == "edge" and one["connections"]), None)


def kill_the_holder(group: Group, number: int) -> None:
    """A signal to the edge that holds the only client."""
    os.kill(eventually(lambda: holder_of_a_client(group), "an edge says that it holds it"), number)


def settle(group: Group, socket: ClientConnection, channel: str) -> None:
    """See to it that a client is attached to a channel: what it gets from now on is no catch-up. Takes one seq."""
    group.say(channel, "settled")
    receive(socket, 1)


def cut_off(group: Group, socket: ClientConnection) -> None:
    """End the only client as a lost network would: without a close frame. What is said from now on is missed."""
    eventually(lambda: holder_of_a_client(group), "an edge says that it holds it")
    socket.socket.shutdown(SHUT_RDWR)
    eventually(lambda: holder_of_a_client(group) is None, "it has seen the end")


def before(socket: ClientConnection, text: object) -> list[dict[str, Any]]:
    """All that came before a message with this text, behind which nothing is expected."""
    received: list[dict[str, Any]] = []
    while not received or received[-1].get("message") != {"text": text}:
        received += json.loads(socket.recv(timeout=PATIENCE_S))
    return received[:-1]


def signature(value: str, secret: str = SECRET, age_s: float = 0) -> str:
    """What a backend sends, made so long ago."""

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - age_s)

    return Signer(secret).sign(value).decode()


def close_code(socket: ClientConnection) -> int:
    """The code with which the server closes, whatever it sends before."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=PATIENCE_S)
    assert socket.close_code is not None
    return socket.close_code


class Follower(threading.Thread):
    """A client that comes back with the same `conn_id` whenever it is let go, by websocket or by poll."""

    def __init__(self, group: Group, conn_id: str, kind: str = "websocket") -> None:
        super().__init__(daemon=True)
        self.received: list[dict[str, Any]] = []
        """All that came, in its order, also what came again after a break."""
        self._group = group
        self._conn_id = conn_id
        self._listen = {"websocket": self._by_websocket, "poll": self._by_poll}[kind]
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self._listen()
            except (ConnectionClosed, InvalidHandshake, OSError):
                self._over.wait(0.05)

    def _by_websocket(self) -> None:
        with self._group.websocket(self._conn_id) as socket:
            while not self._over.is_set():
                with suppress(TimeoutError):
                    self.received += json.loads(socket.recv(timeout=0.2))

    def _by_poll(self) -> None:
        answer = self._group.listen(self._conn_id)
        answer.raise_for_status()
        self.received += answer.json()

    def end(self) -> None:
        self._over.set()
        self.join(PATIENCE_S)

    def uuids(self, channel: str) -> list[str]:
        """Of the messages on a channel, each where it came first."""
        there = [one for one in list(self.received) if one["type"] == "message" and one["channel"] == channel]
        return list(dict.fromkeys(one["uuid"] for one in there))

    def gaps(self, channel: str) -> list[dict[str, Any]]:
        return [one for one in list(self.received) if one["type"] == "gap" and one["channel"] == channel]


class Repeater(threading.Thread):
    """A publisher that says one message after the other, to channels in turn, and repeats each with the same uuid until
    it is taken; so many of them, or until it is ended."""

    def __init__(self, group: Group, channels: Sequence[str], count: int | None = None, **more: object) -> None:
        super().__init__(daemon=True)
        self.taken: dict[str, list[str]] = {channel: [] for channel in channels}
        """Per channel the uuids of what was answered with success, in their order."""
        self._group = group
        self._count = count
        self._more = more
        self._over = threading.Event()

    def run(self) -> None:
        with requests.Session() as session:
            for number, channel in enumerate(cycle(self.taken)):
                if number == self._count or self._over.is_set():
                    return
                message = {"user": "b", "channel": channel, "message": {"text": number}, "uuid": str(uuid.uuid4())}
                while not self._is_taken(session, {**message, **self._more}):
                    if self._over.wait(0.02):
                        return
                self.taken[channel].append(str(message["uuid"]))

    def _is_taken(self, session: requests.Session, message: dict[str, object]) -> bool:
        url = f"http://127.0.0.1:{self._group.api_port}/message"
        headers = {"X-Channelstream-Secret": signature("/message")}
        try:
            return session.post(url, json=[message], headers=headers, timeout=PATIENCE_S).status_code == 200
        except requests.RequestException:
            return False

    def end(self) -> None:
        """No other message, and no other repetition."""
        self._over.set()
        self.join(PATIENCE_S)


def stored(group: Group, channel: str) -> list[str]:
    """The uuids in a channel's history."""
    told = group.call("/info", {"info": {"channels": [channel], "include_users": False}})
    return [one["uuid"] for one in told["channels"][channel]["history"]]


@contextmanager
def running(**settings: object) -> Iterator[Group]:
    """A group that is ready, and is ended with all that it made."""
    group = Group(**settings)
    try:
        group.wait_until_ready()
        yield group
    finally:
        group.stop()
        group.remove()


@pytest.fixture(scope="session")
def helpers() -> Any:
    """This module: tests cannot import from each other."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def small() -> Iterator[Group]:
    """One process of each kind, with the defaults."""
    with running(shards=1, edges=1, routers=1) as group:
        yield group


@pytest.fixture(scope="session")
def large() -> Iterator[Group]:
    """Several of each kind."""
    with running(shards=3, edges=2, routers=2) as group:
        yield group


@pytest.fixture(scope="session")
def hasty() -> Iterator[Group]:
    """One where everything is over soon: polls, connections, channels, and clients that say nothing."""
    lifetimes = {"wake_connections_after": "0.5s", "gc_conns_after": "1.5s", "gc_channels_after": "3s"}
    with running(shards=1, edges=1, routers=1, ping_interval="0.2s", silence_timeout="2s", **lifetimes) as group:
        yield group


@pytest.fixture(scope="session")
def defaults() -> dict[str, Any]:
    """The settings of a server that nobody has set anything for, by key."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")}
    command = [sys.executable, "-m", "channelstream", "config", "--json"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout
    return {key: setting["value"] for key, setting in json.loads(shown)["settings"].items()}


@pytest.fixture
def name() -> str:
    """A name that no other test has used."""
    return uuid.uuid4().hex[:12]
