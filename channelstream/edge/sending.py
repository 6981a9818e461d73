"""Ready bytes to many sockets, as near to the kernel as it gets.

PERF: a fan-out is one system call a client, and what Python does around each call is a third of its cost. So the loop
is written in C (`_sending.c`); where that could not be built, the same loop in Python takes its place.
"""

from __future__ import annotations

import os
from typing import Final

NOT_DIRECT: Final = -1
"""Outcome of a descriptor below 0: a client that wants its deliveries otherwise, or is not to get any."""

BROKEN: Final = -2
"""Outcome of a socket that takes nothing any more."""

JOINED_BYTES: Final = 65_536
"""So much is copied to go out in one system call. Copying more costs more than the call, and the copy would be each
client's own, while the frames are everybody's."""


def send_to_each_in_python(descriptors: list[int], frames: bytes | list[bytes]) -> list[tuple[int, int]]:
    """Send one frame to all of these non-blocking sockets, or to each its own, in their order. What comes back is the
    place and outcome of each that has not taken all: how many bytes it has taken (0: it has no room), `NOT_DIRECT` or
    `BROKEN`."""
    each = [frames] * len(descriptors) if isinstance(frames, bytes) else frames
    left: list[tuple[int, int]] = []
    for place, (descriptor, frame) in enumerate(zip(descriptors, each, strict=True)):
        sent = NOT_DIRECT if descriptor < 0 else _sent(descriptor, frame)
        if sent != len(frame):
            left.append((place, sent))
    return left


def _sent(descriptor: int, frame: bytes) -> int:
    try:
        return os.write(descriptor, frame)
    except BlockingIOError:
        return 0
    except OSError:
        return BROKEN


try:
    from channelstream.edge._sending import send_to_each as send_to_each
except ImportError:
    send_to_each = send_to_each_in_python

IS_NATIVE: Final = send_to_each is not send_to_each_in_python
"""Whether it is the one in C."""
