"""The README says what the last run has shown."""

import json

from bench.commands import COMMANDS
from bench.readme import LAST, PLACE, README, filled
from bench.report import Report, Table, from_json


def test_places_are_filled_and_filled_again():
    text = "# Bench\n<!-- machine -->\nold\n<!-- end -->\nabout\n<!-- idle -->\n<!-- end -->\nend\n"
    report = Report("2026-01-01T10:00", {"cores": "2"}, [Table("idle"), Table("fanout"), Table("idle --clients 5")])
    once = filled(text, report)
    assert once.splitlines() == [
        "# Bench",
        "<!-- machine -->",
        "",
        "2026-01-01T10:00: cores 2.",
        "",
        "<!-- end -->",
        "about",
        "<!-- idle -->",
        "",
        "    python -m bench idle",
        "",
        "    python -m bench idle --clients 5",
        "",
        "<!-- end -->",
        "end",
    ]
    assert filled(once, report) == once


def test_the_readme_is_that_of_the_last_run():
    text = README.read_text()
    assert filled(text, from_json(json.loads(LAST.read_text()))) == text


def test_each_command_has_its_place():
    assert {found[2] for found in PLACE.finditer(README.read_text())} == {*COMMANDS, "machine"}
