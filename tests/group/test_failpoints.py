"""The kills that chance does not hit: a process of a real group ends itself at a named place, while publishers repeat
each message until it is answered and clients come back whenever they are let go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import requests

from channelstream.failpoints import NAMES
from channelstream.ids import channel_key
from channelstream.ring import Ring

HISTORY = {"store_history": True, "history_size": 1000, "frames_size": 1000}

LIFETIMES = {"gc_conns_after": "5m", "wake_connections_after": "1s"}
"""However slow the machine is, nobody has been away for too long; and polls end soon."""

SHARDS = 2
CHANNELS = [next(name for name in map(str, range(100)) if Ring(SHARDS).owner(channel_key(name)) == n) for n in (0, 1)]
"""One of each shard."""

WHILE_PUBLISHING = {
    "before_commit": 40,
    "after_commit_before_answer": 40,
    "after_answer_before_delivery": 40,
    "mid_fanout": 40,
    "in_checkpoint": 1,
}
"""The places that are reached while it is published, and at which time a process ends there: what comes before is the
joining and the attaching of clients. A log is checkpointed only when it has megabytes."""

MESSAGES = 120
"""Of each publisher, at least."""

BIG = "x" * 500_000


@contextmanager
def followed(group: Any, helpers: Any) -> Iterator[list[Any]]:
    """Clients of each kind on all channels, more than there are edges: somewhere two are together."""
    kinds = ["websocket"] * 4 + ["poll"] * 2
    conn_ids = [group.connect(f"user-{number}", *CHANNELS) for number in range(len(kinds))]
    followers = [helpers.Follower(group, conn_id, kind) for conn_id, kind in zip(conn_ids, kinds, strict=True)]
    with ExitStack() as ending:
        for one in followers:
            one.start()
            ending.callback(one.end)
        yield followers


def assert_kept_once_and_seen_by_all(
    group: Any, helpers: Any, channel: str, uuids: list[str], followers: list[Any]
) -> None:
    """What was answered is in history, each once, and every client has all of it in the history's order."""
    kept = helpers.stored(group, channel)
    assert sorted(kept) == sorted(uuids)
    for one in followers:
        helpers.eventually(lambda one=one: len(one.uuids(channel)) >= len(kept), f"{one} has all of {channel}")
        assert one.uuids(channel) == kept
        assert one.gaps(channel) == []


