"""A process kills itself where it was asked to, once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from channelstream.errors import ConfigError
from channelstream.failpoints import NAMES, VARIABLE, arm

PROGRAM = """
import os, sys
from pathlib import Path
from channelstream import failpoints
failpoints.arm(os.environ, Path(sys.argv[1]))
for _ in range(3):
    failpoints.reach("mid_fanout")
    print("passed", flush=True)
"""


def run(folder: Path, asked: str | None) -> tuple[int, int]:
    """The exit code, and how often the place was passed."""
    environ = {} if asked is None else {VARIABLE: asked}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], env={**environ, "PYTHONPATH": ":".join(sys.path)}, stdout=-1
    )
    return done.returncode, done.stdout.count(b"passed")


@pytest.mark.parametrize(("asked", "passed"), [("mid_fanout", 0), ("mid_fanout:1", 0), ("mid_fanout:3", 2)])
def test_it_kills_at_the_time_that_was_named_and_in_one_life_only(tmp_path: Path, asked: str, passed: int) -> None:
    assert run(tmp_path, asked) == (-signal.SIGKILL, passed)
    assert run(tmp_path, asked) == (0, 3)


@pytest.mark.parametrize("asked", [None, "", "before_commit", "mid_fanout:4"])
def test_what_is_not_named_or_not_reached_kills_nobody(tmp_path: Path, asked: str | None) -> None:
    assert run(tmp_path, asked) == (0, 3)


@pytest.mark.parametrize("asked", ["nowhere", "mid_fanout:x", "mid_fanout:-1"])
def test_a_name_that_there_is_not_is_refused(tmp_path: Path, asked: str) -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        arm({VARIABLE: asked}, tmp_path)


def test_all_are_reached_somewhere() -> None:
    """One that no code reaches would never kill, and its test would see a group that nothing happens to."""
    package = Path(__file__).parent.parent / "channelstream"
    code = "".join(path.read_text() for path in package.rglob("*.py"))
    assert [name for name in NAMES if f'reach("{name}")' not in code] == []
