"""POST /message: from the caller's list to the bytes that clients and the caller get.

A message's JSON is made here, once, however many receive it; after this nobody parses it, the shard only splices its
`catchup` and `seq` in place of the last brace. So this is where it is made sure that any reader can decode it. What is
not known here: topics, shards, and who is on a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct

from channelstream.router.schemas import ChannelText, UserText, UuidText, canonical_uuid, refined_by, refusal

MAX_MESSAGES: Final = 10_000
"""Messages of one request. They are taken whole or not at all, so they are held whole by router and shards."""

MAX_USERS: Final = 10_000
"""Users in `pm_users` or `exclude_users`. Each name in them is compared at every edge; for more there are channels."""

SHORTEST_DATETIME: Final = len("20240101T00")
"""ISO 8601 has no shorter way to write a date with a time; what is shorter is a date alone."""

_OURS: Final = frozenset({"type", "date", "catchup", "seq", "edited", "epoch"})
"""Keys of a delivery that a sender cannot set: what comes under these names is dropped."""


def canonical_timestamp(text: str) -> str:
    """An ISO 8601 date and time as clients get it: UTC, without offset, with microseconds. Without offset it is UTC.

    Raises `ValueError`, with the sentence for the caller.
    """
    try:
        if len(text) < SHORTEST_DATETIME:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected an ISO 8601 date and time, got {text[:64]!r}") from error
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


UserTexts = Annotated[list[UserText], Meta(max_length=MAX_USERS)]


class MessageBody(Struct, gc=False):
    """One message as the caller sends it. `message` is only looked at to see that it is sound; its bytes travel."""

    user: UserText
    message: dict[str, Any]
    channel: ChannelText | None = None
    pm_users: UserTexts = []
    exclude_users: UserTexts = []
    no_history: bool = False
    uuid: UuidText | None = None
    timestamp: Annotated[str, refined_by(canonical_timestamp)] | None = None

    @staticmethod
    def complaints(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """For `explain`: what is wrong between the fields."""
        if given.get("channel") is None and given.get("pm_users", []) == []:
            yield "channel", _NO_ADDRESSEE


MessageBodies = Annotated[list[MessageBody], Meta(max_length=MAX_MESSAGES)]


class TakenMessage(Struct, frozen=True, gc=False):
    """One message as it was taken."""

    uuid: str
    """In canonical form."""

    channel: str | None
    """None for a message to `pm_users` alone."""

    pm_users: list[str]
    exclude_users: list[str]
    no_history: bool

    frame: bytes
    """The JSON object that clients get, without `catchup` and `seq`: a shard puts `,"catchup":false,"seq":N}` in place
    of its last brace. No key twice, none of those two in it, and no line breaks."""

    taken: bytes
    """The JSON object for the caller's answer."""


class _Frame(Struct, tag_field="type", tag="message", gc=False):
    """The contract's keys of a message in a client's list, in the order in which they are sent."""

    uuid: str
    timestamp: str
    date: str
    user: str
    channel: str | None
    message: Raw
    edited: None = None


class _Taken(Struct, tag_field="type", tag="message", gc=False):
    """The contract's keys of a message in the caller's answer."""

    uuid: str
    timestamp: str
    user: str
    channel: str | None
    message: Raw
    pm_users: list[str]
    exclude_users: list[str]
    no_history: bool
    edited: None = None


_NO_ADDRESSEE: Final = "expected a channel or pm_users"
_KNOWN: Final = frozenset(MessageBody.__struct_fields__)
_checked: Final = msgspec.json.Decoder(MessageBodies)
_cut: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_encode: Final = msgspec.json.Encoder().encode


def parse_messages(body: bytes, new_uuid: Callable[[], str], now_timestamp: str) -> list[TakenMessage]:
    """The messages of one request, in their order, or `NotJson` or `Invalid` naming every wrong field as `3.user`.

    `new_uuid` makes a canonical one for each message that has none; `now_timestamp` is the time of those without.

    PERF: two decodes, one that looks into everything and one that cuts the bytes apart, cost less than one decode and
    encoding the payloads again, and leave numbers and escapes as the sender wrote them.
    """
    try:
        if not body.isascii():
            body.decode()
        messages = _checked.decode(body)
        for message in messages:
            _settle(message)
        keys = _cut.decode(_on_one_line(body))
        extras = [_extra_members(of_one) for of_one in keys]
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, too
        raise refusal(MessageBodies, body, error) from None
    return [
        _taken(message, of_one["message"], extra, message.uuid or new_uuid(), message.timestamp or now_timestamp)
        for message, of_one, extra in zip(messages, keys, extras, strict=True)
    ]


def _settle(message: MessageBody) -> None:
    """Brings uuid and timestamp into their canonical form. Raises `ValueError`."""
    if message.uuid is not None:
        message.uuid = canonical_uuid(message.uuid)
    if message.timestamp is not None:
        message.timestamp = canonical_timestamp(message.timestamp)
    if message.channel is None and not message.pm_users:
        raise ValueError(_NO_ADDRESSEE)


def _on_one_line(body: bytes) -> bytes:
    """Without line breaks between the tokens (inside of strings JSON has none); the tokens stay as they are.

    Server-Sent Events and logs are made of lines, and a frame is written a thousand times but read here once.
    """
    if b"\n" in body or b"\r" in body:
        return msgspec.json.format(body, indent=-1)
    return body


def _extra_members(keys: Mapping[str, Raw]) -> bytes:
    """The sender's own keys as `,"key":value...`, empty where there are none. Raises `ValueError` for an unsound one.

    The first decode skips them, so they are looked into here: a number beyond a double's range is JSON, but many
    readers, ours among them, fail on it.
    """
    if keys.keys() <= _KNOWN:
        return b""
    members = []
    for key, value in keys.items():
        if key not in _KNOWN and key not in _OURS:
            msgspec.json.decode(value)
            members.append(b",%b:%b" % (_encode(key), value))
    return b"".join(members)


def _taken(message: MessageBody, payload: Raw, extra: bytes, uuid: str, timestamp: str) -> TakenMessage:
    user, channel, pm_users, exclude_users = message.user, message.channel, message.pm_users, message.exclude_users
    frame = _encode(_Frame(uuid, timestamp, timestamp, user, channel, payload))
    taken = _encode(_Taken(uuid, timestamp, user, channel, payload, pm_users, exclude_users, message.no_history))
    if extra:
        frame = b"%b%b}" % (frame[:-1], extra)
        taken = b"%b%b}" % (taken[:-1], extra)
    return TakenMessage(uuid, channel, pm_users, exclude_users, message.no_history, frame, taken)
