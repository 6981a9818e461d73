"""Who is on what, at this edge: messages of the shards in, what is to be written, closed and told out.

Pure. A client is known here as a `Held`; how it is held (websocket, long-poll) and how bytes reach it is not. The
order of calls: `receive` for each message of a turn, then `end_turn` for what is to be done about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from channelstream.edge.frames import CLOSE_REPLACED, gap
from channelstream.edge.outbox import Mark, Ready
from channelstream.ids import TopicKey, channel_key, connection_key, user_key
from channelstream.ring import Ring
from channelstream.wire.messages import (
    Attach,
    Attached,
    AttachedTopic,
    ConnectionState,
    Deliver,
    Detach,
    Drop,
    ToPeer,
    TopicCursor,
    Unsubscribed,
)

ASK_AGAIN_S: Final = 1.0
"""An attach that is not answered is sent again after this long: the shard was away, or came back without it."""


class Topic:
    """A topic as this edge sees it, for as long as one of its clients is on it."""

    __slots__ = ("epoch", "key", "members", "pending", "pending_before", "seq", "shard")

    def __init__(self, key: str, shard: int, epoch: str, seq: int) -> None:
        self.key: Final = key
        self.shard: Final = shard
        self.epoch: Final = epoch
        self.seq = seq
        """The last delivery that was given to the members."""
        self.members: dict[Held, None] = {}
        self.pending: list[bytes] = []
        """This turn's bodies for all members, not yet in an effect."""
        self.pending_before = 0
        """The position before the first of them."""


class Held:
    """A connection that this edge holds. Subclasses add what it is held by."""

    __slots__ = ("attachment", "conn_id", "released", "shards", "topics", "user")

    def __init__(self, conn_id: str, user: str, attachment: int) -> None:
        self.conn_id: Final = conn_id
        self.user: Final = user
        self.attachment: Final = attachment
        self.topics: dict[Topic, None] = {}
        self.shards = 0
        """A bit for each shard that knows of this attachment and must hear of its end."""
        self.released = False

    def deliver(self, ready: Sequence[Ready]) -> None:
        """Take these, in one write if it can be."""
        raise NotImplementedError

    def close(self, code: int) -> None:
        """Let the client go, with this close code."""
        raise NotImplementedError


class Write(NamedTuple):
    """These objects, as one list, to these clients. `mark`: what they are, should they not arrive."""

    clients: Sequence[Held]
    bodies: Sequence[bytes]
    mark: Mark


class Close(NamedTuple):
    """End this client with this code."""

    client: Held
    code: int


class Tell(NamedTuple):
    """To a shard."""

    shard: int
    message: Attach | Detach


Effect = Write | Close | Tell


