"""The launcher: its texts, and real groups of small stand-ins under supervisord and the real supervisord.conf."""

from __future__ import annotations

import io
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import channelstream
from channelstream import group, process
from channelstream.config import Loaded, load
from channelstream.errors import ConfigError
from channelstream.process import RunDir

ROOT = Path(channelstream.__file__).parent.parent

PATIENCE_S = 20 * float(os.environ.get("CHANNELSTREAM_TEST_TIMEOUT_FACTOR", "1"))
"""How long a test waits for what must happen. Nothing is slower where it works."""

STAND_IN = """
import os, signal, sys
from channelstream.process import Life
life = Life(sys.argv[1], int(sys.argv[2]), os.environ["CHANNELSTREAM_RUN_DIR"])
life.begin(os.environ)
open(life.run_dir.path / f"{life.name}.sock", "w").close()
def end(*_):
    if os.environ.get("STUBBORN") != life.name:
        life.end()
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
print(life.name, "is up with", os.environ["CHANNELSTREAM_FLAGS"], flush=True)
while True:
    signal.pause()
"""
"""A role that does nothing but live as one."""

LAUNCHER = """
import os, sys
from pathlib import Path
from channelstream import group
from channelstream.cli import guarded
from channelstream.config import read
from channelstream.process import RunDir
conf, *pairs = sys.argv[1:]
flags = dict(pair.split("=") for pair in pairs)
def missing(config):
    names = [f"{role}-{index}" for role in ("router", "shard", "edge") for index in range(getattr(config, role + "s"))]
    held = RunDir(config.run_dir).held_locks()
    return [name for name in names if name not in held]
def run():
    return group.run(group.Start(
        loaded=read(None, os.environ, flags), ini=None, flags=flags, conf=Path(conf),
        ready=lambda config: not missing(config), missing=missing, environ=os.environ, out=sys.stdout,
    ))
sys.exit(guarded(run))
"""
"""What the command does, with the stand-ins' locks for readiness."""


# --- texts, without a process -----------------------------------------------------------------------------------------


def settings(**flags: str) -> Loaded:
    return load(None, "", {}, {"secret": "hush", "admin_secret": "hush"} | flags, 1000, 2, "/srv")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("2026-01-02 03:04:05,678 INFO spawned: 'edge-0' with pid 12", None),
        ("2026-01-02 03:04:05,678 INFO success: edge-0 entered RUNNING state, process has stayed up", None),
        ("2026-01-02 03:04:05,678 CRIT Supervisor is running as root.  Privileges were not dropped", None),
        ("2026-01-02 03:04:05,678 CRIT Server 'unix_http_server' running without any HTTP authentication", None),
        (
            "2026-01-02 03:04:05,678 INFO spawnerr: can't find command '/x'",
            "supervisord: spawnerr: can't find command '/x'",
        ),
        (
            "2026-01-02 03:04:05,678 INFO gave up: edge-0 entered FATAL state, too many start retries too quickly",
            "supervisord: gave up: edge-0 entered FATAL state, too many start retries too quickly",
        ),
        (
            "2026-01-02 03:04:05,678 WARN killing 'edge-0' (12) with SIGKILL",
            "supervisord: killing 'edge-0' (12) with SIGKILL",
        ),
        ("Error: could not find config file x", "Error: could not find config file x"),
        ("2026-01-02T03:04:05.678Z info edge-0 spawned: no", "2026-01-02T03:04:05.678Z info edge-0 spawned: no"),
    ],
)
def test_what_is_shown_of_a_line(line: str, shown: str | None) -> None:
    assert group.line_to_show(line) == shown


def test_the_end_of_a_process_is_seen() -> None:
    assert group.is_end_of_a_process("2026-01-02 03:04:05,678 WARN exited: edge-0 (exit status 1; not expected)")
    assert not group.is_end_of_a_process("2026-01-02 03:04:05,678 INFO stopped: edge-0 (exit status 0)")
    assert not group.is_end_of_a_process("exited: edge-0")


def test_the_banner() -> None:
    lines = group.banner(settings(demo="on", host="0.0.0.0", port="9000", shards="2")._replace(warnings=("careful",)))
    text = "\n".join(lines)
    assert lines[0] == f"channelstream {channelstream.__version__}"
    assert "ws://127.0.0.1:9000/ws\n" in text
    assert "http://127.0.0.1:9000/demo\n" in text
    assert "http://127.0.0.1:8001\n" in text
    assert "1 router, 2 shards, 1 edge, in /tmp/channelstream-1000-9000" in text
    assert lines[-1] == "warning: careful"
    assert "hush" not in text


def test_no_demo_no_address_of_it() -> None:
    assert "/demo" not in "\n".join(group.banner(settings()))


@pytest.mark.parametrize(
    ("host", "shown"), [("::", "http://[::1]:80"), ("::1", "http://[::1]:80"), ("a.example", "http://a.example:80")]
)
def test_addresses_to_click_on(host: str, shown: str) -> None:
    assert group.shown_address("http", host, 80) == shown


def test_the_conf_needs_what_it_is_given() -> None:
    given = group.group_variables(settings().config, "my.ini", "/python", "/srv")
    needed = set(re.findall(r"%\(ENV_(CHANNELSTREAM_\w+)\)s", (ROOT / "supervisord.conf").read_text()))
    assert needed == set(given) - {"CHANNELSTREAM_INI"}
    assert given["CHANNELSTREAM_INI"] == "/srv/my.ini"
    assert group.group_variables(settings().config, None, "/python", "/srv")["CHANNELSTREAM_INI"] == ""


def test_supervisord_waits_for_those_that_leave_in_order() -> None:
    config = settings(drain_seconds="20", ask_timeout="3").config
    given = group.group_variables(config, None, "/python", "/srv")
    assert int(given["CHANNELSTREAM_STOP_EDGE"]) > 20 + 3
    assert int(given["CHANNELSTREAM_STOP_ROUTER"]) > 4 * 3
    waits = re.findall(r"^stopwaitsecs=(\S+)", (ROOT / "supervisord.conf").read_text(), re.MULTILINE)
    assert waits == ["5", "%(ENV_CHANNELSTREAM_STOP_ROUTER)s", "%(ENV_CHANNELSTREAM_STOP_EDGE)s"]


def test_who_keeps_the_others_from_ending_is_overdue() -> None:
    held = {"edge-0": 5, "edge-1": 0, "router-0": 6, "shard-0": 7, "group-0": 8}
    assert group.overdue(held, 1.9) == {}
    assert group.overdue(held, 2.0) == {"edge-0": 5}
    assert group.overdue(held, 3.0) == {"edge-0": 5, "router-0": 6}
    assert group.overdue(held, 4.9) == {"edge-0": 5, "router-0": 6}, "shards have until the end"


def test_the_start_of_a_process_is_seen() -> None:
    assert group.started_pid("2026-01-02 03:04:05,678 INFO spawned: 'edge-0' with pid 12") == 12
    assert group.started_pid("2026-01-02 03:04:05,678 INFO success: edge-0 entered RUNNING state") is None
    assert group.started_pid("spawned: 'edge-0' with pid 12") is None


def test_flags_are_handed_down_with_those_from_above() -> None:
    found = group.flags_variable({"port": "2"}, {"CHANNELSTREAM_FLAGS": '{"port": "1", "debug": "on"}'})
    assert json.loads(found["CHANNELSTREAM_FLAGS"]) == {"port": "2", "debug": "on"}


def test_the_conf_is_found() -> None:
    assert group.conf_path().name == "supervisord.conf"


def test_nobody_listens_to_what_is_said() -> None:
    out = io.StringIO()
    out.close()
    group.say(out, "hello")


# --- ports ------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("option", [None, socket.SO_REUSEPORT])
def test_a_port_that_is_taken(option: int | None) -> None:
    with socket.socket() as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"api_port = {port}: expected a port that is free on 127\.0\.0\.1"):
            group.check_port("api_port", "127.0.0.1", port)
        with pytest.raises(ConfigError):
            group.check_port("port", "0.0.0.0", port)
    group.check_port("port", "127.0.0.1", port)


def test_a_port_with_former_connections_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the server's side closes first: TIME_WAIT is its
            assert client.recv(1) == b""
    group.check_port("port", "127.0.0.1", port)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigError, match=r"^api_host = '192\.0\.2\.1': expected an address of this machine"):
        group.check_port("api_port", "192.0.2.1", 8001)


