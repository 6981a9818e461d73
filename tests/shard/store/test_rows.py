"""Rows and their checksums."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from channelstream.shard.store import rows
from channelstream.shard.store.base import ChannelSaved, FramesSaved, RecordSaved, SavedFrame, UserSaved
from channelstream.shard.store.rows import Life
from channelstream.wire.messages import ChannelConfig

NUMBERS = some.integers(-(2**53), 2**53) | some.floats(allow_nan=False, allow_infinity=False)
VALUES = some.none() | some.booleans() | NUMBERS | some.text()


@given(some.integers(0, 2**62), some.integers(0, 2**62), some.booleans(), some.booleans(), some.booleans())
def test_the_row_of_a_life_is_read_as_it_was(
    generation: int, commits: int, synced: bool, ended: bool, doubt: bool
) -> None:
    life = Life(generation, commits, "boot", synced, ended, not doubt, doubt)
    assert rows.read_life(rows.life_row(life)) == life


@given(some.text(), some.dictionaries(some.text(), VALUES))
def test_a_user_is_read_as_it_was(name: str, state: dict[str, Any]) -> None:
    user = UserSaved(name, state, tuple(state))
    assert rows.read_value("users", rows.value_row("users", name, user)) == user


def test_a_channel_is_read_as_it_was() -> None:
    saved = ChannelSaved("ü", "uuid", "epoch", 0, ChannelConfig(store_history=True, history_size=3))
    assert rows.read_channel(rows.channel_row(7, saved, False)) == (7, saved, False)


ROWS = {
    "life": rows.life_row(Life(5, 6, "boot")),
    "channels": rows.channel_row(7, ChannelSaved("a", "u", "e", 0, ChannelConfig()), True),
    "counters": rows.counter_row(7, 5, 2),
    "users": rows.value_row("users", "ann", UserSaved("ann", {}, ())),
    "records": rows.value_row("records", "k", RecordSaved("k", "ann", ())),
}


@pytest.mark.parametrize("table", ROWS)
def test_any_other_value_anywhere_does_not_verify(table: str) -> None:
    row = ROWS[table]
    assert rows.is_whole(table, row)
    for at in range(len(row)):
        for other in (None, -1, 2**60, 0.5, "other", b"other", object()):
            assert not rows.is_whole(table, (*row[:at], other, *row[at + 1 :]))


def test_a_row_is_none_of_another_table() -> None:
    assert not rows.is_whole("records", ROWS["users"])
    assert not rows.is_whole("frames", ROWS["users"])


def test_of_a_damaged_message_it_is_known_whether_its_place_is_right() -> None:
    row = rows.message_row(1, 2, 3, "m", 1.0, b"{}", 0)
    assert rows.is_message_in_place(row)
    for at, other in ((3, "n"), (4, 2.0), (5, b"[]"), (6, 1)):
        assert rows.is_message_in_place((*row[:at], other, *row[at + 1 :]))
    for at, other in ((0, 9), (1, 9), (2, 9), (7, 0), (0, None), (1, "x"), (7, None), (2, 2**70)):
        assert not rows.is_message_in_place((*row[:at], other, *row[at + 1 :]))


def test_frames_are_all_there_or_none() -> None:
    frames = FramesSaved("c/a", "e1", 9, tuple(SavedFrame(f"m{seq}", seq, b"\xff", None, ["x"]) for seq in range(3)))
    made = rows.frame_rows(frames)
    assert rows.read_frames("c/a", made) == frames
    for at in range(len(made)):
        assert rows.read_frames("c/a", [*made[:at], *made[at + 1 :]]) is None
    assert rows.read_frames("c/a", made[:2] + made[3:] + made[2:3]) is None
