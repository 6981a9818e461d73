"""Publishes, as a process of its own: `python -m bench.publisher '{…}'` with the fields of `Order`. Prints what it did
as JSON.

Paced, it keeps to a plan of moments, and what is late is not caught up with in a burst. A message says when it was
sent, so that clients can tell how long it took.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field

from bench.calls import Backend
from bench.crowd import MARK


@dataclass(frozen=True)
class Order:
    """What is to be published."""

    host: str
    port: int
    secret: str
    requests: int
    channels: list[str] = field(default_factory=lambda: ["bench"])
    """In turn, one after another."""
    batch: int = 1
    """Messages a request."""
    payload: int = 100
    """Bytes of text in a message."""
    rate: float = 0.0
    """Requests a second; 0 for as fast as they are answered."""

    def text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def message(channel: str, payload: int) -> dict[str, object]:
    """One message for `/message`."""
    text = MARK.decode() + "x" * (payload - len(MARK))
    return {"user": "bench", "channel": channel, "message": {"text": text, "t": time.monotonic_ns()}}


def run(order: Order) -> dict[str, float]:
    """Publish all of it."""
    backend = Backend((order.host, order.port), order.secret)
    turn = 0
    began = time.monotonic()
    due = began
    for _ in range(order.requests):
        if order.rate:
            due = max(due + 1 / order.rate, time.monotonic() - 1 / order.rate)
            time.sleep(max(0.0, due - time.monotonic()))
        messages = []
        for _ in range(order.batch):
            messages.append(message(order.channels[turn % len(order.channels)], order.payload))
            turn += 1
        backend.send("/message", json.dumps(messages, separators=(",", ":")).encode())
    backend.close()
    return {"messages": turn, "requests": order.requests, "took_s": time.monotonic() - began}


if __name__ == "__main__":
    print(json.dumps(run(Order(**json.loads(sys.argv[1])))), flush=True)