class Edge:
    """All clients and topics of one edge."""

    def __init__(self, ring: Ring) -> None:
        self._ring: Final = ring
        self._held: dict[str, Held] = {}
        self._topics: dict[str, Topic] = {}
        self._moved: list[dict[str, int]] = [{} for _ in range(ring.shards)]
        """Per shard: topics and their seq, where it moved since the shard was told."""
        self._unanswered: dict[tuple[Held, int], tuple[float, Attach]] = {}
        """Attaches without an answer, with the moment of asking."""
        self._turn: list[Effect] = []
        self._touched: dict[Topic, None] = {}
        """Topics with pending bodies."""

    def __len__(self) -> int:
        return len(self._held)

    @property
    def channels(self) -> int:
        """How many channels have a client here."""
        return sum(1 for key in self._topics if key.startswith("c/"))

    def clients(self) -> list[Held]:
        """Everyone who is held now."""
        return list(self._held.values())

    # --- clients come and go ---

    def hold(self, client: Held, state: ConnectionState, now: float) -> list[Effect]:
        """A client is here; its connection's shard has given it to us. Its topics follow as their shards answer.

        A former holder of the same connection, which the shard's order to drop it has not reached, is closed first:
        perform the effects in their order.
        """
        former = self._held.get(client.conn_id)
        effects: list[Effect] = []
        if former is not None:
            effects.append(Close(former, CLOSE_REPLACED))
        self._held[client.conn_id] = client
        client.shards |= 1 << self._ring.owner(connection_key(client.conn_id))
        keys = [user_key(client.user), *(channel_key(name) for name in state.channels)]
        by_shard: dict[int, list[TopicCursor]] = {}
        for key in keys:
            by_shard.setdefault(self._ring.owner(key), []).append(TopicCursor(key))
        for shard, topics in by_shard.items():
            effects.append(self._attach(client, shard, topics, now))
        return effects

    def _attach(self, client: Held, shard: int, topics: list[TopicCursor], now: float) -> Tell:
        message = Attach(client.conn_id, client.user, client.attachment, topics)
        client.shards |= 1 << shard
        self._unanswered[client, shard] = (now, message)
        return Tell(shard, message)

    def release(self, client: Held, closed: bool, unsent: Iterable[Mark] = ()) -> list[Effect]:
        """A client is here no more. `closed`: it said good-bye. `unsent`: what was meant for it and did not go out."""
        if client.released:
            return []
        client.released = True
        if self._held.get(client.conn_id) is client:
            del self._held[client.conn_id]
        cursors = self._cursors_of(client, unsent)
        for topic in list(client.topics):
            self._part(topic, client)
        told = [shard for shard in range(self._ring.shards) if client.shards >> shard & 1]
        for shard in told:
            self._unanswered.pop((client, shard), None)
        return [
            Tell(shard, Detach(client.conn_id, client.attachment, closed, cursors.get(shard, []))) for shard in told
        ]

    def _cursors_of(self, client: Held, unsent: Iterable[Mark]) -> dict[int, list[TopicCursor]]:
        """How far the client was served, by shard. What is pending in this turn has not been written."""
        before: dict[str, int] = {}
        for mark in unsent:
            before[mark.topic] = min(mark.before, before.get(mark.topic, mark.before))
        cursors: dict[int, list[TopicCursor]] = {}
        for topic in client.topics:
            served = topic.pending_before if topic.pending else topic.seq
            seq = min(served, before.get(topic.key, served))
            cursors.setdefault(topic.shard, []).append(TopicCursor(topic.key, topic.epoch, seq))
        for shard in range(self._ring.shards):
            waiting = self._unanswered.get((client, shard))
            if waiting is not None:
                known = [cursor for cursor in waiting[1].topics if cursor.epoch]
                cursors.setdefault(shard, []).extend(known)
        return cursors

    def _part(self, topic: Topic, client: Held) -> None:
        topic.members.pop(client, None)
        client.topics.pop(topic, None)
        if not topic.members:
            self._flush(topic)
            self._forget_topic(topic)

    def _forget_topic(self, topic: Topic) -> None:
        if self._topics.get(topic.key) is topic:
            del self._topics[topic.key]
        self._moved[topic.shard].pop(topic.key, None)

    # --- what the shards send ---

    def receive(self, shard: int, message: ToPeer) -> None:
        """One message of a shard, in the order of its pipe."""
        match message:
            case Deliver():
                self._deliver(message)
            case Attached():
                self._attached(shard, message)
            case Unsubscribed():
                self._unsubscribed(message)
            case Drop():
                self._drop(message)

    def end_turn(self) -> list[Effect]:
        """What is to be done about all that was received since the last call, in order."""
        for topic in list(self._touched):
            self._flush(topic)
        turn, self._turn = self._turn, []
        return turn

    def _deliver(self, message: Deliver) -> None:
        topic = self._topics.get(message.topic)
        if topic is None or message.seq <= topic.seq:
            return
        if message.only is None and not message.exclude:
            if not topic.pending:
                topic.pending_before = topic.seq
                self._touched[topic] = None
            topic.pending.append(message.body)
        else:
            self._flush(topic)
            clients = [client for client in topic.members if _may_see(client.user, message)]
            if clients:
                self._turn.append(Write(clients, (message.body,), Mark(topic.key, message.seq - 1)))
        topic.seq = message.seq
        self._moved[topic.shard][topic.key] = message.seq

    def _flush(self, topic: Topic) -> None:
        """What is pending goes to those who are members now, and to nobody who comes later."""
        if topic.pending:
            self._turn.append(Write(list(topic.members), topic.pending, Mark(topic.key, topic.pending_before)))
            topic.pending = []
        self._touched.pop(topic, None)

    def _attached(self, shard: int, message: Attached) -> None:
        client = self._held.get(message.conn_id)
        if client is None or client.attachment != message.attachment:
            return
        self._unanswered.pop((client, shard), None)
        client.shards |= 1 << shard
        for attached in message.topics:
            self._join(client, shard, attached)

    def _join(self, client: Held, shard: int, attached: AttachedTopic) -> None:
        topic = self._topics.get(attached.topic)
        if topic is None:
            topic = self._topics[attached.topic] = Topic(attached.topic, shard, attached.epoch, attached.seq)
        self._flush(topic)
        topic.members[client] = None
        client.topics[topic] = None
        bodies = list(attached.missed)
        if attached.lost != 0:
            bodies.insert(0, gap(TopicKey(attached.topic), attached.lost))
        if bodies:
            self._turn.append(Write((client,), bodies, Mark(topic.key, attached.cursor)))

    def _unsubscribed(self, message: Unsubscribed) -> None:
        client = self._held.get(message.conn_id)
        if client is None:
            return
        for key in message.topics:
            topic = self._topics.get(key)
            if topic is not None and client in topic.members:
                self._flush(topic)
                self._part(topic, client)

    def _drop(self, message: Drop) -> None:
        client = self._held.get(message.conn_id)
        if client is not None and client.attachment <= message.attachment:
            self._turn.append(Close(client, message.code))

    # --- shards that forget, or do not answer ---

    def attach_again(self, shard: int, now: float) -> list[Effect]:
        """A shard has forgotten what we hold there: every client that is on topics of it attaches from where it was.

        Until a shard has answered for a client, that client is given nothing: what comes meanwhile is in the answer.
        """
        positions: dict[Held, list[TopicCursor]] = {}
        for topic in [topic for topic in self._topics.values() if topic.shard == shard]:
            self._flush(topic)
            for client in topic.members:
                positions.setdefault(client, []).append(TopicCursor(topic.key, topic.epoch, topic.seq))
                del client.topics[topic]
            topic.members.clear()
            self._forget_topic(topic)
        for (client, at), (_, message) in self._unanswered.items():
            if at == shard and client not in positions:
                positions[client] = message.topics
        return [self._attach(client, shard, topics, now) for client, topics in positions.items()]

    def ask_again(self, now: float) -> list[Effect]:
        """The attaches that wait for an answer for too long, once more."""
        late = [place for place, (asked_at, _) in self._unanswered.items() if now - asked_at >= ASK_AGAIN_S]
        return [self._attach(client, shard, self._unanswered[client, shard][1].topics, now) for client, shard in late]

    def moved(self, shard: int) -> dict[str, int]:
        """How far this edge has served its topics of a shard, where that changed since the last call."""
        moved, self._moved[shard] = self._moved[shard], {}
        return moved


def _may_see(user: str, message: Deliver) -> bool:
    return not (message.exclude and user in message.exclude) and (message.only is None or user in message.only)
