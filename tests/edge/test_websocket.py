"""A client's websocket on a real pair of sockets, with the loop turned by the test and a client that is not ours."""

from __future__ import annotations

import _socket
import gc
import json
import socket
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLOSED, OPEN, Protocol, Side

from channelstream.clock import monotonic
from channelstream.config import Config
from channelstream.counters import Counters
from channelstream.edge.deflate import deflated_frame
from channelstream.edge.frames import (
    CLOSE_DISCONNECTED,
    CLOSE_EXPIRED,
    CLOSE_GOING_AWAY,
    CLOSE_NOT_TEXT,
    CLOSE_POLICY,
    CLOSE_TOO_BIG,
    REASONS,
    listed,
    masked_size,
    text_frame,
)
from channelstream.edge.liveness import Wheel
from channelstream.edge.outbox import Mark, Ready
from channelstream.edge.readers import Readers
from channelstream.edge.sending import JOINED_BYTES
from channelstream.edge.stream import RECEIVE_BYTES, Phase
from channelstream.edge.websocket import MAX_FRAGMENTS, DeflatingClient, WebSocketClient, is_pong
from channelstream.wire.messages import TopicCursor

SMALL_BUFFER = 4096
"""Bytes; the kernel makes some more of it."""


class LinkOfOne:
    """What a client knows of its edge, and what it tells it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = gevent.get_hub().loop
        self.readers = Readers(self.loop)
        self.wheel: Wheel[Any] = Wheel(config.ping_interval, config.silence_timeout)
        self.counters = Counters()
        self.released: list[tuple[bool, list[Mark]]] = []
        self.behind: set[object] = set()
        self.closing: set[object] = set()

    def release(self, client: WebSocketClient, closed: bool, unsent: Iterable[Mark] = ()) -> None:
        if not client.released:
            client.released = True
            self.behind.discard(client)
            self.released.append((closed, list(unsent)))

    def give_time_to_close(self, client: WebSocketClient) -> None:
        self.closing.add(client)

    def is_closed(self, client: WebSocketClient) -> None:
        self.closing.discard(client)

    def fell_behind(self, client: WebSocketClient) -> None:
        if not client.released:
            self.behind.add(client)

    def caught_up(self, client: WebSocketClient) -> None:
        self.behind.discard(client)

    def retry_ms(self, conn_id: str) -> int:
        return 1234

    def watched(self) -> int:
        return sum(map(len, self.wheel._slots))


class Pair:
    """A client of the edge and its other end, which speaks by `websockets`' protocol or in raw bytes."""

    make = WebSocketClient

    def __init__(self, link: LinkOfOne, wait_for: Callable[..., None], kind: int = socket.AF_UNIX) -> None:
        self.link = link
        self.wait_for = wait_for
        ours, self.theirs = socket.socketpair(kind, socket.SOCK_STREAM)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        self.fd = ours.fileno()
        taken = _socket.socket(ours.family, ours.type, ours.proto, fileno=ours.detach())
        taken.setblocking(False)
        self.theirs.setblocking(False)
        self.closed_calls = 0
        self.client = self.make("x", "ann", 1, taken, link, self)  # type: ignore[arg-type]
        self.protocol = Protocol(Side.CLIENT, state=OPEN, max_size=None)
        self.ended = False
        self.frames: list[Frame] = []

    def released(self) -> None:
        self.closed_calls += 1

    # --- the other end ---

    def send(self, data: bytes) -> None:
        """Raw bytes, and a turn of the loop in which they are read."""
        heard = self.client.last_heard
        self.theirs.sendall(data)
        self.wait_for(lambda: self.client.last_heard > heard or self.is_closed, "the bytes were read")

    def say(self) -> None:
        """What the protocol has to send. A client's parser hands out b"" for the end of its sending."""
        for data in self.protocol.data_to_send():
            if data:
                self.theirs.sendall(data)

    def read(self) -> None:
        """Take all that is there now."""
        while not self.ended:
            try:
                data = self.theirs.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if data:
                self.protocol.receive_data(data)
            else:
                self.protocol.receive_eof()
                self.ended = True
            for event in self.protocol.events_received():
                assert isinstance(event, Frame)
                self.frames.append(event)

    def texts(self) -> list[Any]:
        return [json.loads(bytes(frame.data)) for frame in self.frames if frame.opcode is Opcode.TEXT]

    def wait_texts(self, count: int) -> list[Any]:
        def there() -> bool:
            self.read()
            return len(self.texts()) >= count

        self.wait_for(there, f"{count} messages, {len(self.texts())} so far")
        return self.texts()

    def wait_end(self) -> Close | None:
        """Answer what is to be answered until the connection is at its end; what the server said in its close frame."""

        def at_its_end() -> bool:
            self.read()
            if not self.ended:
                self.say()
            return self.ended

        self.wait_for(at_its_end, "the end of the connection")
        return self.protocol.close_rcvd

    # --- what is left ---

    @property
    def phase(self) -> Phase:
        return self.client._phase

    def has_parser(self) -> bool:
        return self.client._parser is not None

    @property
    def is_closed(self) -> bool:
        return self.client._phase is Phase.CLOSED

    def assert_nothing_is_left(self, closed: bool, unsent: list[Mark] | None = None) -> None:
        self.wait_for(lambda: self.is_closed, "the client was closed")
        self.client.cut()
        self.client.close(CLOSE_DISCONNECTED)
        self.client.ping()
        self.client.deliver([ready(1)])
        assert self.link.released == [(closed, unsent or [])]
        assert self.closed_calls == 1
        assert self.client._sock.fileno() == self.client.direct_fd == -1
        assert (self.client._parser, self.client._outbox, self.client._writer) == (None, None, None)
        assert (self.link.watched(), self.link.closing, self.link.behind) == (0, set(), set())
        self.theirs.close()


