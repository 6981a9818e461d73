"""A channel: a topic with a configuration, members by user, presence and history."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from channelstream.clock import Now, timestamp
from channelstream.ids import channel_key
from channelstream.shard.history import History
from channelstream.shard.members import Members, Person
from channelstream.shard.store.base import (
    ChannelSaved,
    MessageChanged,
    MessageForgotten,
    MessageSaved,
    SavedChannel,
    StoredMessage,
)
from channelstream.shard.topic import Topic, edited, spliced
from channelstream.wire.messages import ChannelConfig, ConfigChange, Deletion, Deliver, Edit, Publication

_json: Final = msgspec.json.Encoder()


def configured(config: ChannelConfig, change: ConfigChange) -> ChannelConfig:
    """A configuration with some keys changed; the others stay."""
    return msgspec.structs.replace(config, **change)


class Channel(Topic):
    """One channel of a shard. `uuid` tells one life of a channel from the next one of the same name."""

    __slots__ = ("config", "history", "last_active", "last_active_mono", "members_by_user", "name", "uuid")

    def __init__(self, name: str, uuid: str, epoch: str, config: ChannelConfig, now: Now) -> None:
        super().__init__(channel_key(name), epoch)
        self.name: Final = name
        self.uuid: Final = uuid
        self.config = config
        self.history = History()
        self.members_by_user = Members()
        self.last_active = now.wall
        """Seconds since the epoch, for people."""
        self.last_active_mono = now.mono
        """The same for lifetimes."""

    @classmethod
    def restored(cls, name: str, saved: SavedChannel, now: Now) -> Channel:
        """A channel as its store held it. Its counter goes on where it was."""
        channel = cls(name, saved.uuid, saved.epoch, saved.config, now)
        channel.history = History(saved.history)
        channel.seq = saved.seq
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

    @property
    def skippable(self) -> bool:
        """See `Topic.skippable`."""
        return self.config.skip_when_slow

    # --- messages ---

    def publish(self, publication: Publication, now: Now) -> tuple[Deliver, MessageSaved | None] | None:
        """Take a message: what goes to the edges, and what goes to the store.

        None where the channel still holds a message with this uuid: a repeated request, which is not taken twice.
        """
        if self.holds(publication.uuid) or self.history.holds(publication.uuid):
            return None
        self.touch(now)
        deliver = self.append(
            publication.uuid, publication.body, publication.only, publication.exclude, self.frames_kept
        )
        if not self._belongs_in_history(publication):
            return deliver, None
        message = StoredMessage(publication.uuid, deliver.seq, publication.body, now.wall)
        self.history.add(message, self.config.history_size)
        return deliver, MessageSaved(self.name, message)

    def edit(self, edit: Edit, now: Now) -> tuple[Deliver | None, MessageChanged | None]:
        """Change a message in frames and history, and tell of it unless it was deleted."""
        self.touch(now)
        deliver = self.append_edit(edit.uuid, edit.changes, edit.body, edit.only, self.frames_kept)
        kept = self.history.get(edit.uuid)
        if kept is None:
            return deliver, None
        changed = replace(kept, body=edited(kept.body, edit.changes))
        self.history.put(changed)
        return deliver, MessageChanged(self.name, changed.seq, changed.body)

    def delete(self, deletion: Deletion, now: Now) -> tuple[Deliver, MessageForgotten | None]:
        """Take a message out of frames and history, and tell of it."""
        self.touch(now)
        deliver = self.append_deletion(deletion.uuid, deletion.body, deletion.only, self.frames_kept)
        removed = self.history.remove(deletion.uuid)
        return deliver, None if removed is None else MessageForgotten(self.name, removed.seq)

    def configure(self, change: ConfigChange, now: Now) -> ChannelSaved:
        """Change the keys that are given."""
        self.touch(now)
        self.config = configured(self.config, change)
        self.history.trim(self.config.history_size)
        return self.saved()

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
        return self.append(uuid, _json.encode(body), None, [person.name], self.frames_kept)

    def state_change(self, person: Person, changed: list[str], uuid: str, now: Now) -> Deliver | None:
        """Tell the channel of a user's new public state; None where it does not tell."""
        if not self.config.notify_state:
            return None
        values = [{"key": key, "value": person.public[key]} for key in changed]
        body = {
            **self._event("user_state_change", person, uuid, now),
            "message": {"state": person.public, "changed": values},
        }
        return self.append(uuid, _json.encode(body), None, None, self.frames_kept)

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
            {
                "name": self.name,
                "long_name": None,
                "uuid": self.uuid,
                "settings": self.config,
                "history": self._readable_history(now) if include_history else [],
                "last_active": timestamp(self.last_active),
                "total_connections": self.total_connections,
                "total_users": len(self.members_by_user),
                "users": sorted(self.members_by_user.names()) if include_users else [],
                "seq": self.seq,
                "epoch": self.epoch,
            }
        )

    def _readable_history(self, now: Now) -> list[msgspec.Raw]:
        if self.config.history_ttl:
            self.history.forget_before(now.wall - self.config.history_ttl)
        return [msgspec.Raw(spliced(message.body, message.seq, False)) for message in self.history]
