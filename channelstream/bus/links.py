"""A process's links to all shards, driven by gevent's loop: asks with a deadline, beats, and what shards push.

Everything that comes in is handled in the loop's own greenlet, in the order in which the shard sent it: a delivery
that follows an attach on the pipe follows it here. So `on_push` must never wait.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from gevent import get_hub
from gevent.hub import Waiter

from channelstream.bus.asks import KEPT_BYTES, Asks
from channelstream.bus.base import Dialer
from channelstream.clock import monotonic
from channelstream.counters import (
    ASKS_OVERDUE,
    ASKS_REFUSED,
    FORMER_OWNERS,
    HOLES,
    TELLS_DROPPED,
    UNDECODABLE,
    Counters,
)
from channelstream.errors import MessageTooLarge, QueueFull, ShardAway, TooManyAsks
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Attach,
    Beat,
    BeatAnswer,
    Command,
    Detach,
    ProcessStatus,
    Result,
    ToPeer,
)

BEAT_S: Final = 1.0
"""How often a process says that it is alive; three missed ones and the shards take it for gone. PERF: nothing else
wakes a process that has nothing to do: after a sleep its code is in no cache, and a look at a socket costs a hundred
microseconds."""

DUE_STEP_S: Final = 0.01
"""Asks whose deadlines are nearer to each other than this are given up together: a shard that hangs may have ten
thousand of them."""

ANSWERED_WITHIN_S: Final = 3.5
"""A shard that has answered a beat this recently counts as there."""

MAX_OPEN_ASKS: Final = 10_000
"""Asks of one shard that wait for their answers: what comes in two seconds, their deadline, to a router at full speed.
Each has a greenlet that waits, so a shard that hangs costs some hundred megabytes, and not all there are."""

PARTINGS_KEPT_S: Final = 3.0
"""What a shard was told of clients that have left, in so many seconds before its link was gone, is told again on the
next one: it may have been on its way. An ask is sent again and a client that is here attaches again, but of one that
has left nobody would say how far it was served. So long a silence takes a shard for stopped (heartbeats)."""

MOST_PARTINGS: Final = 10_000
"""That are kept for each shard: some megabytes, in a moment in which everybody leaves."""

STOPPING: Final = "this process is stopping"

log: Final = logging.getLogger(__name__)


class _Gathering:
    """The asks that one greenlet waits for."""

    __slots__ = ("missing", "results", "waiter")

    def __init__(self, count: int) -> None:
        self.results: list[Result | ShardAway | None] = [None] * count
        self.missing = count
        self.waiter: Any = Waiter()

    def put(self, place: int, result: Result | ShardAway) -> None:
        """One is there; the last one wakes the greenlet. Only called in the loop's greenlet."""
        self.results[place] = result
        self.missing -= 1
        if not self.missing:
            self.waiter.switch(None)


class _Open:
    """One ask on its way."""

    __slots__ = ("gathering", "place", "shard")

    def __init__(self, gathering: _Gathering, place: int, shard: int) -> None:
        self.gathering = gathering
        self.place = place
        self.shard = shard


class Link:
    """The link to one shard."""

    def __init__(self, index: int, dialer: Dialer, ask_timeout_s: float, kept_bytes: int) -> None:
        self.index: Final = index
        self.dialer: Final = dialer
        self.asks: Final[Asks[_Open]] = Asks(ask_timeout_s, f"shard {index}", kept_bytes)
        self.asked_at_beat = 0
        """The number of the last ask before the last beat."""
        self.ask_again_up_to = 0
        """Asks up to this number may be lost, and are to be sent again when what has come is handled. 0: none."""
        self.times_made = 0
        """How often the link was made, as far as the shard has been told so at once."""
        self.partings: deque[tuple[float, bytes]] = deque(maxlen=MOST_PARTINGS)
        """What was told of clients that have left, and when (monotonic seconds), the oldest first."""
        self.session = ""
        """What the shard last called our session; "" before its first answer."""
        self.answered_at: float | None = None
        """Monotonic seconds of its last answer to a beat."""
        self.undecodable = 0
        """How many undecodable batches have been told of."""
        self.former_owners = 0
        """How many of them from former owners have been counted."""
        self.holes = 0
        """How many holes have been seen to."""


