"""The shard itself: commands and the time in, effects out.

No socket, clock, file or randomness is known here; ids come from a function that the constructor is given. The rules
of a channel, a user, a topic and a connection are in their own modules; this one finds them and keeps them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from channelstream.clock import Now
from channelstream.counters import ASKS_STALE, CLAIMS_REFUSED, NOT_STORED, PEERS_SILENT, Counters
from channelstream.few import Shared
from channelstream.ids import TopicKey, channel_key, name_of, user_key
from channelstream.shard.channel import Channel, configured
from channelstream.shard.connection import Connection, Record
from channelstream.shard.effects import Broadcast, Effect, Reply, Send, Store, Tell
from channelstream.shard.frames import MAX_CATCHUP_BYTES, within
from channelstream.shard.lifetimes import Agenda, Lately, Reminders
from channelstream.shard.members import NOTHING, Person
from channelstream.shard.peers import Peer, told_beyond
from channelstream.shard.repeats import Answers, completed
from channelstream.shard.store.base import (
    ChannelForgotten,
    ConnectionForgotten,
    ConnectionSaved,
    FramesSaved,
    RecordForgotten,
    Saved,
    UserForgotten,
    Write,
)
from channelstream.shard.topic import Topic, new_ones
from channelstream.shard.user import RESTORED_SEQ, User, joined, same_state, same_value
from channelstream.wire.chain import filled
from channelstream.wire.messages import (
    AddChannels,
    Answer,
    Ask,
    Attach,
    Attached,
    AttachedTopic,
    Beat,
    BeatAnswer,
    Chain,
    Chained,
    ChangeUser,
    ChannelConfig,
    ChannelInfo,
    Channels,
    Claim,
    Claimed,
    CloseConnection,
    Command,
    ConfigChange,
    Configure,
    ConnectionState,
    DeleteMessages,
    Deliver,
    Detach,
    Done,
    Drop,
    EditMessages,
    EnterUser,
    GetChannels,
    GetStates,
    GetStatus,
    GetTotals,
    Join,
    Leave,
    NotStored,
    OpenConnection,
    OtherUser,
    ProcessStatus,
    Publication,
    Publish,
    RemoveChannels,
    Result,
    State,
    States,
    StatusReport,
    TakeConnection,
    TellState,
    TopicCursor,
    ToShard,
    Totals,
    Unknown,
    Unsubscribed,
    UserChanged,
    UserInfo,
    UsersShown,
    UserState,
)

TAKEOVER_WAIT_S: Final = 1.0
"""How long an attach waits for the former edge to say how far it served. An edge that is alive answers in a
millisecond; one that does not is passed over, and the client may see a message twice instead of never."""

GONE_KEPT_S: Final = 120.0
"""How long it is remembered that a connection was ended here. An edge that was out of reach meanwhile and attaches it
again is told to drop it; without the memory it would be taken for one that a restarted shard has lost."""

MAX_GONE: Final = 200_000
"""Connections whose end is remembered: more than a thousand ends a second. Beyond that the oldest are forgotten, and an
edge that was out of reach for so many ends may hold one of them for some seconds longer than it lives."""

MAX_CLAIMS: Final = 1_000_000
"""Keys that are claimed at the same time, some hundred megabytes: signatures live for a minute, so that is 16,000
signed calls a second for each shard. None of them may be forgotten early, or a signature could be used twice."""

TIDY_EVERY_S: Final = 0.5
"""It is looked this often what need not be remembered any more: a fraction of how long an answer is waited for."""

TAKEN_FOR_S: Final = 10.0
"""How long a connection that an edge has taken counts as held without an attach. An edge attaches at once; one that was
given the connection too late to know of it never does."""

LOST_EPOCH: Final = "?"
"""No counter's: of one whose epoch is not known."""

CROSSING_S: Final = 10.0
"""How long the version of a subscription is remembered. What crosses on its way here was asked at about the same time:
a router gives up after some seconds."""

MAX_VERSIONS: Final = 1_000_000
"""Versions that are remembered: more than a shard can change in that time. Beyond that the oldest are forgotten."""

DISK_IS_BEHIND: Final = "the disk is too slow for what is to be stored"
"""Told to who wants to store more."""

SAME_IDS: Final = 256
"""Ids and users that are known again, so that equal ones are one object: what makes a connection, and what takes it,
comes within milliseconds."""

SAME_NAMES: Final = 4096
"""Names of channels that are known again. Crowds come to the same channels."""

USER_KEPT_S: Final = 86_400.0
"""How long a user without connections is remembered. The contract's day."""

CLOSE_DISCONNECTED: Final = 4000
CLOSE_REPLACED: Final = 4001
CLOSE_EXPIRED: Final = 4002
"""Close codes that clients know: ended by the backend, replaced by another socket, no longer known."""


Reading = GetChannels | GetStates | GetTotals | GetStatus | Claim | TakeConnection
"""Commands that store nothing. What they tell of may still be on its way to the disk."""

Storing = Publish | EditMessages | DeleteMessages | ChangeUser | Configure
"""Commands whose answer says that something is stored."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a shard is told by its configuration."""

    keep_connections_s: float = 30.0
    keep_channels_s: float = 72 * 3600.0
    keeps: bool = True
    """Whether there is a store that outlives the shard. Without one there is nothing to wait for."""


class _Takeover(NamedTuple):
    """An attach that waits for the former edge to say how far it served."""

    edge: str
    message: Attach
    until: float
    """When the former edge is passed over (monotonic seconds)."""


NOTHING_MORE: Final = GetChannels([], include_history=False, include_users=False)
"""What is told of a channel that was configured: neither messages nor users."""


