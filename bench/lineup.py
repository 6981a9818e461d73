"""Several systems that take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Generic, TypeVar

from bench.report import NOTE, Row
from bench.systems import System

LONGEST_NOTE = 200
"""A peer's whole log says no more than its end."""

T = TypeVar("T")


class Lineup(Generic[T]):
    """All there at once. What one of them lacks, or fails at, is said in its row, and the others go on; but for the
    first one, which is what it is all about: its failures are raised. Use it with `with`."""

    def __init__(self, systems: Sequence[System], start: Callable[[System], AbstractContextManager[T]]) -> None:
        """`start`: starts one of them, and ends it."""
        self._first = systems[0]
        self._running: list[tuple[System, T]] = []
        self.notes: list[Row] = []
        """Rows of those that do not take part, or no more."""
        with ExitStack() as stack:
            for system in systems:
                lacks = system.missing()
                if lacks is not None:
                    self.notes.append({"system": system.name, NOTE: f"not installed: {lacks}"})
                    continue
                try:
                    self._running.append((system, stack.enter_context(start(system))))
                except Exception as error:
                    self._failed(system, error)
            self._stack = stack.pop_all()

    @property
    def first(self) -> T:
        """What was started first. Raises `LookupError` where that is not installed."""
        return self._running[0][1]

    def each(self, work: Callable[[T], None]) -> None:
        """Do this with each of them, in turn."""
        for system, started in tuple(self._running):
            try:
                work(started)
            except Exception as error:
                self._failed(system, error)
                self._running.remove((system, started))

    def _failed(self, system: System, error: Exception) -> None:
        if system is self._first:
            raise error
        self.notes.append({"system": system.name, NOTE: f"failed: {str(error)[-LONGEST_NOTE:]}"})

    def __enter__(self) -> Lineup[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
