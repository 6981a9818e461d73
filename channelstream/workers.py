"""Greenlets that work on one thing after another, instead of one for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gevent import get_hub, getcurrent, spawn_raw

MOST_IDLE: Final = 32
"""Greenlets that are kept without work, 16 kB each: as many as clients come in one turn of a busy loop."""

Work = Callable[..., object]


class Workers:
    """See the module. PERF: a new greenlet asks the kernel for memory and gives it back at its end, and both are a
    twentieth of what a client's coming costs."""

    def __init__(self) -> None:
        self._hub: Final = get_hub()
        self._waiting: deque[tuple[Work, tuple[object, ...]]] = deque()
        """For each of these a greenlet has been woken, or made."""
        self._idle: list[Any] = []

    @property
    def idle(self) -> int:
        """How many wait for work."""
        return len(self._idle)

    def spawn(self, work: Work, *args: object) -> None:
        """Have this done with the next turn of the loop. What it raises is told as gevent tells it, and nobody minds
        else."""
        self._waiting.append((work, args))
        if self._idle:
            self._hub.loop.run_callback(self._idle.pop().switch)
        else:
            spawn_raw(self._live)

    def _live(self) -> None:
        me = getcurrent()
        while True:
            self._do(*self._waiting.popleft())
            if len(self._idle) >= MOST_IDLE:
                return
            self._idle.append(me)
            self._hub.switch()

    def _do(self, work: Work, args: tuple[object, ...]) -> None:
        try:
            work(*args)
        except Exception as error:
            self._hub.handle_error(self, type(error), error, error.__traceback__)
