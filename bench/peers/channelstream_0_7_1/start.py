"""Starts channelstream 0.7.1 as its own command does, on a Python that is younger than it, and on loopback alone.

Run by the Python of the virtual environment that has it: `python -I start.py --ini FILE`.
"""

import collections
import collections.abc
from importlib import import_module
from typing import Any

if __name__ == "__main__":
    # It left `collections` with Python 3.10; channelstream 0.7.1 reads it there for every field that is a mapping.
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]

    start: Any = import_module("channelstream.cli.start")
    StreamServer = start.StreamServer

    def policy_server(address: object, handle: object) -> Any:
        """It opens one for Flash on all addresses, at a port that cannot be set: here, at some port of loopback."""
        return StreamServer(("127.0.0.1", 0), handle)

    start.StreamServer = policy_server
    start.main()
