"""A group of ours to measure, with folders of its own, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bench.calls import Backend
from bench.crowd import upgrade
from bench.processes import HOST, Child, free_ports
from bench.systems import Message, Websockets

SECRET: Final = "a secret for measuring"
CHANNEL: Final = "bench"
AT_ONCE: Final = 8
"""Calls that a backend has under way: a small one's."""


class GroupSender:
    """Publishes to channels in turn, one after another."""

    def __init__(self, backend: Backend, channels: Sequence[str]) -> None:
        self._backend: Final = backend
        self._channels: Final = channels
        self._turn = 0

    def send(self, messages: Sequence[Message]) -> None:
        """One request."""
        self._backend.send("/message", compact([self._entry(one) for one in messages]))

    def _entry(self, message: Message) -> dict[str, object]:
        channel = self._channels[self._turn % len(self._channels)]
        self._turn += 1
        return {"user": "bench", "channel": channel, "message": message.fields()}

    def close(self) -> None:
        """No more."""
        self._backend.close()


class Group(Websockets):
    """See `bench.systems.System`. `settings` as on the command line of the server."""

    name = "ours"
    batches = True

    def __init__(self, shards: int = 1, edges: int = 1, routers: int = 1, **settings: object) -> None:
        self._processes: Final = {"shards": shards, "edges": edges, "routers": routers}
        self._settings: Final = settings
        self.pids: list[tuple[str, int]] = []
        """Its processes by name; not its launcher and supervisord, which idle."""

    def __enter__(self) -> Group:
        self.port, self.api_port = free_ports(2)
        self._folder = Path(tempfile.mkdtemp(prefix="cs-bench-"))
        own = {
            "port": self.port,
            "api_port": self.api_port,
            "run_dir": self._folder / "run",
            "data_dir": self._folder / "data",
            "secret": SECRET,
            "store": "memory",
        }
        flags = [
            f"--{key.replace('_', '-')}={value}" for key, value in (own | self._processes | self._settings).items()
        ]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")}
        try:
            command = [sys.executable, "-m", "channelstream", *flags]
            self._child = Child(command, self._folder / "log", environ=environ)
            self._child.wait_until(lambda: "\nready" in "\n" + self._child.said())
            self.look()
        except BaseException:
            self.__exit__()
            raise
        return self

    def look(self) -> None:
        """Ask which processes there are."""
        self.pids = [(one["process"], one["pid"]) for one in self._health()]

    def _health(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://{HOST}:{self.api_port}/healthz", timeout=10) as answer:
            processes: list[dict[str, Any]] = json.load(answer)["processes"]
        return processes

    def fullest_edge(self) -> int:
        """The pid of the one with most clients."""
        edges = [one for one in self._health() if one["role"] == "edge"]
        return int(max(edges, key=lambda one: one["connections"])["pid"])

    def wait_until_replaced(self, pid: int) -> None:
        """Until there is another process in the place of one that was killed; then look."""
        self._child.wait_until(lambda: self._is_replaced(pid))
        self.look()

    def _is_replaced(self, pid: int) -> bool:
        processes = self._health()
        return all(one["ready"] and one["pid"] != pid for one in processes)

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_child"):
            self._child.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- what is done with it ---

    @property
    def address(self) -> tuple[str, int]:
        """Of its public port."""
        return HOST, self.port

    def backend(self) -> Backend:
        """Calls its API."""
        return Backend((HOST, self.api_port), SECRET)

    def requests(self, count: int) -> Iterator[bytes]:
        """As many users on one channel."""
        return self.on_channel(CHANNEL, count)

    def on_channel(self, channel: str, count: int) -> Iterator[bytes]:
        """As many on this one."""
        # With them, what each /connect costs would grow with the channel: `connect` measures that, and nothing else.
        return self.connections([[channel]] * count, info={"include_users": False})

    def connections(self, channels: Sequence[Sequence[str]], **fields: object) -> Iterator[bytes]:
        """A user for each of these lists of channels: `AT_ONCE` of them in /connect at a time, and then the opening
        request of each. `fields`: more of the /connect."""
        conn_ids = (str(uuid.uuid4()) for _ in channels)
        bodies = (
            (conn_id, compact({"username": f"user-{number}", "conn_id": conn_id, "channels": own, **fields}))
            for number, (conn_id, own) in enumerate(zip(conn_ids, channels, strict=True))
        )
        with closing(self.backend()) as backend:
            for conn_id in backend.send_all("/connect", bodies, AT_ONCE):
                yield upgrade(f"/ws?conn_id={conn_id}")

    def sender(self, channels: Sequence[str] = (CHANNEL,)) -> GroupSender:
        """Publishes to these channels in turn."""
        return GroupSender(self.backend(), channels)


def compact(value: object) -> bytes:
    """JSON without spaces: the server passes messages on as they are."""
    return json.dumps(value, separators=(",", ":")).encode()
