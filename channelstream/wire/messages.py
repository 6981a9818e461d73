"""Every message that crosses a process, grouped by direction.

All are frozen structs, written as msgpack arrays behind their name. New fields go last and have a default, so that a
reader of the same wire version skips what it does not know. Bodies of messages are bytes here: they are made once by
the router and spliced, never parsed, on their way to a socket.

`route`: where a connection is attached; an edge's name, or "" for nowhere. `attachment`: a number that grows with
each attach of a connection, so that what belongs to an earlier one is told apart and ignored.
"""

from __future__ import annotations

from msgspec import Struct

StateValue = str | int | float | bool | None
State = dict[str, StateValue]


class ChannelConfig(Struct, frozen=True, gc=False):
    """How a channel behaves; the defaults are the contract's."""

    notify_presence: bool = False
    broadcast_presence_with_user_lists: bool = False
    notify_state: bool = False
    store_history: bool = False
    history_size: int = 10
    store_frames: bool = True
    frames_size: int = 100
    history_ttl: int = 0
    skip_when_slow: bool = False


ConfigChange = dict[str, bool | int]
"""Keys of `ChannelConfig` with their new values; the others stay."""


class _Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The base of all that is sent."""


# --- asked of a shard by a router (or an edge), each inside an `Ask` ------------------------------------------------


class OpenConnection(_Message, frozen=True):
    """Router → the connection's shard: make the record of a connection, or add channels to it.

    Answered with `ConnectionState`, or `OtherUser` where the id is in use by another user.
    """

    conn_id: str
    user: str
    channels: list[str]


class AddChannels(_Message, frozen=True):
    """Router → the connection's shard: it is on these channels too. → `ConnectionState` or `Unknown`."""

    conn_id: str
    channels: list[str]


class RemoveChannels(_Message, frozen=True):
    """Router → the connection's shard: it is on these channels no more. → `ConnectionState` or `Unknown`."""

    conn_id: str
    channels: list[str]


class CloseConnection(_Message, frozen=True):
    """Router → the connection's shard: end it. The edge that holds it is told. → `ConnectionState` or `Unknown`."""

    conn_id: str


class TakeConnection(_Message, frozen=True):
    """Edge → the connection's shard: a client is here with this id; it is attached at the asking edge from now on.

    An edge that held it before is told to drop it. → `ConnectionState` with the new attachment, or `Unknown`.

    `number`: where it is not 0, the edge also wants what an `Attach` with this number would bring of the topics that
    this shard owns. Where the shard knows the connection, that follows the answer, which says so (`attaching`).
    """

    conn_id: str
    number: int = 0


class EnterUser(_Message, frozen=True):
    """Router → the user's shard: a connection of this user; make the user where it is new, change its state.

    `fresh_state` is taken only where the user is new, `state` is merged always, `public_keys` replaces the list
    unless it is None. → `UserState`.
    """

    user: str
    conn_id: str
    fresh_state: State
    state: State
    public_keys: list[str] | None
    route: str = ""
    attachment: int = 0
    detached_for_s: float = 0.0


class UsersShown(Struct, frozen=True, array_like=True, gc=False):
    """How users are shown: with the `conn_id`s of their connections or without, with their whole state or only with the
    public part of it."""

    include_connections: bool
    public_only: bool


class Join(_Message, frozen=True):
    """Router → a channel's shard: a connection joins these channels, which are made where they are missing.

    `configs` applies only to channels that this makes. `public` is the user's public state, for presence.
    → `Channels` about the channels of `about` that this shard owns, `shown` as in `GetChannels`.
    """

    conn_id: str
    user: str
    public: State
    channels: list[str]
    configs: dict[str, ConfigChange]
    about: list[str]
    include_history: bool
    include_users: bool
    route: str = ""
    attachment: int = 0
    detached_for_s: float = 0.0
    version: int = 0
    shown: UsersShown | None = None


class Leave(_Message, frozen=True):
    """Router → a shard: a connection leaves these channels; None: all that the shard knows of it, its user's topic
    included. → `Done`.

    `version`, here and in `Join`, is the one of the record's change that it follows from: of two that cross on their
    way to a channel the higher one counts, so that the channel and the record agree.
    """

    conn_id: str
    channels: list[str] | None
    version: int = 0


class Publication(Struct, frozen=True, array_like=True, gc=False):
    """Messages on their way to the same topics of one shard, in their order.

    `uuids` and `bodies` have one of each message; a body is the client's JSON object without `catchup` and `seq`.
    `only`: the users that may see them, None for all; `exclude`: those that may not, which wins. `counted`: whether
    this shard counts the messages, since those to users are published at several.
    """

    topics: list[str]
    uuids: list[str]
    bodies: list[bytes]
    only: list[str] | None = None
    exclude: list[str] | None = None
    no_history: bool = False
    counted: bool = True


