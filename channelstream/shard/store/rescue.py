"""Sets a damaged file aside and puts another one in its place.

The order makes an end at any moment harmless: what was carried over gets a name that says "finished" before anything
else is touched, and whoever starts next and finds that name goes on from there.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from channelstream.clock import timestamp
from channelstream.shard.store import building, files
from channelstream.shard.store.files import Names
from channelstream.shard.store.reading import Found
from channelstream.shard.store.rows import Life

MOST_NAMED: Final = 10
"""Of what was lost so much is named in the log; a line has an end."""

log: Final = logging.getLogger(__name__)


def carry_over(names: Names, found: Found, life: Life, wall: float) -> None:
    """Makes a new file of what was found, and tells what was lost. `put_in_place` is next. Raises `DataDirRefused`."""
    stamp = timestamp(wall).split(".")[0].replace("-", "").replace(":", "") + "Z"
    building.build(names.new, found.saved, life)
    with files.refusing(names.folder):
        names.new.rename(names.database.with_name(f"{names.database.name}.rescued-{stamp}"))
        files.sync_folder(names.folder)
    channels = found.saved.channels.values()
    log.error(
        "%s is damaged: it is set aside as %s.damaged-%s; lost: %s; of %d channels that are left, %d are whole",
        names.database,
        names.database.name,
        stamp,
        said(found.problems),
        len(channels),
        sum(channel.is_whole for channel in channels),
    )


def put_in_place(names: Names) -> None:
    """Finishes what `carry_over` began, if it did; nobody may have the database open. Raises `DataDirRefused`."""
    rescued = names.rescued()
    if rescued is None:
        return
    aside = Path(str(rescued).replace(".rescued-", ".damaged-"))
    with files.refusing(names.folder):
        if names.database.exists():
            names.database.rename(free(aside))
        if names.log.exists():
            names.log.rename(free(Path(f"{aside}-wal")))
        names.shared.unlink(missing_ok=True)
        files.sync_folder(names.folder)
        rescued.rename(names.database)
        files.sync_folder(names.folder)


def free(path: Path) -> Path:
    """A path where nothing is: this one, or with a number."""
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.split('~')[0]}~{number}")
    return path


def said(problems: list[str]) -> str:
    """What was lost, for a line of a log."""
    counted: dict[str, int] = {}
    for problem in problems:
        counted[problem] = counted.get(problem, 0) + 1
    named = [f"{problem} ({count} times)" if count > 1 else problem for problem, count in counted.items()]
    rest = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED] + ([f"and {rest} more"] if rest > 0 else [])) or "nothing"
