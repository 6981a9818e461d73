"""What tests of the bench share: its command line, run as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

Run = Callable[..., Any]


@pytest.fixture
def measured(tmp_path: Path) -> Run:
    """Runs a command with small numbers, and gives its table out of the JSON. Nothing may be lost or fail."""

    def run(*words: str) -> Any:
        file = tmp_path / "result.json"
        command = [sys.executable, "-m", "bench", *words, "--json", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        report = json.loads(file.read_text())
        (table,) = report["tables"]
        assert table["command"] == " ".join(words)
        assert table["failed"] == ""
        assert table["rows"]
        for row in table["rows"]:
            assert row.get("lost", 0) == 0, row
            for head in (column["head"] for column in table["columns"]):
                assert head in done.stdout
        return table

    return run
