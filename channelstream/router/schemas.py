"""The bodies of the REST calls: their fields, types, limits and defaults, and what is told about a body that is wrong.

A body is decoded once, straight into its struct. Only where that fails is it read again slowly, to name every wrong
field by its dotted path. The same types make the API's description (`openapi`), so what their docstrings and `told`
say is written for callers. What is not known here: who owns a channel, and how messages look to clients (`bodies`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from channelstream import ids
from channelstream.errors import CallerError, Invalid, NotJson
from channelstream.ids import MAX_CHANNEL_NAME, MAX_USER_NAME

MAX_CHANNELS: Final = 10_000
"""Channels in one call: what a large gateway asks for at once. Each costs a shard a member in one turn of its loop, so
that more of them would hold up everybody else."""

MAX_HISTORY_SIZE: Final = 100_000
"""Messages of history in a channel. /info gives them back in one answer, so this is where it ends to be useful."""

MAX_FRAMES_SIZE: Final = 10_000
"""Frames of a channel: they are in memory, and a client that missed more is better off with a fresh start."""

MAX_HISTORY_TTL_S: Final = 2**31 - 1
"""68 years: whatever any store and any clock can add up without an overflow."""

MAX_WRONG_FIELDS: Final = 1000
"""How many wrong fields are named. A person reads a few; the bound keeps a body that is wrong in each of 100,000
places from costing the router a second and the caller megabytes."""

ROOT: Final = "_schema"
"""The path of what is wrong with the body as a whole."""

MISSING: Final = "Missing data for required field."
WRONG_ROOT: Final = "Invalid input type."
"""The two commonest errors in the words of channelstream 0.7, whose callers may look for them."""

_TOO_DEEP: Final = "it is nested too deeply"

_INT64: Final = 2**63
"""Integers of a state cross the wire as msgpack, which has 64 bits for them."""

UUID_FORMS: Final = r"^(urn:)?(uuid:)?\{?(-*[0-9a-fA-F]){32}-*\}?$"
"""The forms that `uuid.UUID()` documents, for callers' own validators: hyphens, braces and a prefix are optional."""

_HALF_A_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u|\\?\Z)")
_BEHIND: Final = re.compile(r"(trailing characters) \(byte ([0-9]+)\)")

T = TypeVar("T")


def canonical_uuid(text: str) -> str:
    """The canonical form of any form that `uuid.UUID()` takes. Raises `ValueError` with a sentence for the caller."""
    try:
        return ids.canonical_uuid(text)
    except ValueError as error:
        raise ValueError(f"expected a UUID, got {text[:64]!r}") from error


def refined_by(refine: Callable[[str], str], **schema: object) -> Meta:
    """Marks a text field whose value must pass `refine`; the struct's reader applies it, `explain` reports it.

    `schema`: what JSON Schema can say of that.
    """
    return Meta(extra={"refine": refine}, extra_json_schema=schema)


def told(meaning: str) -> Meta:
    """What callers are told about a field."""
    return Meta(description=meaning)


ChannelText = Annotated[str, Meta(min_length=1, max_length=MAX_CHANNEL_NAME)]
UserText = Annotated[str, Meta(min_length=1, max_length=MAX_USER_NAME)]
UuidText = Annotated[str, refined_by(canonical_uuid, pattern=UUID_FORMS)]
ChannelTexts = Annotated[list[ChannelText], Meta(max_length=MAX_CHANNELS)]
SomeChannelTexts = Annotated[list[ChannelText], Meta(min_length=1, max_length=MAX_CHANNELS)]
StateValue = str | Annotated[int, Meta(ge=-_INT64, le=_INT64 - 1)] | float | bool | None
State = dict[str, StateValue]


