"""A channel's history: the messages kept for readers, newest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from channelstream.shard.store.base import StoredMessage


class History:
    """At most so many messages, each at most so old. Both limits come with the call, since a channel's configuration
    may change at any time."""

    __slots__ = ("_messages",)

    def __init__(self, messages: Iterable[StoredMessage] = ()) -> None:
        self._messages: dict[str, StoredMessage] = {message.uuid: message for message in messages}

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[StoredMessage]:
        """Oldest first."""
        return iter(self._messages.values())

    def holds(self, uuid: str) -> bool:
        """Whether a message with this uuid is kept."""
        return uuid in self._messages

    def add(self, message: StoredMessage, size: int) -> None:
        """Keep a message, and no more than `size` in all."""
        self._messages[message.uuid] = message
        self.trim(size)

    def get(self, uuid: str) -> StoredMessage | None:
        """The message with this uuid, if it is kept."""
        return self._messages.get(uuid)

    def put(self, message: StoredMessage) -> None:
        """A message that is kept is this now. Its place stays."""
        self._messages[message.uuid] = message

    def remove(self, uuid: str) -> StoredMessage | None:
        """Forget a message; it comes back, or None where it was not kept."""
        return self._messages.pop(uuid, None)

    def trim(self, size: int) -> None:
        """Forget the oldest until no more than `size` are left."""
        while len(self._messages) > size:
            del self._messages[next(iter(self._messages))]

    def forget_before(self, wall: float) -> None:
        """Drop what is not from after a moment."""
        while self._messages:
            uuid, oldest = next(iter(self._messages.items()))
            if oldest.at > wall:
                return
            del self._messages[uuid]
