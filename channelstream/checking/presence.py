"""Whether everybody was there who should be, and how long they had to wait: the rest of what must be true of a history.

Pure, as `validators`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from channelstream.checking.findings import (
    FalseParted,
    Finding,
    LongWait,
    LostConnection,
    NotHealed,
)
from channelstream.checking.history import (
    Closed,
    ConnectionLost,
    Fault,
    Healed,
    History,
    Joined,
    Opened,
)

MOST_WAIT_S: Final = 3.0
"""A killed process is back within 2 s, and its group has a second to notice."""

WAIT_AFTER_STOP_S: Final = 3.0
"""So long after a stopped process goes on, it may still be working off what came meanwhile."""

WINDOW_SLACK_S: Final = 1.0
"""A client is away a little longer than its shard knows, which looks for the end once a second."""

UNAUTHORIZED: Final = 401
"""What a poll or a handshake with an unknown connection is answered."""


def false_parted(history: History, window_s: float) -> list[Finding]:
    """Clients that were told that another one has gone, which had not been away for as long as it may."""
    away = {client: absences(history, client) for client in {record.client for record in _joined(history)}}
    found: list[Finding] = []
    for item in history.received():
        if item.action == "parted" and item.user in away:
            longest = max((min(end, item.at) - start for start, end in away[item.user] if start < item.at), default=0.0)
            if longest < window_s - WINDOW_SLACK_S:
                found.append(FalseParted(item.client, item.topic, item.user, item.at, longest))
    return found


def _joined(history: History) -> list[Joined]:
    return [record for record in history if isinstance(record, Joined)]


def absences(history: History, client: str) -> list[tuple[float, float]]:
    """When a client was neither on a socket nor in a poll: from and to, the last one perhaps without end."""
    joined = [record.at for record in _joined(history) if record.client == client]
    found: list[tuple[float, float]] = []
    left_at: float | None = joined[0] if joined else None
    for record in history.sockets(client):
        if isinstance(record, Opened):
            if left_at is not None:
                found.append((left_at, record.at))
            left_at = None
        else:
            left_at = record.at
    return found if left_at is None else [*found, (left_at, float("inf"))]


def lost_connections(history: History, window_s: float) -> list[Finding]:
    """Clients that were told to connect anew, and had not been away for too long."""
    found: list[Finding] = []
    seen_at: dict[str, float] = {}
    """Client → when it was last known to its server."""
    for record in history:
        if isinstance(record, Joined) or (isinstance(record, Closed) and record.code != UNAUTHORIZED):
            seen_at[record.client] = record.at
        elif isinstance(record, ConnectionLost):
            away_s = record.at - seen_at[record.client]
            if away_s < window_s - WINDOW_SLACK_S:
                found.append(LostConnection(record.client, record.conn_id, record.code, record.at, away_s))
    return found


# --- how long it took -------------------------------------------------------------------------------------------------


def long_waits(history: History) -> list[Finding]:
    """Requests whose answer, or whose failure, took longer than `MOST_WAIT_S`, while no process was stopped."""
    stops = [fault for fault in history.faults() if fault.kind == "stop"]
    return [
        LongWait(attempt.publisher, attempt.uuid, attempt.wait_s, attempt.status, attempt.asked_at)
        for attempt in history.attempts()
        if attempt.wait_s > MOST_WAIT_S and not _overlaps(attempt.asked_at, attempt.ended_at, stops)
    ]


def _overlaps(since: float, until: float, stops: Iterable[Fault]) -> bool:
    return any(stop.at <= until and since <= stop.until + WAIT_AFTER_STOP_S for stop in stops)


def not_healed(history: History) -> list[Finding]:
    """Processes that were not ready at the end."""
    last = next((record for record in reversed(list(history)) if isinstance(record, Healed)), None)
    return [NotHealed(process) for process in (last.missing if last else ())]
