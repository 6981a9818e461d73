"""A history in numbers, whether it says enough to be believed, and the text that a person reads. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from statistics import median
from typing import Final

from msgspec import Struct

from channelstream.checking.findings import AnyFinding, Finding
from channelstream.checking.history import (
    ALL_AT_ONCE,
    Closed,
    Fault,
    GapTold,
    History,
    Message,
    Opened,
    Outcome,
    Received,
)
from channelstream.checking.validators import all_findings, last_reads

LEAST_OK_PER_S: Final = 5.0
"""Messages a second that have to be taken. With fewer, a fault that heals within 200 ms may meet none."""

LEAST_DELIVERIES_PER_S: Final = 10.0
"""The same for what clients got: two clients for each of those messages, for what one says is only believed with
another one beside it."""

LEAST_FAULTS: Final = 0.75
"""The share of the planned faults that has to be carried out. The last one may find the run over, and one may find
that the process it was meant for is not back yet."""

SHOWN_OF_A_KIND: Final = 5
"""Findings of one kind that are written out; `--json` has all of them. One fault may lose thousands of messages."""


class Verdict(Enum):
    """What a run says."""

    GREEN = "nothing is wrong"
    FINDINGS = "something is wrong"
    INVALID = "too little happened to say anything"


class Recovery(Struct, frozen=True):
    """How long clients waited after a fault for something that was said after it. Each client counts once for each of
    its channels; private messages are too rare to tell."""

    fault: str
    at_s: float
    """Seconds from the start of the run."""
    max_s: float | None
    """None where nothing came."""
    p50_s: float | None
    never: int
    """On how many topics of how many clients nothing came that was said after it, although something was."""


class Plan(Struct, frozen=True):
    """What a run was meant to do."""

    seconds: float
    """For how long messages were published."""
    faults: int
    targets: tuple[str, ...]
    """`kill shard`, `stop edge`, `kill all`: each has to come at least once."""
    window_s: float
    """How long a client may be away."""
    seed: int


class Summary(Struct, frozen=True):
    """Everything that is told of a run."""

    verdict: Verdict
    plan: Plan
    requests: int
    ok: int
    failed: int
    unknown: int
    deliveries: int
    repeats: int
    """Deliveries that came to a client once more, after a break."""
    gaps: int
    reconnects: int
    """Sockets beyond each client's first one. Polls do not count."""
    broken_polls: int
    longest_wait_s: float
    """For the answer of one request."""
    longest_until_ok_s: float
    """From the first request of a message until it was taken."""
    recoveries: tuple[Recovery, ...]
    counts: dict[str, int]
    """Kind of finding → how many."""
    findings: tuple[AnyFinding, ...]
    invalid: tuple[str, ...]
    """Why the run says nothing, where it does not."""


def summarise(history: History, plan: Plan, began_at: float) -> Summary:
    """Judge a run. `began_at`: when the first message was published."""
    findings = all_findings(history, plan.window_s)
    reasons = tuple(invalid(history, plan))
    verdict = Verdict.FINDINGS if findings else Verdict.INVALID if reasons else Verdict.GREEN
    messages, attempts, received = history.messages(), history.attempts(), history.received()
    outcomes = Counter(message.outcome for message in messages)
    sockets = [record for record in history if isinstance(record, Opened) and not record.is_poll]
    polls = {(record.client, record.socket) for record in history if isinstance(record, Opened) and record.is_poll}
    closed = [record for record in history if isinstance(record, Closed) and not record.answered]
    taken = [message for message in messages if message.outcome is Outcome.OK]
    return Summary(
        verdict=verdict,
        plan=plan,
        requests=len(attempts),
        ok=outcomes[Outcome.OK],
        failed=outcomes[Outcome.FAILED],
        unknown=outcomes[Outcome.UNKNOWN],
        deliveries=len(received),
        repeats=_repeats(received),
        gaps=sum(isinstance(record, GapTold) for record in history),
        reconnects=len(sockets) - len({record.client for record in sockets}),
        broken_polls=sum((record.client, record.socket) in polls for record in closed),
        longest_wait_s=max((attempt.wait_s for attempt in attempts), default=0.0),
        longest_until_ok_s=max((message.until_answered_s for message in taken), default=0.0),
        recoveries=tuple(recovery(fault, history, taken, began_at) for fault in history.faults()),
        counts=dict(Counter(finding.kind for finding in findings)),
        findings=tuple(findings),  # type: ignore[arg-type]  # every finding is one of the union
        invalid=reasons,
    )


def _repeats(received: Iterable[Received]) -> int:
    counts = Counter((item.client, item.topic, item.type, item.uuid) for item in received)
    return sum(count - 1 for count in counts.values())