# --- real processes ---------------------------------------------------------------------------------------------------


class Launcher:
    """A launcher with a group of one router, two shards and one edge."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.run_dir = RunDir(str(folder / "run"))
        self.words = ["-c", LAUNCHER, str(folder / "supervisord.conf"), f"run_dir={self.run_dir.path}"]
        self.words += [f"port={free_port()}", f"api_port={free_port()}", "shards=2", "edges=1"]
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        self.process = self.another()
        self.seen = ""
        """What it has said so far."""

    def another(self) -> subprocess.Popen[str]:
        """Starts one with the same settings."""
        return subprocess.Popen(
            [sys.executable, *self.words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environ
        )

    def expect(self, text: str) -> None:
        """Reads on until a line has this in it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            ready = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]
            line = self.process.stdout.readline() if ready else ""
            assert line, f"{text!r} never came; what came:\n{self.seen}"
            self.seen += line
            if text in line:
                return

    def ends(self) -> int:
        """Waits for its end; gives the exit code."""
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        self.seen += rest
        return self.process.returncode

    def pids(self) -> dict[str, int]:
        """The processes of the group, supervisord among them."""
        found = self.run_dir.held_locks() | {"supervisord": int((self.run_dir.path / "supervisord.pid").read_text())}
        return {name: pid for name, pid in found.items() if name != "group-0"}


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def assert_all_end(pids: dict[str, int]) -> None:
    """Waits until none of these processes is left."""
    deadline = time.monotonic() + PATIENCE_S
    while left := {name: pid for name, pid in pids.items() if is_alive(pid)}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, because of the sockets; and in it the real supervisord.conf, with stand-ins."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    (path / "stand_in.py").write_text(STAND_IN)
    conf = (ROOT / "supervisord.conf").read_text()
    conf, count = re.subn(r"-m channelstream (\w+) --index", rf"{path}/stand_in.py \1", conf)
    assert count == 3
    (path / "supervisord.conf").write_text(conf)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def environ() -> dict[str, str]:
    """What a test adds to the environment of the group."""
    return {}


@pytest.fixture
def launcher(folder: Path, environ: dict[str, str]) -> Iterator[Launcher]:
    """A launcher whose group is ready."""
    launcher = Launcher(folder, environ)
    with launcher.process:
        try:
            launcher.expect("ready in ")
            yield launcher
        finally:
            if launcher.process.poll() is None:
                launcher.process.terminate()
                launcher.process.communicate(timeout=PATIENCE_S)


@pytest.mark.group
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_and_leaves_nothing(launcher: Launcher, number: int) -> None:
    pids = launcher.pids()
    assert sorted(pids) == ["edge-0", "router-0", "shard-0", "shard-1", "supervisord"]
    assert all(map(is_alive, pids.values()))
    launcher.process.send_signal(number)
    assert launcher.ends() == process.EXIT_OK
    assert not any(map(is_alive, pids.values()))
    assert not launcher.run_dir.path.exists()


@pytest.mark.group
def test_what_a_person_sees(launcher: Launcher) -> None:
    launcher.process.terminate()
    launcher.ends()
    lines = launcher.seen.splitlines()
    assert lines[0].startswith("channelstream ")
    assert sum(line.startswith("ready in ") for line in lines) == 1
    assert sum(" is up with " in line for line in lines) == 4
    assert '"shards": "2"' in launcher.seen, "the flags reach the processes"
    assert "CRIT" not in launcher.seen
    assert "supervisord" not in launcher.seen
    assert lines[-1] == "stopped"


@pytest.mark.group
def test_the_roles_end_one_after_another(launcher: Launcher) -> None:
    watched = {os.pidfd_open(pid): name for name, pid in launcher.pids().items() if name != "supervisord"}
    launcher.process.terminate()
    order: list[str] = []
    while watched:
        for descriptor in select.select(list(watched), [], [], PATIENCE_S)[0]:
            order.append(watched.pop(descriptor).partition("-")[0])
            os.close(descriptor)
    assert order == ["edge", "router", "shard", "shard"]


