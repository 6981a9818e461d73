"""What tests share: a clock that stands still, ids that count, a shard that is spoken to in words of the domain."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import pytest
from hypothesis import settings

from channelstream.clock import Now
from channelstream.shard.core import Settings, Shard
from channelstream.shard.effects import Broadcast, Effect, Reply, Send, Store, Tell
from channelstream.shard.store.base import Saved, Write
from channelstream.wire.messages import (
    AddChannels,
    Answer,
    Ask,
    Attach,
    Attached,
    AttachedTopic,
    Beat,
    Channels,
    CloseConnection,
    Command,
    ConfigChange,
    ConnectionState,
    Deliver,
    Detach,
    EnterUser,
    GetChannels,
    GetStates,
    Join,
    Leave,
    OpenConnection,
    ProcessStatus,
    Publication,
    Publish,
    RemoveChannels,
    Result,
    State,
    TakeConnection,
    ToPeer,
    TopicCursor,
    ToShard,
    UserState,
)

ROUTER: Final = "router-0:r"
SHARD_STATUS: Final = ProcessStatus("shard", 0, 1, 0.0, "test")

settings.register_profile("here", deadline=None)
settings.load_profile("here")  # how long an example takes says more of the machine than of the code


class FakeClock:
    """Stands still until it is told to go on."""

    def __init__(self, mono: float = 5000.0, wall: float = 1_700_000_000.0) -> None:
        self.now = Now(mono, wall)

    def __call__(self) -> Now:
        return self.now

    def advance(self, seconds: float) -> Now:
        """So much later."""
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)
        return self.now


def body_of(**fields: object) -> bytes:
    """A message's body as a router makes it: a JSON object without position."""
    return msgspec.json.encode(fields)


