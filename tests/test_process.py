"""The life of a process: run_dir, locks, dying with the parent."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import channelstream
from channelstream import process
from channelstream.errors import AlreadyRunning, RunDirRefused
from channelstream.process import Life, Lock, RunDir

ENV = {**os.environ, "PYTHONPATH": str(Path(channelstream.__file__).parent.parent)}
"""For processes of ours, wherever the tests are run from."""


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """A prepared folder."""
    found = RunDir(str(tmp_path / "run"))
    found.prepare()
    return found


@pytest.fixture
def holder(run_dir: RunDir) -> Iterator[int]:
    """Another process that is shard-0, by its pid."""
    code = (
        "import sys; from channelstream.process import Lock, RunDir;"
        f"Lock(RunDir({str(run_dir.path)!r}), 'shard', 0).take(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        yield child.pid
        child.kill()


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "not yet there" / "run"
    RunDir(str(path)).prepare()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_folder_that_is_right_is_taken(run_dir: RunDir) -> None:
    run_dir.prepare()
    assert run_dir.path.is_dir()


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RunDirRefused, match="symbolic link"):
        RunDir(str(tmp_path / "link")).prepare()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o1777])
def test_a_folder_that_others_can_enter_is_refused_and_left_alone(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "run"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(RunDirRefused, match=rf"mode is {mode:04o}, expected 0700"):
        RunDir(str(path)).prepare()
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_folder_of_somebody_else_is_refused(run_dir: RunDir) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(run_dir.path, 12345, -1)
    with pytest.raises(RunDirRefused, match="belongs to uid 12345"):
        run_dir.prepare()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunDirRefused):
            RunDir(str(path)).prepare()


def test_clearing_removes_what_we_made_and_nothing_else(run_dir: RunDir) -> None:
    for name in ("shard-0.sock", "supervisor.sock.12", "edge-0.lock", "group-0.lock", "supervisord.pid", "notes.txt"):
        (run_dir.path / name).touch()
    run_dir.clear(keep=run_dir.path / "group-0.lock")
    assert sorted(path.name for path in run_dir.path.iterdir()) == ["group-0.lock", "notes.txt"]
    run_dir.remove_if_empty()
    assert run_dir.path.exists()


def test_an_empty_folder_is_removed(run_dir: RunDir) -> None:
    run_dir.remove_if_empty()
    assert not run_dir.path.exists()
    run_dir.remove_if_empty()


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_holds_the_pid_and_goes_with_its_file(run_dir: RunDir) -> None:
    lock = Lock(run_dir, "edge", 2)
    lock.take()
    assert run_dir.lock_path("edge", 2).read_text() == f"{os.getpid()}\n"
    assert run_dir.held_locks() == {"edge-2": os.getpid()}
    lock.release()
    lock.release()
    assert not lock.path.exists()


def test_a_held_lock_is_refused_with_the_pid_of_its_holder(run_dir: RunDir, holder: int) -> None:
    with pytest.raises(AlreadyRunning, match=rf"already running in .*: shard-0 has pid {holder};"):
        Lock(run_dir, "shard", 0).take()
    assert run_dir.held_locks() == {"shard-0": holder}


def test_another_index_is_another_lock(run_dir: RunDir, holder: int) -> None:
    Lock(run_dir, "shard", 1).take()
    assert run_dir.held_locks() == {"shard-0": holder, "shard-1": os.getpid()}


def test_what_a_killed_holder_left_is_taken_over(run_dir: RunDir) -> None:
    run_dir.lock_path("shard", 0).write_text("999999999999\n")
    assert run_dir.held_locks() == {}
    Lock(run_dir, "shard", 0).take()
    assert run_dir.held_locks() == {"shard-0": os.getpid()}


def test_a_holder_that_has_not_written_its_pid_yet(run_dir: RunDir) -> None:
    with open(run_dir.lock_path("shard", 0), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning, match="shard-0 is just starting"):
            Lock(run_dir, "shard", 0).take()


def test_a_file_that_was_unlinked_after_it_was_opened_locks_nothing(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Lock(run_dir, "shard", 0)
    former = Lock(run_dir, "shard", 0)
    former.take()
    opened = lock._opened
    seen: list[int] = []

    def opened_before_the_former_holder_ends() -> int:
        seen.append(opened())
        former.release()  # unlinks what has just been opened, once
        return seen[-1]

    monkeypatch.setattr(lock, "_opened", opened_before_the_former_holder_ends)
    lock.take()
    assert len(seen) == 2
    assert run_dir.held_locks() == {"shard-0": os.getpid()}


def test_a_lock_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RunDirRefused, match=r"shard-0\.lock"):
        Lock(RunDir(str(tmp_path / "gone")), "shard", 0).take()


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_incarnations_are_fresh() -> None:
    found = {process.new_incarnation() for _ in range(100)}
    assert len(found) == 100
    assert all(len(one) == 8 and int(one, 16) >= 0 for one in found)


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 4096, 4096),
        (4096, 4096, 4096),
        (1024, resource.RLIM_INFINITY, process.MAX_DESCRIPTORS),
        (1024, 2**30, process.MAX_DESCRIPTORS),
        (2**21, 2**21, 2**21),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_how_many_descriptors_to_ask_for(soft: int, hard: int, expected: int) -> None:
    assert process.descriptors_to_ask_for(soft, hard) == expected


def run_python(code: str, stdin: IO[str] | int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a few lines in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], stdin=stdin, capture_output=True, text=True, timeout=30, env=ENV
    )


DIE = "from channelstream.process import *; die_with_parent({SUPERVISED: '1'}); print('lives')"


def test_an_orphan_ends_before_it_begins() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading) as stdin:
        found = run_python(DIE, stdin=stdin)
    assert (found.stdout, found.returncode) == ("", process.EXIT_ORPHANED)


def test_a_child_with_a_parent_lives() -> None:
    reading, writing = os.pipe()
    with open(reading) as stdin, open(writing, "w"):
        assert run_python(DIE, stdin=stdin).stdout == "lives\n"


def test_a_process_without_supervisord_lives() -> None:
    code = DIE.replace("{SUPERVISED: '1'}", "{}")
    assert run_python(code, stdin=subprocess.DEVNULL).stdout == "lives\n"


def test_a_child_ends_when_its_parent_is_killed() -> None:
    code = f"""
