"""A group of writes as rows. What the rows amount to is in tests/contract."""

from __future__ import annotations

from typing import Any

import pytest

from channelstream.shard.store import batch
from channelstream.shard.store.base import (
    ChannelCounted,
    ChannelForgotten,
    HistoryCut,
    MessageChanged,
    MessageForgotten,
    UserForgotten,
    UserSaved,
    Write,
)
from channelstream.shard.store.batch import Batch
from channelstream.shard.store.index import Index


def carried_out(index: Index, *writes: Write) -> dict[str, int]:
    """Rows by the beginning of their statement, after the group went down."""
    group = Batch(index)
    group.add(writes)
    counted = {statement.split(" VALUES")[0].split(" WHERE")[0]: len(rows) for statement, rows in group.statements()}
    group.apply()
    return counted


@pytest.fixture
def index(make: Any) -> Index:
    """A channel with messages 1 to 5."""
    found = Index()
    carried_out(found, make.channel(), *(make.message(seq) for seq in range(1, 6)))
    return found


def test_a_publish_is_one_row_with_its_cut(index: Index, make: Any) -> None:
    assert carried_out(index, make.message(6), HistoryCut("lobby", 3)) == {"INSERT INTO messages": 1}
    assert list(index.due) == [1, 2]
    assert list(index.channels["lobby"].kept.rows()) == [3, 4, 5, 6]


def test_a_cut_alone_is_a_row_for_the_counter(index: Index) -> None:
    assert carried_out(index, HistoryCut("lobby", 3)) == {"INSERT OR REPLACE INTO counters": 1}


def test_what_is_counted_often_is_one_row(index: Index) -> None:
    writes = [ChannelCounted("lobby", seq) for seq in range(6, 100)]
    assert carried_out(index, *writes) == {"INSERT OR REPLACE INTO counters": 1}


def test_nothing_changes_before_the_transaction_is_down(index: Index, make: Any) -> None:
    group = Batch(index)
    group.add([make.message(6), MessageForgotten("lobby", 1), HistoryCut("lobby", 3), make.channel("b")])
    group.statements()
    assert list(index.channels) == ["lobby"]
    assert (index.channels["lobby"].seq, list(index.channels["lobby"].kept.rows())) == (5, [1, 2, 3, 4, 5])
    again = Batch(index)
    again.add([make.message(6)])
    again.apply()
    assert index.channels["lobby"].kept.row_of(6) == index.next_message - 1


def test_a_number_of_a_row_is_never_given_twice(index: Index, make: Any) -> None:
    undone = Batch(index)
    undone.add([make.message(6), make.channel("b")])
    carried_out(index, make.message(6), make.channel("c"), ChannelForgotten("c"), make.channel("c"))
    assert index.channels["lobby"].kept.row_of(6) == 7
    assert index.channels["c"].id == 4


def test_a_changed_body_is_of_the_row_that_has_it(index: Index, make: Any) -> None:
    group = Batch(index)
    group.add([make.message(6), MessageChanged("lobby", 2, b"a"), MessageChanged("lobby", 6, b"b")])
    group.add([MessageChanged("lobby", 3, b"c"), MessageForgotten("lobby", 3), MessageChanged("lobby", 3, b"d")])
    assert group.bodies() == {2: b"a", 6: b"b"}


def test_forgetting_much_costs_two_rows(index: Index) -> None:
    assert carried_out(index, ChannelForgotten("lobby")) == {"DELETE FROM channels": 1, "DELETE FROM counters": 1}
    assert list(index.due) == [1, 2, 3, 4, 5]


def test_dead_rows_are_deleted_by_the_way_when_there_are_many(
    index: Index, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MUCH_DUE", 100)
    monkeypatch.setattr(batch, "DUE_STEP", 10)
    index.due.extend(range(1000, 1100))
    assert carried_out(index, make.message(6)) == {"INSERT INTO messages": 1, "DELETE FROM messages": 12}
    assert len(index.sweep) == 50 - 12


def test_of_several_writes_about_a_user_the_last_one_is_written(index: Index) -> None:
    saved = UserSaved("ann", {}, ())
    assert carried_out(index, saved, UserForgotten("ann")) == {"DELETE FROM users": 1}
    assert carried_out(index, UserForgotten("ann"), saved, saved) == {"INSERT OR REPLACE INTO users": 1}


@pytest.mark.parametrize("kind", [ChannelCounted, MessageForgotten, HistoryCut])
def test_a_write_about_a_channel_that_there_is_not_is_an_error(index: Index, kind: Any) -> None:
    with pytest.raises(KeyError):
        carried_out(index, kind("other", 1))
