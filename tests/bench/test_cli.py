"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cli
from bench.commands import COMMANDS, PLAN
from bench.commands.base import Command, positive, whole, wholes
from bench.progress import Progress
from bench.report import Table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def two_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works and one that does not."""

    def nothing(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--clients", type=int, default=1)

    def works(options: argparse.Namespace, progress: Progress) -> Table:
        return Table(rows=[{"lost": options.clients - 1}])

    def fails(options: argparse.Namespace, progress: Progress) -> Table:
        raise ValueError("no room")

    commands = {name: Command(name, "How?", nothing, run) for name, run in (("works", works), ("fails", fails))}
    monkeypatch.setattr(cli, "COMMANDS", commands)
    monkeypatch.setattr(cli, "PLAN", [["fails"], ["works", "--clients", "1"]])


@pytest.mark.usefixtures("two_commands")
def test_what_fails_says_so_and_the_others_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    assert cli.main(["all", "--json", str(file)]) == cli.EXIT_FAILED
    out = capsys.readouterr().out
    assert out.index("failed: ValueError: no room") < out.index("$ python -m bench works --clients 1")
    tables = json.loads(file.read_text())["tables"]
    assert [(table["command"], table["failed"]) for table in tables] == [
        ("fails", "ValueError: no room"),
        ("works --clients 1", ""),
    ]


@pytest.mark.usefixtures("two_commands")
def test_the_exit_code_tells_of_losses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["works"]) == 0
    assert cli.main(["works", "--clients", "2"]) == cli.EXIT_FAILED
    assert "progress" not in capsys.readouterr().err


@pytest.mark.usefixtures("two_commands")
def test_json_on_the_standard_output_is_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["works", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tables"][0]["command"] == "works"
    assert set(report) == {"taken", "machine", "tables"}


@pytest.mark.parametrize(
    "words", [["fanout", "--json", "x", "--clients", "5"], ["fanout", "--clients", "5", "--json=x"]]
)
def test_where_the_result_goes_is_no_part_of_what_makes_it_again(words: list[str]) -> None:
    assert cli.shown(words) == ["fanout", "--clients", "5"]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_question_it_answers_and_its_defaults(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[name].question in text
    assert "(default:" in text


def test_all_measures_every_command_with_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert {words[0] for words in PLAN} == set(COMMANDS)
    for words in PLAN:
        cli.parser().parse_args(words)
    with pytest.raises(SystemExit):
        cli.main(["all", "--help"])
    assert "fanout --peers" in capsys.readouterr().out


def test_numbers_of_options() -> None:
    assert (whole("3"), wholes("1,20"), positive("0.5")) == (3, (1, 20), 0.5)
    for parse, text in ((whole, "0"), (whole, "-1"), (wholes, "1,"), (positive, "x"), (positive, "inf")):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """One in which unix sockets have room: pytest's is too deep."""
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.group
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("folders", [1, 2])  # as the first is made, where nobody sees to it yet, and with all running
def test_interrupts_leave_nothing_behind(number: signal.Signals, folders: int, short_folder: Path) -> None:
    command = [sys.executable, "-m", "bench", "fanout", "--clients", "5", "--seconds", "60"]
    environ = {**os.environ, "TMPDIR": str(short_folder)}
    bench = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while len(list(short_folder.glob("cs-bench-*/cs-bench-*"))) < folders:
        assert time.monotonic() < until
        assert bench.poll() is None
        time.sleep(0.05 if folders > 1 else 0.0)
    for _ in range(20):  # somebody who is impatient
        bench.send_signal(number)
        time.sleep(0.01)
    out, err = bench.communicate(timeout=60)
    assert (bench.returncode, out, err) == (cli.EXIT_INTERRUPTED, b"", b"")
    assert list(short_folder.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["fanout", "--js", "x.json"],  # a result would be kept with half a word in its command
        ["fanout", "--rate", "5", "--full-speed"],
        ["fanout", "--rate", "5", "--load", "0.5"],
        ["floor", "--full-speed"],
    ],
)
def test_what_is_no_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == cli.EXIT_WRONG
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["nowhere/x.json", "."])
def test_a_result_that_cannot_be_written_is_told_before_anything_is_measured(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["floor", "--json", str(tmp_path / where)]) == 2
    told = capsys.readouterr()
    assert "no file can be written" in told.err
    assert told.out == ""
