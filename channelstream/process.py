"""The life of a process: what every role does when it starts and when it ends.

What lives here: the folder of sockets and locks, the locks, dying with supervisord, limits, exit codes. It must not
know what a role does, and it needs neither gevent nor zmq: it runs before either is set up.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import secrets
import signal
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from channelstream import failpoints
from channelstream.errors import AlreadyRunning, RunDirRefused
from channelstream.ids import Incarnation

EXIT_OK: Final = 0
"""Ended because it was asked to."""

EXIT_FAILED: Final = 1
"""Ended by a fault of its own: supervisord starts it again."""

EXIT_REFUSED: Final = 2
"""Did not start: a setting, a lock, or the run_dir. Also what argparse ends with."""

EXIT_ORPHANED: Final = 3
"""Did not start: supervisord was gone before it had begun."""

UMASK: Final = 0o077
"""Nothing that we make is for anybody else: whoever can open a socket in run_dir can command the shards."""

RUN_DIR_MODE: Final = 0o700

MAX_DESCRIPTORS: Final = 1_048_576
"""Linux's default fs.nr_open, the most that a process may have. Where the hard limit is "unlimited", this is meant."""

PR_SET_PDEATHSIG: Final = 1
"""The option's number (prctl(2), linux/prctl.h)."""

SUPERVISED: Final = "SUPERVISOR_ENABLED"
"""supervisord sets this for its children."""

LOCK_SUFFIX: Final = ".lock"

LEFTOVERS: Final = ("*.sock", "*.sock.*", "*" + LOCK_SUFFIX, "*.generation", "supervisord.pid", "fired-*")
"""What the processes of a group leave in run_dir when they are killed, and what they leave for their next lives."""

UUIDS_AT_A_TIME: Final = 256
"""Randomness is asked for this many UUIDs at a time."""

KEPT_HEAP_BYTES: Final = 16 * 1024 * 1024
"""Memory that is free and stays the process's own: about what a turn at full speed takes. Given back to the kernel, it
would be asked for again with the next turn, and come page by page: a fifth of what a /connect costs."""

MAX_HEAP_BLOCK_BYTES: Final = 4 * 1024 * 1024
"""A block of this size or more has its own mapping, and is always given back."""

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""From glibc's malloc.h."""

MAX_PID_DIGITS: Final = 20
"""Of a lock file this much is read: a pid has 7 digits at most, and the rest is not ours."""


def new_incarnation() -> Incarnation:
    """An id for this life of a process: 8 hexadecimal digits that no other life has had, as far as chance goes."""
    return Incarnation(secrets.token_hex(4))


class RandomUuids:
    """Fresh random UUIDs (RFC 9562 section 5.4) in canonical form.

    PERF: a system call for each costs more than all else that is done about a message; here one serves 256, which are
    written beside each other, a digit of all of them at a time.
    """

    def __init__(self) -> None:
        self._made: list[str] = []

    def __call__(self) -> str:
        if not self._made:
            self._made = _random_uuids()
        return self._made.pop()


def _random_uuids() -> list[str]:
    """`UUIDS_AT_A_TIME` of them."""
    octets = bytearray(os.urandom(16 * UUIDS_AT_A_TIME))
    octets[6::16] = octets[6::16].translate(_VERSION_4)
    octets[8::16] = octets[8::16].translate(_VARIANT)
    digits = octets.hex().encode()
    text = bytearray(_FORM * UUIDS_AT_A_TIME)
    for number, place in enumerate(_PLACES):
        text[place :: len(_FORM)] = digits[number :: len(_PLACES)]
    return text.decode().split()


_VERSION_4: Final = bytes(0x40 | byte & 0x0F for byte in range(256))
_VARIANT: Final = bytes(0x80 | byte & 0x3F for byte in range(256))
"""What these two of the sixteen octets become (RFC 9562 section 5.4)."""

