"""The pointer in `data_dir`: for how many shards the files are, and in which folder.

It is replaced as a whole, so another number of shards takes effect in one moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from channelstream.errors import DataDirRefused
from channelstream.shard.store import files

FILE: Final = "layout.json"
FOLDER: Final = "store-{}"

VERSION: Final = 1
"""Raised whenever an older program would misread the folder."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    version: int = VERSION
    shards: int
    move: int
    """Which layout this is: one more with each move."""

    @property
    def folder(self) -> str:
        """The folder of the shards' files, in `data_dir`."""
        return FOLDER.format(self.move)


_decode: Final = msgspec.json.Decoder(Layout).decode


def read(data_dir: Path) -> Layout | None:
    """The layout; None where there is none yet. Raises `DataDirRefused`."""
    path = data_dir / FILE
    try:
        with files.refusing(path):
            content = path.read_bytes()
    except DataDirRefused as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        layout = _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataDirRefused(str(path), f"expected what channelstream has written there: {error}") from error
    if layout.version != VERSION or layout.shards < 1 or layout.move < 1:
        raise DataDirRefused(str(path), f"its version is {layout.version}, expected {VERSION}")
    return layout


def write(data_dir: Path, layout: Layout) -> None:
    """Makes it the layout. Raises `DataDirRefused`."""
    with files.refusing(data_dir / FILE):
        files.replace_file(data_dir / FILE, msgspec.json.encode(layout) + b"\n")


def others(data_dir: Path, layout: Layout) -> list[Path]:
    """Folders of shards' files that the layout does not mean: what a move that was cut short has left."""
    return [path for path in _folders(data_dir) if path.name != layout.folder]


def refuse_lost(data_dir: Path) -> None:
    """Raises `DataDirRefused` where there are shards' files and no layout says which of them hold."""
    found = _folders(data_dir)
    if found:
        names = ", ".join(path.name for path in found)
        raise DataDirRefused(str(data_dir / FILE), f"it is not there, and {names} is: bring it back, or move that away")


def _folders(data_dir: Path) -> list[Path]:
    with files.refusing(data_dir):
        return sorted(path for path in data_dir.glob(FOLDER.format("*")) if path.is_dir())
