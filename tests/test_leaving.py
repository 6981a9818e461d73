"""When a process that leaves is done, without a clock."""

from __future__ import annotations

from channelstream.config import Config, load
from channelstream.leaving import CLOSE_ANSWER_S, QUIET_MARGIN_S, Leaving, calls_within_s, edge_within_s, stop_wait_s
from channelstream.serving import QUIET_S


def settings(**flags: str) -> Config:
    return load(None, "", {}, {"secret": "s" * 32, **flags}, 0, 1, "/nowhere").config


def test_it_goes_when_everyone_is_gone() -> None:
    leaving = Leaving(100.0, within_s=10.0, quick_s=1.0)
    assert not leaving.is_over(100.0, sockets=1, all_told=False, is_quiet=True)
    assert not leaving.is_over(101.0, sockets=0, all_told=True, is_quiet=False)
    assert leaving.is_over(101.0, sockets=0, all_told=True, is_quiet=True)


def test_who_was_told_has_a_moment_to_answer() -> None:
    leaving = Leaving(100.0, within_s=10.0, quick_s=1.0)
    assert not leaving.is_over(105.0, sockets=1, all_told=True, is_quiet=True)
    assert not leaving.is_over(105.0 + CLOSE_ANSWER_S / 2, sockets=1, all_told=True, is_quiet=True)
    assert leaving.is_over(105.0 + CLOSE_ANSWER_S, sockets=1, all_told=True, is_quiet=True)


def test_its_time_is_bounded_and_less_in_a_hurry() -> None:
    leaving = Leaving(100.0, within_s=10.0, quick_s=1.0)
    assert leaving.is_over(110.0, sockets=1, all_told=False, is_quiet=False)
    leaving.hurry(102.0)
    leaving.hurry(102.9)
    assert not leaving.is_over(102.9, sockets=1, all_told=False, is_quiet=False)
    assert leaving.is_over(103.0, sockets=1, all_told=False, is_quiet=False)
    late = Leaving(100.0, within_s=10.0, quick_s=1.0)
    late.hurry(109.5)
    assert late.is_over(110.0, sockets=1, all_told=False, is_quiet=False), "a hurry never makes it longer"


def test_each_time_covers_what_it_is_for() -> None:
    assert QUIET_MARGIN_S > QUIET_S
    for config in (settings(), settings(drain_seconds="60", ask_timeout="1"), settings(ask_timeout="10")):
        assert calls_within_s(config) > 4 * config.ask_timeout + QUIET_S
        assert edge_within_s(config) >= config.drain_seconds + CLOSE_ANSWER_S
        assert edge_within_s(config) >= calls_within_s(config)
        assert stop_wait_s("edge", config) > edge_within_s(config) + config.ask_timeout
        assert stop_wait_s("router", config) > calls_within_s(config)