_FORM: Final = b"00000000-0000-0000-0000-000000000000 "
_PLACES: Final = [place for place, sign in enumerate(_FORM) if sign == ord("0")]
"""Where the digits stand."""


def keep_heap(environ: Mapping[str, str]) -> None:
    """Keeps freed memory as the constants say (mallopt(3)). Does nothing where the C library has other ways, or where
    the environment says how much is to be kept."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name.startswith("MALLOC_") for name in environ):
        return
    mallopt(M_TRIM_THRESHOLD, KEPT_HEAP_BYTES)
    mallopt(M_MMAP_THRESHOLD, MAX_HEAP_BLOCK_BYTES)


def signal_on_death_of_parent(number: int) -> None:
    """Asks the kernel to send this process a signal when the thread that forked it is gone. Survives an exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def tied_to(parent: int) -> Callable[[], None]:
    """What a child is to do before its program begins (a `preexec_fn`) to get SIGTERM when its parent is gone.

    `parent`: our own pid, asked for before the child is made. Not for a process that has started threads.
    """

    def in_child() -> None:
        signal_on_death_of_parent(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(EXIT_ORPHANED)

    return in_child


def die_with_parent(environ: Mapping[str, str]) -> None:
    """Makes a child of supervisord end, by SIGTERM, when supervisord does; does nothing in other processes.

    Raises `SystemExit` where supervisord is gone already.
    """
    if SUPERVISED not in environ:
        return
    signal_on_death_of_parent(signal.SIGTERM)
    if parent_is_gone():
        raise SystemExit(EXIT_ORPHANED)


def parent_is_gone() -> bool:
    """Whether nobody holds the other end of our standard input any more.

    supervisord gives each child a pipe there and keeps its other end to itself. NOTE: the pid of the parent would not
    tell: an orphan's is 1, and so is that of a container's own supervisord.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return False
    was_blocking = os.get_blocking(0)
    os.set_blocking(0, False)
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(0, was_blocking)


def raise_descriptor_limit() -> int:
    """Lets this process open as many descriptors as its hard limit allows. Gives the limit that now holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors_to_ask_for(soft, hard)
    if wanted != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def descriptors_to_ask_for(soft: int, hard: int) -> int:
    """The soft limit to set: the hard one, up to `MAX_DESCRIPTORS`, and never less than there is."""
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS))


