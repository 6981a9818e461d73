"""How a check is put together. Whole runs are in tests/faults."""

from __future__ import annotations

import io

import pytest

from channelstream.checking import run
from channelstream.checking.run import EXIT_CODES, Teller, rounds, topics_of
from channelstream.checking.summary import Verdict
from channelstream.ids import channel_key, user_key


def test_each_verdict_has_an_exit_code_of_its_own_that_no_refusal_has():
    assert set(EXIT_CODES) == set(Verdict)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert EXIT_CODES[Verdict.GREEN] == 0
    assert not {2, 130} & set(EXIT_CODES.values())


@pytest.mark.parametrize(("shards", "messages", "expected"), [(1, 100, 2), (4, 100, 8), (1, 1_000_000, 26)])
def test_enough_channels_for_the_shards_and_for_the_messages(shards, messages, expected):
    kept, frames = topics_of(shards, messages)
    assert (len(kept), len(frames)) == (expected, 2)
    assert len(set(kept) | set(frames)) == expected + 2
    assert messages / len(kept) < run.HISTORY_SIZE


def test_channels_come_more_often_than_users():
    channels, users = [channel_key("a"), channel_key("b")], [user_key("ann"), user_key("bob")]
    assert rounds(channels, users) == ["c/a", "c/b", "u/ann", "c/a", "c/b", "u/bob"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals_only():
    for err, expected in ((io.StringIO(), "begin\nend\n"), (Terminal(), None)):
        teller = Teller(err)
        teller.say("begin")
        teller.progress("half")
        teller.say("end")
        if expected is None:
            assert "\r\x1b[Khalf\r\x1b[Kend\n" in err.getvalue()
        else:
            assert err.getvalue() == expected
