"""What a command found out: rows, targets, and how they look as text, as JSON and in a README. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

NOTE: Final = "note"
"""The key of a row's remark, which stands where figures would: how to install a peer, or what failed."""


@dataclass(frozen=True)
class Column:
    """One figure of each row."""

    key: str
    """In a row; with its unit, since JSON has no heads."""
    head: str
    decimals: int = 0


@dataclass(frozen=True)
class Target:
    """What a figure should not exceed."""

    what: str
    figure: float
    limit: float
    unit: str = ""
    decimals: int = 2

    @property
    def met(self) -> bool:
        """Whether it does not."""
        return self.figure <= self.limit

    def line(self) -> str:
        """For people."""
        sign = "✓" if self.met else "✗"
        unit = f" {self.unit}" if self.unit else ""
        figure, limit = (f"{value:,.{self.decimals}f}" for value in (self.figure, self.limit))
        return f"{sign} {self.what}: {figure}{unit}, target ≤ {limit}{unit}"


Row = Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """What one command found out."""

    command: str = ""
    """That makes it again, without `python -m bench`."""
    question: str = ""
    columns: Sequence[Column] = ()
    rows: Sequence[Row] = ()
    targets: Sequence[Target] = ()
    failed: str = ""
    """Why there are no rows, or why they are not to be believed."""
    took_s: float = 0.0

    @property
    def name(self) -> str:
        """Of the command, without its options."""
        return self.command.split()[0]

    @property
    def lost(self) -> int:
        """Messages that did not arrive."""
        return sum(int(str(row.get("lost", 0))) for row in self.rows)

    @property
    def fine(self) -> bool:
        """Whether all was measured and nothing was lost. A target that is missed says something of a machine or a
        change; it is no failure, nor is a peer that is not installed."""
        return not self.failed and not self.lost


@dataclass(frozen=True)
class Report:
    """Of one or several commands on one machine."""

    taken: str
    """When, in UTC."""
    machine: Mapping[str, str]
    tables: Sequence[Table] = field(default_factory=list)


# --- as JSON ---


def to_json(report: Report) -> dict[str, Any]:
    """An object of plain values. A row has what its columns name, and maybe more."""
    made = asdict(report)
    for table, found in zip(made["tables"], report.tables, strict=True):
        for target, one in zip(table["targets"], found.targets, strict=True):
            target["met"] = one.met
    return made


def from_json(made: Mapping[str, Any]) -> Report:
    """The other way."""
    return Report(made["taken"], made["machine"], [_table(one) for one in made["tables"]])


def _table(made: Mapping[str, Any]) -> Table:
    targets = [Target(**{key: value for key, value in one.items() if key != "met"}) for one in made["targets"]]
    return Table(**{**made, "columns": [Column(**one) for one in made["columns"]], "targets": targets})


# --- as text ---


def cells(table: Table) -> list[list[str]]:
    """The table as texts, its heads first. What a row does not have is empty; a note stands in the last column."""
    columns = table.columns
    notes = any(NOTE in row for row in table.rows)
    heads = [column.head for column in columns] + ([""] if notes else [])
    return [
        heads,
        *([_cell(row.get(column.key), column) for column in columns] + _note(row, notes) for row in table.rows),
    ]


def _note(row: Row, notes: bool) -> list[str]:
    return [str(row.get(NOTE, ""))] if notes else []


def _cell(value: object, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{value:,.{column.decimals}f}"
    return str(value)


def as_text(table: Table) -> str:
    """For a terminal."""
    lines = [f"$ python -m bench {table.command}", table.question]
    if table.rows:
        lines += ["", *_aligned(cells(table), table)]
    lines += [target.line() for target in table.targets]
    if table.failed:
        lines.append(f"failed: {table.failed}")
    return "\n".join(lines) + "\n"


def _aligned(texts: Sequence[Sequence[str]], table: Table) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numbers = _numbers(table, len(widths))
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in texts
    ]


def _numbers(table: Table, width: int) -> list[bool]:
    """Which columns are of numbers, and so stand at the right."""
    found = [any(isinstance(row.get(column.key), int | float) for row in table.rows) for column in table.columns]
    return found + [False] * (width - len(found))


def as_markdown(table: Table) -> str:
    """For a README."""
    lines = [f"    python -m bench {table.command}", ""]
    if table.rows:
        heads, *rows = cells(table)
        rules = ["---:" if number else "---" for number in _numbers(table, len(heads))]
        lines += ["| " + " | ".join(line) + " |" for line in (heads, rules, *rows)] + [""]
    lines += [f"- {target.line()}" for target in table.targets]
    if table.failed:
        lines.append(f"- failed: {' '.join(table.failed.split())}")
    return "\n".join(lines).rstrip() + "\n"
