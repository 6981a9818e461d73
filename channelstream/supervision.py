"""What is to be known of the supervisord that runs a group, and how it is woken: over its socket in `run_dir`.

Blocking calls with short deadlines; whoever runs an event loop makes them in a thread.
"""

from __future__ import annotations

import enum
import os
import socket
from typing import Final

SOCKET_NAME: Final = "supervisor.sock"
"""Where supervisord listens, in run_dir. As in supervisord.conf."""

ANSWER_TIMEOUT_S: Final = 0.5
"""Its loop answers in milliseconds. Whoever asks has something to do, and goes on without an answer."""

MAX_ANSWER_BYTES: Final = 65_536
"""Of a state; one takes some hundred bytes."""

_GET_STATE: Final = b"<?xml version='1.0'?><methodCall><methodName>supervisor.getState</methodName></methodCall>"
_REQUEST: Final = (
    b"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(_GET_STATE)
) + _GET_STATE


class GroupState(enum.Enum):
    """How a group is, as its supervisord has it."""

    RUNNING = "running"
    ENDING = "ending"
    """All of it: supervisord was told to shut down, or to restart itself."""
    UNKNOWN = "unknown"
    """No supervisord answers there."""


def state_in(answer: bytes) -> GroupState:
    """What supervisord's answer to `getState` says. It refuses to answer that while it shuts down."""
    if b"</methodResponse>" not in answer:
        return GroupState.UNKNOWN
    return GroupState.RUNNING if b"<string>RUNNING</string>" in answer else GroupState.ENDING


def group_state(run_dir: str) -> GroupState:
    """Ask supervisord, waiting for at most `ANSWER_TIMEOUT_S` for each part of its answer."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(os.path.join(run_dir, SOCKET_NAME))
            connection.sendall(_REQUEST)
            while len(answer) < MAX_ANSWER_BYTES and (part := connection.recv(4096)):
                answer += part
    except OSError:
        return GroupState.UNKNOWN
    return state_in(answer)


def knock(run_dir: str) -> None:
    """Makes supervisord look around at once.

    Its loop sleeps up to a second, through signals too, before it starts a process, starts one again, or sees that one
    has ended. A connection to its socket ends that sleep.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        probe.connect_ex(os.path.join(run_dir, SOCKET_NAME))
