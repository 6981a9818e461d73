"""The group in the foreground: starts supervisord, shows what it says, and leaves nothing behind when it ends.

What lives here: the launcher that `channelstream -i FILE.ini` is. It must not know what the processes of the group do:
whether they are ready is a function that it is given.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Final, NamedTuple

from channelstream import __version__
from channelstream.clock import monotonic
from channelstream.config import FLAGS_VARIABLE, INI_VARIABLE, KEYS, Config, Loaded
from channelstream.errors import AlreadyRunning, ConfigError
from channelstream.leaving import stop_wait_s
from channelstream.process import (
    EXIT_FAILED,
    EXIT_OK,
    UMASK,
    Lock,
    RunDir,
    tied_to,
)
from channelstream.screen import Out
from channelstream.supervision import knock

READY_POLL_S: Final = 0.05
"""How often it is looked whether the group is ready. A person does not see less."""

IDLE_POLL_S: Final = 1.0
"""How long the launcher sleeps when all is well. Signals and the end of supervisord wake it."""

READY_PATIENCE_S: Final = 30.0
"""After this long it is said who is missing. A cold start of a slow machine takes a few seconds."""

STOP_DEADLINE_S: Final = 5.0
"""How long supervisord has to end the group."""

ROLE_STOP_S: Final = {"edge": 2.0, "router": 3.0}
"""When processes of a role that still run are killed, counted from the beginning of the end: so that those behind them
have their time, too. supervisord itself waits for much longer, since it must not cut off one that is restarted."""

KILL_DEADLINE_S: Final = 1.0
"""How long killed processes have to disappear. Only one that hangs in the kernel takes longer; nothing ends that."""

STOP_POLL_S: Final = 0.02
"""How often it is looked, and supervisord is knocked at, while the group ends."""

LEAVING_DEADLINE_S: Final = 3.0
"""How long a start waits for the processes of a group whose launcher was killed a moment ago: its supervisord notices
within a second, and they end one role after another."""

MAX_LINE_BYTES: Final = 65536
"""A longer line from the group is shown in parts."""

SUPERVISOR_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]{4}) (?P<text>.*)")
"""A line of supervisord itself: its format in supervisor/options.py, make_logger."""

ROUTINE: Final = (
    "RPC interface ",
    "Server 'unix_http_server' running without",
    "Supervisor is running as root.",
    "Increased RLIMIT_",
    "supervisord started with pid",
    "spawned: ",
    "success: ",
    "stopped: ",
    "received SIG",
    "reaped unknown pid",
    "waiting for ",
)
"""How those lines of supervisord begin that tell nobody anything: each start and stop as it should be, that its socket
has no password (it is in a folder that only its owner can enter), and that it runs as the user who started it."""

ENDED: Final = "exited: "
"""How the line begins by which supervisord says that a process has ended and was not asked to."""

SPAWNED: Final = re.compile(r"spawned: '[^']*' with pid (?P<pid>\d+)")
"""By which it says that it has started one."""

Ready = Callable[[Config], bool]
Missing = Callable[[Config], list[str]]


class Start(NamedTuple):
    """What the launcher is told."""

    loaded: Loaded
    ini: str | None
    """The file, as it was named."""

    flags: Mapping[str, str]
    """The keys that were given on the command line."""

    conf: Path
    """The supervisord.conf to run."""

    ready: Ready
    """Whether every process of the group answers. Asked about every `READY_POLL_S`."""

    missing: Missing
    """The processes that do not answer, as `role-index`."""

    environ: Mapping[str, str]
    out: Out


# --- texts and plans, pure --------------------------------------------------------------------------------------------


def group_variables(config: Config, ini: str | None, python: str, cwd: str) -> dict[str, str]:
    """What supervisord.conf needs in its environment. None of it is secret."""
    return {
        "CHANNELSTREAM_PYTHON": python,
        INI_VARIABLE: os.path.normpath(os.path.join(cwd, ini)) if ini else "",
        "CHANNELSTREAM_RUN_DIR": config.run_dir,
        "CHANNELSTREAM_ROUTERS": str(config.routers),
        "CHANNELSTREAM_SHARDS": str(config.shards),
        "CHANNELSTREAM_EDGES": str(config.edges),
        "CHANNELSTREAM_STOP_ROUTER": str(stop_wait_s("router", config)),
        "CHANNELSTREAM_STOP_EDGE": str(stop_wait_s("edge", config)),
    }


def flags_variable(flags: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """How the processes of the group learn the flags: together with those that were handed down to us."""
    handed_down = json.loads(environ.get(FLAGS_VARIABLE) or "{}")
    return {FLAGS_VARIABLE: json.dumps(handed_down | dict(flags))}


def export_lines(loaded: Loaded, ini: str | None, flags: Mapping[str, str], python: str, cwd: str) -> str:
    """The environment for a supervisord of one's own, as lines for a shell. Secrets are left out."""
    variables = group_variables(loaded.config, ini, python, cwd)
    for name, value in flags.items():
        if not KEYS[name].secret:
            variables.setdefault(f"CHANNELSTREAM_{name.upper()}", value)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    folder = shlex.quote(loaded.config.run_dir)
    return "\n".join([*lines, f"[ -d {folder} ] || mkdir -p -m 700 {folder}"]) + "\n"


