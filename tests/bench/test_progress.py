"""The line on a terminal."""

import io

from bench.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nobody_but_a_terminal_gets_it():
    err = io.StringIO()
    progress = Progress(err)
    progress.show("half")
    progress.end()
    assert err.getvalue() == ""


def test_one_line_that_is_written_over_and_not_too_often():
    err, now = Terminal(), [10.0]
    progress = Progress(err, lambda: now[0])
    progress.what = "fanout: "
    progress.show("1 of 3")
    progress.show("2 of 3")
    now[0] += 1
    progress.show("3 of 3")
    progress.end()
    assert err.getvalue() == "\r\x1b[Kfanout: 1 of 3\r\x1b[Kfanout: 3 of 3\r\x1b[K"
