"""The queue of a client that does not take what it is sent."""

from __future__ import annotations

import pytest

from channelstream.edge.outbox import Mark, Outbox

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
