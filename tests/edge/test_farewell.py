"""Who is told to go when, without a clock."""

from __future__ import annotations

from itertools import pairwise

from channelstream.edge.farewell import LATER_MS, SOON_MS, SPREAD_MS, Farewell, retry_ms


def nobody(client: int) -> bool:
    return False


def test_evenly_and_each_once() -> None:
    farewell = Farewell(range(100), 50.0, 5.0)
    moments = [50.0 + step * 0.05 for step in range(101)]
    turns = [farewell.due(now, nobody) for now in moments]
    assert [client for turn in turns for client in turn] == list(range(100))
    assert max(map(len, turns)) <= 2
    assert farewell.is_over
    assert not farewell.due(1000.0, nobody)


def test_a_few_are_spread_too() -> None:
    farewell = Farewell("abc", 0.0, 6.0)
    told = {client: now for now in range(7) for client in farewell.due(float(now), nobody)}  # type: ignore[arg-type]
    assert all(later - earlier >= 2 for earlier, later in pairwise(told.values()))


def test_at_once_where_there_is_no_time_and_where_there_is_none_left() -> None:
    assert Farewell("abc", 0.0, 0.0).due(0.0, lambda client: True) == ["a", "b", "c"]
    farewell = Farewell("abc", 0.0, 5.0)
    assert farewell.due(0.0, lambda client: False) == []
    farewell.hurry()
    assert farewell.due(0.1, lambda client: True) == ["a", "b", "c"]
    assert farewell.is_over


def test_one_that_has_something_to_read_is_told_when_it_has_read_it_or_last() -> None:
    farewell = Farewell("abcd", 0.0, 4.0)
    behind = {"a", "b"}
    assert farewell.due(1.0, behind.__contains__) == []
    assert farewell.due(3.0, behind.__contains__) == ["c"]
    behind.remove("b")
    assert farewell.due(3.0, behind.__contains__) == ["b"]
    assert not farewell.is_over
    assert farewell.due(4.0, behind.__contains__) == ["a", "d"]
    assert farewell.is_over


def test_nobody_to_tell() -> None:
    assert Farewell((), 0.0, 5.0).is_over


def test_when_to_come_back_differs_between_clients_and_is_the_same_for_one() -> None:
    soon = [retry_ms(f"conn-{number}", in_turn=True) for number in range(1000)]
    later = [retry_ms(f"conn-{number}", in_turn=False) for number in range(1000)]
    assert all(ms in range(SOON_MS) for ms in soon)
    assert all(ms in range(LATER_MS, LATER_MS + SPREAD_MS) for ms in later)
    assert len(set(later)) > 800
    assert retry_ms("conn-1", in_turn=True) == soon[1]
