"""Each validator with histories in which all is well, and with one in which it is not."""

from __future__ import annotations

import pytest

from channelstream.checking import validators
from channelstream.checking.findings import (
    CameTwice,
    HoleWithoutWord,
    LostForClient,
    LostFromHistory,
    OldEpoch,
    OutOfOrder,
    Phantom,
    PublisherOutOfOrder,
    TakenTwice,
    TwoInOnePlace,
)

FRAMES = "c/frames"


def kinds(found):
    return [type(one) for one in found]


def test_nothing_is_wrong_where_nothing_is(story):
    story.joins("ann", "bob")
    places = []
    for seq in range(1, 6):
        uuid = story.says("pub")
        story.gets("ann", uuid, seq).gets("bob", uuid, seq)
        places.append((uuid, seq))
    story.reads(*places).ends()
    assert validators.all_findings(story.history, 30.0) == []


# --- loss -------------------------------------------------------------------------------------------------------------


def test_what_was_answered_is_in_the_history(story):
    first, second = story.says("pub"), story.says("pub")
    story.reads((first, 1))
    (lost,) = validators.lost_from_history(story.history)
    assert isinstance(lost, LostFromHistory)
    assert (lost.uuid, lost.publisher, lost.number) == (second, "pub", 2)


def test_a_message_of_whom_nobody_knows_may_be_missing(story, no_answer):
    story.says("pub", "c/kept", no_answer, 503)
    story.says("pub", "c/kept", 507)
    assert validators.lost_from_history(story.reads().history) == []


def test_only_the_last_reading_counts(story):
    story.reads()
    story.reads((story.says("pub"), 1))
    assert validators.lost_from_history(story.history) == []


def test_without_history_nothing_can_be_missing_there(story):
    story.says("pub", FRAMES)
    story.reads(topic=FRAMES)
    assert validators.lost_from_history(story.history) == []


def test_a_client_gets_all_that_was_answered(story):
    story.joins("ann", "bob")
    uuids = [story.says("pub") for _ in range(3)]
    for seq, uuid in enumerate(uuids, 1):
        story.gets("ann", uuid, seq)
        if seq != 2:
            story.gets("bob", uuid, seq)
    (lost,) = validators.lost_for_clients(story.history)
    assert isinstance(lost, LostForClient)
    assert (lost.client, lost.uuid) == ("bob", uuids[1])


def test_the_last_message_can_be_lost_too(story):
    story.joins("ann").gets("ann", story.says("pub"), 1)
    story.says("pub")
    assert kinds(validators.lost_for_clients(story.history)) == [LostForClient]


def test_what_was_said_before_a_client_joined_is_not_for_it(story):
    story.says("pub")
    story.joins("ann")
    assert validators.lost_for_clients(story.history) == []


def test_a_gap_covers_what_would_have_stood_there(story):
    story.joins("ann")
    uuids = [story.says("pub", FRAMES) for _ in range(4)]
    story.gets("ann", uuids[0], 1, FRAMES).gap("ann").gets("ann", uuids[3], 1, FRAMES)
    assert validators.lost_for_clients(story.history) == []


def test_a_gap_covers_nothing_that_would_have_stood_elsewhere(story):
    story.joins("ann")
    uuids = [story.says("pub", FRAMES) for _ in range(5)]
    story.gets("ann", uuids[0], 1, FRAMES).gets("ann", uuids[2], 3, FRAMES)
    story.gap("ann").gets("ann", uuids[4], 9, FRAMES)
    (lost,) = validators.lost_for_clients(story.history)
    assert lost.uuid == uuids[1]


def test_other_publishers_tell_where_it_would_have_stood_too(story):
    story.joins("ann")
    lost = story.says("pub", FRAMES)
    story.gets("ann", story.says("other", FRAMES), 2, FRAMES).gap("ann")
    assert [one.uuid for one in validators.lost_for_clients(story.history)] == [lost]


def test_a_gap_on_another_channel_covers_nothing(story):
    story.joins("ann")
    story.says("pub", FRAMES)
    story.gap("ann", "c/kept")
    assert kinds(validators.lost_for_clients(story.history)) == [LostForClient]


def test_private_messages_are_only_for_their_user(story):
    story.joins("ann", "bob")
    uuid = story.says("pub", "u/ann")
    (lost,) = validators.lost_for_clients(story.history)
    assert (lost.client, lost.uuid) == ("ann", uuid)


def test_what_was_on_its_way_to_a_lost_connection_is_not_missed_but_what_was_overtaken_is(story):
    story.joins("ann")
    uuids = [story.says("pub") for _ in range(3)]
    story.gets("ann", uuids[1], 2).loses("ann")
    (lost,) = validators.lost_for_clients(story.history)
    assert lost.uuid == uuids[0]