class Shard:
    """All topics that one shard owns. Call `handle` for what comes in, `tick` when `next_due` has come."""

    def __init__(
        self, own: ProcessStatus, settings: Settings, new_id: Callable[[], str], saved: Saved, now: Now
    ) -> None:
        self.counters: Final = Counters()
        """What was dropped or refused; the loop counts here too."""
        self.queue_bytes = 0
        """What waits in the loop's queues; set by the loop, told by `status`."""
        self.store_is_behind = False
        """Whether messages for histories are refused, since too many wait for the disk; set by the loop."""
        self._own: Final = own
        self._messages = 0
        """How often a message was given to a member, or kept for it."""
        self._unique_messages = 0
        """How many messages were published."""
        self._started: Final = now.mono
        self._settings: Final = settings
        self._new_id: Final = new_id
        self._channels: dict[str, Channel] = {}
        self._users: dict[str, User] = {}
        self._topics: dict[str, Topic] = {}
        """Channels and users by key: what a message can be published to."""
        self._users_epoch: Final = new_id()
        """Of all users that are made in this life: the counter of one that is made anew goes on behind the former."""
        self._users_begin_at = 0
        """The seq behind those of users that were forgotten."""
        self._ids: Final[Shared[str]] = Shared(SAME_IDS)
        """Connections' ids and users' names."""
        self._names: Final[Shared[str]] = Shared(SAME_NAMES)
        """Channels' names in records."""
        self._people: dict[str, Person] = {}
        """Users on channels of this shard, whoever owns their state."""
        self._records: dict[str, Record] = {}
        self._connections: dict[str, Connection] = {}
        self._peers: dict[str, Peer] = {}
        self._waiting: dict[Connection, _Takeover] = {}
        """Attaches that wait for the former edge."""
        self._gone: Final[Lately[str, int]] = Lately(GONE_KEPT_S, MAX_GONE, now.mono)
        """Connections that were ended here, each with its last attachment: a later one belongs to a connection that was
        made anew."""
        self._versions: Final[Lately[tuple[str, str], int]] = Lately(CROSSING_S, MAX_VERSIONS, now.mono)
        """(conn_id, channel) → the version of the last subscription or its end, of the last seconds."""
        self._undoable: set[str] = set()
        """The uuids of messages that are on their way to the store."""
        self._unsaved: dict[Connection | Record, None] = {}
        """What the store is to be told of at the end of this command."""
        self._renewed: list[Write] = []
        """Channels with a history whose epoch is another one than the store knows; stored with the first tick."""
        self._is_complete: Final = saved.is_complete
        """Whether all that an earlier life of this shard knew is known here."""
        self._claims: set[str] = set()
        self._answers: Final = Answers()
        """To asks, for when they come again."""
        self._tidy_at = now.mono
        """When it is looked what need not be remembered any more (monotonic seconds)."""
        self._agenda: Final = Agenda()
        self._silences: Reminders[Peer] = Reminders(self._agenda)
        self._connection_ends: Reminders[Connection | Record] = Reminders(self._agenda)
        self._taken_ends: Reminders[tuple[Record, int]] = Reminders(self._agenda)
        self._topic_ends: Reminders[Channel | User] = Reminders(self._agenda)
        self._waiting_ends: Reminders[Connection] = Reminders(self._agenda)
        self._claim_ends: Reminders[str] = Reminders(self._agenda)
        self._expiries: Reminders[Channel] = Reminders(self._agenda)
        self._restore(saved, now)

    def _restore(self, saved: Saved, now: Now) -> None:
        """Everything as it was, as far as the store knows. Whoever was attached counts as cut off until an edge says
        that it holds it."""
        for name, found in saved.channels.items():
            frames = saved.frames.get(channel_key(name))
            channel = self._channels[name] = Channel.restored(name, found, frames, self._new_id(), now)
            if channel.epoch != found.epoch and channel.config.store_history:
                self._renewed.append(channel.saved())
        for name, user in saved.users.items():
            self._users[name] = User.restored(user, saved.frames.get(user_key(name)), self._users_epoch, now.mono)
        self._topics.update((topic.key, topic) for topic in (*self._channels.values(), *self._users.values()))
        for record in saved.records.values():
            restored = self._make_record(record.conn_id, record.user, now)
            restored.change(map(self._names.of, record.channels), (), now)
            self._remind_of_connection(restored)
        for connection in saved.connections.values():
            self._restore_connection(connection, now)
        for topic in self._topics.values():
            if not topic.total_connections:
                self._remind_of_topic(topic, now)
        for channel in self._channels.values():
            self._remind_of_expiry(channel)

    def _restore_connection(self, saved: ConnectionSaved, now: Now) -> None:
        connection = self._make_connection(saved.conn_id, saved.user, now.mono)
        connection.is_restored = self._is_complete
        for place in saved.places:
            topic = self._topics.get(place.topic)
            if topic is None and place.topic.startswith("u/"):
                topic = self._make_user(name_of(TopicKey(place.topic)), now, RESTORED_SEQ)
            if topic is None:
                continue
            topic.restore_member(connection, place.joined, place.cursor)
            if isinstance(topic, Channel):
                person = self._person(saved.user)
                person.public = saved.public or NOTHING
                topic.members_by_user.add(person)
                person.joined(connection)
        self._remind_of_connection(connection)

    def farewell(self, now: Now) -> list[Write]:
        """What is to be stored at an orderly end, behind all else, so that the next life goes on from here. Nothing may
        be called after."""
        if not self._settings.keeps:
            return []
        for name in list(self._peers):
            self.lose_peer(name, now)
        effects: list[Effect] = []
        self._save_unsaved(effects)
        writes = [effect.write for effect in effects if isinstance(effect, Store)]
        frames: list[FramesSaved] = [topic.saved_frames() for topic in self._topics.values()]
        return [*writes, *frames]

    # --- what comes in ---

    def handle(self, peer: str, message: ToShard, now: Now) -> list[Effect]:
        """Carry out one message of a peer. An ask whose deadline is over has no effect at all."""
        match message:
            case Ask():
                return self._handle_ask(peer, message, now)
            case Attach():
                effects = self._attach(peer, message, now)
            case Detach():
                effects = self._detach(peer, message, now)
            case Beat():
                return self._beat(peer, message, now)
        self._save_unsaved(effects)
        return effects

    def _handle_ask(self, peer: str, ask: Ask, now: Now) -> list[Effect]:
        if ask.deadline < now.mono:
            self.counters.count(ASKS_STALE)
            return []
        effects: list[Effect] = []
        known = self._answers.of(peer, ask)
        if known is not None and not isinstance(ask.command, Chain):
            # What it rests on may still be on its way to the disk.
            return [self._reply(peer, Answer(ask.number, known), ask.command, waits=True)]
        result = self._carry_out(peer, ask.command, known, now, effects)
        self._save_unsaved(effects)
        if ask.again and known is None:
            result = completed(ask.command, result)
        self._answers.remember(peer, ask, result)
        waits = known is not None or Store in map(type, effects)
        effects.append(self._reply(peer, Answer(ask.number, result), ask.command, waits))
        if isinstance(ask.command, TakeConnection) and isinstance(result, ConnectionState) and result.attaching:
            self._attach_taken(peer, ask.command.conn_id, result, now, effects)
            self._save_unsaved(effects)
        return effects

    def _chain(self, chain: Chain, known: Result | None, now: Now, effects: list[Effect]) -> Chained:
        """The steps of a chain, each with what those before it have answered. `known`: what an earlier one of this life
        has answered, when the chain comes again."""
        results: list[Result] = list(known.results) if isinstance(known, Chained) else []
        for step in chain.steps[len(results) :]:
            if results and isinstance(results[-1], OtherUser):
                break
            match step_now := filled(step, results):
                case OpenConnection():
                    results.append(self._open_connection(step_now, now))
                case EnterUser():
                    results.append(self._enter_user(step_now, now, effects))
                case Join():
                    results.append(self._join(step_now, now, effects))
        return Chained(results)

    def _reply(self, peer: str, answer: Answer, command: Command, waits: bool) -> Reply | Send:
        """An answer waits for what its command has stored, and for what another one has of the same messages: a
        repeated request must not be told that a message is safe while the first one's is on its way to the disk."""
        if not self._settings.keeps or isinstance(command, Reading):
            return Send(peer, answer)
        refused: tuple[str, ...] = ()
        if isinstance(command, Publish) and self._undoable:
            uuids = dict.fromkeys(uuid for publication in command.publications for uuid in publication.uuids)
            refused = tuple(uuid for uuid in uuids if uuid in self._undoable)
        if not waits and not refused:
            return Send(peer, answer)
        return Reply(peer, answer, isinstance(command, Storing), refused)

    # --- the store ---

    def _store(self, writes: Iterable[Write], effects: list[Effect]) -> bool:
        """Have these stored; False where nothing is kept."""
        if self._settings.keeps:
            effects += map(Store, writes)
        return self._settings.keeps

    def _tell(
        self,
        topic: Topic,
        deliver: Deliver | None,
        writes: Sequence[Write],
        effects: list[Effect],
        undone: Sequence[str] = (),
    ) -> None:
        """Store what deliveries rest on, and have them go out: at once, or behind what of their topic waits to.
        `undone`: see `Tell`."""
        waits = bool(writes) and self._store(writes, effects)
        if deliver is None:
            return
        if waits or topic.untold:
            topic.untold += deliver.count
            self._undoable.update(undone)
            effects.append(Tell(topic, deliver, undone))
        else:
            topic.told = deliver.seq
            if writes:
                topic.settle()
            if topic.routes:
                effects.append(Broadcast(topic.routes, deliver))

    def told(self, tell: Tell) -> list[Broadcast]:
        """What a delivery rests on is down: it goes out."""
        self._undoable.difference_update(tell.undone)
        return self._out(tell.topic, tell.deliver)

    def refuse(self, reply: Reply, reason: str) -> Send:
        """What an answer waits for could not be stored. Call before `not_stored`. A repeated request may have waited
        for more than it rests on: its messages may be safe by now."""
        refused = [uuid for uuid in reply.refused if uuid in self._undoable]
        if not reply.is_strict or (reply.refused and not refused):
            return Send(reply.peer, reply.answer)
        self.counters.count(NOT_STORED, len(refused))
        self._answers.forget(reply.peer, reply.answer.number)
        return Send(reply.peer, Answer(reply.answer.number, NotStored(reason, refused)))

    def not_stored(self, tells: Sequence[Tell]) -> list[Broadcast]:
        """What these deliveries rest on could not be stored; they are all that wait. Messages are undone; all else is
        in force, goes out, and is stored with the next group that can be. Of a message that stands between such
        deliveries the number goes out."""
        for tell in tells:
            self._undoable.difference_update(tell.undone)
        told: list[Tell] = []
        for tell in reversed(tells):
            if tell.undone and tell.topic.seq == tell.deliver.seq:
                tell.topic.untold -= tell.deliver.count
                tell.topic.withdraw(tell.undone)
            else:
                told.append(tell)
        effects: list[Broadcast] = []
        for tell in reversed(told):
            told_of = tell.topic.take_back(tell.undone, tell.deliver.seq) if tell.undone else [tell.deliver]
            for deliver in told_of:
                effects += self._out(tell.topic, deliver)
        return effects

    def _out(self, topic: Topic, deliver: Deliver) -> list[Broadcast]:
        topic.untold -= deliver.count
        topic.told = deliver.seq
        topic.settle()
        return [Broadcast(topic.routes, deliver)] if topic.routes else []

    def _save_unsaved(self, effects: list[Effect]) -> None:
        """The places of connections, and the channels of records, that have changed."""
        if not self._unsaved:
            return
        if self._settings.keeps:
            effects += [Store(self._saved(one)) for one in self._unsaved]
        self._unsaved.clear()

    def _saved(self, changed: Connection | Record) -> Write:
        if isinstance(changed, Record):
            return changed.saved() if changed.conn_id in self._records else RecordForgotten(changed.conn_id)
        connection = self._connections.get(changed.conn_id)
        if connection is None:
            return ConnectionForgotten(changed.conn_id)
        person = self._people.get(connection.user)
        return connection.saved({} if person is None else person.public)

    def _carry_out(self, peer: str, command: Command, known: Result | None, now: Now, effects: list[Effect]) -> Result:
        """One command; what it wants done besides its answer is added to `effects`. `known` as in `_chain`."""
        match command:
            # PERF: each of these is a question; the commonest commands come first.
            case Publish():
                return self._publish(command, now, effects)
            case Chain():
                return self._chain(command, known, now, effects)
            case TakeConnection():
                return self._take_connection(peer, command, now, effects)
            case EditMessages():
                return self._edit_messages(command, now, effects)
            case DeleteMessages():
                return self._delete_messages(command, now, effects)
            case ChangeUser():
                return self._change_user(command, effects)
            case TellState():
                return self._tell_state(command, now, effects)
            case Configure():
                return self._configure(command, now, effects)
            case OpenConnection():
                return self._open_connection(command, now)
            case AddChannels() | RemoveChannels():
                return self._change_channels(command, now)
            case CloseConnection():
                return self._close_connection(command, now, effects)
            case EnterUser():
                return self._enter_user(command, now, effects)
            case Join():
                return self._join(command, now, effects)
            case Leave():
                return self._leave(command, now, effects)
            case GetChannels():
                return self._tell_channels(command, now)
            case GetStates():
                return self._tell_states(command)
            case Claim():
                return self._claim(command, now)
            case GetTotals():
                return self._tell_totals()
            case GetStatus():
                return self._tell_status()

    # --- messages ---

    def _is_refused(self, command: Publish) -> bool:
        channels = (self._topics.get(key) for one in command.publications for key in one.topics)
        return any(isinstance(channel, Channel) and channel.config.store_history for channel in channels)

    def _publish(self, command: Publish, now: Now, effects: list[Effect]) -> Result:
        if self.store_is_behind and self._is_refused(command):
            return NotStored(DISK_IS_BEHIND, [uuid for one in command.publications for uuid in one.uuids])
        for publication in command.publications:
            new = len(publication.uuids)
            for key in publication.topics:
                topic = self._topics.get(key)
                if isinstance(topic, Channel):
                    new = self._publish_to_channel(topic, publication, now, effects)
                elif isinstance(topic, User):
                    new = self._publish_to_user(topic, publication, effects)
            if publication.counted:
                self._unique_messages += new
        return Done()

    def _publish_to_channel(self, channel: Channel, publication: Publication, now: Now, effects: list[Effect]) -> int:
        """How many of the messages the channel had not taken before."""
        new = 0
        for uuids, bodies in new_ones(publication, channel.knows_any):
            deliver, writes, undone = channel.publish(uuids, bodies, publication, now)
            new += deliver.count
            self._tell(channel, deliver, writes, effects, undone)
        if new:
            self._messages += new * self._reach(channel, publication)
            if channel.config.history_ttl:
                self._remind_of_expiry(channel)
        return new

    def _publish_to_user(self, user: User, publication: Publication, effects: list[Effect]) -> int:
        """How many of the messages the user had not been given before."""
        new = 0
        for uuids, bodies in new_ones(publication, user.holds_any):
            deliver = user.publish(uuids, bodies)
            new += deliver.count
            self._tell(user, deliver, (), effects)
        self._messages += new * user.total_connections
        return new

    def _reach(self, channel: Channel, publication: Publication) -> int:
        """How many connections may see a message on a channel."""
        if publication.only is None:
            return channel.total_connections - self._connections_of(channel, publication.exclude or ())
        excluded = frozenset(publication.exclude or ())
        return self._connections_of(channel, [name for name in publication.only if name not in excluded])

    def _connections_of(self, channel: Channel, users: Iterable[str]) -> int:
        people = (self._people.get(name) for name in dict.fromkeys(users))
        return sum(channel.members_by_user.connections_of(person) for person in people if person is not None)

    def _edit_messages(self, command: EditMessages, now: Now, effects: list[Effect]) -> Result:
        for edit in command.edits:
            for topic in self._held_topics(edit.topics):
                if isinstance(topic, Channel):
                    self._tell(topic, *topic.edit(edit, now), effects)
                elif isinstance(topic, User):
                    self._tell(topic, topic.edit(edit), (), effects)
        return Done()

    def _delete_messages(self, command: DeleteMessages, now: Now, effects: list[Effect]) -> Result:
        for deletion in command.deletions:
            for topic in self._held_topics(deletion.topics):
                if isinstance(topic, Channel):
                    self._tell(topic, *topic.delete(deletion, now), effects)
                elif isinstance(topic, User):
                    self._tell(topic, topic.delete(deletion), (), effects)
        return Done()

    def _held_topics(self, keys: Iterable[str]) -> list[Topic]:
        return [self._topics[key] for key in keys if key in self._topics]

    # --- records: the connections whose own shard this is ---

    def _open_connection(self, command: OpenConnection, now: Now) -> Result:
        record = self._records.get(command.conn_id)
        if record is not None and record.closed:
            self._forget_record(record, now)
            record = None
        if record is None:
            record = self._make_record(command.conn_id, command.user, now)
            self._unsaved[record] = None
            self._remind_of_connection(record)
        elif record.user != command.user:
            return OtherUser()
        added = [name for name in command.channels if name not in record.channels]
        self._change_record(record, added, (), now)
        return _state_of(record, added, now)

    def _make_record(self, conn_id: str, user: str, now: Now) -> Record:
        record = Record(self._ids.of(conn_id), self._ids.of(user), now.mono)
        self._records[record.conn_id] = record
        return record

    def _living_record(self, conn_id: str) -> Record | None:
        """The record, unless its client has said good-bye: then it only waits for its end."""
        record = self._records.get(conn_id)
        return None if record is None or record.closed else record

    def _change_channels(self, command: AddChannels | RemoveChannels, now: Now) -> Result:
        record = self._living_record(command.conn_id)
        if record is None:
            return Unknown()
        adding = isinstance(command, AddChannels)
        changed = [name for name in dict.fromkeys(command.channels) if (name not in record.channels) == adding]
        self._change_record(record, changed if adding else (), () if adding else changed, now)
        return _state_of(record, changed, now)

    def _change_record(self, record: Record, added: Iterable[str], removed: Iterable[str], now: Now) -> None:
        if added or removed:
            record.change(map(self._names.of, added), removed, now)
            self._unsaved[record] = None

    def _close_connection(self, command: CloseConnection, now: Now, effects: list[Effect]) -> Result:
        # One whose client has said good-bye is known until its end: pages close their socket and then say it here, too.
        record = self._records.get(command.conn_id)
        if record is None:
            return Unknown()
        state = _state_of(record, [], now)
        if record.last_route:
            effects.append(Send(record.last_route, Drop(record.conn_id, record.attachment, CLOSE_DISCONNECTED)))
        self._forget_record(record, now)
        return state

    def _take_connection(self, edge: str, command: TakeConnection, now: Now, effects: list[Effect]) -> Result:
        record = self._living_record(command.conn_id)
        if record is None:
            return Unknown()
        if record.last_route:
            effects.append(Send(record.last_route, Drop(record.conn_id, record.attachment, CLOSE_REPLACED)))
        # Milliseconds of the clock: it grows even where this shard has lost the record that it grew in before.
        self._route_record(record, edge, max(record.attachment + 1, int(now.mono * 1000)), now)
        self._taken_ends.remind((record, record.attachment), now.mono + TAKEN_FOR_S)
        connection = self._connections.get(command.conn_id)
        is_known = connection is not None and connection.user == record.user
        return _state_of(record, [], now, attaching=command.number if is_known else 0)

    def _route_record(self, record: Record, edge: str, attachment: int, now: Now) -> None:
        record.take(self._peer(edge, now).name, attachment)

    def _forget_record(self, record: Record, now: Now) -> None:
        del self._records[record.conn_id]
        self._unsaved[record] = None
        self._remember_gone(record, now)

    # --- users and channels: who is on them ---

    def _enter_user(self, command: EnterUser, now: Now, effects: list[Effect]) -> Result:
        user = self._users.get(command.user)
        is_new = user is None
        if user is None:
            user = self._make_user(command.user, now)
        public = user.public()
        changed = user.change(
            {**command.fresh_state, **command.state} if is_new else command.state, command.public_keys
        )
        if changed or is_new:
            self._user_changed(user, effects)
        connection = self._connection(command, now, effects)
        if user.join(connection):
            self._unsaved[connection] = None
        self._attach_where_held(connection, [user], effects)
        public_changed = not is_new and not same_state(public, user.public())
        return UserState(dict(user.state), user.public(), public_changed)

    def _change_user(self, command: ChangeUser, effects: list[Effect]) -> Result:
        user = self._users.get(command.user)
        if user is None:
            return Unknown()
        changed = [
            key
            for key, value in command.state.items()
            if key not in user.state or not same_value(user.state[key], value)
        ]
        public = user.public()
        if user.change(command.state, command.public_keys):
            self._user_changed(user, effects)
        public_changed = not same_state(public, user.public())
        return UserChanged(dict(user.state), user.public(), changed, list(user.public_keys), public_changed)

    def _user_changed(self, user: User, effects: list[Effect]) -> None:
        """Its state is another one: the store is told, and whoever lists it makes that anew."""
        self._store([user.saved()], effects)
        person = self._people.get(user.name)
        if person is not None:
            for channel in person.channels():
                channel.members_by_user.touch(person)

    def _tell_state(self, command: TellState, now: Now, effects: list[Effect]) -> Result:
        person = self._people.get(command.user)
        if person is None:
            return Done()
        self._set_public(person, command.public)
        for channel in () if command.quiet else person.channels():
            deliver = channel.state_change(person, command.changed, self._new_id(), now)
            self._tell(channel, deliver, channel.counted(deliver), effects)
        return Done()

    def _person(self, user: str) -> Person:
        person = self._people.get(user)
        if person is None:
            person = Person(self._ids.of(user))
            self._people[person.name] = person
        return person

    def _set_public(self, person: Person, public: State) -> None:
        """Each of its connections is stored with it: a later life has no other place to ask."""
        if not same_state(person.public, public):
            person.public = public or NOTHING
            self._unsaved.update(dict.fromkeys(person.connections))

    def _configure(self, command: Configure, now: Now, effects: list[Effect]) -> Result:
        channels = []
        for name, change in command.configs.items():
            channel = self._channel(name, change, now, effects)
            self._store(channel.configure(change, now), effects)
            self._remind_of_expiry(channel)
            channels.append(channel)
            if not channel.total_connections:
                self._remind_of_topic(channel, now)
        return self._told(channels, now, NOTHING_MORE)

    def _join(self, command: Join, now: Now, effects: list[Effect]) -> Result:
        connection = self._connection(command, now, effects)
        person = self._person(command.user)
        self._set_public(person, command.public)
        names = self._not_overtaken(command.conn_id, command.channels, command.version, now)
        channels = [self._channel(name, command.configs.get(name, {}), now, effects) for name in names]
        for channel in channels:
            self._join_channel(channel, connection, person, now, effects)
        self._attach_where_held(connection, channels, effects)
        self._forget_person_if_gone(person)
        told = (self._channels[name] for name in command.about if name in self._channels)
        return self._told(list(told), now, command)

    def _join_channel(
        self, channel: Channel, connection: Connection, person: Person, now: Now, effects: list[Effect]
    ) -> None:
        if channel.has(connection):
            return
        channel.touch(now)
        if channel.members_by_user.add(person):
            self._announce(channel, person, "joined", now, effects)
        # It is served from behind its own announcement, which it never gets and must not be told it missed.
        channel.join(connection)
        person.joined(connection)
        self._unsaved[connection] = None

    def _not_overtaken(self, conn_id: str, channels: Sequence[str], version: int, now: Now) -> list[str]:
        """The channels of which nothing later is known than a command that may have been overtaken on its way. From now
        on it is what is known."""
        names = [name for name in channels if version >= (self._versions.get((conn_id, name)) or 0)]
        for name in names if version else ():
            self._versions.put((self._ids.of(conn_id), self._names.of(name)), version, now.mono)
        return names

    def _leave(self, command: Leave, now: Now, effects: list[Effect]) -> Result:
        names = self._not_overtaken(command.conn_id, command.channels or [], command.version, now)
        connection = self._connections.get(command.conn_id)
        if connection is None:
            return Done()
        if command.channels is None:
            self._forget_connection(connection, now, effects)
            return Done()
        left = [
            channel.key
            for name in names
            if (channel := self._channels.get(name)) and self._leave_topic(channel, connection, now, effects)
        ]
        if connection.route and left:
            effects.append(Send(connection.route, Unsubscribed(connection.conn_id, list(left))))
        return Done()

    def _leave_topic(self, topic: Topic, connection: Connection, now: Now, effects: list[Effect]) -> bool:
        if not topic.leave(connection):
            return False
        self._unsaved[connection] = None
        if isinstance(topic, Channel):
            topic.touch(now)
            person = self._people[connection.user]
            person.left(connection)
            if topic.members_by_user.remove(person):
                self._announce(topic, person, "parted", now, effects)
                self._forget_person_if_gone(person)
        elif isinstance(topic, User):
            topic.left_at = now.mono
        if not topic.total_connections:
            self._remind_of_topic(topic, now)
        return True

    def _announce(self, channel: Channel, person: Person, action: str, now: Now, effects: list[Effect]) -> None:
        deliver = channel.presence(person, action, self._new_id(), now)
        self._tell(channel, deliver, channel.counted(deliver), effects)

    def _forget_person_if_gone(self, person: Person) -> None:
        if not person.connections:
            self._people.pop(person.name, None)

    def _channel(self, name: str, change: ConfigChange, now: Now, effects: list[Effect]) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = Channel(name, self._new_id(), self._new_id(), configured(ChannelConfig(), change), now)
            self._channels[name] = self._topics[channel.key] = channel
            self._store([channel.saved()], effects)
        return channel

    def _make_user(self, name: str, now: Now, seq: int = 0) -> User:
        user = User(self._ids.of(name), self._users_epoch, now.mono, max(seq, self._users_begin_at))
        self._users[user.name] = self._topics[user.key] = user
        return user

    # --- attaching ---

    def _connection(self, command: EnterUser | Join, now: Now, effects: list[Effect]) -> Connection:
        """The connection of a command, made where it is new here; the command knows where it is held."""
        connection = self._connection_of(command.conn_id, command.user, now, effects)
        if connection is not None and connection.closed and command.attachment <= connection.attachment:
            # Its client has said good-bye: the backend begins anew with the same id.
            self._forget_connection(connection, now, effects)
            connection = None
        if connection is None:
            connection = self._make_connection(command.conn_id, command.user, now.mono - command.detached_for_s)
            self._remind_of_connection(connection)
        route, attachment = command.route, command.attachment
        record = self._records.get(command.conn_id)
        if record is not None and record.attachment > attachment:
            route, attachment = record.last_route, record.attachment  # it was taken while the command was on its way
        if not connection.route and route and attachment > connection.attachment:
            self._route_connection(connection, route, attachment, now)
        return connection

    def _connection_of(self, conn_id: str, user: str, now: Now, effects: list[Effect]) -> Connection | None:
        """The connection, where there is one of this user. One of another user is over: its record was ended before
        the id could be used again, and only the word of that has not come here."""
        connection = self._connections.get(conn_id)
        if connection is not None and connection.user != user:
            self._forget_connection(connection, now, effects)
            return None
        return connection

    def _make_connection(self, conn_id: str, user: str, detached_at: float) -> Connection:
        record = self._records.get(conn_id)
        if record is not None and record.user == user:
            connection = Connection(record.conn_id, record.user, detached_at)
        else:
            connection = Connection(self._ids.of(conn_id), self._ids.of(user), detached_at)
        self._connections[connection.conn_id] = connection
        return connection

    def _route_connection(self, connection: Connection, edge: str, attachment: int, now: Now) -> None:
        connection.take(self._peer(edge, now).name, attachment)

    def _attach_where_held(self, connection: Connection, topics: Iterable[Topic], effects: list[Effect]) -> None:
        """Topics that a connection has joined while an edge holds it are delivered there from now on."""
        if connection.route and connection not in self._waiting:
            attached = _attached(connection, topics, {})
            if attached.topics:
                effects.append(Send(connection.route, attached))

    def _attach(self, edge: str, message: Attach, now: Now) -> list[Effect]:
        if self._has_ended(message) or self._has_lost(message, now):
            return [Send(edge, Drop(message.conn_id, message.attachment, CLOSE_EXPIRED))]
        if message.attachment < self._last_attachment(message.conn_id):
            return [Send(edge, Drop(message.conn_id, message.attachment, CLOSE_REPLACED))]
        effects: list[Effect] = []
        self._hold_record_again(edge, message, now)
        if not message.topics and message.conn_id in self._records and message.conn_id not in self._connections:
            return [Send(edge, Attached(message.conn_id, message.attachment, [], message.number))]
        connection = self._connection_of(message.conn_id, message.user, now, effects)
        if connection is None:
            connection = self._make_connection(message.conn_id, message.user, now.mono)
            message = self._with_all_lost(message, now)
        self._attach_connection(connection, edge, message, now, effects)
        return effects

    def _attach_connection(
        self, connection: Connection, edge: str, message: Attach, now: Now, effects: list[Effect]
    ) -> None:
        if connection.route and (connection.route, connection.attachment) != (edge, message.attachment):
            self._wait_for_former_edge(connection, edge, message, now, effects)
        else:
            self._finish_attach(connection, edge, message, now, effects)

    def _attach_taken(self, edge: str, conn_id: str, state: ConnectionState, now: Now, effects: list[Effect]) -> None:
        """What an `Attach` would do that followed the answer to a `TakeConnection` at once, but that the record does
        not count as held yet: where the edge was given it in time, it says so with its next beat."""
        message = Attach(conn_id, state.user, state.attachment, [], state.attaching)
        self._attach_connection(self._connections[conn_id], edge, message, now, effects)

    def _has_ended(self, message: Attach) -> bool:
        """Whether what an edge attaches was ended here, be it that its record lives on at another shard, whose clock
        is a little late: the client is told, instead of being held and given nothing."""
        if self._is_complete and message.channels is not None and message.conn_id not in self._records:
            return True  # its record was kept here, and is there no more
        gone = self._gone.get(message.conn_id)
        if gone is None:
            return False
        nothing_left = bool(message.topics) and message.conn_id not in self._connections
        return nothing_left or message.attachment <= gone

    def _has_lost(self, message: Attach, now: Now) -> bool:
        """Whether an edge names topics of a connection that an earlier life of this shard knew and this one does not:
        nobody was attached to it then who could tell. Later than a detached connection lives there are none of them.

        A connection that is subscribed to its first topic here in the very moment in which it attaches looks the same
        in that time. It has to connect anew too; nothing is kept from it without a word.
        """
        first_time = bool(message.topics) and not _knows_epochs(message)
        return self._may_have_lost(now) and first_time and message.conn_id not in self._connections

    def _may_have_lost(self, now: Now) -> bool:
        """Whether there may be connections that an earlier life of this shard knew and this one has not seen."""
        return not self._is_complete and now.mono - self._started < self._settings.keep_connections_s

    def _with_all_lost(self, message: Attach, now: Now) -> Attach:
        """The attach of a connection that is unknown here, though an earlier life of it knew some of its topics.
        It knew all of them, those too whose epochs nobody names (an answer was on its way, a position is bounded)."""
        if not (self._may_have_lost(now) and _knows_epochs(message)):
            return message
        topics = [
            cursor if cursor.epoch and not cursor.claimed else TopicCursor(cursor.topic, LOST_EPOCH)
            for cursor in message.topics
        ]
        return msgspec.structs.replace(message, topics=topics)

    def _last_attachment(self, conn_id: str) -> int:
        known = (self._records.get(conn_id), self._connections.get(conn_id))
        return max((lifetime.attachment for lifetime in known if lifetime is not None), default=0)

    def _hold_record_again(self, edge: str, message: Attach, now: Now) -> None:
        """An edge that was taken for gone still holds what nobody else has taken since. Where the record is from after
        that, or is not there at all, this shard has lost it: then the edge says what was in it."""
        record = self._records.get(message.conn_id)
        if record is None and message.channels is not None:
            record = self._make_record(message.conn_id, message.user, now)
            self._unsaved[record] = None
        if record is None or record.user != message.user or record.attachment > message.attachment:
            return
        if record.route:
            record.is_held = record.is_held or record.attachment == message.attachment
            return
        if record.attachment < message.attachment and not self._is_complete:
            self._change_record(record, message.channels or (), (), now)
        self._route_record(record, edge, message.attachment, now)
        record.is_held = True

    def _wait_for_former_edge(
        self, connection: Connection, edge: str, message: Attach, now: Now, effects: list[Effect]
    ) -> None:
        waiting = self._waiting.get(connection)
        until = now.mono + TAKEOVER_WAIT_S if waiting is None else waiting.until
        if waiting is None:
            self._waiting_ends.remind(connection, until)
        elif waiting.message.attachment > message.attachment:
            effects.append(Send(edge, Drop(message.conn_id, message.attachment, CLOSE_REPLACED)))
            return
        if waiting is None:
            # Its own shard has told the former edge already; what is sent from here shows whether there is one at all.
            effects.append(Send(connection.route, Drop(message.conn_id, connection.attachment, CLOSE_REPLACED)))
        self._waiting[connection] = _Takeover(edge, message, until)

    def _finish_attach(
        self, connection: Connection, edge: str, message: Attach, now: Now, effects: list[Effect]
    ) -> None:
        self._route_connection(connection, edge, message.attachment, now)
        self._rejoin(connection, message.topics, now, effects)
        connection.was_attached = True
        positions = {position.topic: position for position in message.topics}
        effects.append(Send(edge, _attached(connection, connection.topics, positions, message.number)))

    def _rejoin(self, connection: Connection, positions: list[TopicCursor], now: Now, effects: list[Effect]) -> None:
        """An edge that was attached to a topic before (it knows an epoch) says so to a shard that has lost it: the
        membership is made again, and the other epoch tells the client that something may be missing. What the
        connection has left at this very shard, while the edge was out of reach, it stays off."""
        left: list[str] = []
        for position in positions:
            topic = self._topics.get(position.topic)
            if not position.epoch or position.claimed or (topic is not None and topic.has(connection)):
                continue
            same_epoch = topic is not None and topic.epoch == position.epoch
            if connection.is_restored or (connection.was_attached and same_epoch):
                left.append(position.topic)
            else:
                self._rejoin_topic(connection, position, now, effects)
        if left:
            effects.append(Send(connection.route, Unsubscribed(connection.conn_id, left)))

    def _rejoin_topic(self, connection: Connection, position: TopicCursor, now: Now, effects: list[Effect]) -> None:
        name = name_of(TopicKey(position.topic))
        topic: Channel | User
        if position.topic.startswith("u/"):
            topic = self._users.get(name) or self._make_user(name, now)
            topic.join(connection)
        else:
            person = self._person(connection.user)
            topic = self._channel(name, {}, now, effects)
            self._join_channel(topic, connection, person, now, effects)
        topic.rewind(connection, position.seq if topic.epoch == position.epoch else 0)
        self._unsaved[connection] = None

    def _detach(self, edge: str, message: Detach, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        record = self._records.get(message.conn_id)
        if record is not None and (record.last_route, record.attachment) == (edge, message.attachment):
            record.let_go(now, message.closed)
            self._remind_of_connection(record)
        connection = self._connections.get(message.conn_id)
        if connection is not None and (connection.last_route, connection.attachment) == (edge, message.attachment):
            self._detach_connection(connection, message.closed, message.cursors, now, effects)
        elif connection is not None and not connection.attachment:
            self._advance(connection, message.cursors)
        return effects

    def _advance(self, connection: Connection, cursors: list[TopicCursor]) -> None:
        """An edge let a connection go that nobody has attached in this life of the shard: the shard was away, and what
        it has stored may be older than that. How the client left is not taken: the word may be from before another
        edge held it."""
        for cursor in cursors:
            topic = self._topics.get(cursor.topic)
            if topic is not None and topic in connection.topics and cursor.epoch in ("", topic.epoch):
                topic.advance(connection, cursor.seq)
                self._unsaved[connection] = None

    def _detach_connection(
        self, connection: Connection, closed: bool, cursors: list[TopicCursor], now: Now, effects: list[Effect]
    ) -> None:
        self._unroute_connection(connection, cursors)
        connection.let_go(now, closed)
        self._go_on_without_route(connection, now, effects)

    def _lose_connection(self, connection: Connection, now: Now, effects: list[Effect]) -> None:
        self._unroute_connection(connection, [])
        connection.lose_sight(now)
        self._go_on_without_route(connection, now, effects)

    def _unroute_connection(self, connection: Connection, cursors: list[TopicCursor]) -> None:
        peer = self._peers.get(connection.route)
        served = {} if peer is None else peer.served
        exact = {cursor.topic: cursor for cursor in cursors}
        for topic in connection.topics:
            cursor = exact.get(topic.key)
            if cursor is not None and cursor.epoch in ("", topic.epoch):
                topic.detach_exactly(connection, cursor.seq)
            else:
                topic.detach(connection, served.get(topic.key, 0))
        self._unsaved[connection] = None

    def _go_on_without_route(self, connection: Connection, now: Now, effects: list[Effect]) -> None:
        """Whoever waits to attach it does so now; else its time runs."""
        waiting = self._waiting.pop(connection, None)
        if waiting is not None:
            self._finish_attach(connection, waiting.edge, waiting.message, now, effects)
        else:
            self._remind_of_connection(connection)

    # --- peers ---

    def _peer(self, name: str, now: Now) -> Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(name, self._new_id(), now.mono)
            self._silences.remind(peer, peer.silent_at)
        return peer

    def _beat(self, name: str, message: Beat, now: Now) -> list[Effect]:
        peer = self._peer(name, now)
        # Cursors of another session are of topics that this shard has forgotten the edge's hold on.
        cursors = message.cursors if message.session in ("", peer.session) else {}
        peer.beat(message.status, cursors, now.mono)
        for conn_id, attachment in message.taken.items():
            record = self._records.get(conn_id)
            if record is not None and (record.route, record.attachment) == (name, attachment):
                record.is_held = True
        # What an edge of another session has yet to attach again, it has not lost.
        told = told_beyond(name, message.holds, self._topics) if message.session == peer.session else {}
        return [Send(name, BeatAnswer(peer.session, told))]

    def lose_peer(self, name: str, now: Now, served_known: bool = True) -> list[Effect]:
        """A peer is gone, or so far behind that what waited for it was dropped, or something of it was lost on the way.
        Its connections are cut off; an edge that is still there sees a new session with its next beat and attaches
        them again. `served_known`: whether its beats tell how far its clients were served. They do not where it may
        have said of one that it was served less than the others."""
        peer = self._peers.get(name)
        if peer is None:
            return []
        if not served_known:
            peer.served.clear()
        effects: list[Effect] = []
        for connection in [conn for conn, waiting in self._waiting.items() if waiting.edge == name]:
            del self._waiting[connection]
        for record in [record for record in self._records.values() if record.route == name]:
            record.lose_sight(now)
            self._remind_of_connection(record)
        for connection in [connection for connection in self._connections.values() if connection.route == name]:
            self._lose_connection(connection, now, effects)
        del self._peers[name]
        self._save_unsaved(effects)
        return effects

    # --- time ---

    def tick(self, now: Now) -> list[Effect]:
        """All that is due by now."""
        effects: list[Effect] = []
        if self._renewed:
            self._store(self._renewed, effects)
            self._renewed = []
        if now.mono >= self._tidy_at:
            self._tidy(now)
        if self._agenda.first > now.mono:
            return effects  # PERF: as in nearly every turn
        for peer in self._silences.due(now.mono):
            effects += self._look_whether_silent(peer, now)
        for connection in self._waiting_ends.due(now.mono):
            self._stop_waiting(connection, now, effects)
        for record, attachment in self._taken_ends.due(now.mono):
            self._end_taking(record, attachment, now)
        for ended in self._connection_ends.due(now.mono):
            self._end_connection(ended, now, effects)
        for topic in self._topic_ends.due(now.mono):
            self._end_topic(topic, now, effects)
        self._claims.difference_update(self._claim_ends.due(now.mono))
        for channel in self._expiries.due(now.mono):
            self._expire(channel, now, effects)
        self._agenda.look()
        self._save_unsaved(effects)
        return effects

    def next_due(self) -> float:
        """The moment (monotonic) at which `tick` has something to do besides tidying; infinity without one."""
        return self._agenda.first

    def _tidy(self, now: Now) -> None:
        self._tidy_at = now.mono + TIDY_EVERY_S
        self._answers.forget_before(now.mono)
        self._gone.forget(now.mono)
        self._versions.forget(now.mono)

    def _look_whether_silent(self, peer: Peer, now: Now) -> list[Effect]:
        if self._peers.get(peer.name) is not peer:
            return []
        if peer.silent_at > now.mono:
            self._silences.remind(peer, peer.silent_at)
            return []
        self.counters.count(PEERS_SILENT)
        return self.lose_peer(peer.name, now)

    def _stop_waiting(self, connection: Connection, now: Now, effects: list[Effect]) -> None:
        waiting = self._waiting.get(connection)
        if waiting is not None and waiting.until <= now.mono:
            effects.append(Send(connection.route, Drop(connection.conn_id, connection.attachment, CLOSE_REPLACED)))
            self._detach_connection(connection, False, [], now, effects)

    def _remind_of_connection(self, ended: Connection | Record) -> None:
        due = ended.due(self._settings.keep_connections_s)
        # One reminder is enough for a client that comes and goes, as each long-poll does.
        if due is not None and (ended.reminded_for is None or due < ended.reminded_for):
            ended.reminded_for = self._connection_ends.remind(ended, due)

    def _end_taking(self, record: Record, attachment: int, now: Now) -> None:
        if record.route and record.attachment == attachment and not record.is_held:
            record.let_go(now, closed=False)
            self._remind_of_connection(record)

    def _end_connection(self, ended: Connection | Record, now: Now, effects: list[Effect]) -> None:
        ended.reminded_for = None
        due = ended.due(self._settings.keep_connections_s)
        if due is None:
            return
        if due > now.mono:
            self._remind_of_connection(ended)
        elif isinstance(ended, Record):
            if self._records.get(ended.conn_id) is ended:
                self._forget_record(ended, now)
        elif self._connections.get(ended.conn_id) is ended:
            self._forget_connection(ended, now, effects)

    def _forget_connection(self, connection: Connection, now: Now, effects: list[Effect]) -> None:
        if connection.route:
            # The edge is told to drop it by another shard, on another pipe; on this one it is told no more of these.
            left: list[str] = [topic.key for topic in connection.topics]
            effects.append(Send(connection.route, Unsubscribed(connection.conn_id, left)))
        for topic in list(connection.topics):
            self._leave_topic(topic, connection, now, effects)
        self._waiting.pop(connection, None)
        del self._connections[connection.conn_id]
        self._unsaved[connection] = None
        self._remember_gone(connection, now)

    def _remember_gone(self, ended: Connection | Record, now: Now) -> None:
        attachment = max(ended.attachment, self._gone.get(ended.conn_id) or 0)
        self._gone.put(ended.conn_id, attachment, now.mono)

    def _topic_due(self, topic: Channel | User) -> float:
        if isinstance(topic, Channel):
            return topic.last_active_mono + self._settings.keep_channels_s
        return topic.left_at + USER_KEPT_S

    def _remind_of_topic(self, topic: Topic, now: Now) -> None:
        """One reminder at a time, however often the last member leaves: the end of a topic only moves away."""
        if isinstance(topic, Channel | User) and not topic.reminded:
            topic.reminded = True
            self._topic_ends.remind(topic, self._topic_due(topic))

    def _remind_of_expiry(self, channel: Channel) -> None:
        """One reminder at a time, for the oldest message."""
        due = None if channel.is_expiring else channel.next_expiry()
        if due is not None:
            channel.is_expiring = True
            self._expiries.remind(channel, due)

    def _expire(self, channel: Channel, now: Now, effects: list[Effect]) -> None:
        channel.is_expiring = False
        if self._channels.get(channel.name) is channel:
            self._store(channel.expire(now), effects)
            self._remind_of_expiry(channel)

    def _end_topic(self, topic: Channel | User, now: Now, effects: list[Effect]) -> None:
        topic.reminded = False
        if topic.total_connections:
            return
        if self._topic_due(topic) > now.mono:
            self._remind_of_topic(topic, now)
            return
        del self._topics[topic.key]
        for peer in self._peers.values():
            peer.served.pop(topic.key, None)  # counted in a life of the topic that is over
        if isinstance(topic, Channel):
            del self._channels[topic.name]
            self._store([ChannelForgotten(topic.name)], effects)
        else:
            del self._users[topic.name]
            self._users_begin_at = max(self._users_begin_at, topic.seq + 1)
            self._store([UserForgotten(topic.name)], effects)

    # --- what is told ---

    def _tell_channels(self, command: GetChannels, now: Now) -> Result:
        if command.channels is None:
            told: Iterable[Channel] = self._channels.values()
        else:
            told = (self._channels[name] for name in command.channels if name in self._channels)
        return self._told(list(told), now, command)

    def _told(self, channels: Sequence[Channel], now: Now, wanted: GetChannels | Join) -> Channels:
        """What is told of channels, and in the same breath of the users on them, where all of these are owned here."""
        users = self._told_users(channels, wanted.shown) if wanted.include_users and wanted.shown else None
        names_users = wanted.include_users and users is None
        infos = [
            ChannelInfo(
                channel.name,
                channel.info(now, wanted.include_history, wanted.include_users),
                channel.members_by_user.names() if names_users else [],
            )
            for channel in channels
        ]
        return Channels(infos, users)

    def _told_users(self, channels: Sequence[Channel], shown: UsersShown) -> bytes | None:
        """All users on these channels by name, as a JSON list; None where one of them is not known here."""
        if len(channels) == 1 and not shown.include_connections:
            listing = channels[0].members_by_user.listing()
            return listing.told(self._public_of if shown.public_only else self._whole_of)
        names = sorted({name for channel in channels for name in channel.members_by_user.names()})
        users = self._shown(names, shown.include_connections, shown.public_only)
        return None if users is None else b"[%b]" % users

    def _public_of(self, names: Sequence[str]) -> bytes | None:
        return self._shown(names, include_connections=False, public_only=True)

    def _whole_of(self, names: Sequence[str]) -> bytes | None:
        return self._shown(names, include_connections=False, public_only=False)

    def _shown(self, names: Sequence[str], include_connections: bool, public_only: bool) -> bytes | None:
        users = self._users
        try:
            return joined([users[name] for name in names], include_connections, public_only)
        except KeyError:
            return None  # others own them

    def _tell_states(self, command: GetStates) -> Result:
        users = (self._users[name] for name in command.users if name in self._users)
        return States(
            [UserInfo(user.name, user.info(command.include_connections, command.public_only)) for user in users]
        )

    def _tell_totals(self) -> Result:
        users = [user for user in self._users.values() if user.total_connections]
        return Totals(
            self._own.since,
            len(self._users),
            [UserInfo(user.name, user.info(include_connections=True, public_only=True)) for user in users],
            sum(user.total_connections for user in users),
            len(self._channels),
            self._messages,
            self._unique_messages,
        )

    def _claim(self, command: Claim, now: Now) -> Result:
        if command.key in self._claims:
            return Claimed(False)
        if len(self._claims) >= MAX_CLAIMS:
            self.counters.count(CLAIMS_REFUSED)
            return Claimed(False, full=True)
        self._claims.add(command.key)
        self._claim_ends.remind(command.key, now.mono + command.for_s)
        return Claimed(True)

    def status(self) -> ProcessStatus:
        """How this shard is."""
        return msgspec.structs.replace(
            self._own,
            ready=True,
            connections=len(self._records),
            channels=len(self._channels),
            queue_bytes=self.queue_bytes,
            counters=self.counters.told(),
        )

    def _tell_status(self) -> Result:
        return StatusReport(self.status(), [peer.status for peer in self._peers.values() if peer.status is not None])


def _attached(
    connection: Connection, topics: Iterable[Topic], positions: dict[str, TopicCursor], number: int = 0
) -> Attached:
    """Gives those of the topics that are not attached yet the connection's route, and those once more that the edge
    names: it has let go of them, or has not seen that they were attached."""
    attached: list[AttachedTopic] = []
    room = MAX_CATCHUP_BYTES
    for topic in topics:
        position = positions.get(topic.key)
        if topic.is_attached(connection):
            if position is None:
                continue
            topic.detach(connection, 0)
        new = topic.attach(connection, position)
        if new.missed:
            new = within(new, room)
            room -= sum(map(len, new.missed))
        attached.append(new)
    return Attached(connection.conn_id, connection.attachment, attached, number)


def _knows_epochs(message: Attach) -> bool:
    """Whether an edge was attached to one of these topics before. What a client claims says nothing of that."""
    return any(cursor.epoch and not cursor.claimed for cursor in message.topics)


def _state_of(record: Record, changed: list[str], now: Now, attaching: int = 0) -> ConnectionState:
    return ConnectionState(
        record.user,
        sorted(record.channels),
        changed,
        record.last_route,
        record.attachment,
        record.detached_for_s(now),
        record.version,
        attaching,
    )
