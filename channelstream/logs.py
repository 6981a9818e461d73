"""What a log line looks like, and where lines go.

One line for each event: time (UTC), level, process, logger, message. Text from outside is escaped, so that nobody can
write a line that looks like ours. Importing this module sets nothing up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, TextIO

from channelstream.clock import monotonic, timestamp

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

CONTROL_CHARACTERS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
"""What could move a terminal's cursor or begin a new line, and how it is shown instead (C0, DEL and C1)."""

TRACEBACK_MARK: Final = "    | "
"""Begins every line of a traceback, which is the one thing that takes more than one line."""


QUIET_S: Final = 1.0
"""After a warning or an error, its kind is not shown for so long."""

MAX_KINDS: Final = 1000
"""Kinds that are told apart in such a second: all that we have are some dozens. Beyond it, one line a logger."""

HELD_BACK: Final = "%d more like: %s"


class LineFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z info     edge-0 channelstream.edge.serve: message`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process
        """Which process speaks: `role-index`. Set once."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and its traceback beneath, if it has one."""
        when = timestamp(record.created)[:-3] + "Z"
        message = record.getMessage().translate(CONTROL_CHARACTERS)
        line = f"{when} {record.levelname.lower():<8} {self.process} {record.name}: {message}"
        if record.exc_info:
            line += marked(self.formatException(record.exc_info))
        if record.stack_info:
            line += marked(record.stack_info)
        return line


Kind = tuple[str, int, str, tuple[type, ...]]
"""Logger, level, the text before its values are put in, and the types of the exceptions among those."""


class _Quiet(NamedTuple):
    """A kind that has just had its line: until when (monotonic seconds) it gets no other, and how many it did not."""

    until: float
    held_back: int


class Throttle:
    """Of each kind of warnings and errors one line a second, and then how many more there were: what happens for each
    message must not happen to the log, too. Decides only; the moments are handed to it."""

    def __init__(self) -> None:
        self._quiet: dict[Kind, _Quiet] = {}
        """By kind, the one that will be over first at the beginning."""

    def admits(self, record: logging.LogRecord, now_mono: float) -> bool:
        """Whether a record is to be shown; one that is not is counted. Call `overdue` before."""
        if record.levelno < logging.WARNING:
            return True
        kind = self._kind(record)
        quiet = self._quiet.get(kind)
        if quiet is None:
            self._quiet[kind] = _Quiet(now_mono + QUIET_S, 0)
            return True
        self._quiet[kind] = quiet._replace(held_back=quiet.held_back + 1)
        return False

    def overdue(self, now_mono: float) -> list[logging.LogRecord]:
        """What is to be shown of the kinds whose second is over: how many lines of each were held back, where any
        were."""
        told = []
        while self._quiet:
            kind, quiet = next(iter(self._quiet.items()))
            if quiet.until > now_mono:
                break
            del self._quiet[kind]
            if quiet.held_back:
                name, level, text, _ = kind
                told.append(logging.LogRecord(name, level, "", 0, HELD_BACK, (quiet.held_back, text), None))
        return told

    def _kind(self, record: logging.LogRecord) -> Kind:
        values = record.args if isinstance(record.args, tuple) else ()
        types = tuple(type(value) for value in values if isinstance(value, BaseException))
        kind = (record.name, record.levelno, str(record.msg), types)
        return kind if kind in self._quiet or len(self._quiet) < MAX_KINDS else (record.name, record.levelno, "", ())


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream, throttled. What was held back is told with the next line of any kind."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(stream)
        self._throttle: Final = Throttle()
        self._clock: Final = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`, under the handler's lock."""
        now = self._clock()
        for told in self._throttle.overdue(now):
            super().emit(told)
        if self._throttle.admits(record, now):
            super().emit(record)


def marked(text: str) -> str:
    """Lines that belong to the one above them."""
    return "".join(f"\n{TRACEBACK_MARK}{line.translate(CONTROL_CHARACTERS)}" for line in text.splitlines())


def set_up(role: str, index: int | None, level: str, debug: bool, stream: TextIO) -> None:
    """Sends the log lines of this process to `stream`. `level` is one of `LEVELS`; `debug` makes it `debug`.

    Call it once, after monkey patching and before the first line; a second call takes the place of the first. What a
    call to `log.debug` costs when debug is off is one look into the logger's cache of levels.
    """
    handler = LineHandler(stream)
    handler.setFormatter(LineFormatter(role if index is None else f"{role}-{index}"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else LEVELS[level])
    logging.captureWarnings(True)
    # PERF: a record looks these up for every line, and no line of ours shows them.
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False
