"""A shard, three edges and the pipes between them, against a plain model of who is to see what.

The edges here do what a real one does: they apply what the shard sends in the order of the pipe, know how far each
client was served, and attach again when the shard has forgotten them. What reaches a client is compared with a log
that the model keeps for each topic.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from math import inf
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from channelstream.shard.connection import Connection
from channelstream.shard.core import Shard
from channelstream.shard.effects import Broadcast, Effect, Send
from channelstream.wire.messages import (
    AddChannels,
    Answer,
    Ask,
    Attach,
    Attached,
    Beat,
    BeatAnswer,
    CloseConnection,
    ConnectionState,
    Deliver,
    Detach,
    Drop,
    EnterUser,
    Join,
    Leave,
    OpenConnection,
    OtherUser,
    ProcessStatus,
    Publication,
    Publish,
    RemoveChannels,
    TakeConnection,
    ToPeer,
    TopicCursor,
    ToShard,
    Unknown,
    Unsubscribed,
)

CONFIGS: dict[str, dict[str, bool | int]] = {
    "plain": {},
    "short": {"frames_size": 3},
    "unframed": {"store_frames": False, "store_history": True, "history_size": 2},
    "presence": {"notify_presence": True, "broadcast_presence_with_user_lists": True, "frames_size": 1000},
}
FRAMES = {"plain": 100, "short": 3, "unframed": 0, "presence": 1000}
PRIVATE_FRAMES = 50
USERS = ["ann", "bob", "cy"]
CONN_IDS = ["k1", "k2", "k3", "k4"]
EDGES = [0, 1, 2]
KEEP_S = 30.0
MOST_EXAMPLES = 60
"""Some seconds. After a change to what attaches, detaches or expires, run it once with a few thousand."""

conn_ids = st.sampled_from(CONN_IDS)
channel_names = st.sampled_from(list(CONFIGS))
edge_indexes = st.sampled_from(EDGES)
some_users = st.none() | st.lists(st.sampled_from(USERS), max_size=2, unique=True)


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """One delivery of a topic: what it is (a uuid, or a presence action) and who may see it."""

    what: str
    only: list[str] | None = None
    exclude: list[str] | None = None

    def visible_to(self, user: str) -> bool:
        return user not in (self.exclude or []) and (self.only is None or user in self.only)


@dataclass(eq=False)
class Life:
    """One life of a connection, from the command that made it until the shard forgot it."""

    conn_id: str
    user: str
    shard_object: object
    joined: dict[str, int] = field(default_factory=dict)
    """Topic → the seq behind which it is served."""
    left: list[tuple[str, int, int]] = field(default_factory=list)
    """Topics it was on, from behind one seq up to another."""
    seen: dict[str, set[int]] = field(default_factory=dict)
    excused: dict[str, set[int]] = field(default_factory=dict)
    """What it was told that it can not have."""
    covered: dict[str, int] = field(default_factory=dict)
    """How far an edge's beats have said that it was served."""
    attached_at: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    """Topic → the attachment of the last attach that the shard has answered. One that an edge asks for again, since
    the shard had routed the connection there already, is answered again; the edge ignores what it has."""
    cut_off: bool = False
    """Whether it ever lost an edge without a word from it, after which repeats are allowed."""

    def may_have_seen(self, topic: str, seq: int) -> bool:
        periods = [period[1:] for period in self.left if period[0] == topic]
        if topic in self.joined:
            periods.append((self.joined[topic], 1 << 60))
        return any(start < seq <= end for start, end in periods)


# --- the edge ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Socket:
    """A client's socket at an edge."""

    conn_id: str
    user: str
    attachment: int
    life: Life
    topics: set[str] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)


@dataclass
class EdgeTopic:
    epoch: str
    seq: int
    members: dict[Socket, None] = field(default_factory=dict)