@pytest.mark.parametrize("place", WHILE_PUBLISHING)
def test_what_was_answered_is_in_history_once_and_reaches_everybody_in_order(
    helpers: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = f"CHANNELSTREAM_FAILPOINT={place}:{WHILE_PUBLISHING[place]}"
    monkeypatch.setattr(helpers.Group, "prefix", ("env", armed))
    with helpers.running(shards=SHARDS, edges=2, routers=1, **LIFETIMES) as group:
        group.call("/channel_config", dict.fromkeys(CHANNELS, HISTORY) | {"big": HISTORY | {"history_size": 5}})
        publishers = [helpers.Repeater(group, channels, MESSAGES) for channels in (CHANNELS, CHANNELS[::-1])]
        filler = helpers.Repeater(group, ["big"], padding=BIG)
        with followed(group, helpers) as followers:
            for one in publishers:
                one.start()
            if place == "in_checkpoint":
                filler.start()
            fired = group.run_dir / f"fired-{place}"
            helpers.eventually(fired.exists, f"{place} is reached", 3 * helpers.PATIENCE_S)
            for one in publishers:
                one.join(3 * helpers.PATIENCE_S)
                assert not one.is_alive(), group.log()
            if place == "in_checkpoint":
                filler.end()
            # By one that knows nothing of the kill: all work again.
            last = helpers.Repeater(group, CHANNELS, 2)
            last.start()
            last.join(helpers.PATIENCE_S)
            for channel in CHANNELS:
                said = [uuid for one in (*publishers, last) for uuid in one.taken[channel]]
                assert len(said) == MESSAGES + 1
                assert_kept_once_and_seen_by_all(group, helpers, channel, said, followers)


def test_a_move_that_is_killed_loses_nothing_of_what_was_answered(helpers: Any) -> None:
    """The group is started for another number of shards, and those who move what there is end in the middle of it."""
    with helpers.running(shards=1, edges=1, routers=1, **LIFETIMES) as group:
        names = [f"channel-{number}" for number in range(20)]
        group.call("/channel_config", dict.fromkeys(names, HISTORY))
        conn_id = group.connect("ann", *names)
        with group.websocket(conn_id) as socket:
            for name in names:
                helpers.settle(group, socket, name)
            helpers.cut_off(group, socket)
        publisher = helpers.Repeater(group, names, 100)
        publisher.start()
        publisher.join(helpers.PATIENCE_S)
        before = {name: helpers.stored(group, name) for name in names}
        assert {name: uuids[1:] for name, uuids in before.items()} == publisher.taken

        group.prefix = ("env", "CHANNELSTREAM_FAILPOINT=mid_move:2")
        group.set(shards=3)
        group.again()
        assert (group.run_dir / "fired-mid_move").exists()
        assert len([one for one in group.health() if one["role"] == "shard"]) == 3
        assert {name: helpers.stored(group, name) for name in names} == before
        follower = helpers.Follower(group, conn_id)
        follower.start()
        try:
            for name in names:
                expected = publisher.taken[name] + [group.say(name, "afterwards")]
                helpers.eventually(lambda name=name: len(follower.uuids(name)) >= 6, f"all of {name} came")
                assert follower.uuids(name) == expected
                assert follower.gaps(name) == []
        finally:
            follower.end()


def test_each_place_has_its_test() -> None:
    assert {*WHILE_PUBLISHING, "mid_move"} == NAMES


def say_until_taken(group: Any, helpers: Any, text: object) -> None:
    message = {"user": "b", "channel": "a", "message": {"text": text}, "uuid": str(uuid.uuid4())}

    def taken() -> bool:
        try:
            return bool(group.post("/message", [message]).status_code == 200)
        except requests.RequestException:
            return False

    helpers.eventually(taken, f"{text} is taken")


def test_a_shard_that_was_stopped_while_its_successor_started_delivers_nothing_when_it_wakes(helpers: Any) -> None:
    """Its lock was removed by hand, which nobody should do."""
    with helpers.running(shards=1, edges=1, routers=1) as group:
        conn_id = group.connect("ann", "a", channel_configs={"a": HISTORY})
        with group.websocket(conn_id) as socket:
            helpers.settle(group, socket, "a")
            former = group.pid_of("shard-0")
            os.kill(former, signal.SIGSTOP)
            for lock in (*group.run_dir.glob("shard-0.lock"), *group.data_dir.glob("*/shard-0.lock")):
                lock.unlink()
            command = [sys.executable, "-m", "channelstream", "shard", "--index", "0", *group.flags()]
            successor = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                pids = lambda: [one["pid"] for one in group.health()]  # noqa: E731
                helpers.eventually(lambda: successor.pid in pids(), "the successor serves")
                say_until_taken(group, helpers, 1)
                os.kill(former, signal.SIGCONT)
                for text in range(2, 20):
                    say_until_taken(group, helpers, text)
                say_until_taken(group, helpers, "end")
                received = [one for one in helpers.before(socket, "end") if one["channel"] == "a"]
                assert [one["message"]["text"] for one in received] == list(range(1, 20))
                assert [one["seq"] for one in received] == list(range(2, 21))
                told = group.call("/info", {"info": {"channels": ["a"]}})["channels"]["a"]["history"]
                assert [message["message"]["text"] for message in told] == ["settled", *range(1, 20), "end"]
            finally:
                with suppress(ProcessLookupError):
                    os.kill(former, signal.SIGCONT)
                successor.terminate()
                successor.wait()
