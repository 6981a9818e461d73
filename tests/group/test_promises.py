"""What docs/promises.md says of shards that are killed, where no other test is nearer to it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from channelstream.clock import real_clock
from channelstream.config import load
from channelstream.ids import channel_key
from channelstream.ring import Ring
from channelstream.shard.store.base import ChannelSaved, MessageSaved, StoredMessage, Write
from channelstream.shard.store.opening import open_store
from channelstream.wire.messages import ChannelConfig

HISTORY = {"store_history": True, "history_size": 5000, "frames_size": 5000}
FRAMES_ONLY = {"frames_size": 5000}

LIFETIMES = {"gc_conns_after": "5m", "wake_connections_after": "1s"}
"""However slow the machine is, nobody has been away for too long; and polls end soon."""

EACH = 20
"""Messages on each channel before the kill, and after it."""


def names_of(shard: int, count: int) -> list[str]:
    """So many names of channels that a shard, of two, owns."""
    names = (f"channel-{number}" for number in range(1000))
    return [name for name in names if Ring(2).owner(channel_key(name)) == shard][:count]


def epoch(group: Any, channel: str) -> str:
    told: str = group.call("/info", {"info": {"channels": [channel]}})["channels"][channel]["epoch"]
    return told


@pytest.mark.promise("5.6")
def test_a_shard_that_is_killed_while_it_is_published_loses_frames_alone_and_tells_everybody(helpers: Any) -> None:
    """Two channels of the killed shard, one with a history, and one of the other shard, which nothing happens to."""
    kept, plain = names_of(0, 2)
    (beside,) = names_of(1, 1)
    with helpers.running(shards=2, edges=2, routers=1, **LIFETIMES) as group, ExitStack() as ending:
        group.call("/channel_config", {kept: HISTORY, plain: FRAMES_ONLY, beside: FRAMES_ONLY})
        kinds = ["websocket", "websocket", "websocket", "poll"]
        followers = [
            helpers.Follower(group, group.connect(f"user-{number}", kept, plain, beside), kind)
            for number, kind in enumerate(kinds)
        ]
        publisher = helpers.Repeater(group, [kept, plain, beside])
        for one in (*followers, publisher):
            one.start()
            ending.callback(one.end)
        helpers.eventually(lambda: len(publisher.taken[beside]) >= EACH, "it is published")
        for one in followers:
            helpers.eventually(lambda one=one: one.uuids(plain), "everybody listens")
        before = {name: epoch(group, name) for name in (kept, plain, beside)}
        os.kill(group.pid_of("shard-0"), signal.SIGKILL)
        killed_at = {name: len(uuids) for name, uuids in publisher.taken.items()}
        helpers.eventually(lambda: len(publisher.taken[plain]) >= killed_at[plain] + EACH, "it is published again")
        publisher.end()
        after = {name: epoch(group, name) for name in (kept, plain, beside)}
        assert (after[kept], after[beside]) == (before[kept], before[beside])
        assert after[plain] != before[plain]
        # Said once and not repeated: the publisher's last one may have been taken without its knowing.
        last = {name: group.say(name, "last") for name in (kept, plain, beside)}
        for one in followers:
            for name, uuid in last.items():
                helpers.eventually(lambda one=one, name=name, uuid=uuid: uuid in one.uuids(name), "it has the last one")
            for name in (kept, beside):
                assert known(one.uuids(name), publisher.taken[name]) == publisher.taken[name]
                assert one.gaps(name) == []
            assert_told_of_what_is_lost(one.received, plain, publisher.taken[plain])
        assert known(helpers.stored(group, kept), publisher.taken[kept]) == publisher.taken[kept]


def known(uuids: list[str], taken: list[str]) -> list[str]:
    """Those of which it is known that they were taken."""
    return [uuid for uuid in uuids if uuid in set(taken)]


def assert_told_of_what_is_lost(received: list[dict[str, Any]], channel: str, taken: list[str]) -> None:
    """A gap, and what came before it and behind it is without holes."""
    there = [one for one in received if one["type"] in ("message", "gap") and one["channel"] == channel]
    gaps = [place for place, one in enumerate(there) if one["type"] == "gap"]
    assert gaps
    assert there[gaps[0]]["missed"] is None
    first, behind = (
        known([one["uuid"] for one in part if one["type"] == "message"], taken)
        for part in (there[: gaps[0]], there[gaps[-1] :])
    )
    assert len(behind) >= EACH - 1
    assert behind == taken[-len(behind) :]
    assert first == taken[taken.index(first[0]) :][: len(first)]


# --- the start of a shard that has much -------------------------------------------------------------------------------

STORED_CHANNELS = 1000
STORED_EACH = 100
BODY = b'{"type":"message","user":"ann","message":{"text":"' + b"x" * 150 + b'"}}'

MOST_CPU_S = 20.0
"""Measured: 1.4 seconds. More than ten times as much is another algorithm, not another machine."""


def test_a_shard_with_a_hundred_thousand_messages_is_ready_soon(helpers: Any, tmp_path: Path) -> None:
    """Measured is what the processor did for it; how long that took depends on who else wanted it, and is told only."""
    fill(tmp_path)
    began = time.monotonic()
    with helpers.running(shards=1, edges=1, routers=1, data_dir=tmp_path / "data") as group:
        took_s = time.monotonic() - began
        worked_s = cpu_s(group.pid_of("shard-0"))
        print(f"ready after {took_s:.1f} s, of which the shard worked for {worked_s:.1f} s")
        told = group.call("/info", {"info": {"channels": ["channel-0", "channel-999"]}})["channels"]
        assert [len(one["history"]) for one in told.values()] == [STORED_EACH] * 2
        assert worked_s < MOST_CPU_S


def fill(folder: Path) -> None:
    """As a shard that has been busy for long leaves it behind."""
    settings = {"shards": "1", "fsync": "off", "data_dir": f"{folder}/data", "run_dir": f"{folder}/run"}
    store = open_store(load(None, "", {}, settings, 0, 2).config, 0, real_clock())
    config = ChannelConfig(store_history=True, history_size=STORED_EACH)
    now = time.time()
    for number in range(STORED_CHANNELS):
        name = f"channel-{number}"
        messages = (StoredMessage(f"{number}-{seq}", seq, BODY, now) for seq in range(1, STORED_EACH + 1))
        writes: list[Write] = [ChannelSaved(name, f"uuid-{number}", "epoch", 0, config)]
        store.commit([*writes, *(MessageSaved(name, message) for message in messages)])
    store.close()


def cpu_s(pid: int) -> float:
    """What a process has worked, in seconds of a processor (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