def shown_address(scheme: str, host: str, port: int) -> str:
    """An address to click on: that of this machine where it listens on all of them."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"


def banner(loaded: Loaded) -> list[str]:
    """The lines that are shown first."""
    config = loaded.config
    public = shown_address(config.http_scheme, config.host, config.port)
    lines = [
        f"channelstream {__version__}",
        f"  clients    {public.replace('http', 'ws', 1)}/ws",
        f"  public     {public}" + ("" if config.public_api else " (without the API)"),
        f"  api        {shown_address('http', config.api_host, config.api_port)}",
    ]
    if config.demo:
        lines.append(f"  demo       {public}/demo")
    lines.append(f"  processes  {counted(config)}, in {config.run_dir}")
    return lines + [f"warning: {text}" for text in loaded.warnings]


def counted(config: Config) -> str:
    """How many processes of each role."""
    numbers = {"router": config.routers, "shard": config.shards, "edge": config.edges}
    return ", ".join(f"{number} {role}{'s' if number > 1 else ''}" for role, number in numbers.items())


def line_to_show(line: str) -> str | None:
    """A line from the group as a person should see it; `None` for supervisord's routine."""
    found = SUPERVISOR_LINE.fullmatch(line)
    if found is None:
        return line
    if found["text"].startswith(ROUTINE):
        return None
    return f"supervisord: {found['text']}"


def is_end_of_a_process(line: str) -> bool:
    """Whether supervisord says that a process has ended and was not asked to."""
    found = SUPERVISOR_LINE.fullmatch(line)
    return found is not None and found["text"].startswith(ENDED)


def started_pid(line: str) -> int | None:
    """The pid of the process that supervisord says it has started."""
    found = SUPERVISOR_LINE.fullmatch(line)
    spawned = SPAWNED.fullmatch(found["text"]) if found else None
    return int(spawned["pid"]) if spawned else None


def overdue(held: Mapping[str, int], elapsed_s: float) -> dict[str, int]:
    """Of the processes that run, `role-index` → pid, those that had to be gone so long after the end has begun."""
    late = tuple(f"{role}-" for role, limit_s in ROLE_STOP_S.items() if elapsed_s >= limit_s)
    return {name: pid for name, pid in held.items() if pid and name.startswith(late)} if late else {}


# --- the machine ------------------------------------------------------------------------------------------------------


def conf_path() -> Path:
    """supervisord.conf: in the package where it was installed, beside the package in a checkout."""
    package = Path(__file__).parent
    for folder in (package, package.parent):
        if (folder / "supervisord.conf").is_file():
            return folder / "supervisord.conf"
    raise ConfigError("supervisord.conf", str(package), "the file that is installed with channelstream")


def check_port(key: str, host: str, port: int) -> None:
    """Raises `ConfigError` where one could not listen there. What listens with SO_REUSEPORT is seen too."""
    host_key = key.replace("port", "host")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except OSError as error:
        raise ConfigError(host_key, host, f"an address of this machine: {error.strerror}") from error
    with socket.socket(family, kind) as probe:
        # Without it, the last seconds of former connections (TIME_WAIT) would look like somebody who listens.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise port_error(key, host_key, host, port, error) from error


def port_error(key: str, host_key: str, host: str, port: int, error: OSError) -> ConfigError:
    """What to tell somebody who cannot listen there."""
    if error.errno == errno.EADDRINUSE:
        return ConfigError(key, port, f"a port that is free on {host}: another process listens there")
    if error.errno == errno.EACCES:
        return ConfigError(key, port, "a port that this user may listen on, 1024 or more")
    return ConfigError(host_key, host, f"an address of this machine: {error.strerror}")


