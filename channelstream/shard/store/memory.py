"""A store that forgets at the end of the process: `store = memory`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Final

from msgspec.structs import replace

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
    Saved,
    SavedChannel,
    UserForgotten,
    UserSaved,
    Write,
)


class MemoryStore:
    """Holds nothing for a restart, since the process's own end is the end of it.

    The shard keeps in its own memory all that it serves, so `replay = False` (the server's choice) stores no second
    copy. `replay = True` keeps one, which is what the contract of a store is tested with.
    """

    def __init__(self, generation: int = 1, replay: bool = False) -> None:
        self.generation: Final = generation
        self._saved = Saved() if replay else None

    def load(self) -> Saved:
        """See `Store.load`."""
        if self._saved is None:
            return Saved()
        loaded = deepcopy(self._saved)
        self._saved.frames.clear()
        self._saved.is_complete = True
        return loaded

    def commit(self, writes: Sequence[Write]) -> None:
        """See `Store.commit`."""
        if self._saved is not None:
            saved = deepcopy(self._saved)
            for write in writes:
                _apply(saved, write)
            self._saved = saved

    def tidy(self) -> bool:
        """See `Store.tidy`."""
        return False

    def close(self) -> None:
        """See `Store.close`."""
        self._saved = None


def _apply(saved: Saved, write: Write) -> None:
    match write:
        case (
            ChannelSaved(name)
            | ChannelCounted(name)
            | MessageSaved(name)
            | MessageChanged(name)
            | MessageForgotten(name)
            | HistoryCut(name)
            | ChannelForgotten(name)
        ):
            _apply_to_channel(saved.channels, name, write)
        case UserSaved(user):
            saved.users[user] = write
        case UserForgotten(user):
            saved.users.pop(user, None)
        case RecordSaved(conn_id):
            saved.records[conn_id] = write
        case RecordForgotten(conn_id):
            saved.records.pop(conn_id, None)
        case ConnectionSaved(conn_id):
            saved.connections[conn_id] = write
        case ConnectionForgotten(conn_id):
            saved.connections.pop(conn_id, None)
        case FramesSaved(topic):
            saved.frames[topic] = write


def _apply_to_channel(channels: dict[str, SavedChannel], name: str, write: Write) -> None:
    match write:
        case ChannelSaved(_, uuid, epoch, seq, config):
            history = channels[name].history if name in channels else []
            channels[name] = SavedChannel(uuid, epoch, seq, config, history)
        case ChannelCounted(_, seq):
            channels[name].seq = seq
        case MessageSaved(_, message):
            channels[name].history.append(message)
            channels[name].seq = message.seq
        case MessageChanged(_, seq, body):
            history = channels[name].history
            history[:] = [replace(one, body=body) if one.seq == seq else one for one in history]
        case MessageForgotten(_, seq):
            history = channels[name].history
            history[:] = [one for one in history if one.seq != seq]
        case HistoryCut(_, first):
            history = channels[name].history
            history[:] = [one for one in history if one.seq >= first]
        case ChannelForgotten():
            channels.pop(name, None)
