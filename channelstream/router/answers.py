"""What the API answers and what clients receive, as types: read by whoever describes the API (`openapi`).

The answers themselves are made where their facts are, some of them in shards and as bytes; tests hold the two together.
Every field is always there unless its type has UNSET. What is not known here: paths, status codes, requests.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.router.schemas import State, StateValue, told

Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
"""In canonical form."""

Moment = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$")]
"""UTC, ISO 8601, without offset, with microseconds."""

Count = Annotated[int, Meta(ge=0)]

_OPEN: dict[str, object] = {"additionalProperties": True}
"""The sender's own keys are there, too."""

_ConnId = Annotated[Uuid, told("The connection, in canonical form.")]
_Channels = Annotated[list[str], told("All channels that the connection is on, sorted.")]
_MessageUuid = Annotated[Uuid, told("The message's.")]
_Timestamp = Annotated[Moment, told("When it was said: UTC, ISO 8601, without offset, with microseconds.")]
_Date = Annotated[Moment, told("The same as `timestamp`.")]
_MessageUser = Annotated[str, told("Who said it.")]
_Channel = Annotated[str | None, told("The channel; null where it went to `pm_users` alone.")]
_Message = Annotated[dict[str, Any], told("What was said, as the sender wrote it.")]
_Never = Annotated[None, told("When it was changed: it was not.")]
_Edited = Annotated[Moment | None, told("When it was changed; null where it was not.")]
_EditedAt = Annotated[Moment, told("When it was changed.")]
_PmUsers = Annotated[list[str], told("The only users that may see it; empty: no such limit.")]
_Catchup = Annotated[bool, told("Whether it was missed and is sent afterwards.")]
_Seq = Annotated[
    Annotated[int, Meta(ge=1)],
    told("Counts the deliveries of the channel (or of the user's private messages) from 1."),
]


# --- INFO ---


class ChannelSettings(Struct, frozen=True):
    """A channel's configuration, all of it. The keys are those of ChannelConfigChange."""

    notify_presence: bool
    broadcast_presence_with_user_lists: bool
    notify_state: bool
    store_history: bool
    history_size: int
    store_frames: bool
    frames_size: int
    history_ttl: int
    skip_when_slow: bool


class MessageDelivery(Struct, frozen=True, tag_field="type", tag="message"):
    """A message, as clients get it and as a history holds it. The sender's own keys are there, too."""

    uuid: _MessageUuid
    timestamp: _Timestamp
    date: _Date
    user: _MessageUser
    channel: _Channel
    message: _Message
    edited: _Edited
    catchup: _Catchup
    seq: _Seq

    IN_SCHEMA: ClassVar[dict[str, object]] = _OPEN


class ChannelInfo(Struct, frozen=True):
    """What is known of a channel."""

    name: str
    long_name: Annotated[None, told("Always null: kept for older callers.")]
    uuid: Annotated[str, told("One life of the channel; another one where it was forgotten and made again.")]
    settings: ChannelSettings
    history: Annotated[list[MessageDelivery], told("Oldest first; empty unless asked for and kept.")]
    last_active: Moment
    total_connections: Count
    total_users: Count
    users: Annotated[list[str], told("The names of the users on it, sorted; empty unless asked for.")]
    seq: Annotated[Count, told("The number of the last delivery; 0 before the first.")]
    epoch: Annotated[str, told("The life of that counter: another one where it could not be restored.")]


class UserInfo(Struct, frozen=True):
    """What is known of a user."""

    user: str
    state: Annotated[State, told("All of it, or the public part where that was asked for.")]
    connections: Annotated[list[str] | UnsetType, told("The user's `conn_id`s, sorted; there where asked for.")] = UNSET


class Info(Struct, frozen=True):
    """What is known of channels and of the users on them."""

    channels: Annotated[dict[str, ChannelInfo], told("By name.")]
    users: Annotated[list[UserInfo], told("Each user that one of the channels names, sorted.")]


# --- answers ---


class ConnectAnswer(Struct, frozen=True):
    """The connection, its user, and what it is on."""

    conn_id: _ConnId
    username: str
    state: Annotated[State, told("The user's state, all of it.")]
    public_state: Annotated[State, told("The part of it that other users may see.")]
    channels: _Channels
    channels_info: Annotated[Info, told("About the channels of this call.")]


