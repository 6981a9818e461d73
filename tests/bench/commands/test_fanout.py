"""One message to many clients."""

import argparse

import pytest

from bench import cli
from bench.commands.fanout import rows_of, targets_of
from bench.floor import Floor
from bench.stand import Turn

OPTIONS = {"full_speed": False, "load": None}


def turn(cpu_s: float, latency_ms: int = 1) -> Turn:
    """A thousand deliveries."""
    return Turn(10, 1000, 0, {"edge-0": cpu_s}, [latency_ms * 1_000_000] * 10, 300_000, 1000, 1.0)


def test_medians_of_rounds_and_of_their_ratios():
    turns = {
        "ours": [turn(0.003), turn(0.009), turn(0.004)],
        "floor": [turn(0.002), turn(0.006), turn(0.002)],
        "nchan": [turn(0.006), turn(0.009), turn(0.004)],
    }
    ours, floor, _ = rows_of(turns, 100)
    assert (ours["cpu_us"], floor["cpu_us"]) == (4.0, 2.0)
    assert (ours["of_floor"], ours["of_nchan"]) == (1.5, 1.0)
    assert (ours["wire_bytes"], ours["rate"], ours["p99_ms"], ours["max_ms"]) == (300, 10, 1.0, 1.0)
    assert ours["processes_us"] == {"edge-0": pytest.approx(16 / 3)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("a delivery, of the floor's", False), ("a delivery, of nchan's", True)]),
        ({"full_speed": True}, [("µs a delivery at full speed", False)]),
        ({"load": 0.5}, [("p99 at 50% of a core, of the floor's", True)]),
        ({"load": 3.0}, []),
    ],
)
def test_targets_are_said_for_what_they_are_about(options, expected):
    rows = rows_of({"ours": [turn(0.003)], "floor": [turn(0.002)], "nchan": [turn(0.004)]}, 2000)
    found = targets_of(rows, argparse.Namespace(**(OPTIONS | options)))
    assert [(target.what, target.met) for target in found] == expected


def test_without_something_to_compare_with_there_is_no_target():
    rows = rows_of({"ours": [turn(0.003)]}, 2000)
    assert list(targets_of(rows, argparse.Namespace(**OPTIONS))) == []


TINY = ("--seconds", "0.2", "--rounds", "1")


@pytest.mark.group
@pytest.mark.parametrize("how", [("--load", "0.05"), ("--full-speed",)])
def test_it_measures(measured, how):
    rows = measured("fanout", "--clients", "10", "--payload", "300,1000", *TINY, *how)["rows"]
    assert [row["system"] for row in rows] == ["ours", "floor"] * 2
    assert all(row["cpu_us"] > 0 and row["rate"] > 0 for row in rows)


@pytest.mark.group
def test_ours_and_its_peers(measured):
    rows = measured("fanout", "--clients", "10", "--rate", "50", *TINY, "--peers")["rows"]
    assert len(rows) == 6
    assert all(row.get("note", "").startswith("not installed") or row["cpu_us"] > 0 for row in rows)
    there = [row for row in rows if "wire_bytes" in row]
    assert all(row["p99_ms"] > 0 for row in there)
    # What 0.7.1 sends around the shortest message is longer.
    assert all(abs(row["wire_bytes"] - 300) < 5 for row in there if row["system"] != "channelstream 0.7.1")


def test_a_floor_without_a_compiler_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(Floor, "missing", lambda self: "a C compiler: apt-get install gcc")
    assert cli.main(["floor", "--clients", "10"]) == cli.EXIT_FAILED
    assert "a C compiler: apt-get install gcc" in capsys.readouterr().out


@pytest.mark.group
def test_the_floor_alone(measured):
    rows = measured("floor", "--clients", "10,20", *TINY)["rows"]
    assert [row["clients"] for row in rows] == [10, 20]
    assert all(row["cpu_us"] > 0 for row in rows)
