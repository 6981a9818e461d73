"""The bus over ZeroMQ. The only module that imports zmq.

The sockets are plain ones, never `zmq.green`, and are only used with DONTWAIT: whoever runs an event loop watches
`fileno()` itself. So one module serves a shard without gevent and an edge with it.
"""

from __future__ import annotations

from typing import Final

import zmq

from channelstream.bus.base import MAX_FRAME_BYTES, Outgoing, Received
from channelstream.errors import PeerError
from channelstream.wire import codec
from channelstream.wire.messages import ToPeer, ToShard

HEARTBEAT_MS: Final = 1000
HEARTBEAT_TIMEOUT_MS: Final = 3000
"""ZMTP's own heartbeat: sees a dead host or a stopped process within 3 s. A Python that hangs is seen by the beats of
the processes themselves."""

HANDSHAKE_MS: Final = 3000
"""A stranger that connects and says nothing holds a descriptor this long instead of 30 s."""

RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 1000
"""A shard that comes back is found within a second, and one that stays away is not knocked at without pause."""

HIGH_WATER: Final = 1000
"""Batches in ZeroMQ's own pipe to a peer. Behind it are our queues, which are bounded in bytes."""

BATCHES_A_TURN: Final = 200
"""A reader stops here and lets its loop turn, so that a flood from one side starves nobody."""


class ZeroMqBus:
    """The sockets of one process. Make it after the process has started: a context does not survive a fork."""

    def __init__(self) -> None:
        self._context: Final = zmq.Context()

    def listen(self, address: str, generation: int, queue_bytes: int) -> ZeroMqListener:
        """Bind a shard's socket. The caller holds the lock of the address: a second bind on a live ipc path would
        steal it without a word."""
        return ZeroMqListener(self._socket(zmq.ROUTER), address, generation, queue_bytes)

    def dial(self, name: str, address: str, queue_bytes: int) -> ZeroMqDialer:
        """Connect to a shard under a name of the form `role-index:incarnation`. The shard need not be there yet."""
        return ZeroMqDialer(self._socket(zmq.DEALER), name, address, queue_bytes)

    def close(self) -> None:
        """End every socket at once; what has not been sent is lost."""
        self._context.destroy(linger=0)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = HIGH_WATER
        socket.maxmsgsize = MAX_FRAME_BYTES
        socket.handshake_ivl = HANDSHAKE_MS
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = socket.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
        socket.reconnect_ivl = RECONNECT_MS
        socket.reconnect_ivl_max = RECONNECT_MAX_MS
        return socket


class ZeroMqListener:
    """A ROUTER that never drops without a word: see `Listener`."""

    def __init__(self, socket: zmq.Socket[bytes], address: str, generation: int, queue_bytes: int) -> None:
        self.undecodable = 0
        self._socket: Final = socket
        self._address: Final = address
        self._generation: Final = generation
        self._queue_bytes: Final = queue_bytes
        self._reader: Final = codec.shard_reader()
        self._queues: dict[str, Outgoing] = {}
        """What waits, for those peers for whom anything does."""
        socket.router_mandatory = True
        socket.bind(address)

    def receive(self, timeout_s: float) -> list[Received]:
        """See `Listener.receive`."""
        if not self._socket.poll(round(timeout_s * 1000), zmq.POLLIN):
            return []
        received: list[Received] = []
        for _ in range(BATCHES_A_TURN):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            messages = self._read(frames)
            if messages:
                received.append(Received(peer.decode("utf-8", "replace"), messages))
        return received

    def _read(self, frames: list[bytes]) -> list[ToShard]:
        try:
            return self._reader.read(b"".join(frames)).messages
        except PeerError:
            self.undecodable += 1
            return []

    def send(self, peer: str, encoded: bytes) -> None:
        """See `Listener.send`."""
        queue = self._queues.get(peer)
        if queue is None:
            queue = self._queues[peer] = Outgoing(peer, self._queue_bytes)
        queue.push(encoded)

    def flush(self) -> list[str]:
        """See `Listener.flush`."""
        gone: list[str] = []
        for peer, queue in list(self._queues.items()):
            try:
                self._flush_queue(peer.encode(), queue)
                del self._queues[peer]
            except zmq.Again:
                continue  # behind: tried again with the next turn, and bounded by its queue
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self.drop(peer)
                gone.append(peer)
        return gone

    def _flush_queue(self, identity: bytes, queue: Outgoing) -> None:
        while batch := queue.next_batch():
            self._socket.send_multipart([identity, codec.join(self._generation, batch)], zmq.DONTWAIT)
            queue.sent(len(batch))

    def drop(self, peer: str) -> None:
        """See `Listener.drop`."""
        self._queues.pop(peer, None)

    def waiting_bytes(self) -> int:
        """See `Listener.waiting_bytes`."""
        return sum(queue.bytes for queue in self._queues.values())

    def close(self) -> None:
        """See `Listener.close`. ZeroMQ takes the file of an ipc address away with the socket."""
        self._socket.unbind(self._address)
        self._socket.close(linger=0)


class ZeroMqDialer:
    """A DEALER to one shard: see `Dialer`."""

    def __init__(self, socket: zmq.Socket[bytes], name: str, address: str, queue_bytes: int) -> None:
        self.undecodable = 0
        self._socket: Final = socket
        self._reader: Final = codec.peer_reader()
        self._queue: Final = Outgoing(address, queue_bytes)
        self._generation = 0
        """The highest that was seen: a batch of a lower one is from a former owner and is refused."""
        socket.identity = name.encode()
        # Without it, messages would be lost in a pipe to a shard that is not there; with it they stay in our queue.
        socket.immediate = True
        socket.connect(address)

    def send(self, encoded: bytes) -> None:
        """See `Dialer.send`."""
        self._queue.push(encoded)

    def flush(self) -> None:
        """See `Dialer.flush`."""
        try:
            while batch := self._queue.next_batch():
                self._socket.send(codec.join(0, batch), zmq.DONTWAIT)
                self._queue.sent(len(batch))
        except zmq.Again:
            return  # the shard is away or behind: tried again with the next flush, and bounded by the queue

    def receive(self) -> list[ToPeer]:
        """See `Dialer.receive`."""
        messages: list[ToPeer] = []
        for _ in range(BATCHES_A_TURN):
            try:
                frame = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            messages += self._read(frame)
        return messages

    def _read(self, frame: bytes) -> list[ToPeer]:
        try:
            generation, messages = self._reader.read(frame)
        except PeerError:
            self.undecodable += 1
            return []
        if generation < self._generation:
            self.undecodable += 1
            return []
        self._generation = generation
        return messages

    def readable(self) -> bool:
        """See `Dialer.readable`."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def fileno(self) -> int:
        """See `Dialer.fileno`."""
        return int(self._socket.fileno())

    def waiting_bytes(self) -> int:
        """See `Dialer.waiting_bytes`."""
        return self._queue.bytes

    def close(self) -> None:
        """See `Dialer.close`."""
        self._socket.close(linger=0)