class Publish(_Message, frozen=True):
    """Router → a shard: messages of one request, those of each topic in their order. → `Done` when the shard has them
    all."""

    publications: list[Publication]


class Edit(Struct, frozen=True, array_like=True, gc=False):
    """A change of a message that topics of one shard may hold.

    `changes`: keys of the client's JSON object, each with its new value's JSON. `body` tells clients of it, as in
    `Publication`. `only`: who may see it where the message itself, which says so, is not held any more.
    """

    topics: list[str]
    uuid: str
    changes: dict[str, bytes]
    body: bytes
    only: list[str] | None = None


class EditMessages(_Message, frozen=True):
    """Router → a shard: edits of one request, in their order. → `Done`."""

    edits: list[Edit]


class Deletion(Struct, frozen=True, array_like=True, gc=False):
    """The end of a message that topics of one shard may hold; see `Edit`."""

    topics: list[str]
    uuid: str
    body: bytes
    only: list[str] | None = None


class DeleteMessages(_Message, frozen=True):
    """Router → a shard: deletions of one request, in their order. → `Done`."""

    deletions: list[Deletion]


class ChangeUser(_Message, frozen=True):
    """Router → the user's shard: merge a state; `public_keys` replaces the list unless it is None. → `UserChanged`, or
    `Unknown` where there is no such user."""

    user: str
    state: State
    public_keys: list[str] | None


class TellState(_Message, frozen=True):
    """Router → every shard: a user's public state is this now, and these of its keys are new. Channels that the user is
    on and that have `notify_state` tell it, unless it is `quiet`: then only who asks sees it. → `Done`."""

    user: str
    public: State
    changed: list[str]
    quiet: bool = False


class Configure(_Message, frozen=True):
    """Router → a shard: change channels' configurations; those that are missing are made. → `Channels`."""

    configs: dict[str, ConfigChange]


class GetChannels(_Message, frozen=True):
    """Router → a shard: tell about these channels (None: all). `shown`: in which way the users on them are wanted as
    well, where it can be told here; None: not at all. → `Channels`."""

    channels: list[str] | None
    include_history: bool
    include_users: bool
    shown: UsersShown | None = None


class GetStates(_Message, frozen=True):
    """Router → a shard: tell about these users, which it owns. → `States`."""

    users: list[str]
    include_connections: bool
    public_only: bool


class Claim(_Message, frozen=True):
    """Router → a shard: this key may be used once in so many seconds. → `Claimed`."""

    key: str
    for_s: float


class GetTotals(_Message, frozen=True):
    """Router → a shard: how much have you got? → `Totals`."""


class Chain(_Message, frozen=True):
    """Router → a shard: steps of one call that follow each other and all belong here, carried out in one go.

    What a step says of its connection and of its user's public state is what the steps before it have answered, see
    `wire.chain`. A step that is refused (`OtherUser`) is the last one. → `Chained`.
    """

    steps: list[OpenConnection | EnterUser | Join]


class GetStatus(_Message, frozen=True):
    """Anyone → a shard: how are you, and who talks to you? → `StatusReport`."""


Command = (
    OpenConnection
    | AddChannels
    | RemoveChannels
    | CloseConnection
    | TakeConnection
    | EnterUser
    | Join
    | Leave
    | Publish
    | EditMessages
    | DeleteMessages
    | ChangeUser
    | TellState
    | Configure
    | GetChannels
    | GetStates
    | Claim
    | GetTotals
    | Chain
    | GetStatus
)


class Ask(_Message, frozen=True):
    """A command with the number its answer will carry. Past its deadline (seconds of the machine's monotonic clock)
    it is not carried out and not answered: whoever asked has given up by then.

    `again`: it has been sent before, with the same number, and was not answered; the link, or the shard's life, may
    have ended under it. So each command may come twice. The same life of a shard answers what it has answered before,
    and does nothing (`shard.repeats`). In another life, which may know what the former one did or know nothing:

    - `OpenConnection`, `Join`, `Leave`, `Configure`, `TellState` say how things are to be: the second time nothing is
      left to do, and the answer says how things are. A `TellState` may tell channels the same state twice.
    - `EnterUser` the same; `fresh_state` was taken the first time. That others are to hear of the public state is
      answered in any case.
    - `AddChannels`, `RemoveChannels`, `ChangeUser`: where nothing is left to change, all that the command names is
      answered as changed.
    - `CloseConnection`: the second time it is unknown, as it is for whoever calls twice. Its places at other shards
      end with the word of the edge that held it.
    - `TakeConnection` takes again, with a higher attachment; of the first one nobody has heard. The same life attaches
      nothing when it answers again, and says so.
    - `Publish` takes a uuid once, as long as it is held. Where a channel keeps neither frames nor history, a message
      may come twice, with one uuid.
    - `EditMessages`, `DeleteMessages` come to the same in the end; clients may be told twice.
    - `Claim`: claims are of one life, so the key is fresh again. The same life answers what it answered: nobody is
      refused for having claimed it himself.
    - `GetChannels`, `GetStates`, `GetTotals`, `GetStatus` change nothing.
    - `Chain` is as its steps are. The same life goes on behind the last one whose answer it remembers.
    """

    number: int
    deadline: float
    command: Command
    again: bool = False


