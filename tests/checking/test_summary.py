"""The numbers, the verdict, and the text."""

from __future__ import annotations

import msgspec
import pytest

from channelstream.checking.summary import LEAST_OK_PER_S, Plan, Summary, Verdict, as_text, kind_of, summarise

PLAN = Plan(seconds=2.0, faults=0, targets=(), window_s=30.0, seed=7)


def sound(story, messages=20):
    """So many messages that reached two clients, and the history."""
    story.joins("ann", "bob")
    places = []
    for seq in range(1, messages + 1):
        uuid = story.says("pub")
        story.gets("ann", uuid, seq).gets("bob", uuid, seq)
        places.append((uuid, seq))
    return story.reads(*places).ends()


def test_green(story):
    summary = summarise(sound(story).history, PLAN, 0.0)
    assert (summary.verdict, summary.ok, summary.deliveries) == (Verdict.GREEN, 20, 40)
    assert (summary.failed, summary.unknown, summary.gaps, summary.reconnects, summary.repeats) == (0,) * 5
    assert as_text(summary).startswith("green: 20 messages")


def test_findings_come_first_even_where_little_happened(story, no_answer):
    sound(story, 5)
    story.says("pub")
    story.says("pub", "c/kept", no_answer)
    summary = summarise(story.history, PLAN, 0.0)
    assert summary.verdict is Verdict.FINDINGS
    assert summary.counts == {"lost from history": 1, "lost for a client": 2}
    text = as_text(summary)
    assert text.startswith("NOT GREEN: 1 × lost from history, 2 × lost for a client")
    assert "ann: message 6 of pub" in text
    assert "1 unknown" in text


def test_many_findings_of_a_kind_are_cut(story):
    sound(story)
    for _ in range(9):
        story.says("pub")
    text = as_text(summarise(story.history, PLAN, 0.0))
    assert text.count("not in the history") == 5
    assert "… and 4 more" in text


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (msgspec.structs.replace(PLAN, seconds=20 / LEAST_OK_PER_S + 1), "messages a second were taken"),
        (msgspec.structs.replace(PLAN, seconds=5.0), "deliveries a second"),
        (msgspec.structs.replace(PLAN, faults=4), "0 of 4 faults were carried out"),
        (msgspec.structs.replace(PLAN, targets=("kill shard",)), "there was no kill shard"),
    ],
)
def test_too_little_says_nothing(story, plan, reason):
    summary = summarise(sound(story).history, plan, 0.0)
    assert summary.verdict is Verdict.INVALID
    assert reason in as_text(summary)
    assert as_text(summary).startswith("INVALID")


def test_a_history_that_was_not_read_says_nothing(make_story):
    story = make_story()
    story.joins("ann")
    summary = summarise(story.history, PLAN, 0.0)
    assert "c/kept was not read at the end" in summary.invalid


def test_the_time_from_a_fault_to_what_was_said_after_it(story):
    story.joins("ann", "bob")
    before = story.says("pub")
    story.breaks("kill", "edge-1")
    fault_at = story.now
    after = story.says("pub")
    story.gets("ann", before, 1).gets("ann", after, 2)
    ann_s = story.now - fault_at
    story.passes(4).gets("bob", before, 1).gets("bob", after, 2)
    bob_s = story.now - fault_at
    (recovery,) = summarise(story.history, PLAN, fault_at - 3).recoveries
    assert (recovery.fault, recovery.never) == ("kill edge-1", 0)
    assert recovery.at_s == pytest.approx(3)
    assert recovery.max_s == pytest.approx(bob_s)
    assert recovery.p50_s == pytest.approx((ann_s + bob_s) / 2)


def test_who_gets_nothing_after_a_fault_is_told(story):
    story.joins("ann", "bob").breaks()
    story.gets("ann", story.says("pub"), 1)
    summary = summarise(story.history, PLAN, 0.0)
    assert summary.recoveries[0].never == 1
    assert "1 × never" in as_text(summary)


def test_reconnects_repeats_and_polls(story):
    story.joins("ann").joins("bob", opens=False)
    uuid = story.says("pub")
    story.gets("ann", uuid, 1).closes("ann").opens("ann").gets("ann", uuid, 1)
    story.opens("bob", is_poll=True).closes("bob").opens("bob", is_poll=True).closes("bob", 200, answered=True)
    summary = summarise(story.history, PLAN, 0.0)
    assert (summary.reconnects, summary.repeats, summary.broken_polls) == (1, 1, 1)


def test_faults_by_kind(story):
    story.breaks("stop", "edge-12").breaks("kill", "all")
    assert [kind_of(fault) for fault in story.history.faults()] == ["stop edge", "kill all"]


def test_it_travels_as_json(story):
    sound(story).says("pub")
    summary = summarise(story.breaks().history, PLAN, 0.0)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary
