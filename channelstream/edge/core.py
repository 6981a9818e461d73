"""Who is on what, at this edge: messages of the shards in, what is to be written, closed and told out.

Pure. A client is known here as a `Held`; how it is held (websocket, long-poll) and how bytes reach it is not. The
order of calls: `receive` for each message of a turn, then `end_turn` for what is to be done about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from channelstream import few
from channelstream.counters import GAPS_TOLD, Counters
from channelstream.edge.attaches import WINDOW, Attaches, Waiting
from channelstream.edge.frames import CLOSE_REPLACED, gap
from channelstream.edge.outbox import Mark, Ready
from channelstream.few import Few, Shared
from channelstream.ids import TopicKey, channel_key, connection_key, name_of, user_key
from channelstream.ring import Ring
from channelstream.wire.messages import (
    Attach,
    Attached,
    AttachedTopic,
    BeatAnswer,
    ConnectionState,
    Deliver,
    Detach,
    Drop,
    ToPeer,
    TopicCursor,
    Unsubscribed,
)

MAX_REFUSED: Final = 1000
"""Connections whose refused topics are remembered. It matters for the moment between the answer that gives us a
connection and its client's being here, in which it may be subscribed to more."""

HELD_A_BEAT: Final = 500
"""Topics that are named in a beat, so that a shard says how far it has told them: some ten kilobytes a second. Ten
thousand on one shard have their turn within twenty seconds."""


_NONE: Final[list[bytes]] = []
"""Never changed: the same for all topics that have nothing pending."""


SAME_EPOCHS: Final = 256
"""Epochs that are known again: some lives of some shards."""


class Topic:
    """A topic as this edge sees it, for as long as one of its clients is on it."""

    __slots__ = ("epoch", "key", "members", "pending", "pending_before", "seq", "shard", "skippable")

    def __init__(self, key: str, shard: int, epoch: str, seq: int) -> None:
        self.key: Final = key
        self.shard: Final = shard
        self.epoch: Final = epoch
        self.seq = seq
        """The last delivery that was given to the members. They get every one: a hole means that something was lost."""
        self.skippable = False
        """Whether a slow client is told of a gap here, as of the last delivery."""
        self.members: Few[Held] = ()
        self.pending: list[bytes] = _NONE
        """This turn's bodies for all members, not yet in an effect."""
        self.pending_before = 0
        """The position before the first of them."""


class Held:
    """A connection that this edge holds. Subclasses add what it is held by."""

    __slots__ = ("attachment", "conn_id", "released", "shards", "topics", "user")

    keeps_position = False
    """Whether it is told where it stands on a topic even where it has missed nothing."""

    direct_fd = -1
    """Where it takes websocket frames as they are, while `deliver` would do nothing but send them on this descriptor;
    -1 where it would do more."""

    deflates = False
    """Whether it has agreed to compressed frames."""

    waits_for_an_answer = False
    """Whether it is held by one request, which is answered at once when the edge is to go."""

    def __init__(self, conn_id: str, user: str, attachment: int) -> None:
        self.conn_id: Final = conn_id
        self.user: Final = user
        self.attachment: Final = attachment
        self.topics: Few[Topic] = ()
        self.shards = 0
        """A bit for each shard that knows of this attachment and must hear of its end."""
        self.released = False

    def deliver(self, ready: Sequence[Ready]) -> None:
        """Take these, in one write if it can be."""
        raise NotImplementedError

    def took_part(self, ready: Sequence[Ready], frame: bytes, sent: int) -> None:
        """It was sent the frame of these on `direct_fd`, and has taken only so many bytes."""
        raise NotImplementedError

    def lose(self, ready: Sequence[Ready]) -> None:
        """`direct_fd` is broken: these have not arrived."""
        raise NotImplementedError

    def close(self, code: int) -> None:
        """Let the client go, with this close code."""
        raise NotImplementedError

    def unsent(self) -> Iterable[Mark]:
        """The marks of what it was given and has not passed on."""
        return ()

    def oldest_unsent(self) -> Iterable[Mark]:
        """For each topic in `unsent`, a position that it has at least. Asked each second while it says that it is
        behind."""
        return self.unsent()


class Write(NamedTuple):
    """These objects, as one list, to these clients. `mark`: what they are, should they not arrive. `reached`: where the
    clients stand when they have. Without objects it only tells a client that keeps its position. `skippable` and `lost`
    as in `Ready`."""

    clients: Sequence[Held]
    bodies: Sequence[bytes]
    mark: Mark
    reached: TopicCursor
    skippable: bool = False
    lost: int | None = 0


