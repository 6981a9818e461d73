"""Turns, on a system that may lose messages."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench import stand as stand_module
from bench.crowd import LostClients
from bench.floor import Floor, FloorSender
from bench.progress import Progress
from bench.publisher import Order
from bench.stand import Stand
from bench.systems import Message

pytestmark = pytest.mark.skipif(Floor().missing() is not None, reason="no C compiler")


class Careless(FloorSender):
    """Loses each message of an odd length."""

    def send(self, messages: Sequence[Message]) -> None:
        super().send([message for message in messages if len(message.text) % 2 == 0])


class CarelessFloor(Floor):
    def sender(self) -> FloorSender:
        return Careless(self._child.stdin.fileno())


def test_windows_until_the_time_is_over() -> None:
    with Stand(Floor(), 3, Progress()) as stand:
        turn = stand.run_all([Order(10), Order(10), Order(10)], 60.0)
        assert (turn.messages, turn.deliveries, turn.lost) == (30, 90, 0)
        assert stand.run_all([Order(10), Order(10)], 0.0).messages == 10


def test_what_was_not_published_in_time_is_not_missed() -> None:
    with Stand(Floor(), 3, Progress()) as stand:
        turn = stand.run(Order(1000, rate=100, at_most_s=0.05))
        assert turn.lost == 0
        assert turn.deliveries == turn.messages * 3
        assert 0 < turn.messages < 1000


def test_what_does_not_come_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_module, "STALLED_S", 0.1)
    with Stand(CarelessFloor(), 3, Progress()) as stand:
        assert stand.run(Order(5, size=80)).lost == 0
        assert stand.run(Order(5, size=81)).lost == 15
        with pytest.raises(LostClients, match="3 of 3"):
            stand.fit(162)


def test_a_message_for_some_of_them() -> None:
    with Stand(Floor(), 4, Progress(), reach=4) as stand:
        assert stand.run(Order(5)).lost == 0


def test_nobody_there_is_waited_for_until_all_is_published() -> None:
    with Stand(Floor(), 0, Progress()) as stand:
        turn = stand.run(Order(5, rate=100))
        assert (turn.messages, turn.deliveries, turn.lost) == (5, 0, 0)
        assert turn.took_s >= 0.05