# --- sent to a shard by an edge, without an answer of its own -------------------------------------------------------


class TopicCursor(Struct, frozen=True, array_like=True, gc=False):
    """How far a member has been served. `epoch` "" where the edge does not know: the shard's own cursor counts.

    `claimed`: it is the client's own word, and `epoch` only the fingerprint of one. A shard goes by it within what the
    connection may see, and draws no conclusion from it about who is on what.

    `passed_on`: where the client is behind, how far it really got; -1 where that is `seq`. What is between is queued
    for it here and not asked for, but were this edge lost, it would go on from there.
    """

    topic: str
    epoch: str = ""
    seq: int = 0
    claimed: bool = False
    passed_on: int = -1


class Attach(_Message, frozen=True):
    """Edge → a shard: the connection is held here; send what it missed on these topics, and all that follows.

    Followed by `Attached` on the same pipe as the deliveries, with the same `number`. Safe to repeat. `channels`: all
    that the connection is on, as far as the edge knows, for its own shard, which may have lost the record; else None.
    """

    conn_id: str
    user: str
    attachment: int
    topics: list[TopicCursor]
    number: int = 0
    channels: list[str] | None = None


class Detach(_Message, frozen=True):
    """Edge → a shard: the connection is held here no more. `closed`: the client said good-bye, so it will not come
    back. `cursors`: how far each topic of that shard was served to it."""

    conn_id: str
    attachment: int
    closed: bool
    cursors: list[TopicCursor]


class ProcessStatus(Struct, frozen=True, array_like=True, gc=False):
    """How a process is. `since` is in seconds since the epoch; `queue_bytes` is what waits in its queues. `counters`:
    what was dropped or refused in this life of it, by the names in `counters`."""

    role: str
    index: int
    pid: int
    since: float
    version: str
    ready: bool = False
    connections: int = 0
    channels: int = 0
    queue_bytes: int = 0
    counters: dict[str, int] = {}


class Beat(_Message, frozen=True):
    """Router or edge → every shard, each second, from the loop itself: I am alive, and this is how I am.

    `session` is the one that the shard gave ("" at first). `cursors` maps topics to the seq that this edge has handed
    to its sockets, where it moved since the last beat. `holds` maps some of the topics on which it has members, other
    ones with each beat, to the seq that it has got. `taken` maps the connections that it holds since the last beat,
    without an `Attach` of its own for this shard, to their attachments. → `BeatAnswer`.
    """

    session: str
    status: ProcessStatus
    cursors: dict[str, int]
    holds: dict[str, int] = {}
    taken: dict[str, int] = {}


ToShard = Ask | Attach | Detach | Beat


# --- sent by a shard ------------------------------------------------------------------------------------------------


class ConnectionState(_Message, frozen=True):
    """What the connection's shard knows of it. `changed`: the channels that this command added or removed. `version`:
    of its last change, a number that grows. `attaching`: the number of the `Attached` that comes behind this answer; 0
    where none does."""

    user: str
    channels: list[str]
    changed: list[str]
    route: str
    attachment: int
    detached_for_s: float
    version: int = 0
    attaching: int = 0


class Unknown(_Message, frozen=True):
    """There is no such connection."""


class OtherUser(_Message, frozen=True):
    """The connection belongs to another user."""


class UserState(_Message, frozen=True):
    """The user's whole state, and the part of it that others may see. `public_changed`: whether that part is another
    one than before, which shards that have the user on a channel do not know yet."""

    state: State
    public: State
    public_changed: bool = False


class UserChanged(_Message, frozen=True):
    """The user's whole state, the public part of it, the keys whose values changed, and the list of public keys.
    `public_changed` as in `UserState`."""

    state: State
    public: State
    changed: list[str]
    public_keys: list[str]
    public_changed: bool = False


