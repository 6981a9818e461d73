"""The bus over ZeroMQ. The only module that imports zmq.

The sockets are plain ones, never `zmq.green`, and are only used with DONTWAIT: whoever runs an event loop watches
`fileno()` itself. So one module serves a shard without gevent and an edge with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from channelstream.bus.base import MAX_FRAME_BYTES, TURN_BYTES, Incoming, Outgoing, Peers, Received
from channelstream.errors import FormerOwner, PeerError
from channelstream.wire import codec
from channelstream.wire.messages import ToPeer

HEARTBEAT_MS: Final = 1000
HEARTBEAT_TIMEOUT_MS: Final = 3000
"""ZMTP's own heartbeat: sees a dead host or a stopped process within 3 s. A Python that hangs is seen by the beats of
the processes themselves."""

HANDSHAKE_MS: Final = 3000
"""A stranger that connects and says nothing holds a descriptor this long instead of 30 s."""

RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 500
"""A shard that comes back is found within half a second, and one that stays away is not knocked at without pause."""

LOCAL_RECONNECT_MS: Final = 10
LOCAL_RECONNECT_MAX_MS: Final = 50
"""The same on one machine, where to knock is one system call on a file: at most a hundred in a second for each link."""

LINK_EVENTS: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
"""What a dialer wants to know of its link. A connection without a handshake is none: nothing can be said on it."""

HIGH_WATER: Final = 100
"""Batches in ZeroMQ's own pipe to a peer, which knows no bytes: a hundred megabytes or more for a peer that is stopped.
Behind it are our queues, which are bounded in bytes, and in which what waits becomes fewer and larger batches."""

BATCHES_A_TURN: Final = 200
"""A reader stops here and lets its loop turn, so that a flood from one side starves nobody."""


_NOW: Final = int(zmq.DONTWAIT)
_NOW_AND_MORE: Final = int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE: Final = int(zmq.POLLIN)
_READABLE_OR_WRITABLE: Final = int(zmq.POLLIN | zmq.POLLOUT)
"""PERF: as plain numbers. pyzmq's own are members of enumerations, and each `|` of them costs a microsecond."""


def _is_ready(socket: zmq.Socket[bytes], for_what: int = _READABLE) -> bool:
    """Whether there is something to receive, or room to send, just now. PERF: to ask costs as much as to receive.
    `socket.get(EVENTS)` makes a member of an enumeration and costs twice as much, and the exception that says no four
    times."""
    return bool(zmq.zmq_poll([(socket, for_what)], 0))


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
        self.complaint = ""
        self._socket: Final = socket
        self._address: Final = address
        self._generation: Final = generation
        self._reader: Final = codec.shard_reader()
        self._peers: Final = Peers(queue_bytes)
        self._watched: Final[list[tuple[Any, int]]] = [(socket, _READABLE)]
        """What ends a wait: the socket, then descriptors."""
        socket.router_mandatory = True
        # A peer that makes its link again may come before the end of the former one is seen. Without it, the new one
        # would be ignored in silence, for good: heartbeats are answered below.
        socket.router_handover = True
        socket.bind(address)

    def wake_on(self, descriptor: int) -> None:
        """See `Listener.wake_on`."""
        self._watched.append((descriptor, _READABLE))

    def receive(self, timeout_s: float) -> list[Received]:
        """See `Listener.receive`."""
        # PERF: one call looks at the socket, waits, and looks again.
        ready = zmq.zmq_poll(self._watched, ceil(timeout_s * 1000))
        if not ready or ready[0][0] is not self._socket:
            return []
        received: list[Received] = []
        size = 0
        for _ in range(BATCHES_A_TURN):
            identity = self._socket.recv(_NOW)
            batch = self._rest_of_message()
            size += len(batch)
            try:
                received.append(self._read(identity.decode("utf-8", "replace"), batch))
            except PeerError as error:
                self.undecodable += 1
                self.complaint = str(error)
            if size >= TURN_BYTES or not _is_ready(self._socket):
                break
        return received

    def _rest_of_message(self) -> bytes:
        """What is behind the identity. PERF: a frame knows whether another one follows; of bytes, the socket would have
        to be asked."""
        frame = self._socket.recv(_NOW, copy=False)
        batch = frame.bytes
        while frame.more:  # not from us: it will not be readable
            frame = self._socket.recv(_NOW, copy=False)
            batch += frame.bytes
        return batch

    def _read(self, peer: str, batch: bytes) -> Received:
        generation, number, messages = self._reader.read(batch)
        return Received(peer, messages, hole=not self._peers.admit(peer, generation, number))

    def send(self, peer: str, encoded: bytes) -> None:
        """See `Listener.send`."""
        self._peers.push(peer, encoded)

    def flush(self) -> list[str]:
        """See `Listener.flush`."""
        gone: list[str] = []
        for peer, outgoing in self._peers.waiting():
            try:
                self._flush_queue(peer.encode(), outgoing)
            except zmq.Again:
                continue  # behind: tried again with the next turn, and bounded by its queue
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._peers.forget(peer)
                gone.append(peer)
        return gone

    def _flush_queue(self, identity: bytes, outgoing: Outgoing) -> None:
        while batch := outgoing.next_batch():
            frame = codec.join(self._generation, outgoing.number, batch)
            self._socket.send(identity, _NOW_AND_MORE)
            self._socket.send(frame, _NOW)
            outgoing.sent(len(batch))

    def drop(self, peer: str) -> None:
        """See `Listener.drop`."""
        self._peers.clear(peer)

    def waiting_bytes(self) -> int:
        """See `Listener.waiting_bytes`."""
        return self._peers.waiting_bytes()

    def close(self) -> None:
        """See `Listener.close`. The file of an ipc address stays behind; the next bind replaces it."""
        self._socket.unbind(self._address)
        self._socket.close(linger=0)