class ChannelConfigChange(Struct, frozen=True):
    """Keys of a channel's configuration. Those that are not given stay as they are; a new channel has the defaults."""

    notify_presence: Annotated[
        bool | UnsetType, told("Whether the channel is told who comes and goes. Default: false.")
    ] = UNSET
    broadcast_presence_with_user_lists: Annotated[
        bool | UnsetType,
        told("Whether what tells of comings and goings lists all users with their public states. Default: false."),
    ] = UNSET
    notify_state: Annotated[
        bool | UnsetType, told("Whether the channel is told when the state of a user on it changes. Default: false.")
    ] = UNSET
    store_history: Annotated[bool | UnsetType, told("Whether messages are kept for readers. Default: false.")] = UNSET
    history_size: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_HISTORY_SIZE)] | UnsetType,
        told("How many messages are kept for readers. Default: 10."),
    ] = UNSET
    store_frames: Annotated[
        bool | UnsetType, told("Whether deliveries are kept for connections that were away. Default: true.")
    ] = UNSET
    frames_size: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_FRAMES_SIZE)] | UnsetType,
        told("How many deliveries are kept for connections that were away. Default: 100."),
    ] = UNSET
    history_ttl: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_HISTORY_TTL_S)] | UnsetType,
        told("For how many seconds a message stays in history; 0: without limit. Default: 0."),
    ] = UNSET
    skip_when_slow: Annotated[
        bool | UnsetType,
        told(
            "Whether a client that reads too slowly is not given what does not fit into its queue, and told so with a "
            "`gap`, instead of being closed. For channels whose latest message is all that matters. Default: false."
        ),
    ] = UNSET

    def given(self) -> dict[str, bool | int]:
        """The keys that were given, with their values."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}


class InfoOptions(Struct, frozen=True):
    """What an answer tells about channels and users."""

    include_history: Annotated[bool, told("Whether the channels' history is told.")] = True
    include_users: Annotated[bool, told("Whether users are named; they are counted in any case.")] = True
    include_connections: Annotated[bool, told("Whether the users' `conn_id`s are told.")] = False
    exclude_channels: Annotated[ChannelTexts, told("Channels that nothing is told about.")] = []
    channels: Annotated[
        ChannelTexts | None, told("The channels to tell about; only looked at in /info. Absent or null: all.")
    ] = None
    return_public_state: Annotated[bool, told("Whether only the public part of the users' states is told.")] = False


ChannelConfigs = Annotated[dict[ChannelText, ChannelConfigChange], Meta(max_length=MAX_CHANNELS)]

_Username = Annotated[UserText, told("Whose connection it is.")]
_ConnId = Annotated[UuidText, told("The connection: a UUID, in any form. Here, or in the URL.")]
_NewConfigs = Annotated[ChannelConfigs, told("How channels that this call makes behave, by name.")]
_ChangedState = Annotated[State, told("Merged into the user's state. Integers have 64 bits.")]
_PublicKeys = Annotated[
    list[str] | None, told("The keys of the state that other users may see. Absent or null: as they were.")
]
_Info = Annotated[
    InfoOptions, Meta(description="What the answer tells about channels and users.", extra_json_schema={"default": {}})
]


class ConnectBody(Struct):
    """A connection to make, or to add channels to."""

    username: _Username
    conn_id: Annotated[
        UuidText | None,
        told("The connection: a UUID, in any form, given back in one. Absent or null: the server makes one."),
    ] = None
    channels: Annotated[ChannelTexts, told("The channels it is to be on; those that are missing are made.")] = []
    channel_configs: _NewConfigs = {}
    fresh_user_state: Annotated[
        State, told("The user's state where the server does not know the user yet. Integers have 64 bits.")
    ] = {}
    user_state: _ChangedState = {}
    state_public_keys: _PublicKeys = None
    info: _Info = field(default_factory=InfoOptions)

    def __post_init__(self) -> None:
        if self.conn_id is not None:
            self.conn_id = canonical_uuid(self.conn_id)


class SubscribeBody(Struct):
    """Channels that a connection is to be on from now on."""

    conn_id: _ConnId
    channels: Annotated[SomeChannelTexts, told("The channels to add; those that are missing are made.")]
    channel_configs: _NewConfigs = {}
    info: _Info = field(default_factory=InfoOptions)

    IN_SCHEMA: ClassVar[dict[str, object]] = {"required": ["channels"]}
    """See `openapi`: the `conn_id` may be in the URL, which a body's schema cannot see."""

    def __post_init__(self) -> None:
        self.conn_id = canonical_uuid(self.conn_id)


class UnsubscribeBody(Struct):
    """Channels that a connection is to leave."""

    conn_id: _ConnId
    channels: Annotated[SomeChannelTexts, told("The channels to leave.")]
    info: _Info = field(default_factory=InfoOptions)

    IN_SCHEMA: ClassVar[dict[str, object]] = {"required": ["channels"]}
    """As in `SubscribeBody`."""

    def __post_init__(self) -> None:
        self.conn_id = canonical_uuid(self.conn_id)


class DisconnectBody(Struct):
    """A connection to end."""

    conn_id: _ConnId

    IN_SCHEMA: ClassVar[dict[str, object]] = {"required": []}
    """As in `SubscribeBody`."""

    def __post_init__(self) -> None:
        self.conn_id = canonical_uuid(self.conn_id)