def test_a_hole_without_a_gap(story):
    story.joins("ann").gets("ann", "a", 1).gets("ann", "b", 3)
    (hole,) = validators.holes(story.history)
    assert isinstance(hole, HoleWithoutWord)
    assert (hole.client, hole.before, hole.after) == ("ann", 1, 3)


def test_a_hole_over_two_sockets_is_one_too(story):
    story.joins("ann").gets("ann", "a", 1).closes("ann").opens("ann").gets("ann", "c", 3)
    assert kinds(validators.holes(story.history)) == [HoleWithoutWord]


def test_no_hole_at_the_beginning_after_a_gap_or_behind_a_repetition(story):
    story.joins("ann").gets("ann", "a", 7).gap("ann", "c/kept").gets("ann", "b", 2).gets("ann", "c", 3)
    story.closes("ann").opens("ann").gets("ann", "b", 2).gets("ann", "c", 3).gets("ann", "d", 4)
    assert validators.holes(story.history) == []


def test_the_own_presence_is_no_hole(story):
    story.joins("ann", "bob")
    story.gets("ann", "a", 1).hears("bob", "ann", "joined", 2).gets("ann", "b", 3)
    assert validators.holes(story.history) == []
    story.gets("bob", "b", 4)
    assert [hole.client for hole in validators.holes(story.history)] == ["bob"]


def test_a_gap_covers_no_message_of_a_channel_with_history(story):
    story.joins("ann")
    story.says("pub")
    story.gap("ann", "c/kept").gets("ann", story.says("pub"), 2)
    assert kinds(validators.lost_for_clients(story.history)) == [LostForClient]


# --- twice ------------------------------------------------------------------------------------------------------------


def test_the_same_on_one_socket(story):
    story.joins("ann").gets("ann", "a", 1).gets("ann", "a", 1)
    assert kinds(validators.came_twice(story.history)) == [CameTwice]


def test_the_same_after_a_reconnect_is_right(story):
    story.joins("ann").gets("ann", "a", 1).closes("ann").opens("ann").gets("ann", "a", 1)
    assert validators.came_twice(story.history) == []


def test_another_seq_after_a_reconnect_is_wrong(story):
    story.joins("ann").gets("ann", "a", 1).closes("ann").opens("ann").gets("ann", "a", 2)
    assert kinds(validators.came_twice(story.history)) == [CameTwice]


@pytest.mark.parametrize(("topic", "expected"), [(FRAMES, []), ("c/kept", [CameTwice])])
def test_another_seq_after_a_gap_is_right_only_without_history(story, topic, expected):
    story.joins("ann").gets("ann", "a", 5, topic).gap("ann", topic).gets("ann", "a", 1, topic)
    assert kinds(validators.came_twice(story.history)) == expected


def polled(story, *steps):
    story.joins("ann", opens=False)
    for step in steps:
        if step == "fault":
            story.breaks("kill", "edge-0")
        else:
            story.opens("ann", is_poll=True)
            if step == "broken":
                story.closes("ann")
            else:
                story.gets("ann", "a", 1).closes("ann", 200, answered=True)
    return kinds(validators.came_twice(story.history))


def test_the_same_in_two_polls_needs_something_that_broke(story):
    assert polled(story, "a", "a") == [CameTwice]


@pytest.mark.parametrize("between", ["fault", "broken"])
def test_the_same_in_two_polls_after_a_break_is_right(story, between):
    assert polled(story, "a", between, "a") == []


def test_a_fault_long_ago_explains_nothing(story):
    story.breaks().passes(60)
    assert polled(story, "a", "a") == [CameTwice]


def test_a_message_twice_in_a_history(story):
    story.reads(("a", 1), ("b", 2), ("a", 3))
    assert TakenTwice in kinds(validators.taken_twice(story.history))


def test_clients_and_history_agree_on_the_places(story):
    story.joins("ann", "bob").gets("ann", "a", 1).gets("bob", "a", 1)
    assert validators.taken_twice(story.reads(("a", 1)).history) == []
    story.gets("bob", "b", 2)
    assert kinds(validators.taken_twice(story.reads(("b", 3)).history)) == [TakenTwice]
    story.gets("ann", "c", 2)
    assert TwoInOnePlace in kinds(validators.taken_twice(story.history))


