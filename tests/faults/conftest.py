"""What the tests of faults share: groups as in tests/group, whole checks, and the length of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

LENGTH = float(os.environ.get("CHANNELSTREAM_TEST_FAULTS_LENGTH", "1"))
"""How many times longer than in CI the runs are. `make faults` sets it."""

CHECK_TIMEOUT_S = 300 * LENGTH
"""A check ends by itself long before."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.group)


class Checked(NamedTuple):
    """What came of `channelstream check-delivery`."""

    code: int
    summary: dict[str, Any]
    said: str

    @property
    def kinds(self) -> set[str]:
        """The kinds of findings."""
        return set(self.summary["counts"])

    def describe(self) -> str:
        findings = "\n".join(map(str, self.summary["findings"][:20]))
        return f"exit code {self.code}, {self.summary['counts']}, {self.summary['invalid']}\n{findings}\n{self.said}"


def check(*words: object, broken: str = "", seconds: float = 6.0) -> Checked:
    """Run the command as a person would. `broken`: which sabotage its group suffers, see broken/sitecustomize.py."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")}
    paths = [str(HERE / "broken")] * bool(broken) + [path for path in [environ.get("PYTHONPATH")] if path]
    environ |= {"PYTHONPATH": os.pathsep.join(paths), "BROKEN_BUILD": broken}
    command = [sys.executable, "-m", "channelstream", "check-delivery", "--json", "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, env=environ, timeout=CHECK_TIMEOUT_S
    )
    assert done.stdout, done.stderr
    return Checked(done.returncode, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="session")
def checked() -> Any:
    """`checked(*words, broken="", seconds=6.0)` → `Checked`."""
    return check


@pytest.fixture(scope="session")
def length() -> float:
    """How many times longer than in CI."""
    return LENGTH


@pytest.fixture(scope="session")
def groups(helpers: ModuleType) -> ModuleType:
    """The helpers of tests/group: `Group`, `running`, `eventually` and the others."""
    return helpers
