"""Edges and shards together: the real cores, joined by ordered pipes that move when hypothesis says so.

What is checked: every client gets each topic's messages in order, once, all of them and nothing that it may not see,
through takeovers, lost sessions, restarted shards and killed edges; where something can be missing, it is told (`gap`).

The model is small on purpose: a message is owed to whoever was a member when its shard took it. Memberships change
when the shard carries out the router's command, not when the router sends it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from channelstream.clock import Now
from channelstream.edge.core import Edge, Held, Tell, as_passed_on
from channelstream.edge.core import Effect as EdgeEffect
from channelstream.edge.delivery import Deliveries
from channelstream.edge.outbox import Mark, Ready
from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.shard.core import Settings, Shard
from channelstream.shard.effects import Broadcast, Reply, Send
from channelstream.shard.effects import Effect as ShardEffect
from channelstream.shard.effects import Tell as ShardTell
from channelstream.shard.store.base import Saved
from channelstream.wire.messages import (
    AddChannels,
    Answer,
    Ask,
    Attach,
    Beat,
    BeatAnswer,
    CloseConnection,
    Command,
    ConnectionState,
    Detach,
    Drop,
    EnterUser,
    Join,
    Leave,
    OpenConnection,
    ProcessStatus,
    Publication,
    Publish,
    RemoveChannels,
    Result,
    TakeConnection,
    ToPeer,
    ToShard,
    UserState,
)

SHARDS = 3
EDGES = 2
CHANNELS = ["a", "b", "c", "d", "e"]
USERS = ["ann", "bob", "cid"]
MOST_CONNECTIONS = 6
ROUTER = "router-0:r"
STATUS = ProcessStatus("edge", 0, 1, 0.0, "")
FOREVER = 1e9

RING = Ring(SHARDS)

Step = tuple[int, Command]
Call = Generator[Step, Result, None]


class Browser:
    """A connection as its owner sees it, over all the sockets that it ever had."""

    def __init__(self, conn_id: str, user: str) -> None:
        self.conn_id = conn_id
        self.user = user
        self.client: Client | None = None
        self.busy = 0
        """Calls of its backend that are under way."""
        self.member_of: set[str] = set()
        """Topics, as the shards that own them have carried it out."""
        self.owed: dict[str, dict[str, None]] = {}
        """Topic → uuids that it must get, unless it leaves first."""
        self.may_get: set[str] = set()
        """All that was published where it was a member and may see it."""
        self.got: dict[str, list[str]] = {}
        """Topic → uuids, as they came."""
        self.may_repeat: set[int] = set()
        """Shards that may have lost how far it was served."""
        self.rejoining: set[str] = set()
        """Topics that a shard has forgotten and that its edge still knows."""
        self.may_miss: set[str] = set()
        """Topics that a shard has ever forgotten: it may be told of a gap there."""
        self.may_be_unknown = False
        """Whether its record may be gone: its shard was restarted, or it said good-bye."""
        self.over = False
        """Nothing is owed to it any more: it said good-bye, or a shard was restarted in the middle of a call."""

    @property
    def settled(self) -> bool:
        """Whether what it is on is the same everywhere: not so in the middle of its backend's calls."""
        return not self.busy and not self.over

    def receive(self, ready: Ready) -> None:
        for body in ready.bodies:
            told = json.loads(body)
            topic = ready.mark.topic
            if told["type"] == "gap":
                assert topic in self.may_miss, f"{self.conn_id} was told of a gap on {topic}"
                continue
            uuid = told["uuid"]
            got = self.got.setdefault(topic, [])
            assert uuid in self.may_get, f"{self.conn_id} got {uuid}, which it may not see"
            if RING.owner(topic) not in self.may_repeat:
                assert uuid not in got, f"{self.conn_id} got {uuid} twice"
                assert not got or got[-1] < uuid, f"{self.conn_id} got {uuid} after {got[-1]}"
            got.append(uuid)
            self.owed.get(topic, {}).pop(uuid, None)


