"""One check from beginning to end: a group, its users, its faults, what is left at the end, the verdict."""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

import msgspec

from channelstream.checking.api import Api
from channelstream.checking.clients import Client, Place, PollClient, WebsocketClient
from channelstream.checking.faults import Aim, Breaker, schedule
from channelstream.checking.history import Healed, History, HistoryRead, Outcome, TopicMade, as_lines
from channelstream.checking.options import chosen_aims
from channelstream.checking.own_group import OwnGroup
from channelstream.checking.publishers import Publisher
from channelstream.checking.summary import Plan, Summary, Verdict, as_text, kind_of, summarise
from channelstream.checking.validators import lost_for_clients
from channelstream.clock import monotonic
from channelstream.config import DURATIONS, KEYS
from channelstream.errors import CheckImpossible
from channelstream.ids import TopicKey, channel_key, name_of, user_key

EXIT_CODES: Final = {Verdict.GREEN: 0, Verdict.FINDINGS: 1, Verdict.INVALID: 3}

KEPT_PER_SHARD: Final = 2
"""Channels with a history, so that each shard is likely to own one."""

FRAMES_ONLY: Final = 2
"""Channels without."""

MOST_KEPT: Final = 40_000
"""Messages in one channel's history: `/info` has to answer it in one piece. Longer runs get more channels."""

FRAMES_SIZE: Final = 10_000
"""The most there is: what is away for as long as it may has to be caught up with."""

HISTORY_SIZE: Final = 100_000
"""The most there is."""

JOIN_WITHIN_S: Final = 20.0
"""How long the making of channels and connections may take at the start, with nothing broken."""

ANSWERED_WITHIN_S: Final = 20.0
"""How long after the end publishers may go on repeating what has not been answered."""

SETTLED_WITHIN_S: Final = 20.0
"""How long after that what is on its way may take."""

QUIET_S: Final = 5.0
"""So long after the last delivery nothing more is expected: longer than a dead edge needs to be noticed (3.5 s) and a
client to come back and be caught up with (1.5 s)."""

HEALED_WITHIN_S: Final = 20.0
"""How long after the last fault all processes have to be ready again."""

WATCH_EVERY_S: Final = 1.0
"""How often the topics' counters are looked at, and the progress line is written."""

SETTLE_POLL_S: Final = 0.25


