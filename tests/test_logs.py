"""Log lines."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from channelstream import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; the logging of the tests is put back after."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    shown = (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = shown


def test_a_line(stream: io.StringIO) -> None:
    logs.set_up("edge", 3, "info", False, stream)
    logging.getLogger("channelstream.edge.link").warning("shard %s is away", 1)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning  edge-3 channelstream.edge.link: shard 1 is away\n",
        stream.getvalue(),
    )


def test_the_time_is_utc(stream: io.StringIO) -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "m", None, None)
    record.created = 86400.25
    assert logs.LineFormatter("edge-0").format(record) == "1970-01-02T00:00:00.250Z info     edge-0 a: m"


@pytest.mark.parametrize(
    ("level", "debug", "expected"),
    [("info", False, "iwe"), ("debug", False, "diwe"), ("error", False, "e"), ("error", True, "diwe")],
)
def test_levels(stream: io.StringIO, level: str, debug: bool, expected: str) -> None:
    logs.set_up("shard", 0, level, debug, stream)
    log = logging.getLogger("t")
    for letter, say in zip("diwe", (log.debug, log.info, log.warning, log.error), strict=True):
        say(letter)
    assert "".join(line[-1] for line in stream.getvalue().splitlines()) == expected


def test_nobody_forges_a_line(stream: io.StringIO) -> None:
    logs.set_up("router", None, "info", False, stream)
    logging.getLogger("t").info("user %s", "a\nb\r\x1b[2J\x9b")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r"router t: user a\x0ab\x0d\x1b[2J\x9b")


def test_a_traceback_stands_beneath_its_line(stream: io.StringIO) -> None:
    logs.set_up("router", 0, "info", False, stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("t").exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("t: failed")
    assert rest
    assert all(line.startswith(logs.TRACEBACK_MARK) for line in rest)


def test_a_second_call_takes_the_place_of_the_first(stream: io.StringIO) -> None:
    logs.set_up("router", 0, "info", False, io.StringIO())
    logs.set_up("router", 1, "info", False, stream)
    logging.getLogger("t").info("once")
    assert stream.getvalue().count("once") == 1


def test_warnings_are_lines_too(stream: io.StringIO) -> None:
    logs.set_up("router", 0, "info", False, stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "py.warnings" in stream.getvalue()


# --- floods ---


class Lines:
    """A handler with a clock that the test is, and what it has written."""

    def __init__(self) -> None:
        self.now = 100.0
        self.stream = io.StringIO()
        self.log = logging.Logger("t", logging.DEBUG)
        handler = logs.LineHandler(self.stream, lambda: self.now)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.log.addHandler(handler)

    def taken(self) -> list[str]:
        """What was written since the last look."""
        said = self.stream.getvalue().splitlines()
        self.stream.seek(0)
        self.stream.truncate()
        return said


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_a_flood_is_one_line_a_second_and_a_count(lines: Lines) -> None:
    for number in range(1000):
        lines.log.warning("queue of %d is full", number)
    assert lines.taken() == ["WARNING queue of 0 is full"]
    lines.now += 1.0
    for number in range(1000, 2000):
        lines.log.warning("queue of %d is full", number)
    assert lines.taken() == ["WARNING 999 more like: queue of %d is full", "WARNING queue of 1000 is full"]


def test_what_was_held_back_is_told_with_whatever_is_said_next(lines: Lines) -> None:
    for _ in range(3):
        lines.log.error("once")
    lines.now += 0.9
    lines.log.info("something else")
    assert lines.taken() == ["ERROR once", "INFO something else"]
    lines.now += 0.1
    lines.log.info("something else")
    assert lines.taken() == ["ERROR 2 more like: once", "INFO something else"]
    lines.now += 1.0
    lines.log.error("once")
    assert lines.taken() == ["ERROR once"]


def test_one_that_comes_now_and_then_is_always_shown(lines: Lines) -> None:
    for _ in range(3):
        lines.log.warning("again")
        lines.now += 1.0
    assert lines.taken() == ["WARNING again"] * 3


def test_kinds_are_told_apart_and_what_is_no_warning_is_no_flood(lines: Lines) -> None:
    for _ in range(2):
        lines.log.warning("%s", ValueError("a"))
        lines.log.warning("%s", KeyError("b"))
        lines.log.error("%s", ValueError("a"))
        lines.log.info("%s", "c")
        lines.log.debug("%s", "d")
    assert sorted(lines.taken()) == [
        *["DEBUG d"] * 2,
        "ERROR a",
        *["INFO c"] * 2,
        "WARNING 'b'",
        "WARNING a",
    ]


def test_a_flood_of_kinds_is_bounded_too(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_KINDS", 3)
    for number in range(100):
        lines.log.warning(f"kind {number}")
    assert len(lines.taken()) == 4


def test_a_flood_of_tracebacks_is_one_traceback(lines: Lines) -> None:
    for _ in range(100):
        try:
            raise ValueError("no")
        except ValueError:
            lines.log.exception("failed")
    assert lines.taken().count("ERROR failed") == 1


def test_every_level_of_the_settings_is_known() -> None:
    from channelstream.config import LEVELS

    assert set(LEVELS.values()) == set(logs.LEVELS)
