"""A channel: a topic with a configuration, members by user, presence and history."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import ClassVar, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from channelstream.clock import Now, timestamp
from channelstream.ids import channel_key
from channelstream.shard.history import History
from channelstream.shard.members import Members, Person
from channelstream.shard.store.base import (
    ChannelCounted,
    ChannelSaved,
    FramesSaved,
    HistoryCut,
    MessageChanged,
    MessageForgotten,
    MessageSaved,
    SavedChannel,
    SavedFrame,
    StoredMessage,
    Write,
)
from channelstream.shard.topic import Topic, edited, spliced
from channelstream.wire.messages import ChannelConfig, ConfigChange, Deletion, Deliver, Edit, Publication

CUT_EVERY: Final = 64
"""The store is told what has dropped out of a history once it is so many messages: a write for each would double the
cost of a publish to a full one. What a store brings back too many is cut off then."""

_json: Final = msgspec.json.Encoder()


def configured(config: ChannelConfig, change: ConfigChange) -> ChannelConfig:
    """A configuration with some keys changed; the others stay."""
    return msgspec.structs.replace(config, **change)


class Taken(NamedTuple):
    """Messages that were taken together."""

    deliver: Deliver
    """What goes to the edges."""
    writes: Sequence[Write]
    """What goes to the store."""
    undone: Sequence[str]
    """The uuids of those that are undone where they cannot be stored."""


class _Shown(msgspec.Struct, gc=False):
    """What `/info` shows of a channel."""

    name: str
    long_name: None
    uuid: str
    settings: ChannelConfig
    history: list[msgspec.Raw]
    last_active: str
    total_connections: int
    total_users: int
    users: msgspec.Raw | list[str]
    seq: int
    epoch: str


class Channel(Topic):
    """One channel of a shard. `uuid` tells one life of a channel from the next one of the same name."""

    __slots__ = (
        "_uncut",
        "config",
        "history",
        "is_expiring",
        "last_active",
        "last_active_mono",
        "members_by_user",
        "name",
        "uuid",
    )

    is_channel: ClassVar[bool] = True

    def __init__(self, name: str, uuid: str, epoch: str, config: ChannelConfig, now: Now, seq: int = 0) -> None:
        super().__init__(channel_key(name), epoch, seq)
        self.name: Final = name
        self.uuid: Final = uuid
        self.config = config
        self.history = History((), now)
        self._uncut = 0
        """How many messages have dropped out of history since the store was told."""
        self.is_expiring = False
        """Whether somebody will look for messages that are too old. Kept by the shard."""
        self.members_by_user = Members()
        self.last_active = now.wall
        """Seconds since the epoch, for people."""
        self.last_active_mono = now.mono
        """The same for lifetimes."""

    @classmethod
    def restored(cls, name: str, saved: SavedChannel, frames: FramesSaved | None, new_epoch: str, now: Now) -> Channel:
        """A channel as its store held it.

        After an orderly end it goes on with its frames. Else, where it stores history, every delivery was counted
        before it went out: the epoch goes on, and frames are what history has of them. Else nobody knows what was
        delivered last, and a new epoch begins.
        """
        if frames is not None and saved.is_whole:
            channel = cls(name, saved.uuid, frames.epoch, saved.config, now)
            channel.restore_frames(frames, channel.frames_kept)
        elif saved.config.store_history and saved.is_whole:
            channel = cls(name, saved.uuid, saved.epoch, saved.config, now)
            kept = tuple(SavedFrame(one.uuid, one.seq, one.body, None, None) for one in saved.history)
            channel.restore_frames(FramesSaved(channel.key, saved.epoch, saved.seq, kept), channel.frames_kept)
        else:
            channel = cls(name, saved.uuid, new_epoch, saved.config, now, saved.seq + 1)
        channel.history = History(saved.history, now)
        channel.history.trim(saved.config.history_size)
        if saved.history:
            channel.last_active = saved.history[-1].at
        return channel

    def saved(self) -> ChannelSaved:
        """What a store is to know of it."""
        return ChannelSaved(self.name, self.uuid, self.epoch, self.seq, self.config)

    def touch(self, now: Now) -> None:
        """Something happened here: its lifetime starts anew."""
        self.last_active = now.wall
        self.last_active_mono = now.mono

    @property
    def frames_kept(self) -> int:
        """How many deliveries are kept for catch-up."""
        return self.config.frames_size if self.config.store_frames else 0

    def _undecided(self, count: int) -> int:
        """How many of the newest may yet be undone while so many are being taken, those included: what they are to push
        out stays until it is known that they do."""
        return self.untold + count if self.config.store_history else 0

    def _room(self, count: int = 1) -> int:
        """How many deliveries are kept while so many are being taken."""
        return self.frames_kept and self.frames_kept + self._undecided(count)

    @property
    def skippable(self) -> bool:
        """See `Topic.skippable`."""
        return self.config.skip_when_slow

    # --- messages ---

    def knows_any(self, uuids: Sequence[str]) -> bool:
        """Whether the channel still knows a message with one of these uuids. In a repeated request they are not taken
        twice: see `new_ones`."""
        return self.holds_any(uuids) or self.history.knows_any(uuids)

    def publish(self, uuids: Sequence[str], bodies: Sequence[bytes], publication: Publication, now: Now) -> Taken:
        """Take some of the messages of a publication, of which the channel knows none and none stands there twice. What
        comes back is to be told, or counted as `untold`, before anything else is taken."""
        self.touch(now)
        first, count = self.seq + 1, len(uuids)
        deliver = self.append(uuids, bodies, publication.only, publication.exclude, self._room(count))
        if not self._belongs_in_history(publication):
            return Taken(deliver, self.counted(deliver), ())
        seqs = range(first, first + count)
        messages = list(map(StoredMessage, uuids, seqs, bodies, repeat(now.wall)))
        self.history.add(messages, now.mono)
        dropped = self.history.trim(self.config.history_size + self._undecided(count))
        return Taken(deliver, [*map(MessageSaved, repeat(self.name), messages), *self._cut(dropped)], uuids)

    def _cut(self, dropped: int, at_least: int = CUT_EVERY) -> list[Write]:
        """So many messages have dropped out of history. Those that are frames still stay in the store, too."""
        self._uncut += dropped
        if self._uncut < at_least:
            return []
        self._uncut = 0
        return [HistoryCut(self.name, min(self._first_in_history(), self.oldest_frame))]

    def _first_in_history(self) -> int:
        first = self.history.first()
        return self.seq + 1 if first is None else first.seq

    def counted(self, deliver: Deliver | None) -> list[Write]:
        """What the store is to know of a delivery that is not in history itself."""
        return [ChannelCounted(self.name, deliver.seq)] if deliver is not None and self.config.store_history else []

    def take_back(self, uuids: Sequence[str], seq: int) -> list[Deliver]:
        """See `Topic.take_back`."""
        for uuid in uuids:
            self.history.take_back(uuid)
        return super().take_back(uuids, seq)

    def settle(self) -> None:
        """See `Topic.settle`: what those were to push out goes. The store is told with the next message."""
        self._trim_frames(self.frames_kept and self.frames_kept + self.untold)
        self._uncut += self.history.trim(self.config.history_size + self.untold)

    def withdraw(self, uuids: Sequence[str]) -> None:
        """See `Topic.withdraw`."""
        for uuid in uuids:
            self.history.take_back(uuid)
        super().withdraw(uuids)

    def expire(self, now: Now) -> list[Write]:
        """Forget what is too old."""
        if not self.config.history_ttl or not self.history.forget_before(now.mono - self.config.history_ttl):
            return []
        return [HistoryCut(self.name, self._first_in_history())]

    def next_expiry(self) -> float | None:
        """The moment (monotonic) at which the oldest message is too old; None where none will be."""
        since = self.history.oldest_since()
        return since + self.config.history_ttl if since is not None and self.config.history_ttl else None

    def edit(self, edit: Edit, now: Now) -> tuple[Deliver | None, list[Write]]:
        """Change a message in frames and history, and tell of it unless it was deleted."""
        self.touch(now)
        deliver = self.append_edit(edit.uuid, edit.changes, edit.body, edit.only, self._room())
        kept = self.history.get(edit.uuid)
        if kept is None:
            return deliver, self.counted(deliver)
        changed = replace(kept, body=edited(kept.body, edit.changes))
        self.history.put(changed)
        return deliver, [MessageChanged(self.name, changed.seq, changed.body), *self.counted(deliver)]

    def delete(self, deletion: Deletion, now: Now) -> tuple[Deliver, list[Write]]:
        """Take a message out of frames and history, and tell of it."""
        self.touch(now)
        deliver = self.append_deletion(deletion.uuid, deletion.body, deletion.only, self._room())
        removed = self.history.delete(deletion.uuid)
        forgotten: list[Write] = [] if removed is None else [MessageForgotten(self.name, removed.seq)]
        return deliver, forgotten + self.counted(deliver)

    def configure(self, change: ConfigChange, now: Now) -> list[Write]:
        """Change the keys that are given."""
        self.touch(now)
        self.config = configured(self.config, change)
        return [self.saved(), *self._cut(self.history.trim(self.config.history_size), at_least=1)]

    def _belongs_in_history(self, publication: Publication) -> bool:
        """History is read by everybody on the channel, so what only some may see stays out of it."""
        for_everybody = publication.only is None and not publication.exclude
        return self.config.store_history and for_everybody and not publication.no_history

    def presence(self, person: Person, action: str, uuid: str, now: Now) -> Deliver | None:
        """Tell the channel that a user `joined` or `parted`; None where it does not tell."""
        if not self.config.notify_presence:
            return None
        body = {
            **self._event("presence", person, uuid, now),
            "message": {"action": action},
            "users": self.members_by_user.with_states() if self.config.broadcast_presence_with_user_lists else [],
            "state": person.public if action == "joined" else None,
        }
        return self.append((uuid,), (_json.encode(body),), None, [person.name], self._room())

    def state_change(self, person: Person, changed: list[str], uuid: str, now: Now) -> Deliver | None:
        """Tell the channel of a user's new public state; None where it does not tell."""
        if not self.config.notify_state:
            return None
        values = [{"key": key, "value": person.public[key]} for key in changed]
        body = {
            **self._event("user_state_change", person, uuid, now),
            "message": {"state": person.public, "changed": values},
        }
        return self.append((uuid,), (_json.encode(body),), None, None, self._room())

    def _event(self, kind: str, person: Person, uuid: str, now: Now) -> dict[str, object]:
        """What the server's own deliveries have in common."""
        at = timestamp(now.wall)
        return {
            "type": kind,
            "uuid": uuid,
            "timestamp": at,
            "date": at,
            "user": person.name,
            "channel": self.name,
        }

    # --- what is told of it ---

    def info(self, now: Now, include_history: bool, include_users: bool) -> bytes:
        """The object that `/info` shows, as JSON. Users are named without their states, which others own."""
        return _json.encode(
            _Shown(
                self.name,
                None,
                self.uuid,
                self.config,
                self._readable_history(now) if include_history else [],
                timestamp(self.last_active),
                self.total_connections,
                len(self.members_by_user),
                msgspec.Raw(self.members_by_user.listing().json()) if include_users else [],
                self.told,
                self.epoch,
            )
        )

    def _readable_history(self, now: Now) -> list[msgspec.Raw]:
        if not len(self.history):
            return []
        too_old = now.mono - self.config.history_ttl if self.config.history_ttl else None
        # What is on its way to the disk may yet be refused: nobody may have seen it then.
        readable = [message for message in self.history.since(too_old) if message.seq <= self.told]
        newest = readable[max(len(readable) - self.config.history_size, 0) :]
        return [msgspec.Raw(spliced(message.body, message.seq, False)) for message in newest]