class UserStateBody(Struct):
    """What is to change in a user's state."""

    user: Annotated[UserText, told("The user, known to the server.")]
    user_state: _ChangedState = {}
    state_public_keys: _PublicKeys = None


class InfoBody(Struct):
    """What to tell about, and how much."""

    info: _Info = field(default_factory=InfoOptions)
    channels: Annotated[
        ChannelTexts | None, told("The same as `channels` in `info`, which wins where both are given; but empty: all.")
    ] = None


_connect: Final = msgspec.json.Decoder(ConnectBody)
_subscribe: Final = msgspec.json.Decoder(SubscribeBody)
_unsubscribe: Final = msgspec.json.Decoder(UnsubscribeBody)
_info: Final = msgspec.json.Decoder(InfoBody)
_user_state: Final = msgspec.json.Decoder(UserStateBody)
_channel_configs: Final = msgspec.json.Decoder(ChannelConfigs)


def parse_connect(body: bytes) -> ConnectBody:
    """Raises `NotJson` or `Invalid`, as all of these do."""
    return decoded(_connect, body)


def parse_subscribe(body: bytes, query_conn_id: str | None = None) -> SubscribeBody:
    """`query_conn_id` is the URL's `conn_id`; one in the body wins."""
    if query_conn_id is None:
        return decoded(_subscribe, body)
    return _with_query(SubscribeBody, body, query_conn_id)


def parse_unsubscribe(body: bytes, query_conn_id: str | None = None) -> UnsubscribeBody:
    """`query_conn_id` is the URL's `conn_id`; one in the body wins."""
    if query_conn_id is None:
        return decoded(_unsubscribe, body)
    return _with_query(UnsubscribeBody, body, query_conn_id)


def parse_info(body: bytes) -> InfoOptions:
    """What is asked for, with `channels` None for all. An empty body asks for everything.

    Channels inside `info` win over a list at the top level. An empty list there stands for no channel, and at the top
    level for all, as callers of former versions know both.
    """
    if not body.strip():
        return InfoOptions()
    parsed = decoded(_info, body)
    channels = parsed.channels or None if parsed.info.channels is None else parsed.info.channels
    return msgspec.structs.replace(parsed.info, channels=channels)


def parse_disconnect(body: bytes, query_conn_id: str | None = None) -> DisconnectBody:
    """With a `conn_id` in the URL the body is not looked at: browsers' beacons send what they like."""
    if query_conn_id is not None:
        return _converted(DisconnectBody, {"conn_id": query_conn_id})
    return _converted(DisconnectBody, json_value(body) if body.strip() else {})


def parse_user_state(body: bytes) -> UserStateBody:
    """Raises as the others do."""
    return decoded(_user_state, body)


def parse_channel_config(body: bytes) -> dict[str, ChannelConfigChange]:
    """What is to change of which channel. What is wrong is named as `CHANNEL.history_size`."""
    return decoded(_channel_configs, body)


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type. Raises `NotJson` or `Invalid`.

    The whole body is checked to be UTF-8: what a decoder skips (unknown keys) it does not look into.
    """
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(decoder.type, body, error) from None


def refusal(kind: Any, body: bytes, error: Exception) -> CallerError:
    """Why the body is refused as a `kind`, in full; `error` is what the fast reading stumbled over."""
    if isinstance(error, RecursionError):
        return NotJson(_TOO_DEEP)
    try:
        value = json_value(body)
    except CallerError as refused:
        return refused
    return Invalid(explain(kind, value) or {ROOT: [_sentence(error)]})


def json_value(body: bytes) -> Any:
    """The body as plain objects. Raises `NotJson`, or `Invalid` where a number is beyond what we can hold."""
    if not body.strip():
        raise NotJson("it is empty")
    try:
        body.decode()
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise NotJson(f"invalid UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise NotJson(_TOO_DEEP) from None
    except msgspec.ValidationError as error:
        raise Invalid({ROOT: [_sentence(error)]}) from None
    except msgspec.DecodeError as error:
        raise NotJson(_where(error, body)) from None


def explain(kind: Any, value: object) -> dict[str, list[str]]:
    """Every wrong field of a decoded JSON value that should be a `kind`: dotted path → sentences. Empty: none.

    Knows what our bodies are made of: structs, lists, dicts (those of `Any` hold any JSON and are not looked into),
    alternatives with None, and leaves. A struct with rules
    between its fields has them in a static method `complaints(given) -> Iterator[(field, sentence)]`.
    """
    wrong: dict[str, list[str]] = {}
    for path, sentence in _complaints(kind, value, ""):
        if len(wrong) == MAX_WRONG_FIELDS and (path or ROOT) not in wrong:
            wrong.setdefault(ROOT, []).append(f"more than {MAX_WRONG_FIELDS} wrong fields: the rest are not named")
            break
        wrong.setdefault(path or ROOT, []).append(sentence)
    return wrong


class _Parts(NamedTuple):
    """A field's type, taken apart."""

    core: Any
    """Without limits and without the alternatives None and UNSET."""

    origin: Any
    """`list` of `list[str]`, `dict` of `dict[str, int]`, else None."""

    own: Any
    """A container with its limits but with any items. None where it has no limits."""

    nullable: bool
    refine: Callable[[str], str] | None


