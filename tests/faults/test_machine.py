"""The machine below the group: a wall clock that steps, a disk that is full, and one that fails."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HOUR_S = 3600
CLOCK_SHIM = Path(__file__).with_name("clock_shim.c")
DISK_SHIM = Path(__file__).with_name("disk_shim.c")


def compiled(source: Path, folder: Path) -> Path:
    """A library for LD_PRELOAD."""
    library = folder / f"{source.stem}.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


# --- the clock --------------------------------------------------------------------------------------------------------


class WallClock:
    """The group's wall clock, which the test can move."""

    def __init__(self, folder: Path) -> None:
        self.library = compiled(CLOCK_SHIM, folder)
        self.file = folder / "shift"
        self.step(0)

    def step(self, seconds: int) -> None:
        """To so many seconds ahead of the real one."""
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, seconds.to_bytes(8, "little", signed=True))
        os.close(descriptor)


@pytest.fixture
def wall_clock(tmp_path, monkeypatch) -> WallClock:
    made = WallClock(tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(made.library))
    monkeypatch.setenv("CLOCK_SHIM_FILE", str(made.file))
    return made


class Backend:
    """Calls with signatures of the group's own time."""

    def __init__(self, groups: Any, group: Any) -> None:
        self._groups, self._group = groups, group
        self.ahead_s = 0

    def post(self, path: str, body: object, ahead_s: int | None = None) -> Any:
        shift = self.ahead_s if ahead_s is None else ahead_s
        return self._group.session.post(
            f"http://127.0.0.1:{self._group.api_port}{path}",
            data=json.dumps(body),
            headers={"X-Channelstream-Secret": self._groups.signature(path, age_s=-shift)},
            timeout=self._groups.PATIENCE_S,
        )

    def say(self, number: int, ahead_s: int | None = None) -> Any:
        message = {"user": "backend", "channel": "room", "message": {"text": number}}
        return self.post("/message", [message], ahead_s)


def test_a_wall_clock_that_steps_an_hour_moves_nothing_but_signatures(groups, wall_clock):
    """Ahead, back, and behind: the order, the history, connections that wait and channels that are idle stay."""
    with groups.running(shards=1, edges=1, routers=1, gc_conns_after="60s", gc_channels_after="1800s") as group:
        backend = Backend(groups, group)
        config = {"room": {"store_history": True, "history_size": 100}, "idle": {"store_history": True}}
        assert backend.post("/channel_config", config).ok
        waiting = [group.connect(f"waiting-{number}", "room") for number in range(3)]
        with group.websocket(group.connect("ann", "room")) as ann:
            groups.settle(group, ann, "room")
            said = []
            for ahead_s, conn_id in zip((HOUR_S, 0, -HOUR_S), waiting, strict=True):
                wall_clock.step(ahead_s)
                if ahead_s:
                    refused = backend.say(-1, ahead_s=0)
                    assert refused.status_code == 401
                    assert "clock" in refused.text
                backend.ahead_s = ahead_s
                said += [backend.say(number).json()[0]["uuid"] for number in range(5)]
                # Longer than the loops of all processes take to look at their lifetimes.
                time.sleep(1.5)
                with group.websocket(conn_id) as late:
                    assert [one["uuid"] for one in groups.receive(late, 1 + len(said))][1:] == said
            received = groups.receive(ann, len(said))
            assert [one["uuid"] for one in received] == said
            assert [one["seq"] for one in received] == list(range(received[0]["seq"], received[0]["seq"] + len(said)))
            channels = backend.post("/info", {"info": {"include_users": False}}).json()["channels"]
            assert [one["uuid"] for one in channels["room"]["history"]][1:] == said
            assert "idle" in channels
            assert all(one["ready"] for one in group.health())


def test_the_shim_moves_the_clock_of_a_process(wall_clock):
    """Else the test above would prove nothing."""
    command = ["python3", "-c", "import time; print(time.time(), time.monotonic())"]
    for seconds in (HOUR_S, -HOUR_S):
        wall_clock.step(seconds)
        wall, mono = map(float, subprocess.check_output(command, text=True).split())
        assert wall - time.time() == pytest.approx(seconds, abs=60)
        assert mono == pytest.approx(time.monotonic(), abs=60)


# --- the disk ---------------------------------------------------------------------------------------------------------

DISK_KB = 4096

MOUNT = 'mount -t tmpfs -o size="$1"k none "$2" && shift 2 && exec "$@"'
"""A small disk that only the group sees, and that goes with it."""


