"""What a log line looks like, and where lines go.

One line for each event: time (UTC), level, process, logger, message. Text from outside is escaped, so that nobody can
write a line that looks like ours. Importing this module sets nothing up.
"""

from __future__ import annotations

import logging
from typing import Final, TextIO

from channelstream.clock import timestamp

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


def marked(text: str) -> str:
    """Lines that belong to the one above them."""
    return "".join(f"\n{TRACEBACK_MARK}{line.translate(CONTROL_CHARACTERS)}" for line in text.splitlines())


def set_up(role: str, index: int | None, level: str, debug: bool, stream: TextIO) -> None:
    """Sends the log lines of this process to `stream`. `level` is one of `LEVELS`; `debug` makes it `debug`.

    Call it once, after monkey patching and before the first line; a second call takes the place of the first. What a
    call to `log.debug` costs when debug is off is one look into the logger's cache of levels.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(role if index is None else f"{role}-{index}"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else LEVELS[level])
    logging.captureWarnings(True)
    # PERF: a record looks these up for every line, and no line of ours shows them.
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False