class SubscribeAnswer(Struct, frozen=True):
    """What the connection is on now."""

    channels: _Channels
    channels_info: Annotated[Info, told("About all of them.")]
    subscribed_to: Annotated[list[str], told("Those that this call added, sorted.")]


class UnsubscribeAnswer(Struct, frozen=True):
    """What the connection is on now."""

    channels: _Channels
    channels_info: Annotated[Info, told("About all of them.")]
    unsubscribed_from: Annotated[list[str], told("Those that this call removed, sorted.")]


class StateChange(Struct, frozen=True):
    """A key of a state with its new value."""

    key: str
    value: StateValue


class UserStateAnswer(Struct, frozen=True):
    """The user's state now, and what this call changed of it."""

    user_state: Annotated[State, told("All of it.")]
    changed_state: Annotated[list[StateChange], told("What has another value than before.")]
    public_keys: Annotated[list[str], told("The keys that other users may see.")]


class MessageAnswer(Struct, frozen=True, tag_field="type", tag="message"):
    """A message as it was taken. The sender's own keys are there, too."""

    uuid: _MessageUuid
    timestamp: _Timestamp
    user: _MessageUser
    channel: _Channel
    message: _Message
    pm_users: _PmUsers
    exclude_users: Annotated[list[str], told("The users that may not see it.")]
    no_history: Annotated[bool, told("Whether it stays out of the channel's history.")]
    edited: _Never

    IN_SCHEMA: ClassVar[dict[str, object]] = _OPEN


class EditAnswer(Struct, frozen=True, tag_field="type", tag="message:edit"):
    """An edit as it was taken. The sender's own keys are there, too."""

    uuid: _MessageUuid
    channel: _Channel
    pm_users: _PmUsers
    edited: _EditedAt
    timestamp: Annotated[Moment | UnsetType, told("Where it was given.")] = UNSET
    user: Annotated[str | UnsetType, told("Where it was given.")] = UNSET
    message: Annotated[dict[str, Any] | UnsetType, told("Where it was given.")] = UNSET

    IN_SCHEMA: ClassVar[dict[str, object]] = _OPEN


class DeletionAnswer(Struct, frozen=True, tag_field="type", tag="message:delete"):
    """A deletion as it was taken."""

    uuid: _MessageUuid
    channel: _Channel
    pm_users: _PmUsers


class ProcessHealth(Struct, frozen=True):
    """How one process is. What is not known of one that has not reported in is null or 0."""

    process: Annotated[str, told("Role and index.")]
    role: Annotated[str, Meta(extra_json_schema={"enum": ["router", "shard", "edge"]})]
    index: Count
    pid: int | None
    since: Annotated[Moment | None, told("When it started.")]
    ready: Annotated[bool, told("Whether it is linked to all shards.")]
    connections: Annotated[Count, told("An edge: clients that it holds. A shard: connections that it knows.")]
    channels: Count
    queue_bytes: Annotated[Count, told("What waits in its queues.")]
    version: str | None
    counters: Annotated[
        dict[str, Count],
        told("What it has dropped or refused since it started, by name; what is not in it has not happened."),
    ]


class HealthAnswer(Struct, frozen=True):
    """How the group is."""

    version: Annotated[str, told("Of the process that answers.")]
    ready: Annotated[bool, told("Whether every process is.")]
    processes: list[ProcessHealth]


class ReadyAnswer(Struct, frozen=True):
    """Whether every process of the group has reported in."""

    ready: bool
    waiting_for: Annotated[list[str], told("Those that have not, by role and index.")]


class AdminAnswer(Struct, frozen=True):
    """Everything: the numbers of the group, and all channels and users. What is counted begins at 0 with each start of
    a shard."""

    remembered_user_count: Annotated[Count, told("Users that the server knows, there or not.")]
    unique_user_count: Annotated[Count, told("Users that have a connection.")]
    total_connections: Count
    total_channels: Count
    total_messages: Annotated[Count, told("How often a message was given to a connection, or kept for one.")]
    total_unique_messages: Annotated[Count, told("How many messages were published.")]
    channels: Annotated[dict[str, ChannelInfo], told("By name, all of them.")]
    users: Annotated[
        list[UserInfo], told("Those that have a connection, with the public part of their states, sorted.")
    ]
    uptime: Annotated[str, told("Of the oldest shard: hours, minutes, seconds, and days before them if there are any.")]
    version: str