class Client(Held):
    """One socket. A stalled one takes nothing off its queue."""

    def __init__(self, browser: Browser, attachment: int, edge: EdgeSide) -> None:
        super().__init__(browser.conn_id, browser.user, attachment)
        self.browser = browser
        self.edge = edge
        self.stalled = False
        self.queue: deque[Ready] = deque()

    def deliver(self, ready: Sequence[Ready]) -> None:
        self.queue.extend(ready)
        self.flush()

    def flush(self) -> None:
        while self.queue and not self.stalled:
            self.browser.receive(self.queue.popleft())

    def close(self, code: int) -> None:
        self.end(closed=False)

    def end(self, closed: bool) -> None:
        if self.browser.client is self:
            self.browser.client = None
        self.edge.release(self, closed, [ready.mark for ready in self.queue])


class EdgeSide:
    """What `edge.link` does, without its loop: the core, the deliveries, and who waits for an answer."""

    def __init__(self, name: str, world: EdgeAndShards) -> None:
        self.name = name
        self.world = world
        self.edge = Edge(RING, attach_window=3)  # so that some wait for their turn
        self.sessions = [""] * SHARDS
        self.asked: dict[int, Browser] = {}
        self.asks = 0
        self.soon: list[Callable[[], None]] = []
        self.hurried = True
        """Whether a turn's deliveries are handed out at once; else they wait for the loop."""
        self.moment = 0.0
        self.deliveries = Deliveries(self.soon.append, self._slice_clock)

    def _slice_clock(self) -> float:
        self.moment += 0.0 if self.hurried else 1.0
        return self.moment

    def forgotten_by(self) -> set[int]:
        """Shards that have lost this edge out of sight: they do not know how far it serves."""
        return {shard for name, shard in self.world.lost if name == self.name}

    def go_on(self) -> None:
        self.hurried = True
        waiting, self.soon[:] = self.soon[:], []
        for callback in waiting:
            callback()

    def take(self, browser: Browser) -> None:
        self.asks += 1
        self.asked[self.asks] = browser
        command = TakeConnection(browser.conn_id, self.edge.next_number())
        self.tell(RING.owner(connection_key(browser.conn_id)), Ask(self.asks, FOREVER, command))

    def tell(self, shard: int, message: ToShard) -> None:
        self.world.up[self.name, shard].append(message)

    def perform(self, effects: Sequence[EdgeEffect]) -> None:
        self.deliveries.add(effects)
        for effect in effects:
            if isinstance(effect, Tell):
                self.tell(effect.shard, self._as_passed_on(effect))

    def _as_passed_on(self, tell: Tell) -> ToShard:
        client, message = tell.client, tell.message
        if not isinstance(client, Client) or not isinstance(message, Attach):
            return message
        own = [ready.mark for ready in client.queue]
        return as_passed_on(message, [*own, *self.deliveries.unsent(client)])

    def release(self, client: Client, closed: bool, unsent: Iterable[Mark]) -> None:
        if not client.released:
            client.browser.may_repeat |= self.forgotten_by()
            self.perform(self.edge.release(client, closed, [*unsent, *self.deliveries.unsent(client)]))

    def served(self, shard: int) -> dict[str, int]:
        behind = [ready.mark for client in self.edge.clients() for ready in client.queue]  # type: ignore[attr-defined]
        return self.edge.moved(shard, [*self.deliveries.waiting(), *behind])

    def receive(self, shard: int, messages: Iterable[ToPeer]) -> None:
        for message in messages:
            if isinstance(message, Answer):
                self._answered(message)
            elif isinstance(message, BeatAnswer):
                self._beat_answered(shard, message)
            else:
                self.edge.receive(shard, message, self.world.now.mono)
        self.perform(self.edge.end_turn())

    def _answered(self, answer: Answer) -> None:
        browser = self.asked.pop(answer.number, None)
        if browser is None:
            return
        if not isinstance(answer.result, ConnectionState):
            assert browser.may_be_unknown, f"{browser.conn_id} is unknown"
            return
        client = Client(browser, answer.result.attachment, self)
        if browser.client is not None:
            browser.may_repeat |= browser.client.edge.forgotten_by()
        if browser.client is None or browser.client.attachment < client.attachment:
            browser.client = client
        self.perform(self.edge.hold(client, answer.result, self.world.now.mono))

    def _beat_answered(self, shard: int, answer: BeatAnswer) -> None:
        known, self.sessions[shard] = self.sessions[shard], answer.session
        if known == answer.session:
            waiting = len(self.edge._attaches)
            self.edge.receive(shard, answer, self.world.now.mono)
            assert len(self.edge._attaches) == waiting, "no word is lost in this world, but one was missed"
        else:
            self.perform(self.edge.end_turn())
            self.perform(self.edge.attach_again(shard, self.world.now.mono))