@pytest.mark.group
@pytest.mark.parametrize("environ", [{"STUBBORN": "edge-0"}])
def test_a_process_that_does_not_end_is_killed(launcher: Launcher) -> None:
    pids = launcher.pids()
    began = time.monotonic()
    launcher.process.terminate()
    assert launcher.ends() == process.EXIT_OK
    assert time.monotonic() - began < group.STOP_DEADLINE_S + 1
    assert f"edge-0 did not end in time, killed: pid {pids['edge-0']}" in launcher.seen
    assert launcher.seen.count("killed") == 1, "the others had their time"
    assert not any(map(is_alive, pids.values()))
    assert not launcher.run_dir.path.exists()


@pytest.mark.group
def test_a_supervisord_that_hangs_is_killed_with_its_children(launcher: Launcher) -> None:
    pids = launcher.pids()
    os.kill(pids["supervisord"], signal.SIGSTOP)
    launcher.process.terminate()
    launcher.process.terminate()
    time.sleep(0.2)
    launcher.process.terminate()  # whoever asks twice does not want to wait
    assert launcher.ends() == process.EXIT_OK
    assert "did not end in time, killed" in launcher.seen
    assert not any(map(is_alive, pids.values()))
    assert not launcher.run_dir.path.exists()


@pytest.mark.group
def test_a_killed_launcher_takes_all_with_it_and_can_be_started_again(launcher: Launcher) -> None:
    pids = launcher.pids()
    launcher.process.kill()
    launcher.process.communicate(timeout=PATIENCE_S)
    launcher.process = launcher.another()
    launcher.expect("ready in ")
    assert not any(map(is_alive, pids.values()))


@pytest.mark.group
def test_a_killed_launcher_leaves_no_process(launcher: Launcher) -> None:
    pids = launcher.pids()
    launcher.process.kill()
    assert_all_end(pids)


@pytest.mark.group
def test_a_killed_supervisord_takes_all_with_it(launcher: Launcher) -> None:
    pids = launcher.pids()
    os.kill(pids["supervisord"], signal.SIGKILL)
    assert launcher.ends() == process.EXIT_FAILED
    assert "supervisord ended by itself (exit status -9)" in launcher.seen
    assert not any(map(is_alive, pids.values()))
    assert not launcher.run_dir.path.exists()


@pytest.mark.group
def test_a_killed_process_is_started_again(launcher: Launcher) -> None:
    before = launcher.pids()
    os.kill(before["shard-1"], signal.SIGKILL)
    launcher.expect("supervisord: exited: shard-1 (terminated by SIGKILL; not expected)")
    launcher.expect("shard-1 is up with")
    after = launcher.pids()
    assert after.pop("shard-1") != before.pop("shard-1")
    assert after == before


@pytest.mark.group
def test_a_second_start_is_refused(launcher: Launcher) -> None:
    with launcher.another() as second:
        said, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == process.EXIT_REFUSED
    path, pid = launcher.run_dir.path, launcher.process.pid
    assert said.startswith(f"channelstream: channelstream is already running in {path}: group-0 has pid {pid};")
    assert all(map(is_alive, launcher.pids().values()))


@pytest.mark.group
def test_a_start_beside_somebody_elses_supervisord_is_refused(folder: Path) -> None:
    run_dir = RunDir(str(folder / "run"))
    run_dir.prepare()
    lock = process.Lock(run_dir, "shard", 0)
    lock.take()
    second = Launcher(folder, {})
    assert second.ends() == process.EXIT_REFUSED
    assert f"already running in {run_dir.path}: shard-0 has pid {os.getpid()};" in second.seen
    assert run_dir.held_locks() == {"shard-0": os.getpid()}
    lock.release()


@pytest.mark.group
def test_a_group_whose_processes_cannot_start_says_so(folder: Path) -> None:
    (folder / "stand_in.py").write_text("print('cannot'); raise SystemExit(2)")
    launcher = Launcher(folder, {})
    launcher.expect("cannot")
    launcher.expect("supervisord: exited: ")
    launcher.process.terminate()
    assert launcher.ends() == process.EXIT_OK
    assert "ready in " not in launcher.seen


@pytest.mark.group
def test_a_conf_that_supervisord_refuses(folder: Path) -> None:
    (folder / "supervisord.conf").write_text("[supervisord]\nminfds=x\n")
    launcher = Launcher(folder, {})
    assert launcher.ends() == process.EXIT_FAILED
    assert "Error: " in launcher.seen
    assert "supervisord ended by itself (exit status 2)" in launcher.seen
