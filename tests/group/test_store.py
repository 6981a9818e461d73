"""What happens to processes and disks, and what a store makes of it. Each test does it to a real process."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import channelstream
from channelstream.clock import Now
from channelstream.config import load
from channelstream.shard.store.base import MessageSaved, Saved, StoredMessage
from channelstream.shard.store.opening import open_store
from channelstream.shard.store.sqlite import SqliteStore

ENV = {**os.environ, "PYTHONPATH": str(Path(channelstream.__file__).parent.parent)}

PRELUDE = """
import itertools, os, resource, sys
from pathlib import Path
from channelstream import failpoints
from channelstream.errors import StoreError
from channelstream.shard.store.base import *
from channelstream.shard.store.sqlite import SqliteStore
from channelstream.wire.messages import ChannelConfig

def opened(folder, synced=True):
    return SqliteStore(Path(folder), 0, synced=synced, generation=1, wall=0.0)

def channel():
    return ChannelSaved("lobby", "uuid", "e1", 0, ChannelConfig())

def message(seq, size=20):
    return MessageSaved("lobby", StoredMessage(f"m{seq}", seq, b"x" * size, 1.0))

def say(*words):
    print(*words, flush=True)

def attempt(step):
    try:
        step()
    except StoreError as error:
        say(type(error).__name__, error)
    else:
        say("done")
"""

FAILS_TO_SYNC = r"""
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int failing(void) { return access(getenv("FAIL_SYNC_WHILE"), F_OK) == 0; }
int fsync(int fd) { if (failing()) { errno = EIO; return -1; } return 0; }
int fdatasync(int fd) { return fsync(fd); }
"""


class Child:
    """A Python process with a store."""

    def __init__(self, code: str, *arguments: object, env: dict[str, str] | None = None, before: tuple[str, ...] = ()):
        command = [*before, sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env or ENV
        )

    def line(self) -> str:
        """Its next word, "" where it has ended."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        assert ready, "nothing was said for a minute"
        return self.process.stdout.readline().strip()

    def lines(self) -> list[str]:
        """All that it says until it ends."""
        return list(iter(self.line, ""))

    def go_on(self) -> None:
        """It waits on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start_one(code: str, *arguments: object, **settings: object) -> Child:
        children.append(Child(code, *arguments, **settings))  # type: ignore[arg-type]
        return children[-1]

    yield start_one
    for child in children:
        child.end()


def found_in(folder: Path) -> Saved:
    """What the next life finds."""
    store = SqliteStore(folder, 0, synced=True, generation=1, wall=0.0)
    try:
        return store.load()
    finally:
        store.close()


def seqs(saved: Saved) -> list[int]:
    return [message.seq for message in saved.channels["lobby"].history]


# --- the end of a process ---------------------------------------------------------------------------------------------

PUBLISHES = """
failpoints.arm({"CHANNELSTREAM_FAILPOINT": sys.argv[2]}, Path(sys.argv[1]))
store = opened(sys.argv[1], synced=sys.argv[3] == "on")
store.load()
store.commit([channel()])
for seq in itertools.count(1, 10):
    store.commit([message(one, 500) for one in range(seq, seq + 10)])
    say(seq + 9)
"""


@pytest.mark.parametrize("fsync", ["on", "off"])
def test_a_process_that_is_killed_anywhere_keeps_all_that_it_told(
    start: Callable[..., Child], tmp_path: Path, fsync: str
) -> None:
    chance = random.Random(fsync)
    for turn in range(4):
        folder = tmp_path / str(turn)
        child = start(PUBLISHES, folder, "", fsync)
        for _ in range(chance.randrange(1, 400)):
            told = int(child.line())
        child.process.send_signal(signal.SIGKILL)
        told = max(told, *map(int, child.lines()), 0)
        saved = found_in(folder)
        there = seqs(saved)
        assert there == list(range(1, len(there) + 1))
        assert len(there) in {told, told + 10}
        assert saved.is_complete
        assert saved.channels["lobby"].is_whole


def test_a_process_that_ends_inside_of_a_transaction_leaves_nothing_of_it(
    start: Callable[..., Child], tmp_path: Path
) -> None:
    tmp_path.joinpath("s").mkdir()
    told = start(PUBLISHES, tmp_path / "s", "before_commit:5", "on").lines()
    (tmp_path / "s" / "fired-before_commit").unlink()
    assert len(told) == 3
    assert seqs(found_in(tmp_path / "s")) == list(range(1, int(told[-1]) + 1))


def test_a_process_that_ends_inside_of_a_checkpoint_loses_nothing(start: Callable[..., Child], tmp_path: Path) -> None:
    tmp_path.joinpath("s").mkdir()
    told = start(PUBLISHES, tmp_path / "s", "in_checkpoint:2", "off").lines()
    # The group that made the log too long is down, and was not told.
    assert seqs(found_in(tmp_path / "s")) == list(range(1, int(told[-1]) + 11))


# --- two owners -------------------------------------------------------------------------------------------------------


def test_a_stopped_owner_whose_successor_has_started_commits_nothing(
    start: Callable[..., Child], tmp_path: Path
) -> None:
    owner = start(
        """
