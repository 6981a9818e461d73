"""What the tests of the router share: real shards, asked at once and without any bus between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from falcon.testing import TestClient

from channelstream.clock import Clock, Now
from channelstream.config import Config, load
from channelstream.errors import ShardAway
from channelstream.ids import channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.router.app import make_app
from channelstream.router.schemas import parse_connect, parse_info, parse_subscribe, parse_unsubscribe
from channelstream.router.service import Service
from channelstream.shard.core import Settings, Shard
from channelstream.shard.effects import Broadcast, Effect, Reply, Send, Tell
from channelstream.shard.store.base import Saved
from channelstream.signing import sign, value_to_sign
from channelstream.wire import codec
from channelstream.wire.messages import (
    Answer,
    Ask,
    Attach,
    Attached,
    Command,
    ConnectionState,
    Deliver,
    ProcessStatus,
    Result,
    TakeConnection,
    ToPeer,
    TopicCursor,
    ToShard,
)

ROUTER: Final = "router-0:r"
EDGE: Final = "edge-0:e"

Fate = Callable[[int, Command], str]
"""What happens to an ask: "carried out", "lost" (it never reaches the shard), or "unanswered" (its answer is)."""


def _all_is_well(shard: int, command: Command) -> str:
    return "carried out"


class Sizes(NamedTuple):
    """A group."""

    routers: int = 1
    shards: int = 3
    edges: int = 1


class Shards:
    """What the service asks: shards of a ring, which answer at once. All that is said crosses the wire's codec."""

    def __init__(self, sizes: Sizes, clock: Clock) -> None:
        self.sizes: Final = sizes
        self.ring: Final = Ring(sizes.shards)
        self._clock: Final = clock
        self._numbers = count(1)
        ids = count(1)
        self._all: Final = [
            Shard(ProcessStatus("shard", index, 100 + index, 50.0, "v"), Settings(), lambda: f"id-{next(ids)}", Saved(),
                  clock())
            for index in range(sizes.shards)
        ]  # fmt: skip
        self.fate: Fate = _all_is_well
        """Set by a test."""
        self.asked: list[list[tuple[int, Command]]] = []
        """What each `ask_all` was given."""
        self.mail: dict[str, list[ToPeer]] = {}
        """What the shards pushed, by peer."""

    # --- the service's port ---

    def ask_all(self, commands: Sequence[tuple[int, Command]]) -> list[Result | ShardAway]:
        """See `Asking`."""
        self.asked.append(list(commands))
        return [self._ask(shard, command) for shard, command in commands]

    def _ask(self, shard: int, command: Command) -> Result | ShardAway:
        fate = self.fate(shard, command)
        if fate == "lost":
            return ShardAway(shard, "no answer within the deadline")
        number = next(self._numbers)
        answers = self._handle(shard, ROUTER, Ask(number, self._clock().mono + 1.0, command))
        (answer,) = [message for message in answers if isinstance(message, Answer)]
        assert answer.number == number
        return answer.result if fate == "carried out" else ShardAway(shard, "no answer within the deadline")

    def _handle(self, shard: int, peer: str, message: ToShard) -> list[ToPeer]:
        """Carry out a message; what that peer is sent comes back."""
        (read,) = codec.shard_reader().read(codec.join(0, 1, [codec.encode(message)])).messages
        before = len(self.mail.get(peer, []))
        self._post(self._all[shard], self._all[shard].handle(peer, read, self._clock()))
        return self.mail.get(peer, [])[before:]

    def _post(self, shard: Shard, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message) | Reply(peer, message):
                    self._put((peer,), message)
                case Broadcast(peers, message):
                    self._put(peers, message)
                case Tell():
                    self._post(shard, shard.told(effect))

    def _put(self, peers: Sequence[str], message: ToPeer) -> None:
        (read,) = codec.peer_reader().read(codec.join(0, 1, [codec.encode(message)])).messages
        for peer in peers:
            self.mail.setdefault(peer, []).append(read)

    # --- what a test does to them ---

    def tick(self, now: Now) -> None:
        """Whatever is due by now."""
        for shard in self._all:
            self._post(shard, shard.tick(now))

    def lose(self, *kinds: type, at: int | None = None) -> None:
        """From now on commands of these kinds do not reach their shards."""
        self.fate = lambda shard, command: (
            "lost" if isinstance(command, kinds) and at in (None, shard) else "carried out"
        )

    def leave_unanswered(self, *kinds: type) -> None:
        """From now on commands of these kinds are carried out, and nobody hears of it."""
        self.fate = lambda shard, command: "unanswered" if isinstance(command, kinds) else "carried out"

    def heal(self) -> None:
        """All is well again."""
        self.fate = _all_is_well

    def kinds_asked(self) -> list[list[str]]:
        """The kinds of the commands of each step since the last look."""
        asked, self.asked = self.asked, []
        return [[type(command).__name__ for _, command in step] for step in asked]

    def attach(self, conn_id: str, edge: str = EDGE) -> None:
        """A client comes to an edge, which attaches it to all that it is on."""
        owner = self.ring.owner(connection_key(conn_id))
        ask = Ask(next(self._numbers), self._clock().mono + 1.0, TakeConnection(conn_id))
        (answer,) = self._handle(owner, edge, ask)
        assert isinstance(answer, Answer)
        state = answer.result
        assert isinstance(state, ConnectionState)
        for key in [user_key(state.user), *map(channel_key, state.channels)]:
            attach = Attach(conn_id, state.user, state.attachment, [TopicCursor(key)])
            assert [type(message) for message in self._handle(self.ring.owner(key), edge, attach)] == [Attached]

    def tell_all(self, peer: str, message: ToShard) -> None:
        """A peer says something to every shard."""
        for shard in range(self.sizes.shards):
            self._handle(shard, peer, message)

    def received(self, edge: str = EDGE) -> list[ToPeer]:
        """What an edge was sent since the last look, but for answers and word of its attaches."""
        return [one for one in self.mail.pop(edge, []) if not isinstance(one, Answer | Attached)]

    def delivered(self, edge: str = EDGE) -> list[dict[str, Any]]:
        """The objects of the deliveries that an edge got since the last look."""
        return [
            msgspec.json.decode(body)
            for message in self.received(edge)
            if isinstance(message, Deliver)
            for body in message.bodies
        ]


