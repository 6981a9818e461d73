"""A process's links to its shards, on gevent's loop. The shards are listeners of the memory bus, turned by hand.

Nothing here sleeps for a fixed time: a test waits until something is so, and fails if that takes much too long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import get_hub, getcurrent
from msgspec.structs import replace

from channelstream.bus import links as links_module
from channelstream.bus.base import Dialer, Received
from channelstream.bus.links import Links
from channelstream.bus.memory import MemoryBus, MemoryDialer
from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import monotonic
from channelstream.errors import ShardAway
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Beat,
    BeatAnswer,
    Claim,
    Claimed,
    Command,
    Deliver,
    Detach,
    Done,
    Drop,
    GetStatus,
    ProcessStatus,
    Result,
    ToPeer,
    TopicCursor,
    ToShard,
)

ME = "edge-0:e"
STATUS = ProcessStatus("edge", 0, 7, 50.0, "v")
NEVER_S = 60.0
"""A time-out that no test waits for."""


def until(condition: Callable[[], Any], what: str = "") -> None:
    """Let the loop turn until something is so."""
    give_up = monotonic() + 10.0
    while not condition():
        assert monotonic() < give_up, f"never happened: {what or condition}"
        gevent.sleep(0.0005)


class Group:
    """Links to shards that a test plays."""

    def __init__(self, shards: int = 2, timeout_s: float = NEVER_S, queue_bytes: int = 1 << 20) -> None:
        self.bus = MemoryBus()
        self.listeners = [self.bus.listen(f"shard-{index}", 1, 1 << 20) for index in range(shards)]
        self.dialers: list[Dialer] = [self.bus.dial(ME, f"shard-{index}", queue_bytes) for index in range(shards)]
        self.batches: list[list[list[ToShard]]] = [[] for _ in range(shards)]
        """Per shard: each batch that came, but for beats."""
        self.beats: list[list[Beat]] = [[] for _ in range(shards)]
        self.pushed: list[tuple[int, ToPeer]] = []
        self.in_hub: set[bool] = set()
        """Whether what came was handled in the loop's greenlet."""
        self.turns = 0
        self.sessions: list[int] = []
        self.moved: list[dict[str, int]] = [{} for _ in range(shards)]
        self.taken: list[dict[str, int]] = [{} for _ in range(shards)]
        self.on_push: Callable[[int, ToPeer], None] = lambda shard, message: self.pushed.append((shard, message))
        self.links = self.make_links(timeout_s)

    def make_links(self, timeout_s: float) -> Links:
        """Over whatever the dialers are now."""
        return Links(
            self.dialers,
            timeout_s,
            self._push,
            self.sessions.append,
            self._turn,
            lambda: STATUS,
            self._cursors,
            taken=self.taken.__getitem__,
        )

    def _push(self, shard: int, message: ToPeer) -> None:
        self.in_hub.add(getcurrent() is get_hub())
        self.on_push(shard, message)

    def _turn(self) -> None:
        self.in_hub.add(getcurrent() is get_hub())
        self.turns += 1

    def _cursors(self, shard: int) -> dict[str, int]:
        moved, self.moved[shard] = self.moved[shard], {}
        return moved

    # --- the shards' side ---

    def collect(self) -> None:
        """Take what has come at the shards."""
        for shard, listener in enumerate(self.listeners):
            for received in listener.receive(0.0):
                messages: list[ToShard] = [one for one in received.messages if not isinstance(one, Beat)]
                self.beats[shard] += [one for one in received.messages if isinstance(one, Beat)]
                if messages:
                    self.batches[shard].append(messages)

    def beats_at(self, shard: int) -> list[Beat]:
        """All beats that have come at a shard."""
        self.collect()
        return self.beats[shard]

    def came(self, shard: int) -> list[ToShard]:
        """All that has come at a shard, but for beats."""
        self.collect()
        return [message for batch in self.batches[shard] for message in batch]

    def asks(self, shard: int, number: int = 1) -> list[Ask]:
        """Wait for so many asks."""
        until(lambda: len(self.came(shard)) >= number, f"{number} asks at shard {shard}")
        return [message for message in self.came(shard) if isinstance(message, Ask)]

    def send(self, shard: int, *messages: ToPeer) -> None:
        """Send these as one batch."""
        for message in messages:
            self.listeners[shard].send(ME, codec.encode(message))
        self.listeners[shard].flush()

    def pipe_up(self, shard: int) -> Any:
        """The pipe to a shard."""
        return self.bus.links[ME, f"shard-{shard}"].up


@pytest.fixture
def make_group() -> Iterator[Callable[..., Group]]:
    """Groups that are closed at the end. `started`: whether they are watched and beat already."""
    groups: list[Group] = []

    def make(started: bool = True, **more: Any) -> Group:
        group = Group(**more)
        groups.append(group)
        if started:
            group.links.start()
        return group

    yield make
    for group in groups:
        group.links.close()
        gevent.sleep(0)  # what was put off until the loop's next turn finds everything closed
        group.bus.close()


@pytest.fixture
def group(make_group: Callable[..., Group]) -> Group:
    """Links to two shards."""
    return make_group()