class EdgeAndShards(RuleBasedStateMachine):
    """The world. Rules do one thing each; `settle` moves everything until nothing is left to move."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Now(1000.0, 1_700_000_000.0)
        self.ids = 0
        self.published = 0
        self.shards = [self._shard() for _ in range(SHARDS)]
        self.up: dict[tuple[str, int], deque[ToShard]] = {}
        self.down: dict[tuple[str, int], deque[ToPeer]] = {}
        self.edges: list[EdgeSide] = []
        self.browsers: list[Browser] = []
        self.calls: list[tuple[Browser, Call, Step]] = []
        """Calls of backends, each with the step that is to be carried out next."""
        self.lost: set[tuple[str, int]] = set()
        """Edge and shard: the shard has forgotten the edge since the last settling."""
        self.restarted: set[int] = set()
        for number in range(EDGES):
            self._start_edge(number)

    def _new_id(self) -> str:
        self.ids += 1
        return f"id-{self.ids}"

    def _shard(self) -> Shard:
        own = ProcessStatus("shard", 0, 1, 0.0, "")
        return Shard(own, Settings(keep_connections_s=FOREVER), self._new_id, Saved(), self.now)

    def _start_edge(self, number: int) -> EdgeSide:
        edge = EdgeSide(f"edge-{number}:{self._new_id()}", self)
        for shard in range(SHARDS):
            self.up[edge.name, shard] = deque()
            self.down[edge.name, shard] = deque()
        self.edges[number : number + 1] = [edge]
        return edge

    # --- moving things ---

    def perform(self, shard: int, effects: Iterable[ShardEffect]) -> Result | None:
        result: Result | None = None
        for effect in effects:
            match effect:
                case Send(peer, Answer() as answer) | Reply(peer, answer) if peer == ROUTER:
                    result = answer.result
                case Reply(peer, answer):
                    self._send(peer, shard, answer)
                case ShardTell():
                    self.perform(shard, self.shards[shard].told(effect))
                case Send(peer, message):
                    self._send(peer, shard, message)
                case Broadcast(peers, message):
                    for peer in peers:
                        self._send(peer, shard, message)
        return result

    def _send(self, peer: str, shard: int, message: ToPeer) -> None:
        if (peer, shard) in self.down:
            self.down[peer, shard].append(message)

    def ask(self, shard: int, command: Command) -> Result:
        result = self.perform(shard, self.shards[shard].handle(ROUTER, Ask(1, FOREVER, command), self.now))
        assert result is not None
        return result

    def pump_up(self, edge: EdgeSide, shard: int, count: int) -> None:
        pipe = self.up[edge.name, shard]
        for _ in range(min(count, len(pipe))):
            self.perform(shard, self.shards[shard].handle(edge.name, pipe.popleft(), self.now))

    def pump_down(self, edge: EdgeSide, shard: int, count: int) -> None:
        pipe = self.down[edge.name, shard]
        messages = [pipe.popleft() for _ in range(min(count, len(pipe)))]
        if messages:
            edge.receive(shard, messages)

    def beat(self, edge: EdgeSide, shard: int) -> None:
        held, taken = edge.edge.some_held(shard), edge.edge.taken(shard)
        edge.tell(shard, Beat(edge.sessions[shard], STATUS, edge.served(shard), held, taken))

    def pass_time(self, seconds: float) -> None:
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)
        for number, shard in enumerate(self.shards):
            known = set(shard._peers)
            effects = shard.tick(self.now)
            self.lost |= {(name, number) for name in known - set(shard._peers)}
            for effect in effects:
                if isinstance(effect, Send) and isinstance(effect.message, Drop):
                    self._browser(effect.message.conn_id).may_repeat.add(number)
            self.perform(number, effects)
        for edge in self.edges:
            edge.perform(edge.edge.ask_again(self.now.mono))

    def _browser(self, conn_id: str) -> Browser:
        return next(browser for browser in self.browsers if browser.conn_id == conn_id)

    def settle(self) -> None:
        """Everybody gets the time to heal."""
        for _ in range(5):
            for edge in self.edges:
                for shard in range(SHARDS):
                    self.beat(edge, shard)
            self._pump_all()
            self.pass_time(1.1)
            self._pump_all()
        for edge in self.edges:
            edge.asked.clear()
        self.lost.clear()
        self.restarted.clear()
        for browser in self.browsers:
            self._settle_rejoining(browser)
            self._settle_holder(browser)

    def _pump_all(self) -> None:
        while True:
            for edge in self.edges:
                edge.go_on()
            waiting = [key for pipes in (self.up, self.down) for key, pipe in pipes.items() if pipe]
            if not waiting:
                return
            for edge in self.edges:
                for shard in range(SHARDS):
                    self.pump_up(edge, shard, 1000)
                    self.pump_down(edge, shard, 1000)

    def _settle_holder(self, browser: Browser) -> None:
        """At most one edge holds it. That is an earlier one where the latest was killed and the shard that would have
        told the earlier one to drop it was restarted."""
        held = [client for edge in self.edges for client in edge.edge.clients() if client.conn_id == browser.conn_id]
        assert len(held) <= 1
        browser.client = held[0] if held else None  # type: ignore[assignment]

    def _settle_rejoining(self, browser: Browser) -> None:
        for topic in browser.rejoining:
            if self._shard_has(browser, topic):
                browser.member_of.add(topic)
        browser.rejoining.clear()

    def _shard_has(self, browser: Browser, topic: str) -> bool:
        shard = self.shards[RING.owner(topic)]
        connection = shard._connections.get(browser.conn_id)
        return connection is not None and topic in {joined.key for joined in connection.topics}

    # --- what backends do ---

    def start_call(self, browser: Browser, call: Call) -> None:
        browser.busy += 1
        self.calls.append((browser, call, next(call)))

    def connecting(self, browser: Browser, channels: list[str]) -> Call:
        state = yield (
            RING.owner(connection_key(browser.conn_id)),
            OpenConnection(browser.conn_id, browser.user, channels),
        )
        yield from self._joining(browser, state, channels)

    def subscribing(self, browser: Browser, channels: list[str]) -> Call:
        state = yield RING.owner(connection_key(browser.conn_id)), AddChannels(browser.conn_id, channels)
        yield from self._joining(browser, state, channels)

    def _joining(self, browser: Browser, state: Result, channels: list[str]) -> Call:
        if not isinstance(state, ConnectionState):
            assert browser.may_be_unknown
            return
        where = (state.route, state.attachment, state.detached_for_s)
        entered = yield (
            RING.owner(user_key(browser.user)),
            EnterUser(browser.user, browser.conn_id, {}, {}, None, *where),
        )
        assert isinstance(entered, UserState)
        for shard, names in RING.group(channels, "c/").items():
            join = Join(browser.conn_id, browser.user, {}, names, {}, [], False, False, *where)
            self.start_call(browser, _one_step(shard, join))

    def unsubscribing(self, browser: Browser, channels: list[str]) -> Call:
        state = yield RING.owner(connection_key(browser.conn_id)), RemoveChannels(browser.conn_id, channels)
        if not isinstance(state, ConnectionState):
            assert browser.may_be_unknown
            return
        for shard, names in RING.group(channels, "c/").items():
            self.start_call(browser, _one_step(shard, Leave(browser.conn_id, names)))

    def disconnecting(self, browser: Browser) -> Call:
        state = yield RING.owner(connection_key(browser.conn_id)), CloseConnection(browser.conn_id)
        if isinstance(state, ConnectionState):
            shards = {RING.owner(user_key(browser.user)), *RING.group(state.channels, "c/")}
            for shard in shards:
                self.start_call(browser, _one_step(shard, Leave(browser.conn_id, None)))

    def carry_out(self, index: int) -> None:
        browser, call, (shard, command) = self.calls.pop(index)
        if isinstance(command, Leave) and shard in self.restarted:
            self.settle()  # a shard that has just lost all cannot know that an edge is about to bring this back
        result = self.ask(shard, command)
        self._note(browser, command)
        try:
            self.calls.append((browser, call, call.send(result)))
        except StopIteration:
            browser.busy -= 1

    def _note(self, browser: Browser, command: Command) -> None:
        match command:
            case EnterUser():
                self._note_joined(browser, user_key(command.user))
            case Join():
                for name in command.channels:
                    self._note_joined(browser, channel_key(name))
            case Leave():
                for name in command.channels or []:
                    topic = channel_key(name)
                    browser.member_of.discard(topic)
                    browser.rejoining.discard(topic)
                    browser.owed.pop(topic, None)

    def _note_joined(self, browser: Browser, topic: str) -> None:
        if topic not in browser.rejoining:
            browser.member_of.add(topic)

    # --- rules ---

    @initialize()
    def beat_once(self) -> None:
        for edge in self.edges:
            for shard in range(SHARDS):
                self.beat(edge, shard)
        self._pump_all()

    @precondition(lambda self: len(self.browsers) < MOST_CONNECTIONS)
    @rule(user=st.sampled_from(USERS), channels=st.lists(st.sampled_from(CHANNELS), unique=True), at_once=st.booleans())
    def connect(self, user: str, channels: list[str], at_once: bool) -> None:
        browser = Browser(f"conn-{len(self.browsers)}", user)
        self.browsers.append(browser)
        self.start_call(browser, self.connecting(browser, channels))
        self.carry_out(len(self.calls) - 1)  # from here on its id is known
        while at_once and browser.busy:
            self.carry_out(next(index for index, call in enumerate(self.calls) if call[0] is browser))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.carry_out(data.draw(st.integers(0, len(self.calls) - 1)))

    @precondition(lambda self: any(not browser.busy and not browser.over for browser in self.browsers))
    @rule(data=st.data(), channels=st.lists(st.sampled_from(CHANNELS), min_size=1, unique=True), joins=st.booleans())
    def change_channels(self, data: st.DataObject, channels: list[str], joins: bool) -> None:
        browser = data.draw(
            st.sampled_from([browser for browser in self.browsers if not browser.busy and not browser.over])
        )
        self.start_call(browser, (self.subscribing if joins else self.unsubscribing)(browser, channels))

    @precondition(lambda self: any(not browser.busy and not browser.over for browser in self.browsers))
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        browser = data.draw(st.sampled_from([browser for browser in self.browsers if not browser.busy]))
        browser.may_be_unknown = browser.over = True
        self.start_call(browser, self.disconnecting(browser))

    @rule(
        channels=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3),
        only=st.none() | st.lists(st.sampled_from(USERS), min_size=1, max_size=2),
        exclude=st.none() | st.lists(st.sampled_from(USERS), min_size=1, max_size=1),
    )
    def publish(self, channels: list[str], only: list[str] | None, exclude: list[str] | None) -> None:
        for name in channels:
            self._publish(channel_key(name), only, exclude)

    @rule(user=st.sampled_from(USERS))
    def publish_privately(self, user: str) -> None:
        self._publish(user_key(user), None, None)

    def _publish(self, topic: str, only: list[str] | None, exclude: list[str] | None) -> None:
        self.published += 1
        uuid = f"{self.published:06}"
        body = json.dumps({"type": "message", "uuid": uuid}).encode()
        self.ask(RING.owner(topic), Publish([Publication([topic], [uuid], [body], only, exclude)]))
        for browser in self.browsers:
            if (only is None or browser.user in only) and browser.user not in (exclude or ()):
                if topic in browser.member_of:
                    browser.owed.setdefault(topic, {})[uuid] = None
                if topic in browser.member_of or topic in browser.rejoining:
                    browser.may_get.add(uuid)

    @precondition(lambda self: any(not browser.over for browser in self.browsers))
    @rule(data=st.data(), edge=st.integers(0, EDGES - 1), at_once=st.booleans())
    def attach(self, data: st.DataObject, edge: int, at_once: bool) -> None:
        browser = data.draw(st.sampled_from([browser for browser in self.browsers if not browser.over]))
        self.edges[edge].take(browser)
        if at_once:
            shard = RING.owner(connection_key(browser.conn_id))
            self.pump_up(self.edges[edge], shard, 1000)
            self.pump_down(self.edges[edge], shard, 1000)

    def _held(self) -> list[Browser]:
        return [browser for browser in self.browsers if browser.client is not None]

    @precondition(lambda self: self._held())
    @rule(data=st.data(), closed=st.booleans())
    def let_go(self, data: st.DataObject, closed: bool) -> None:
        client = data.draw(st.sampled_from(self._held())).client
        assert client is not None
        if closed:
            client.browser.may_be_unknown = client.browser.over = True
        client.end(closed)

    @precondition(lambda self: self._held())
    @rule(data=st.data(), stalled=st.booleans())
    def stall(self, data: st.DataObject, stalled: bool) -> None:
        client = data.draw(st.sampled_from(self._held())).client
        assert client is not None
        client.stalled = stalled
        client.flush()

    @rule(edge=st.integers(0, EDGES - 1), shard=st.integers(0, SHARDS - 1), count=st.sampled_from([1, 2, 1000]))
    def move_up(self, edge: int, shard: int, count: int) -> None:
        self.pump_up(self.edges[edge], shard, count)

    @rule(edge=st.integers(0, EDGES - 1), shard=st.integers(0, SHARDS - 1), count=st.sampled_from([1, 2, 1000]))
    def move_down(self, edge: int, shard: int, count: int) -> None:
        self.pump_down(self.edges[edge], shard, count)

    @rule(edge=st.integers(0, EDGES - 1), busy=st.booleans())
    def slow_down(self, edge: int, busy: bool) -> None:
        if busy:
            self.edges[edge].hurried = False
        else:
            self.edges[edge].go_on()

    @rule(edge=st.integers(0, EDGES - 1), shard=st.integers(0, SHARDS - 1))
    def beat_to(self, edge: int, shard: int) -> None:
        self.beat(self.edges[edge], shard)

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(edge=st.integers(0, EDGES - 1), shard=st.integers(0, SHARDS - 1), kept=st.integers(0, 3))
    def queue_overflows(self, edge: int, shard: int, kept: int) -> None:
        """The shard drops what waits for an edge; what is on the wire already arrives."""
        name = self.edges[edge].name
        pipe = self.down[name, shard]
        while len(pipe) > kept:
            pipe.pop()
        self.lost.add((name, shard))
        self.perform(shard, self.shards[shard].lose_peer(name, self.now))

    @rule(number=st.integers(0, SHARDS - 1), arrived=st.integers(0, 3), underway=st.integers(0, 3))
    def restart_shard(self, number: int, arrived: int, underway: int) -> None:
        """What it had is gone. The first few messages of each edge were read before, the last few are sent again."""
        self.shards[number] = self._shard()
        self.restarted.add(number)
        for edge in self.edges:
            self.lost.add((edge.name, number))
            down, up = self.down[edge.name, number], self.up[edge.name, number]
            while len(down) > arrived:
                down.pop()
            while len(up) > underway:
                up.popleft()
        for browser in self.browsers:
            self._note_restart(browser, number)

    def _note_restart(self, browser: Browser, number: int) -> None:
        if RING.owner(connection_key(browser.conn_id)) == number:
            browser.may_be_unknown = True
            # The list of channels that a call has changed there is lost in the middle of the call, unless it is asked
            # again: channels that the call goes on to join are not in the record.
            browser.over = browser.over or browser.busy > 0
        for topic in [topic for topic in browser.member_of if RING.owner(topic) == number]:
            browser.member_of.discard(topic)
            browser.rejoining.add(topic)
            browser.may_miss.add(topic)
        for topic in [topic for topic in browser.owed if RING.owner(topic) == number]:
            del browser.owed[topic]

    @rule(number=st.integers(0, EDGES - 1))
    def kill_edge(self, number: int) -> None:
        """Its clients, and what was on its way, are gone; the shards find out. Another one takes its place."""
        name = self.edges[number].name
        for client in self.edges[number].edge.clients():
            browser = self._browser(client.conn_id)
            browser.may_repeat |= set(range(SHARDS))
            if browser.client is client:
                browser.client = None
        for shard in range(SHARDS):
            for message in self.up.pop((name, shard)):
                if isinstance(message, Detach):
                    self._browser(message.conn_id).may_repeat.add(shard)
            del self.down[name, shard]
        self._start_edge(number)

    @rule()
    def settle_down(self) -> None:
        self.settle()
        self.check()

    # --- what must hold ---

    def check(self) -> None:
        """After settling: whoever is there and reads has everything, and both sides agree about who is there."""
        for browser in self.browsers:
            client = browser.client
            if client is not None and not client.stalled and browser.settled:
                owed = {topic: list(uuids) for topic, uuids in browser.owed.items() if uuids}
                assert not owed, f"{browser.conn_id} was not given {owed}"
            self._check_routes(browser)
        for edge in self.edges:
            held = edge.edge.clients()
            assert all(isinstance(client, Client) and client.browser.client is client for client in held)
            topics = {topic for client in held for topic in client.topics}
            assert set(edge.edge._topics.values()) == topics
            assert not len(edge.edge._attaches)

    def _check_routes(self, browser: Browser) -> None:
        """Nobody is taken for attached who is not."""
        client = browser.client
        expected = ("", 0) if client is None else (client.edge.name, client.attachment)
        for number, shard in enumerate(self.shards):
            connection = shard._connections.get(browser.conn_id)
            if connection is not None:
                route = (connection.route, connection.attachment if connection.route else 0)
                assert route in (expected, ("", 0)), f"{browser.conn_id} at shard {number}: {route}, not {expected}"
                if client is not None and browser.settled:
                    at_edge = {topic.key for topic in client.topics if topic.shard == number}
                    at_shard = {topic.key for topic in connection.topics}
                    assert at_edge == at_shard, f"{browser.conn_id} at shard {number}: {at_shard}, at edge: {at_edge}"

    def teardown(self) -> None:
        """Everybody comes back, gets the rest, and goes."""
        while self.calls:
            self.carry_out(0)
        self.settle()
        for browser in self.browsers:
            if browser.client is not None:
                browser.client.stalled = False
                browser.client.flush()
            elif not browser.over:
                self.edges[0].take(browser)
        self.settle()
        self.check()
        for browser in self.browsers:
            if browser.client is not None:
                browser.client.end(closed=True)
        for edge in self.edges:
            self._check_empty(edge.edge)

    def _check_empty(self, edge: Edge) -> None:
        assert (len(edge), edge.channels) == (0, 0)
        leftovers: list[Any] = [edge._held, edge._topics, len(edge._attaches), edge._turn, edge._touched, *edge._moved]
        assert not any(leftovers)


def _one_step(shard: int, command: Command) -> Call:
    yield shard, command


TestEdgeAndShards = EdgeAndShards.TestCase
TestEdgeAndShards.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
