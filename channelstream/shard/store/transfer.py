"""`channelstream history export` and `import`, with the group stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from channelstream.clock import Now, timestamp
from channelstream.config import Config
from channelstream.errors import ConfigError, DataDirRefused
from channelstream.process import RandomUuids
from channelstream.ring import Ring
from channelstream.shard.store import layout, moving, portable
from channelstream.shard.store.base import Saved
from channelstream.shard.store.portable import Imported, Report
from channelstream.shard.store.splitting import split

LOCK_WAIT_S: Final = 2.0
"""For who moves files just now. A person is waiting."""

TOLD_EVERY: Final = 10_000
"""Lines between two words of progress."""

Progress = Callable[[str], None]
"""Is told how far it is."""


def export(config: Config, names: Iterable[str], out: BinaryIO, now: Now, progress: Progress) -> int:
    """Writes what `data_dir` holds, or some channels of it; gives the number of lines. Raises `OperatorError`s."""
    data_dir, wanted = Path(config.data_dir), frozenset(names)
    if layout.read(data_dir) is None:
        raise DataDirRefused(config.data_dir, "nothing is kept there")
    with moving.locked(data_dir, LOCK_WAIT_S):
        found = moving.current(data_dir, config.shards)
        with moving.opened(data_dir / found.folder, found.shards, now.wall) as stores:
            saved = [store.read() for store in stores]
    _check_names(wanted, saved)
    count = 0
    for line in portable.lines_of(saved, wanted, timestamp(now.wall)):
        out.write(line)
        count += 1
        if count % TOLD_EVERY == 0:
            progress(f"{count} lines written")
    out.flush()
    return count


def _check_names(wanted: frozenset[str], saved: Iterable[Saved]) -> None:
    unknown = wanted.difference(*(store.channels for store in saved))
    if unknown:
        raise ConfigError("channel", sorted(unknown)[0], "the name of a channel that is kept", "flag --channel")


def import_(config: Config, lines: Iterable[bytes], now: Now, progress: Progress) -> Report:
    """Puts a file's channels and users into `data_dir`: all of them, or none where it raises an `OperatorError`."""
    if config.store != "sqlite":
        raise ConfigError("store", config.store, "sqlite: with memory nothing that is imported would be read")
    imported, report, data_dir = portable.parse(_counted(lines, progress)), Report(), Path(config.data_dir)
    _give_uuids(imported)

    def change(saved: list[Saved]) -> list[Saved]:
        # As if one shard had it all; it is split up again when it is written.
        together = split(saved, Ring(1))
        portable.put_into(together[0], imported, report)
        return together

    progress("writing")
    with moving.locked(data_dir, LOCK_WAIT_S):
        found = moving.current(data_dir, config.shards)
        moving.rewrite(data_dir, found, config.shards, now.wall, change)
    return report


def _give_uuids(imported: Imported) -> None:
    """A file that somebody made need not know what a channel's uuid is."""
    fresh = RandomUuids()
    for channel in imported.channels.values():
        channel.uuid = channel.uuid or fresh()
        channel.epoch = channel.epoch or fresh()


def _counted(lines: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if number % TOLD_EVERY == 0:
            progress(f"{number} lines read")
        yield line


def written(path: str, write: Callable[[BinaryIO], int]) -> int:
    """Writes a file for its owner alone, all of it or none. Raises `ConfigError`."""
    new = f"{path}.new"
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            count = write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError as error:
        Path(new).unlink(missing_ok=True)
        raise ConfigError("output", path, f"a file that can be written: {error.strerror}", "flag --output") from error
    return count
