"""Which machine this is, and what it allows: figures without it say little."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import channelstream

SPARE_DESCRIPTORS: Final = 300
"""What the bench, or a server, has open besides the sockets of clients; an edge of ours keeps 256."""

LIBRARIES: Final = ("falcon", "gevent", "msgspec", "pyzmq")
"""What the server's speed depends on."""


class TooFewDescriptors(Exception):
    """More clients than this machine lets one process have."""


def machine() -> dict[str, str]:
    """What it is, by word."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "channelstream": channelstream.__version__,
        **{name: _version(name) for name in LIBRARIES},
        "fan-out loop": _language("channelstream.edge._sending"),
        "request heads": _language("channelstream._heads"),
    }


def _language(extension: str) -> str:
    """What does the work of a module that is built only where there is a compiler."""
    return "C" if find_spec(extension) else "Python"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def most_clients() -> int:
    """How many one process can have, here or in a server. Raises our limit as far as it goes; what is started inherits
    it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return (sys.maxsize if hard == resource.RLIM_INFINITY else hard) - SPARE_DESCRIPTORS


def need_descriptors(clients: int) -> None:
    """Raises `TooFewDescriptors` where so many clients are too many for one process."""
    most = most_clients()
    if clients > most:
        fewer = f", or ask for {most:,} --clients at most" if most > 0 else ""
        raise TooFewDescriptors(
            f"{clients:,} clients need {clients + SPARE_DESCRIPTORS:,} descriptors, and the hard limit (ulimit -Hn) is "
            f"{most + SPARE_DESCRIPTORS:,}: raise it{fewer}"
        )
