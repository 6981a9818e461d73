"""Installs the peers: `python -m bench.peers.install [--into FOLDER] [--nchan]`.

The registries are those that npm and pip are set up with. What is there already in the right versions is left alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.peers.installed import (
    CHANNELSTREAM_PINS,
    DEFAULT_FOLDER,
    NODE_PINS,
    NODE_SERVERS,
    channelstream_folder,
    is_installed,
    node_folder,
    set_installed,
)
from bench.peers.nchan import PACKAGES

Step = Sequence[str | Path]


def node_steps(folder: Path) -> list[Step]:
    """Commands that install what package-lock.json names, once it is in the folder."""
    return [["npm", "ci", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts"]]


def channelstream_steps(folder: Path) -> list[Step]:
    """Commands that make its environment. Its pins are complete, so nothing is resolved."""
    pip: Step = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return [
        [sys.executable, "-m", "venv", "--clear", folder],
        [*pip, "install", "--no-deps", "--requirement", CHANNELSTREAM_PINS],
    ]


NCHAN_STEPS: Final[list[Step]] = [["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]]


def install_node(folder: Path) -> None:
    """`ws` and Socket.IO."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (NODE_SERVERS / "package.json", NODE_PINS):
        shutil.copy(file, folder)
    run(node_steps(folder))
    set_installed(folder, NODE_PINS)


def install_channelstream(folder: Path) -> None:
    """channelstream 0.7.1."""
    run(channelstream_steps(folder))
    set_installed(folder, CHANNELSTREAM_PINS)


def run(steps: Sequence[Step]) -> None:
    """One after another; the first that fails ends it."""
    # Whoever calls this may have set PYTHONPATH for the project.
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for step in steps:
        print("$", *step, flush=True)
        subprocess.run(step, check=True, env=environ)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.install", description="Install the peers to measure.")
    parser.add_argument("--into", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--nchan", action="store_true", help="nginx with nchan too, with apt-get, for the whole system")
    options = parser.parse_args(arguments)
    folder = options.into.resolve()
    try:
        if not is_installed(node_folder(folder), NODE_PINS):
            if shutil.which("npm"):
                install_node(node_folder(folder))
            else:
                print("ws and Socket.IO: left out, as there is no npm; apt-get install nodejs npm")
        if not is_installed(channelstream_folder(folder), CHANNELSTREAM_PINS):
            install_channelstream(channelstream_folder(folder))
        if options.nchan:
            run(NCHAN_STEPS)
    except subprocess.CalledProcessError as failed:
        print(f"failed: {failed}", file=sys.stderr)
        return 1
    print(f"the peers are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
