"""Lines for a person, or a pipe, that may have stopped reading: who writes them must not stop, too.

The group's processes log through supervisord to the launcher, and from there to its standard output. If a write there
waited for ever, each process would wait with its next log line in the end (`channelstream | less`, Ctrl-S).
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from typing import Final, Protocol, TextIO

PATIENCE_S: Final = 0.5
"""How long a reader that has stopped is waited for, once: a busy one reads on in that time."""

ATOMIC_BYTES: Final = 4096
"""What a pipe takes without waiting when it says that it takes anything (PIPE_BUF, pipe(7))."""


class Out(Protocol):
    """What lines are said to: a text file, or a `Screen`."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


class Screen:
    """What a launcher prints to. For `print`-like use it has `write` and `flush` of a text file.

    Lines that nobody takes are dropped whole, and counted; when lines are taken again, the first one says how many were
    not shown.
    """

    def __init__(self, out: TextIO, patience_s: float = PATIENCE_S) -> None:
        out.flush()
        self._descriptor: Final = out.fileno()
        self._patience_s: Final = patience_s
        self._lock: Final = threading.Lock()
        """Guards what follows: the launcher speaks, and its pump does."""
        self._rest = b""
        """Of a line that is half written."""
        self.dropped = 0
        """Lines that were not shown, since the last one that was."""

    def write(self, text: str) -> int:
        """Show whole lines, or count them. Raises `BrokenPipeError` where nobody can read any more."""
        with self._lock:
            for line in text.splitlines(keepends=True):
                self._show(line.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing waits here that could be written now."""

    def _show(self, line: bytes) -> None:
        # One who has stopped is not waited for a second time.
        patience_s = 0.0 if self.dropped or self._rest else self._patience_s
        if self._rest and not self._put(self._rest, patience_s):
            self.dropped += 1
            return
        if self.dropped:
            if not self._is_taken(patience_s):
                self.dropped += 1
                return
            line = b"(%d lines not shown: nobody was reading)\n" % self.dropped + line
        elif not self._is_taken(patience_s):
            self.dropped += 1
            return
        self.dropped = 0
        self._put(line, patience_s)

    def _put(self, data: bytes, patience_s: float) -> bool:
        """Write as much as is taken; the rest is kept for later. Whether that was all."""
        for piece, rest in _pieces(data):
            if not self._is_taken(patience_s):
                self._rest = piece + rest
                return False
            written = os.write(self._descriptor, piece)
            if written < len(piece):
                self._rest = piece[written:] + rest
                return False
        self._rest = b""
        return True

    def _is_taken(self, patience_s: float) -> bool:
        return bool(select.select([], [self._descriptor], [], patience_s)[1])


def _pieces(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pieces that are written without waiting, each with what is behind it."""
    for start in range(0, len(data), ATOMIC_BYTES):
        yield data[start : start + ATOMIC_BYTES], data[start + ATOMIC_BYTES :]
