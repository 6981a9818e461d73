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


def test_every_level_of_the_settings_is_known() -> None:
    from channelstream.config import LEVELS

    assert set(LEVELS.values()) == set(logs.LEVELS)
