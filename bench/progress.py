"""One line that says what is going on, on a terminal only: a pipe or a log gets none of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

EVERY_S: Final = 0.1
"""A person reads no faster, and the crowd should not write."""

CLEAR: Final = "\r\x1b[K"


class Progress:
    """The line. `show` as often as you like."""

    def __init__(self, err: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._err: Final = sys.stderr if err is None else err
        self._clock: Final = clock
        self._on_terminal: Final = self._err.isatty()
        self._shown_at = -EVERY_S
        self.what = ""
        """What each line begins with."""

    def show(self, text: str) -> None:
        """Show this instead of what was there."""
        if self._on_terminal and self._clock() - self._shown_at >= EVERY_S:
            self._shown_at = self._clock()
            self._write(f"{self.what}{text}")

    def end(self) -> None:
        """Nothing is going on any more."""
        if self._on_terminal:
            self._write("")

    def _write(self, text: str) -> None:
        self._err.write(CLEAR + text)
        self._err.flush()