class Backend:
    """Calls the service as the resources do: JSON in, JSON out."""

    def __init__(self, service: Service) -> None:
        self.service: Final = service

    def connect(self, **body: object) -> dict[str, Any]:
        """POST /connect."""
        return _decoded(self.service.connect(parse_connect(msgspec.json.encode(body))))

    def subscribe(self, **body: object) -> dict[str, Any]:
        """POST /subscribe."""
        return _decoded(self.service.subscribe(parse_subscribe(msgspec.json.encode(body))))

    def unsubscribe(self, **body: object) -> dict[str, Any]:
        """POST /unsubscribe."""
        return _decoded(self.service.unsubscribe(parse_unsubscribe(msgspec.json.encode(body))))

    def info(self, **body: object) -> dict[str, Any]:
        """POST /info."""
        return _decoded(self.service.info(parse_info(msgspec.json.encode(body) if body else b"")))

    def message(self, *messages: dict[str, object]) -> list[dict[str, Any]]:
        """POST /message."""
        answer: list[dict[str, Any]] = msgspec.json.decode(self.service.message(msgspec.json.encode(messages)))
        return answer


def _decoded(answer: bytes) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(answer)
    return body


def _uuids() -> Iterator[str]:
    return (f"00000000-0000-4000-8000-{number:012d}" for number in count(1))


@pytest.fixture
def sizes() -> Sizes:
    """A router, an edge, and three shards."""
    return Sizes()


@pytest.fixture
def new_uuid() -> Callable[[], str]:
    """UUIDs that count."""
    uuids = _uuids()
    return lambda: next(uuids)


@pytest.fixture
def shards(sizes: Sizes, clock: Clock) -> Shards:
    """Three fresh shards."""
    return Shards(sizes, clock)


@pytest.fixture
def service(shards: Shards, sizes: Sizes, clock: Clock, new_uuid: Callable[[], str]) -> Service:
    """The service over them."""
    return Service(shards, sizes, clock, new_uuid)


@pytest.fixture
def backend(service: Service) -> Backend:
    """A backend that calls it."""
    return Backend(service)


class Caller:
    """A backend with a key, calling an app over WSGI."""

    def __init__(self, app: Any, config: Config, clock: Clock) -> None:
        self.client: Final = TestClient(app)
        self._config: Final = config
        self._clock: Final = clock

    def signature(self, path: str, method: str = "POST", body: bytes = b"", nonce: str = "", age_s: float = 0.0) -> str:
        """The value of X-Channelstream-Secret for a call."""
        value = value_to_sign(self._config.signature_scope, method, path, body, nonce)
        return sign(self._config.secret, value, self._clock().wall - age_s)

    def post(self, path: str, body: object = None, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """A signed call. `body`: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        signed = {"X-Channelstream-Secret": self.signature(path, body=raw), **(headers or {})}
        return self.client.simulate_post(path, body=raw, headers=signed, **{"remote_addr": "127.0.0.1", **more})

    def bare(self, method: str, path: str, **more: Any) -> Any:
        """A call without a signature of its own."""
        return self.client.simulate_request(method, path, **{"remote_addr": "127.0.0.1", **more})


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """Settings from defaults and flags."""
    return lambda **flags: load(None, "", {}, {"secret": "s3", **flags}, 1000, 4, "/srv").config


@pytest.fixture
def make_caller(
    service: Service, clock: Clock, new_uuid: Callable[[], str], make_config: Callable[..., Config]
) -> Callable[..., Caller]:
    """A caller of the app over the three shards, with these settings."""

    def make(api: bool = True, **flags: str) -> Caller:
        config = make_config(**flags)
        return Caller(make_app(service, config, clock, new_uuid, api), config, clock)

    return make


@pytest.fixture
def caller(make_caller: Callable[..., Caller]) -> Caller:
    """A caller of the app with the default settings."""
    return make_caller()
