"""The port of the bus: what a shard, and whoever dials one, may ask of it, and what it promises.

Order: what is sent to one peer arrives in that order, or not at all. Loss: anything may be lost when a process or
link goes down; a send that succeeded says nothing, only an answer does. Waiting: only `Listener.receive` waits.
Bounds: what waits for one peer is bounded in bytes, and the one who sends is told when it is full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from channelstream.errors import QueueFull
from channelstream.wire.messages import ToPeer, ToShard

MAX_BATCH_BYTES: Final = 1024 * 1024
"""A batch is closed at this size: a reader gets to work on the first megabyte while the next one is being sent. A
single larger message is a batch by itself."""

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""The largest batch that a socket takes. Bodies of requests are bounded well below it; a stranger on the socket who
announces more is cut off."""


class Received(NamedTuple):
    """What one peer has sent since the last look."""

    peer: str
    messages: list[ToShard]


class Listener(Protocol):
    """A shard's side: many peers, told apart by their names."""

    undecodable: int
    """Batches that were dropped because they are no messages, or of another version."""

    def receive(self, timeout_s: float) -> list[Received]:
        """Wait at most so long for anything, then take all that is there."""

    def send(self, peer: str, encoded: bytes) -> None:
        """Queue a message for a peer. Raises `QueueFull`; then nothing was taken."""

    def flush(self) -> list[str]:
        """Send what is queued, as far as the peers take it. The peers that are gone are returned, and what waited
        for them is dropped."""

    def drop(self, peer: str) -> None:
        """Forget what waits for a peer."""

    def waiting_bytes(self) -> int:
        """What waits, for all peers together."""

    def close(self) -> None:
        """Let go of the socket. Nothing may be called after."""


class Dialer(Protocol):
    """A router's or an edge's side of its link to one shard. No call of it waits."""

    undecodable: int
    """Batches that were dropped because they are no messages, or of another version, or from a former owner."""

    def send(self, encoded: bytes) -> None:
        """Queue a message. Raises `QueueFull`; then nothing was taken."""

    def flush(self) -> None:
        """Send what is queued, as far as the link takes it."""

    def receive(self) -> list[ToPeer]:
        """Take all that is there, at most some thousand messages at a time."""

    def readable(self) -> bool:
        """Whether `receive` would give something."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be something. Edge-triggered: after it was seen, and
        after each flush, receive until there is nothing."""

    def waiting_bytes(self) -> int:
        """What waits in the queue."""

    def close(self) -> None:
        """Let go of the socket. Nothing may be called after."""


class Outgoing:
    """What waits for one peer: encoded messages, bounded in bytes."""

    __slots__ = ("_bound", "_encoded", "_peer", "bytes")

    def __init__(self, peer: str, bound_bytes: int) -> None:
        self._peer: Final = peer
        self._bound: Final = bound_bytes
        self._encoded: deque[bytes] = deque()
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._encoded)

    def push(self, encoded: bytes) -> None:
        """Add a message. Raises `QueueFull` where it does not fit; an empty queue takes a message of any size."""
        if self._encoded and self.bytes + len(encoded) > self._bound:
            raise QueueFull(self._peer, self.bytes, self._bound)
        self._encoded.append(encoded)
        self.bytes += len(encoded)

    def next_batch(self) -> Sequence[bytes]:
        """The messages of the next batch, still in the queue until `sent` is called with how many they were."""
        size = 0
        batch: list[bytes] = []
        for encoded in self._encoded:
            size += len(encoded)
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(encoded)
        return batch

    def sent(self, count: int) -> None:
        """These have been handed on."""
        for _ in range(count):
            self.bytes -= len(self._encoded.popleft())

    def clear(self) -> None:
        """Forget all."""
        self._encoded.clear()
        self.bytes = 0
