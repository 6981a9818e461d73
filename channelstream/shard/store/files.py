"""The files of a shard's store beside what SQLite does: names, the lock, the mark, and writes that are all or nothing.

Raises `DataDirRefused` with the reason where the folder or the disk does not play along.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from channelstream.errors import DataDirInUse, DataDirRefused
from channelstream.process import is_file_at, locked, pid_in

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start of the machine (proc(5))."""

_MARK: Final = struct.Struct("<QQI")
"""Generation, commits, and the checksum of the two."""


class Names:
    """The files of one shard in a folder."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder: Final = folder
        self.process: Final = f"shard-{index}"
        self.database: Final = folder / f"shard-{index}.sqlite"
        self.log: Final = folder / f"shard-{index}.sqlite-wal"
        """SQLite's write-ahead log: what was committed and is not in the database yet."""
        self.shared: Final = folder / f"shard-{index}.sqlite-shm"
        self.new: Final = folder / f"shard-{index}.sqlite.new"
        """A database that is being made."""
        self.lock: Final = folder / f"shard-{index}.lock"
        self.mark: Final = folder / f"shard-{index}.mark"

    def rescued(self) -> Path | None:
        """What was carried over out of a damaged file and has not taken its place yet, if there is such."""
        return next(iter(sorted(self.folder.glob(f"{self.database.name}.rescued-*"))), None)

    def damaged(self) -> list[Path]:
        """What was set aside, logs included."""
        return sorted(self.folder.glob(f"{self.database.name}.damaged-*"))

    def all(self) -> list[Path]:
        """Everything that is this shard's and not set aside, whether it is there or not."""
        half_made = self.folder.glob(f"{self.database.name}.new*")
        rescued = self.folder.glob(f"{self.database.name}.rescued-*")
        return [self.database, self.log, self.shared, self.lock, self.mark, *half_made, *rescued]


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Makes the operating system's errors ours."""
    try:
        yield
    except OSError as error:
        raise DataDirRefused(str(path), reason_of(error)) from error


def reason_of(error: OSError) -> str:
    """An error of the operating system for a person."""
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return "expected a folder"
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def make_folder(path: Path) -> None:
    """Makes a folder for its owner alone, with those above it, where it is not there yet."""
    with refusing(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Waits until a file that nobody has open is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Gives a file another content, or none of it: never half, and not lost with the machine's power."""
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync_folder(path.parent)


def boot_id() -> str:
    """Which start of the machine this is; "" where that is not told."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class FileLock:
    """An exclusive flock on a file that stays, with the holder's pid in it. It ends with the process."""

    def __init__(self, path: Path, process: str) -> None:
        self.path: Final = path
        self._process: Final = process
        self._descriptor: int | None = None
        """Open and locked between `take` and `release`."""

    def take(self) -> None:
        """Takes it, without waiting. Raises `DataDirInUse` where another process has it."""
        while self._descriptor is None:
            with refusing(self.path):
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if not locked(descriptor, fcntl.LOCK_EX):
                pid = pid_in(descriptor)
                os.close(descriptor)
                raise DataDirInUse(str(self.path.parent), self._process, pid)
            if not is_file_at(descriptor, self.path):
                os.close(descriptor)
                continue
            # On a full disk the pid is missing from what others are told; the lock holds all the same.
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._descriptor = descriptor

    def is_held(self) -> bool:
        """Whether it is ours, and still the one that another process would try to take."""
        return self._descriptor is not None and is_file_at(self._descriptor, self.path)

    def release(self) -> None:
        """Gives it back; its file stays. Does nothing where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Mark:
    """A few bytes beside the database that say which commit was the last, so that one that lost some is told.

    It is written after each commit and not synced: it may be behind what is on the disk. It is ahead only by a commit
    that the disk did not take, while what was in it is told all the same.
    """

    def __init__(self, path: Path) -> None:
        with refusing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def read(self) -> tuple[int, int]:
        """The generation and the number of the last commit, as far as is known: (0, 0) where nothing is."""
        try:
            content = os.pread(self._descriptor, _MARK.size, 0)
        except OSError:
            return 0, 0
        if len(content) != _MARK.size or crc32(content[:16]) != _MARK.unpack(content)[2]:
            return 0, 0
        generation, commits, _ = _MARK.unpack(content)
        return generation, commits

    def write(self, generation: int, commits: int) -> None:
        """A commit is down. A mark that cannot be written stays behind: then less is noticed, and nothing is lost."""
        content = _MARK.pack(generation, commits, 0)[:16]
        with suppress(OSError):
            os.pwrite(self._descriptor, content + crc32(content).to_bytes(4, "little"), 0)

    def close(self) -> None:
        os.close(self._descriptor)
