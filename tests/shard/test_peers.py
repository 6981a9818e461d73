"""Who is alive, and how far it has served."""

from __future__ import annotations

import pytest

from channelstream.shard.peers import SILENCE_S, Peer
from channelstream.wire.messages import ProcessStatus

STATUS = ProcessStatus("edge", 0, 1, 0.0, "test")


def test_a_new_peer_holds_nothing() -> None:
    peer = Peer("edge-0:a", "s1", 100.0)
    assert (peer.status, peer.served, peer.connections, peer.records) == (None, {}, {}, {})


@pytest.mark.parametrize(("after", "silent"), [(0.0, False), (SILENCE_S, False), (SILENCE_S + 0.01, True)])
def test_it_is_silent_after_some_missed_beats(after: float, silent: bool) -> None:
    assert Peer("edge-0:a", "s1", 100.0).is_silent(100.0 + after) is silent


def test_three_beats_of_a_second_may_be_missed() -> None:
    assert 3.0 < SILENCE_S < 4.0


def test_a_beat_is_a_sign_of_life_and_adds_to_what_is_known() -> None:
    peer = Peer("edge-0:a", "s1", 100.0)
    peer.beat(STATUS, {"c/a": 1, "c/b": 5}, 103.0)
    peer.beat(STATUS, {"c/a": 2}, 104.0)
    assert (peer.served, peer.status) == ({"c/a": 2, "c/b": 5}, STATUS)
    assert not peer.is_silent(104.0 + SILENCE_S)
