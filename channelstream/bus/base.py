"""The port of the bus: what a shard, and whoever dials one, may ask of it, and what it promises.

Order: what is sent to one peer arrives in that order, or not at all. Loss: anything may be lost when a process or
link goes down; a send that succeeded says nothing, only an answer does. But a hole is noticed: the batches from one
process to another are numbered, and the next one that arrives tells of those that did not. Waiting: only
`Listener.receive` waits. Bounds: what waits for one peer is bounded in bytes, and the one who sends is told when it is
full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from channelstream.errors import FormerOwner, MessageTooLarge, QueueFull
from channelstream.wire.messages import ToPeer, ToShard

MAX_BATCH_BYTES: Final = 1024 * 1024
"""A batch is closed at this size: a reader gets to work on the first megabyte while the next one is being sent. A
single larger message is a batch by itself."""

TURN_BYTES: Final = 4 * 1024 * 1024
"""A reader stops behind the batch that reaches this: what one turn has to hold, and to work on, is bounded."""

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
"""The largest batch that a socket takes. Bodies of requests are bounded well below it; what may come near is the answer
of a shard with a hundred thousand channels that is asked for all of them. Who announces more is cut off."""

MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES - 1024
"""A message by itself makes a batch with a small head."""

MAX_PEERS: Final = 1000
"""Peers that a listener remembers. A group has some dozens; those who have not been heard for the longest time are
forgotten first: dead processes, and tools that asked once. One that is forgotten too early attaches again."""


class Received(NamedTuple):
    """What one peer has sent since the last look."""

    peer: str
    messages: list[ToShard]
    hole: bool = False
    """Whether something of this peer was lost on the way before these."""


class Listener(Protocol):
    """A shard's side: many peers, told apart by their names."""

    undecodable: int
    """Batches that were dropped because they are no messages, or of another version."""

    complaint: str
    """What was wrong with the last one of them."""

    def wake_on(self, descriptor: int) -> None:
        """End the waiting of `receive` when this descriptor is readable, too."""

    def receive(self, timeout_s: float) -> list[Received]:
        """Wait at most so long for anything, then take all that is there."""

    def send(self, peer: str, encoded: bytes) -> None:
        """Queue a message for a peer. Raises `QueueFull` or `MessageTooLarge`; then nothing was taken."""

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

    complaint: str
    """What was wrong with the last one of them."""

    former_owners: int
    """Those of the undecodable batches that were from a former owner."""

    holes: int
    """How often something of the shard was lost on the way."""

    connected: bool
    """Whether the link is made, as of the last `look`: a shard listens at its other end, or did so until just now."""

    times_made: int
    """How often it was made so far, as of the last `look`: what was on its way when it broke is lost."""

    def look(self) -> None:
        """See what has become of the link."""

    def link_fileno(self) -> int:
        """A descriptor that becomes readable when the link is made, or gone. Edge-triggered: `look` after it was seen,
        and once before it is watched."""

    def send(self, encoded: bytes) -> None:
        """Queue a message. Raises `QueueFull` or `MessageTooLarge`; then nothing was taken."""

    def send_first(self, encoded: Sequence[bytes]) -> None:
        """Queue messages before all that waits, whether there is room or not."""

    def skip(self) -> None:
        """Something for the shard was given up: let it see a hole."""

    def flush(self) -> None:
        """Send what is queued, as far as the link takes it."""

    def receive(self) -> list[ToPeer]:
        """Take all that is there, at most some thousand messages at a time."""

    def has_work(self) -> bool:
        """Whether `receive` would give something, or `flush` send some of what waits."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be work. Edge-triggered, and each `receive` or `flush` may
        use up its word: after the last of them, go on until `has_work` says no."""

    def waiting_bytes(self) -> int:
        """What waits in the queue."""

    def close(self) -> None:
        """Let go of the socket. Nothing may be called after."""


