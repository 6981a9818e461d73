"""Effects are values: what a test compares and a loop performs."""

from __future__ import annotations

from typing import get_args

import pytest

from channelstream.shard.effects import Broadcast, Effect, Later, Reply, Send, Store, Tell
from channelstream.shard.store.base import UserForgotten
from channelstream.wire.messages import Answer, BeatAnswer, Done


def test_an_effect_is_for_now_or_for_later_or_for_the_store() -> None:
    assert set(get_args(Effect)) == {Send, Broadcast, Store, Reply, Tell}
    assert set(get_args(Later)) == {Reply, Tell}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Send("edge-0:a", BeatAnswer("s")),
        lambda: Broadcast(("edge-0:a", "edge-1:b"), BeatAnswer("s")),
        lambda: Store(UserForgotten("ann")),
        lambda: Reply("router-0:r", Answer(1, Done()), True, ("m1",)),
    ],
)
def test_effects_that_say_the_same_are_equal(make: object) -> None:
    assert make() == make()  # type: ignore[operator]