def members_of_session(session: int) -> list[int]:
    """The pids of the processes that live in a session. Zombies do not count."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and belongs_to(folder, session):
            found.append(int(folder.name))
    return found


def belongs_to(folder: Path, session: int) -> bool:
    """Whether the process of a folder of /proc is in a session and alive (proc_pid_stat(5), fields 3 and 6)."""
    try:
        text = (folder / "stat").read_text(errors="replace")
    except OSError:
        return False
    state, _parent, _process_group, its_session = text.rpartition(")")[2].split()[:4]
    return its_session == str(session) and state not in {"Z", "X"}


class Signals:
    """Ctrl-C, SIGTERM and a closed terminal as something to wait for, instead of as exceptions anywhere."""

    def __init__(self) -> None:
        self.asked = 0
        """How often somebody has asked for the end. Counted by the handler only."""

        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:  # nohup ignores SIGHUP for us
                self._former[number] = signal.signal(number, self._count)
        self._former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._wake)
        self._former_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1

    def _wake(self, number: int, frame: FrameType | None) -> None:
        """Nothing to do: that a signal with a handler came is what ends `wait`."""

    def wait(self, seconds: float, also: Iterable[int] = ()) -> list[int]:
        """Sleeps, until a signal comes or one of some other descriptors is readable; gives those that are."""
        poller = select.poll()
        for descriptor in (self._read_end, *also):
            poller.register(descriptor, select.POLLIN)
        readable = [descriptor for descriptor, _ in poller.poll(seconds * 1000)]
        if self._read_end in readable:
            readable.remove(self._read_end)
            os.read(self._read_end, 4096)
        return readable

    def restore(self) -> None:
        """Puts back what was there before."""
        signal.set_wakeup_fd(self._former_wakeup)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        os.close(self._read_end)
        os.close(self._write_end)


class Supervisor:
    """supervisord as our child, and the thread that shows what it and its children say."""

    def __init__(self, start: Start) -> None:
        self._run_dir: Final = RunDir(start.loaded.config.run_dir)
        self._out = start.out
        self._watched: dict[int, int] = {}
        """A descriptor for each process that supervisord has started → its pid. The pump puts them in, `look_after`
        takes them out."""
        self._killed: set[int] = set()
        """Those that did not end in time."""
        ours = group_variables(start.loaded.config, start.ini, sys.executable, os.getcwd())
        # NOTE: a session of its own, so that a terminal's Ctrl-C reaches the launcher alone; and `preexec_fn` is safe
        # because no thread has been started yet.
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(start.conf)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**start.environ, **ours, **flags_variable(start.flags, start.environ)},
            start_new_session=True,
            preexec_fn=tied_to(os.getpid()),
        )
        assert self._process.stdout is not None
        self._pump = threading.Thread(target=self._show, args=(self._process.stdout,), name="pump", daemon=True)
        self._pump.start()

    def _show(self, pipe: IO[bytes]) -> None:
        """Shows lines until supervisord closes its end. Reads on where nobody looks any more, lest it block."""
        while line := pipe.readline(MAX_LINE_BYTES):
            text = line.decode(errors="replace").rstrip("\n")
            shown = line_to_show(text)
            if shown is not None:
                say(self._out, shown)
            if is_end_of_a_process(text):
                self.knock()  # it sees an end with one look around, and starts the process again with the next
            pid = started_pid(text)
            if pid is not None:
                self._watch_for_end(pid)

    def _watch_for_end(self, pid: int) -> None:
        with suppress(OSError):  # gone already, or no descriptor left: then supervisord sees it by itself, in a second
            self._watched[os.pidfd_open(pid)] = pid

    def look_after(self, signals: Signals, seconds: float) -> None:
        """Sleeps, until a signal comes or a process of the group ends; of that supervisord is told at once."""
        ended = signals.wait(seconds, list(self._watched))
        for descriptor in ended:
            del self._watched[descriptor]
            os.close(descriptor)
        if ended:
            self.knock()

    def exit_status(self) -> int | None:
        """What supervisord ended with; `None` while it runs."""
        return self._process.poll()

    def knock(self) -> None:
        """Makes supervisord look around at once."""
        knock(str(self._run_dir.path))

    def stop(self, signals: Signals) -> None:
        """Ends the group, by force where it does not end within `STOP_DEADLINE_S`, or is asked once more."""
        asked = signals.asked
        began = monotonic()
        if self.exit_status() is None:
            self._process.terminate()
        while self._is_alive() and (elapsed := monotonic() - began) < STOP_DEADLINE_S and signals.asked <= asked:
            self.knock()
            self._kill_overdue(elapsed)
            signals.wait(STOP_POLL_S)
        self._kill_what_is_left()
        self._pump.join(timeout=STOP_DEADLINE_S)
        for descriptor in self._watched:
            os.close(descriptor)

    def _kill_overdue(self, elapsed_s: float) -> None:
        """SIGKILL for those that keep others from ending in order."""
        if elapsed_s < min(ROLE_STOP_S.values()):
            return
        for name, pid in overdue(self._run_dir.held_locks(), elapsed_s).items():
            if pid not in self._killed:
                self._killed.add(pid)
                say(self._out, f"{name} did not end in time, killed: pid {pid}")
                kill(pid)

    def _is_alive(self) -> bool:
        """Whether supervisord runs, or a child that outlived it."""
        return self.exit_status() is None or bool(members_of_session(self._process.pid))

    def _kill_what_is_left(self) -> None:
        """SIGKILL for supervisord and each of its children: they have process groups of their own, but its session."""
        left = members_of_session(self._process.pid)
        if left:
            say(self._out, f"did not end in time, killed: {', '.join(f'pid {pid}' for pid in left)}")
        deadline = monotonic() + KILL_DEADLINE_S
        while left and monotonic() < deadline:
            for pid in left:
                kill(pid)
            self._pump.join(timeout=STOP_POLL_S)
            left = members_of_session(self._process.pid)
        self.exit_status()


def kill(pid: int) -> None:
    """SIGKILL for a process that may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def say(out: Out, line: str) -> None:
    """A line for the person in front of it, who may have gone away (`channelstream | head`)."""
    try:
        out.write(line + "\n")
        out.flush()
    except (BrokenPipeError, ValueError):
        return