@pytest.fixture
def no_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the regular look at the sockets: what is missed stays missed."""
    monkeypatch.setattr(links_module, "BEAT_S", NEVER_S)


@pytest.fixture(autouse=True)
def errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[type]]:
    """What callbacks and greenlets raise ends in the hub, which only prints it: here it fails the test."""
    errors: list[type] = []
    monkeypatch.setattr(get_hub(), "handle_error", lambda where, kind, *error: errors.append(kind))
    yield errors
    gevent.sleep(0)
    assert errors == []


def ask(group: Group, shard: int, command: Command | None = None) -> Any:
    """A greenlet that asks."""
    return gevent.spawn(group.links.ask_all, [(shard, command or GetStatus())])


def result_of(greenlet: Any) -> Result | ShardAway:
    """What a greenlet got."""
    (result,) = greenlet.get(timeout=10.0)
    answer: Result | ShardAway = result
    return answer


def assert_away(greenlet: Any, why: str) -> None:
    """The one shard that a greenlet asked is away."""
    result = result_of(greenlet)
    assert isinstance(result, ShardAway)
    assert str(result) == why


# --- asking ---


def test_an_ask_is_answered(group: Group) -> None:
    greenlet = ask(group, 1, Claim("key", 1.0))
    (asked,) = group.asks(1)

    group.send(1, Answer(asked.number, Claimed(True)))

    assert result_of(greenlet) == Claimed(True)
    assert asked.command == Claim("key", 1.0)


def test_an_ask_carries_its_deadline(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=5.0)
    before = monotonic()

    ask(group, 0)

    (asked,) = group.asks(0)
    assert before + 5.0 <= asked.deadline <= monotonic() + 5.0


def test_asking_one_shard_gives_its_answer_or_raises(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=1.0)
    told: list[Result | ShardAway] = []

    def ask_twice() -> None:
        told.append(group.links.ask(0, GetStatus()))
        try:
            group.links.ask(0, GetStatus())
        except ShardAway as away:
            told.append(away)

    greenlet = gevent.spawn(ask_twice)
    (asked,) = group.asks(0)
    group.send(0, Answer(asked.number, Done()))

    greenlet.get(timeout=10.0)
    assert [type(one) for one in told] == [Done, ShardAway]


def test_several_shards_are_asked_at_once(group: Group) -> None:
    greenlet = gevent.spawn(group.links.ask_all, [(1, GetStatus()), (0, GetStatus())])
    (at_one,), (at_zero,) = group.asks(1), group.asks(0)  # both are there before any answer is

    group.send(0, Answer(at_zero.number, Claimed(False)))
    group.send(1, Answer(at_one.number, Claimed(True)))

    assert greenlet.get(timeout=10.0) == [Claimed(True), Claimed(False)]


def test_one_shard_may_be_asked_several_things_at_once(group: Group) -> None:
    commands = [(0, Claim(key, 1.0)) for key in ("a", "b", "a")]
    greenlet = gevent.spawn(group.links.ask_all, commands)
    asked = group.asks(0, 3)
    assert [one.command for one in asked] == [command for _, command in commands]

    for one, fresh in zip(reversed(asked), (False, True, True), strict=True):
        group.send(0, Answer(one.number, Claimed(fresh)))

    assert greenlet.get(timeout=10.0) == [Claimed(True), Claimed(True), Claimed(False)]


def test_asking_nothing_does_not_wait(group: Group) -> None:
    assert group.links.ask_all([]) == []


def test_asks_of_one_turn_go_out_as_one_batch(group: Group) -> None:
    for _ in range(10):
        ask(group, 0)
    gevent.spawn(group.links.ask_all, [(0, GetStatus())] * 20)

    group.asks(0, 30)

    assert [len(batch) for batch in group.batches[0]] == [30]


def test_what_is_told_goes_out_in_the_same_batch_and_order(group: Group) -> None:
    ask(group, 0)
    gevent.spawn(group.links.tell, 0, Detach("x", 1, True, []))

    until(lambda: len(group.came(0)) == 2)

    assert [[type(message) for message in batch] for batch in group.batches[0]] == [[Ask, Detach]]


def test_without_an_answer_the_shard_is_away(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.02)

    assert_away(ask(group, 1), "shard 1: no answer within the deadline")
    assert group.links.counters.told() == {"asks_overdue": 1}


def test_each_is_told_at_its_own_deadline(make_group: Callable[..., Group], no_beats: None) -> None:
    group = make_group(timeout_s=0.1)
    began = monotonic()
    first = ask(group, 0)
    group.asks(0)
    gevent.spawn_later(0.05, lambda: later.append(ask(group, 1)))
    later: list[Any] = []

    assert_away(first, "shard 0: no answer within the deadline")
    assert monotonic() - began >= 0.1
    assert not later[0].ready()
    assert_away(later[0], "shard 1: no answer within the deadline")


def test_no_timer_runs_when_nothing_was_asked_for_long(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.02)
    answered = ask(group, 0)
    (asked,) = group.asks(0)
    group.send(0, Answer(asked.number, Done()))
    result_of(answered)

    until(lambda: group.links._next_due is None)

    assert_away(ask(group, 0), "shard 0: no answer within the deadline")


def test_who_asks_again_when_it_is_told_is_told_again(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.02)

    def ask_thrice() -> int:
        return sum(isinstance(group.links.ask_all([(0, GetStatus())])[0], ShardAway) for _ in range(3))

    assert gevent.spawn(ask_thrice).get(timeout=10.0) == 3


def test_closing_when_one_is_told_that_its_time_is_over(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.02)
    other = ask(group, 1)

    def ask_and_close() -> None:
        group.links.ask_all([(0, GetStatus())])
        group.links.close()

    gevent.spawn(ask_and_close).get(timeout=10.0)

    assert isinstance(result_of(other), ShardAway)


def test_of_several_only_the_one_without_an_answer_is_away(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=1.0)
    greenlet = gevent.spawn(group.links.ask_all, [(0, GetStatus()), (1, GetStatus())])
    (asked,) = group.asks(1)

    group.send(1, Answer(asked.number, Done()))

    away, done = greenlet.get(timeout=10.0)
    assert isinstance(away, ShardAway)
    assert away.shard == 0
    assert done == Done()


def test_a_late_answer_is_nobodys(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.02)
    late = ask(group, 0)
    (asked,) = group.asks(0)
    assert_away(late, "shard 0: no answer within the deadline")
    group.send(0, Answer(asked.number, Claimed(True)), Answer(99, Claimed(True)))

    answered = ask(group, 0)
    (_, again) = group.asks(0, 2)
    group.send(0, Answer(again.number, Claimed(False)))

    assert result_of(answered) == Claimed(False)


def test_an_answer_that_comes_twice_counts_once(group: Group) -> None:
    greenlet = gevent.spawn(group.links.ask_all, [(0, GetStatus()), (1, GetStatus())])
    (at_zero,), (at_one,) = group.asks(0), group.asks(1)

    group.send(0, Answer(at_zero.number, Claimed(True)), Answer(at_zero.number, Claimed(False)))
    group.send(1, Answer(at_one.number, Done()))

    assert greenlet.get(timeout=10.0) == [Claimed(True), Done()]


def test_numbers_of_two_shards_are_not_mixed_up(group: Group) -> None:
    first, second = ask(group, 0), ask(group, 1)
    (at_zero,), (at_one,) = group.asks(0), group.asks(1)
    assert at_zero.number == at_one.number

    group.send(1, Answer(at_one.number, Claimed(True)))
    assert result_of(second) == Claimed(True)
    assert not first.ready()

    group.send(0, Answer(at_zero.number, Claimed(False)))
    assert result_of(first) == Claimed(False)


def test_a_full_queue_is_a_shard_that_is_away_at_once(make_group: Callable[..., Group]) -> None:
    group = make_group(started=False, queue_bytes=100)
    group.pipe_up(0).capacity = 0
    greenlet = gevent.spawn(group.links.ask_all, [(0, Claim("k" * 200, 1.0))])  # an empty queue takes any size
    until(lambda: group.links.waiting_bytes() > 200)

    (away,) = group.links.ask_all([(0, GetStatus())])  # would wait for ever if it waited

    assert isinstance(away, ShardAway)
    assert "queue to shard-0 is full" in str(away)
    # Nor is there room for the beat that the link has brought.
    assert group.links.counters.told() == {"asks_refused": 1, "tells_dropped": 1}
    assert not greenlet.ready()


def test_a_full_queue_does_not_stop_the_asks_of_other_shards(make_group: Callable[..., Group]) -> None:
    group = make_group(queue_bytes=100)
    until(lambda: group.beats_at(0))
    group.pipe_up(0).capacity = 0
    ask(group, 0, Claim("k" * 200, 1.0))
    until(lambda: group.links.waiting_bytes() > 200)
    greenlet = gevent.spawn(group.links.ask_all, [(0, GetStatus()), (1, GetStatus())])
    (asked,) = group.asks(1)

    group.send(1, Answer(asked.number, Done()))

    away, done = greenlet.get(timeout=10.0)
    assert (type(away), done) == (ShardAway, Done())


def test_telling_with_a_full_queue_says_so(make_group: Callable[..., Group], caplog: pytest.LogCaptureFixture) -> None:
    group = make_group(started=False, queue_bytes=100)
    group.pipe_up(0).capacity = 0

    assert group.links.tell(0, Detach("x" * 200, 1, True, [])) is True
    with caplog.at_level(logging.WARNING):
        assert group.links.tell(0, Detach("x", 1, True, [])) is False

    assert "queue to shard-0 is full" in caplog.text
    assert group.links.counters.told() == {"tells_dropped": 1}


def test_so_many_asks_of_a_shard_may_be_open_and_no_more(
    make_group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "MAX_OPEN_ASKS", 3)
    group = make_group()
    waiting = [ask(group, 0) for _ in range(3)]
    asked = group.asks(0, 3)

    assert_away(ask(group, 0), "shard 0: 3 asks wait for an answer already")
    assert group.links.counters.told() == {"asks_refused": 1}
    other = ask(group, 1)
    (at_one,) = group.asks(1)
    group.send(1, Answer(at_one.number, Done()))
    assert result_of(other) == Done()

    group.send(0, Answer(asked[0].number, Done()))
    assert result_of(waiting[0]) == Done()
    ask(group, 0)
    group.asks(0, 4)


def test_what_a_link_does_not_take_goes_out_when_it_does(make_group: Callable[..., Group], no_beats: None) -> None:
    group = make_group()
    until(lambda: group.beats_at(0))
    group.pipe_up(0).capacity = 1
    greenlets = [ask(group, 0)]
    until(lambda: not group.pipe_up(0).empty())
    greenlets.append(ask(group, 0))
    until(lambda: group.links.waiting_bytes() > 0)

    for asked in group.asks(0, 2):
        group.send(0, Answer(asked.number, Done()))

    assert [result_of(greenlet) for greenlet in greenlets] == [Done(), Done()]


def test_what_waits_goes_out_although_nothing_is_taken(make_group: Callable[..., Group], no_beats: None) -> None:
    group = make_group()
    until(lambda: group.beats_at(0))
    group.links.paused = lambda: True
    group.pipe_up(0).capacity = 1
    for _ in range(2):
        ask(group, 0)
        until(lambda: not group.pipe_up(0).empty())
    until(lambda: group.links.waiting_bytes() > 0)

    group.asks(0, 2)


# --- greenlets that go away ---


def test_a_greenlet_that_is_killed_while_it_waits_harms_nobody(group: Group) -> None:
    killed, other = ask(group, 0), ask(group, 0)
    first, second = group.asks(0, 2)

    killed.kill()
    group.send(0, Answer(first.number, Claimed(False)), Answer(second.number, Claimed(True)))

    assert result_of(other) == Claimed(True)
    assert killed.dead


def test_an_ask_whose_greenlet_was_killed_expires(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.02)
    killed = ask(group, 0)
    group.asks(0)
    killed.kill()

    assert_away(ask(group, 0), "shard 0: no answer within the deadline")


def test_a_greenlet_that_is_answered_and_killed_in_one_turn_ends_once(group: Group) -> None:
    got: list[Result] = []
    greenlet = gevent.spawn(lambda: got.append(group.links.ask(0, GetStatus())))
    (asked,) = group.asks(0)

    group.send(0, Answer(asked.number, Done()))
    greenlet.kill(block=False)

    until(lambda: greenlet.dead)
    assert got in ([], [Done()])


def test_a_greenlet_with_its_own_time_limit_may_ask_again(group: Group) -> None:
    def impatient() -> Result:
        with gevent.Timeout(0.01, False):
            group.links.ask(0, Claim("first", 1.0))
        return group.links.ask(0, Claim("second", 1.0))

    greenlet = gevent.spawn(impatient)
    first, second = group.asks(0, 2)

    group.send(0, Answer(first.number, Claimed(False)))
    group.send(0, Answer(second.number, Claimed(True)))

    assert greenlet.get(timeout=10.0) == Claimed(True)


def test_a_greenlet_that_fails_after_its_answer_does_not_stop_the_next_one(group: Group, errors: list[type]) -> None:
    def fail() -> None:
        group.links.ask(0, GetStatus())
        raise ValueError("a fault of the caller")

    failing, other = gevent.spawn(fail), ask(group, 0)
    first, second = group.asks(0, 2)

    group.send(0, Answer(first.number, Done()), Answer(second.number, Done()))

    assert result_of(other) == Done()
    until(lambda: failing.dead)
    assert errors == [ValueError]
    errors.clear()


# --- what comes unasked ---


def deliver(seq: int) -> Deliver:
    """A delivery."""
    return Deliver("c/a", seq, [b"{}"])


def test_pushes_are_handled_in_order_in_the_loops_own_greenlet(group: Group) -> None:
    group.send(0, deliver(1), deliver(2))
    group.send(0, deliver(3))
    until(lambda: len(group.pushed) == 3)
    group.send(1, deliver(4))
    until(lambda: len(group.pushed) == 4)

    assert group.pushed == [(0, deliver(1)), (0, deliver(2)), (0, deliver(3)), (1, deliver(4))]
    assert group.in_hub == {True}


def test_a_turn_is_told_once_after_all_that_was_there(group: Group) -> None:
    seen: list[int] = []
    group.on_push = lambda shard, message: seen.append(group.turns)

    group.send(0, *[deliver(seq) for seq in range(100)])
    group.send(0, *[deliver(seq) for seq in range(100)])

    until(lambda: len(seen) == 200)
    assert (set(seen), group.turns) == ({0}, 1)


def test_who_was_answered_goes_on_before_what_was_sent_behind_the_answer(group: Group) -> None:
    happened: list[str] = []
    group.on_push = lambda shard, message: happened.append("pushed")
    greenlet = gevent.spawn(lambda: happened.append(type(group.links.ask(0, GetStatus())).__name__))
    (asked,) = group.asks(0)

    group.send(0, Answer(asked.number, Done()), Drop("x", 1, 4001))

    until(lambda: greenlet.dead and len(happened) == 2)
    assert happened == ["Done", "pushed"]


def test_one_push_that_cannot_be_handled_costs_no_other(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    def fail_at_two(shard: int, message: ToPeer) -> None:
        assert isinstance(message, Deliver)
        if message.seq == 2:
            raise ValueError("a fault of ours")
        group.pushed.append((shard, message))

    group.on_push = fail_at_two
    greenlet = ask(group, 0)
    (asked,) = group.asks(0)

    with caplog.at_level(logging.ERROR):
        group.send(0, deliver(1), deliver(2), deliver(3), Answer(asked.number, Done()))

        assert result_of(greenlet) == Done()
        until(lambda: group.turns == 1)
    assert group.pushed == [(0, deliver(1)), (0, deliver(3))]
    assert "a fault of ours" in caplog.text


# --- descriptors that tell once ---


class OneAtATime:
    """A dialer that gives one message at a look, with a descriptor that tells once, as ZeroMQ's does."""

    def __init__(self, dialer: MemoryDialer) -> None:
        self._dialer = dialer
        self._read: list[ToPeer] = []
        self.undecodable = 0
        self.former_owners = 0
        self.holes = 0
        self.complaint = ""
        self.arrives_with_flush: list[ToPeer] = []
        """Becomes readable by a flush, and the descriptor says nothing of it."""

    @property
    def connected(self) -> bool:
        """See `Dialer`."""
        return self._dialer.connected

    @property
    def times_made(self) -> int:
        """See `Dialer`."""
        return self._dialer.times_made

    def look(self) -> None:
        """See `Dialer`."""
        self._dialer.look()

    def link_fileno(self) -> int:
        """See `Dialer`."""
        return self._dialer.link_fileno()

    def send(self, encoded: bytes) -> None:
        """See `Dialer`."""
        self._dialer.send(encoded)

    def send_first(self, encoded: Sequence[bytes]) -> None:
        """See `Dialer`."""
        self._dialer.send_first(encoded)

    def flush(self) -> None:
        """See `Dialer`."""
        self._dialer.flush()
        self._read += self.arrives_with_flush
        self.arrives_with_flush = []

    def receive(self) -> list[ToPeer]:
        """See `Dialer`."""
        self._read += self._dialer.receive()
        first, self._read = self._read[:1], self._read[1:]
        return first

    def has_work(self) -> bool:
        """See `Dialer`."""
        return bool(self._read) or self._dialer.has_work()

    def fileno(self) -> int:
        """See `Dialer`."""
        return self._dialer.fileno()

    def waiting_bytes(self) -> int:
        """See `Dialer`."""
        return self._dialer.waiting_bytes()

    def close(self) -> None:
        """See `Dialer`."""
        self._dialer.close()


