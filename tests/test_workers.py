"""Greenlets that are used again."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import gevent
import pytest
from gevent import getcurrent
from gevent.event import Event

from channelstream import workers as workers_module
from channelstream.workers import Workers


def turn() -> None:
    """Until all that can be done has been."""
    for _ in range(3):
        gevent.sleep(0)


@pytest.fixture
def workers() -> Workers:
    return Workers()


def test_what_comes_one_after_another_is_done_by_one(workers: Workers) -> None:
    done: list[tuple[str, Any]] = []
    for name in "abc":
        workers.spawn(lambda name: done.append((name, getcurrent())), name)
        turn()
    assert [name for name, _ in done] == ["a", "b", "c"]
    assert len({worker for _, worker in done}) == 1
    assert workers.idle == 1


def test_nothing_is_done_before_the_next_turn(workers: Workers) -> None:
    done: list[int] = []
    workers.spawn(done.append, 1)
    turn()
    workers.spawn(done.append, 2)
    assert done == [1]
    turn()
    assert done == [1, 2]


def test_what_waits_holds_up_nothing_else(workers: Workers) -> None:
    gate, done = Event(), []

    def wait(name: str) -> None:
        gate.wait()
        done.append(name)

    for name in "abc":
        workers.spawn(wait, name)
    workers.spawn(done.append, "d")
    turn()
    assert done == ["d"]
    gate.set()
    turn()
    assert (sorted(done), workers.idle) == (["a", "b", "c", "d"], 4)


def test_not_more_than_some_are_kept(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "MOST_IDLE", 2)
    done: list[int] = []
    for number in range(5):
        workers.spawn(done.append, number)
    turn()
    assert (done, workers.idle) == ([0, 1, 2, 3, 4], 2)


def test_one_that_fails_is_told_and_goes_on(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(type(gevent.get_hub()), "handle_error", lambda hub, who, *error: told.append(error[0]))
    done: list[int] = []

    def fail() -> None:
        raise KeyError("x")

    workers.spawn(fail)
    turn()
    workers.spawn(done.append, 1)
    turn()
    assert (told, done, workers.idle) == ([KeyError], [1], 1)


def test_what_was_worked_on_is_not_kept(workers: Workers) -> None:
    class Thing:
        def work(self, other: object) -> None: ...

    thing, other = Thing(), Thing()
    gone = [weakref.ref(thing), weakref.ref(other)]
    gc.disable()
    try:
        workers.spawn(thing.work, other)
        del thing, other
        turn()
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()
