"""Who was away for how long, and what that allows."""

from __future__ import annotations

import pytest

from channelstream.checking import presence
from channelstream.checking.findings import FalseParted, LongWait, LostConnection, NotHealed

WINDOW_S = 30.0


def parted(story):
    return presence.false_parted(story.history, WINDOW_S)


def test_parted_of_one_who_is_there(story):
    story.joins("ann", "bob").hears("ann", "bob", "parted", 1)
    (found,) = parted(story)
    assert isinstance(found, FalseParted)
    assert (found.client, found.user, found.topic) == ("ann", "bob", "c/kept")


def test_parted_of_one_who_came_back_in_time(story):
    story.joins("ann", "bob").closes("bob").passes(5).hears("ann", "bob", "parted", 1).opens("bob")
    assert [one.user for one in parted(story)] == ["bob"]


def test_parted_of_one_who_was_away_for_too_long(story):
    story.joins("ann", "bob").closes("bob").passes(WINDOW_S).hears("ann", "bob", "parted", 1)
    assert parted(story) == []


def test_parted_of_one_who_never_listened(story):
    story.joins("ann").joins("bob", opens=False).passes(WINDOW_S).hears("ann", "bob", "parted", 1)
    assert parted(story) == []


def test_parted_of_somebody_else_is_not_judged(story):
    assert parted(story.joins("ann").hears("ann", "stranger", "parted", 1)) == []


def test_between_polls_nobody_is_away_for_long(story):
    story.joins("ann").joins("bob", opens=False)
    for _ in range(20):
        story.opens("bob", is_poll=True).closes("bob", 200, answered=True)
    assert [one.user for one in parted(story.hears("ann", "bob", "parted", 1))] == ["bob"]


def test_absences(story):
    story.joins("ann", opens=False)
    joined_at = story.now
    story.opens("ann").closes("ann").opens("ann").closes("ann")
    assert presence.absences(story.history, "ann") == [
        (joined_at, joined_at + 1),
        (joined_at + 2, joined_at + 3),
        (joined_at + 4, float("inf")),
    ]


@pytest.mark.parametrize("code", [4000, 4002])
def test_a_connection_that_ends_under_a_socket(story, code):
    story.joins("ann").passes(60).closes("ann", code).loses("ann", code)
    (found,) = presence.lost_connections(story.history, WINDOW_S)
    assert isinstance(found, LostConnection)
    assert (found.client, found.code) == ("ann", code)


def test_a_connection_that_is_not_known_after_a_short_while(story):
    story.joins("ann").closes("ann").passes(5).loses("ann", 401)
    (found,) = presence.lost_connections(story.history, WINDOW_S)
    assert found.away_s == pytest.approx(5)


def test_a_connection_that_is_not_known_after_too_long(story):
    story.joins("ann").closes("ann").passes(WINDOW_S).loses("ann", 401)
    assert presence.lost_connections(story.history, WINDOW_S) == []


def test_a_poll_that_was_told_401_was_not_there(story):
    story.joins("ann", opens=False).passes(WINDOW_S).opens("ann", is_poll=True).closes("ann", 401).loses("ann", 401)
    assert presence.lost_connections(story.history, WINDOW_S) == []


def test_a_long_wait(story, no_answer):
    story.says("pub", "c/kept", 200, wait_s=2.9)
    assert presence.long_waits(story.history) == []
    story.says("pub", "c/kept", no_answer, wait_s=3.1)
    (found,) = presence.long_waits(story.history)
    assert isinstance(found, LongWait)
    assert (found.uuid, found.status) == ("pub-2", no_answer)


@pytest.mark.parametrize(("kind", "expected"), [("stop", 0), ("kill", 1)])
def test_only_a_stopped_process_excuses_a_long_wait(story, kind, expected):
    story.breaks(kind, "router-0", for_s=5.0)
    story.says("pub", wait_s=6.0)
    assert len(presence.long_waits(story.history)) == expected


def test_a_stop_long_ago_excuses_nothing(story):
    story.breaks("stop", "router-0", for_s=5.0).passes(20)
    story.says("pub", wait_s=6.0)
    assert len(presence.long_waits(story.history)) == 1


def test_only_the_last_look_at_the_processes_counts(story):
    assert presence.not_healed(story.history) == []
    assert presence.not_healed(story.ends("shard-0").history) == [NotHealed("shard-0")]
    assert presence.not_healed(story.ends().history) == []