store = opened(sys.argv[1])
store.commit([channel(), message(1)])
say("ready")
sys.stdin.readline()
attempt(lambda: store.commit([message(2)]))
attempt(lambda: store.load())
store.close()
say("closed")
""",
        tmp_path,
    )
    assert owner.line() == "ready"
    owner.process.send_signal(signal.SIGSTOP)
    (tmp_path / "shard-0.lock").unlink()
    successor = SqliteStore(tmp_path, 0, synced=True, generation=1, wall=0.0)
    successor.commit([MessageSaved("lobby", StoredMessage("other", 2, b"{}", 1.0))])
    owner.process.send_signal(signal.SIGCONT)
    owner.go_on()
    assert [word.split()[0] for word in owner.lines()] == ["OwnerLost", "OwnerLost", "closed"]
    successor.commit([MessageSaved("lobby", StoredMessage("third", 3, b"{}", 1.0))])
    successor.close()
    assert [message.uuid for message in found_in(tmp_path).channels["lobby"].history] == ["m1", "other", "third"]


# --- disks ------------------------------------------------------------------------------------------------------------


def test_a_limit_of_file_sizes_is_a_full_disk_that_heals(start: Callable[..., Child], tmp_path: Path) -> None:
    child = start(
        """
store = opened(sys.argv[1])
store.commit([channel(), message(1)])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
seq = 1
try:
    for seq in itertools.count(2):
        store.commit([message(seq, 10_000)])
except StoreError as error:
    say(type(error).__name__, error)
attempt(lambda: store.commit([message(seq, 10_000)]))
attempt(lambda: store.tidy())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
attempt(lambda: store.commit([message(seq, 10)]))
say(seq)
store.close()
""",
        tmp_path,
    )
    first, second, tidied, healed, seq = child.lines()
    assert first.startswith("StoreFull the disk refuses to work (SQLITE_IOERR_WRITE)")
    assert second.startswith("StoreFull")
    assert (tidied, healed) == ("done", "done")
    saved = found_in(tmp_path)
    assert seqs(saved) == list(range(1, int(seq) + 1))
    assert saved.channels["lobby"].history[-1].body == b"x" * 10


FILLS_THE_DISK = """
folder = Path(sys.argv[1])
if os.system(f"mount -t tmpfs -o size=2m none {folder}") != 0:
    say("no tmpfs")
    sys.exit()
import channelstream.shard.store.sqlite as sqlite
store = opened(folder / "store")
store.commit([channel(), message(1)])
ballast = folder / "ballast"
ballast.write_bytes(b"b" * 1_000_000)
if sys.argv[2] == "checkpoint":
    store._checkpoint_at = 100_000
told = 1
seq = 1
try:
    for seq in itertools.count(2):
        store.commit([message(seq, 10_000)])
        told = seq
except StoreError as error:
    say(type(error).__name__, error)
attempt(lambda: store.tidy())
say([one.seq for one in store.read().channels["lobby"].history] == list(range(1, told + 1)))
ballast.unlink()
attempt(lambda: store.commit([message(seq, 10)]))
say([one.seq for one in store.read().channels["lobby"].history] == list(range(1, told + 2)))
store.close()
again = opened(folder / "store")
say([one.seq for one in again.read().channels["lobby"].history] == list(range(1, told + 2)))
"""


@pytest.mark.parametrize("when", ["commit", "checkpoint"])
def test_a_full_disk_takes_nothing_and_heals(start: Callable[..., Child], tmp_path: Path, when: str) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can make a small disk")
    child = start(FILLS_THE_DISK, tmp_path, when, before=("unshare", "-m"))
    words = [word for word in child.lines() if "stays long" not in word]
    if words in (["no tmpfs"], []) or "unshare" in words[0]:
        pytest.skip("a small disk cannot be made here")
    assert words == ["StoreFull the disk is full", "done", "True", "done", "True", "True"]


@pytest.fixture(scope="module")
def fails_to_sync(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes fsync and fdatasync fail while a file is there."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to make a failing disk with")
    folder = tmp_path_factory.mktemp("sync")
    (folder / "sync.c").write_text(FAILS_TO_SYNC)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "sync.so", folder / "sync.c"], check=True)
    return folder / "sync.so"


def test_a_disk_that_fails_to_sync_breaks_the_store(
    start: Callable[..., Child], tmp_path: Path, fails_to_sync: Path
) -> None:
    child = start(
        """
