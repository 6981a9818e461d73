"""A user: a topic of private messages, and the state that backends keep with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from channelstream.ids import user_key
from channelstream.shard.members import NOTHING
from channelstream.shard.store.base import FramesSaved, UserSaved
from channelstream.shard.topic import Topic
from channelstream.wire.messages import Deletion, Deliver, Edit, State, StateValue

PRIVATE_FRAMES: Final = 50
"""Private messages kept for catch-up, per user. The contract's number."""

RESTORED_SEQ: Final = 1
"""Where the counter of a user begins that is known from before: who was its member then may have missed something."""

_json: Final = msgspec.json.Encoder()


def same_value(one: StateValue, other: StateValue) -> bool:
    """Whether two values of a state are the same: 1, 1.0 and true are three."""
    return type(one) is type(other) and one == other


def same_state(one: State, other: State) -> bool:
    """Whether two states have the same keys and values."""
    return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())


class User(Topic):
    """One user of a shard."""

    __slots__ = ("left_at", "name", "public_keys", "state")

    def __init__(self, name: str, epoch: str, now_mono: float, seq: int = 0) -> None:
        super().__init__(user_key(name), epoch, seq)
        self.name: Final = name
        self.state: State = NOTHING
        """Replaced, never changed."""
        self.public_keys: tuple[str, ...] = ()
        self.left_at = now_mono
        """Monotonic seconds since which it has no connection; of no meaning while it has one."""

    @classmethod
    def restored(cls, saved: UserSaved, frames: FramesSaved | None, new_epoch: str, now_mono: float) -> User:
        """A user as its store held it, with its frames where the end was an orderly one."""
        if frames is None:
            user = cls(saved.user, new_epoch, now_mono, RESTORED_SEQ)
        else:
            user = cls(saved.user, frames.epoch, now_mono)
            user.restore_frames(frames, PRIVATE_FRAMES)
        user.state = saved.state or NOTHING
        user.public_keys = saved.public_keys
        return user

    def saved(self) -> UserSaved:
        """What a store is to know of it."""
        return UserSaved(self.name, self.state, self.public_keys)

    def public(self) -> State:
        """The part of the state that others may see."""
        if not self.public_keys:
            return {}
        return {key: self.state[key] for key in self.public_keys if key in self.state}

    def change(self, state: State, public_keys: Iterable[str] | None) -> bool:
        """Merge a state and, where given, replace the list of public keys; True where anything changed."""
        if not state and public_keys is None:
            return False  # PERF: as with nearly every connection
        state_before, keys_before = self.state, self.public_keys
        if state:
            self.state = {**self.state, **state}
        if public_keys is not None:
            self.public_keys = tuple(dict.fromkeys(public_keys))
        return keys_before != self.public_keys or not same_state(state_before, self.state)

    def publish(self, uuids: Sequence[str], bodies: Sequence[bytes]) -> Deliver:
        """Take private messages, of which the topic holds none and none stands there twice. Every member is the user
        itself, so only `exclude` can matter, and the plan leaves excluded users out."""
        return self.append(uuids, bodies, None, None, PRIVATE_FRAMES)

    def edit(self, edit: Edit) -> Deliver | None:
        """Change a private message, and tell of it unless it was deleted."""
        return self.append_edit(edit.uuid, edit.changes, edit.body, None, PRIVATE_FRAMES)

    def delete(self, deletion: Deletion) -> Deliver:
        """Take a private message away, and tell of it."""
        return self.append_deletion(deletion.uuid, deletion.body, None, PRIVATE_FRAMES)

    def info(self, include_connections: bool, public_only: bool) -> bytes:
        """The object that `/info` shows, as JSON."""
        return _json.encode(self._shown(include_connections, public_only))

    def _shown(self, include_connections: bool, public_only: bool) -> dict[str, object]:
        shown: dict[str, object] = {"user": self.name, "state": self.public() if public_only else self.state}
        if include_connections:
            shown["connections"] = sorted(member.conn_id for member in self.members())
        return shown


def joined(users: Iterable[User], include_connections: bool, public_only: bool) -> bytes:
    """What `/info` shows of several users, joined by commas. PERF: one call of the encoder for all of them."""
    return _json.encode([user._shown(include_connections, public_only) for user in users])[1:-1]
