"""The physical limit as a system: floor.c, built where there is a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.crowd import upgrade
from bench.processes import HOST, Child
from bench.systems import Message, Websockets

SOURCE: Final = Path(__file__).with_name("floor.c")
COMPILERS: Final = ("cc", "gcc", "clang")


class FloorSender:
    """A line for each message."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor

    def send(self, messages: Sequence[Message]) -> None:
        """The moment and the length of each."""
        lines = "".join(f"{message.t} {len(message.text)}\n" for message in messages)
        os.write(self._descriptor, lines.encode())

    def close(self) -> None:
        """The pipe is the system's."""


class Floor(Websockets):
    """See `bench.systems.System`."""

    name = "floor"
    batches = True

    def missing(self) -> str | None:
        """A compiler."""
        return None if any(map(shutil.which, COMPILERS)) else "a C compiler: apt-get install gcc"

    def __enter__(self) -> Floor:
        self._folder = Path(tempfile.mkdtemp(prefix="cs-bench-floor-"))
        try:
            program = self._folder / "floor"
            compiler = next(filter(None, map(shutil.which, COMPILERS)))
            # An interrupted compiler leaves its own files behind: here they go with the folder.
            environ = {**os.environ, "TMPDIR": str(self._folder)}
            subprocess.run([compiler, "-O2", "-o", program, SOURCE], check=True, env=environ)
            self._child = Child([program], self._folder / "log", stdin=subprocess.PIPE)
            self._child.wait_until(lambda: self._child.said().endswith("\n"))
        except BaseException:
            self.__exit__()
            raise
        self.address = HOST, int(self._child.said())
        self.pids = [("floor", self._child.pid)]
        return self

    def requests(self, count: int) -> Iterator[bytes]:
        """Whoever comes is on the channel."""
        for _ in range(count):
            yield upgrade("/")

    def sender(self) -> FloorSender:
        """Writes to its standard input."""
        return FloorSender(self._child.stdin.fileno())

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_child"):
            self._child.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