class Close(NamedTuple):
    """End this client with this code."""

    client: Held
    code: int


class Tell(NamedTuple):
    """To a shard. `client`: whose attach it is; give it to `as_passed_on` before it is sent."""

    shard: int
    message: Attach | Detach
    client: Held | None = None


Effect = Write | Close | Tell


class Edge:
    """All clients and topics of one edge."""

    def __init__(self, ring: Ring, counters: Counters | None = None, attach_window: int = WINDOW) -> None:
        self.counters: Final = counters or Counters()
        self._ring: Final = ring
        self._held: dict[str, Held] = {}
        self._topics: dict[str, Topic] = {}
        self._epochs: Final[Shared[str]] = Shared(SAME_EPOCHS)
        """All users of a shard have the same."""
        self._moved: list[dict[str, int]] = [{} for _ in range(ring.shards)]
        """Per shard: topics and their seq, where it moved since the shard was told."""
        self._rounds: list[list[str]] = [[] for _ in range(ring.shards)]
        """Per shard: topics that have yet to be named in a beat before all have been."""
        self._attaches: Final = Attaches(ring.shards, attach_window)
        """Those without an answer."""
        self._taken: list[dict[str, int]] = [{} for _ in range(ring.shards)]
        """Per shard: connections that it has attached here in one breath with giving them, and their attachments; those
        since it was told that they are held."""
        self._refused: dict[tuple[str, int], list[str]] = {}
        """(conn_id, attachment) → topics that shards have attached to it when it was not here."""
        self._refusals: list[Tell] = []
        """Told to shards that take a connection for attached that is not here (any more)."""
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

    def next_number(self) -> int:
        """For the attach that is asked for in one breath with a connection."""
        return self._attaches.next_number()

    def hold(
        self, client: Held, state: ConnectionState, now: float, positions: Mapping[str, TopicCursor] | None = None
    ) -> list[Effect]:
        """A client is here; its connection's shard has given it to us. Its topics follow as their shards answer; those
        that the connection's own shard owns may be on their way (`ConnectionState.attaching`).

        `positions`: topics on which the client says itself how far it was served.

        A former holder of the same connection, which the shard's order to drop it has not reached, is closed first:
        perform the effects in their order.
        """
        former = self._held.get(client.conn_id)
        # A refusal may be about this very attachment, of which a shard has heard before us: it comes before the attach.
        effects: list[Effect] = [*self._refusals]
        self._refusals.clear()
        if former is not None:
            effects.append(Close(former, CLOSE_REPLACED))
        self._held[client.conn_id] = client
        early = self._refused.pop((client.conn_id, client.attachment), None)
        home = self._ring.owner(connection_key(client.conn_id))
        # The connection's own shard hears of it in any case: its record counts as held from then on (see `taken`).
        by_shard: dict[int, dict[str, TopicCursor]] = {home: {}}
        for key in (user_key(client.user), *map(channel_key, state.channels), *(early or ())):
            cursor = positions.get(key) if positions else None
            by_shard.setdefault(self._ring.owner(key), {})[key] = cursor or TopicCursor(key)
        for shard, topics in by_shard.items():
            client.shards |= 1 << shard
            waiting = Waiting(client, shard, topics, is_again=False)
            if shard == home and state.attaching and early is None:
                self._attaches.asked(waiting, state.attaching, now)
                self._taken[shard][client.conn_id] = client.attachment
            else:
                self._attaches.put(waiting)
                effects.append(self._tell(self._attaches.send(waiting, now)))
        return effects

    def taken(self, shard: int) -> dict[str, int]:
        """The connections that a shard has attached here together with giving them to us, and their attachments; those
        since the last call. It is to be told that they are held."""
        taken, self._taken[shard] = self._taken[shard], {}
        return taken

    def _tell(self, waiting: Waiting) -> Tell:
        """An attach as it is now."""
        client, shard = waiting.client, waiting.shard
        channels = self._channels_of(client) if waiting.is_again and self._has_record_at(shard, client) else None
        topics = list(waiting.topics.values())
        return Tell(
            shard, Attach(client.conn_id, client.user, client.attachment, topics, waiting.number, channels), client
        )

    def _more(self, shard: int, now: float) -> list[Tell]:
        """The attaches whose turn it is."""
        return [self._tell(waiting) for waiting in self._attaches.next_to_send(shard, now)]

    def release(self, client: Held, closed: bool, unsent: Iterable[Mark] = ()) -> list[Effect]:
        """A client is here no more. `closed`: it said good-bye. `unsent`: what was meant for it and did not go out."""
        if client.released:
            return []
        client.released = True
        if self._held.get(client.conn_id) is client:
            del self._held[client.conn_id]
        cursors = self._cursors_of(client, unsent)
        told = [shard for shard in range(self._ring.shards) if client.shards >> shard & 1]
        # A shard that has forgotten the client could make nothing of a detach alone.
        effects: list[Effect] = [tell for shard in told for tell in self._unsent_attach(client, shard)]
        for shard in told:
            self._attaches.remove(client, shard)
            effects.append(Tell(shard, Detach(client.conn_id, client.attachment, closed, cursors.get(shard, []))))
        for topic in list(client.topics):
            self._part(topic, client)
        return effects

    def _unsent_attach(self, client: Held, shard: int) -> list[Tell]:
        """The attach of a client whose turn has not come and will not come any more."""
        waiting = self._attaches.of(client, shard)
        if waiting is None or waiting.sent_at is not None:
            return []
        waiting.number = self._attaches.next_number()
        return [self._tell(waiting)]

    def cursors_of(self, client: Held, unsent: Iterable[Mark]) -> list[TopicCursor]:
        """How far a client was served. `unsent` as in `release`."""
        return [
            cursor for cursors in self._cursors_of(client, unsent).values() for cursor in cursors if not cursor.claimed
        ]

    def _cursors_of(self, client: Held, unsent: Iterable[Mark]) -> dict[int, list[TopicCursor]]:
        """How far the client was served, by shard. What is pending in this turn has not been written."""
        before: dict[str, int] = {}
        for mark in (*unsent, *self._undone(client)):
            before[mark.topic] = min(mark.before, before.get(mark.topic, mark.before))
        cursors: dict[int, list[TopicCursor]] = {}
        for cursor, shard in self._served(client):
            seq = min(cursor.seq, before.get(cursor.topic, cursor.seq))
            cursors.setdefault(shard, []).append(TopicCursor(cursor.topic, cursor.epoch, seq))
        return cursors

    def _undone(self, client: Held) -> Iterator[Mark]:
        """The marks of this turn's writes to a client, which nobody performs any more when it is released."""
        return (effect.mark for effect in self._turn if isinstance(effect, Write) and client in effect.clients)

    def _served(self, client: Held) -> Iterator[tuple[TopicCursor, int]]:
        """How far each topic that a client is on, or attaches to again, was given to it, and the topic's shard."""
        for topic in client.topics:
            yield TopicCursor(topic.key, topic.epoch, topic.pending_before if topic.pending else topic.seq), topic.shard
        here = {topic.key for topic in client.topics}
        for shard, cursor in self._waiting_for(client):
            if cursor.epoch and cursor.topic not in here:
                yield cursor, shard

    def _waiting_for(self, client: Held) -> Iterator[tuple[int, TopicCursor]]:
        """The topics of a client's attaches that are not answered, by shard."""
        for shard in range(self._ring.shards):
            waiting = self._attaches.of(client, shard)
            if waiting is not None:
                for cursor in waiting.topics.values():
                    yield shard, cursor

    def _part(self, topic: Topic, client: Held) -> None:
        topic.members = few.removed(topic.members, client)
        client.topics = few.removed(client.topics, topic)
        if not topic.members:
            self._flush(topic)
            self._forget_topic(topic)

    def _forget_topic(self, topic: Topic) -> None:
        if self._topics.get(topic.key) is topic:
            del self._topics[topic.key]
        self._moved[topic.shard].pop(topic.key, None)

    # --- what the shards send ---

    def receive(self, shard: int, message: ToPeer, now: float) -> None:
        """One message of a shard, in the order of its pipe."""
        match message:
            case Deliver():
                self._deliver(message, now)
            case Attached():
                self._attached(shard, message, now)
            case Unsubscribed():
                self._unsubscribed(shard, message)
            case Drop():
                self._drop(message)
            case BeatAnswer():
                self._compare(message, now)

    def end_turn(self) -> list[Effect]:
        """What is to be done about all that was received since the last call, in order."""
        for topic in list(self._touched):
            self._flush(topic)
        turn = [*self._refusals, *self._turn]
        self._refusals.clear()
        self._turn = []
        return turn

    def _deliver(self, message: Deliver, now: float) -> None:
        topic = self._topics.get(message.topic)
        if topic is None or message.seq <= topic.seq:
            return
        if message.seq - message.count != topic.seq:
            self._turn += self._again(topic.shard, [topic], [], now)
            return
        if message.skippable != topic.skippable:
            self._flush(topic)
            topic.skippable = message.skippable
        if not message.bodies:
            self._flush(topic)  # it only counts
        elif message.only is None and not message.exclude:
            if not topic.pending:
                topic.pending = []
                topic.pending_before = topic.seq
                self._touched[topic] = None
            topic.pending += message.bodies
        else:
            self._flush(topic)
            clients = [client for client in topic.members if _may_see(client.user, message)]
            if clients:
                mark, reached = Mark(topic.key, topic.seq), _at(topic, message.seq)
                self._turn.append(Write(clients, message.bodies, mark, reached, message.skippable))
        topic.seq = message.seq
        self._moved[topic.shard][topic.key] = message.seq

    def _flush(self, topic: Topic) -> None:
        """What is pending goes to those who are members now, and to nobody who comes later."""
        if topic.pending:
            before = Mark(topic.key, topic.pending_before)
            reached = _at(topic, topic.seq)
            self._turn.append(Write(list(topic.members), topic.pending, before, reached, topic.skippable))
            topic.pending = _NONE
        self._touched.pop(topic, None)

    def _attached(self, shard: int, message: Attached, now: float) -> None:
        client = self._held.get(message.conn_id)
        if client is None or client.attachment != message.attachment:
            self._refuse(shard, message)
            return
        asked_again: Mapping[str, TopicCursor] = {}
        waiting = self._attaches.of(client, shard) if message.number else None
        if waiting is not None:
            if waiting.number == message.number:
                self._attaches.remove(client, shard)
                if self._attaches.queued(shard):
                    self._turn += self._more(shard, now)
            else:
                # Answers an earlier attach. Of what the last one names, that one's answer counts, which is on its way
                # or has yet to be asked for; of what it does not name, the shard will not tell again.
                asked_again = waiting.topics
        client.shards |= 1 << shard
        for attached in message.topics:
            if attached.topic not in asked_again:
                self._join(client, shard, attached, now)

    def _refuse(self, shard: int, message: Attached) -> None:
        """The client is not here any more, or not yet: then its topics are remembered until it is."""
        self._refusals.append(Tell(shard, Detach(message.conn_id, message.attachment, False, [])))
        keys = self._refused.setdefault((message.conn_id, message.attachment), [])
        keys += (attached.topic for attached in message.topics)
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _join(self, client: Held, shard: int, attached: AttachedTopic, now: float) -> None:
        topic = self._topics.get(attached.topic)
        if topic is not None and (topic.epoch, topic.seq) != (attached.epoch, attached.seq):
            # Its members have missed something, or the shard is a new one: they go on from where they are.
            self._turn += self._again(shard, [topic], [], now)
            topic = None
        if topic is None:
            epoch = self._epochs.of(attached.epoch)
            topic = self._topics[attached.topic] = Topic(attached.topic, shard, epoch, attached.seq)
        elif client in topic.members:
            return  # two messages have crossed: it was given all of this already
        if topic.pending:
            self._flush(topic)
        topic.members = few.added(topic.members, client)
        client.topics = few.added(client.topics, topic)
        bodies = attached.missed
        if attached.lost != 0:
            self.counters.count(GAPS_TOLD)
            bodies = [gap(TopicKey(attached.topic), attached.lost), *bodies]
        if bodies or client.keeps_position:
            mark, reached = Mark(topic.key, attached.cursor), _at(topic, attached.seq)
            self._turn.append(Write((client,), bodies, mark, reached, attached.skippable, attached.lost))

    def _unsubscribed(self, shard: int, message: Unsubscribed) -> None:
        client = self._held.get(message.conn_id)
        if client is None:
            return
        waiting = self._attaches.of(client, shard)
        for key in message.topics:
            if waiting is not None:
                waiting.topics.pop(key, None)
            topic = self._topics.get(key)
            if topic is not None and client in topic.members:
                self._flush(topic)
                self._part(topic, client)

    def _compare(self, message: BeatAnswer, now: float) -> None:
        """What the shard says of topics comes behind all that it told of them. Where this edge has not got so far, or
        has members of whom the shard knows nothing, something was lost without a hole, and silence would follow."""
        for key, seq in message.told.items():
            topic = self._topics.get(key)
            if topic is not None and (seq > topic.seq or seq < 0):
                self._turn += self._again(topic.shard, [topic], [], now)

    def _drop(self, message: Drop) -> None:
        client = self._held.get(message.conn_id)
        if client is not None and client.attachment <= message.attachment:
            self._turn.append(Close(client, message.code))

    # --- shards that forget, or do not answer ---

    def attach_again(self, shard: int, now: float) -> list[Effect]:
        """A shard has forgotten what we hold there: every client that is on topics of it attaches from where it was,
        some now and the others as those are answered.

        Until a shard has answered for a client, that client is given nothing: what comes meanwhile is in the answer.
        """
        topics = [topic for topic in self._topics.values() if topic.shard == shard]
        # Also those without a topic there: it keeps their records, or is about to hear that they join one.
        known = [client for client in self._held.values() if client.shards >> shard & 1]
        return [*self._again(shard, topics, known, now)]

    def _again(self, shard: int, topics: Iterable[Topic], others: Iterable[Held], now: float) -> list[Tell]:
        """Attach the members of some topics of a shard again, and `others` that it must hear of; what is not answered
        yet is asked for in the same breath. What comes back are those whose turn it is now."""
        positions: dict[Held, dict[str, TopicCursor]] = {client: {} for client in others}
        for topic in topics:
            self._flush(topic)
            position = TopicCursor(topic.key, topic.epoch, topic.seq)
            for client in topic.members:
                positions.setdefault(client, {})[topic.key] = position
                client.topics = few.removed(client.topics, topic)
            topic.members = ()
            self._forget_topic(topic)
        for client, known in positions.items():
            client.shards |= 1 << shard
            earlier = self._attaches.of(client, shard)
            asked = {} if earlier is None else earlier.topics
            self._attaches.put(Waiting(client, shard, asked | known, is_again=True))
        return self._more(shard, now)

    def _has_record_at(self, shard: int, client: Held) -> bool:
        return self._ring.owner(connection_key(client.conn_id)) == shard

    def _channels_of(self, client: Held) -> list[str]:
        """All channels that a client is on, as far as this edge knows."""
        waiting = (cursor.topic for _, cursor in self._waiting_for(client))
        keys = {*(topic.key for topic in client.topics), *waiting}
        return sorted(name_of(TopicKey(key)) for key in keys if key.startswith("c/"))

    def ask_again(self, now: float) -> list[Effect]:
        """The attaches that wait for an answer for too long, once more, and those for which they make room."""
        effects: list[Effect] = [self._tell(waiting) for waiting in self._attaches.late(now)]
        for shard in range(self._ring.shards):
            effects += self._more(shard, now)
        return effects

    def some_held(self, shard: int) -> dict[str, int]:
        """Some topics of a shard that have members here, with the seq that was received; the next ones with the next
        call, until all have had their turn and it begins anew."""
        if not self._rounds[shard]:
            self._rounds[shard] = [topic.key for topic in self._topics.values() if topic.shard == shard]
        keys, self._rounds[shard] = self._rounds[shard][:HELD_A_BEAT], self._rounds[shard][HELD_A_BEAT:]
        return {key: self._topics[key].seq for key in keys if key in self._topics}

    def moved(self, shard: int, unsent: Iterable[Mark] = ()) -> dict[str, int]:
        """How far this edge has served its topics of a shard, where that changed since the last call. Call between
        turns.

        `unsent`: what waits for clients that are behind. Were this edge killed, they would go on from what it told
        last, so a topic is served only as far as the slowest of its clients; those that have yet to attach again are
        the slowest.
        """
        moved, self._moved[shard] = self._moved[shard], {}
        told = dict(moved)
        for topic, before in (*unsent, *self._unattached(shard)):
            if topic in told and before < told[topic]:
                told[topic] = before
                self._moved[shard][topic] = moved[topic]
        return told

    def _unattached(self, shard: int) -> Iterator[Mark]:
        """What clients that are to attach again at a shard have not been given."""
        for waiting in self._attaches.at(shard):
            for cursor in waiting.topics.values():
                if cursor.epoch and not cursor.claimed:
                    yield Mark(cursor.topic, cursor.seq)


def as_passed_on(message: Attach, unsent: Iterable[Mark]) -> Attach:
    """An attach that also says how far its client really got, where it has `unsent` deliveries. To be asked when all
    effects before it have been performed."""
    before: dict[str, int] = {}
    for mark in unsent:
        before[mark.topic] = min(mark.before, before.get(mark.topic, mark.before))
    if before.keys().isdisjoint(cursor.topic for cursor in message.topics):
        return message
    topics = [
        replace(cursor, passed_on=before[cursor.topic])
        if cursor.epoch and before.get(cursor.topic, cursor.seq) < cursor.seq
        else cursor
        for cursor in message.topics
    ]
    return replace(message, topics=topics)


def _at(topic: Topic, seq: int) -> TopicCursor:
    return TopicCursor(topic.key, topic.epoch, seq)


def _may_see(user: str, message: Deliver) -> bool:
    return not (message.exclude and user in message.exclude) and (message.only is None or user in message.only)
