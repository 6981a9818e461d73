"""Publishes, in a process of its own, so that neither the crowd nor the system waits for it.

Paced, it keeps to a plan of moments, and what is late is not caught up with in a burst. A message says when it was
sent, so that clients can tell how long it took.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from bench.processes import STOPPED_WITHIN_S, ends_with
from bench.systems import LARGEST_STAMP, Sender, filled


class Order(NamedTuple):
    """What is to be published."""

    messages: int
    size: int = 100
    """Bytes of text in a message."""
    rate: float = 0.0
    """Messages a second; 0 for as fast as they are taken."""
    batch: int = 1
    """Messages a request. Each has the moment of its request."""
    at_most_s: float = float("inf")
    """After so long it is enough, however many messages that is: a system that is slow to take them has a pace of its
    own."""


class Done(NamedTuple):
    """What was published."""

    messages: int
    took_s: float


class PublisherFailed(Exception):
    """A system did not take a message; with what it said."""


def publish(sender: Sender, order: Order) -> Done:
    """All of it, in this process."""
    began = due = time.monotonic()
    step_s = order.batch / order.rate if order.rate else 0.0
    left = order.messages
    while left and time.monotonic() - began < order.at_most_s:
        if step_s:
            due = max(due + step_s, time.monotonic() - step_s)
            time.sleep(max(0.0, due - time.monotonic()))
        count = min(order.batch, left)
        sender.send([filled(order.size, time.monotonic_ns())] * count)
        left -= count
    return Done(order.messages - left, time.monotonic() - began)


class Publisher:
    """A fork that publishes what it is told to. Begin it when the system is ready and before there are clients: a fork
    holds all sockets that are open.

    Use it with `with`; between `start` and an answer of `done`, the crowd receives."""

    def __init__(self, sender: Callable[[], Sender]) -> None:
        assert time.monotonic_ns() < LARGEST_STAMP, "this machine has run too long for stamps in JSON"
        self._here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process: Final = context.Process(
            target=_serve, args=(sender, there, self._here, os.getpid()), daemon=True
        )
        self._process.start()
        there.close()

    def start(self, order: Order) -> None:
        """Begin to publish. Raises `PublisherFailed`."""
        try:
            self._here.send(order)
        except OSError:
            raise PublisherFailed("the publisher is gone") from None

    def done(self) -> Done | None:
        """What was published, as soon as that is all. Raises `PublisherFailed`."""
        return self._answer() if self._here.poll() else None

    def publish(self, order: Order) -> Done:
        """Publish, and wait until it is done, where nobody has to receive meanwhile."""
        self.start(order)
        return self._answer()

    def _answer(self) -> Done:
        try:
            answer = self._here.recv()
        except (EOFError, OSError):
            raise PublisherFailed("the publisher is gone") from None
        if isinstance(answer, Done):
            return answer
        raise PublisherFailed(answer)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._process.terminate()
        self._process.join(STOPPED_WITHIN_S)
        self._process.close()


def _serve(make: Callable[[], Sender], orders: Connection, other_end: Connection, parent: int) -> None:
    """The fork: order after order, until nobody orders any more."""
    # An interrupt of the terminal is for the bench, which then ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ends_with(parent)()
    other_end.close()
    sender = make()
    try:
        while True:
            orders.send(publish(sender, orders.recv()))
    except EOFError:
        return
    except Exception as error:
        orders.send(f"{type(error).__name__}: {error}")
