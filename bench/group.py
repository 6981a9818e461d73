"""A group of ours to measure, with folders of its own, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from bench.calls import Backend
from bench.crowd import upgrade
from bench.processes import Cpu

SECRET: Final = "a secret for measuring"
HOST: Final = "127.0.0.1"
READY_WITHIN_S: Final = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Group:
    """Use it with `with`: ready inside, gone after. `settings` as on the command line of the server."""

    def __init__(self, shards: int = 1, edges: int = 1, routers: int = 1, **settings: object) -> None:
        self.port, self.api_port = free_ports(2)
        self._folder: Final = Path(tempfile.mkdtemp(prefix="cs-bench-"))
        self._settings: Final[dict[str, object]] = {
            "port": self.port,
            "api_port": self.api_port,
            "run_dir": self._folder / "run",
            "data_dir": self._folder / "data",
            "secret": SECRET,
            "shards": shards,
            "edges": edges,
            "routers": routers,
            "store": "memory",
            **settings,
        }
        self.pids: list[tuple[str, int]] = []
        """Its processes by name; not its launcher and supervisord, which idle."""

    def __enter__(self) -> Group:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in self._settings.items()]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "channelstream", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_ready(self) -> None:
        said: list[str] = []
        for line in self._out:
            said.append(line)
            if line.startswith("ready"):
                break
        else:
            raise RuntimeError("the group did not start:\n" + "".join(said))
        threading.Thread(target=self._drain, daemon=True).start()
        self.look()

    def look(self) -> None:
        """Ask which processes there are."""
        with urllib.request.urlopen(f"http://{HOST}:{self.api_port}/healthz", timeout=10) as answer:
            self.pids = [(one["process"], one["pid"]) for one in json.load(answer)["processes"]]

    @property
    def _out(self) -> TextIO:
        assert self._process.stdout is not None
        return self._process.stdout

    def _drain(self) -> None:
        for _ in self._out:
            continue

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- what is done with it ---

    def backend(self) -> Backend:
        """Calls its API."""
        return Backend((HOST, self.api_port), SECRET)

    def cpu(self) -> Cpu:
        """Measures its processes from now on."""
        return Cpu(self.pids)

    @property
    def address(self) -> tuple[str, int]:
        """Of its public port."""
        return HOST, self.port

    def wait_until_settled(self, seconds: float = 0.5) -> None:
        """Let timers of a start or of many new clients run out."""
        time.sleep(seconds)


def connections(backend: Backend, count: int, channels: Sequence[str], **fields: object) -> Iterator[bytes]:
    """Connects as many users, one at a time as they are asked for, and gives the opening request of each."""
    for number in range(count):
        conn_id = str(uuid.uuid4())
        body = {"username": f"user-{number}", "conn_id": conn_id, "channels": list(channels), **fields}
        backend.call("/connect", body)
        yield upgrade(f"/ws?conn_id={conn_id}")
