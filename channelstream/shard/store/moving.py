"""Writes the files of all shards anew, all or nothing: for another number of shards, or with what is imported.

The new files stand complete in a folder of their own before the layout names them; until then the former ones hold. So
an end at any moment costs the work and nothing else: the next start removes what is half made, and begins again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Final

from channelstream import failpoints
from channelstream.errors import DataDirInUse
from channelstream.ring import Ring
from channelstream.shard.store import building, files, layout
from channelstream.shard.store.base import Saved
from channelstream.shard.store.files import FileLock, Names
from channelstream.shard.store.layout import Layout
from channelstream.shard.store.rows import Life
from channelstream.shard.store.splitting import split
from channelstream.shard.store.sqlite import SqliteStore

LOCK: Final = "data_dir.lock"

LONGEST_WAIT_S: Final = 600.0
"""For another process that moves files. At 100,000 messages a second that is more than a group has in memory."""

LOOK_S: Final = 0.1
"""How often it is looked whether it is done."""

OURS: Final = ("shard-*.sqlite", "shard-*.sqlite-*", "shard-*.sqlite.*", "shard-*.lock", "shard-*.mark")
"""What stands in a folder of shards' files. Nothing else is ever removed."""

Change = Callable[[list[Saved]], list[Saved]]
"""What all shards hold → what they are to hold, in the same order or another."""

log: Final = logging.getLogger(__name__)


@contextmanager
def locked(data_dir: Path, longest_wait_s: float = LONGEST_WAIT_S) -> Iterator[None]:
    """With this, nobody else opens or moves files in the folder, which is made if need be. Waits for others. Raises
    `DataDirRefused`, and `DataDirInUse` where the wait is too long."""
    files.make_folder(data_dir)
    lock = FileLock(data_dir / LOCK, "another process")
    _wait_for(lock, longest_wait_s)
    try:
        yield
    finally:
        lock.release()


def _wait_for(lock: FileLock, longest_wait_s: float) -> None:
    looks = int(longest_wait_s / LOOK_S)
    for look in range(looks + 1):
        try:
            lock.take()
            return
        except DataDirInUse as error:
            if look == looks:
                raise
            if look == 0:
                log.info("%s: waiting until it is done", error)
        Event().wait(LOOK_S)


def settled(data_dir: Path, shards: int, wall: float) -> Layout:
    """The layout for so many shards; what is there is moved if it is for another number. Call it `locked`. Raises
    `DataDirRefused`, and `DataDirInUse` where a shard of the former number runs."""
    found = current(data_dir, shards)
    if found.shards == shards:
        return found
    log.info("%s is for %d shards, now there are %d: it is moved", data_dir, found.shards, shards)
    return rewrite(data_dir, found, shards, wall)


def current(data_dir: Path, shards: int) -> Layout:
    """The layout, which is made for so many shards if there is none; what a move that was cut short has left is
    removed. Call it `locked`."""
    found = layout.read(data_dir)
    if found is None:
        layout.refuse_lost(data_dir)
        found = Layout(shards=shards, move=1)
        layout.write(data_dir, found)
    for folder in layout.others(data_dir, found):
        log.info("%s is of a move that was cut short: it is removed", folder)
        remove(folder)
    return found


def rewrite(data_dir: Path, found: Layout, shards: int, wall: float, change: Change | None = None) -> Layout:
    """Writes all files anew and makes them the layout. Call it `locked`. Raises what `settled` does."""
    former, new = data_dir / found.folder, Layout(shards=shards, move=found.move + 1)
    with opened(former, found.shards, wall) as stores:
        saved = [store.read() for store in stores]
        generation = max(store.generation for store in stores)
        split_up = split(saved if change is None else change(saved), Ring(shards))
        _write(data_dir / new.folder, split_up, generation)
        layout.write(data_dir, new)
    remove(former)
    log.info("%s is for %d shards now, in %s", data_dir, shards, new.folder)
    return new


@contextmanager
def opened(folder: Path, shards: int, wall: float) -> Iterator[Sequence[SqliteStore]]:
    """All stores of a folder. Raises `DataDirInUse` where a shard has one of them."""
    with ExitStack() as stack:
        stores = []
        for index in range(shards):
            store = SqliteStore(folder, index, synced=True, generation=0, wall=wall)
            stack.callback(store.close)
            stores.append(store)
        yield stores


def _write(folder: Path, split_up: Sequence[Saved], generation: int) -> None:
    files.make_folder(folder)
    for index, saved in enumerate(split_up):
        life = Life(generation, complete=saved.is_complete)
        building.build(Names(folder, index).database, saved, life)
        messages = sum(len(channel.history) for channel in saved.channels.values())
        log.info("%d of %d files: %d channels, %d messages", index + 1, len(split_up), len(saved.channels), messages)
        failpoints.reach("mid_move")
    with files.refusing(folder):
        files.sync_folder(folder)
        files.sync_folder(folder.parent)


def remove(folder: Path) -> None:
    """Removes a folder of shards' files. What was set aside as damaged moves to the folder above it; what is not ours
    stays."""
    with files.refusing(folder):
        for pattern in OURS:
            for path in folder.glob(pattern):
                if ".damaged-" in path.name:
                    path.rename(folder.with_name(f"{folder.name}-{path.name}"))
                else:
                    path.unlink()
        left = sorted(path.name for path in folder.iterdir())
        if left:
            log.warning("%s is not removed: there is %s", folder, ", ".join(left[:10]))
        else:
            folder.rmdir()
        files.sync_folder(folder.parent)
