"""A group that a check starts for itself, as a person would, in folders and on ports of its own, and ends."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from channelstream.checking.api import LOOPBACK, Api
from channelstream.clock import monotonic
from channelstream.config import FLAGS_VARIABLE, INI_VARIABLE, KEYS
from channelstream.errors import CheckImpossible
from channelstream.process import signal_on_death_of_parent

READY_WITHIN_S: Final = 60.0
"""How long the group may take until it says that it is ready: a cold start on a busy machine."""

STOPPED_WITHIN_S: Final = 30.0
"""How long it may take to end. It kills what does not end in time by itself, so this never passes."""

KEPT_LINES: Final = 400
"""The last lines of its log, for whoever has to find out."""

HEALTH_DEADLINE_S: Final = 1.0
"""How long one question for health waits: the process that is asked may be the one that is stopped."""

POLL_S: Final = 0.05


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different. Somebody may take one before it is used; then the group says so."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """What the group's processes are given: no setting but these, and all else that there is."""
    names = {f"CHANNELSTREAM_{name.upper()}" for name in KEYS} | {INI_VARIABLE, FLAGS_VARIABLE}
    others = {name: value for name, value in environ.items() if name not in names}
    return others | {f"CHANNELSTREAM_{name.upper()}": value for name, value in settings.items()}


class OwnGroup:
    """A running group. `settings` go over the defaults; the addresses, the secret and the folders are made here."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.port, self.api_port = free_ports(2)
        self.secret: Final = secrets.token_urlsafe(32)
        self.folder: Final = Path(tempfile.mkdtemp(prefix="channelstream-check-"))
        self.lines: Final[deque[str]] = deque(maxlen=KEPT_LINES)
        """What the group said, the last of it."""
        own = {
            "port": str(self.port),
            "api_port": str(self.api_port),
            "secret": self.secret,
            "run_dir": str(self.folder / "run"),
            "data_dir": str(self.folder / "data"),
        }
        self._ready: Final = threading.Event()
        self._process: Final = self._started(environment(os.environ, own | dict(settings)))
        assert self._process.stdout is not None
        self._reader: Final = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _started(self, environ: dict[str, str]) -> subprocess.Popen[str]:
        # NOTE: a session of its own, so that a terminal's Ctrl-C reaches the check alone, which then ends the group;
        # and if the check is killed, the group ends too.
        return subprocess.Popen(
            [sys.executable, "-m", "channelstream"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environ,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready"):
                self._ready.set()
        pipe.close()

    def wait_until_ready(self) -> None:
        """Raises `CheckImpossible` where it does not start."""
        deadline = monotonic() + READY_WITHIN_S
        while not self._ready.wait(POLL_S):
            if self._process.poll() is not None or monotonic() > deadline:
                raise CheckImpossible("the group did not start", tuple(self.lines))

    def is_running(self) -> bool:
        """Whether its launcher is there."""
        return self._process.poll() is None

    def health(self) -> list[dict[str, Any]]:
        """What `/healthz` says of each process; empty where nobody answers just now."""
        for port in (self.api_port, self.port):
            api = Api(port, self.secret, HEALTH_DEADLINE_S)
            reply = api.get("/healthz")
            api.close()
            if reply.ok:
                try:
                    processes: list[dict[str, Any]] = reply.json()["processes"]
                except (msgspec.DecodeError, KeyError):
                    continue
                return processes
        return []

    def owns(self, pid: int) -> bool:
        """Whether a process is one of this group: the child of a child of its launcher. A pid that `/healthz` tells may
        have been given to somebody else meanwhile."""
        return _parent(_parent(pid)) == self._process.pid

    def stop(self) -> None:
        """End it, and remove its folders."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOPPED_WITHIN_S)
        shutil.rmtree(self.folder, ignore_errors=True)


def _end_with_parent() -> None:
    signal_on_death_of_parent(signal.SIGTERM)


def _parent(pid: int) -> int:
    """The pid of a process's parent (proc_pid_stat(5), field 4); 0 where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])