class ModelEdge:
    """One life of an edge and both directions of its link to the shard."""

    def __init__(self, index: int, life: int, machine: ShardMachine) -> None:
        self.name = f"edge-{index}:{life}"
        self.machine = machine
        self.up: deque[ToShard] = deque()
        self.down: deque[ToPeer] = deque()
        self.session = ""
        self.held: dict[str, Socket] = {}
        self.topics: dict[str, EdgeTopic] = {}
        self.unanswered: dict[Socket, Attach] = {}
        self.moved: dict[str, int] = {}
        self.takes: dict[int, str] = {}
        self.taken: dict[int, Life] = {}
        """What each take that the shard has read was about."""
        self.asks = self.attaches = 0
        self.idle_since = machine.driver.clock.now.mono
        """When it last turned its loop to the end."""

    def take(self, conn_id: str) -> None:
        self.asks += 1
        self.takes[self.asks] = conn_id
        self.up.append(Ask(self.asks, float("inf"), TakeConnection(conn_id)))

    def beat(self) -> None:
        moved, self.moved = self.moved, {}
        self.up.append(Beat(self.session, ProcessStatus("edge", 0, 1, 0.0, "test"), moved))

    def turn(self) -> None:
        """Read all that is there."""
        while self.down:
            self.receive(self.down.popleft())
        self.idle_since = self.machine.driver.clock.now.mono

    def _hold(self, conn_id: str, state: ConnectionState, life: Life) -> None:
        former = self.held.get(conn_id)
        if former is not None:
            self.release(former, closed=False)
        socket = Socket(conn_id, state.user, state.attachment, life)
        self.held[conn_id] = socket
        topics = [TopicCursor("u/" + state.user), *(TopicCursor("c/" + name) for name in state.channels)]
        self._attach(socket, topics)

    def _attach(self, socket: Socket, topics: list[TopicCursor]) -> None:
        self.attaches += 1
        self.unanswered[socket] = Attach(socket.conn_id, socket.user, socket.attachment, topics, self.attaches)
        self.up.append(self.unanswered[socket])

    def release(self, socket: Socket, closed: bool) -> None:
        del self.held[socket.conn_id]
        cursors = [TopicCursor(key, self.topics[key].epoch, self.topics[key].seq) for key in sorted(socket.topics)]
        waiting = self.unanswered.pop(socket, None)
        if waiting is not None:
            cursors += [cursor for cursor in waiting.topics if cursor.epoch]
        for key in list(socket.topics):
            self._part(key, socket)
        self.up.append(Detach(socket.conn_id, socket.attachment, closed, cursors))

    def _part(self, key: str, socket: Socket) -> None:
        socket.topics.discard(key)
        topic = self.topics[key]
        topic.members.pop(socket, None)
        if not topic.members:
            del self.topics[key]
            self.moved.pop(key, None)

    def receive(self, message: ToPeer) -> None:
        match message:
            case Answer(number, result):
                conn_id = self.takes.pop(number)
                if isinstance(result, ConnectionState):
                    self._hold(conn_id, result, self.taken.get(number) or Life(conn_id, result.user, None))
            case Deliver():
                self._deliver(message)
            case Attached():
                self._attached(message)
            case Unsubscribed(conn_id, topics):
                socket = self.held.get(conn_id)
                waiting = self.unanswered.get(socket) if socket is not None else None
                if socket is not None and waiting is not None:
                    asked = [cursor for cursor in waiting.topics if cursor.topic not in topics]
                    self.unanswered[socket] = msgspec.structs.replace(waiting, topics=asked)
                for key in topics:
                    if socket is not None and key in socket.topics:
                        self._part(key, socket)
            case Drop(conn_id, attachment, _):
                socket = self.held.get(conn_id)
                if socket is not None and socket.attachment <= attachment:
                    self.release(socket, closed=False)
            case BeatAnswer(session):
                if session != self.session:
                    self.session = session
                    self._attach_again()

    def _deliver(self, message: Deliver) -> None:
        topic = self.topics.get(message.topic)
        if topic is None or message.seq <= topic.seq:
            return
        topic.seq = self.moved[message.topic] = message.seq
        for socket in topic.members:
            if socket.user not in (message.exclude or []) and (message.only is None or socket.user in message.only):
                for body in message.bodies:
                    self.machine.see(socket, message.topic, body, catchup=False)

    def _attached(self, message: Attached) -> None:
        socket = self.held.get(message.conn_id)
        if socket is None or socket.attachment != message.attachment:
            self.up.append(Detach(message.conn_id, message.attachment, False, []))
            return
        if message.number:
            waiting = self.unanswered.get(socket)
            if waiting is None or waiting.number != message.number:
                return  # answers an earlier attach
            del self.unanswered[socket]
        for attached in message.topics:
            if attached.topic in socket.topics:
                continue
            topic = self.topics.setdefault(attached.topic, EdgeTopic(attached.epoch, attached.seq))
            topic.members[socket] = None
            socket.topics.add(attached.topic)
            if attached.lost:
                lost = range(attached.cursor + 1, attached.cursor + attached.lost + 1)
                socket.life.excused.setdefault(attached.topic, set()).update(lost)
            for body in attached.missed:
                self.machine.see(socket, attached.topic, body, catchup=True)

    def _attach_again(self) -> None:
        positions: dict[Socket, list[TopicCursor]] = {}
        for key, topic in list(self.topics.items()):
            for socket in topic.members:
                positions.setdefault(socket, []).append(TopicCursor(key, topic.epoch, topic.seq))
                socket.topics.discard(key)
            del self.topics[key]
        self.moved.clear()
        for socket, attach in self.unanswered.items():
            positions.setdefault(socket, attach.topics)
        for socket, topics in positions.items():
            self._attach(socket, topics)


