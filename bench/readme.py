"""Writes the figures of a run into bench/README.md, so that it says nothing that a run has not shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from bench.report import Report, as_markdown, from_json

FOLDER: Final = Path(__file__).parent
README: Final = FOLDER / "README.md"
LAST: Final = FOLDER / "last.json"
"""What `python -m bench all --json bench/last.json` wrote."""

PLACE: Final = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MACHINE: Final = "machine"


def filled(text: str, report: Report) -> str:
    """The README with each place `<!-- COMMAND --> … <!-- end -->` filled with that command's tables, and the one of
    `machine` with where and when they were made. Pure."""
    return PLACE.sub(lambda found: found[1] + "\n" + _block(found[2], report) + "\n" + found[3], text)


def _block(name: str, report: Report) -> str:
    if name == MACHINE:
        parts = ", ".join(f"{word} {value}" for word, value in report.machine.items())
        return f"{report.taken}: {parts}.\n"
    return "\n".join(as_markdown(table) for table in report.tables if table.name == name)


def main() -> int:
    """Fill it."""
    README.write_text(filled(README.read_text(), from_json(json.loads(LAST.read_text()))))
    return 0
