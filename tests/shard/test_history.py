"""A channel's history: so many messages, and none older than it may be."""

from __future__ import annotations

import pytest

from channelstream.clock import Now
from channelstream.shard.history import DELETED_KEPT, History
from channelstream.shard.store.base import StoredMessage

NOW = Now(1000.0, 1_700_000_000.0)


def stored(seq: int, age_s: float = 0.0) -> StoredMessage:
    return StoredMessage(f"m{seq}", seq, b"{}", NOW.wall - age_s)


def history_of(*seqs: int) -> History:
    history = History((), NOW)
    for seq in seqs:
        history.add([stored(seq)], float(seq))
    return history


def seqs(history: History) -> list[int]:
    return [message.seq for message in history]


def test_messages_are_kept_in_their_order() -> None:
    history = History([stored(1), stored(2)], NOW)
    history.add([stored(3)], NOW.mono)
    assert (seqs(history), len(history)) == ([1, 2, 3], 3)


@pytest.mark.parametrize(
    ("size", "kept", "dropped"), [(3, [2, 3, 4], 1), (1, [4], 3), (0, [], 4), (9, [1, 2, 3, 4], 0)]
)
def test_the_oldest_go_first(size: int, kept: list[int], dropped: int) -> None:
    history = history_of(1, 2, 3, 4)
    assert history.trim(size) == dropped
    assert seqs(history) == kept


def test_it_knows_what_it_holds_and_what_was_deleted_and_not_what_dropped_out() -> None:
    history = history_of(1, 2, 3)
    history.trim(2)
    assert history.delete("m2") == stored(2)
    assert [history.knows_any([f"m{seq}"]) for seq in range(1, 5)] == [False, True, True, False]
    assert history.get("m2") is None


def test_deletions_are_remembered_up_to_a_bound() -> None:
    history = history_of()
    for seq in range(DELETED_KEPT + 2):
        assert history.delete(f"m{seq}") is None
    assert [history.knows_any([f"m{seq}"]) for seq in (1, 2, DELETED_KEPT + 1)] == [False, True, True]


def test_what_is_taken_back_is_as_if_it_had_never_come() -> None:
    history = history_of(1, 2)
    assert history.take_back("m2") == stored(2)
    assert (history.take_back("m2"), history.knows_any(["m2"])) == (None, False)


@pytest.mark.parametrize(("mono", "kept"), [(0.0, [1, 2, 3]), (1.5, [2, 3]), (2.0, [3]), (3.0, []), (99.0, [])])
def test_what_is_not_from_after_a_moment_goes(mono: float, kept: list[int]) -> None:
    history = history_of(1, 2, 3)
    assert [message.seq for message in history.since(mono)] == kept
    assert history.forget_before(mono) == 3 - len(kept)
    assert seqs(history) == kept
    assert history.oldest_since() == (float(kept[0]) if kept else None)


def test_what_was_stored_is_as_old_as_it_says_and_never_from_the_future() -> None:
    history = History([stored(1, 60.0), stored(2, -3600.0)], NOW)
    assert history.oldest_since() == NOW.mono - 60.0
    history.forget_before(NOW.mono - 1)
    assert (seqs(history), history.oldest_since()) == ([2], NOW.mono)
