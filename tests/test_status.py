"""How the processes of a group are: reports merged, and a client that asks for them from outside."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from channelstream import __version__
from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import monotonic, real_clock
from channelstream.config import Config, load, shard_address
from channelstream.shard.core import Settings, Shard
from channelstream.shard.loop import Loop
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.writer import AtOnce
from channelstream.status import all_ready, gather, group_ready, merged, missing, own_status
from channelstream.wire import codec
from channelstream.wire.messages import Beat, ProcessStatus, StatusReport


class Sizes:
    """Two routers, two shards and one edge."""

    routers = 2
    shards = 2
    edges = 1


def status(role: str, index: int = 0, since: float = 50.0, ready: bool = True, pid: int = 7) -> ProcessStatus:
    """A process that is there."""
    return ProcessStatus(role, index, pid, since, "v", ready)


def test_every_process_is_named_by_role_and_index_whoever_reports_it() -> None:
    reports = [
        StatusReport(status("shard", 1), [status("edge"), status("router", 1)]),
        StatusReport(status("shard", 0), [status("router", 0), status("edge")]),
    ]

    assert merged(Sizes(), reports) == [
        status("router", 0),
        status("router", 1),
        status("shard", 0),
        status("shard", 1),
        status("edge", 0),
    ]


def test_a_process_that_nobody_has_heard_of_has_no_pid_and_is_not_ready() -> None:
    told = merged(Sizes(), [])

    assert [(one.role, one.index, one.pid, one.ready) for one in told] == [
        ("router", 0, 0, False),
        ("router", 1, 0, False),
        ("shard", 0, 0, False),
        ("shard", 1, 0, False),
        ("edge", 0, 0, False),
    ]
    assert told[0] == missing("router", 0)


@pytest.mark.parametrize("younger_first", [True, False])
def test_of_two_lives_the_younger_counts(younger_first: bool) -> None:
    lives = [status("edge", since=51.0, pid=8, ready=False), status("edge", since=50.0, pid=7)]
    peers = lives if younger_first else lives[::-1]

    (edge,) = [one for one in merged(Sizes(), [StatusReport(status("shard"), peers)]) if one.role == "edge"]

    assert (edge.pid, edge.ready) == (8, False)


def test_processes_that_the_settings_do_not_name_are_left_out() -> None:
    report = StatusReport(status("shard", 7), [status("edge", 5), status("tool", 0)])

    assert all(one.pid == 0 for one in merged(Sizes(), [report]))


def test_all_are_ready_when_each_is() -> None:
    assert all_ready([status("shard"), status("edge")])
    assert not all_ready([status("shard"), status("edge", ready=False)])


def test_what_a_process_says_of_itself() -> None:
    before = real_clock().wall

    own = own_status("edge", 3)

    assert (own.role, own.index, own.pid, own.version, own.ready) == ("edge", 3, os.getpid(), __version__, False)
    assert before <= own.since <= real_clock().wall


# --- asking from outside ---


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A group of two shards, a router and an edge."""
    flags = {"run_dir": str(tmp_path), "shards": "2", "routers": "1", "edges": "1"}
    return load(None, "", {}, flags, 1000, 4, "/srv").config


class RunningShard(threading.Thread):
    """A real shard's loop in a thread of its own."""

    def __init__(self, bus: ZeroMqBus, config: Config, index: int) -> None:
        super().__init__(daemon=True)
        ids = count(1)
        own = own_status("shard", index)
        self._listener = bus.listen(shard_address(config, index), 1, config.max_peer_queue)
        core = Shard(own, Settings(keeps=False), lambda: f"id-{next(ids)}", MemoryStore().load(), real_clock())
        self._loop = Loop(core, self._listener, AtOnce(MemoryStore()), real_clock)
        self.stopping = False

    def run(self) -> None:
        """Until it is told to stop."""
        self._loop.run(lambda: self.stopping)
        self._listener.close()


@pytest.fixture
def run_shards(config: Config) -> Iterator[Callable[..., None]]:
    """Starts shards by their numbers; all end with the test."""
    bus, running = ZeroMqBus(), []

    def run(*indexes: int) -> None:
        for index in indexes:
            running.append(RunningShard(bus, config, index))
            running[-1].start()

    yield run
    for shard in running:
        shard.stopping = True
    for shard in running:
        shard.join()
    bus.close()


class Reporting:
    """A router or an edge that has beaten once to every shard. Close it when it may go."""

    def __init__(self, config: Config, role: str) -> None:
        self._bus = ZeroMqBus()
        self._dialers = [
            self._bus.dial(f"{role}-0:x", shard_address(config, shard), 1 << 20) for shard in range(config.shards)
        ]
        for dialer in self._dialers:
            dialer.send(codec.encode(Beat("", status(role), {})))
            give_up = monotonic() + 10.0
            while not dialer.receive():
                assert monotonic() < give_up, "the beat was not answered"
                dialer.flush()

    def close(self) -> None:
        """It is gone."""
        for dialer in self._dialers:
            dialer.close()
        self._bus.close()


def test_a_running_group_tells_who_is_there(config: Config, run_shards: Callable[..., None]) -> None:
    run_shards(0, 1)
    edge = Reporting(config, "edge")

    told = gather(config, 10.0)

    edge.close()
    assert [(one.role, one.index, one.ready, bool(one.pid)) for one in told] == [
        ("router", 0, False, False),
        ("shard", 0, True, True),
        ("shard", 1, True, True),
        ("edge", 0, True, True),
    ]
    assert not all_ready(told)


def test_a_group_is_ready_when_everybody_has_reported_in(config: Config, run_shards: Callable[..., None]) -> None:
    run_shards(0, 1)
    edge, router = Reporting(config, "edge"), Reporting(config, "router")

    # Each look is short, since the launcher looks again and again: so does this.
    give_up = monotonic() + 10.0
    while not group_ready(config):
        assert monotonic() < give_up

    edge.close()
    router.close()


def test_a_shard_that_is_not_there_is_waited_for_no_longer_than_told(
    config: Config, run_shards: Callable[..., None]
) -> None:
    run_shards(1)
    before = monotonic()

    told = gather(config, 0.5)

    assert 0.5 <= monotonic() - before < 5.0
    assert [(one.index, bool(one.pid)) for one in told if one.role == "shard"] == [(0, False), (1, True)]


def test_with_nobody_there_all_are_missing_in_time(config: Config) -> None:
    before = monotonic()

    told = gather(config, 0.05)

    assert monotonic() - before < 5.0
    assert told == merged(config, [])
    assert not group_ready(config)
