"""Effects are values: what a test compares and a loop performs."""

from __future__ import annotations

from typing import get_args

import pytest

from channelstream.shard.effects import Broadcast, Effect, Send, Store
from channelstream.shard.store.base import UserForgotten
from channelstream.wire.messages import BeatAnswer


def test_an_effect_is_one_of_three() -> None:
    assert set(get_args(Effect)) == {Send, Broadcast, Store}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Send("edge-0:a", BeatAnswer("s")),
        lambda: Broadcast(("edge-0:a", "edge-1:b"), BeatAnswer("s")),
        lambda: Store(UserForgotten("ann")),
    ],
)
def test_effects_that_say_the_same_are_equal(make: object) -> None:
    assert make() == make()  # type: ignore[operator]
