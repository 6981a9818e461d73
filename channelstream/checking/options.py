"""What can be asked of a check on the command line. Pure."""

from __future__ import annotations

import argparse
from typing import Final

from channelstream.checking.faults import WORDS, Aim, aims_of
from channelstream.config import KEYS

DESCRIPTION: Final = """\
Starts a group of its own, publishes to it and listens to it as backends and browsers do, kills or stops its processes
meanwhile, and says whether anything was lost, doubled, out of order or wrongly told. Nothing that runs already is
touched. The verdict stands first; docs/checking.md explains every line."""

EPILOG: Final = """\
exit codes:
  0    green: nothing is wrong
  1    something is wrong; what is listed
  2    the check could not be carried out
  3    too little happened to say anything
  130  interrupted

examples:
  channelstream check-delivery --seconds 60 --kill shard,edge,router
  channelstream check-delivery --seconds 20 --kill all --every 10
  channelstream check-delivery --stop shard,edge --stop-for 5 --every 10 --json > check.json
"""

NONE: Final = "none"
"""The word for no kills."""

LEAST_SECONDS: Final = 5.0
"""A shorter run is over before the first fault has healed."""

MOST_STOP_S: Final = 20.0
"""A process that is stopped for longer than a client may be away takes its clients' connections with it, rightly."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    length = parser.add_argument_group("what happens")
    length.add_argument(
        "--seconds", type=seconds, default=60.0, metavar="S", help="how long it publishes (default: 60)"
    )
    words = ", ".join(WORDS)
    length.add_argument(
        "--kill", type=some_words, default=None, metavar="WORDS",
        help=f"what to kill (SIGKILL), in turn: {words}; or none (default: shard,edge,router, unless --stop)",
    )  # fmt: skip
    length.add_argument(
        "--stop", type=some_words, default=(), metavar="WORDS",
        help=f"what to stop and let go on (SIGSTOP, SIGCONT), in turn behind the kills: {words}",
    )  # fmt: skip
    length.add_argument(
        "--stop-for", type=stop_seconds, default=5.0, metavar="S", help="for how long it is stopped (default: 5)"
    )
    length.add_argument("--every", type=positive, default=2.5, metavar="S", help="one fault so often (default: 2.5)")
    length.add_argument("--seed", type=int, default=None, metavar="N", help="repeats the choices of a former run")
    size = parser.add_argument_group("how much of it")
    for name, default, meaning in (
        ("shards", 2, "shard processes"),
        ("edges", 2, "edge processes"),
        ("routers", 2, "router processes"),
        ("clients", 6, "clients; every third one polls, the others have websockets"),
        ("publishers", 2, "publishers"),
    ):
        size.add_argument(f"--{name}", type=count, default=default, metavar="N", help=f"{meaning} (default: {default})")
    size.add_argument(
        "--rate", type=positive, default=20.0, metavar="N", help="messages a second of each publisher (default: 20)"
    )
    size.add_argument(
        "--set", type=setting, action="append", default=[], metavar="KEY=VALUE",
        help="any setting of the group, such as store=memory",
    )  # fmt: skip
    told = parser.add_argument_group("what is told")
    told.add_argument("--json", action="store_true", help="the result as JSON, with every finding")
    told.add_argument("--history", metavar="FILE", help="write all that was done and seen to a file, one JSON a line")


def positive(text: str) -> float:
    """A number above 0. Raises `ArgumentTypeError`, as all of these do."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number") from error
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def seconds(text: str) -> float:
    """How long a run is."""
    value = positive(text)
    if value < LEAST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {LEAST_SECONDS:.0f} seconds at least")
    return value


def stop_seconds(text: str) -> float:
    """How long a process is stopped."""
    value = positive(text)
    if value > MOST_STOP_S:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {MOST_STOP_S:.0f} seconds at most")
    return value


def count(text: str) -> int:
    """How many of something: one or more."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def some_words(text: str) -> tuple[str, ...]:
    """Some of `WORDS`; none of them for `none`."""
    if text == NONE:
        return ()
    words = tuple(text.split(","))
    for word in words:
        if word not in WORDS:
            raise argparse.ArgumentTypeError(f"{word!r}: expected {', '.join(WORDS)}, separated by commas, or {NONE}")
    return words


def setting(text: str) -> tuple[str, str]:
    """The key and the value of a setting."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_").lower()
    if not equals or name not in KEYS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE with a key that exists")
    return name, value


def chosen_aims(options: argparse.Namespace) -> tuple[Aim, ...]:
    """What is broken in turn."""
    kill = options.kill
    if kill is None:
        kill = () if options.stop else ("shard", "edge", "router")
    return aims_of(kill, options.stop)
