"""What a step of a call takes from those before it."""

from __future__ import annotations

from channelstream.wire.chain import filled
from channelstream.wire.messages import Channels, ConnectionState, EnterUser, Join, OpenConnection, UserState

HELD = ConnectionState("ann", ["a"], [], "edge-0:e", 7, 1.5, 9)
KNOWN = UserState({"x": 1, "y": 2}, {"x": 1})
ENTER = EnterUser("ann", "k", {}, {"y": 2}, None)
JOIN = Join("k", "ann", {}, ["a"], {}, ["a"], True, True)


def test_a_user_is_entered_with_where_its_connection_is_held() -> None:
    assert filled(ENTER, [HELD]) == EnterUser("ann", "k", {}, {"y": 2}, None, "edge-0:e", 7, 1.5)


def test_a_join_has_the_records_version_and_the_public_state_too() -> None:
    joined = Join("k", "ann", {"x": 1}, ["a"], {}, ["a"], True, True, "edge-0:e", 7, 1.5, 9)
    assert filled(JOIN, [HELD, KNOWN]) == joined
    assert filled(filled(JOIN, [HELD]), [KNOWN]) == joined


def test_what_is_not_known_stays_as_it_was() -> None:
    assert filled(JOIN, []) is JOIN
    assert filled(ENTER, [KNOWN, Channels([])]) == ENTER


def test_the_first_step_takes_nothing() -> None:
    opening = OpenConnection("k", "ann", ["a"])
    assert filled(opening, [HELD, KNOWN]) is opening