@pytest.mark.parametrize(("lost", "expected"), [(True, []), (False, [TwoInOnePlace])])
def test_a_counter_without_history_may_begin_anew_where_a_gap_was_told(story, lost, expected):
    story.joins("ann", "bob").gets("bob", "a", 1, FRAMES)
    if lost:
        story.gap("bob")
    story.gets("ann", "b", 1, FRAMES)
    assert kinds(validators.taken_twice(story.history)) == expected


# --- order ------------------------------------------------------------------------------------------------------------


def test_a_step_back_on_one_socket(story):
    story.joins("ann").gets("ann", "a", 2).gets("ann", "b", 1)
    assert kinds(validators.out_of_order(story.history)) == [OutOfOrder]


def test_a_repetition_after_a_break_is_no_step_back(story):
    story.joins("ann").gets("ann", "a", 1).gets("ann", "b", 2).closes("ann").opens("ann")
    story.gets("ann", "a", 1).gets("ann", "b", 2).gets("ann", "c", 3)
    assert validators.out_of_order(story.history) == []


def test_something_new_with_an_old_seq_is_a_step_back_even_after_a_break(story):
    story.joins("ann").gets("ann", "a", 5).closes("ann").opens("ann").gets("ann", "b", 1)
    assert kinds(validators.out_of_order(story.history)) == [OutOfOrder]


def test_after_a_gap_a_counter_may_begin_anew(story):
    story.joins("ann").gets("ann", "a", 5, FRAMES).gap("ann").gets("ann", "b", 1, FRAMES)
    assert validators.out_of_order(story.history) == []


def test_the_counter_of_a_channel_with_history_never_begins_anew(story):
    story.joins("ann").gets("ann", "a", 5).gap("ann", "c/kept").gets("ann", "b", 1)
    assert kinds(validators.out_of_order(story.history)) == [OutOfOrder]


def test_a_history_in_the_wrong_order(story):
    story.reads(("a", 2), ("b", 1))
    (found,) = validators.out_of_order(story.history)
    assert (found.where, found.before, found.after) == ("history", 2, 1)


def test_one_publishers_messages_keep_their_order(story):
    story.joins("ann")
    first, second, other = story.says("pub"), story.says("pub"), story.says("other")
    story.gets("ann", other, 1).gets("ann", first, 2).gets("ann", second, 3)
    story.reads((first, 1), (other, 2), (second, 3))
    assert validators.publishers_out_of_order(story.history) == []


def test_one_publishers_messages_in_the_wrong_order(story):
    story.joins("ann")
    first, second = story.says("pub"), story.says("pub")
    story.gets("ann", second, 1).gets("ann", first, 2).reads((second, 1), (first, 2))
    found = validators.publishers_out_of_order(story.history)
    assert kinds(found) == [PublisherOutOfOrder] * 2
    assert {one.where for one in found} == {"ann", "history"}


def test_a_message_of_whom_nobody_knows_has_no_order(story, no_answer):
    story.joins("ann")
    first, second = story.says("pub", "c/kept", no_answer), story.says("pub")
    story.gets("ann", second, 1).gets("ann", first, 2)
    assert validators.publishers_out_of_order(story.history) == []


# --- what should not be there -----------------------------------------------------------------------------------------


def test_what_nobody_said(story):
    story.joins("ann").gets("ann", "a", 1).reads(("b", 1))
    found = validators.phantoms(story.history)
    assert kinds(found) == [Phantom] * 2
    assert {(one.where, one.uuid) for one in found} == {("ann", "a"), ("history", "b")}


def test_what_was_refused(story):
    story.joins("ann").gets("ann", story.says("pub", "c/kept", 507), 1)
    (found,) = validators.phantoms(story.history)
    assert "refused" in found.why


def test_what_may_have_been_taken_may_be_seen(story, no_answer):
    story.joins("ann")
    for statuses in ((no_answer,), (503,), (no_answer, 507)):
        story.gets("ann", story.says("pub", "c/kept", *statuses), 1)
    assert validators.phantoms(story.history) == []


def test_what_was_for_somebody_else(story):
    story.joins("ann", "bob").gets("ann", story.says("pub", "u/bob"), 1, "u/ann")
    (found,) = validators.phantoms(story.history)
    assert "said on u/bob" in found.why


def test_presence_is_no_phantom(story):
    assert validators.phantoms(story.joins("ann").hears("ann", "bob", "joined", 1).history) == []


def test_a_counter_goes_back_only_in_another_epoch(story):
    story.counts(5).counts(5).counts(7).counts(1, epoch="e2").counts(3, epoch="e2").counts(1, "c/kept")
    assert validators.old_epochs(story.history) == []
    (found,) = validators.old_epochs(story.counts(2, epoch="e2").history)
    assert isinstance(found, OldEpoch)
    assert (found.before, found.after) == (3, 2)