class RunDir:
    """The folder of the sockets and locks of one group. Only its owner may look into it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def prepare(self) -> None:
        """Makes the folder, or checks the one that is there. Raises `RunDirRefused`."""
        try:
            self.path.parent.mkdir(mode=RUN_DIR_MODE, parents=True, exist_ok=True)
            try:
                self.path.mkdir(mode=RUN_DIR_MODE)
            except FileExistsError:
                self._check()
        except OSError as error:
            raise RunDirRefused(str(self.path), f"{error.strerror}: choose another one with run_dir") from error

    def _check(self) -> None:
        """Refuses a folder that another user could have made, or can write to."""
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise RunDirRefused(str(self.path), "expected a folder, and no symbolic link to one")
        if found.st_uid != os.geteuid():
            raise RunDirRefused(str(self.path), f"it belongs to uid {found.st_uid}, expected {os.geteuid()}")
        if stat.S_IMODE(found.st_mode) & UMASK:
            mode = stat.S_IMODE(found.st_mode)
            raise RunDirRefused(str(self.path), f"its mode is {mode:04o}, expected 0700: chmod 700 it if it is yours")

    def lock_path(self, role: str, index: int) -> Path:
        """Where the lock of one process is."""
        return self.path / f"{role}-{index}{LOCK_SUFFIX}"

    def held_locks(self) -> dict[str, int]:
        """Which processes run here, by their locks: `role-index` → pid (0 where it is not written yet)."""
        held = {}
        for path in sorted(self.path.glob("*" + LOCK_SUFFIX)):
            pid = holder_of(path)
            if pid is not None:
                held[path.name.removesuffix(LOCK_SUFFIX)] = pid
        return held

    def clear(self, keep: Path) -> None:
        """Removes what a group left behind, but for one file. Call it when no process of the group is left."""
        for pattern in LEFTOVERS:
            for path in self.path.glob(pattern):
                if path != keep:
                    path.unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        """Removes the folder, unless somebody keeps a file in it."""
        try:
            self.path.rmdir()
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
                raise


class Lock:
    """The right to be a process of a group: an exclusive flock, with the pid of its holder written into the file.

    It ends with the process, however that ends. NOTE: the descriptor is not inherited by programs that are started, but
    a plain fork shares it.
    """

    def __init__(self, run_dir: RunDir, role: str, index: int) -> None:
        self.path = run_dir.lock_path(role, index)
        self._descriptor: int | None = None
        """Open and locked between `take` and `release`."""

    def take(self) -> None:
        """Takes the lock, without waiting. Raises `AlreadyRunning` where another process has it.

        A holder unlinks the file when it ends, so a file that was opened before and locked after that has no name any
        more: it locks nothing, and the next one is tried.
        """
        while self._descriptor is None:
            descriptor = self._opened()
            if not locked(descriptor, fcntl.LOCK_EX):
                pid = pid_in(descriptor)
                os.close(descriptor)
                raise AlreadyRunning(self.path.name.removesuffix(LOCK_SUFFIX), pid, str(self.path.parent))
            if not is_file_at(descriptor, self.path):
                os.close(descriptor)
                continue
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._descriptor = descriptor

    def _opened(self) -> int:
        """A descriptor of the lock's file, which is made where there is none."""
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RunDirRefused(str(self.path.parent), f"{self.path.name}: {error.strerror}") from error

    def is_held(self) -> bool:
        """Whether it is still ours: its file may have been removed by hand, and another one locked in its place."""
        return self._descriptor is not None and is_file_at(self._descriptor, self.path)

    def release(self) -> None:
        """Gives the lock back and removes its file. Does nothing where it is not held."""
        if self._descriptor is None:
            return
        # The file goes while it is still locked: after that it could be another one's. It is already where somebody has
        # removed ours, and a successor has come.
        if is_file_at(self._descriptor, self.path):
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def locked(descriptor: int, operation: int) -> bool:
    """Tries a flock; says whether it has it."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_file_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that a path leads to now."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (opened.st_dev, opened.st_ino) == (there.st_dev, there.st_ino)


def pid_in(descriptor: int) -> int:
    """The pid in a lock file, 0 where there is none yet."""
    text = os.pread(descriptor, MAX_PID_DIGITS, 0).strip()
    return int(text) if text.isdigit() else 0


def holder_of(path: Path) -> int | None:
    """The pid of the process that holds a lock file, 0 where it has not written it yet, `None` where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who only look do not take each other for a holder.
        return None if locked(descriptor, fcntl.LOCK_SH) else pid_in(descriptor)
    finally:
        os.close(descriptor)


class Life:
    """One life of a role's process. `begin` first of all, `end` last of all."""

    def __init__(self, role: str, index: int, run_dir: str) -> None:
        self.name = f"{role}-{index}"
        self.incarnation = new_incarnation()
        self.run_dir = RunDir(run_dir)
        self._lock = Lock(self.run_dir, role, index)

    def begin(self, environ: Mapping[str, str]) -> None:
        """Takes this process's place in the group. Raises `RunDirRefused`, `AlreadyRunning`, `ConfigError`, or
        `SystemExit`."""
        die_with_parent(environ)
        os.umask(UMASK)
        raise_descriptor_limit()
        keep_heap(environ)
        self.run_dir.prepare()
        failpoints.arm(environ, self.run_dir.path)
        self._lock.take()

    def has_place(self) -> bool:
        """Whether this process's place in the group is still its own."""
        return self._lock.is_held()

    def end(self) -> None:
        """Gives the place back."""
        self._lock.release()
