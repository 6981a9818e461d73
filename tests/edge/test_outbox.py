"""The queue of a client that does not take what it is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.edge.frames import listed, text_frame
from channelstream.edge.outbox import LOW_WATER, Fate, Mark, Outbox, Ready
from channelstream.wire.messages import TopicCursor

A, B, C = Mark("c/a", 1), Mark("c/b", 2), Mark("c/c", 3)


def filled(bound: int = 100) -> Outbox:
    """Three frames, ten bytes each."""
    outbox = Outbox(bound)
    for letter, mark in zip(b"abc", (A, B, C), strict=True):
        outbox.add(bytes([letter]) * 10, (mark,))
    return outbox


def test_a_new_one_is_empty() -> None:
    outbox = Outbox(10)
    assert (bool(outbox), outbox.bytes, list(outbox.marks())) == (False, 0, [])


def test_frames_come_out_in_order_however_they_are_sent() -> None:
    outbox, taken = filled(), b""
    for count in (3, 7, 10, 1, 9):
        taken += bytes(outbox.first()[:count])
        outbox.sent(count)
    assert taken == b"a" * 10 + b"b" * 10 + b"c" * 10
    assert (bool(outbox), outbox.bytes) == (False, 0)


@pytest.mark.parametrize(("size", "fits"), [(70, True), (71, False)])
def test_it_is_bounded_in_bytes(size: int, fits: bool) -> None:
    assert filled().fits(size) is fits


def test_what_is_sent_makes_room() -> None:
    outbox = filled(30)
    assert not outbox.fits(1)
    outbox.sent(4)
    assert (outbox.bytes, outbox.fits(4), outbox.fits(5)) == (26, True, False)


def test_an_empty_one_takes_a_frame_of_any_size() -> None:
    assert Outbox(1).fits(1000)


def test_a_half_sent_frame_has_not_been_received() -> None:
    outbox = filled()
    outbox.sent(9)
    assert list(outbox.marks()) == [A, B, C]
    outbox.sent(1)
    assert list(outbox.marks()) == [B, C]


def test_a_frame_can_have_several_marks_or_none() -> None:
    outbox = Outbox(100)
    outbox.add(b"joined", (A, B))
    outbox.add(b"ping", ())
    outbox.add(memoryview(b"rest"), (C,))
    assert list(outbox.marks()) == [A, B, C]


@pytest.mark.parametrize(("half_sent", "left"), [(True, b"a" * 7), (False, b"")])
def test_cutting_keeps_only_what_is_half_sent(half_sent: bool, left: bytes) -> None:
    outbox = filled()
    if half_sent:
        outbox.sent(3)
    outbox.cut(half_sent)
    assert outbox.bytes == len(left)
    assert (bytes(outbox.first()) if outbox else b"") == left


# --- what is skipped ---


def ready(topic: str, seq: int, count: int = 1, skippable: bool = True, lost: int | None = 0) -> Ready:
    """Deliveries up to `seq`; where some are `lost`, the first object tells of them."""
    bodies = [b"{}"] * (count + (lost != 0))
    return Ready(b"frame", bodies, Mark(topic, seq - count), TopicCursor(topic, "e", seq), skippable, lost)


def full(bound: int = 100) -> Outbox:
    """One that takes nothing more."""
    outbox = Outbox(bound)
    outbox.add(b"x" * bound, (A,))
    return outbox


def told(outbox: Outbox) -> list[tuple[dict[str, object], Mark, TopicCursor]]:
    """The gaps, each with its mark and where the client stands then."""
    return [(json.loads(one.bodies[0]), one.mark, one.reached) for one in outbox.gaps()]


def test_what_fits_waits_whatever_the_channel_says() -> None:
    assert filled(40).fate(ready("c/a", 1), 10) is Fate.WAITS
    assert filled(40).fate(ready("c/a", 1, skippable=False), 10) is Fate.WAITS


def test_what_does_not_fit_is_skipped_or_too_much() -> None:
    assert full().fate(ready("c/a", 1), 1) is Fate.SKIPPED
    assert full().fate(ready("c/a", 1, skippable=False), 1) is Fate.TOO_MUCH


def test_what_is_skipped_is_told_once_and_counted_by_topic() -> None:
    outbox = full()
    for one in (ready("c/b", 8), ready("c/b", 11, count=3), ready("c/c", 5), ready("c/b", 12)):
        assert outbox.fate(one, 1) is Fate.SKIPPED
    outbox.sent(100)
    assert told(outbox) == [
        ({"type": "gap", "channel": "b", "missed": 5}, Mark("c/b", 7), TopicCursor("c/b", "e", 12)),
        ({"type": "gap", "channel": "c", "missed": 1}, Mark("c/c", 4), TopicCursor("c/c", "e", 5)),
    ]
    assert told(outbox) == []


def test_a_gap_goes_out_in_a_frame_of_its_own_that_is_never_skipped() -> None:
    outbox = full()
    outbox.fate(ready("c/b", 8), 1)
    outbox.sent(100)
    (gap,) = outbox.gaps()
    assert gap.frame == text_frame(listed(gap.bodies))
    assert not gap.skippable


@pytest.mark.parametrize(("lost", "missed"), [(4, 6), (None, None)])
def test_a_gap_that_is_skipped_is_part_of_the_gap(lost: int | None, missed: int | None) -> None:
    outbox = full()
    outbox.fate(ready("c/b", 9, count=1), 1)
    outbox.fate(ready("c/b", 10, count=1, lost=lost), 1)
    outbox.sent(100)
    ((gap, _, _),) = told(outbox)
    assert gap["missed"] == (None if missed is None else missed)


def test_until_it_is_told_nothing_of_that_topic_overtakes_the_gap() -> None:
    outbox = full()
    outbox.fate(ready("c/b", 8), 1)
    outbox.sent(60)
    assert outbox.fate(ready("c/b", 9), 1) is Fate.SKIPPED
    assert outbox.fate(ready("c/b", 10, skippable=False), 1) is Fate.SKIPPED  # its channel was configured anew
    assert outbox.fate(ready("c/c", 1), 1) is Fate.WAITS
    outbox.sent(40)
    assert [gap["missed"] for gap, _, _ in told(outbox)] == [3]
    assert outbox.fate(ready("c/b", 11), 1) is Fate.WAITS


def test_it_is_told_when_a_part_of_the_bound_waits() -> None:
    outbox = full(1000)
    outbox.fate(ready("c/b", 8), 1)
    outbox.sent(1000 - int(1000 * LOW_WATER) - 1)
    assert told(outbox) == []
    outbox.sent(1)
    assert len(told(outbox)) == 1


def test_what_only_tells_a_position_is_never_missed() -> None:
    outbox = full()
    nothing = Ready(b"", (), Mark("c/b", 3), TopicCursor("c/b", "e", 3))
    assert outbox.fate(nothing, 1) is Fate.SKIPPED
    outbox.sent(100)
    assert told(outbox) == []


def test_what_was_skipped_and_not_told_has_not_been_received() -> None:
    outbox = full()
    outbox.fate(ready("c/b", 8), 1)
    outbox.fate(ready("c/b", 9), 1)
    assert list(outbox.marks()) == [A, Mark("c/b", 7)]
    outbox.sent(100)
    (gap,) = outbox.gaps()
    outbox.add(gap.frame, (gap.mark,))
    outbox.sent(len(gap.frame) - 1)
    assert list(outbox.marks()) == [Mark("c/b", 7)]  # half a gap is none
    outbox.sent(1)
    assert list(outbox.marks()) == []


def test_who_is_let_go_is_told_of_nothing() -> None:
    outbox = full()
    outbox.fate(ready("c/b", 8), 1)
    outbox.cut(half_sent=False)
    assert (outbox.gaps(), list(outbox.marks()), list(outbox.oldest_marks())) == ([], [], [])


def test_memory_is_bounded_by_the_topics_however_much_is_skipped() -> None:
    outbox = full()
    for seq in range(1, 1000):
        for topic in ("c/b", "c/c"):
            outbox.fate(ready(topic, seq), 1)
    assert len(list(outbox.marks())) == 3
    assert outbox.bytes == 100


topics = st.sampled_from(["c/a", "c/b"])


@given(st.data())
def test_oldest_marks_are_never_ahead_of_what_waits(data: st.DataObject) -> None:
    """And they name the same topics: what they say is told to shards as served."""
    outbox, seqs = Outbox(1000), {"c/a": 0, "c/b": 0}
    for _ in range(data.draw(st.integers(0, 40))):
        if outbox and data.draw(st.booleans()):
            outbox.sent(min(data.draw(st.integers(1, 12)), len(outbox.first())))
        elif data.draw(st.integers(0, 9)) == 9:
            outbox.cut(half_sent=data.draw(st.booleans()))
        else:
            topic = data.draw(topics)
            count = data.draw(st.integers(1, 3))
            seqs[topic] = count + data.draw(st.sampled_from([seqs[topic], seqs[topic], 0]))  # or a new life of it
            one = ready(topic, seqs[topic], count)
            if outbox.fate(one, data.draw(st.sampled_from([1, 2000]))) is Fate.WAITS:
                outbox.add(b"x" * 10, (one.mark,))
        exact: dict[str, int] = {}
        oldest: dict[str, int] = {}
        for marks, lowest in ((outbox.marks(), exact), (outbox.oldest_marks(), oldest)):
            for mark in marks:
                lowest[mark.topic] = min(mark.before, lowest.get(mark.topic, mark.before))
        assert oldest.keys() == exact.keys()
        assert all(oldest[topic] <= before for topic, before in exact.items())
