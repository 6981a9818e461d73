"""Who is alive, and how far it has served."""

from __future__ import annotations

from channelstream.ids import channel_key
from channelstream.shard.peers import NOTHING_TOLD, SILENCE_S, Peer, told_beyond
from channelstream.shard.topic import Topic
from channelstream.wire.messages import ProcessStatus

STATUS = ProcessStatus("edge", 0, 1, 0.0, "test")


def test_a_new_peer_holds_nothing() -> None:
    peer = Peer("edge-0:a", "s1", 100.0)
    assert (peer.status, peer.served) == (None, {})


def test_it_is_silent_after_some_missed_beats() -> None:
    assert Peer("edge-0:a", "s1", 100.0).silent_at == 100.0 + SILENCE_S


def test_three_beats_of_a_second_may_be_missed() -> None:
    assert 3.0 < SILENCE_S < 4.0


def test_a_beat_is_a_sign_of_life_and_adds_to_what_is_known() -> None:
    peer = Peer("edge-0:a", "s1", 100.0)
    peer.beat(STATUS, {"c/a": 1, "c/b": 5}, 103.0)
    peer.beat(STATUS, {"c/a": 2}, 104.0)
    assert (peer.served, peer.status) == ({"c/a": 2, "c/b": 5}, STATUS)
    assert peer.silent_at == 104.0 + SILENCE_S


def topic(name: str, seq: int, *edges: str) -> Topic:
    made = Topic(channel_key(name), "epoch", seq)
    made.routes = edges
    return made


def test_an_edge_is_told_where_it_was_told_more_or_is_told_nothing() -> None:
    every = [topic("a", 5, "edge-0:a"), topic("b", 5, "edge-0:a"), topic("c", 9, "edge-1:b"), topic("d", 7)]
    holds = {"c/a": 5, "c/b": 3, "c/c": 9, "c/d": 7, "c/unknown": 1}
    assert told_beyond("edge-0:a", holds, {one.key: one for one in every}) == {
        "c/b": 5,
        "c/c": NOTHING_TOLD,
        "c/d": NOTHING_TOLD,
        "c/unknown": NOTHING_TOLD,
    }


def test_what_is_counted_and_not_told_yet_is_not_told() -> None:
    waiting = Topic(channel_key("a"), "epoch", 5)
    waiting.told = 3
    waiting.routes = ("edge-0:a",)
    assert told_beyond("edge-0:a", {"c/a": 3}, {waiting.key: waiting}) == {}
    assert told_beyond("edge-0:a", {"c/a": 2}, {waiting.key: waiting}) == {"c/a": 3}
