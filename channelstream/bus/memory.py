"""The bus in the memory of one process: a twin of the ZeroMQ bus for tests, which can be made to misbehave.

Messages are encoded and decoded as on the real one, so what does not survive the wire does not survive here either.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from channelstream.bus.base import Incoming, Outgoing, Peers, Received
from channelstream.errors import FormerOwner, PeerError
from channelstream.wire import codec
from channelstream.wire.messages import ToPeer


class Pipe:
    """One direction between two ends. `capacity` is in batches, like a high-water mark."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = False
        """While True batches wait in the pipe: a link that is blocked."""
        self.refused = False
        """Whether it was full when a batch came, and nothing was taken from it since."""
        self._batches: deque[bytes] = deque()
        self._wake: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def put(self, batch: bytes) -> bool:
        """Take a batch; False where the pipe is full."""
        if self.full():
            self.refused = True
            return False
        self._batches.append(batch)
        if not self.held:
            self.wake()
        return True

    def take(self) -> bytes | None:
        """The next batch, or None."""
        if self.held or not self._batches:
            return None
        self.refused = False
        return self._batches.popleft()

    def empty(self) -> bool:
        """Whether `take` would give nothing."""
        return self.held or not self._batches

    def full(self) -> bool:
        """Whether `put` would take nothing."""
        return len(self._batches) >= self.capacity

    def release(self) -> None:
        """Let a held pipe go on."""
        self.held = False
        if self._batches:
            self.wake()

    def wake(self) -> None:
        """Make the descriptor readable."""
        os.eventfd_write(self._wake, 1)

    def lose_all(self) -> None:
        """What is in the pipe is gone, as when a process at one end is killed."""
        self._batches.clear()

    def reverse(self) -> None:
        """What is in the pipe comes out in the other order, which no real link does: for tests of the tests."""
        self._batches.reverse()

    def calm(self) -> None:
        """Reset the descriptor's readiness, as a reader does that is about to drain."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def fileno(self) -> int:
        """Readable after something was put, or `wake` was called."""
        return self._wake

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._wake)


class Link:
    """Both directions between one dialer and a listener, for tests to reach into."""

    def __init__(self, capacity: int) -> None:
        self.up: Final = Pipe(capacity)
        self.down: Final = Pipe(capacity)
        self.alive = True
        self.connected = False
        """Whether somebody listens at the other end."""
        self.times_made = 0
        self._news: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def make(self) -> None:
        """Somebody listens at the other end from now on, maybe another one than before."""
        self.connected = True
        self.times_made += 1
        os.eventfd_write(self._news, 1)

    def break_off(self) -> None:
        """Nobody listens there any more."""
        self.connected = False
        os.eventfd_write(self._news, 1)

    def calm(self) -> None:
        """See `Pipe.calm`."""
        try:
            os.eventfd_read(self._news)
        except BlockingIOError:
            return

    def fileno(self) -> int:
        """Readable after it was made or broken off."""
        return self._news

    def close(self) -> None:
        """Give the descriptors back."""
        self.up.close()
        self.down.close()
        os.close(self._news)


class MemoryBus:
    """Addresses and who listens there."""

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity: Final = capacity
        self._listening: dict[str, MemoryListener] = {}
        """By address, the last one."""
        self.links: dict[tuple[str, str], Link] = {}
        """(dialer's name, address) → link."""

    def listen(self, address: str, generation: int, queue_bytes: int) -> MemoryListener:
        """See `ZeroMqBus.listen`."""
        listener = MemoryListener(self, address, generation, queue_bytes)
        self._listening[address] = listener
        for link in self.links_of(address).values():
            link.make()
        return listener

    def dial(self, name: str, address: str, queue_bytes: int) -> MemoryDialer:
        """See `ZeroMqBus.dial`."""
        link = self.links[name, address] = Link(self._capacity)
        if address in self._listening:
            link.make()
        return MemoryDialer(link, address, queue_bytes)

    def close(self) -> None:
        """Give all descriptors back."""
        for link in self.links.values():
            link.close()
        self.links.clear()

    def stop_listening(self, address: str, listener: MemoryListener) -> None:
        """A listener is gone; of no effect where another one has its address."""
        if self._listening.get(address) is listener:
            del self._listening[address]
            for link in self.links_of(address).values():
                link.break_off()

    def links_of(self, address: str) -> dict[str, Link]:
        """The links to an address, by the dialers' names."""
        return {name: link for (name, at), link in self.links.items() if at == address}


class MemoryListener:
    """See `Listener`."""

    def __init__(self, bus: MemoryBus, address: str, generation: int, queue_bytes: int) -> None:
        self.undecodable = 0
        self.complaint = ""
        self._bus: Final = bus
        self._address: Final = address
        self._generation: Final = generation
        self._reader: Final = codec.shard_reader()
        self._peers: Final = Peers(queue_bytes)
        self._wakers: Final[list[int]] = []

    def wake_on(self, descriptor: int) -> None:
        """See `Listener.wake_on`."""
        self._wakers.append(descriptor)

    def receive(self, timeout_s: float) -> list[Received]:
        """See `Listener.receive`."""
        links = self._bus.links_of(self._address)
        if all(link.up.empty() for link in links.values()):
            watched: list[Any] = [*(link.up for link in links.values()), *self._wakers]
            select.select(watched, [], [], timeout_s)
        received: list[Received] = []
        for peer, link in self._bus.links_of(self._address).items():
            link.up.calm()
            if link.up.refused and not link.up.empty():
                link.down.wake()  # the dialer may go on
            while (batch := link.up.take()) is not None:
                try:
                    received.append(self._read(peer, batch))
                except PeerError as error:
                    self.undecodable += 1
                    self.complaint = str(error)
        return received

    def _read(self, peer: str, batch: bytes) -> Received:
        generation, number, messages = self._reader.read(batch)
        return Received(peer, messages, hole=not self._peers.admit(peer, generation, number))

    def send(self, peer: str, encoded: bytes) -> None:
        """See `Listener.send`."""
        self._peers.push(peer, encoded)

    def flush(self) -> list[str]:
        """See `Listener.flush`."""
        links = self._bus.links_of(self._address)
        waiting = self._peers.waiting()
        gone = [peer for peer, _ in waiting if not (peer in links and links[peer].alive)]
        for peer in gone:
            self._peers.forget(peer)
        for peer, outgoing in self._peers.waiting():
            while batch := outgoing.next_batch():
                if not links[peer].down.put(codec.join(self._generation, outgoing.number, batch)):
                    break
                outgoing.sent(len(batch))
        return gone

    def drop(self, peer: str) -> None:
        """See `Listener.drop`."""
        self._peers.clear(peer)

    def waiting_bytes(self) -> int:
        """See `Listener.waiting_bytes`."""
        return self._peers.waiting_bytes()

    def close(self) -> None:
        """See `Listener.close`."""
        for peer, _ in self._peers.waiting():
            self._peers.forget(peer)
        self._bus.stop_listening(self._address, self)


class MemoryDialer:
    """See `Dialer`."""

    def __init__(self, link: Link, address: str, queue_bytes: int) -> None:
        self.undecodable = 0
        self.complaint = ""
        self.former_owners = 0
        self.holes = 0
        self.connected = False
        self.times_made = 0
        self._link: Final = link
        self._outgoing: Final = Outgoing(address, queue_bytes)
        self._incoming: Final = Incoming()
        self._reader: Final = codec.peer_reader()

    def look(self) -> None:
        """See `Dialer.look`."""
        self._link.calm()
        self.connected, self.times_made = self._link.connected, self._link.times_made

    def link_fileno(self) -> int:
        """See `Dialer.link_fileno`."""
        return self._link.fileno()

    def send(self, encoded: bytes) -> None:
        """See `Dialer.send`."""
        self._outgoing.push(encoded)

    def send_first(self, encoded: Sequence[bytes]) -> None:
        """See `Dialer.send_first`."""
        self._outgoing.push_first(encoded)

    def skip(self) -> None:
        """See `Dialer.skip`."""
        self._outgoing.number += 1

    def flush(self) -> None:
        """See `Dialer.flush`."""
        while batch := self._outgoing.next_batch():
            if not self._link.up.put(codec.join(0, self._outgoing.number, batch)):
                return
            self._outgoing.sent(len(batch))

    def receive(self) -> list[ToPeer]:
        """See `Dialer.receive`."""
        self._link.down.calm()
        messages: list[ToPeer] = []
        while (batch := self._link.down.take()) is not None:
            try:
                generation, number, read = self._reader.read(batch)
                self.holes += not self._incoming.admit(generation, number)
            except PeerError as error:
                self.undecodable += 1
                self.former_owners += isinstance(error, FormerOwner)
                self.complaint = str(error)
            else:
                messages += read
        return messages

    def has_work(self) -> bool:
        """See `Dialer.has_work`."""
        return not self._link.down.empty() or (bool(self._outgoing) and not self._link.up.full())

    def fileno(self) -> int:
        """See `Dialer.fileno`."""
        return self._link.down.fileno()

    def waiting_bytes(self) -> int:
        """See `Dialer.waiting_bytes`."""
        return self._outgoing.bytes

    def close(self) -> None:
        """See `Dialer.close`: what is sent to it from now on goes to a peer that is gone."""
        self._link.alive = False
