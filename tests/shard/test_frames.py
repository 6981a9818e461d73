"""Frames are bounded in number and in bytes, and so is what one attach brings."""

from __future__ import annotations

import pytest

from channelstream.shard import frames as frames_module
from channelstream.shard.frames import Frames, within
from channelstream.shard.topic import Frame
from channelstream.wire.messages import AttachedTopic


def frame(size: int, seq: int = 1) -> Frame:
    return Frame(seq, b"x" * size, None, None)


def test_bytes_are_those_of_the_bodies_whatever_is_set_and_deleted() -> None:
    frames: Frames[Frame] = Frames()
    frames["a"], frames["b"] = frame(10), frame(20)
    frames["a"] = frame(3)
    assert frames.bytes == 23
    del frames["b"]
    assert (frames.bytes, list(frames)) == (3, ["a"])


@pytest.mark.parametrize(("count", "gone"), [(0, ["a", "b", "c"]), (1, ["a", "b"]), (2, ["a"]), (3, []), (9, [])])
def test_the_oldest_beyond_a_number_go(count: int, gone: list[str]) -> None:
    frames: Frames[Frame] = Frames()
    frames.extend([("a", frame(1)), ("b", frame(2)), ("c", frame(4))], 7)
    assert frames.trim(count) == gone
    assert (list(frames), frames.bytes) == (list("abc")[len(gone) :], sum((1, 2, 4)[len(gone) :]))


def test_the_oldest_beyond_a_size_go_but_a_single_one_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "MAX_FRAMES_BYTES", 10)
    frames: Frames[Frame] = Frames()
    frames["a"] = frame(11)
    assert frames.trim(5) == []
    frames["b"] = frame(0)
    assert frames.trim(5) == ["a"]
    frames["c"] = frame(10)
    assert frames.trim(5) == []
    frames.extend([("d", frame(10)), ("e", frame(1))], 11)
    assert (frames.trim(2), frames.bytes) == (["b", "c", "d"], 1)


def attached(*bodies: bytes, lost: int | None = 0) -> AttachedTopic:
    return AttachedTopic("c/a", "e", 9, 2, list(bodies), lost)


@pytest.mark.parametrize(("room", "kept", "lost"), [(6, 3, 0), (5, 2, 1), (3, 1, 2), (2, 0, 3), (0, 0, 3), (-5, 0, 3)])
def test_what_is_too_much_for_an_attach_is_lost_the_oldest_first(room: int, kept: int, lost: int) -> None:
    bodies = (b"1", b"22", b"333")
    assert within(attached(*bodies), room) == attached(*bodies[3 - kept :], lost=lost)


@pytest.mark.parametrize(("before", "after"), [(4, 6), (None, None)])
def test_what_was_lost_before_is_lost_too(before: int | None, after: int | None) -> None:
    assert within(attached(b"1", b"2", b"3", lost=before), 1) == attached(b"3", lost=after)


def test_an_attach_that_brings_nothing_is_as_it_was() -> None:
    assert within(attached(lost=None), -1) == attached(lost=None)
