"""What is recorded, and what it says when it is put together."""

from __future__ import annotations

import json

import pytest

from channelstream.checking.history import Attempt, History, Outcome, Record, as_lines, outcome_of


@pytest.mark.parametrize("status", [0, 302, 500, 502, 503, 504])
def test_what_leaves_a_doubt_is_unknown(status):
    assert outcome_of(status) is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422, 507])
def test_what_says_that_it_did_not_happen_is_failed(status):
    assert outcome_of(status) is Outcome.FAILED


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ((200,), Outcome.OK),
        ((0, 503, 200), Outcome.OK),
        ((0, 503), Outcome.UNKNOWN),
        ((507,), Outcome.FAILED),
        ((0, 507), Outcome.UNKNOWN),  # the first one may have been carried out
    ],
)
def test_a_message_over_its_attempts(story, statuses, outcome):
    story.says("pub", "c/kept", *statuses)
    (message,) = story.history.messages()
    assert (message.outcome, message.attempts) == (outcome, len(statuses))
    assert message.until_answered_s == pytest.approx(len(statuses) * 1.1 - 1)


def test_a_membership_ends_where_the_connection_is_lost_and_another_begins(story):
    story.joins("ann").gets("ann", "x", 1).loses("ann")
    lost_at = story.now
    story.joins("ann").gets("ann", "y", 2).gap("ann")
    first, second = story.history.memberships()
    assert first.until == lost_at
    assert [item.uuid for item in first.streams["c/kept"]] == ["x"]
    assert second.until == float("inf")
    assert [item.uuid for item in second.streams["c/kept"]] == ["y"]
    assert len(second.streams["c/frames"]) == 1


def test_a_line_for_each_record_with_its_kind(story):
    story.joins("ann").gets("ann", story.says("pub"), 1).gap("ann").closes("ann").loses("ann").breaks().reads().ends()
    lines = [json.loads(line) for line in as_lines(story.history).splitlines()]
    assert {line["record"] for line in lines} == {record.__struct_config__.tag for record in Record.__subclasses__()}


def test_adding_while_reading_is_no_harm():
    history = History([Attempt("p", 1, "u", "c/a", 0.0, 1.0, 200)])
    for record in history:
        history.add(record)
    assert len(history.attempts()) == 2