@pytest.fixture
def slow_group(make_group: Callable[..., Group], no_beats: None) -> Group:
    """A link to one shard whose dialer gives one message at a look."""
    group = make_group(started=False, shards=1)
    (dialer,) = group.dialers
    assert isinstance(dialer, MemoryDialer)
    group.dialers = [OneAtATime(dialer)]
    group.links = group.make_links(NEVER_S)
    group.links.start()
    until(lambda: group.beats_at(0))
    return group


def test_all_is_read_though_the_descriptor_told_once(slow_group: Group) -> None:
    slow_group.send(0, *[deliver(seq) for seq in range(50)])

    until(lambda: len(slow_group.pushed) == 50)
    assert [message for _, message in slow_group.pushed] == [deliver(seq) for seq in range(50)]


def test_what_a_flush_made_readable_is_read(slow_group: Group) -> None:
    (dialer,) = slow_group.dialers
    assert isinstance(dialer, OneAtATime)
    dialer.arrives_with_flush = [deliver(1), deliver(2)]

    slow_group.links.tell(0, Detach("x", 1, True, []))

    until(lambda: len(slow_group.pushed) == 2)


def test_a_wake_up_that_was_missed_is_made_up_for_with_the_next_beat(often: None, group: Group) -> None:
    link = group.bus.links[ME, "shard-0"]
    link.down.held = True
    group.send(0, deliver(1))

    link.down.held = False  # without the word that `release` gives

    until(lambda: group.pushed == [(0, deliver(1))])