class ShardDriver:
    """A shard with a clock and a mailbox for each peer. Each word carries out one command at once."""

    def __init__(
        self,
        settings: Settings | None = None,
        saved: Saved | None = None,
        clock: FakeClock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self.clock: Final = clock or FakeClock()
        self._settings: Final = settings or Settings()
        self._numbers = count(1)
        ids = count(1)
        self._new_id: Final = new_id or (lambda: f"id-{next(ids)}")
        self.shard = Shard(SHARD_STATUS, self._settings, self._new_id, saved or Saved(), self.clock.now)
        self.mail: dict[str, list[ToPeer]] = defaultdict(list)
        self.writes: list[Write] = []

    # --- carrying out ---

    def perform(self, effects: Iterable[Effect]) -> list[Effect]:
        """Put what is sent into the mailboxes, and keep what is to be stored: at once, as far as anybody can see."""
        effects = list(effects)
        for effect in self.settled(effects):
            match effect:
                case Send(peer, message):
                    self.mail[peer].append(message)
                case Broadcast(peers, message):
                    for peer in peers:
                        self.mail[peer].append(message)
                case Store(write):
                    self.writes.append(write)
        return effects

    def settled(self, effects: Iterable[Effect]) -> Iterator[Effect]:
        """The effects with those that wait for the store as what they become."""
        for effect in effects:
            match effect:
                case Reply(peer, answer):
                    yield Send(peer, answer)
                case Tell():
                    yield from self.shard.told(effect)
                case _:
                    yield effect

    def handle(self, peer: str, message: ToShard) -> list[Effect]:
        """Any message of any peer."""
        return self.perform(self.shard.handle(peer, message, self.clock.now))

    def ask(self, command: Command, peer: str = ROUTER, deadline_s: float = 1.0) -> Result | None:
        """A command and its answer, None where there is none."""
        number = next(self._numbers)
        self.handle(peer, Ask(number, self.clock.now.mono + deadline_s, command))
        mail = self.mail[peer]
        if mail and isinstance(mail[-1], Answer) and mail[-1].number == number:
            answer = mail.pop()
            assert isinstance(answer, Answer)
            return answer.result
        return None

    def restart(self, saved: Saved | None = None) -> None:
        """Another life of the shard: whatever was not saved is forgotten."""
        self.shard = Shard(SHARD_STATUS, self._settings, self._new_id, saved or Saved(), self.clock.now)

    # --- backends ---

    def connect(
        self,
        conn_id: str,
        user: str,
        channels: Sequence[str] = (),
        configs: dict[str, ConfigChange] | None = None,
        public: State | None = None,
    ) -> ConnectionState:
        """All steps of a /connect."""
        state = self.ask(OpenConnection(conn_id, user, list(channels)))
        assert isinstance(state, ConnectionState), state
        self.enter(conn_id, user, state, state_values=public or {}, public_keys=list(public or {}))
        self.join(conn_id, user, channels, state, configs, public)
        return state

    def enter(
        self,
        conn_id: str,
        user: str,
        held: ConnectionState | None = None,
        fresh: State | None = None,
        state_values: State | None = None,
        public_keys: list[str] | None = None,
    ) -> UserState:
        """The user's part of a /connect."""
        route, attachment, detached = _held(held)
        result = self.ask(
            EnterUser(user, conn_id, fresh or {}, state_values or {}, public_keys, route, attachment, detached)
        )
        assert isinstance(result, UserState)
        return result

    def join(
        self,
        conn_id: str,
        user: str,
        channels: Sequence[str],
        held: ConnectionState | None = None,
        configs: dict[str, ConfigChange] | None = None,
        public: State | None = None,
        about: Sequence[str] = (),
    ) -> Result | None:
        """The channels' part of a /connect or a /subscribe."""
        route, attachment, detached = _held(held)
        return self.ask(
            Join(
                conn_id, user, public or {}, list(channels), configs or {}, list(about), True, True,
                route, attachment, detached,
            )
        )  # fmt: skip

    def subscribe(self, conn_id: str, channels: Sequence[str], configs: dict[str, ConfigChange] | None = None) -> None:
        """All steps of a /subscribe."""
        state = self.ask(AddChannels(conn_id, list(channels)))
        assert isinstance(state, ConnectionState), state
        self.join(conn_id, state.user, channels, state, configs)

    def unsubscribe(self, conn_id: str, channels: Sequence[str]) -> None:
        """All steps of an /unsubscribe."""
        assert isinstance(self.ask(RemoveChannels(conn_id, list(channels))), ConnectionState)
        self.ask(Leave(conn_id, list(channels)))

    def disconnect(self, conn_id: str) -> Result | None:
        """All steps of a /disconnect."""
        result = self.ask(CloseConnection(conn_id))
        self.ask(Leave(conn_id, None))
        return result

    def publish(
        self,
        topic: str,
        uuid: str,
        only: list[str] | None = None,
        exclude: list[str] | None = None,
        no_history: bool = False,
    ) -> list[Effect]:
        """One message to one topic."""
        publication = Publication([topic], [uuid], [body_of(uuid=uuid)], only, exclude, no_history)
        return self.handle(ROUTER, Ask(next(self._numbers), self.clock.now.mono + 1.0, Publish([publication])))

    def effects_of(self, command: Command) -> list[Effect]:
        """All that one command wants done."""
        return self.handle(ROUTER, Ask(next(self._numbers), self.clock.now.mono + 1.0, command))

    def channel(self, name: str) -> dict[str, Any]:
        """A channel as /info shows it."""
        return self.channels([name])[name]

    def channels(self, names: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """Channels as /info shows them, those that exist; None: all."""
        result = self.ask(GetChannels(names, True, True))
        assert isinstance(result, Channels)
        return {info.name: msgspec.json.decode(info.json) for info in result.channels}

    def user(self, name: str, include_connections: bool = True, public_only: bool = False) -> dict[str, Any] | None:
        """A user as /info shows it, None where there is none."""
        infos = self.ask(GetStates([name], include_connections, public_only)).users  # type: ignore[union-attr]
        return msgspec.json.decode(infos[0].json) if infos else None

    # --- edges ---

    def take(self, conn_id: str, edge: str) -> ConnectionState:
        """An edge asks for a connection."""
        state = self.ask(TakeConnection(conn_id), peer=edge)
        assert isinstance(state, ConnectionState), state
        return state

    def attach(
        self, conn_id: str, edge: str, state: ConnectionState, topics: Iterable[TopicCursor] | None = None
    ) -> None:
        """An edge attaches a connection that it has taken."""
        if topics is None:
            topics = [TopicCursor("u/" + state.user), *(TopicCursor("c/" + name) for name in state.channels)]
        self.handle(edge, Attach(conn_id, state.user, state.attachment, list(topics), 1))

    def hold(self, conn_id: str, edge: str) -> ConnectionState:
        """A client comes to an edge: taken and attached."""
        state = self.take(conn_id, edge)
        self.attach(conn_id, edge, state)
        return state

    def detach(
        self,
        conn_id: str,
        edge: str,
        state: ConnectionState,
        closed: bool = False,
        cursors: Iterable[TopicCursor] = (),
    ) -> None:
        """A client is gone from an edge."""
        self.handle(edge, Detach(conn_id, state.attachment, closed, list(cursors)))

    def beat(self, edge: str, session: str = "", cursors: dict[str, int] | None = None) -> str:
        """An edge is alive; the session that it is told comes back."""
        self.handle(edge, Beat(session, ProcessStatus("edge", 0, 1, 0.0, "test"), cursors or {}))
        return self.mail[edge].pop().session  # type: ignore[union-attr]

    def lose(self, edge: str) -> None:
        """The bus says that a peer is gone."""
        self.perform(self.shard.lose_peer(edge, self.clock.now))

    # --- time ---

    def tick(self, after_s: float = 0.0) -> list[Effect]:
        """What is due so much later."""
        self.clock.advance(after_s)
        return self.perform(self.shard.tick(self.clock.now))

    def live(self, seconds: float, *edges: str, step_s: float = 1.0) -> None:
        """Time goes by while these edges beat."""
        while seconds > 0:
            step = min(step_s, seconds)
            self.clock.advance(step)
            for edge in edges:
                self.beat(edge)
            self.tick()
            seconds -= step

    # --- what an edge got ---

    def received(self, peer: str) -> list[ToPeer]:
        """Everything since the last look."""
        return self.mail.pop(peer, [])

    def attached(self, edge: str) -> dict[str, AttachedTopic]:
        """The topics of all `Attached` since the last look; what else came is dropped."""
        return {
            topic.topic: topic
            for message in self.received(edge)
            if isinstance(message, Attached)
            for topic in message.topics
        }


def _held(state: ConnectionState | None) -> tuple[str, int, float]:
    return ("", 0, 0.0) if state is None else (state.route, state.attachment, state.detached_for_s)


def uuids(bodies: Iterable[bytes]) -> list[str]:
    """The uuids of finished objects."""
    return [msgspec.json.decode(body)["uuid"] for body in bodies]


def _assert_delivered(messages: Iterable[ToPeer], topic: str, *expected: str) -> list[Deliver]:
    """Exactly these uuids were delivered on this topic, in this order."""
    delivers = [message for message in messages if isinstance(message, Deliver) and message.topic == topic]
    assert uuids(body for message in delivers for body in message.bodies) == list(expected)
    return delivers


def _assert_missed(attached: AttachedTopic, *expected: str, lost: int | None = 0) -> None:
    """The attach brought exactly these uuids, marked as catch-up, and told of so many lost ones."""
    assert uuids(attached.missed) == list(expected)
    assert all(msgspec.json.decode(body)["catchup"] is True for body in attached.missed)
    assert attached.lost == lost


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def driver(clock: FakeClock) -> ShardDriver:
    """A fresh shard with the default settings."""
    return ShardDriver(clock=clock)


@pytest.fixture
def make_driver() -> type[ShardDriver]:
    """Shards with other settings, or with something saved."""
    return ShardDriver


@pytest.fixture
def assert_delivered() -> Callable[..., list[Deliver]]:
    """`assert_delivered(messages, topic, *uuids)`: exactly these, in this order; the `Deliver`s come back."""
    return _assert_delivered


@pytest.fixture
def assert_missed() -> Callable[..., None]:
    """`assert_missed(attached_topic, *uuids, lost=0)`."""
    return _assert_missed


@pytest.fixture(scope="session")
def helpers() -> ModuleType:
    """What the group's own tests start a group with; there, their own conftest is it."""
    path = Path(__file__).parent / "group" / "conftest.py"
    spec = importlib.util.spec_from_file_location("group_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
