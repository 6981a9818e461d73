"""Named places at which a process kills itself, for tests of what such an end costs. Off unless the environment asks.

`CHANNELSTREAM_FAILPOINT=NAME` arms one, `NAME:3` at the third time that it is reached. It fires once: the file
`fired-NAME` in `run_dir` says that it has, so that the next life of the process goes on. Only `process.Life` arms them;
where nobody did, reaching one costs a comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from channelstream.errors import ConfigError

VARIABLE: Final = "CHANNELSTREAM_FAILPOINT"

NAMES: Final = frozenset(
    {
        "before_commit",  # the group is written, its transaction still open
        "after_commit_before_answer",  # it is down; nobody has been told
        "after_answer_before_delivery",  # the callers were told; the clients were not
        "mid_fanout",  # some clients of an edge have a delivery, others do not
        "in_checkpoint",  # the write-ahead log is being moved into the database
        "mid_move",  # some shards' files are made anew for another number of shards, others are not
    }
)


class _Armed:
    """The failpoint that is armed, if any."""

    name = ""
    left = 0
    """How often it is still reached without harm, and once more."""
    fired = Path()
    """The file that says that it has killed."""


def arm(environ: Mapping[str, str], run_dir: Path) -> None:
    """Arm what the environment names. Raises `ConfigError` for a name that there is not."""
    name, _, count = environ.get(VARIABLE, "").partition(":")
    if not name:
        return
    if name not in NAMES or not (count or "1").isdecimal():
        raise ConfigError(VARIABLE, environ[VARIABLE], f"NAME or NAME:COUNT, with one of {', '.join(sorted(NAMES))}")
    _Armed.fired = run_dir / f"fired-{name}"
    if not _Armed.fired.exists():
        _Armed.name, _Armed.left = name, int(count or "1")


def reach(name: str) -> None:
    """This place is reached: the process kills itself here if it was asked to."""
    if _Armed.name == name:
        _Armed.left -= 1
        if _Armed.left <= 0:
            _Armed.fired.touch()
            os.kill(os.getpid(), signal.SIGKILL)