# --- beats ---


def answer_beats(group: Group, session: str, shard: int = 0) -> None:
    """Answer one more beat with this session."""
    group.beats[shard].clear()
    until(lambda: group.beats_at(shard), "a beat")
    group.send(shard, BeatAnswer(session))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats without much waiting in between."""
    monkeypatch.setattr(links_module, "BEAT_S", 0.01)


def test_a_beat_goes_to_every_shard_with_status_and_cursors(make_group: Callable[..., Group]) -> None:
    group = make_group(started=False)
    group.moved = [{"c/a": 3}, {"c/b": 4}]

    group.links.start()

    until(lambda: all(group.beats_at(shard) for shard in (0, 1)))
    assert [beats[0] for beats in group.beats] == [Beat("", STATUS, {"c/a": 3}), Beat("", STATUS, {"c/b": 4})]


def test_a_beat_tells_of_connections_that_are_held(make_group: Callable[..., Group]) -> None:
    group = make_group(started=False)
    group.taken[1]["k"] = 7

    group.links.start()

    until(lambda: all(group.beats_at(shard) for shard in (0, 1)))
    assert [beats[0].taken for beats in group.beats] == [{}, {"k": 7}]


def test_beats_go_on_and_name_the_session(often: None, group: Group) -> None:
    answer_beats(group, "s-1")

    until(lambda: [beat.session for beat in group.beats_at(0)[-2:]] == ["s-1", "s-1"])
    assert {beat.session for beat in group.beats[1]} == {""}


def test_every_session_is_told_once_and_another_one_is_news(
    often: None, group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    answer_beats(group, "s-1")
    answer_beats(group, "s-1")
    until(lambda: group.beats_at(0)[-1].session == "s-1")
    assert group.sessions == [0]
    assert caplog.text == ""

    with caplog.at_level(logging.WARNING):
        answer_beats(group, "s-2")
        answer_beats(group, "s-2")
        until(lambda: group.beats_at(0)[-1].session == "s-2")

    assert group.sessions == [0, 0]
    assert "shard 0 has forgotten this process" in caplog.text


def test_ready_is_when_every_shard_has_answered(often: None, group: Group) -> None:
    assert not group.links.ready
    answer_beats(group, "s-1", 0)
    until(lambda: group.beats_at(0)[-1].session == "s-1")
    assert not group.links.ready

    answer_beats(group, "t-1", 1)

    until(lambda: group.links.ready)


def test_a_shard_that_has_not_answered_for_long_is_not_there(
    often: None, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_beats(group, "s-1", 0)
    answer_beats(group, "t-1", 1)
    until(lambda: group.links.ready)

    monkeypatch.setattr(links_module, "ANSWERED_WITHIN_S", 0.0)

    assert not group.links.ready


# --- asks that may be lost ---


def asked_once(group: Group, *keys: str) -> tuple[list[Any], list[Ask]]:
    """Greenlets with one ask each at shard 0, and what came there."""
    greenlets = [ask(group, 0, Claim(key, 1.0)) for key in keys]
    return greenlets, group.asks(0, len(keys))


def again(asks: Sequence[Ask]) -> list[Ask]:
    """The same, marked as said before."""
    return [replace(one, again=True) for one in asks]


def test_what_is_open_is_asked_again_of_a_new_life(often: None, group: Group) -> None:
    answer_beats(group, "s-1")
    until(lambda: group.beats_at(0)[-1].session == "s-1")
    greenlets, first = asked_once(group, "a", "b", "c")
    group.send(0, Answer(first[1].number, Claimed(True)))
    result_of(greenlets[1])

    answer_beats(group, "s-2")

    assert group.asks(0, 5) == [*first, *again([first[0], first[2]])]
    group.send(0, Answer(first[0].number, Claimed(True)), Answer(first[2].number, Claimed(False)))
    assert [result_of(greenlet) for greenlet in greenlets] == [Claimed(True), Claimed(True), Claimed(False)]


def test_what_is_answered_behind_the_news_is_not_asked_again(often: None, group: Group) -> None:
    answer_beats(group, "s-1")
    until(lambda: group.beats_at(0)[-1].session == "s-1")
    greenlets, first = asked_once(group, "a", "b")
    group.beats[0].clear()
    until(lambda: group.beats_at(0), "a beat after the asks")

    group.send(0, BeatAnswer("s-2"), Answer(first[0].number, Claimed(True)))

    assert group.asks(0, 3) == [*first, *again(first[1:])]
    assert result_of(greenlets[0]) == Claimed(True)


def test_what_was_asked_after_the_beat_came_to_the_same_life(group: Group, no_beats: None) -> None:
    until(lambda: group.beats_at(0))
    _, first = asked_once(group, "a")

    group.send(0, BeatAnswer("s-1"))

    until(lambda: group.sessions == [0])
    gevent.sleep(0)
    assert group.came(0) == first


def test_what_may_have_been_answered_in_a_hole_is_asked_again(make_group: Callable[..., Group], no_beats: None) -> None:
    group = make_group()
    until(lambda: group.beats_at(0))
    greenlets, first = asked_once(group, "a")
    down = group.bus.links[ME, "shard-0"].down
    group.send(0, BeatAnswer("s-1"))
    until(lambda: group.sessions == [0])
    down.held = True
    group.send(0, Answer(first[0].number, Claimed(True)))
    down.lose_all()
    down.release()

    group.send(0, deliver(1))

    assert group.asks(0, 2) == [*first, *again(first)]
    group.send(0, Answer(first[0].number, Claimed(True)))
    assert result_of(greenlets[0]) == Claimed(True)


def test_what_is_over_is_not_asked_again(often: None, make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.05)
    answer_beats(group, "s-1")
    until(lambda: group.beats_at(0)[-1].session == "s-1")
    greenlets, first = asked_once(group, "a")
    assert_away(greenlets[0], "shard 0: no answer within the deadline")

    answer_beats(group, "s-2")

    until(lambda: group.beats_at(0)[-1].session == "s-2")
    assert group.came(0) == first


def test_what_open_asks_hold_is_bounded(make_group: Callable[..., Group]) -> None:
    group = make_group(started=False)
    group.links = Links(
        group.dialers, NEVER_S, group._push, group.sessions.append, group._turn, lambda: STATUS, group._cursors, 100
    )
    group.links.start()
    waiting, _ = asked_once(group, "a" * 60)

    refused = result_of(ask(group, 0, Claim("b" * 60, 1.0)))

    assert "queue to shard 0 is full" in str(refused)
    group.send(0, Answer(group.asks(0)[0].number, Claimed(True)))
    assert result_of(waiting[0]) == Claimed(True)
    ask(group, 0, Claim("c" * 60, 1.0))
    group.asks(0, 2)


# --- links that are made, and gone ---


def both_are_there(group: Group) -> None:
    """Answer the first beats."""
    until(lambda: group.beats_at(0) and group.beats_at(1))
    group.send(0, BeatAnswer("s-1"))
    group.send(1, BeatAnswer("t-1"))
    until(lambda: group.links.ready)


def test_a_link_that_is_made_brings_a_beat_at_once(no_beats: None, make_group: Callable[..., Group]) -> None:
    group = make_group()  # beats but once
    answer_beats(group, "s-1")
    until(lambda: group.sessions == [0])
    group.listeners[0].close()
    group.listeners[0] = group.bus.listen("shard-0", 2, 1 << 20)

    until(lambda: group.beats_at(0)[-1].session == "s-1")


def test_a_shard_whose_link_is_gone_is_not_there_and_the_others_hear_of_it(
    no_beats: None, make_group: Callable[..., Group]
) -> None:
    group = make_group()
    both_are_there(group)
    group.beats[1].clear()

    group.listeners[0].close()

    until(lambda: not group.links.ready)
    until(lambda: group.beats_at(1))


def test_one_whose_link_is_made_again_is_there_when_it_has_answered(
    no_beats: None, make_group: Callable[..., Group]
) -> None:
    group = make_group()
    both_are_there(group)
    group.listeners[0].close()
    group.listeners[0] = group.bus.listen("shard-0", 2, 1 << 20)

    until(lambda: not group.links.ready)

    until(lambda: group.beats_at(0))
    group.send(0, BeatAnswer("s-2"))

    until(lambda: group.links.ready)
    assert group.sessions.count(0) == 2


def detach(conn_id: str) -> Detach:
    return Detach(conn_id, 1, False, [TopicCursor("c/a", "e", 7)])


def test_who_has_left_is_told_again_on_the_next_link_and_before_all_that_waits(
    no_beats: None, make_group: Callable[..., Group]
) -> None:
    """How far it was served is known to nobody else, and who asks for the connection next is given what follows."""
    group = make_group()
    both_are_there(group)
    group.links.tell(0, detach("x"))
    until(lambda: group.came(0))
    group.links.tell(0, detach("y"))
    group.links.tell(1, detach("z"))
    gevent.sleep(0)
    group.pipe_up(0).lose_all()  # the shard had not taken it when it ended
    group.listeners[0].close()
    until(lambda: not group.dialers[0].connected)
    group.batches[0].clear()
    ask(group, 0, Claim("c", 1.0))
    gevent.sleep(0)

    group.listeners[0] = group.bus.listen("shard-0", 2, 1 << 20)

    until(lambda: len(group.came(0)) == 3)
    assert group.came(0)[:2] == [detach("x"), detach("y")]
    assert isinstance(group.came(0)[2], Ask)
    assert group.came(1) == [detach("z")]


def test_what_is_long_past_is_not_told_again(often: None, group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "PARTINGS_KEPT_S", 0.0)
    both_are_there(group)
    group.links.tell(0, detach("x"))
    until(lambda: group.came(0))
    before = len(group.beats_at(0))
    until(lambda: len(group.beats_at(0)) > before + 1)
    group.listeners[0].close()
    group.batches[0].clear()
    group.listeners[0] = group.bus.listen("shard-0", 2, 1 << 20)

    until(lambda: group.dialers[0].times_made == 2 and len(group.beats_at(0)) > before + 4)
    assert group.came(0) == []


def test_nothing_is_said_of_life_to_a_shard_without_a_link(often: None, group: Group) -> None:
    until(lambda: group.beats_at(0))
    group.listeners[0].close()
    until(lambda: not group.dialers[0].connected)
    group.dialers[0].flush()
    group.beats_at(0)
    group.beats[1].clear()

    until(lambda: len(group.beats_at(1)) > 3)

    assert group.dialers[0].waiting_bytes() == 0


# --- the end ---


def test_closing_fails_the_asks_that_are_open(group: Group) -> None:
    waiting = [ask(group, 0), ask(group, 1), gevent.spawn(group.links.ask_all, [(0, GetStatus()), (1, GetStatus())])]
    group.asks(0, 2)

    group.links.close()

    assert_away(waiting[0], "shard 0: this process is stopping")
    assert_away(waiting[1], "shard 1: this process is stopping")
    assert [str(away) for away in waiting[2].get(timeout=10.0)] == [
        "shard 0: this process is stopping",
        "shard 1: this process is stopping",
    ]


def test_what_was_told_last_goes_out_before_the_end(group: Group) -> None:
    group.links.tell(0, Detach("x", 1, True, []))

    group.links.close()

    assert group.came(0) == [Detach("x", 1, True, [])]


def test_after_the_end_every_shard_is_away_at_once(group: Group) -> None:
    group.links.close()

    (away,) = group.links.ask_all([(0, GetStatus())])

    assert str(away) == "shard 0: this process is stopping"
    assert group.links.tell(0, Detach("x", 1, True, [])) is False
    assert group.came(0) == []


def test_who_asks_again_at_the_end_is_told_again(group: Group) -> None:
    def stubborn() -> list[str]:
        told = []
        for _ in range(3):
            try:
                group.links.ask(0, GetStatus())
            except ShardAway as away:
                told.append(away.detail)
        return told

    greenlet = gevent.spawn(stubborn)
    group.asks(0)

    group.links.close()

    assert greenlet.get(timeout=10.0) == ["this process is stopping"] * 3


def test_closing_from_what_was_pushed(group: Group) -> None:
    waiting = ask(group, 1)
    (asked,) = group.asks(1)
    group.on_push = lambda shard, message: group.links.close()

    group.send(0, Drop("x", 1, 1001), Drop("y", 1, 1001))

    assert_away(waiting, "shard 1: this process is stopping")
    group.send(1, Answer(asked.number, Done()))
    gevent.sleep(0)


def test_closing_twice_is_closing(group: Group) -> None:
    group.links.close()
    group.links.close()


# --- over ZeroMQ, whose descriptor is edge-triggered ---


class Echo(threading.Thread):
    """A shard that answers every ask with `Done`, and sends a delivery behind each answer."""

    def __init__(self, bus: ZeroMqBus, address: str) -> None:
        super().__init__(daemon=True)
        self._listener = bus.listen(address, 1, 1 << 26)
        self.stopping = False

    def run(self) -> None:
        """Until it is told to stop."""
        while not self.stopping:
            self._answer(self._listener.receive(0.02))
        self._listener.close()

    def _answer(self, received: Sequence[Received]) -> None:
        for peer, messages, _ in received:
            for message in messages:
                if isinstance(message, Ask):
                    self._listener.send(peer, codec.encode(Answer(message.number, Done())))
                    self._listener.send(peer, codec.encode(deliver(message.number)))
                elif isinstance(message, Beat):
                    self._listener.send(peer, codec.encode(BeatAnswer("s-1")))
        self._listener.flush()


def test_nothing_is_missed_over_zeromq(tmp_path: Path, no_beats: None, make_group: Callable[..., Group]) -> None:
    address = f"ipc://{tmp_path}/s"
    bus = ZeroMqBus()
    shard = Echo(bus, address)
    shard.start()
    group = make_group(started=False, shards=1)
    group.dialers = [bus.dial(ME, address, 1 << 20)]
    links = group.links = group.make_links(NEVER_S)
    links.start()
    until(lambda: links.ready)
    numbers = count(1)

    def ask_many() -> list[Result]:
        return [links.ask(0, Claim(str(next(numbers)), 1.0)) for _ in range(100)]

    greenlets = [gevent.spawn(ask_many) for _ in range(20)]

    try:
        assert [len(greenlet.get(timeout=30.0)) for greenlet in greenlets] == [100] * 20
        until(lambda: len(group.pushed) == 2000)
        seqs = [message.seq for _, message in group.pushed if isinstance(message, Deliver)]
        assert seqs == sorted(seqs)
    finally:
        links.close()
        shard.stopping = True
        shard.join()
        bus.close()


def test_what_is_paused_is_taken_when_it_is_no_more(make_group: Callable[..., Group]) -> None:
    group = make_group(started=False)
    full = [True]
    group.links.paused = lambda: full[0]
    group.links.start()
    group.send(0, *(Drop(f"k{number}", 1, 4000) for number in range(3)))
    until(lambda: len(group.beats_at(0)) >= 1, "the process goes on meanwhile")
    group.links.go_on()
    assert group.pushed == []  # it is still full
    full[0] = False
    group.links.go_on()
    assert len(group.pushed) == 3


def test_those_that_were_held_up_go_on_in_turns(make_group: Callable[..., Group], no_beats: None) -> None:
    """One shard alone could fill what there is room for, again and again."""
    group = make_group(started=False)
    room = [0]
    group.links.paused = lambda: len(group.pushed) >= room[0]
    group.links.start()
    until(lambda: all(group.beats_at(shard) for shard in (0, 1)))
    group.send(0, Drop("k", 1, 4000))
    until(lambda: list(group.links._held_up) == [0])
    group.send(1, Drop("k", 1, 4000))
    until(lambda: list(group.links._held_up) == [0, 1])

    room[0] = 1
    group.links.go_on()
    group.send(0, Drop("k", 1, 4000))
    until(lambda: list(group.links._held_up) == [1, 0])
    room[0] = 2
    group.links.go_on()

    assert [shard for shard, _ in group.pushed] == [0, 1]


def test_a_flood_that_pauses_its_reader_waits_at_the_sender(make_group: Callable[..., Group]) -> None:
    group = make_group()
    group.links.paused = lambda: len(group.pushed) >= 2
    down = group.bus.links[ME, "shard-0"].down
    down.capacity = 3
    for number in range(10):
        group.send(0, Drop(f"k{number}", 1, 4000))
        gevent.sleep(0.001)
    until(lambda: len(group.pushed) >= 2)
    assert len(group.pushed) < 10
    assert group.listeners[0].waiting_bytes() > 0
    group.links.paused = lambda: False
    group.links.go_on()

    def all_came() -> bool:
        group.listeners[0].flush()
        return len(group.pushed) == 10

    until(all_came)