# --- the machine ------------------------------------------------------------------------------------------------------


class ShardMachine(RuleBasedStateMachine):
    """Rules are what backends, clients, edges and time may do; the checks are in `see`, `_sent` and `settle`."""

    make_driver: Any = None

    @initialize()
    def start(self) -> None:
        self.driver = self.make_driver()
        self.lives: dict[str, Life] = {}
        self.records: dict[str, str] = {}
        self.logs: dict[str, list[Entry]] = {}
        self.histories: dict[str, list[str]] = {}
        self.router_pending: dict[str, Join] = {}
        self.published = 0
        self.edge_lives = 0
        self.dead: set[str] = set()
        self.edges = {index: self._new_edge(index) for index in EDGES}
        for edge in self.edges.values():
            edge.beat()
        self.settle()

    @property
    def shard(self) -> Shard:
        return self.driver.shard  # type: ignore[no-any-return]

    def _new_edge(self, index: int) -> ModelEdge:
        self.edge_lives += 1
        return ModelEdge(index, self.edge_lives, self)

    # --- carrying out, and what it does to the model ---

    def _perform(self, effects: list[Effect]) -> None:
        """Into the pipes; what goes to an edge that is dead is lost without a word."""
        by_name = {edge.name: edge for edge in self.edges.values()}
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self._sent(message)
                    if peer in by_name:
                        by_name[peer].down.append(message)
                case Broadcast(peers, message):
                    assert len(set(peers)) == len(peers)
                    for peer in peers:
                        if peer in by_name:
                            by_name[peer].down.append(message)
                case _:
                    continue

    def _sent(self, message: ToPeer) -> None:
        """An attach must start where the client stands: nothing is passed over, and nothing sent twice without need."""
        if not isinstance(message, Attached):
            return
        life = self.lives.get(message.conn_id)
        assert life is not None
        for topic in message.topics:
            log = self.logs[topic.topic]
            assert topic.seq == len(log)
            start = life.joined[topic.topic]
            seen = life.seen.get(topic.topic, set()) | life.excused.get(topic.topic, set())
            for seq in range(start + 1, topic.cursor + 1):
                assert seq in seen or not log[seq - 1].visible_to(life.user), f"{topic.topic} {seq} is passed over"
            repeated = life.sent.get(topic.topic) == message.attachment
            covered = 0 if repeated else min(life.covered.get(topic.topic, 0), topic.seq)
            assert topic.cursor >= covered, "repeats what beats have covered"
            if not (life.cut_off or repeated):
                assert not [seq for seq in life.seen.get(topic.topic, set()) if seq > max(topic.cursor, start)]
            assert topic.lost == max(0, topic.seq - self._frames(topic.topic) - topic.cursor)
            life.covered[topic.topic] = topic.cursor
            life.attached_at[topic.topic] = topic.seq
            life.sent[topic.topic] = message.attachment

    def _frames(self, key: str) -> int:
        return FRAMES[key[2:]] if key.startswith("c/") else PRIVATE_FRAMES

    def _do(self, effects: list[Effect], on_presence: set[str]) -> None:
        """After each step of the shard: take over what it forgot, its announcements, and what it sent."""
        self._sync_lives()
        self._sync_presence(on_presence)
        self._perform(effects)
        self.check_consistency()

    def _sync_lives(self) -> None:
        for conn_id, life in list(self.lives.items()):
            if self.shard._connections.get(conn_id) is not life.shard_object:
                for topic in list(life.joined):
                    self._end_period(life, topic)
                del self.lives[conn_id]
        for conn_id, connection in self.shard._connections.items():
            if conn_id not in self.lives:
                self.lives[conn_id] = Life(conn_id, connection.user, connection)
        for conn_id in [conn_id for conn_id in self.records if conn_id not in self.shard._records]:
            del self.records[conn_id]

    def _end_period(self, life: Life, topic: str) -> None:
        life.left.append((topic, life.joined.pop(topic), len(self.logs[topic])))
        for known in (life.seen, life.excused, life.covered, life.attached_at, life.sent):
            known.pop(topic, None)

    def _on_presence(self) -> set[str]:
        return {life.user for life in self.lives.values() if "c/presence" in life.joined}

    def _sync_presence(self, before: set[str]) -> None:
        """A user's first connection and its last one are announced, once, and nothing else is."""
        channel = self.shard._channels.get("presence")
        if channel is None:
            return
        log = self.logs.setdefault("c/presence", [])
        after = self._on_presence()
        expected = Counter(
            [f"joined {user}" for user in after - before] + [f"parted {user}" for user in before - after]
        )
        seen: Counter[str] = Counter()
        for frame in list(channel._frames.values()):
            if frame.seq > len(log):
                body = msgspec.json.decode(frame.body)
                what = f"{body['message']['action']} {body['user']}"
                assert frame.exclude == [body["user"]]
                log.append(Entry(what, None, [body["user"]]))
                seen[what] += 1
        assert seen == expected
        # Who joins is served from behind the announcement.
        for life in self.lives.values():
            if life.joined.get("c/presence") == -1:
                life.joined["c/presence"] = len(log)

    def _ask(self, command: Any) -> Any:
        before = self._on_presence()
        effects = self.shard.handle("router-0:r", Ask(1, float("inf"), command), self.driver.clock.now)
        *rest, answer = self.driver.settled(effects)
        self._model_command(command)
        self._do(rest, before)
        assert isinstance(answer, Send)
        assert isinstance(answer.message, Answer)
        return answer.message.result

    def _model_command(self, command: Any) -> None:
        """Memberships follow the commands."""
        self._sync_lives()
        if isinstance(command, EnterUser):
            self._join(command.conn_id, "u/" + command.user)
        elif isinstance(command, Join):
            for name in command.channels:
                self._join(command.conn_id, "c/" + name)
        elif isinstance(command, Leave) and command.channels is not None and command.conn_id in self.lives:
            life = self.lives[command.conn_id]
            for name in command.channels:
                if "c/" + name in life.joined:
                    self._end_period(life, "c/" + name)

    def _join(self, conn_id: str, topic: str) -> None:
        log = self.logs.setdefault(topic, [])
        unknown_yet = topic == "c/presence"
        self.lives[conn_id].joined.setdefault(topic, -1 if unknown_yet else len(log))

    # --- what clients see ---

    def see(self, socket: Socket, topic: str, body: bytes, catchup: bool) -> None:
        told = msgspec.json.decode(body)
        seq = told["seq"]
        assert told["catchup"] is catchup
        entry = self.logs[topic][seq - 1]
        presence = told.get("type") == "presence"
        what = f"{told['message']['action']} {told['user']}" if presence else told["uuid"]
        life = socket.life
        assert what == entry.what
        assert entry.visible_to(socket.user), f"{socket.user} sees {what}"
        assert life.may_have_seen(topic, seq), f"{socket.conn_id} sees {topic} {seq}, which is not its own"
        again = seq <= socket.last.get(topic, 0)
        assert not again or life.cut_off, f"{socket.conn_id} sees {topic} {seq} after {socket.last[topic]}"
        socket.last[topic] = seq
        if topic in life.joined and seq > life.joined[topic]:
            life.seen.setdefault(topic, set()).add(seq)

    # --- backends ---

    @rule(conn_id=conn_ids, user=st.sampled_from(USERS), names=st.lists(channel_names, max_size=3, unique=True))
    def connect(self, conn_id: str, user: str, names: list[str]) -> None:
        self._proceed(conn_id)
        state = self._ask(OpenConnection(conn_id, user, names))
        if self.records.get(conn_id, user) != user:
            assert isinstance(state, OtherUser)
            return
        self.records[conn_id] = user
        held = (state.route, state.attachment, state.detached_for_s)
        self._ask(EnterUser(user, conn_id, {}, {}, None, *held))
        self._ask(Join(conn_id, user, {}, names, {name: CONFIGS[name] for name in names}, [], True, True, *held))

    @rule(conn_id=conn_ids, names=st.lists(channel_names, min_size=1, max_size=2, unique=True), later=st.booleans())
    def subscribe(self, conn_id: str, names: list[str], later: bool) -> None:
        self._proceed(conn_id)
        state = self._ask(AddChannels(conn_id, names))
        assert isinstance(state, Unknown) == (conn_id not in self.records)
        if isinstance(state, ConnectionState):
            held = (state.route, state.attachment, state.detached_for_s)
            configs = {name: CONFIGS[name] for name in names}
            self.router_pending[conn_id] = Join(conn_id, state.user, {}, names, configs, [], True, True, *held)
            if not later:
                self._proceed(conn_id)

    @rule(conn_id=conn_ids)
    def router_proceeds(self, conn_id: str) -> None:
        self._proceed(conn_id)

    def _proceed(self, conn_id: str) -> None:
        """The second step of a subscribe that was left half done."""
        join = self.router_pending.pop(conn_id, None)
        if join is not None and self.records.get(conn_id) == join.user:
            self._ask(join)

    @rule(conn_id=conn_ids, names=st.lists(channel_names, min_size=1, max_size=2, unique=True))
    def unsubscribe(self, conn_id: str, names: list[str]) -> None:
        self._proceed(conn_id)
        state = self._ask(RemoveChannels(conn_id, names))
        if isinstance(state, ConnectionState):
            self._ask(Leave(conn_id, names))

    @rule(conn_id=conn_ids, router_dies=st.booleans())
    def disconnect(self, conn_id: str, router_dies: bool) -> None:
        self._proceed(conn_id)
        state = self._ask(CloseConnection(conn_id))
        assert isinstance(state, Unknown) == (conn_id not in self.records) or conn_id not in self.shard._records
        if not router_dies:
            self._ask(Leave(conn_id, None))
            assert conn_id not in self.lives

    @rule(name=channel_names, only=some_users, exclude=some_users, no_history=st.booleans(), again=st.integers(0, 20))
    def publish(
        self, name: str, only: list[str] | None, exclude: list[str] | None, no_history: bool, again: int
    ) -> None:
        """`again` is low for a repeated uuid, so many messages back."""
        log = self.logs.get("c/" + name, [])
        uuid = log[-again].what if 0 < again <= min(len(log), 5) else self._new_uuid()
        if " " in uuid:
            uuid = self._new_uuid()
        kept = [entry.what for entry in log[max(0, len(log) - FRAMES[name]) :]]
        history = self.histories.setdefault(name, [])
        taken = "c/" + name in self.logs and uuid not in kept and uuid not in history
        if taken:
            log.append(Entry(uuid, only, exclude))
            if name == "unframed" and only is None and not exclude and not no_history:
                history.append(uuid)
                del history[:-2]
        body = msgspec.json.encode({"uuid": uuid})
        self._ask(Publish([Publication(["c/" + name], [uuid], [body], only, exclude, no_history)]))
        assert not taken or self.shard._topics[f"c/{name}"].seq == len(log)

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, unique=True))
    def publish_privately(self, users: list[str]) -> None:
        uuid = self._new_uuid()
        for user in users:
            if "u/" + user in self.logs:
                self.logs["u/" + user].append(Entry(uuid))
        body = msgspec.json.encode({"uuid": uuid})
        self._ask(Publish([Publication(["u/" + user for user in users], [uuid], [body])]))

    def _new_uuid(self) -> str:
        self.published += 1
        return f"m{self.published}"

    # --- clients and edges ---

    @rule(conn_id=conn_ids, edge=edge_indexes)
    def client_comes(self, conn_id: str, edge: int) -> None:
        self.edges[edge].take(conn_id)

    @rule(conn_id=conn_ids, edge=edge_indexes, closed=st.booleans())
    def client_goes(self, conn_id: str, edge: int, closed: bool) -> None:
        socket = self.edges[edge].held.get(conn_id)
        if socket is not None:
            self.edges[edge].release(socket, closed)

    @rule(edge=edge_indexes)
    def edge_beats(self, edge: int) -> None:
        self.edges[edge].beat()

    @rule(edge=edge_indexes, count=st.integers(1, 4))
    def shard_reads(self, edge: int, count: int) -> None:
        for _ in range(count):
            self._shard_reads_one(self.edges[edge])

    def _shard_reads_one(self, edge: ModelEdge) -> None:
        if not edge.up:
            return
        message = edge.up.popleft()
        before = self._on_presence()
        waiting = set(self.shard._waiting)
        effects = self.shard.handle(edge.name, message, self.driver.clock.now)
        if isinstance(message, Beat):
            self._cover(edge, message)
        elif isinstance(message, Ask) and edge.takes[message.number] in self.lives:
            edge.taken[message.number] = self.lives[edge.takes[message.number]]
        self._note_passed_over(waiting, effects)
        self._do(effects, before)

    def _cover(self, edge: ModelEdge, beat: Beat) -> None:
        peer = self.shard._peers[edge.name]
        if beat.session not in ("", peer.session):
            return
        for connection in self._attached_at(edge.name):
            life = self.lives[connection.conn_id]
            for topic, seq in beat.cursors.items():
                if topic in life.attached_at and seq > life.attached_at[topic] and topic in life.joined:
                    life.covered[topic] = max(seq, life.covered.get(topic, 0))

    @rule(edge=edge_indexes, count=st.integers(1, 6))
    def edge_reads(self, edge: int, count: int) -> None:
        for _ in range(count):
            if self.edges[edge].down:
                self.edges[edge].receive(self.edges[edge].down.popleft())

    @rule(edge=edge_indexes, arrived=st.integers(0, 3), noticed=st.booleans())
    def edge_is_killed(self, edge: int, arrived: int, noticed: bool) -> None:
        """Of what was on its way to the shard some arrives; what was on its way to it is gone with its clients."""
        old = self.edges[edge]
        old.down.clear()
        for _ in range(arrived):
            self._shard_reads_one(old)
        self.edges[edge] = self._new_edge(edge)
        self.edges[edge].beat()
        self._cut_off(old.name)
        if noticed:
            self._lose(old.name)

    @rule(edge=edge_indexes, arrives=st.integers(0, 5))
    def queue_to_edge_overflows(self, edge: int, arrives: int) -> None:
        """Some is in the pipe already; the rest is dropped, and the edge is taken for lost."""
        while len(self.edges[edge].down) > arrives:
            self._forget_lost_answer(self.edges[edge], self.edges[edge].down.pop())
        self._lose(self.edges[edge].name)

    def _forget_lost_answer(self, edge: ModelEdge, message: ToPeer) -> None:
        if isinstance(message, Answer):
            edge.takes.pop(message.number, None)

    def _cut_off(self, name: str) -> None:
        for connection in self._attached_at(name):
            self.lives[connection.conn_id].cut_off = True

    def _attached_at(self, edge: str) -> list[Connection]:
        return [connection for connection in self.shard._connections.values() if connection.route == edge]

    def _lose(self, name: str) -> None:
        self._cut_off(name)
        before = self._on_presence()
        effects = self.shard.lose_peer(name, self.driver.clock.now)
        self._do(effects, before)

    # --- time ---

    def _tick(self) -> None:
        for peer in list(self.shard._peers.values()):
            if peer.silent_at <= self.driver.clock.now.mono:
                self._cut_off(peer.name)
        before = self._on_presence()
        waiting = set(self.shard._waiting)
        attached = {conn_id: connection.route for conn_id, connection in self.shard._connections.items()}
        effects = self.shard.tick(self.driver.clock.now)
        for conn_id, route in attached.items():
            assert not route or conn_id in self.shard._connections or not self._beats(route)
        self._note_passed_over(waiting, effects)
        self._do(effects, before)

    def _beats(self, edge: str) -> bool:
        return edge in self.shard._peers

    def _note_passed_over(self, waiting: set[Any], effects: list[Effect]) -> None:
        """A former edge that said nothing in time was passed over: its client may see things twice."""
        for connection in waiting - set(self.shard._waiting):
            life = self.lives.get(connection.conn_id)
            drops = [effect.message for effect in effects if isinstance(effect, Send)]
            if life is not None and any(
                isinstance(drop, Drop) and drop.conn_id == connection.conn_id for drop in drops
            ):
                life.cut_off = True

    def _edges_are_awake(self) -> bool:
        """Whoever is out of reach for minutes finds that the shard no longer remembers what it has ended."""
        return all(self.driver.clock.now.mono - edge.idle_since < 60 for edge in self.edges.values())

    @precondition(_edges_are_awake)
    @rule(seconds=st.sampled_from([0.1, 0.4, 0.6, 1.1, 4.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        """Without a beat: with the longer ones, every edge is taken for lost."""
        self.driver.clock.advance(seconds)
        self._tick()

    @rule(seconds=st.sampled_from([2, 31]))
    def time_passes_with_beats(self, seconds: int) -> None:
        for _ in range(seconds):
            for edge in self.edges.values():
                edge.beat()
                while edge.up:
                    self._shard_reads_one(edge)
                edge.turn()
            self.driver.clock.advance(1.0)
            self._tick()

    # --- the checks ---

    @rule()
    def settle(self) -> None:
        """Everything on its way arrives, the edges beat, waits are over: now every client has all that is its own."""
        for _ in range(4):
            for edge in self.edges.values():
                edge.beat()
            self._empty_pipes()
            self.driver.clock.advance(1.01)
            self._tick()
        for conn_id in CONN_IDS:
            self._proceed(conn_id)
        self._empty_pipes()
        assert not self.shard._waiting
        for edge in self.edges.values():
            assert not edge.unanswered
            for socket in edge.held.values():
                self._assert_complete(edge, socket)

    def _empty_pipes(self) -> None:
        while any(edge.up or edge.down for edge in self.edges.values()):
            for edge in self.edges.values():
                while edge.up:
                    self._shard_reads_one(edge)
                edge.turn()

    def _assert_complete(self, edge: ModelEdge, socket: Socket) -> None:
        life = self.lives.get(socket.conn_id)
        assert life is not None, f"{socket.conn_id} is held and not known"
        record = self.shard._records.get(socket.conn_id)
        assert record is not None, f"{socket.conn_id} is held and has no record"
        held = (edge.name, socket.attachment)
        assert (record.route, record.attachment) == held, f"{record.conn_id} {record.route} {record.attachment} {held}"
        assert socket.topics == set(life.joined)
        for topic, start in life.joined.items():
            seen = life.seen.get(topic, set()) | life.excused.get(topic, set())
            for seq, entry in enumerate(self.logs[topic], 1):
                if seq > start and entry.visible_to(life.user):
                    assert seq in seen, f"{socket.conn_id} has not seen {topic} {seq}"

    @invariant()
    def check_consistency(self) -> None:
        """What the shard keeps fits together, and fits the model."""
        if not hasattr(self, "driver"):
            return
        shard = self.shard
        for key, topic in shard._topics.items():
            routes = Counter(member.route for member in topic.members() if topic.is_attached(member))
            assert dict(zip(topic.routes, topic._at_routes, strict=True)) == dict(routes)
            assert topic.seq == len(self.logs.get(key, []))
            for member in topic.members():
                assert shard._connections[member.conn_id] is member
                assert topic in member.topics
        for connection in shard._connections.values():
            assert not connection.route or connection.route in shard._peers
            assert {topic.key for topic in connection.topics} == set(self.lives[connection.conn_id].joined)
        for record in shard._records.values():
            assert not record.route or record.route in shard._peers
        for connection in shard._waiting:
            assert shard._connections[connection.conn_id] is connection
            assert connection.route
        self._check_people()

    def _check_people(self) -> None:
        on_channels = {
            channel.name: Counter(member.user for member in channel.members())
            for channel in self.shard._channels.values()
        }
        for name, counts in on_channels.items():
            members = self.shard._channels[name].members_by_user
            assert {person.name: count for person, count in members._counts.items()} == counts
        for person in self.shard._people.values():
            assert person.connections
            assert {channel.name for channel in person.channels()} == {
                name for name, counts in on_channels.items() if counts[person.name]
            }
        assert set(self.shard._people) == {user for counts in on_channels.values() for user in counts}

    def teardown(self) -> None:
        """After everybody has gone and time has passed, nothing is left."""
        if not hasattr(self, "driver"):
            return
        self.settle()
        for conn_id in CONN_IDS:
            self.disconnect(conn_id, False)
        self.settle()
        assert not any(edge.held for edge in self.edges.values())
        self.driver.clock.advance(4)
        self._tick()
        self.driver.clock.advance(KEEP_S)
        self._tick()
        shard = self.shard
        assert not any([shard._records, shard._connections, shard._people, shard._waiting, shard._peers])
        assert all(not topic.routes and not topic.total_connections for topic in shard._topics.values())
        self.driver.clock.advance(4 * 86400)
        effects = shard.tick(self.driver.clock.now)
        assert not [effect for effect in effects if isinstance(effect, Send)]
        assert not any([shard._topics, shard._channels, shard._users])
        assert shard.next_due() == inf


def test_a_shard_does_what_the_model_says(make_driver: Any) -> None:
    ShardMachine.make_driver = staticmethod(make_driver)
    run_state_machine_as_test(
        ShardMachine,
        settings=settings(
            max_examples=MOST_EXAMPLES, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