def ready(number: int, size: int = 0, topic: str = "c/a") -> Ready:
    """A message with a number, its object so many bytes long or a little more."""
    body = json.dumps({"n": number, "pad": "x" * size}).encode()
    return Ready(text_frame(listed([body])), [body], Mark(topic, number - 1))


def skippable(number: int, size: int = 0, topic: str = "c/a") -> Ready:
    """The same on a channel that skips where its clients are slow."""
    return ready(number, size, topic)._replace(skippable=True, reached=TopicCursor(topic, "e", number))


def masked(data: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.fixture
def link(make_config: Callable[..., Config]) -> Iterator[LinkOfOne]:
    made = LinkOfOne(make_config(max_frame="1KiB", max_queue="200KiB"))
    yield made
    made.readers.close()


@pytest.fixture
def pair(link: LinkOfOne, wait_for: Callable[..., None]) -> Iterator[Pair]:
    made = Pair(link, wait_for)
    yield made
    made.client.cut()
    made.theirs.close()


# --- what a client says ---


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("data", [b"", b'{"type":"heartbeat"}', b"x" * 125, b"x" * 126, b"x" * 1024])
def test_whatever_it_says_is_a_sign_of_life(pair: Pair, opcode: Opcode, data: bytes) -> None:
    before = pair.client.last_heard
    pair.send(masked(data, opcode))
    assert before < pair.client.last_heard <= monotonic()
    assert not pair.has_parser()
    assert pair.phase is Phase.OPEN
    pair.read()
    assert pair.frames == []


def test_of_one_who_sends_without_end_a_little_is_read_at_a_time(pair: Pair) -> None:
    """What is left waits for its next turn, after everybody else's."""
    flood = masked(b"") * 1000
    pair.theirs.send(flood)

    def left() -> int:
        return len(pair.client._sock.recv(2 * len(flood), socket.MSG_PEEK))

    assert left() == len(flood)
    for turn in (1, 2):
        pair.client.on_readable()
        assert left() == len(flood) - turn * RECEIVE_BYTES


def test_a_ping_is_answered(pair: Pair) -> None:
    pair.send(masked(b"payload", Opcode.PING))
    pair.read()
    assert [(frame.opcode, frame.data) for frame in pair.frames] == [(Opcode.PONG, b"payload")]
    assert not pair.has_parser()


def test_it_is_pinged_and_its_pong_counts(pair: Pair) -> None:
    pair.client.ping()
    pair.read()
    assert [frame.opcode for frame in pair.frames] == [Opcode.PING]
    before = pair.client.last_heard
    pair.say()
    pair.wait_for(lambda: pair.client.last_heard > before)
    assert not pair.has_parser()


@pytest.mark.parametrize("payload", [b"", b"p", b"p" * 125])
def test_a_pong_needs_no_parser(payload: bytes) -> None:
    assert is_pong(masked(payload, Opcode.PONG))


@pytest.mark.parametrize("size", range(12))
def test_a_part_of_a_pong_or_more_than_one_is_none(size: int) -> None:
    pong = masked(b"payload", Opcode.PONG)
    assert len(pong) == 13
    assert not is_pong(pong[: size + 1])
    assert not is_pong(pong + pong[: size + 1])


@pytest.mark.parametrize(
    "data",
    [
        masked(b"", Opcode.PING),
        masked(b"x"),
        b"\xca\x80mask",
        b"\x0a\x80mask",
        b"\x8a\x00",
        b"\x8a\x04good",
        b"\x8a\xfe" + b"x" * 130,
    ],
    ids=["a ping", "a text", "of an extension", "a fragment", "not masked", "not masked, with a payload", "too long"],
)
def test_what_is_not_just_a_pong_is_left_to_the_parser(data: bytes) -> None:
    assert not is_pong(data)


def test_bytes_that_came_behind_the_handshake_are_fed(pair: Pair) -> None:
    pair.client.feed(masked(b"early", Opcode.PING))
    pair.read()
    assert [frame.opcode for frame in pair.frames] == [Opcode.PONG]


@pytest.mark.parametrize("size", [5, 200])
def test_byte_by_byte_is_the_same_as_at_once(pair: Pair, size: int) -> None:
    conversation = masked(b"x" * size) + masked(b"p", Opcode.PING) + masked(b"y" * size, Opcode.BINARY)
    for index in range(len(conversation)):
        pair.client.feed(conversation[index : index + 1])
    assert not pair.has_parser()
    pair.read()
    assert [frame.opcode for frame in pair.frames] == [Opcode.PONG]


def test_the_parser_is_kept_for_half_a_frame_only(pair: Pair) -> None:
    frame = masked(b"some words")
    pair.client.feed(frame[:-3])
    assert pair.has_parser()
    pair.client.feed(frame[-3:])
    assert not pair.has_parser()


def test_one_and_a_half_frames(pair: Pair) -> None:
    first, second = masked(b"first"), masked(b"second")
    pair.client.feed(first + second[:1])
    assert pair.has_parser()
    pair.client.feed(second[1:])
    assert not pair.has_parser()


def test_the_parser_is_kept_until_the_last_fragment(pair: Pair) -> None:
    pair.send(masked(b"one ", fin=False))
    assert pair.has_parser()
    pair.send(masked(b"between", Opcode.PING))
    assert pair.has_parser()
    pair.send(masked(b"two", Opcode.CONT))
    assert not pair.has_parser()
    pair.read()
    assert [frame.opcode for frame in pair.frames] == [Opcode.PONG]
    assert pair.phase is Phase.OPEN


@pytest.mark.parametrize("payload", [0, 1, 125, 126, 65_535, 65_536])
def test_the_size_of_a_masked_frame(payload: int) -> None:
    assert masked_size(payload) == len(masked(b"x" * payload))


UNMASKED = Frame(Opcode.TEXT, b"hello").serialize(mask=False)
BREACHES = {
    "unmasked": ([UNMASKED], 1002),
    "a reserved bit": ([b"\xc1\x80\0\0\0\0"], 1002),
    "an unknown opcode": ([b"\x83\x80\0\0\0\0"], 1002),
    "a long control frame": ([b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126], 1002),
    "a fragmented control frame": ([b"\x09\x80\0\0\0\0"], 1002),
    "nothing to continue": ([masked(b"x", Opcode.CONT)], 1002),
    "a message within a message": ([masked(b"x", fin=False), masked(b"y")], 1002),
    "a frame over max_frame": ([masked(b"x" * 1025)], 1009),
    "a header that announces too much": ([b"\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00\0\0\0\0"], 1009),
    "fragments that are too much together": ([masked(b"x" * 600, fin=False), masked(b"x" * 600, Opcode.CONT)], 1009),
    "too many fragments": ([masked(b"", fin=False), *[masked(b"", Opcode.CONT, False)] * MAX_FRAGMENTS], 1009),
    "a close frame of one byte": ([masked(b"x", Opcode.CLOSE)], 1002),
    "a close code that is none": ([masked((1005).to_bytes(2, "big"), Opcode.CLOSE)], 1002),
}


@pytest.mark.parametrize(("sent", "code"), BREACHES.values(), ids=BREACHES)
def test_who_breaks_the_rules_is_told_and_closed(pair: Pair, sent: list[bytes], code: int) -> None:
    for data in sent:
        pair.send(data)
    pair.read()
    assert pair.protocol.close_rcvd is not None
    assert pair.protocol.close_rcvd.code == code
    assert pair.wait_end() is not None
    pair.theirs.close()
    pair.assert_nothing_is_left(closed=False)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc3"], ids=["no utf-8", "a surrogate", "half"])
def test_text_that_is_no_text(pair: Pair, data: bytes) -> None:
    """What a client says is not looked at, but for this: RFC 6455 section 8.1."""
    pair.send(masked(data))
    pair.read()
    assert pair.protocol.close_rcvd is not None
    assert pair.protocol.close_rcvd.code == 1007
    assert pair.wait_end() is not None
    pair.assert_nothing_is_left(closed=False)


def test_binary_need_not_be_text(pair: Pair) -> None:
    pair.send(masked(b"\xff\xfe", Opcode.BINARY, fin=False))
    pair.send(masked(b"\xff\xfe", Opcode.CONT))
    assert pair.phase is Phase.OPEN


def test_a_character_may_be_split_over_fragments(pair: Pair) -> None:
    pair.send(masked(b"\xc3", fin=False))
    pair.send(masked(b"\xa4", Opcode.CONT))
    assert pair.phase is Phase.OPEN


def test_half_a_character_must_go_on_in_the_next_fragment(pair: Pair) -> None:
    pair.send(masked(b"\xc3", fin=False))
    pair.send(masked(b"x", Opcode.CONT))
    assert pair.phase is Phase.CLOSING


def test_as_many_fragments_as_may_be(pair: Pair) -> None:
    pair.send(masked(b"", fin=False) + masked(b"", Opcode.CONT, False) * (MAX_FRAGMENTS - 1))
    pair.send(masked(b"", Opcode.CONT))
    assert pair.phase is Phase.OPEN
    assert not pair.has_parser()


# --- the end ---


def test_a_client_that_says_goodbye_is_answered_and_closed(pair: Pair) -> None:
    pair.protocol.send_close(1000, "done")
    pair.say()
    assert pair.wait_end() == Close(1000, "done")
    assert pair.protocol.state is CLOSED
    pair.assert_nothing_is_left(closed=True)


def test_goodbye_without_a_code(pair: Pair) -> None:
    pair.send(masked(b"", Opcode.CLOSE))
    answer = pair.wait_end()
    assert answer is not None
    pair.assert_nothing_is_left(closed=True)


@pytest.mark.parametrize("code", REASONS)
def test_a_client_that_is_told_to_go_answers_and_is_closed(pair: Pair, code: int) -> None:
    pair.client.close(code)
    over = code == CLOSE_EXPIRED  # everywhere, since a shard has ended it
    assert pair.link.released == [(over, [])]
    assert pair.link.closing == {pair.client}
    hint = ": retry in 1234 ms with the same conn_id" if code == CLOSE_GOING_AWAY else ""
    assert pair.wait_end() == Close(code, REASONS[code] + hint)
    assert pair.protocol.close_sent is not None
    pair.assert_nothing_is_left(closed=over)


def test_both_say_goodbye_at_once(pair: Pair) -> None:
    pair.protocol.send_close(1000)
    pair.client.close(CLOSE_DISCONNECTED)
    pair.say()
    assert pair.wait_end() == Close(CLOSE_DISCONNECTED, REASONS[CLOSE_DISCONNECTED])
    pair.assert_nothing_is_left(closed=False)


def test_who_does_not_answer_is_cut_when_its_time_is_over(pair: Pair) -> None:
    pair.client.close(CLOSE_DISCONNECTED)
    (waiting,) = pair.link.closing
    waiting.cut()  # type: ignore[attr-defined]
    pair.read()
    assert pair.ended
    pair.assert_nothing_is_left(closed=False)


def test_what_it_says_after_being_told_to_go_is_ignored(pair: Pair) -> None:
    pair.client.close(CLOSE_DISCONNECTED)
    pair.send(masked(b"ping", Opcode.PING))
    pair.send(masked(b"text"))
    pair.read()
    assert [frame.opcode for frame in pair.frames] == [Opcode.CLOSE]


def test_the_end_without_a_word_is_no_goodbye(pair: Pair) -> None:
    pair.theirs.close()
    pair.assert_nothing_is_left(closed=False)


def test_a_reset_is_no_goodbye(link: LinkOfOne, wait_for: Callable[..., None]) -> None:
    pair = Pair(link, wait_for)
    pair.client.deliver([ready(1)])
    pair.theirs.close()  # with something unread
    pair.assert_nothing_is_left(closed=False)


def test_a_write_into_a_broken_socket_is_unsent(link: LinkOfOne, wait_for: Callable[..., None]) -> None:
    pair = Pair(link, wait_for)
    pair.theirs.close()
    pair.client.deliver([ready(4), ready(5, topic="c/b")])
    pair.assert_nothing_is_left(closed=False, unsent=[Mark("c/a", 3), Mark("c/b", 4)])


# --- writing ---


def test_what_is_ready_goes_out_in_one_write(pair: Pair) -> None:
    pair.client.deliver([ready(1)])
    pair.client.deliver([ready(2), ready(3)])
    pair.read()
    assert [message[0]["n"] for message in pair.texts()] == [1, 2, 3]
    assert pair.client._outbox is None


@pytest.mark.parametrize("size", [10, 1000, 30_000])
def test_a_slow_reader_gets_everything_in_order(pair: Pair, size: int) -> None:
    total = 0
    numbers = 0
    while pair.client._outbox is None or numbers % 3:
        numbers += 1
        total += size
        pair.client.deliver([ready(numbers, size)])
    assert pair.link.behind == {pair.client}
    assert pair.client.direct_fd == -1  # what it is sent must not overtake what waits
    assert [mark.before for mark in pair.client.unsent()][-1] == numbers - 1
    assert [message[0]["n"] for message in pair.wait_texts(numbers)] == list(range(1, numbers + 1))
    pair.wait_for(lambda: pair.client._outbox is None)
    assert (pair.client._writer, pair.link.behind, pair.link.released) == (None, set(), [])
    assert pair.client.direct_fd == pair.fd
    pair.client.deliver([ready(numbers + 1)])
    assert pair.wait_texts(numbers + 1)[-1][0]["n"] == numbers + 1


@pytest.mark.parametrize("sent", [0, 3])
def test_who_was_sent_a_part_gets_the_rest_before_all_else(pair: Pair, sent: int) -> None:
    one = ready(1)
    pair.client._sock.send(one.frame[:sent])
    pair.client.took_part([one], one.frame, sent)
    assert (pair.client.direct_fd, pair.link.behind) == (-1, {pair.client})
    assert list(pair.client.unsent()) == [Mark("c/a", 0)]
    pair.client.deliver([ready(2)])
    assert [message[0]["n"] for message in pair.wait_texts(2)] == [1, 2]
    pair.wait_for(lambda: pair.client.direct_fd == pair.fd)


def test_who_says_goodbye_is_sent_nothing_any_more(pair: Pair) -> None:
    assert pair.client.direct_fd == pair.fd
    pair.client.close(CLOSE_DISCONNECTED)
    assert (pair.phase, pair.client.direct_fd) == (Phase.CLOSING, -1)


def test_a_slow_reader_is_not_pinged(pair: Pair) -> None:
    pair.client.deliver([ready(1, 100_000)])
    pair.client.ping()
    pair.wait_texts(1)
    pair.read()
    assert {frame.opcode for frame in pair.frames} == {Opcode.TEXT}


def fill(pair: Pair, size: int = 50_000) -> int:
    """Deliver until the client is too slow; how many that took."""
    number = 0
    while not pair.link.released:
        number += 1
        assert number < 100
        pair.client.deliver([ready(number, size)])
    return number


def test_a_client_that_stops_reading_is_closed_within_bounds(pair: Pair) -> None:
    other = Pair(pair.link, pair.wait_for)
    count = fill(pair)
    ((closed, unsent),) = pair.link.released
    assert not closed
    numbers = [mark.before + 1 for mark in unsent]
    assert numbers == list(range(numbers[0], count + 1))  # all that did not go out, the last one included
    assert pair.client._outbox is not None
    assert pair.client._outbox.bytes < 60_000  # of what waited only the frame under way is kept
    other.client.deliver([ready(1)])
    assert other.wait_texts(1)[0][0]["n"] == 1
    pair.link.released.clear()
    assert pair.wait_end() == Close(CLOSE_POLICY, REASONS[CLOSE_POLICY])
    got = [message[0]["n"] for message in pair.texts()]
    assert got == list(range(1, len(got) + 1))
    assert len(got) in (numbers[0] - 1, numbers[0])  # the frame under way may still have arrived
    pair.wait_for(lambda: pair.is_closed)
    other.client.cut()
    other.theirs.close()


def test_a_slow_client_that_never_reads_again_is_cut(pair: Pair) -> None:
    fill(pair)
    unsent = pair.link.released[0][1]
    (waiting,) = pair.link.closing
    waiting.cut()  # type: ignore[attr-defined]
    pair.assert_nothing_is_left(closed=False, unsent=unsent)


def test_a_goodbye_behind_a_full_queue_is_answered_before_the_end(pair: Pair) -> None:
    pair.client.deliver([ready(1, 100_000)])
    pair.send(masked((1000).to_bytes(2, "big"), Opcode.CLOSE))
    assert pair.phase is Phase.ENDING
    assert pair.link.released == [(True, [Mark("c/a", 0)])]
    assert pair.wait_end() == Close(1000, "")
    assert len(pair.texts()) == 1  # it was under way
    pair.assert_nothing_is_left(closed=True, unsent=[Mark("c/a", 0)])


def test_told_to_go_with_a_full_queue_only_what_is_under_way_goes_out(pair: Pair) -> None:
    pair.client.deliver([ready(1, 100_000)])
    pair.client.deliver([ready(2)])
    pair.client.close(CLOSE_DISCONNECTED)
    assert pair.link.released == [(False, [Mark("c/a", 0), Mark("c/a", 1)])]
    assert pair.link.behind == set()
    assert pair.wait_end() == Close(CLOSE_DISCONNECTED, REASONS[CLOSE_DISCONNECTED])
    assert [message[0]["n"] for message in pair.texts()] == [1]
    pair.assert_nothing_is_left(closed=False, unsent=[Mark("c/a", 0), Mark("c/a", 1)])


def test_pongs_for_one_that_does_not_read_are_bounded(pair: Pair) -> None:
    pings = masked(b"x" * 125, Opcode.PING) * 100
    for _ in range(100):
        if pair.link.released:
            break
        pair.client.feed(pings)
    assert [closed for closed, _ in pair.link.released] == [False]
    assert pair.client._outbox is not None
    assert pair.client._outbox.bytes < 200 * 1024


def test_nothing_keeps_a_closed_client_alive(link: LinkOfOne, wait_for: Callable[..., None]) -> None:
    pair = Pair(link, wait_for)
    pair.client.deliver([ready(1, 100_000)])
    pair.theirs.close()
    pair.assert_nothing_is_left(closed=False, unsent=[Mark("c/a", 0)])
    gone = weakref.ref(pair, lambda _: None)
    del pair
    gevent.sleep(0)
    gc.collect()
    assert gone() is None


# --- a slow client on channels that skip ---


def fill_and_skip(pair: Pair, size: int = 50_000) -> int:
    """Deliver until some was skipped; how many were delivered."""
    number = 0
    while not pair.link.counters.told().get("skipped"):
        number += 1
        assert number < 100
        pair.client.deliver([skippable(number, size)])
    return number


def test_a_client_that_stops_reading_stays_and_is_told_of_the_gap(pair: Pair) -> None:
    skipped_from = fill_and_skip(pair)
    for number in range(skipped_from + 1, skipped_from + 50):
        pair.client.deliver([skippable(number, 50_000)])
    assert pair.client._outbox is not None
    assert pair.client._outbox.bytes <= pair.link.config.max_queue
    assert pair.link.released == []
    got = [message[0] for message in pair.wait_texts(skipped_from)]
    assert [one["n"] for one in got[:-1]] == list(range(1, skipped_from))
    assert got[-1] == {"type": "gap", "channel": "a", "missed": 50}
    pair.wait_for(lambda: pair.client._outbox is None)
    pair.client.deliver([skippable(skipped_from + 50)])
    assert pair.wait_texts(skipped_from + 1)[-1][0]["n"] == skipped_from + 50
    assert pair.link.counters.told() == {"skipped": 50, "gaps_told": 1}
    assert (list(pair.client.unsent()), pair.link.behind) == ([], set())


def test_each_channel_has_its_gap(pair: Pair) -> None:
    number = fill_and_skip(pair)
    for one in (skippable(7, topic="c/b"), skippable(8, topic="c/b")):
        pair.client.deliver([one._replace(frame=b"x" * 200_000)])
    messages = pair.wait_texts(number + 1)
    assert [message[0] for message in messages[-2:]] == [
        {"type": "gap", "channel": "a", "missed": 1},
        {"type": "gap", "channel": "b", "missed": 2},
    ]


def test_what_was_skipped_and_not_told_is_unsent(pair: Pair) -> None:
    number = fill_and_skip(pair)
    pair.client.deliver([skippable(number + 1)])
    pair.client.cut()
    ((_, unsent),) = pair.link.released
    numbers = [mark.before + 1 for mark in unsent]
    assert numbers == list(range(numbers[0], number + 1))  # the second one that was skipped is behind the first


def test_a_gap_that_is_under_way_is_unsent(pair: Pair) -> None:
    number = fill_and_skip(pair)
    outbox = pair.client._outbox
    assert outbox is not None
    while outbox.bytes > pair.link.config.max_queue // 4:
        outbox.sent(len(outbox.first()))
    pair.client._tell_gaps(outbox)
    assert Mark("c/a", number - 1) in pair.client.unsent()
    pair.client.deliver([skippable(number + 1)])
    pair.client.cut()
    assert pair.link.released[0][1][-2:] == [Mark("c/a", number - 1), Mark("c/a", number)]


def test_a_channel_that_does_not_skip_closes_a_client_that_others_spared(pair: Pair) -> None:
    number = fill_and_skip(pair)
    pair.client.deliver([skippable(number + 1), ready(3, 60_000, "c/b"), skippable(number + 2), ready(4, topic="c/b")])
    ((closed, unsent),) = pair.link.released
    assert not closed
    assert {mark.topic: mark.before for mark in reversed(unsent)}["c/b"] == 2
    assert Mark("c/b", 3) in unsent
    assert Mark("c/a", number - 1) in unsent
    assert pair.wait_end() == Close(CLOSE_POLICY, REASONS[CLOSE_POLICY])
    assert not [one for message in pair.texts() for one in message if one.get("type") == "gap"]
    assert pair.link.counters.told() == {"skipped": 2, "slow_closed": 1}


def test_a_turn_that_brings_much_is_too_much_for_nobody_who_keeps_up(pair: Pair) -> None:
    turn = [ready(number, 2 * JOINED_BYTES) for number in range(1, 8)]
    pair.client.deliver(turn)
    assert pair.link.released == []
    assert [message[0]["n"] for message in pair.wait_texts(7)] == list(range(1, 8))


def test_of_a_turn_that_brings_much_only_what_fits_is_kept_where_it_may_be_skipped(pair: Pair) -> None:
    pair.client.deliver([skippable(number, 2 * JOINED_BYTES) for number in range(1, 8)])
    assert pair.client._outbox is not None
    assert pair.client._outbox.bytes <= pair.link.config.max_queue
    skipped = pair.link.counters.told()["skipped"]
    messages = pair.wait_texts(8 - skipped)
    assert messages[-1] == [{"type": "gap", "channel": "a", "missed": skipped}]


def test_all_of_a_turn_is_unsent_where_the_socket_breaks_in_it(pair: Pair) -> None:
    pair.theirs.close()
    pair.client.deliver([ready(number, 2 * JOINED_BYTES) for number in range(1, 4)])
    assert pair.link.released == [(False, [Mark("c/a", 0), Mark("c/a", 1), Mark("c/a", 2)])]


def test_pongs_for_a_client_that_does_not_read_are_bounded(pair: Pair) -> None:
    pair.client.deliver([ready(1, 150_000)])
    for _ in range(2000):
        if pair.phase is Phase.OPEN:
            pair.client.feed(masked(b"x" * 100, Opcode.PING))
    assert pair.phase is Phase.CLOSING
    assert pair.link.counters.told() == {"slow_closed": 1}


# --- one that agreed to compression ---


def claimed_compressed(payload: bytes) -> bytes:
    """A text frame with the bit that says that its payload is compressed."""
    frame = bytearray(masked(payload))
    frame[0] |= 0x40
    return bytes(frame)


class DeflatingPair(Pair):
    make = DeflatingClient


@pytest.fixture
def deflating(link: LinkOfOne, wait_for: Callable[..., None]) -> Iterator[DeflatingPair]:
    made = DeflatingPair(link, wait_for)
    made.protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    yield made
    made.client.cut()
    made.theirs.close()


def compressible(number: int) -> Ready:
    plain = ready(number, 5000)
    return plain._replace(deflated=deflated_frame(listed(plain.bodies)))


def test_it_is_given_the_compressed_frame_where_there_is_one(deflating: DeflatingPair) -> None:
    one = compressible(1)
    assert len(one.deflated) < 200
    deflating.client.deliver([one, ready(2)])
    assert [message[0]["n"] for message in deflating.wait_texts(2)] == [1, 2]


def test_when_it_is_slow_the_compressed_size_counts(deflating: DeflatingPair) -> None:
    deflating.client.took_part([ready(1)], ready(1).frame, 0)
    for number in range(2, 102):  # half a megabyte, compressed some kilobytes
        deflating.client.deliver([compressible(number)])
    assert not deflating.client.released
    assert [message[0]["n"] for message in deflating.wait_texts(101)] == list(range(1, 102))


@pytest.mark.parametrize("size", [1, 300, 900])
@pytest.mark.parametrize("cut", [1, 7, None])
def test_what_it_says_may_be_compressed_and_leaves_nothing(
    deflating: DeflatingPair, size: int, cut: int | None
) -> None:
    for _ in range(2):
        deflating.protocol.send_text(b"ab" * (size // 2) + b"c")
        data = b"".join(deflating.protocol.data_to_send())
        if cut is not None:
            deflating.send(data[:cut])
            assert deflating.has_parser()
            data = data[cut:]
        deflating.send(data)
        assert not deflating.has_parser()
    deflating.send(masked(b"plain"))
    assert (deflating.phase, deflating.has_parser()) == (Phase.OPEN, False)


def test_several_of_its_messages_in_one_go_leave_nothing(deflating: DeflatingPair) -> None:
    for number in range(5):
        deflating.protocol.send_text(b"again and " * 10 * number)
    deflating.send(b"".join(deflating.protocol.data_to_send()) + masked(b"", Opcode.PING))
    assert not deflating.has_parser()


def test_it_is_read_in_small_steps_since_each_may_become_large(deflating: DeflatingPair) -> None:
    deflating.theirs.sendall(masked(b"", Opcode.PING) * 1000)
    deflating.client.on_readable()
    assert len(deflating.client._sock.recv(10_000, socket.MSG_PEEK)) == 1000 * 6 - RECEIVE_BYTES
    deflating.wait_for(lambda: not deflating.has_parser(), "all was read")


def test_a_bomb_is_too_big(deflating: DeflatingPair) -> None:
    deflating.protocol.send_text(bytes(1 << 20))
    deflating.send(b"".join(deflating.protocol.data_to_send()))
    end = deflating.wait_end()
    assert end is not None
    assert end.code == CLOSE_TOO_BIG


def test_rubbish_that_claims_to_be_compressed_is_refused(deflating: DeflatingPair) -> None:
    deflating.send(claimed_compressed(b"\xff" * 20))
    end = deflating.wait_end()
    assert end is not None
    assert end.code == 1002


def test_compressed_text_has_to_be_text(deflating: DeflatingPair) -> None:
    deflating.protocol.send_binary(b"\xff\xfe" * 200)
    deflating.send(b"".join(deflating.protocol.data_to_send()))
    assert deflating.phase is Phase.OPEN
    frame = PerMessageDeflate(True, True, 15, 15).encode(Frame(Opcode.TEXT, b"\xff\xfe" * 200, True))
    deflating.send(claimed_compressed(bytes(frame.data)))
    end = deflating.wait_end()
    assert end is not None
    assert end.code == CLOSE_NOT_TEXT


def test_who_did_not_agree_may_not_compress(pair: Pair) -> None:
    pair.protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    pair.protocol.send_text(b"x" * 500)
    pair.send(b"".join(pair.protocol.data_to_send()))
    end = pair.wait_end()
    assert end is not None
    assert end.code == 1002
