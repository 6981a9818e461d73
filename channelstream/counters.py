"""How often something was dropped, refused or given up, since a process began. Pure: plain numbers by name.

Nothing is counted that goes well: a process that is not overloaded never comes here. The names are for operators, who
find them in `/healthz` and `channelstream status --json`; docs/limits.md says what to do about each.
"""

from __future__ import annotations

from typing import Final

SLOW_CLOSED: Final = "slow_closed"
SKIPPED: Final = "skipped"
GAPS_TOLD: Final = "gaps_told"
PEERS_BEHIND: Final = "peers_behind"
PEERS_SILENT: Final = "peers_silent"
ASKS_OVERDUE: Final = "asks_overdue"
ASKS_REFUSED: Final = "asks_refused"
ASKS_STALE: Final = "asks_stale"
UNDECODABLE: Final = "undecodable"
FORMER_OWNERS: Final = "former_owners"
HOLES: Final = "holes"
TELLS_DROPPED: Final = "tells_dropped"
TOO_LARGE: Final = "too_large"
FULL: Final = "full"
REQUESTS_REFUSED: Final = "requests_refused"
BODIES_REFUSED: Final = "bodies_refused"
CLAIMS_REFUSED: Final = "claims_refused"
NOT_STORED: Final = "not_stored"

MEANINGS: Final = {
    SLOW_CLOSED: "clients that were closed with 1008, since they did not read what waited for them",
    SKIPPED: "deliveries that were not given to a slow client, which is told of them with a `gap`",
    GAPS_TOLD: "`gap`s that clients were given, whatever the reason",
    PEERS_BEHIND: "processes whose queue was dropped, since they did not take what waited for them",
    PEERS_SILENT: "processes that were taken for gone, since they had not beaten for too long",
    ASKS_OVERDUE: "asks that a shard did not answer in time: 503",
    ASKS_REFUSED: "asks that could not be sent, since too much waits for the shard: 503",
    ASKS_STALE: "asks that came when their time was over, and were not carried out",
    UNDECODABLE: "batches that are no messages, or of another version, and were dropped",
    FORMER_OWNERS: "batches of a shard's former owner, which were refused",
    HOLES: "times that something was lost on the way between two processes, and attached again",
    TELLS_DROPPED: "attaches, detaches and beats that could not be sent, since too much waits for the shard",
    TOO_LARGE: "messages between processes that no socket would take, and were dropped",
    FULL: "times that a process stopped accepting, since it had as many connections as it may",
    REQUESTS_REFUSED: "HTTP requests that broke a rule or a limit of the server: 400, 408, 413, 414, 431, …",
    BODIES_REFUSED: "HTTP requests that were not taken, since too much of other bodies is in memory: 503",
    CLAIMS_REFUSED: "signatures that were not taken, since too many are remembered (`signature_scope = request`): 503",
    NOT_STORED: "messages that the store did not take: 507",
}
"""Every name, and what it counts."""


class Counters:
    """The counters of one process. Only ever counted up; a new life of the process begins with none."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Final = dict.fromkeys(MEANINGS, 0)

    def count(self, name: str, by: int = 1) -> None:
        """So many more of this. Raises `KeyError` for a name that is not in `MEANINGS`."""
        self._counts[name] += by

    def told(self) -> dict[str, int]:
        """What has happened at all, by name: what is not in it has not."""
        return {name: count for name, count in self._counts.items() if count}
