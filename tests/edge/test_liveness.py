"""The wheel, turned by hand."""

from __future__ import annotations

import pytest

from channelstream.edge.liveness import STEPS, Due, Wheel

PING_S, SILENCE_S = 25.0, 60.0


class Watched:
    """Something that may be heard of."""

    def __init__(self, last_heard: float = 0.0) -> None:
        self.last_heard = last_heard


class Driver:
    """Turns a wheel step by step from the moment 0 and notes when what was asked for."""

    def __init__(self) -> None:
        self.wheel: Wheel[Watched] = Wheel(PING_S, SILENCE_S)
        self.now = 0.0
        self.pinged: list[tuple[float, Watched]] = []
        self.gone: list[tuple[float, Watched]] = []

    def turn_until(self, moment: float) -> None:
        while self.now + self.wheel.step_s <= moment + 1e-9:
            self.now += self.wheel.step_s
            due: Due[Watched] = self.wheel.turn(self.now)
            self.pinged += [(self.now, client) for client in due.ping]
            self.gone += [(self.now, client) for client in due.gone]


def test_a_client_is_pinged_once_an_interval() -> None:
    driver, client = Driver(), Watched()
    driver.wheel.add(client)
    for moment in range(1, 101):
        client.last_heard = driver.now
        driver.turn_until(float(moment))
    assert [moment for moment, _ in driver.pinged] == pytest.approx([25.0, 50.0, 75.0, 100.0])
    assert driver.gone == []


@pytest.mark.parametrize("heard", [0.0, 0.9, 12.0, 24.0])
def test_a_silent_client_is_gone_within_one_step_of_its_time(heard: float) -> None:
    driver, client = Driver(), Watched(heard)
    driver.wheel.add(client)
    driver.turn_until(200.0)
    ((moment, gone),) = driver.gone
    assert gone is client
    assert heard + SILENCE_S <= moment <= heard + SILENCE_S + driver.wheel.step_s + 1e-9


def test_who_is_gone_is_not_pinged_and_not_gone_again() -> None:
    driver, client = Driver(), Watched()
    driver.wheel.add(client)
    driver.turn_until(500.0)
    assert len(driver.gone) == 1
    assert all(moment < driver.gone[0][0] for moment, _ in driver.pinged)


def test_a_word_in_the_last_moment_saves_it() -> None:
    driver, client = Driver(), Watched()
    driver.wheel.add(client)
    driver.turn_until(59.0)
    client.last_heard = 59.5
    driver.turn_until(119.0)
    assert driver.gone == []
    driver.turn_until(121.0)
    assert [gone for _, gone in driver.gone] == [client]


def test_who_is_removed_is_forgotten() -> None:
    driver, client, other = Driver(), Watched(), Watched()
    slot = driver.wheel.add(client)
    driver.wheel.add(other)
    driver.turn_until(55.0)  # a suspect by now
    driver.wheel.remove(client, slot)
    driver.wheel.remove(client, slot)
    driver.turn_until(200.0)
    assert [gone for _, gone in driver.gone] == [other]


def test_clients_are_spread_over_the_steps() -> None:
    driver, clients = Driver(), [Watched(1e9) for _ in range(STEPS)]
    for client in clients:
        driver.wheel.add(client)
        driver.turn_until(driver.now + driver.wheel.step_s)
    driver.pinged.clear()
    driver.turn_until(driver.now + PING_S)
    assert [client for _, client in driver.pinged] == clients[1:] + clients[:1]
    assert len({moment for moment, _ in driver.pinged}) == STEPS
