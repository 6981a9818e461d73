"""What is broken when: a plan, and the thread that carries it out."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from channelstream.checking.history import ALL_AT_ONCE, Fault, History
from channelstream.clock import monotonic

ROLES: Final = ("shard", "edge", "router")

WORDS: Final = (*ROLES, ALL_AT_ONCE)
"""What can be named: a process of a role, chosen by chance, or every process of the group."""

FIND_WITHIN_S: Final = 2.0
"""How long a process to break is looked for: the one that was chosen may just be starting."""

LOOK_AGAIN_S: Final = 0.05


class Aim(NamedTuple):
    """What is to be broken, and how."""

    kind: str
    """`kill` (SIGKILL) or `stop` (SIGSTOP, and SIGCONT later)."""
    word: str
    """One of `WORDS`."""

    def __str__(self) -> str:
        return f"{self.kind} {self.word}"


def aims_of(kill: Iterable[str], stop: Iterable[str]) -> tuple[Aim, ...]:
    """The round: first the kills, then the stops."""
    return (*(Aim("kill", word) for word in kill), *(Aim("stop", word) for word in stop))


def schedule(aims: Sequence[Aim], seconds: float, every_s: float) -> list[tuple[float, Aim]]:
    """One fault every so many seconds, in turn, none in the last period: what it broke could not be seen."""
    if not aims:
        return []
    count = max(int(seconds / every_s) - 1, 0)
    return [((number + 1) * every_s, aims[number % len(aims)]) for number in range(count)]


class Target(Protocol):
    """A group that can be broken."""

    def health(self) -> list[dict[str, Any]]: ...
    def owns(self, pid: int) -> bool: ...


class Breaker(threading.Thread):
    """Carries out a schedule. `wait(seconds)` returns true when it is time to end; what is stopped then goes on."""

    def __init__(
        self,
        target: Target,
        plan: Sequence[tuple[float, Aim]],
        stop_for_s: float,
        history: History,
        chance: random.Random,
        wait: Callable[[float], bool],
    ) -> None:
        super().__init__(name="breaker", daemon=True)
        self._target: Final = target
        self._plan: Final = plan
        self._stop_for_s: Final = stop_for_s
        self._history: Final = history
        self._chance: Final = chance
        self._wait: Final = wait
        self._stopped: list[tuple[float, int]] = []
        """When which process goes on."""

    def run(self) -> None:
        """The whole schedule."""
        began = monotonic()
        try:
            for at, aim in self._plan:
                if self._pause_until(began + at):
                    return
                self._carry_out(aim)
            while self._stopped:
                if self._pause_until(self._stopped[0][0]):
                    return
        finally:
            self._let_go_on(float("inf"))

    def _pause_until(self, moment: float) -> bool:
        while True:
            now = monotonic()
            self._let_go_on(now)
            if now >= moment:
                return False
            due = min([moment, *(at for at, _ in self._stopped)])
            if self._wait(max(due - now, 0.0)):
                return True

    def _let_go_on(self, now: float) -> None:
        for _, pid in [one for one in self._stopped if one[0] <= now]:
            if self._target.owns(pid):
                os.kill(pid, signal.SIGCONT)
        self._stopped = [one for one in self._stopped if one[0] > now]

    def _carry_out(self, aim: Aim) -> None:
        found = self._found(aim.word)
        if not found:
            return
        name = ALL_AT_ONCE if aim.word == ALL_AT_ONCE else found[0][0]
        pids = tuple(pid for _, pid in found)
        at = monotonic()
        for pid in pids:
            self._send(pid, signal.SIGKILL if aim.kind == "kill" else signal.SIGSTOP)
        until = at if aim.kind == "kill" else at + self._stop_for_s
        if aim.kind == "stop":
            self._stopped += [(until, pid) for pid in pids]
        self._history.add(Fault(aim.kind, name, pids, at, until))

    def _found(self, word: str) -> list[tuple[str, int]]:
        """Name and pid of what is to be broken; empty where nothing of it is there in time."""
        deadline = monotonic() + FIND_WITHIN_S
        while True:
            there = [
                (str(one["process"]), int(one["pid"]))
                for one in self._target.health()
                if one["pid"] and word in (one["role"], ALL_AT_ONCE) and self._target.owns(int(one["pid"]))
            ]
            if there:
                return there if word == ALL_AT_ONCE else [self._chance.choice(there)]
            if monotonic() > deadline or self._wait(LOOK_AGAIN_S):
                return []

    def _send(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            # It ended by itself since it was looked for, and its successor is on its way: broken enough.
            return
