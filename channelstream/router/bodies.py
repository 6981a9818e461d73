"""POST, PATCH and DELETE /message: from the caller's list to the bytes that clients and the caller get.

A message's JSON is made here, once, however many receive it; after this nobody parses it, the shard only splices its
`catchup` and `seq` in place of the last brace. So this is where it is made sure that any reader can decode it. What is
not known here: topics, shards, and who is on a channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from channelstream.router.schemas import ChannelText, UserText, UuidText, canonical_uuid, refined_by, refusal, told

MAX_MESSAGES: Final = 10_000
"""Messages (or edits, or deletions) of one request. They are taken whole or not at all, so they are held whole by
router and shards."""

MAX_USERS: Final = 10_000
"""Users in `pm_users` or `exclude_users`. Each name in them is compared at every edge; for more there are channels."""

_MONTH, _DAY, _WEEK = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])", "W(0[1-9]|[1-4][0-9]|5[0-3])"
_DATE: Final = f"[0-9]{{4}}(-({_MONTH}-{_DAY}|{_WEEK}-[1-7])|{_MONTH}{_DAY}|{_WEEK}[1-7])"
_60: Final = "[0-5][0-9]"
_FRACTION: Final = "([.,][0-9]+)?"
_TIME: Final = f"([01][0-9]|2[0-3])(:{_60}(:{_60}{_FRACTION})?|{_60}({_60}{_FRACTION})?)?"
DATETIME_FORMS: Final = f"^{_DATE}[Tt ]{_TIME}(Z|[+-]{_TIME})?$"
"""The forms of ISO 8601 that are taken, for callers' own validators. It cannot say how many days a month has, or weeks
a year."""

_OURS: Final = frozenset({"type", "date", "catchup", "seq", "edited", "epoch"})
"""Keys of a delivery that a sender cannot set: what comes under these names is dropped. (An edit has its `edited`.)"""

_datetime: Final = re.compile(DATETIME_FORMS, re.ASCII)

T = TypeVar("T")


def canonical_timestamp(text: str) -> str:
    """An ISO 8601 date and time as clients get it: UTC, without offset, with microseconds. Without offset it is UTC.

    Raises `ValueError`, with the sentence for the caller.
    """
    try:
        if _datetime.fullmatch(text) is None:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected an ISO 8601 date and time, got {text[:64]!r}") from error
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


UserTexts = Annotated[list[UserText], Meta(max_length=MAX_USERS)]
TimestampText = Annotated[str, refined_by(canonical_timestamp, pattern=DATETIME_FORMS)]

_Channel = Annotated[ChannelText | None, told("The channel. Absent or null: `pm_users` alone say where it goes.")]
_PmUsers = Annotated[
    UserTexts, told("Only these users' connections: those on the channel, or all where there is none.")
]
_Uuid = Annotated[UuidText, told("The message's: a UUID, in any form.")]
_Timestamp = Annotated[
    TimestampText | None,
    told("When it was said: ISO 8601 with a date and a time; UTC where it has no offset. Absent or null: now."),
]


class _Addressed(Struct, gc=False):
    """What goes to a channel, to users, or to users on a channel."""

    IN_SCHEMA: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"required": ["channel"], "properties": {"channel": {"type": "string"}}},
            {"required": ["pm_users"], "properties": {"pm_users": {"minItems": 1}}},
        ],
    }
    """See `openapi`: the same rule for callers' own validators."""

    @staticmethod
    def complaints(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """For `explain`: what is wrong between the fields."""
        if given.get("channel") is None and given.get("pm_users", []) == []:
            yield "channel", _NO_ADDRESSEE


class MessageBody(_Addressed, gc=False):
    """A message. Other keys than these travel along."""

    user: Annotated[UserText, told("Who says it.")]
    message: Annotated[dict[str, Any], told("What is said: any JSON object, which clients get as it is.")]
    channel: _Channel = None
    pm_users: _PmUsers = []
    exclude_users: Annotated[UserTexts, told("Not these users' connections, even if they are in `pm_users`.")] = []
    no_history: Annotated[bool, told("Whether it stays out of a history that the channel keeps.")] = False
    uuid: Annotated[
        UuidText | None,
        told(
            "The message's own: a UUID, in any form. One that the channel still holds is not taken twice. "
            "Absent or null: the server makes one."
        ),
    ] = None
    timestamp: _Timestamp = None

    IN_SCHEMA: ClassVar[dict[str, object]] = {**_Addressed.IN_SCHEMA, "additionalProperties": True}


class EditBody(_Addressed, gc=False):
    """What is to change in a message; keys that are not given stay. Other keys than these are set in it, too."""

    uuid: _Uuid
    channel: _Channel = None
    pm_users: _PmUsers = []
    message: Annotated[dict[str, Any] | UnsetType, told("What is said now.")] = UNSET
    user: Annotated[UserText | UnsetType, told("Who says it now.")] = UNSET
    timestamp: Annotated[
        TimestampText | None, told("When it was said, as in a message. Absent or null: as it was.")
    ] = None
    edited: Annotated[TimestampText | None, told("When it was changed, in the same form. Absent or null: now.")] = None

    IN_SCHEMA: ClassVar[dict[str, object]] = {**_Addressed.IN_SCHEMA, "additionalProperties": True}

    def __post_init__(self) -> None:
        self.uuid = canonical_uuid(self.uuid)
        if self.timestamp is not None:
            self.timestamp = canonical_timestamp(self.timestamp)
        if self.edited is not None:
            self.edited = canonical_timestamp(self.edited)
        _check_addressee(self)


class DeletionBody(_Addressed, gc=False):
    """A message to delete."""

    uuid: _Uuid
    channel: _Channel = None
    pm_users: _PmUsers = []

    def __post_init__(self) -> None:
        self.uuid = canonical_uuid(self.uuid)
        _check_addressee(self)


MessageBodies = Annotated[list[MessageBody], Meta(max_length=MAX_MESSAGES)]
EditBodies = Annotated[list[EditBody], Meta(max_length=MAX_MESSAGES)]
DeletionBodies = Annotated[list[DeletionBody], Meta(max_length=MAX_MESSAGES)]


class TakenMessage(Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One message as it was taken: its JSON is what the caller's answer says of it, but for the sender's own keys.

    It also reads a body of which nobody's own keys are part. PERF: so most messages are never put together key by key.
    """

    type: Literal["message"] = "message"
    uuid: UuidText | None = None
    """In canonical form; None until it is known that all of the request is taken, as is `timestamp`."""

    timestamp: TimestampText | None = None
    user: UserText
    channel: _Channel = None
    """None for a message to `pm_users` alone."""

    message: dict[str, Any]
    """Once it was read, the bytes of it as the sender wrote them, a `Raw`."""

    pm_users: _PmUsers = []
    exclude_users: UserTexts = []
    no_history: bool = False
    edited: None = None


class TakenMessages(NamedTuple):
    """The messages of one request."""

    messages: list[TakenMessage]

    frames: list[bytes]
    """The JSON object of each that clients get, without `catchup` and `seq`: a shard puts
    `,"catchup":false,"seq":N}` in place of its last brace. No key twice, none of those two in it, and no line
    breaks."""

    answer: bytes
    """The JSON list for the caller."""


class TakenEdit(Struct, frozen=True, gc=False):
    """One edit as it was taken."""

    uuid: str
    """The message's, in canonical form."""

    channel: str | None
    pm_users: list[str]

    changes: dict[str, bytes]
    """The keys of clients' JSON objects that change, each with its new value's JSON, on one line: `timestamp` and
    `date` (both or none), `user`, `message`, always `edited`, and the sender's own. Never `type`, `uuid`, `channel`,
    `seq`, `catchup`, or who may see it."""

    frame: bytes
    """The JSON object that tells clients of it, without `catchup` and `seq`, as in `TakenMessages`."""

    taken: bytes
    """The JSON object for the caller's answer."""


class TakenDeletion(Struct, frozen=True, gc=False):
    """One deletion as it was taken."""

    uuid: str
    """The message's, in canonical form."""

    channel: str | None
    pm_users: list[str]

    frame: bytes
    """The JSON object that tells clients of it, without `catchup` and `seq`, as in `TakenMessages`."""

    taken: bytes
    """The JSON object for the caller's answer."""


class _Frame(Struct, kw_only=True, gc=False):
    """The contract's keys of a message in a client's list, in the order in which they are sent. It cuts the sender's
    bytes out of a body that is known to be sound."""

    type: str = "message"
    uuid: str | None = None
    timestamp: str | None = None
    date: str | None = None
    user: str
    channel: str | None = None
    message: Raw
    edited: None = None


_NO_ADDRESSEE: Final = "expected a channel or pm_users"
_KNOWN: Final = frozenset(MessageBody.__struct_fields__)
"""All that is not a sender's own, with `_OURS`; of edits, too."""

_plain: Final = msgspec.json.Decoder(Annotated[list[TakenMessage], Meta(max_length=MAX_MESSAGES)])
_framed: Final = msgspec.json.Decoder(list[_Frame])
_checked: Final = msgspec.json.Decoder(MessageBodies)
_checked_edits: Final = msgspec.json.Decoder(EditBodies)
_checked_deletions: Final = msgspec.json.Decoder(DeletionBodies)
_cut: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


def parse_messages(body: bytes, new_uuid: Callable[[], str], now_timestamp: str) -> TakenMessages:
    """The messages of one request, in their order, or `NotJson` or `Invalid` naming every wrong field as `3.user`.

    `new_uuid` makes a canonical one for each message that has none; `now_timestamp` is the time of those without.

    PERF: two decodes, one that looks into everything and one that cuts the bytes apart, cost less than one decode and
    encoding the payloads again, and leave numbers and escapes as the sender wrote them. Both fill the very objects that
    are encoded, all of them in one call, so that a message costs a microsecond or two.
    """
    try:
        messages, frames, extras = _read_messages(body)
        for message in messages:
            if message.uuid is not None or message.timestamp is not None or message.channel is None:
                _settle(message)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, too
        raise refusal(MessageBodies, body, error) from None
    for message, frame in zip(messages, frames, strict=True):
        message.uuid = frame.uuid = message.uuid or new_uuid()
        message.timestamp = frame.timestamp = frame.date = message.timestamp or now_timestamp
        message.message = frame.message  # type: ignore[assignment]
    told = _lines(frames)
    if not any(extras):
        return TakenMessages(messages, told, _encode(messages))
    answers = _lines(messages)
    return TakenMessages(messages, _with_members(told, extras), b"[%b]" % b",".join(_with_members(answers, extras)))


def _read_messages(body: bytes) -> tuple[list[TakenMessage], list[_Frame], Sequence[bytes]]:
    """The messages, as they are answered and as they are told, and the members that are the senders' own, if there are
    any. Uuids and timestamps are not settled. Raises `ValueError` or `RecursionError`."""
    try:
        return _sound(_plain, body), _framed.decode(_on_one_line(body)), ()
    except msgspec.ValidationError:
        checked = _sound(_checked, body)
    keys = _cut.decode(_on_one_line(body))
    messages = [_as_taken(one) for one in checked]
    frames = [
        _Frame(user=one.user, channel=one.channel, message=of_one["message"])
        for one, of_one in zip(checked, keys, strict=True)
    ]
    return messages, frames, [_extra_members(of_one) for of_one in keys]


def _as_taken(body: MessageBody) -> TakenMessage:
    return TakenMessage(**{name: getattr(body, name) for name in MessageBody.__struct_fields__})


def _settle(message: TakenMessage) -> None:
    """Brings uuid and timestamp into their canonical form. Raises `ValueError`."""
    if message.uuid is not None:
        message.uuid = canonical_uuid(message.uuid)
    if message.timestamp is not None:
        message.timestamp = canonical_timestamp(message.timestamp)
    _check_addressee(message)


def _lines(objects: Sequence[Struct]) -> list[bytes]:
    """Each object's JSON. None of them holds a line break."""
    return _encode_lines(objects).splitlines()


def _with_members(objects: Sequence[bytes], extras: Sequence[bytes]) -> list[bytes]:
    """JSON objects with more members, written as `_extra_members` writes them."""
    return [one[:-1] + extra + b"}" for one, extra in zip(objects, extras, strict=True)]


def _check_addressee(body: TakenMessage | EditBody | DeletionBody) -> None:
    if body.channel is None and not body.pm_users:
        raise ValueError(_NO_ADDRESSEE)


def _on_one_line(body: bytes) -> bytes:
    """Without line breaks between the tokens (inside of strings JSON has none); the tokens stay as they are.

    Server-Sent Events and logs are made of lines, and a frame is written a thousand times but read here once.
    """
    if b"\n" in body or b"\r" in body:
        return msgspec.json.format(body, indent=-1)
    return body


def _own_keys(keys: Mapping[str, Raw]) -> Iterator[tuple[str, Raw]]:
    """The sender's own keys. Raises `ValueError` for an unsound one.

    The first decode skips them, so they are looked into here: a number beyond a double's range is JSON, but many
    readers, ours among them, fail on it.
    """
    for key, value in keys.items():
        if key not in _KNOWN and key not in _OURS:
            msgspec.json.decode(value)
            yield key, value


def _extra_members(keys: Mapping[str, Raw]) -> bytes:
    """The sender's own keys as `,"key":value...`, empty where there are none. Raises as `_own_keys` does."""
    if keys.keys() <= _KNOWN:  # PERF: as most are
        return b""
    return b"".join([b",%b:%b" % (_encode(key), value) for key, value in _own_keys(keys)])


# --- edits and deletions ---


def parse_edits(body: bytes, now_timestamp: str) -> list[TakenEdit]:
    """The edits of one request, in their order. Raises as `parse_messages` does.

    `now_timestamp` is when those without `edited` were made.
    """
    try:
        edits = _sound(_checked_edits, body)
        keys = _cut.decode(_on_one_line(body))
        owns = [dict(_own_keys(of_one)) for of_one in keys]
    except (ValueError, RecursionError) as error:
        raise refusal(EditBodies, body, error) from None
    return [
        _taken_edit(edit, _changes(edit, of_one, own, edit.edited or now_timestamp))
        for edit, of_one, own in zip(edits, keys, owns, strict=True)
    ]


def parse_deletions(body: bytes) -> list[TakenDeletion]:
    """The deletions of one request, in their order. Raises as `parse_messages` does.

    Nothing but the address of a message goes out. Callers may well send a whole message back to have it deleted, and
    what it said is the last thing that clients should get once more.
    """
    try:
        deletions = _sound(_checked_deletions, body)
    except (ValueError, RecursionError) as error:
        raise refusal(DeletionBodies, body, error) from None
    return [_taken_deletion(deletion) for deletion in deletions]


def _sound(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type; all of it is UTF-8. Raises `ValueError` or `RecursionError`."""
    if not body.isascii():
        body.decode()
    return decoder.decode(body)


def _changes(edit: EditBody, keys: Mapping[str, Raw], own: Mapping[str, Raw], edited: str) -> dict[str, bytes]:
    changes: dict[str, bytes] = {}
    if edit.timestamp is not None:
        changes["timestamp"] = changes["date"] = _encode(edit.timestamp)
    if edit.user is not UNSET:
        changes["user"] = _encode(edit.user)
    if edit.message is not UNSET:
        changes["message"] = bytes(keys["message"])
    changes["edited"] = _encode(edited)
    return {**changes, **{key: bytes(value) for key, value in own.items()}}


def _taken_edit(edit: EditBody, changes: dict[str, bytes]) -> TakenEdit:
    address: dict[str, object] = {"type": "message:edit", "uuid": edit.uuid, "channel": edit.channel}
    members = {key: Raw(value) for key, value in changes.items()}
    frame = _encode({**address, **members})
    members.pop("date", None)  # not in a message's answer either
    taken = _encode({**address, "pm_users": edit.pm_users, **members})
    return TakenEdit(edit.uuid, edit.channel, edit.pm_users, changes, frame, taken)


def _taken_deletion(deletion: DeletionBody) -> TakenDeletion:
    address: dict[str, object] = {"type": "message:delete", "uuid": deletion.uuid, "channel": deletion.channel}
    taken = _encode({**address, "pm_users": deletion.pm_users})
    return TakenDeletion(deletion.uuid, deletion.channel, deletion.pm_users, _encode(address), taken)
