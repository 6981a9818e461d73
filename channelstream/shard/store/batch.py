"""A group of writes as rows, by statement. Pure: nothing is known of files, and the index changes only when the
transaction is down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from channelstream.shard.store import rows
from channelstream.shard.store.base import (
    ChannelCounted,
    ChannelForgotten,
    ChannelSaved,
    ConnectionForgotten,
    ConnectionSaved,
    FramesSaved,
    HistoryCut,
    MessageChanged,
    MessageForgotten,
    MessageSaved,
    RecordForgotten,
    RecordSaved,
    StoredMessage,
    UserForgotten,
    UserSaved,
    Write,
)
from channelstream.shard.store.index import Entry, Index
from channelstream.shard.store.rows import Row

MUCH_DUE: Final = 8192
"""With so many dead rows, or a quarter of all there ever were where that is more, commits begin to delete some by the
way. By then the oldest of them fill whole pages."""

SOME_DUE: Final = 1024
"""With so many dead rows there is something to tidy in a moment in which nothing waits."""

DUE_STEP: Final = 512
"""Rows that are deleted by the way, and two for each write; as many as that by a step of `tidy`. Milliseconds."""

INSERT_CHANNEL: Final = "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?, ?, ?)"
INSERT_COUNTER: Final = "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?)"
INSERT_MESSAGE: Final = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
DELETE_MESSAGE: Final = "DELETE FROM messages WHERE id = ?"
DELETE_CHANNEL: Final = "DELETE FROM channels WHERE id = ?"
DELETE_COUNTER: Final = "DELETE FROM counters WHERE channel = ?"
INSERT_FRAME: Final = "INSERT INTO frames VALUES (?, ?, ?, ?)"
DELETE_FRAMES: Final = "DELETE FROM frames WHERE topic = ?"
INSERT_VALUE: Final = "INSERT OR REPLACE INTO {} VALUES (?, ?, ?)"
DELETE_VALUE: Final = "DELETE FROM {} WHERE name = ?"

Statement = tuple[str, Sequence[Row]]


class Touched:
    """A channel that the group is about, as it will be."""

    __slots__ = ("counts", "entry", "first", "forgotten", "ids", "seq", "seqs")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.seq = entry.seq
        self.first = entry.first
        self.seqs: list[int] = []
        self.ids: list[int] = []
        """Of the messages that the group adds."""
        self.forgotten: set[int] = set()
        self.counts = False
        """Whether its counter is written: what it says does not follow from the newest message."""

    def row_of(self, seq: int) -> int | None:
        """The row of a message, if it is kept."""
        if seq < self.first or seq in self.forgotten:
            return None
        if self.seqs and seq >= self.seqs[0]:
            return self.ids[self.seqs.index(seq)] if seq in self.seqs else None
        return self.entry.kept.row_of(seq)

    def apply(self) -> Iterable[int]:
        """The transaction is down. Rows that are dead now come back."""
        entry = self.entry
        entry.seq = self.seq
        entry.kept.extend(self.seqs, self.ids)
        for seq in self.forgotten:
            entry.kept.forget(seq)
        if entry.first == self.first:
            return ()
        entry.first = self.first
        return entry.kept.cut(entry.first)


class Batch:
    """Made for one group. `add` its writes, carry out `statements()` in one transaction, then `apply`.

    Raises `KeyError` for a write about a channel that there is not; nothing has happened then.
    """

    def __init__(self, index: Index) -> None:
        self._index: Final = index
        self._touched: dict[str, Touched | None] = {}
        """None: forgotten."""
        self._channels: dict[int, Row] = {}
        self._messages: list[tuple[Touched, int, StoredMessage]] = []
        """With the numbers of their rows, which are made when it is known what the group cuts."""
        self._bodies: dict[int, bytes] = {}
        """Row of a message → the body that it has now."""
        self._deleted: list[int] = []
        self._forgotten: list[int] = []
        """Rows of channels."""
        self._dead: list[Iterable[int]] = []
        """Rows of messages of channels that are forgotten."""
        self._values: dict[str, dict[str, Row | None]] = {"users": {}, "records": {}, "connections": {}}
        """None: forgotten."""
        self._frames: dict[str, FramesSaved] = {}
        self._swept: list[int] = []

    def add(self, writes: Sequence[Write]) -> None:
        """PERF: messages are most of it, and each costs as little as it can."""
        index, messages, touched = self._index, self._messages, self._touched
        index.begin_sweep(max(MUCH_DUE, index.rows // 4))
        self.sweep(DUE_STEP + 2 * len(writes))
        for write in writes:
            if type(write) is not MessageSaved:
                _HOW[type(write)](self, write)
                continue
            channel = touched.get(write.channel) or self._touch(write.channel)
            message = write.message
            seq, number = message.seq, index.next_message
            index.next_message = number + 1
            messages.append((channel, number, message))
            channel.seqs.append(seq)
            channel.ids.append(number)
            channel.seq = seq

    def save_channel(self, write: ChannelSaved, whole: bool = True) -> None:
        """`whole` is what `SavedChannel.is_whole` will be."""
        name = write.channel
        channel = self._touched.get(name)
        if channel is None and (name in self._touched or name not in self._index.channels):
            channel = Touched(Entry(self._index.next_channel, write.seq))
            self._index.next_channel += 1
            self._touched[name] = channel
        elif channel is None:
            channel = self._touch(name)
        channel.seq = write.seq
        channel.counts = True
        self._channels[channel.entry.id] = rows.channel_row(channel.entry.id, write, whole)

    def sweep(self, most: int) -> None:
        """Delete so many of the dead rows whose turn it is."""
        self._swept = list(islice(self._index.sweep, most))

    def bodies(self) -> dict[int, bytes]:
        """Rows of messages that get another body, once `statements` are carried out."""
        deleted = set(self._deleted)
        return {number: body for number, body in self._bodies.items() if number not in deleted}

    def statements(self) -> list[Statement]:
        """In the order in which they are to be carried out; none without rows."""
        alive = [channel for channel in self._touched.values() if channel is not None]
        found: list[Statement] = [
            (INSERT_CHANNEL, list(self._channels.values())),
            (INSERT_COUNTER, [rows.counter_row(one.entry.id, one.seq, one.first) for one in alive if one.counts]),
            (INSERT_MESSAGE, self._message_rows()),
            (DELETE_MESSAGE, [(number,) for number in (*self._deleted, *self._swept)]),
            (DELETE_CHANNEL, [(number,) for number in self._forgotten]),
            (DELETE_COUNTER, [(number,) for number in self._forgotten]),
            (DELETE_FRAMES, [(topic,) for topic in self._frames]),
            (INSERT_FRAME, [row for frames in self._frames.values() for row in rows.frame_rows(frames)]),
        ]
        for table, values in self._values.items():
            found.append((INSERT_VALUE.format(table), [row for row in values.values() if row is not None]))
            found.append((DELETE_VALUE.format(table), [(name,) for name, row in values.items() if row is None]))
        return [(statement, those) for statement, those in found if those]

    def apply(self) -> None:
        """The transaction is down: the index knows it."""
        index = self._index
        for _ in self._swept:
            index.sweep.popleft()
        index.rows += len(self._messages) - len(self._deleted) - len(self._swept)
        for name, channel in self._touched.items():
            if channel is None:
                index.channels.pop(name, None)
            else:
                index.due.extend(channel.apply())
                index.channels[name] = channel.entry
        for dead in self._dead:
            index.due.extend(dead)

    def _message_rows(self) -> list[Row]:
        """PERF: a call for each message."""
        row = rows.message_row
        return [
            row(number, channel.entry.id, one.seq, one.uuid, float(one.at), one.body, channel.first)
            for channel, number, one in self._messages
        ]

    def _touch(self, name: str) -> Touched:
        """A channel that the group has not been about before."""
        if name in self._touched:
            raise KeyError(name)
        channel = self._touched[name] = Touched(self._index.channels[name])
        return channel

    def _channel(self, name: str) -> Touched:
        return self._touched.get(name) or self._touch(name)

    def _count(self, write: ChannelCounted) -> None:
        channel = self._channel(write.channel)
        channel.seq = write.seq
        channel.counts = True

    def _change(self, write: MessageChanged) -> None:
        number = self._channel(write.channel).row_of(write.seq)
        if number is not None:
            self._bodies[number] = write.body

    def _forget_message(self, write: MessageForgotten) -> None:
        channel = self._channel(write.channel)
        number = channel.row_of(write.seq)
        if number is not None:
            self._deleted.append(number)
            channel.forgotten.add(write.seq)
            channel.counts = True

    def _cut(self, write: HistoryCut) -> None:
        channel = self._channel(write.channel)
        if write.first > channel.first:
            channel.first = write.first
            # The newest message says so as well, if the group brings one that stays.
            channel.counts = channel.counts or not channel.seqs or channel.seqs[-1] < write.first

    def _forget_channel(self, write: ChannelForgotten) -> None:
        name = write.channel
        if self._touched.get(name) is None and (name in self._touched or name not in self._index.channels):
            return
        channel = self._channel(name)
        self._dead += [channel.entry.kept.rows(), channel.ids]
        self._forgotten.append(channel.entry.id)
        self._touched[name] = None

    def _save_user(self, write: UserSaved) -> None:
        self._values["users"][write.user] = rows.value_row("users", write.user, write)

    def _save_record(self, write: RecordSaved) -> None:
        self._values["records"][write.conn_id] = rows.value_row("records", write.conn_id, write)

    def _save_connection(self, write: ConnectionSaved) -> None:
        self._values["connections"][write.conn_id] = rows.value_row("connections", write.conn_id, write)

    def _forget_user(self, write: UserForgotten) -> None:
        self._values["users"][write.user] = None

    def _forget_record(self, write: RecordForgotten) -> None:
        self._values["records"][write.conn_id] = None

    def _forget_connection(self, write: ConnectionForgotten) -> None:
        self._values["connections"][write.conn_id] = None

    def _save_frames(self, write: FramesSaved) -> None:
        self._frames[write.topic] = write


_HOW: Final[dict[type, Callable[[Batch, Any], None]]] = {
    ChannelSaved: Batch.save_channel,
    ChannelCounted: Batch._count,
    MessageChanged: Batch._change,
    MessageForgotten: Batch._forget_message,
    HistoryCut: Batch._cut,
    ChannelForgotten: Batch._forget_channel,
    UserSaved: Batch._save_user,
    UserForgotten: Batch._forget_user,
    RecordSaved: Batch._save_record,
    RecordForgotten: Batch._forget_record,
    ConnectionSaved: Batch._save_connection,
    ConnectionForgotten: Batch._forget_connection,
    FramesSaved: Batch._save_frames,
}
