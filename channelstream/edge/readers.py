"""All sockets that clients are read from, on one epoll.

A watcher of libev for each would be two objects and a callback, a fifth of what an idle client costs. So there is one
watcher, on the epoll, and a client is a place in a list.
"""

from __future__ import annotations

import logging
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from channelstream.clock import monotonic

log: Final = logging.getLogger(__name__)

AT_ONCE: Final = 512
"""Clients that are read in one go. The others come right after, when the loop has looked at all else."""

SLICE_S: Final = 0.003
"""So long clients are read, until the loop looks at all else. Those whose turn did not come are the first of the next
time, so that one who sends without end has no more of it than anybody else."""

READ: Final = 1
"""libev's event bit."""


class Readable(Protocol):
    """A client with a socket."""

    def on_readable(self) -> None:
        """There are bytes of the client, or its end."""

    def cut(self) -> None:
        """End it."""


class Readers:
    """Who is read when bytes come. `loop`: gevent's."""

    def __init__(self, loop: Any, clock: Callable[[], float] = monotonic) -> None:
        self._clock: Final = clock
        self._due: deque[int] = deque()
        """Descriptors that had something to read, and have not had their turn."""
        self._epoll: Final = select.epoll()
        self._clients: list[Readable | None] = []
        """By descriptor: the kernel gives the smallest that is free, so there are few holes."""
        self._watcher: Final = loop.io(self._epoll.fileno(), READ)
        self._watcher.start(self._read)

    def add(self, descriptor: int, client: Readable) -> None:
        """Read a client from now on."""
        missing = descriptor + 1 - len(self._clients)
        if missing > 0:
            self._clients += [None] * missing
        self._clients[descriptor] = client
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Read it no more. Call before its socket is closed."""
        self._clients[descriptor] = None
        self._epoll.unregister(descriptor)

    def _read(self) -> None:
        """Called with each turn of the loop for as long as anybody has something to read."""
        if not self._due:
            self._due.extend([descriptor for descriptor, _ in self._epoll.poll(0, AT_ONCE)])
        until = self._clock() + SLICE_S
        while self._due:
            client = self._clients[self._due.popleft()]
            if client is not None:  # it is, where it was closed for what another one said
                self._read_one(client)
            if self._clock() > until:
                return

    def _read_one(self, client: Readable) -> None:
        """A fault of ours costs this client, and not the others, who share the watcher that gevent would stop."""
        try:
            client.on_readable()
        except Exception:
            log.exception("< a client could not be read")
            client.cut()

    def close(self) -> None:
        """Read nobody any more."""
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()