class ChannelInfo(Struct, frozen=True, array_like=True, gc=False):
    """A channel as `/info` shows it. `json` is the finished object. `users`: the names in it, for who is to ask about
    them; not sorted, and empty where `Channels` has told what there is to tell."""

    name: str
    json: bytes
    users: list[str]


class Channels(_Message, frozen=True):
    """The channels that were asked for and exist here.

    `users`: a JSON list of the finished objects of all users that they name, each one once and in the order of their
    names. Only where they were asked for and this shard owns them all; else None, and each channel names its own.
    """

    channels: list[ChannelInfo]
    users: bytes | None = None


class UserInfo(Struct, frozen=True, array_like=True, gc=False):
    """A user as `/info` shows it. `json` is the finished object."""

    user: str
    json: bytes


class States(_Message, frozen=True):
    """The users that were asked for and exist here."""

    users: list[UserInfo]


class Claimed(_Message, frozen=True):
    """`fresh`: nobody had claimed the key before. `full`: nobody has now either, since no more keys are remembered."""

    fresh: bool
    full: bool = False


class Totals(_Message, frozen=True):
    """What a shard owns, and what it has done in this life of it, which began at `since` (seconds since the epoch).

    `users`: those that have connections; `remembered_users` counts the others too. `messages`: how often a message was
    given to a connection or kept for it; `unique_messages`: how many there were.
    """

    since: float
    remembered_users: int
    users: list[UserInfo]
    connections: int
    channels: int
    messages: int
    unique_messages: int


class StatusReport(_Message, frozen=True):
    """The shard itself, and every process that beats to it."""

    own: ProcessStatus
    peers: list[ProcessStatus]


class Done(_Message, frozen=True):
    """Carried out."""


class NotStored(_Message, frozen=True):
    """The disk does not take it. The messages of these uuids were not taken at all; what else was asked is in force,
    and is stored once the disk takes it."""

    reason: str
    refused: list[str]


class Chained(_Message, frozen=True):
    """What the steps of a `Chain` have answered, as many as were carried out."""

    results: list[Result]


Result = (
    ConnectionState
    | Unknown
    | OtherUser
    | UserState
    | UserChanged
    | Channels
    | States
    | Claimed
    | Totals
    | StatusReport
    | Done
    | NotStored
    | Chained
)


class Answer(_Message, frozen=True):
    """Shard → whoever asked."""

    number: int
    result: Result


class Deliver(_Message, frozen=True):
    """Shard → an edge with a member of the topic: hand these to those of its members that may see them.

    `bodies` are finished JSON objects, and `seq` is the position of the last of them. Without any, it is that of one
    that nobody is to see, and that only counts. `only` and `exclude` as in `Publication`. `skippable`: a client that
    reads too slowly is told of a gap instead of being closed.
    """

    topic: str
    seq: int
    bodies: list[bytes]
    only: list[str] | None = None
    exclude: list[str] | None = None
    skippable: bool = False

    @property
    def count(self) -> int:
        """How many positions it is."""
        return len(self.bodies) or 1


class AttachedTopic(Struct, frozen=True, array_like=True, gc=False):
    """One topic of an attach: `missed` are finished JSON objects, in order, from behind `cursor` up to `seq`.

    `lost`: how many deliveries before them are gone; 0 for none, None where the number is unknown. `skippable` as in
    `Deliver`.
    """

    topic: str
    epoch: str
    seq: int
    cursor: int
    missed: list[bytes]
    lost: int | None = 0
    skippable: bool = False


class Attached(_Message, frozen=True):
    """Shard → edge: from here on the edge hands these topics' deliveries to the connection. Follows every `Attach`,
    with its number, and is also sent, with 0, when a connection that is attached is subscribed to more."""

    conn_id: str
    attachment: int
    topics: list[AttachedTopic]
    number: int = 0


class Unsubscribed(_Message, frozen=True):
    """Shard → edge: the connection is on these topics no more."""

    conn_id: str
    topics: list[str]


class Drop(_Message, frozen=True):
    """Shard → edge: let go of this connection, with this close code. Of no effect on a later attachment."""

    conn_id: str
    attachment: int
    code: int


class BeatAnswer(_Message, frozen=True):
    """Shard → whoever beat. A session other than the last one: the shard does not know (any more) what this edge
    holds, so the edge attaches all of it again.

    `told`: of the topics that the beat `holds`, those of which more has been sent by now, with the last seq, and those
    of which nothing is sent at all, with -1: nobody there is on it, as far as the shard knows. An edge that has not got
    so far when the answer comes, behind all that was sent before it, has lost something, and attaches the topic's
    members again.
    """

    session: str
    told: dict[str, int] = {}


ToPeer = Answer | Deliver | Attached | Unsubscribed | Drop | BeatAnswer
