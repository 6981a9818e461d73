"""Tables as text, as JSON and as Markdown."""

import json

import pytest

from bench.report import Column, Report, Table, Target, as_markdown, as_text, from_json, to_json

COLUMNS = (Column("system", "system"), Column("cpu_us", "µs", 2), Column("lost", "lost"))
ROWS = (
    {"system": "ours", "cpu_us": 1234.5, "lost": 0, "more": [1, 2]},
    {"system": "floor", "cpu_us": 4.0, "lost": 0},
    {"system": "ws", "note": "not installed: ws"},
)
TARGETS = [Target("a delivery", 1.5, 1.2), Target("x", 2, 3, "µs", 0)]
TABLE = Table("fanout --peers", "How much?", COLUMNS, ROWS, TARGETS)


def test_text_is_aligned_numbers_at_the_right():
    assert as_text(TABLE).splitlines() == [
        "$ python -m bench fanout --peers",
        "How much?",
        "",
        "system        µs  lost",
        "ours    1,234.50     0",
        "floor       4.00     0",
        "ws                      not installed: ws",
        "✗ a delivery: 1.50, target ≤ 1.20",
        "✓ x: 2 µs, target ≤ 3 µs",
    ]


def test_markdown_has_the_same():
    assert as_markdown(TABLE).splitlines() == [
        "    python -m bench fanout --peers",
        "",
        "| system | µs | lost |  |",
        "| --- | ---: | ---: | --- |",
        "| ours | 1,234.50 | 0 |  |",
        "| floor | 4.00 | 0 |  |",
        "| ws |  |  | not installed: ws |",
        "",
        "- ✗ a delivery: 1.50, target ≤ 1.20",
        "- ✓ x: 2 µs, target ≤ 3 µs",
    ]


def test_json_can_be_read_again():
    report = Report("2026-01-01", {"cores": "2"}, [TABLE, Table("idle", failed="no")])
    made = json.loads(json.dumps(to_json(report)))
    assert [target["met"] for target in made["tables"][0]["targets"]] == [False, True]
    assert made["tables"][0]["rows"][0]["more"] == [1, 2]
    read = from_json(made)
    assert [as_text(table) for table in read.tables] == [as_text(table) for table in report.tables]


def test_what_failed_says_so():
    assert as_text(Table("idle", "How much?", failed="no room")).endswith("How much?\nfailed: no room\n")
    assert as_markdown(Table("idle", failed="no\nroom")).endswith("- failed: no room\n")


@pytest.mark.parametrize(
    ("table", "fine"), [(TABLE, True), (Table(failed="no"), False), (Table(rows=[{"lost": 1}]), False), (Table(), True)]
)
def test_a_missed_target_and_a_peer_that_is_not_there_are_no_failure(table, fine):
    assert table.fine == fine


def test_its_name_is_the_commands():
    assert TABLE.name == "fanout"
