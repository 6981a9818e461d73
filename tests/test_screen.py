"""Lines that nobody reads: the writer goes on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from channelstream.screen import ATOMIC_BYTES, Screen


class Pipe:
    """A pipe of four pages, with its reader in the test's hands."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4 * ATOMIC_BYTES)
        os.set_blocking(self.read_end, False)
        self.out: TextIO = os.fdopen(write_end, "w")
        self.screen = Screen(self.out, patience_s=0.01)

    def lines(self) -> list[str]:
        """All that can be read now."""
        try:
            return os.read(self.read_end, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def say(self, line: str) -> None:
        self.screen.write(line + "\n")
        self.screen.flush()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    if made.read_end >= 0:
        os.close(made.read_end)
    made.out.close()


def fill(pipe: Pipe) -> list[str]:
    """Lines until one is dropped; those that were shown."""
    shown = []
    while not pipe.screen.dropped:
        shown.append(f"{len(shown):099}")
        pipe.say(shown[-1])
        assert len(shown) < 1000
    return shown[:-1]


def test_what_is_read_is_shown(pipe: Pipe) -> None:
    pipe.say("one")
    pipe.screen.write("two\nthree\n")
    assert pipe.lines() == ["one", "two", "three"]


def test_nobody_waits_for_a_reader_that_has_stopped(pipe: Pipe) -> None:
    shown = fill(pipe)
    for _ in range(10_000):  # each would wait for ever, or for a hundredth of a second
        pipe.say("dropped")
    assert pipe.lines() == shown
    pipe.say("again")
    assert pipe.lines() == ["(10001 lines not shown: nobody was reading)", "again"]
    pipe.say("and again")
    assert pipe.lines() == ["and again"]


def test_a_line_that_is_half_shown_is_ended_before_the_next(pipe: Pipe) -> None:
    long = "".join(f"{number:09} " for number in range(3000))
    pipe.say(long)
    pipe.say("dropped")
    said: list[str] = []
    for _ in range(10):
        said.append("\n".join(pipe.lines()))
        pipe.say("next")
    text = "".join(said)
    assert text.startswith(long)
    assert "lines not shown" in text


def test_a_reader_that_is_gone_is_an_error(pipe: Pipe) -> None:
    os.close(pipe.read_end)
    pipe.read_end = -1
    with pytest.raises(BrokenPipeError):
        pipe.say("hello")


def test_what_was_printed_before_comes_before(pipe: Pipe) -> None:
    pipe.out.write("first\n")
    Screen(pipe.out).write("second\n")
    assert pipe.lines() == ["first", "second"]
