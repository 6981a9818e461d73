"""Opens the store that a shard is configured to have."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from channelstream.clock import Now
from channelstream.config import Config
from channelstream.shard.store import moving
from channelstream.shard.store.base import Store
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.store.sqlite import SqliteStore


def open_store(config: Config, index: int, now: Now) -> Store:
    """The store of shard number `index`. Call it once a life, after the place in `run_dir` is taken. It may take long:
    the first shard that starts after their number was changed moves what all of them have, the others wait for it.

    Raises `DataDirRefused` or `DataDirInUse`.
    """
    least = next_generation(Path(config.run_dir), index, now.wall)
    if config.store == "memory":
        return MemoryStore(least)
    data_dir = Path(config.data_dir)
    with moving.locked(data_dir):
        folder = data_dir / moving.settled(data_dir, config.shards, now.wall).folder
        return SqliteStore(folder, index, synced=config.fsync, generation=least, wall=now.wall)


def next_generation(run_dir: Path, index: int, wall: float) -> int:
    """The least generation for a new life: the clock's, but higher than that of any life that `run_dir` has seen, so
    that edges do not take it for a former owner where the clock was set back."""
    path = run_dir / f"shard-{index}.generation"
    try:
        last = int(path.read_bytes()[:20])
    except (OSError, ValueError):
        last = 0
    generation = max(last + 1, int(wall * 1e6))
    # NOTE: without a place to write it down the clock alone has to do, as it does where it is not set back.
    with suppress(OSError):
        path.write_text(f"{generation}\n")
    return generation
