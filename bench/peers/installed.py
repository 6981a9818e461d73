"""Where the peers are installed, and in which versions: what is pinned in the files here, and nothing else.

Nothing is installed while something is measured: a peer that is not there says how to install it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NODE_SERVERS: Final = HERE / "node"
CHANNELSTREAM_SERVER: Final = HERE / "channelstream_0_7_1"

DEFAULT_FOLDER: Final = HERE.parents[1] / ".peers"
"""Beside the project's own environment; git ignores it."""

COMMAND: Final = "make bench-peers"
"""What installs all but nchan, which is the system's."""

NODE_PINS: Final = NODE_SERVERS / "package-lock.json"
CHANNELSTREAM_PINS: Final = CHANNELSTREAM_SERVER / "requirements.txt"


def node_folder(folder: Path) -> Path:
    """Where the libraries of Node.js are, below the peers' folder."""
    return folder / "node"


def channelstream_folder(folder: Path) -> Path:
    """Its virtual environment, below the peers' folder."""
    return folder / "channelstream-0.7.1"


def is_installed(folder: Path, pins: Path) -> bool:
    """Whether these versions have been installed there as a whole."""
    stamp = _stamp(folder)
    return stamp.exists() and stamp.read_bytes() == pins.read_bytes()


def set_installed(folder: Path, pins: Path) -> None:
    """Remember that they are. Call it last."""
    _stamp(folder).write_bytes(pins.read_bytes())


def _stamp(folder: Path) -> Path:
    return folder / "installed"


def node_version(library: str) -> str:
    """The one that is pinned."""
    version: str = json.loads(NODE_PINS.read_text())["packages"][f"node_modules/{library}"]["version"]
    return version