store = opened(sys.argv[1])
store.commit([channel(), message(1)])
Path(os.environ["FAIL_SYNC_WHILE"]).touch()
attempt(lambda: store.commit([message(2)]))
Path(os.environ["FAIL_SYNC_WHILE"]).unlink()
store.close()
say("closed", os.stat(sys.argv[1] + "/shard-0.sqlite-wal").st_size > 0)
""",
        tmp_path / "store",
        env=ENV | {"LD_PRELOAD": str(fails_to_sync), "FAIL_SYNC_WHILE": str(tmp_path / "fail")},
    )
    assert child.lines() == ["StoreBroken the disk failed to sync (SQLITE_IOERR_FSYNC)", "closed True"]
    assert seqs(found_in(tmp_path / "store")) in ([1], [1, 2])


def test_a_disk_that_fails_to_sync_in_a_checkpoint_breaks_the_store(
    start: Callable[..., Child], tmp_path: Path, fails_to_sync: Path
) -> None:
    child = start(
        """
store = opened(sys.argv[1], synced=True)
store.commit([channel(), message(1)])
store._checkpoint_at = 0
checkpoint = store._checkpoint
def failing():
    Path(os.environ["FAIL_SYNC_WHILE"]).touch()
    return checkpoint()
store._checkpoint = failing
attempt(lambda: store.commit([message(2)]))
""",
        tmp_path / "store",
        env=ENV | {"LD_PRELOAD": str(fails_to_sync), "FAIL_SYNC_WHILE": str(tmp_path / "fail")},
    )
    assert child.lines() == ["StoreBroken the disk failed to sync (SQLITE_IOERR_FSYNC)"]
    assert seqs(found_in(tmp_path / "store")) == [1, 2]


def test_a_folder_that_may_not_be_written_is_refused(start: Callable[..., Child], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    (tmp_path / "store").mkdir(mode=0o755)
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    child = start(
        """
os.setuid(12345)
try:
    opened(sys.argv[1])
except Exception as error:
    say(type(error).__name__, error)
""",
        tmp_path / "store",
    )
    assert child.lines() == [
        f"DataDirRefused data_dir: {tmp_path}/store/shard-0.lock cannot be used: permission denied"
    ]


# --- another number of shards -----------------------------------------------------------------------------------------

MOVES = """
from channelstream.clock import real_clock
from channelstream.config import load
from channelstream.shard.store.opening import open_store
folder = Path(sys.argv[1])
failpoints.arm({"CHANNELSTREAM_FAILPOINT": sys.argv[3]}, folder / "run")
settings = {"store": "sqlite", "shards": sys.argv[2], "data_dir": str(folder / "data"), "run_dir": str(folder / "run")}
open_store(load(None, "", {}, settings, 0, 2).config, 0, real_clock())
say("moved")
"""


def everything(folder: Path, shards: int) -> dict[str, list[int]]:
    """What all shards have, by channel."""
    settings = {"store": "sqlite", "shards": str(shards), "data_dir": f"{folder}/data", "run_dir": f"{folder}/run"}
    config = load(None, "", {}, settings, 0, 2).config
    there: dict[str, list[int]] = {}
    for index in range(shards):
        store = open_store(config, index, Now(0.0, 0.0))
        for name, channel in store.load().channels.items():
            assert name not in there
            assert channel.is_whole
            there[name] = [message.seq for message in channel.history]
        store.close()
    return there


@pytest.mark.parametrize("reached", [1, 2, 4])
def test_a_move_that_is_killed_has_moved_nothing_and_is_done_by_the_next(
    start: Callable[..., Child], tmp_path: Path, reached: int
) -> None:
    (tmp_path / "run").mkdir()
    filled = start(
        MOVES.replace('say("moved")', "").replace("open_store(load", "store = open_store(load")
        + """
for number in range(40):
    name = f"c{number}"
    writes = [MessageSaved(name, StoredMessage(f"m{seq}", seq, b"{}", 1.0)) for seq in range(1, number + 2)]
    store.commit([ChannelSaved(name, "uuid", "e1", 0, ChannelConfig()), *writes])
store.close()
""",
        tmp_path,
        1,
        "",
    )
    assert filled.lines() == []
    killed = start(MOVES, tmp_path, 4, f"mid_move:{reached}")
    assert killed.lines() == []
    assert killed.process.wait() == -signal.SIGKILL
    assert '"shards":1' in (tmp_path / "data" / "layout.json").read_text()
    expected = {f"c{number}": list(range(1, number + 2)) for number in range(40)}
    assert everything(tmp_path, 4) == expected
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["data_dir.lock", "layout.json", "store-2"]
    assert everything(tmp_path, 1) == expected


def test_what_a_running_shard_has_is_not_moved_or_exported(start: Callable[..., Child], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    holder = start(
        MOVES.replace("open_store(load", "store = open_store(load") + "sys.stdin.readline()", tmp_path, 1, ""
    )
    assert holder.line() == "moved"
    late = start(MOVES, tmp_path, 2, "")
    assert f"shard-0 has pid {holder.process.pid}; end it first" in late.lines()[-1]
    command = [sys.executable, "-m", "channelstream", "history", "export", "--data-dir", str(tmp_path / "data")]
    refused = subprocess.run([*command, "--shards", "1"], capture_output=True, text=True, env=ENV, timeout=60)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"shard-0 has pid {holder.process.pid}; end it first" in refused.stderr