def recovery(fault: Fault, history: History, taken: Iterable[Message], began_at: float) -> Recovery:
    """How long it took each client and topic after one fault."""
    after = {
        message.uuid: message.topic
        for message in taken
        if message.asked_at >= fault.at and message.topic.startswith("c/")
    }
    topics = set(after.values())
    first: dict[tuple[str, str], float] = {}
    for item in history.received():
        if item.uuid in after:
            first.setdefault((item.client, item.topic), item.at - fault.at)
    expected = {
        (one.client, topic)
        for one in history.memberships()
        if one.since <= fault.at < one.until
        for topic in one.topics
        if topic in topics
    }
    waits = [first[pair] for pair in expected if pair in first]
    return Recovery(
        fault=str(fault),
        at_s=fault.at - began_at,
        max_s=max(waits, default=None),
        p50_s=median(waits) if waits else None,
        never=len(expected) - len(waits),
    )


def invalid(history: History, plan: Plan) -> list[str]:
    """Why a run without findings would say nothing."""
    ok = sum(message.outcome is Outcome.OK for message in history.messages())
    deliveries = len(history.received())
    faults = history.faults()
    reasons: list[str] = []
    if ok < LEAST_OK_PER_S * plan.seconds:
        reasons.append(f"{ok / plan.seconds:.1f} messages a second were taken, expected {LEAST_OK_PER_S} at least")
    if deliveries < LEAST_DELIVERIES_PER_S * plan.seconds:
        least = f"expected {LEAST_DELIVERIES_PER_S} at least"
        reasons.append(f"clients got {deliveries / plan.seconds:.1f} deliveries a second, {least}")
    if len(faults) < LEAST_FAULTS * plan.faults:
        reasons.append(f"{len(faults)} of {plan.faults} faults were carried out")
    carried_out = {kind_of(fault) for fault in faults}
    reasons += [f"there was no {target}" for target in plan.targets if target not in carried_out]
    reads = last_reads(history)
    reasons += [
        f"{topic} was not read at the end" for topic, keeps in history.topics().items() if keeps > (topic in reads)
    ]
    return reasons


def kind_of(fault: Fault) -> str:
    """A fault without the number of its process: `kill shard`."""
    return str(fault) if fault.target == ALL_AT_ONCE else str(fault).rpartition("-")[0]


# --- what a person reads ----------------------------------------------------------------------------------------------


def as_text(summary: Summary) -> str:
    """The verdict first, then the findings, then the numbers."""
    parts = [verdict_lines(summary), finding_lines(summary), number_lines(summary), fault_lines(summary)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def verdict_lines(summary: Summary) -> list[str]:
    """One line, and the reasons of an invalid run."""
    if summary.verdict is Verdict.GREEN:
        return [f"green: {summary.ok} messages were taken, and nothing is wrong with any of them"]
    if summary.verdict is Verdict.FINDINGS:
        counts = ", ".join(f"{count} × {kind}" for kind, count in summary.counts.items())
        return [f"NOT GREEN: {counts}", *[f"  also: {reason}" for reason in summary.invalid]]
    return ["INVALID: this run says nothing", *[f"  {reason}" for reason in summary.invalid]]


def finding_lines(summary: Summary) -> list[str]:
    """The first few of each kind."""
    lines: list[str] = []
    for kind, count in summary.counts.items():
        alike: Sequence[Finding] = [one for one in summary.findings if one.kind == kind]
        lines.append(f"{kind} ({count})")
        lines += [f"  {finding}" for finding in alike[:SHOWN_OF_A_KIND]]
        if count > SHOWN_OF_A_KIND:
            lines.append(f"  … and {count - SHOWN_OF_A_KIND} more")
    return lines


def number_lines(summary: Summary) -> list[str]:
    """The numbers of the run."""
    outcomes = f"{summary.ok} ok, {summary.failed} failed, {summary.unknown} unknown"
    rows = {
        "messages": f"{outcomes}, in {summary.requests} requests",
        "deliveries": f"{summary.deliveries}, {summary.repeats} of them again after a break; {summary.gaps} gaps told",
        "clients": f"{summary.reconnects} sockets opened again, {summary.broken_polls} polls broken",
        "longest wait": f"{summary.longest_wait_s:.2f} s for an answer, "
        f"{summary.longest_until_ok_s:.2f} s until a message was taken, with all repetitions",
        "seed": str(summary.plan.seed),
    }
    return [f"{name:<13} {text}" for name, text in rows.items()]


def fault_lines(summary: Summary) -> list[str]:
    """A line for each fault."""
    if not summary.recoveries:
        return []
    lines = [f"{'fault':<16} {'at':>8}  first delivery after it: {'p50':>8} {'max':>8}"]
    for one in summary.recoveries:
        never = f"  {one.never} × never" if one.never else ""
        p50, longest = _seconds(one.p50_s), _seconds(one.max_s)
        lines.append(f"{one.fault:<16} {one.at_s:>6.1f} s  {'':<24} {p50:>8} {longest:>8}{never}")
    return lines


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