import os, subprocess, sys
child = [sys.executable, "-c", "{DIE}; import signal, sys; sys.stdout.flush(); signal.pause()"]
running = subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
running.stdout.readline()
print(running.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    found = run_python(code)
    pid = int(found.stdout)
    assert_ends(pid)


def test_a_process_that_is_tied_to_its_parent_ends_when_that_is_killed() -> None:
    code = """
import os, subprocess, sys
from channelstream.process import tied_to
child = [sys.executable, "-c", "import signal; print('lives', flush=True); signal.pause()"]
running = subprocess.Popen(child, stdout=subprocess.PIPE, preexec_fn=tied_to(os.getpid()))
running.stdout.readline()
print(running.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    assert_ends(int(run_python(code).stdout))


def test_one_whose_parent_is_gone_before_it_begins_does_not_begin() -> None:
    code = """
import os, subprocess, sys
from channelstream.process import tied_to
child = subprocess.run([sys.executable, "-c", "print('lives')"], capture_output=True, preexec_fn=tied_to(1))
print(child.returncode, child.stdout)
"""
    assert run_python(code).stdout == f"{process.EXIT_ORPHANED} b''\n"


def assert_ends(pid: int) -> None:
    """Waits until a process that is no child of ours is gone or a zombie, 10 s at most."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    try:
        assert select.select([descriptor], [], [], 10)[0], f"pid {pid} still runs"
    finally:
        os.close(descriptor)


def test_a_life_from_begin_to_end(tmp_path: Path) -> None:
    code = f"""
import os
from channelstream.process import Life
life = Life("edge", 1, {str(tmp_path / "run")!r})
life.begin({{}})
print(life.name, life.run_dir.held_locks() == {{"edge-1": os.getpid()}}, oct(os.umask(0)), len(life.incarnation))
life.end()
print(os.listdir(life.run_dir.path))
"""
    assert run_python(code).stdout == "edge-1 True 0o77 8\n[]\n"


def test_two_lives_have_two_incarnations(tmp_path: Path) -> None:
    assert Life("edge", 0, str(tmp_path)).incarnation != Life("edge", 0, str(tmp_path)).incarnation


def test_it_needs_neither_gevent_nor_zmq() -> None:
    code = (
        "import sys, channelstream.process; print([name for name in ('gevent', 'zmq', 'ssl') if name in sys.modules])"
    )
    assert run_python(code).stdout == "[]\n"


def page_faults(environ: dict[str, str], size: int) -> int:
    """How often the kernel has to give a page to a process that takes and frees so many bytes a hundred times."""
    code = (
        "import resource; from channelstream.process import keep_heap;"
        f"keep_heap({environ!r});"
        f"used = lambda: [bytearray({size // 16}) for _ in range(16)] and None;"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "used(); before = faults(); [used() for _ in range(100)]; print(faults() - before)"
    )
    clean = {name: value for name, value in ENV.items() if not name.startswith("MALLOC_")}
    return int(subprocess.run([sys.executable, "-c", code], env=clean, check=True, capture_output=True).stdout)


def test_freed_memory_is_kept_for_the_next_turn_and_no_more_than_that() -> None:
    pages = 100 * process.KEPT_HEAP_BYTES // 2 // resource.getpagesize()
    assert page_faults({}, process.KEPT_HEAP_BYTES // 2) < pages / 50
    assert page_faults({}, 2 * process.KEPT_HEAP_BYTES) > pages
    assert page_faults({"MALLOC_TRIM_THRESHOLD_": "131072"}, process.KEPT_HEAP_BYTES // 2) > pages / 2


def test_random_uuids_are_in_canonical_form_of_version_4_and_differ() -> None:
    new_uuid = process.RandomUuids()
    made = [new_uuid() for _ in range(3 * process.UUIDS_AT_A_TIME)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
    # Each digit takes all values that it may: none is lost on the way into its place.
    for place, sign in enumerate("xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx"):
        expected = {"x": 16, "v": 4}.get(sign, 1)
        assert len({text[place] for text in made}) == expected