class Incoming:
    """What one peer has sent so far: its generation, and the number of its last batch."""

    __slots__ = ("_generation", "_number")

    def __init__(self) -> None:
        self._generation = 0
        self._number: int | None = None

    def admit(self, generation: int, number: int) -> bool:
        """Whether a batch follows its predecessor without a hole. The first one of a stream always does: who comes
        new to it has nothing to miss. Raises `FormerOwner`."""
        if generation < self._generation:
            raise FormerOwner(generation, self._generation)
        follows = self._number is None or generation > self._generation or number == self._number + 1
        self._generation, self._number = generation, number
        return follows


class Outgoing:
    """What waits for one peer: encoded messages, bounded in bytes, and the count of the batches so far."""

    __slots__ = ("_bound", "_encoded", "_peer", "bytes", "number")

    def __init__(self, peer: str, bound_bytes: int) -> None:
        self._peer: Final = peer
        self._bound: Final = bound_bytes
        self._encoded: deque[bytes] = deque()
        self.bytes = 0
        self.number = 1
        """Of the next batch."""

    def __bool__(self) -> bool:
        return bool(self._encoded)

    def push(self, encoded: bytes) -> None:
        """Add a message. Raises `QueueFull` where it does not fit (an empty queue takes a message of any size), and
        `MessageTooLarge` where no socket would take it."""
        if len(encoded) > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(len(encoded), MAX_MESSAGE_BYTES)
        if self._encoded and self.bytes + len(encoded) > self._bound:
            raise QueueFull(self._peer, self.bytes, self._bound)
        self._encoded.append(encoded)
        self.bytes += len(encoded)

    def push_first(self, encoded: Sequence[bytes]) -> None:
        """Add messages before all others, whether they fit or not: how many they are is bounded by whoever says so."""
        self._encoded.extendleft(reversed(encoded))
        self.bytes += sum(map(len, encoded))

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
        """These have been handed on, as one batch."""
        self.number += 1
        for _ in range(count):
            self.bytes -= len(self._encoded.popleft())

    def clear(self) -> None:
        """Forget all."""
        self._encoded.clear()
        self.bytes = 0


class Peers:
    """The peers of a listener: what came from each, and what waits for it."""

    def __init__(self, queue_bytes: int) -> None:
        self._queue_bytes: Final = queue_bytes
        self._streams: dict[str, tuple[Incoming, Outgoing]] = {}
        """By name, the one that was heard last at the end."""
        self._waiting: dict[str, Outgoing] = {}
        """Those for whom something was queued since it was last asked for them. PERF: each turn of a loop asks."""

    def admit(self, peer: str, generation: int, number: int) -> bool:
        """See `Incoming.admit`."""
        streams = self._streams.pop(peer, None) or self._new(peer)
        self._streams[peer] = streams
        return streams[0].admit(generation, number)

    def push(self, peer: str, encoded: bytes) -> None:
        """See `Outgoing.push`."""
        streams = self._streams.get(peer)
        if streams is None:
            streams = self._streams[peer] = self._new(peer)
        streams[1].push(encoded)
        self._waiting[peer] = streams[1]

    def waiting(self) -> list[tuple[str, Outgoing]]:
        """The peers for whom something waits."""
        if not self._waiting:
            return []
        for peer in [peer for peer, outgoing in self._waiting.items() if not outgoing]:
            del self._waiting[peer]
        return list(self._waiting.items())

    def waiting_bytes(self) -> int:
        """What waits, for all peers together."""
        return sum([outgoing.bytes for outgoing in self._waiting.values()])

    def clear(self, peer: str) -> None:
        """Forget what waits for a peer."""
        if peer in self._streams:
            self._streams[peer][1].clear()

    def forget(self, peer: str) -> None:
        """A peer is gone."""
        self._streams.pop(peer, None)
        self._waiting.pop(peer, None)

    def _new(self, peer: str) -> tuple[Incoming, Outgoing]:
        if len(self._streams) >= MAX_PEERS:
            self.forget(next(iter(self._streams)))
        return Incoming(), Outgoing(peer, self._queue_bytes)
