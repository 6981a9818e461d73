"""A channel's history: so many messages, and none older than it may be."""

from __future__ import annotations

import pytest

from channelstream.shard.history import History
from channelstream.shard.store.base import StoredMessage


def stored(seq: int) -> StoredMessage:
    return StoredMessage(f"m{seq}", seq, b"{}", float(seq))


def seqs(history: History) -> list[int]:
    return [message.seq for message in history]


def test_messages_are_kept_in_their_order() -> None:
    history = History([stored(1), stored(2)])
    history.add(stored(3), 10)
    assert (seqs(history), len(history)) == ([1, 2, 3], 3)


@pytest.mark.parametrize(("size", "kept"), [(3, [2, 3, 4]), (1, [4]), (0, [])])
def test_the_oldest_go_first(size: int, kept: list[int]) -> None:
    history = History()
    for seq in range(1, 5):
        history.add(stored(seq), size)
    assert seqs(history) == kept


def test_it_knows_what_it_holds_and_no_longer_what_it_held() -> None:
    history = History()
    for seq in (1, 2, 3):
        history.add(stored(seq), 2)
    assert [history.holds(f"m{seq}") for seq in range(1, 5)] == [False, True, True, False]


def test_a_smaller_size_can_be_asked_for_later() -> None:
    history = History([stored(seq) for seq in range(1, 6)])
    history.trim(2)
    assert seqs(history) == [4, 5]
    history.trim(9)
    assert seqs(history) == [4, 5]


@pytest.mark.parametrize(("wall", "kept"), [(0.0, [1, 2, 3]), (1.5, [2, 3]), (2.0, [3]), (3.0, []), (99.0, [])])
def test_what_is_not_from_after_a_moment_goes(wall: float, kept: list[int]) -> None:
    history = History([stored(1), stored(2), stored(3)])
    history.forget_before(wall)
    assert seqs(history) == kept
