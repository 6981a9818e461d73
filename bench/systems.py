"""What is measured, as the commands see it: a system that takes clients and messages. Ours is `bench.group.Group`, the
physical limit is `bench.floor.Floor`, the others are in `bench.peers`.

A command starts several systems, opens a crowd of clients on each, and lets them take turns, so that each of them meets
the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

from bench.crowd import MARK, PING, PONG, Crowd

LARGEST_STAMP: Final = 2**53
"""Numbers up to this are the same in every JSON library: 104 days of nanoseconds since the machine started."""


class Message(NamedTuple):
    """One message to publish. Whatever a system makes of it, its clients get `MARK` once, and `"t":` with the stamp
    behind it once."""

    text: str
    """Begins with `MARK`; the rest is filling."""
    t: int
    """The stamp: nanoseconds of the monotonic clock at the moment of publishing."""

    def json(self) -> bytes:
        """As an object; what a system that takes any text is given."""
        return b'{"text":"%b","t":%d}' % (self.text.encode(), self.t)

    def fields(self) -> dict[str, Any]:
        """The same, for a system whose requests are JSON as a whole."""
        return {"text": self.text, "t": self.t}


def filled(size: int, t: int) -> Message:
    """A message with so many bytes of text; at least the mark."""
    return Message(MARK.decode() + "x" * (size - len(MARK)), t)


class Sender(Protocol):
    """Publishes. Made and used in the publisher's process (a fork, so it may use what the system has opened)."""

    def send(self, messages: Sequence[Message]) -> None:
        """Publish them to the channel of `System.requests`, in one request where the system can. Returns when they are
        taken. Raises where they are not."""

    def close(self) -> None:
        """No more."""


class System(Protocol):
    """Use it with `with`: ready inside; gone after, with all that it made.

    Before that, `missing` says what it lacks. Everything else is for use inside.
    """

    name: str
    """Of its row: `ours`, `floor`, `nchan`, `ws`, `socket.io`, `channelstream 0.7.1`."""

    pids: list[tuple[str, int]]
    """All of its processes, by a name that says what each one does. Their CPU and memory is the system's."""

    batches: bool
    """Whether `Sender.send` takes several messages as one request. Where not, they are published one after another."""

    expected: bytes
    """What the answer to a client's request begins with; see `HANDSHAKE`."""

    greet: bytes
    """What a client says as soon as it has its answer (a frame, masked); nothing for most."""

    ping: bytes
    """How a ping to a client begins, see `PING`; and what the client says then (a frame, masked), see `PONG`."""
    pong: bytes

    def missing(self) -> str | None:
        """How to install what it needs and the machine does not have; `None` where all is there. Starts nothing."""

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect to."""

    def requests(self, count: int) -> Iterator[bytes]:
        """The opening requests of so many clients, all on one channel. What has to be called before a client may come
        is called as its request is asked for. The first of them must be on the channel before the first message."""

    def sender(self) -> Sender:
        """Called in the publisher's process."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


HANDSHAKE: Final = b"HTTP/1.1 101"
"""`System.expected` of websockets."""


class Websockets:
    """What is the same in most systems, to be inherited from."""

    batches = False
    expected = HANDSHAKE
    greet = b""
    ping = PING
    pong = PONG

    def missing(self) -> str | None:
        """Nothing is."""
        return None


def crowd_for(system: System) -> Crowd:
    """One whose clients behave as the system's do."""
    return Crowd(expected=system.expected, greet=system.greet, ping=system.ping, pong=system.pong)
