"""What is known in memory of a file."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from channelstream.shard.store.index import WORTH_MOVING, Index, Kept

STEPS = some.lists(some.tuples(some.sampled_from(["add", "cut", "forget", "look"]), some.integers(0, 300)), max_size=60)


@given(STEPS)
def test_it_is_a_mapping_that_is_cut_from_below(steps: list[tuple[str, int]]) -> None:
    kept, model, highest = Kept(), dict[int, int](), 0
    for what, number in steps:
        if what == "add":
            new = [highest + 1 + 2 * step for step in range(number % 90)]
            kept.extend(new, [seq * 10 for seq in new])
            model |= {seq: seq * 10 for seq in new}
            highest = max([highest, *new])
        elif what == "cut":
            gone = [row for seq, row in model.items() if seq < number]
            assert list(kept.cut(number)) == gone
            model = {seq: row for seq, row in model.items() if seq >= number}
        elif what == "forget":
            kept.forget(number)
            model.pop(number, None)
        else:
            assert kept.row_of(number) == model.get(number)
        assert (len(kept), list(kept.rows()), kept.newest()) == (
            len(model),
            list(model.values()),
            max(model, default=0),
        )


def test_what_was_cut_is_let_go_of() -> None:
    kept = Kept()
    for seq in range(10_000):
        kept.extend([seq], [seq])
        kept.cut(seq - 9)
    assert len(kept._seqs) <= 10 + WORTH_MOVING


def test_a_sweep_takes_the_older_half_of_what_is_dead() -> None:
    index = Index()
    index.due.extend([9, 1, 8, 2, 7])
    index.begin_sweep(6)
    assert list(index.sweep) == []
    index.begin_sweep(5)
    assert (list(index.sweep), list(index.due)) == ([1, 2, 7], [8, 9])
    index.due.extend(range(100, 200))
    index.begin_sweep(5)
    assert list(index.sweep) == [1, 2, 7]