@cache
def _parts(kind: Any) -> _Parts:
    core, *metas = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    members = get_args(core) if get_origin(core) in (Union, UnionType) else ()
    values = [member for member in members if member not in (NoneType, UnsetType)]
    if len(values) == 1:
        return _parts(values[0])._replace(nullable=NoneType in members)
    origin = get_origin(core)
    own = Annotated[(origin, *metas)] if metas and origin in (list, dict) else None
    refiners = [meta.extra["refine"] for meta in metas if meta.extra]
    return _Parts(core, origin, own, False, refiners[0] if refiners else None)


@cache
def _fields(kind: type[Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _complaints(kind: Any, value: object, path: str) -> Iterator[tuple[str, str]]:
    parts = _parts(kind)
    if value is None and parts.nullable:
        return
    if isinstance(parts.core, type) and issubclass(parts.core, Struct) and isinstance(value, dict):
        yield from _complaints_of_fields(parts.core, value, path)
    elif parts.origin is list and isinstance(value, list):
        yield from _complaint_of_one(parts.own, value, path)
        (item_kind,) = get_args(parts.core)
        for index, item in enumerate(value):
            yield from _complaints(item_kind, item, _below(path, index))
    elif parts.origin is dict and isinstance(value, dict):
        yield from _complaint_of_one(parts.own, value, path)
        key_kind, item_kind = get_args(parts.core)
        if item_kind is Any:
            return
        for key, item in value.items():
            yield from _complaint_of_one(key_kind, key, _below(path, key))
            yield from _complaints(item_kind, item, _below(path, key))
    elif not path:  # every body is an object or a list, and this one is not what it should be
        yield path, WRONG_ROOT
    else:
        yield from _complaint_of_one(kind, value, path, parts.refine)


def _complaints_of_fields(kind: type[Struct], value: dict[str, object], path: str) -> Iterator[tuple[str, str]]:
    for info in _fields(kind):
        if info.encode_name in value:
            yield from _complaints(info.type, value[info.encode_name], _below(path, info.encode_name))
        elif info.required:
            yield _below(path, info.encode_name), MISSING
    rules = getattr(kind, "complaints", None)
    for name, sentence in rules(value) if rules is not None else ():
        yield _below(path, name), sentence


def _complaint_of_one(
    kind: Any, value: object, path: str, refine: Callable[[str], str] | None = None
) -> Iterator[tuple[str, str]]:
    """What is wrong with a value that is not looked into. `kind` None: anything goes."""
    if kind is None:
        return
    try:
        msgspec.convert(value, kind)
        if refine is not None and isinstance(value, str):
            refine(value)
    except ValueError as error:  # msgspec's ValidationError is one, too
        yield path, _sentence(error)


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _sentence(error: Exception) -> str:
    """What msgspec says, without its own path and in lower case."""
    told = str(error).partition(" - at ")[0]
    return told[:1].lower() + told[1:]


def _where(error: msgspec.DecodeError, body: bytes) -> str:
    """Where a text stops to be JSON."""
    told = str(error)
    if told == "Input data was truncated":
        # Near the end msgspec takes half a surrogate pair for half a text.
        half = _HALF_A_PAIR.search(body, max(0, len(body) - 12))
        return f"half a surrogate pair (byte {half.start()})" if half else f"it ends too early (byte {len(body)})"
    told = told.removeprefix("JSON is malformed: ")
    behind = _BEHIND.fullmatch(told)  # msgspec has gone on by one before it tells of these
    return f"{behind[1]} (byte {int(behind[2]) - 1})" if behind else told


def _converted(kind: type[T], value: object) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Invalid(explain(kind, value) or {ROOT: [_sentence(error)]}) from None


def _with_query(kind: type[T], body: bytes, conn_id: str) -> T:
    value = json_value(body)
    return _converted(kind, {"conn_id": conn_id, **value} if isinstance(value, dict) else value)
