"""Histories made by hand."""

from __future__ import annotations

from itertools import count

import pytest

from channelstream.checking.history import (
    NO_ANSWER,
    Attempt,
    Closed,
    ConnectionLost,
    Fault,
    GapTold,
    Healed,
    History,
    HistoryRead,
    Joined,
    Opened,
    Received,
    TopicMade,
)

KEPT, FRAMES = "c/kept", "c/frames"


class Story:
    """A history, told step by step. Each step takes a second, unless `passes` says otherwise."""

    def __init__(self) -> None:
        self.history = History()
        self.now = 100.0
        self._numbers: dict[str, count[int]] = {}
        self._sockets: dict[str, int] = {}
        self._told: dict[str, tuple[str, str, int]] = {}
        self.history.add(TopicMade(KEPT, True))
        self.history.add(TopicMade(FRAMES, False))

    def passes(self, seconds: float) -> Story:
        self.now += seconds
        return self

    def joins(self, *clients: str, opens: bool = True) -> Story:
        for client in clients:
            self.passes(1)
            self.history.add(Joined(client, f"conn-{client}", (KEPT, FRAMES, f"u/{client}"), self.now))
            if opens:
                self.opens(client)
        return self

    def opens(self, client: str, is_poll: bool = False) -> Story:
        self.passes(1)
        self._sockets[client] = self._sockets.get(client, 0) + 1
        self.history.add(Opened(client, self._sockets[client], self.now, is_poll))
        return self

    def closes(self, client: str, code: int = 0, answered: bool = False) -> Story:
        self.passes(1)
        self.history.add(Closed(client, self._sockets[client], code, self.now, answered))
        return self

    def loses(self, client: str, code: int = 4002) -> Story:
        self.history.add(ConnectionLost(client, f"conn-{client}", code, self.now))
        return self

    def says(self, publisher: str, topic: str = KEPT, *statuses: int, wait_s: float = 0.1) -> str:
        """One message, answered so at each attempt (200 where nothing is given). Its uuid: publisher and number."""
        number = next(self._numbers.setdefault(publisher, count(1)))
        for status in statuses or (200,):
            self.passes(1)
            asked_at, self.now = self.now, self.now + wait_s
            self.history.add(Attempt(publisher, number, f"{publisher}-{number}", topic, asked_at, self.now, status))
        return f"{publisher}-{number}"

    def gets(self, client: str, uuid: str, seq: int, topic: str = KEPT, catchup: bool = False) -> Story:
        self.passes(0.01)
        socket = self._sockets[client]
        self.history.add(Received(client, socket, topic, "message", uuid, seq, catchup, self.now, "somebody"))
        return self

    def hears(self, client: str, user: str, action: str, seq: int, topic: str = KEPT) -> Story:
        """Presence."""
        self.passes(0.01)
        uuid = f"{action}-{user}-{seq}"
        socket = self._sockets[client]
        self.history.add(Received(client, socket, topic, "presence", uuid, seq, False, self.now, user, action))
        return self

    def gap(self, client: str, topic: str = FRAMES, missed: int | None = None) -> Story:
        self.history.add(GapTold(client, self._sockets[client], topic, missed, self.now))
        return self

    def breaks(self, kind: str = "kill", target: str = "shard-0", for_s: float = 0.0) -> Story:
        self.passes(1)
        self.history.add(Fault(kind, target, (4711,), self.now, self.now + for_s))
        return self

    def reads(self, *messages: tuple[str, int], topic: str = KEPT, epoch: str = "e1", seq: int | None = None) -> Story:
        self.passes(1)
        last = max((seq for _, seq in messages), default=0) if seq is None else seq
        self.history.add(HistoryRead(topic, epoch, last, self.now, messages))
        return self

    def counts(self, seq: int, topic: str = FRAMES, epoch: str = "e1") -> Story:
        self.passes(1)
        self.history.add(HistoryRead(topic, epoch, seq, self.now))
        return self

    def ends(self, *missing: str) -> Story:
        self.history.add(Healed(missing, self.now))
        return self


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def make_story() -> type[Story]:
    return Story


@pytest.fixture
def no_answer() -> int:
    return NO_ANSWER
