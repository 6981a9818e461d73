"""The command line: `python -m bench COMMAND`, one of the measurements or all of them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from bench.commands import COMMANDS, PLAN
from bench.commands.base import Command
from bench.machine import machine
from bench.progress import Progress
from bench.readme import main as write_readme
from bench.report import Report, Table, as_text, to_json

EXIT_FAILED: Final = 1
EXIT_WRONG: Final = 2
EXIT_INTERRUPTED: Final = 130

INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)

DESCRIPTION: Final = """\
Measures the server and others like it on this machine: CPU time of processes, by units, with clients on loopback.
Everything is started for it, in folders of its own, and gone afterwards. bench/README.md says how to read the tables.
"""
EPILOG: Final = """\
exit codes:
  0    all was measured, and nothing was lost
  1    something was lost or could not be measured; which is said
  2    a wrong command line
  130  interrupted
A target that is missed is marked, and is no failure.
"""


def parser() -> argparse.ArgumentParser:
    """Of all commands."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        one = commands.add_parser(command.name, help=command.question, description=command.question, allow_abbrev=False)
        command.add_options(one)
        _add_json(one)
    everything = commands.add_parser(
        "all", help="all of them, in less than 15 minutes", description=_plan(), allow_abbrev=False
    )
    everything.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_json(everything)
    commands.add_parser(
        "readme",
        help="write the tables of bench/last.json into bench/README.md",
        description="Writes the tables of bench/last.json, made by `all --json bench/last.json`, into bench/README.md.",
    )
    return made


def _add_json(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--json", metavar="FILE", help="the result as JSON too, in a file; with - on the standard output, and no table"
    )


def _plan() -> str:
    return "Measures all of it, one after the other:\n\n" + "\n".join(f"  {' '.join(words)}" for words in PLAN)


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command line. Returns the exit code."""
    options = parser().parse_args(words)
    if options.command == "readme":
        return write_readme()
    if options.json and not _is_writable(options.json):
        print(f"--json {options.json}: no file can be written there", file=sys.stderr)
        return EXIT_WRONG
    lines = PLAN if options.command == "all" else [list(sys.argv[1:] if words is None else words)]
    progress = Progress()
    try:
        with _interrupts(), _own_folder():
            report = Report(_now(), machine(), measure_all(lines, progress, quiet=options.json == "-"))
    except KeyboardInterrupt:
        progress.end()
        return EXIT_INTERRUPTED
    if options.json:
        _write(json.dumps(to_json(report), indent=1, ensure_ascii=False) + "\n", options.json)
    return 0 if all(table.fine for table in report.tables) else EXIT_FAILED


def _is_writable(name: str) -> bool:
    """Whether a result can go there. Asked before minutes are spent on it."""
    path = Path(name)
    return name == "-" or (not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK))


@contextmanager
def _own_folder() -> Iterator[None]:
    """Temporary folders are made in one, which is gone afterwards: an interrupt may fall between the making of a folder
    and the moment from which somebody sees to its end."""
    with tempfile.TemporaryDirectory(prefix="cs-bench-") as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def _interrupts() -> Iterator[None]:
    """SIGINT and SIGTERM are a `KeyboardInterrupt`; after one the program ends, and is not to be interrupted again."""
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    """Once: a second one would fall into the tidying up after the first, which takes a few seconds at most."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="minutes")


def measure_all(lines: Sequence[Sequence[str]], progress: Progress, quiet: bool) -> list[Table]:
    """One after another; a table for each, shown as soon as it is there unless it is to be quiet."""
    tables = []
    for number, words in enumerate(lines):
        progress.what = f"[{number + 1}/{len(lines)}] {words[0]}: " if len(lines) > 1 else f"{words[0]}: "
        table = measure(words, progress)
        progress.end()
        if not quiet:
            print(as_text(table), flush=True)
        tables.append(table)
    return tables


def measure(words: Sequence[str], progress: Progress) -> Table:
    """One command. What goes wrong with it is said in its table."""
    options = parser().parse_args(words)
    command: Command = COMMANDS[options.command]
    began = time.monotonic()
    try:
        table = command.run(options, progress)
    except Exception as error:
        table = Table(failed=f"{type(error).__name__}: {error}")
    return replace(
        table, command=" ".join(shown(words)), question=command.question, took_s=round(time.monotonic() - began, 1)
    )


def shown(words: Sequence[str]) -> list[str]:
    """The command line without what says where the result goes."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--json":
            skip = True
        elif not word.startswith("--json="):
            kept.append(word)
    return kept


def _write(text: str, where: str) -> None:
    if where == "-":
        sys.stdout.write(text)
    else:
        Path(where).write_text(text)