class Links:
    """All shards, as one process sees them. Call `start` in the process that uses it, `close` at its end."""

    def __init__(
        self,
        dialers: Sequence[Dialer],
        ask_timeout_s: float,
        on_push: Callable[[int, ToPeer], None],
        on_session: Callable[[int], None],
        on_turn: Callable[[], None],
        status: Callable[[], ProcessStatus],
        cursors: Callable[[int], dict[str, int]],
        kept_bytes: int = KEPT_BYTES,
        holds: Callable[[int], dict[str, int]] = lambda shard: {},
        taken: Callable[[int], dict[str, int]] = lambda shard: {},
    ) -> None:
        self._links: Final = [Link(index, dialer, ask_timeout_s, kept_bytes) for index, dialer in enumerate(dialers)]
        """`kept_bytes`: how much the open asks to a shard may hold, to be sent again."""
        self._on_push: Final = on_push
        """Gets what a shard sends unasked, with the shard's index, in order."""
        self._on_session: Final = on_session
        """Told when a shard has forgotten what we hold there, or something that it sent was lost: all is to be attached
        again."""
        self._on_turn: Final = on_turn
        """Called after everything that was there from a shard has been given to `on_push`."""
        self._status: Final = status
        self._cursors: Final = cursors
        self.paused: Callable[[], bool] = lambda: False
        """Whether nothing is to be taken from the shards just now. When that is over, call `go_on`. Set once."""
        self._held_up: dict[int, Link] = {}
        """Links that may have something to take since that was so, in the order in which they are to go on."""
        self.counters: Final = Counters()
        """Of the whole process: its other parts count here too."""
        self._holds: Final = holds
        """Some topics of a shard that have members here, for its answer to say what was told of them."""
        self._taken: Final = taken
        """Connections that a shard is to be told of as held."""
        self._unflushed: dict[int, Link] = {}
        self._watchers: list[Any] = []
        self._next_due: Any = None
        """The timer for the first deadline of all asks; None while no ask is open, or none was for long."""
        self._loop: Final = get_hub().loop
        self._closed = False

    # --- life ---

    def start(self) -> None:
        """Watch the sockets and beat from now on."""
        for link in self._links:
            self._loop.run_callback(self._look, link)
            for descriptor, callback in (
                (link.dialer.fileno(), self._drain),
                (link.dialer.link_fileno(), self._look),
            ):
                watcher = self._loop.io(descriptor, 1)
                watcher.start(callback, link)
                self._watchers.append(watcher)
        timer = self._loop.timer(BEAT_S, repeat=BEAT_S)
        timer.start(self._look_and_beat)
        self._watchers.append(timer)

    def close(self) -> None:
        """Stop; asks that are open fail with the loop's next turn, and later ones at once. Safe to call again, and
        from `on_push`."""
        if self._closed:
            return
        self._closed = True
        if self._next_due is not None:
            self._watchers.append(self._next_due)
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers.clear()
        for link in self._links:
            # Only the loop's own greenlet may wake the others.
            self._loop.run_callback(self._give_up, link, float("inf"), STOPPING)
            link.dialer.flush()
            link.dialer.close()

    @property
    def ready(self) -> bool:
        """Whether every shard is there: linked, and answering."""
        now = monotonic()
        return all(
            link.dialer.connected and link.answered_at is not None and now - link.answered_at < ANSWERED_WITHIN_S
            for link in self._links
        )

    def waiting_bytes(self) -> int:
        """What waits to be sent."""
        return sum(link.dialer.waiting_bytes() for link in self._links)

    # --- asking and telling ---

    def ask(self, shard: int, command: Command) -> Result:
        """Ask one shard and wait. Raises `ShardAway`."""
        (result,) = self.ask_all([(shard, command)])
        if isinstance(result, ShardAway):
            raise result
        return result

    def ask_all(self, commands: Sequence[tuple[int, Command]]) -> list[Result | ShardAway]:
        """Ask several shards at once and wait for all; each place holds the answer, or why there is none."""
        if not commands:
            return []
        if self._closed:
            return [ShardAway(shard, STOPPING) for shard, _ in commands]
        gathering = _Gathering(len(commands))
        now = monotonic()
        for place, (shard, command) in enumerate(commands):
            self._ask(gathering, place, shard, command, now)
        if gathering.missing:
            gathering.waiter.get()
        return gathering.results  # type: ignore[return-value]

    def _ask(self, gathering: _Gathering, place: int, shard: int, command: Command, now: float) -> None:
        link = self._links[shard]
        number, deadline = link.asks.add(_Open(gathering, place, shard), now)
        try:
            if len(link.asks) > MAX_OPEN_ASKS:
                raise TooManyAsks(MAX_OPEN_ASKS)
            encoded = codec.encode(Ask(number, deadline, command))
            link.asks.keep(number, command, len(encoded))
            link.dialer.send(encoded)
        except (QueueFull, MessageTooLarge, TooManyAsks) as error:
            link.asks.answered(number)
            self.counters.count(ASKS_REFUSED)
            gathering.results[place] = ShardAway(shard, str(error))
            gathering.missing -= 1
            return
        self._flush_soon(link)
        if self._next_due is None:
            self._watch_deadlines(now)

    def tell(self, shard: int, message: Attach | Detach | Beat) -> bool:
        """Send without an answer; False where the queue is full: the shard sees a hole, and has us attach again."""
        if self._closed:
            return False
        link = self._links[shard]
        encoded = codec.encode(message)
        try:
            link.dialer.send(encoded)
        except (QueueFull, MessageTooLarge) as error:
            log.warning("%s", error)
            self.counters.count(TELLS_DROPPED)
            link.dialer.skip()
            return False
        if type(message) is Detach:
            link.partings.append((monotonic(), encoded))
        self._flush_soon(link)
        return True

    def _flush_soon(self, link: Link) -> None:
        """Everything that this turn of the loop has for a shard goes out as one batch, at the end of the turn."""
        if not self._unflushed:
            self._loop.run_callback(self._flush)
        self._unflushed[link.index] = link

    def _flush(self) -> None:
        links, self._unflushed = self._unflushed, {}
        if self._closed:
            return
        for link in links.values():
            self._flush_link(link)
            if link.dialer.has_work():  # of which the flush may have kept the descriptor from telling
                self._loop.run_callback(self._drain, link)

    def _flush_link(self, link: Link) -> None:
        if not link.dialer.connected:
            self._look(link)  # where it was made just now, what is told again comes first
        link.dialer.flush()

    # --- what becomes of the links ---

    def _look(self, link: Link) -> None:
        """A link was made, or is gone. One that is made brings a beat at once: a new life of the shard is seen by its
        answer, and not a second later. One that is gone is told to the other shards."""
        if self._closed:
            return
        was_connected = link.dialer.connected
        link.dialer.look()
        if link.dialer.times_made != link.times_made:
            link.times_made = link.dialer.times_made
            link.answered_at = None
            log.debug("> shard %d: linked", link.index)
            link.dialer.send_first([encoded for _, encoded in link.partings])
            link.dialer.flush()  # with what has waited for the shard: then there is room for the beat
            self._beat_to(link, self._status())
            self._flush_soon(link)
        if was_connected and not link.dialer.connected:
            log.warning("shard %d: the link is gone", link.index)
            self._beat()

    # --- what comes in ---

    def go_on(self) -> None:
        """Take again what the shards have sent, after `paused` has said no."""
        links, self._held_up = self._held_up, {}
        for link in links.values():
            self._drain(link)

    def _drain(self, link: Link) -> None:
        """The descriptor has told, or was kept from it."""
        if self._closed:  # by what came before it in this turn of the loop
            return
        if link.dialer.waiting_bytes() and link.index not in self._unflushed:
            self._flush_link(link)  # the shard was behind
        if self.paused():
            self._held_up[link.index] = link
            return
        messages = link.dialer.receive()
        for message in messages:
            try:
                self._take(link, message)
            except Exception:
                # A fault of ours costs this message, and not those behind it.
                log.exception("< shard %d: %s failed", link.index, type(message).__name__)
        if messages:
            self._on_turn()
        if link.dialer.holes != link.holes:
            self.counters.count(HOLES, link.dialer.holes - link.holes)
            link.holes = link.dialer.holes
            log.warning("< shard %d: something was lost on the way: attaching again", link.index)
            self._on_session(link.index)
            link.ask_again_up_to = link.asks.last
        if link.ask_again_up_to:
            self._ask_again(link)
        if link.dialer.undecodable != link.undecodable:
            self._tell_of_undecodable(link)
        # What is still to be flushed will be looked after then.
        if not self._closed and link.index not in self._unflushed and link.dialer.has_work():
            self._loop.run_callback(self._drain, link)

    def _tell_of_undecodable(self, link: Link) -> None:
        self.counters.count(UNDECODABLE, link.dialer.undecodable - link.undecodable)
        self.counters.count(FORMER_OWNERS, link.dialer.former_owners - link.former_owners)
        link.undecodable, link.former_owners = link.dialer.undecodable, link.dialer.former_owners
        log.error("dropped %d undecodable batches; %s", link.undecodable, link.dialer.complaint)

    def _ask_again(self, link: Link) -> None:
        """What may not have reached the shard, or whose answer may not have reached us, once more and in its order.
        All of it is safe to repeat, see `Ask`."""
        asks, link.ask_again_up_to = link.asks.again(link.ask_again_up_to), 0
        for ask in asks:
            try:
                link.dialer.send(codec.encode(ask))
            except (QueueFull, MessageTooLarge) as error:
                log.warning("%s: %d asks are not sent again", error, len(asks))
                break  # they have their deadline, and may be among what waits
        if asks and not self._closed:
            self._flush_soon(link)

    def _take(self, link: Link, message: ToPeer) -> None:
        if isinstance(message, Answer):
            self._answered(link, message)
        elif isinstance(message, BeatAnswer):
            self._beat_answered(link, message)
        else:
            self._on_push(link.index, message)

    def _answered(self, link: Link, answer: Answer) -> None:
        asked = link.asks.answered(answer.number)
        if asked is not None:
            asked.gathering.put(asked.place, answer.result)

    def _beat_answered(self, link: Link, answer: BeatAnswer) -> None:
        was_ready, link.answered_at = self.ready, monotonic()
        if self.ready and not was_ready:
            self._beat()  # tell so now, and not a second later
        if link.session == answer.session:
            if answer.told:
                self._on_push(link.index, answer)
            return
        if link.session:
            log.warning("shard %d has forgotten this process: attaching again", link.index)
        # The first one too: what was attached before it may have been in a session that nobody has told us of.
        link.session = answer.session
        # What was asked after the beat came to the same life as the beat did. What comes behind this answer is handled
        # first: it may answer some of it.
        link.ask_again_up_to = link.asked_at_beat
        self._on_session(link.index)

    # --- time ---

    def _look_and_beat(self) -> None:
        """The sockets are looked at in case a wake-up was missed all the same."""
        for link in self._links:
            self._look(link)
        self._beat()
        for link in self._links:
            self._drain(link)

    def _beat(self) -> None:
        status = self._status()
        for link in self._links:
            if link.dialer.connected:  # else it gets one when it is made; what would wait for that is stale by then
                self._beat_to(link, status)

    def _beat_to(self, link: Link, status: ProcessStatus) -> None:
        link.asked_at_beat = link.asks.last
        too_old = monotonic() - PARTINGS_KEPT_S
        while link.dialer.connected and link.partings and link.partings[0][0] < too_old:
            link.partings.popleft()
        shard = link.index
        self.tell(shard, Beat(link.session, status, self._cursors(shard), self._holds(shard), self._taken(shard)))

    def _watch_deadlines(self, now: float) -> None:
        """PERF: one timer for all asks. They have the same time to be answered: when it is over for the first one,
        nearly all that came until then are, and it is set for one of those that came last."""
        due = min(link.asks.next_due() for link in self._links)
        if due < inf and not self._closed:
            self._next_due = self._loop.timer(max(due - now, DUE_STEP_S))
            self._next_due.start(self._give_up_overdue, update=True)

    def _give_up_overdue(self) -> None:
        now = monotonic()
        for link in self._links:
            self.counters.count(ASKS_OVERDUE, self._give_up(link, now, "no answer within the deadline"))
        timer, self._next_due = self._next_due, None
        timer.close()
        self._watch_deadlines(monotonic())

    def _give_up(self, link: Link, now: float, why: str) -> int:
        """How many asks were over."""
        count = 0
        for asked in link.asks.overdue(now):
            count += 1
            asked.gathering.put(asked.place, ShardAway(asked.shard, why))
        return count
