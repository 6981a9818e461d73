"""Where behind a proxy the application is mounted: the header X-Script-Name, as older deployments send it. Pure.

A proxy that forwards `/push/listen` as it is says `X-Script-Name: /push`; one that has taken the prefix off may say so
too. Nobody needs to be trusted here: whoever sends the header changes the path of its own request and nothing else.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_PREFIX: Final = 256
"""Characters. A prefix is a folder or two."""

NO_SEGMENTS: Final = frozenset({".", "..", "ws", "listen", "events", "disconnect"})
"""What no folder of a prefix is called: the client's paths, and what some readers take for a step up."""

_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


class Mounted(NamedTuple):
    """A path, taken apart as PEP 3333 has it."""

    script_name: str
    path: str


def mounted(prefix: str, path: str) -> Mounted:
    """The path below a prefix. What is no prefix is taken for none; a path that is not below it stays as it is."""
    prefix = prefix.rstrip("/")
    if len(prefix) > MAX_PREFIX or not _PREFIX.fullmatch(prefix) or not NO_SEGMENTS.isdisjoint(prefix.split("/")):
        return Mounted("", path)
    if path == prefix or path.startswith(prefix + "/"):
        return Mounted(prefix, path[len(prefix) :] or "/")
    return Mounted(prefix, path)
