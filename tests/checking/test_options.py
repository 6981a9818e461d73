"""What can be asked of a check."""

from __future__ import annotations

import argparse

import pytest

from channelstream import cli
from channelstream.checking.options import add_options, chosen_aims


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def aims(*words: str) -> list[str]:
    return [str(aim) for aim in chosen_aims(parsed(*words))]


def test_every_kind_is_killed_in_turn_where_nothing_is_said():
    assert aims() == ["kill shard", "kill edge", "kill router"]


def test_kills_come_before_stops():
    assert aims("--stop", "edge", "--kill", "shard,all") == ["kill shard", "kill all", "stop edge"]


def test_who_only_stops_kills_nothing():
    assert aims("--stop", "router") == ["stop router"]


def test_nothing_at_all():
    assert aims("--kill", "none") == []


def test_settings_of_the_group():
    assert parsed("--set", "store=memory", "--set", "gc-conns-after=5s").set == [
        ("store", "memory"),
        ("gc_conns_after", "5s"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--kill", "supervisord"),
        ("--kill", ""),
        ("--seconds", "1"),
        ("--seconds", "soon"),
        ("--seconds", "inf"),
        ("--stop-for", "60"),
        ("--every", "0"),
        ("--clients", "0"),
        ("--rate", "-1"),
        ("--set", "store"),
        ("--set", "nothing=1"),
    ],
)
def test_what_makes_no_sense_is_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(*words)
    assert end.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_the_help_has_every_option_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        cli.main(["check-delivery", "--help"])
    text = capsys.readouterr().out
    for option in parsed().__dict__:
        assert f"--{option.replace('_', '-')} " in text
    for code in (0, 1, 2, 3, 130):
        assert f"\n  {code} " in text


def test_a_role_may_be_named_in_front_of_the_command():
    assert cli.command_of(["--kill", "shard", "check-delivery"]) == ("check-delivery", ["--kill", "shard"])
    assert cli.command_of(["check-delivery", "--stop", "edge"]) == ("check-delivery", ["--stop", "edge"])