def run(options: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """Carry out a check. What happens is told on `err`, the result on `out`. Gives the exit code.

    Raises `CheckImpossible` where the group does not start, and `OSError` where a file cannot be written.
    """
    check = Check(options, Teller(err))
    summary = check.carry_out()
    if options.history:
        Path(options.history).write_bytes(as_lines(check.history))
    if options.json:
        out.write(msgspec.json.format(msgspec.json.encode(summary)).decode() + "\n")
    else:
        out.write(as_text(summary) + "\n")
    out.flush()
    return EXIT_CODES[summary.verdict]


class Teller:
    """Says what happens: lines, and on a terminal one that changes."""

    def __init__(self, err: TextIO) -> None:
        self._err: Final = err
        self._on_terminal: Final = err.isatty()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._write(f"{line}\n")

    def progress(self, line: str) -> None:
        """A line that the next one replaces; nothing where nobody watches."""
        if self._on_terminal:
            self._write(line)

    def _write(self, text: str) -> None:
        start = "\r\x1b[K" if self._on_terminal else ""
        self._err.write(start + text)
        self._err.flush()


def topics_of(shards: int, messages: float) -> tuple[list[TopicKey], list[TopicKey]]:
    """The channels with a history, and those without, for so many messages in all."""
    kept = max(KEPT_PER_SHARD * shards, int(messages / MOST_KEPT) + 1)
    return (
        [channel_key(f"kept-{number}") for number in range(1, kept + 1)],
        [channel_key(f"frames-{number}") for number in range(1, FRAMES_ONLY + 1)],
    )


def rounds(channels: Sequence[TopicKey], users: Sequence[TopicKey]) -> list[TopicKey]:
    """Where a publisher's messages go, in turn: to each channel, then to a user, and so on with the next user."""
    return [topic for user in users for topic in (*channels, user)]


class Check:
    """One run."""

    def __init__(self, options: argparse.Namespace, teller: Teller) -> None:
        self._options: Final = options
        self._teller: Final = teller
        self._seed: Final[int] = secrets.randbits(32) if options.seed is None else options.seed
        self._aims: Final[tuple[Aim, ...]] = chosen_aims(options)
        self._faults: Final = schedule(self._aims, options.seconds, options.every)
        self._kept, self._frames = topics_of(options.shards, options.seconds * options.rate * options.publishers)
        self._settings: Final = {
            "store": "sqlite",
            "shards": str(options.shards),
            "edges": str(options.edges),
            "routers": str(options.routers),
            **dict(options.set),
        }
        self.history: Final = History()
        self._over: Final = threading.Event()
        """Set when nothing is to be published, broken or looked at any more."""

    def carry_out(self) -> Summary:
        """All of it. The group is ended whatever happens."""
        o = self._options
        sizes = f"{o.routers} routers, {o.shards} shards, {o.edges} edges"
        self._teller.say(f"starting a group: {sizes}, store = {self._settings['store']}")
        group = OwnGroup(self._settings)
        try:
            group.wait_until_ready()
            began_at = self._use(group)
        finally:
            group.stop()
        self._teller.progress("")
        return summarise(self.history, self._plan(), began_at)

    def _plan(self) -> Plan:
        window = self._settings.get("gc_conns_after", KEYS["gc_conns_after"].default)
        targets = tuple(dict.fromkeys(str(aim) for _, aim in self._faults))
        return Plan(self._options.seconds, len(self._faults), targets, DURATIONS.parse(window), self._seed)

    def _use(self, group: OwnGroup) -> float:
        place = Place(group.port, group.api_port, group.secret)
        self._make_channels(place)
        clients = self._joined_clients(place)
        try:
            for client in clients:
                client.start()
            began_at = self._publish_and_break(group, place, clients)
            self._settle(group)
            self._read_histories(place)
        finally:
            self._over.set()
            for client in clients:
                client.leave()
            for client in clients:
                client.close()
        return began_at

    # --- before ---

    def _make_channels(self, place: Place) -> None:
        kept = {
            "store_history": True,
            "history_size": HISTORY_SIZE,
            "frames_size": FRAMES_SIZE,
            "notify_presence": True,
        }
        frames = {"store_history": False, "frames_size": FRAMES_SIZE}
        configs = {name_of(topic): kept for topic in self._kept} | {name_of(topic): frames for topic in self._frames}
        api = Api(place.api_port, place.secret)
        reply = api.call("/channel_config", configs)
        api.close()
        if not reply.ok:
            raise CheckImpossible(f"/channel_config was answered {reply.status} {reply.reason}", ())
        for topic in (*self._kept, *self._frames):
            self.history.add(TopicMade(topic, topic in self._kept))

    def _joined_clients(self, place: Place) -> list[Client]:
        channels = [name_of(topic) for topic in (*self._kept, *self._frames)]
        clients: list[Client] = []
        for number in range(1, self._options.clients + 1):
            kind = PollClient if number % 3 == 0 else WebsocketClient
            clients.append(kind(f"client-{number}", place, channels, self.history, self._seed))
            self.history.add(TopicMade(user_key(clients[-1].name), False))
            if not clients[-1].connect():
                raise CheckImpossible("a client could not connect", ())
        return clients

    # --- meanwhile ---

    def _publish_and_break(self, group: OwnGroup, place: Place, clients: Sequence[Client]) -> float:
        o = self._options
        topics = rounds((*self._kept, *self._frames), [user_key(client.name) for client in clients])
        publishers = [
            Publisher(f"publisher-{number}", self._api_of(number, place), topics, o.rate, self.history, self._seed)
            for number in range(1, o.publishers + 1)
        ]
        chance = random.Random(self._seed)
        breaker = Breaker(group, self._faults, o.stop_for, self.history, chance, self._over.wait)
        watcher = threading.Thread(target=self._watch, args=(place,), name="watcher", daemon=True)
        broken = ", ".join(map(str, self._aims)) or "nothing"
        self._teller.say(
            f"for {o.seconds:.0f} s: {o.publishers} publishers, {o.clients} clients, "
            f"one fault every {o.every} s of: {broken}; seed {self._seed}"
        )
        began_at = monotonic()
        for thread in (*publishers, breaker, watcher):
            thread.start()
        self._wait_and_tell(group, began_at)
        self._finish(publishers, breaker)
        return began_at

    def _api_of(self, number: int, place: Place) -> Api:
        """Every other publisher calls the public port, where edges answer."""
        return Api(place.api_port if number % 2 else place.port, place.secret)

    def _wait_and_tell(self, group: OwnGroup, began_at: float) -> None:
        until = began_at + self._options.seconds
        while (left := until - monotonic()) > 0 and group.is_running():
            self._over.wait(min(left, WATCH_EVERY_S))
            self._teller.progress(self._progress(monotonic() - began_at))
        if not group.is_running():
            raise CheckImpossible("the group ended by itself", tuple(group.lines))

    def _progress(self, passed_s: float) -> str:
        taken = sum(attempt.outcome is Outcome.OK for attempt in self.history.attempts())
        faults = self.history.faults()
        last = f", the last one: {kind_of(faults[-1])}" if faults else ""
        received = len(self.history.received())
        return (
            f"{passed_s:.0f} s of {self._options.seconds:.0f}: {taken} messages taken, {received} deliveries, "
            f"{len(faults)} faults{last}"
        )

    def _finish(self, publishers: Sequence[Publisher], breaker: Breaker) -> None:
        for publisher in publishers:
            publisher.finish()
        breaker.join()
        deadline = monotonic() + ANSWERED_WITHIN_S
        for publisher in publishers:
            publisher.join(max(deadline - monotonic(), 0.0))
        for publisher in publishers:
            publisher.give_up()
            publisher.join()

    def _watch(self, place: Place) -> None:
        """Looks at the counters again and again: one that goes back within an epoch can be seen by nobody else."""
        api = Api(place.api_port, place.secret)
        while not self._over.wait(WATCH_EVERY_S):
            self._read(api, with_messages=False)
        api.close()

    # --- after ---

    def _settle(self, group: OwnGroup) -> None:
        """Wait until every process is ready and everything has arrived, or for as long as that may take."""
        self._teller.progress("letting things settle")
        deadline = monotonic() + HEALED_WITHIN_S
        while (missing := self._missing(group)) and monotonic() < deadline:
            self._over.wait(SETTLE_POLL_S)
        self.history.add(Healed(missing, monotonic()))
        deadline = monotonic() + SETTLED_WITHIN_S
        quiet_since, count = monotonic(), 0
        while lost_for_clients(self.history) and monotonic() < min(deadline, quiet_since + QUIET_S):
            if len(self.history.received()) != count:
                quiet_since, count = monotonic(), len(self.history.received())
            self._over.wait(SETTLE_POLL_S)
        # What should not come at all needs a moment to come, too.
        self._over.wait(WATCH_EVERY_S)

    def _missing(self, group: OwnGroup) -> tuple[str, ...]:
        health = group.health()
        if not health:
            return ("everything",)
        return tuple(str(one["process"]) for one in health if not one["ready"])

    def _read_histories(self, place: Place) -> None:
        api = Api(place.api_port, place.secret)
        if not self._read(api, with_messages=True):
            # Once more: a connection that was kept may have ended with the process behind it.
            self._read(api, with_messages=True)
        api.close()

    def _read(self, api: Api, with_messages: bool) -> bool:
        names = [name_of(topic) for topic in (*self._kept, *self._frames)]
        info = {"channels": names, "include_history": with_messages, "include_users": False}
        reply = api.call("/info", {"info": info})
        if not reply.ok:
            return False
        at = monotonic()
        for name, channel in reply.json()["channels"].items():
            topic = channel_key(name)
            messages = tuple((one["uuid"], one["seq"]) for one in channel["history"])
            told = messages if with_messages and topic in self._kept else None
            self.history.add(HistoryRead(topic, channel["epoch"], channel["seq"], at, told))
        return True


def main(options: argparse.Namespace) -> int:
    """The command. SIGTERM ends it as Ctrl-C does: the group and its folder go too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(options, sys.stdout, sys.stderr)
