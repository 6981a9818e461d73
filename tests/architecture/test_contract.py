"""Every promise of docs/contract.md is the number of a test, and no test proves what is not promised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "contract.md"
TESTS = ROOT / "tests"

PROMISE = re.compile(r"^- \*\*(\d+\.\d+[a-z]?)\*\* ", re.MULTILINE)
SECTION = re.compile(r"^## (\d+)\. ", re.MULTILINE)


def promises() -> list[str]:
    """The page's numbers, in its order."""
    return PROMISE.findall(PAGE.read_text())


def is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def numbers_of(decorator: ast.expr) -> Iterator[str]:
    """What stands in a `@pytest.mark.promise(…)`; nothing for any other decorator."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
        yield from (ast.literal_eval(argument) for argument in decorator.args)


def proved_in(source: str) -> dict[str, list[str]]:
    """The numbers that a file's tests prove: number → names of the tests."""
    proved: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if is_test(node):
            for number in (number for decorator in node.decorator_list for number in numbers_of(decorator)):
                proved.setdefault(number, []).append(node.name)
    return proved


def marks_in(source: str) -> int:
    """How often the marker is named, wherever that is."""
    named = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and node.attr == "promise")
    return sum(ast.unparse(node) == "pytest.mark.promise" for node in named)


def marks_on_tests(source: str) -> int:
    """How many of them stand over a test, with numbers."""
    tests = (node for node in ast.walk(ast.parse(source)) if is_test(node))
    return sum(bool(list(numbers_of(decorator))) for test in tests for decorator in test.decorator_list)


@pytest.fixture(scope="module")
def proved() -> dict[str, list[str]]:
    """number → where it is proved, of all test files."""
    everywhere: dict[str, list[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for number, names in proved_in(path.read_text()).items():
            everywhere.setdefault(number, []).extend(f"{path.relative_to(ROOT)}::{name}" for name in names)
    return everywhere


def test_the_page_counts_without_holes() -> None:
    page = PAGE.read_text()
    assert SECTION.findall(page) == ["1", "2", "3", "4", "5"]
    counted: dict[str, int] = {}
    for number in promises():
        section, _, place = number.rstrip("abcdefghijklmnopqrstuvwxyz").partition(".")
        last = counted.get(section, 0)
        assert int(place) == last + 1 or (int(place) == last and number[-1].isalpha()), number
        counted[section] = int(place)
    assert list(counted) == ["1", "2", "3", "4", "5"]
    assert len(set(promises())) == len(promises())


def test_a_promise_stands_in_its_section() -> None:
    page = PAGE.read_text()
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        wrong = [number for number in PROMISE.findall(section) if not section.startswith(number.split(".")[0] + ". ")]
        assert wrong == []


def test_every_promise_has_a_test(proved: dict[str, list[str]]) -> None:
    assert [number for number in promises() if number not in proved] == []


def test_no_test_proves_what_is_not_promised(proved: dict[str, list[str]]) -> None:
    unknown = set(proved) - set(promises())
    assert {number: proved[number] for number in sorted(unknown)} == {}


def test_no_marker_is_overlooked() -> None:
    """A marker over a class, in a `pytestmark` or without numbers would prove nothing."""
    for path in TESTS.rglob("*.py"):
        source = path.read_text()
        assert marks_in(source) == marks_on_tests(source), path.relative_to(ROOT)


def test_markers_are_found_where_they_are() -> None:
    test = '@pytest.mark.promise("1.1", "1.2")\n@other\ndef test_a(): ...\n\n'
    source = test + '@pytest.mark.promise("9.9")\ndef no(): ...\n'
    assert proved_in(source) == {"1.1": ["test_a"], "1.2": ["test_a"]}
    assert (marks_in(source), marks_on_tests(source)) == (2, 1)
