"""Values ↔ rows. Every row ends with a checksum over which table it belongs to and all that stands before. Pure.

A row that does not verify is no row: each `read_…` gives None for it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from channelstream.shard.store.base import (
    ChannelSaved,
    ConnectionSaved,
    FramesSaved,
    RecordSaved,
    SavedFrame,
    UserSaved,
)
from channelstream.wire.messages import ChannelConfig

Row = tuple[Any, ...]

place_of: Final = struct.Struct("<qqq").pack

packed: Final = msgspec.msgpack.Encoder().encode
_json: Final = msgspec.json.Encoder().encode
_config: Final = msgspec.json.Decoder(ChannelConfig).decode
_readers: Final[dict[str, Any]] = {
    "users": msgspec.json.Decoder(UserSaved).decode,
    "records": msgspec.json.Decoder(RecordSaved).decode,
    "connections": msgspec.json.Decoder(ConnectionSaved).decode,
}
_frame: Final = msgspec.msgpack.Decoder(SavedFrame).decode
_head: Final = msgspec.msgpack.Decoder(tuple[str, int, int]).decode

UNREADABLE: Final = (msgspec.MsgspecError, struct.error, TypeError, ValueError, OverflowError, RecursionError)
"""What may be raised for values that a damaged file gives in the place of ours."""


class Life(msgspec.Struct, frozen=True, gc=False):
    """The one row about the file itself."""

    generation: int
    """Of the life that has the file."""
    commits: int = 0
    """How many transactions there were, over all lives."""
    boot: str = ""
    """The machine's start at which that life began."""
    synced: bool = True
    """Whether each commit waits for the disk."""
    ended: bool = True
    """Whether that life came to an orderly end, with all of it on the disk."""
    complete: bool = False
    """See `Saved.is_complete`."""
    doubt: bool = False
    """Something that was committed may be missing, and the channels do not say so themselves yet."""


def checksum(table: str, values: Sequence[Any]) -> int:
    """The checksum of a row, over what it is and where it belongs."""
    return crc32(packed((table, *values)))


def message_row(number: int, channel: int, seq: int, uuid: str, at: float, body: bytes, first: int) -> Row:
    """PERF: made for each message of a publish. `number` is the row's own.

    The checksum's upper half is over where the row belongs alone: with that in order, damage in the rest costs only the
    channel that the row names.
    """
    place = crc32(place_of(number, channel, seq)) & 0x7FFF_FFFF
    values = (number, channel, seq, uuid, at, body, first)
    return *values, place << 32 | crc32(packed(values))


def is_message_in_place(row: Row) -> bool:
    """Whether a message that does not verify has at least its number, channel and seq."""
    try:
        return bool(row[7] >> 32 == crc32(place_of(*row[:3])) & 0x7FFF_FFFF)
    except UNREADABLE:
        return False


def is_whole(table: str, row: Row) -> bool:
    """Whether a row of any other table is as it was written."""
    try:
        return bool(checksum(table, row[:-1]) == row[-1])
    except UNREADABLE:
        return False


def with_checksum(table: str, values: Row) -> Row:
    """The row of these values."""
    return *values, checksum(table, values)


def life_row(life: Life) -> Row:
    values = (1, life.generation, life.commits, life.boot)
    return with_checksum("life", (*values, int(life.synced), int(life.ended), int(life.complete), int(life.doubt)))


def read_life(row: Row) -> Life | None:
    if not is_whole("life", row):
        return None
    _, generation, commits, boot, synced, ended, complete, doubt, _ = row
    return Life(generation, commits, boot, bool(synced), bool(ended), bool(complete), bool(doubt))


def channel_row(number: int, channel: ChannelSaved, whole: bool) -> Row:
    config = _json(channel.config)
    return with_checksum("channels", (number, channel.channel, channel.uuid, channel.epoch, config, int(whole)))


def read_channel(row: Row) -> tuple[int, ChannelSaved, bool] | None:
    """Its number, what was saved (the seq is in its counter), and whether it is whole."""
    if not is_whole("channels", row):
        return None
    number, name, uuid, epoch, config, whole, _ = row
    return number, ChannelSaved(name, uuid, epoch, 0, _config(config)), bool(whole)


def counter_row(channel: int, seq: int, first: int) -> Row:
    return with_checksum("counters", (channel, seq, first))


def value_row(table: str, name: str, value: UserSaved | RecordSaved | ConnectionSaved) -> Row:
    return with_checksum(table, (name, _json(value)))


def read_value(table: str, row: Row) -> Any:
    """What was saved, None where the row does not verify."""
    return _readers[table](row[1]) if is_whole(table, row) else None


def frame_rows(frames: FramesSaved) -> list[Row]:
    """One row for each frame, and before them one that says how many there are. A row for all could outgrow what SQLite
    takes for one value."""
    values = [packed((frames.epoch, frames.seq, len(frames.frames))), *map(packed, frames.frames)]
    return [with_checksum("frames", (frames.topic, place, value)) for place, value in enumerate(values)]


def read_frames(topic: str, rows: Sequence[Row]) -> FramesSaved | None:
    """The frames of a topic; None where one is missing or does not verify."""
    if not all(is_whole("frames", row) and row[1] == place for place, row in enumerate(rows)):
        return None
    epoch, seq, count = _head(rows[0][2])
    if count != len(rows) - 1:
        return None
    return FramesSaved(topic, epoch, seq, tuple(_frame(row[2]) for row in rows[1:]))