def wait_for_free_place(run_dir: RunDir, own: Lock) -> None:
    """Raises `AlreadyRunning` where processes run in this folder, and go on to."""
    deadline = monotonic() + LEAVING_DEADLINE_S
    pause = threading.Event()
    while held := {name: pid for name, pid in run_dir.held_locks().items() if name != own.path.stem}:
        if monotonic() >= deadline:
            name, pid = next(iter(held.items()))
            raise AlreadyRunning(name, pid, str(run_dir.path))
        pause.wait(READY_POLL_S)


def run(start: Start) -> int:
    """Runs the group until it is asked to end. Gives the exit code.

    Raises `OperatorError` where nothing was started: settings that meet somebody else's, or a group that runs already.
    """
    config = start.loaded.config
    os.umask(UMASK)
    run_dir = RunDir(config.run_dir)
    run_dir.prepare()
    lock = Lock(run_dir, "group", 0)
    lock.take()
    try:
        wait_for_free_place(run_dir, lock)
        check_port("port", config.host, config.port)
        check_port("api_port", config.api_host, config.api_port)
        code = run_supervised(start)
        run_dir.clear(keep=lock.path)
    finally:
        lock.release()
        run_dir.remove_if_empty()
    return code


def run_supervised(start: Start) -> int:
    """Starts supervisord, watches it, ends it."""
    for line in banner(start.loaded):
        say(start.out, line)
    signals = Signals()
    try:
        supervisor = Supervisor(start)
        try:
            watch(start, supervisor, signals)
            status = supervisor.exit_status()
        finally:
            supervisor.stop(signals)
    finally:
        signals.restore()
    if status is not None and not signals.asked:
        say(start.out, f"supervisord ended by itself (exit status {status})")
        return EXIT_FAILED
    say(start.out, "stopped")
    return EXIT_OK


def watch(start: Start, supervisor: Supervisor, signals: Signals) -> None:
    """Returns when somebody asks for the end, or supervisord has ended. Says once when the group is ready."""
    began = monotonic()
    is_ready = complained = False
    while not signals.asked and supervisor.exit_status() is None:
        if not is_ready:
            supervisor.knock()
            is_ready = start.ready(start.loaded.config)
            waited = monotonic() - began
            if is_ready:
                say(start.out, f"ready in {waited:.2f} s")
            elif waited > READY_PATIENCE_S and not complained:
                complained = True
                missing = ", ".join(start.missing(start.loaded.config))
                say(start.out, f"not ready after {READY_PATIENCE_S:.0f} s, still waiting for: {missing}")
        supervisor.look_after(signals, IDLE_POLL_S if is_ready else READY_POLL_S)
