"""What clients on a socket have in common. How each kind writes and closes is in their own tests."""

from __future__ import annotations

import enum

from channelstream.edge.core import Held
from channelstream.edge.events import EventClient
from channelstream.edge.stream import Phase, StreamClient
from channelstream.edge.websocket import WebSocketClient

LEFT_TO_EACH_KIND = ("deliver", "feed", "ping", "_last_words")


def test_every_kind_says_what_only_it_can_know() -> None:
    for kind in (EventClient, WebSocketClient):
        assert issubclass(kind, StreamClient)
        assert all(name in vars(kind) for name in LEFT_TO_EACH_KIND)


def test_no_client_has_a_dict_of_its_own() -> None:
    """Slots all the way up, or each of a hundred thousand idle clients costs a dict more."""
    for kind in (EventClient, WebSocketClient):
        assert all("__slots__" in vars(one) for one in kind.__mro__ if one is not object)
        assert "__dict__" not in dir(kind)
    assert issubclass(StreamClient, Held)


def test_the_phases_follow_each_other() -> None:
    assert issubclass(Phase, enum.Enum)
    assert [phase.name for phase in Phase] == ["OPEN", "CLOSING", "ENDING", "CLOSED"]
