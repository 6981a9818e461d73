"""A client's stream of events on a real pair of sockets. What a browser makes of it is in tests/browser."""

from __future__ import annotations

import _socket
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import pytest

from channelstream.clock import monotonic
from channelstream.config import Config
from channelstream.counters import Counters
from channelstream.edge.events import NEVER_MS, RETRY_MS, EventClient
from channelstream.edge.frames import CLOSE_EXPIRED, CLOSE_GOING_AWAY, CLOSE_POLICY, CLOSE_REPLACED
from channelstream.edge.liveness import Wheel
from channelstream.edge.outbox import Mark, Ready
from channelstream.edge.position import cursors_in
from channelstream.edge.readers import Readers
from channelstream.wire.messages import TopicCursor

A, B = "c/a", "c/b"


class LinkOfOne:
    """What a client knows of its edge, and what it tells it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = gevent.get_hub().loop
        self.readers = Readers(self.loop)
        self.wheel: Wheel[Any] = Wheel(config.ping_interval, config.silence_timeout)
        self.counters = Counters()
        self.released: list[tuple[bool, list[Mark]]] = []
        self.closing: set[object] = set()
        self.served_now: list[TopicCursor] = []

    def release(self, client: EventClient, closed: bool, unsent: Iterable[Mark] = ()) -> None:
        if not client.released:
            client.released = True
            self.released.append((closed, list(unsent)))

    def give_time_to_close(self, client: EventClient) -> None:
        self.closing.add(client)

    def is_closed(self, client: EventClient) -> None:
        self.closing.discard(client)

    def served(self, client: EventClient) -> list[TopicCursor]:
        return self.served_now

    def retry_ms(self, conn_id: str) -> int:
        return 1234

    def fell_behind(self, client: EventClient) -> None: ...

    def caught_up(self, client: EventClient) -> None: ...


class Stream:
    """A client and its other end, which reads events as the HTML standard has it."""

    def __init__(self, link: LinkOfOne, wait_for: Callable[..., None]) -> None:
        self.link = link
        self.wait_for = wait_for
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        taken = _socket.socket(ours.family, ours.type, ours.proto, fileno=ours.detach())
        taken.setblocking(False)
        self.theirs.setblocking(False)
        self.closed_calls = 0
        self.client = EventClient("x", "ann", 1, taken, link, self)  # type: ignore[arg-type]
        self.data = b""
        self.ended = False

    def released(self) -> None:
        self.closed_calls += 1

    def blocks(self) -> list[dict[str, str]]:
        """All that has come, block by block, each as field → value."""
        while not self.ended:
            try:
                piece = self.theirs.recv(65536)
            except BlockingIOError:
                break
            self.ended = not piece
            self.data += piece
        whole = self.data.decode().split("\n\n")[:-1]
        return [dict(line.split(": ", 1) for line in block.split("\n") if line) for block in whole]

    def wait_end(self) -> list[dict[str, str]]:
        def at_its_end() -> bool:
            self.blocks()
            return self.ended

        self.wait_for(at_its_end, "the end of the stream")
        return self.blocks()


def ready(number: int, topic: str = A, pad: int = 0) -> Ready:
    body = json.dumps({"n": number, "pad": "x" * pad}).encode()
    return Ready(b"no frame", [body], Mark(topic, number - 1), TopicCursor(topic, "e", number))


def reached(block: dict[str, str], *topics: str) -> dict[str, int]:
    """The seqs of an event's position."""
    return {topic: cursor.seq for topic, cursor in cursors_in(block["id"], topics).items()}


@pytest.fixture
def link(make_config: Callable[..., Config]) -> Iterator[LinkOfOne]:
    made = LinkOfOne(make_config(max_queue="100000"))
    yield made
    made.readers.close()


@pytest.fixture
def stream(link: LinkOfOne, wait_for: Callable[..., None]) -> Iterator[Stream]:
    made = Stream(link, wait_for)
    yield made
    made.client.cut()
    made.theirs.close()


def test_an_event_has_the_list_and_the_position_on_all_topics(stream: Stream) -> None:
    stream.client.deliver([ready(1)])
    stream.client.deliver([ready(2), ready(5, B)])
    first, second = stream.blocks()
    assert [one["n"] for one in json.loads(second["data"])] == [2, 5]
    assert reached(first, A, B) == {A: 1}
    assert reached(second, A, B) == {A: 2, B: 5}