class ZeroMqDialer:
    """A DEALER to one shard: see `Dialer`."""

    def __init__(self, socket: zmq.Socket[bytes], name: str, address: str, queue_bytes: int) -> None:
        self.undecodable = 0
        self.complaint = ""
        self.former_owners = 0
        self.holes = 0
        self._socket: Final = socket
        self._reader: Final = codec.peer_reader()
        self._outgoing: Final = Outgoing(address, queue_bytes)
        self._incoming: Final = Incoming()
        self._is_at_rest = False
        """Whether it was seen that there is no work, and nothing was queued since. PERF: from there on the descriptor
        tells, and the socket need not be asked."""
        self.connected = False
        self.times_made = 0
        self._monitor: Final = socket.get_monitor_socket(LINK_EVENTS)
        if address.startswith("ipc:"):
            socket.reconnect_ivl, socket.reconnect_ivl_max = LOCAL_RECONNECT_MS, LOCAL_RECONNECT_MAX_MS
        socket.identity = name.encode()
        # Without it, messages would be lost in a pipe to a shard that is not there; with it they stay in our queue.
        socket.immediate = True
        socket.connect(address)

    def look(self) -> None:
        """See `Dialer.look`."""
        while _is_ready(self._monitor):
            made = recv_monitor_message(self._monitor, zmq.DONTWAIT)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self.connected = made
            self.times_made += made

    def link_fileno(self) -> int:
        """See `Dialer.link_fileno`."""
        return int(self._monitor.fileno())

    def send(self, encoded: bytes) -> None:
        """See `Dialer.send`."""
        self._outgoing.push(encoded)
        self._is_at_rest = False

    def send_first(self, encoded: Sequence[bytes]) -> None:
        """See `Dialer.send_first`."""
        self._outgoing.push_first(encoded)
        self._is_at_rest = False

    def skip(self) -> None:
        """See `Dialer.skip`."""
        self._outgoing.number += 1

    def flush(self) -> None:
        """See `Dialer.flush`."""
        try:
            while batch := self._outgoing.next_batch():
                self._socket.send(codec.join(0, self._outgoing.number, batch), _NOW)
                self._outgoing.sent(len(batch))
        except zmq.Again:
            return  # the shard is away or behind: tried again with the next flush, and bounded by the queue

    def receive(self) -> list[ToPeer]:
        """See `Dialer.receive`."""
        messages: list[ToPeer] = []
        size = 0
        self._is_at_rest = False
        for _ in range(BATCHES_A_TURN):
            try:
                batch = self._socket.recv(_NOW)
            except zmq.Again:  # what it was called for is no message
                self._is_at_rest = not self._outgoing
                break
            size += len(batch)
            messages += self._read(batch)
            if size >= TURN_BYTES:
                break
            if not _is_ready(self._socket):
                self._is_at_rest = not self._outgoing
                break
        return messages

    def _read(self, batch: bytes) -> list[ToPeer]:
        try:
            generation, number, messages = self._reader.read(batch)
            self.holes += not self._incoming.admit(generation, number)
        except PeerError as error:
            self.undecodable += 1
            self.former_owners += isinstance(error, FormerOwner)
            self.complaint = str(error)
            return []
        return messages

    def has_work(self) -> bool:
        """See `Dialer.has_work`."""
        if self._is_at_rest:
            return False
        return _is_ready(self._socket, _READABLE_OR_WRITABLE if self._outgoing else _READABLE)

    def fileno(self) -> int:
        """See `Dialer.fileno`."""
        return int(self._socket.fileno())

    def waiting_bytes(self) -> int:
        """See `Dialer.waiting_bytes`."""
        return self._outgoing.bytes

    def close(self) -> None:
        """See `Dialer.close`."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