@pytest.fixture
def small_disk(groups, tmp_path) -> Iterator[tuple[Any, Path]]:
    """A group whose data_dir is a disk of its own, and the folder of that disk as this process sees it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)

    class OnSmallDisk(groups.Group):  # type: ignore[name-defined, misc]
        prefix = ("unshare", "--mount", *as_root, "sh", "-c", MOUNT, "sh", str(DISK_KB), str(folder))

    group = OnSmallDisk(shards=1, edges=1, routers=1, data_dir=folder)
    try:
        group.wait_until_ready()
        yield group, Path(f"/proc/{group.process.pid}/root{folder}")
    finally:
        group.stop()
        group.remove()


def fill(disk: Path) -> Path:
    """Take all that is free, to the last byte. The file that takes it."""
    filler = disk / "filler"
    for size in (4096, 1):
        with filler.open("ab", buffering=0) as file, suppress_no_space():
            while True:
                file.write(b"x" * size)
    return filler


@contextmanager
def suppress_no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def test_a_full_disk_refuses_histories_and_nothing_else_and_heals(groups, small_disk):
    group, disk = small_disk
    shard = group.pid_of("shard-0")
    group.call("/channel_config", {"kept": {"store_history": True, "history_size": 1000}})
    with group.websocket(group.connect("ann", "kept", "live")) as ann:
        groups.settle(group, ann, "kept")
        before = group.say("kept", "before")
        assert groups.receive(ann, 1)[0]["uuid"] == before
        filler = fill(disk)

        reason = groups.eventually(lambda: refusal(group), "a message for a history is refused")
        assert "disk is full" in reason
        for number in range(20):
            assert refusal(group)
            uuid = group.say("live", number)
            (received,) = groups.receive(ann, 1)
            assert (received["uuid"], received["channel"]) == (uuid, "live")

        filler.unlink()
        after = groups.eventually(lambda: taken(group), "messages for histories are taken again")
        (received,) = groups.receive(ann, 1)
        assert received["uuid"] == after
        history = group.call("/info", {"info": {"channels": ["kept"]}})["channels"]["kept"]["history"]
        assert [one["uuid"] for one in history][-2:] == [before, after]
        assert group.pid_of("shard-0") == shard


def publish(group: Any) -> Any:
    message = {"user": "backend", "channel": "kept", "message": {"text": "x" * 20_000}}
    return group.post("/message", [message])


def refusal(group: Any) -> str:
    """What a message for a history is answered with, where it is refused; nothing where it is taken. NOTE: what still
    fits into the database's own free pages is taken, and rightly."""
    answer = publish(group)
    assert answer.status_code in (200, 507), answer.text
    return "" if answer.ok else answer.json()["error"]


def taken(group: Any) -> str | None:
    answer = publish(group)
    return answer.json()[0]["uuid"] if answer.ok else None


# --- a disk that fails ------------------------------------------------------------------------------------------------


class FailingDisk:
    """A disk that refuses to write, or to sync, while the test wants it to."""

    def __init__(self, folder: Path) -> None:
        self.library = compiled(DISK_SHIM, folder)
        self.writing = folder / "fail-write"
        self.syncing = folder / "fail-sync"

    @contextmanager
    def failing(self, how: Path) -> Iterator[None]:
        how.touch()
        try:
            yield
        finally:
            how.unlink()


@pytest.fixture
def disk(tmp_path, monkeypatch) -> FailingDisk:
    made = FailingDisk(tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(made.library))
    monkeypatch.setenv("FAIL_WRITE_WHILE", str(made.writing))
    monkeypatch.setenv("FAIL_SYNC_WHILE", str(made.syncing))
    return made


def kept(group: Any) -> list[str]:
    history = group.call("/info", {"info": {"channels": ["kept"]}})["channels"]["kept"]["history"]
    return [one["uuid"] for one in history]


def test_a_disk_that_does_not_write_refuses_histories_and_nothing_else_and_heals(groups, disk):
    with groups.running(shards=1, edges=1, routers=1) as group:
        shard = group.pid_of("shard-0")
        group.call("/channel_config", {"kept": {"store_history": True, "history_size": 1000}})
        with group.websocket(group.connect("ann", "kept", "live")) as ann:
            groups.settle(group, ann, "kept")
            before = group.say("kept", "before")
            assert groups.receive(ann, 1)[0]["uuid"] == before
            with disk.failing(disk.writing):
                assert "the disk refuses to work (SQLITE_IOERR_WRITE)" in refusal(group)
                for number in range(20):
                    assert refusal(group)
                    uuid = group.say("live", number)
                    (received,) = groups.receive(ann, 1)
                    assert (received["uuid"], received["channel"]) == (uuid, "live")
            after = groups.eventually(lambda: taken(group), "messages for histories are taken again")
            (received,) = groups.receive(ann, 1)
            assert received["uuid"] == after
            assert kept(group)[1:] == [before, after]
            assert group.pid_of("shard-0") == shard
            group.again()
            assert kept(group)[1:] == [before, after]


def test_a_disk_that_does_not_sync_ends_the_shard_and_what_was_answered_is_there_when_it_is_back(groups, disk):
    with groups.running(shards=1, edges=1, routers=1, gc_conns_after="5m") as group:
        shard = group.pid_of("shard-0")
        group.call("/channel_config", {"kept": {"store_history": True, "history_size": 5000, "frames_size": 5000}})
        follower = groups.Follower(group, group.connect("ann", "kept"))
        publisher = groups.Repeater(group, ["kept"])
        follower.start()
        publisher.start()
        try:
            groups.eventually(lambda: len(follower.uuids("kept")) >= 20, "it is published")
            with disk.failing(disk.syncing):
                groups.eventually(lambda: not groups.is_running(shard), "the shard ends")
                at_its_end = len(publisher.taken["kept"])
            groups.eventually(lambda: len(publisher.taken["kept"]) >= at_its_end + 20, "a new one goes on")
            publisher.end()
            last = group.say("kept", "last")
            groups.eventually(lambda: last in follower.uuids("kept"), "the last one has come")
        finally:
            publisher.end()
            follower.end()
        answered = publisher.taken["kept"]
        there = kept(group)
        assert [uuid for uuid in there if uuid in set(answered)] == answered
        assert len(set(there)) == len(there)
        assert follower.uuids("kept") == there
        assert follower.gaps("kept") == []
