"""A store that forgets at the end of the process: `store = memory`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from channelstream.shard.store.base import (
    ChannelForgotten,
    ChannelSaved,
    MessageChanged,
    MessageForgotten,
    MessageSaved,
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

    def __init__(self, replay: bool = False) -> None:
        self._saved = Saved() if replay else None

    def load(self) -> Saved:
        """See `Store.load`."""
        return Saved() if self._saved is None else deepcopy(self._saved)

    def commit(self, writes: Sequence[Write]) -> None:
        """See `Store.commit`."""
        if self._saved is not None:
            saved = deepcopy(self._saved)
            for write in writes:
                _apply(saved, write)
            self._saved = saved

    def close(self) -> None:
        """See `Store.close`."""
        self._saved = None


def _apply(saved: Saved, write: Write) -> None:
    match write:
        case ChannelSaved(channel, uuid, epoch, config):
            history = saved.channels[channel].history if channel in saved.channels else []
            del history[: max(len(history) - config.history_size, 0)]
            saved.channels[channel] = SavedChannel(uuid, epoch, config, history)
        case MessageSaved(channel, message, keep):
            history = saved.channels[channel].history
            history.append(message)
            del history[: max(len(history) - keep, 0)]
        case MessageChanged(channel, uuid, body):
            history = saved.channels[channel].history
            history[:] = [replace(one, body=body) if one.uuid == uuid else one for one in history]
        case MessageForgotten(channel, uuid):
            history = saved.channels[channel].history
            history[:] = [one for one in history if one.uuid != uuid]
        case ChannelForgotten(channel):
            saved.channels.pop(channel, None)
        case UserSaved(user):
            saved.users[user] = write
        case UserForgotten(user):
            saved.users.pop(user, None)