# --- errors ---


class ErrorAnswer(Struct, frozen=True):
    """What went wrong, as a sentence."""

    error: str


class SignatureAnswer(Struct, frozen=True):
    """The signature is wrong, too old, for something else, or was used before."""

    request: Annotated[str, Meta(extra_json_schema={"enum": ["Bad Signature"]})]
    hint: Annotated[str | UnsetType, told("What may be the matter, where that is safe to say.")] = UNSET


class UnavailableAnswer(Struct, frozen=True):
    """A part of the server did not answer in time. The call may be repeated as it is."""

    error: str
    done: Annotated[list[str], told("What was carried out: uuids of messages, or steps of the call.")]
    unknown: Annotated[list[str], told("What may have been carried out or not.")]


class NotStoredAnswer(Struct, frozen=True):
    """A disk is full, or too slow. The call may be repeated as it is."""

    error: str
    done: Annotated[list[str], told("What was carried out: uuids of messages, or steps of the call.")]
    refused: Annotated[list[str], told("The uuids of messages that were not taken.")]


# --- what clients receive ---


class PresenceMessage(Struct, frozen=True):
    """What happened."""

    action: Annotated[str, Meta(extra_json_schema={"enum": ["joined", "parted"]})]


class PublicUser(Struct, frozen=True):
    """A user as others on the channel may see it."""

    user: str
    state: Annotated[State, told("The public part.")]


class StateMessage(Struct, frozen=True):
    """What changed."""

    state: Annotated[State, told("The public part of the user's state, all of it.")]
    changed: Annotated[list[StateChange], told("What has another value than before, as far as it is public.")]


class EditDelivery(Struct, frozen=True, tag_field="type", tag="message:edit"):
    """A message has changed: what is given here is its new value. The sender's own keys are there, too."""

    uuid: _MessageUuid
    channel: _Channel
    edited: _EditedAt
    catchup: _Catchup
    seq: _Seq
    timestamp: Annotated[Moment | UnsetType, told("When it was said.")] = UNSET
    date: Annotated[Moment | UnsetType, told("The same as `timestamp`.")] = UNSET
    user: Annotated[str | UnsetType, told("Who said it.")] = UNSET
    message: Annotated[dict[str, Any] | UnsetType, told("What was said.")] = UNSET

    IN_SCHEMA: ClassVar[dict[str, object]] = _OPEN


class DeletionDelivery(Struct, frozen=True, tag_field="type", tag="message:delete"):
    """A message is no more."""

    uuid: _MessageUuid
    channel: _Channel
    catchup: _Catchup
    seq: _Seq


class PresenceDelivery(Struct, frozen=True, tag_field="type", tag="presence"):
    """A user's first connection came to the channel, or its last one has gone. Sent where `notify_presence`, and never
    to that user."""

    uuid: str
    timestamp: Moment
    date: _Date
    user: Annotated[str, told("Who came or went.")]
    channel: str
    message: PresenceMessage
    users: Annotated[
        list[PublicUser], told("All users on the channel where `broadcast_presence_with_user_lists`; else empty.")
    ]
    state: Annotated[State | None, told("The public part of the user's state; null where the user parted.")]
    catchup: _Catchup
    seq: _Seq


class StateDelivery(Struct, frozen=True, tag_field="type", tag="user_state_change"):
    """The state of a user on the channel has changed. Sent where `notify_state`."""

    uuid: str
    timestamp: Moment
    date: _Date
    user: str
    channel: str
    message: StateMessage
    catchup: _Catchup
    seq: _Seq


class GapDelivery(Struct, frozen=True, tag_field="type", tag="gap"):
    """Something was missed that the server no longer has. Ask the backend for the channel's history."""

    channel: Annotated[str | None, told("Null: the user's private messages.")]
    missed: Annotated[int | None, told("How many deliveries; null where nobody knows.")]


Delivery = MessageDelivery | EditDelivery | DeletionDelivery | PresenceDelivery | StateDelivery | GapDelivery
Deliveries = list[Delivery]
