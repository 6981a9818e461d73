"""Links that also ask without waiting: nobody stands still until the answer is there."""

from __future__ import annotations

from collections.abc import Callable

from channelstream.bus.links import STOPPING, Links, _Gathering
from channelstream.clock import monotonic
from channelstream.errors import ShardAway
from channelstream.wire.messages import Command, Result

Then = Callable[[Result | ShardAway], None]


class _Asked(_Gathering):
    """An ask by itself. PERF: a greenlet that waits for it costs as much as all else that is done about an ask."""

    __slots__ = ("_then",)

    def __init__(self, then: Then) -> None:
        self.results = [None]
        self.missing = 1
        self._then = then

    def put(self, place: int, result: Result | ShardAway) -> None:
        """See `_Gathering`."""
        self._then(result)


class PromptLinks(Links):
    """See the module."""

    def ask_then(self, shard: int, command: Command, then: Then) -> None:
        """Ask one shard. `then` is called in the loop's own greenlet, with the answer or why there is none, before
        anything is handled that the shard sent after it; it must not wait. Raises `ShardAway` where it cannot be asked;
        then `then` is not called."""
        if self._closed:
            raise ShardAway(shard, STOPPING)
        asked = _Asked(then)
        self._ask(asked, 0, shard, command, monotonic())
        (refused,) = asked.results
        if isinstance(refused, ShardAway):
            raise refused
