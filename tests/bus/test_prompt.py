"""Asking without waiting, on gevent's loop. The shard is a listener of the memory bus, turned by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub, getcurrent

from channelstream.bus.memory import MemoryBus
from channelstream.bus.prompt import PromptLinks
from channelstream.clock import monotonic
from channelstream.errors import ShardAway
from channelstream.wire import codec
from channelstream.wire.messages import Answer, Ask, Done, Drop, GetStatus, ProcessStatus, ToPeer

ME = "edge-0:e"
STATUS = ProcessStatus("edge", 0, 7, 50.0, "v")


def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until something is so."""
    give_up = monotonic() + 10.0
    while not condition():
        assert monotonic() < give_up, "never happened"
        gevent.sleep(0.0005)


class Group:
    """Links to one shard, which a test plays. `happened`: answers and what was pushed, in their order."""

    def __init__(self, timeout_s: float, queue_bytes: int) -> None:
        self.bus = MemoryBus()
        self.shard = self.bus.listen("shard", 1, 1 << 20)
        self.happened: list[Any] = []
        self.in_hub: list[bool] = []
        self.links = PromptLinks(
            [self.bus.dial(ME, "shard", queue_bytes)],
            timeout_s,
            lambda shard, message: self.happened.append(message),
            lambda shard: None,
            lambda: None,
            lambda: STATUS,
            lambda shard: {},
        )
        self.links.start()

    def ask(self) -> None:
        """Ask for anything."""
        self.links.ask_then(0, GetStatus(), self._then)

    def _then(self, result: Any) -> None:
        self.in_hub.append(getcurrent() is get_hub())
        self.happened.append(result)

    def asked(self) -> list[Ask]:
        """What has come at the shard since the last call."""
        return [one for got in self.shard.receive(0.0) for one in got.messages if isinstance(one, Ask)]

    def send(self, *messages: ToPeer) -> None:
        """As one batch."""
        for message in messages:
            self.shard.send(ME, codec.encode(message))
        self.shard.flush()


@pytest.fixture
def make_group() -> Iterator[Callable[..., Group]]:
    made: list[Group] = []

    def make(timeout_s: float = 60.0, queue_bytes: int = 1 << 20) -> Group:
        made.append(Group(timeout_s, queue_bytes))
        return made[-1]

    yield make
    for group in made:
        group.links.close()
        gevent.sleep(0)
        group.bus.close()


def test_the_answer_comes_to_the_loop_before_what_follows_it(make_group: Callable[..., Group]) -> None:
    group = make_group()
    group.ask()
    asked: list[Ask] = []
    until(lambda: asked.extend(group.asked()) or asked)
    drop = Drop("k", 1, 1000)
    group.send(Answer(asked[0].number, Done()), drop)
    until(lambda: len(group.happened) == 2)
    assert group.happened == [Done(), drop]
    assert group.in_hub == [True]


def test_what_is_not_answered_in_time_is_told(make_group: Callable[..., Group]) -> None:
    group = make_group(timeout_s=0.01)
    group.ask()
    until(lambda: group.happened)
    (away,) = group.happened
    assert isinstance(away, ShardAway)
    assert group.in_hub == [True]


def test_what_cannot_be_asked_is_said_at_once(make_group: Callable[..., Group]) -> None:
    group = make_group(queue_bytes=1)
    group.ask()
    with pytest.raises(ShardAway):
        group.ask()
    group.links.close()
    with pytest.raises(ShardAway):
        group.ask()
    until(lambda: group.happened)
    assert len(group.happened) == 1, "the first one, which was open"