def test_where_nothing_was_missed_the_position_alone_is_told(stream: Stream) -> None:
    stream.client.deliver([Ready(b"", (), Mark(A, 3), TopicCursor(A, "e", 3))])
    (block,) = stream.blocks()
    assert set(block) == {"id"}
    assert reached(block, A) == {A: 3}


def test_a_ping_is_an_event_that_no_page_sees_and_a_sign_of_life(stream: Stream) -> None:
    stream.client.deliver([ready(1)])
    stream.client.last_heard = monotonic() - 50
    stream.link.served_now = [TopicCursor(A, "e", 9)]  # what came since was not for this client
    stream.client.ping()
    block = stream.blocks()[-1]
    assert (set(block), reached(block, A)) == ({"id"}, {A: 9})
    assert monotonic() - stream.client.last_heard < 10


def test_a_client_that_does_not_read_gives_no_sign_of_life(stream: Stream) -> None:
    while stream.client._outbox is None:
        stream.client.deliver([ready(1, pad=10_000)])
    stream.client.last_heard = heard = monotonic() - 50
    stream.client.ping()
    assert stream.client.last_heard == heard


def test_a_client_that_reads_slowly_gives_a_sign_of_life(stream: Stream, wait_for: Callable[..., None]) -> None:
    while stream.client._outbox is None:
        stream.client.deliver([ready(1, pad=10_000)])
    stream.client.last_heard = monotonic() - 50
    stream.blocks()
    wait_for(lambda: monotonic() - stream.client.last_heard < 10, "the kernel had room again")


def test_what_a_client_says_is_read_and_dropped(stream: Stream) -> None:
    stream.theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    stream.client.deliver([ready(1)])
    gevent.sleep(0)
    assert stream.client._sock.fileno() != -1
    assert len(stream.blocks()) == 1


def test_a_client_that_leaves_may_come_back(stream: Stream, wait_for: Callable[..., None]) -> None:
    stream.theirs.close()
    wait_for(lambda: stream.closed_calls, "the end was seen")
    assert stream.link.released == [(False, [])]


@pytest.mark.parametrize(
    ("code", "for_good", "least_ms", "most_ms"),
    [
        (CLOSE_GOING_AWAY, False, 1234, 1234),
        (CLOSE_REPLACED, False, NEVER_MS, NEVER_MS),
        (CLOSE_EXPIRED, True, RETRY_MS, RETRY_MS),
    ],
)
def test_the_last_event_says_why_and_when_to_come_back(
    stream: Stream, code: int, for_good: bool, least_ms: int, most_ms: int
) -> None:
    stream.client.close(code)
    last = stream.wait_end()[-1]
    assert (last["event"], json.loads(last["data"])["code"]) == ("close", code)
    assert least_ms <= int(last["retry"]) <= most_ms
    assert stream.link.released == [(for_good, [])]
    assert (stream.closed_calls, stream.link.closing) == (1, set())


def test_one_that_is_too_slow_is_told_so_behind_what_it_has_half_read(stream: Stream) -> None:
    number = 0
    while not stream.client.released:
        number += 1
        stream.client.deliver([ready(number, pad=10_000)])
    marks = [mark.before for mark in stream.link.released[0][1]]
    assert marks == list(range(marks[0], number))
    blocks = stream.wait_end()
    assert json.loads(blocks[-1]["data"])["code"] == CLOSE_POLICY
    seen = [one["n"] for block in blocks[:-1] for one in json.loads(block["data"])]
    assert seen == list(range(1, len(seen) + 1))
    assert stream.link.closing == set()


def test_a_slow_one_that_may_be_told_of_a_gap_stays_and_its_position_follows_the_gap(
    stream: Stream, wait_for: Callable[..., None]
) -> None:
    number = 0
    while not stream.link.counters.told():
        number += 1
        stream.client.deliver([ready(number, pad=10_000)._replace(skippable=True)])
    stream.client.deliver([ready(1, B)])  # fits, and does not tell that the skipped one was served

    def told() -> list[dict[str, str]]:
        return [block for block in stream.blocks() if '"gap"' in block.get("data", "")]

    wait_for(told, "the gap")
    blocks = stream.blocks()
    (gap,) = told()
    other = next(block for block in blocks if reached(block, B))
    assert json.loads(gap["data"]) == [{"type": "gap", "channel": "a", "missed": 1}]
    assert reached(other, A, B) == {A: number - 1, B: 1}
    assert reached(gap, A, B) == {A: number, B: 1}
    assert blocks.index(other) < blocks.index(gap)
    assert not stream.client.released
    assert stream.link.counters.told() == {"skipped": 1, "gaps_told": 1}
