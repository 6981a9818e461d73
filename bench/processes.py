"""What processes use, as Linux tells it in /proc: CPU time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
"""The unit of times in /proc/PID/stat (proc(5)): what is measured should be a hundred of them at least."""


def cpu_s(pid: int) -> float:
    """User and system time of a process, its threads included, in seconds. 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def pss_kb(pid: int) -> int:
    """The proportional set size of a process in kB: shared memory counts by its part. 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except FileNotFoundError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def children_of(pid: int) -> list[int]:
    """A process's children and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children_of(child)]
    return found


class Cpu:
    """Used between two looks, by each of some named processes."""

    def __init__(self, pids: Sequence[tuple[str, int]]) -> None:
        self._pids: Final = pids
        self._before: Final = [cpu_s(pid) for _, pid in pids]

    def used_s(self) -> dict[str, float]:
        """Seconds of CPU since this was made, by name."""
        return {name: cpu_s(pid) - before for (name, pid), before in zip(self._pids, self._before, strict=True)}


def total_pss_kb(pids: Iterable[int]) -> int:
    """Of all of them."""
    return sum(map(pss_kb, pids))
