"""The writes and what they amount to: plain values."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from channelstream.shard.store.base import Saved, SavedChannel, StoredMessage, UserSaved, Write
from channelstream.wire.messages import ChannelConfig


@pytest.mark.parametrize("kind", [*get_args(Write), StoredMessage])
def test_a_write_cannot_be_changed(kind: Any) -> None:
    assert kind.__struct_config__.frozen


def test_equal_writes_are_equal() -> None:
    assert UserSaved("ann", {"a": 1}, ("a",)) == UserSaved("ann", {"a": 1}, ("a",))
    assert UserSaved("ann", {"a": 1}, ("a",)) != UserSaved("ann", {"a": 2}, ("a",))


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        StoredMessage("m", 1, b"{}", 0.0).seq = 2  # type: ignore[misc]


def test_what_is_saved_shares_nothing_with_another() -> None:
    first, second = Saved(), Saved()
    first.channels["a"] = SavedChannel("u", "e", 0, ChannelConfig())
    assert second.channels == {}
    assert SavedChannel("u", "e", 0, ChannelConfig()).history is not first.channels["a"].history
