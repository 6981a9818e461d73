"""The thread that waits for the disk: groups in, outcomes out, one after another."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from channelstream.errors import OwnerLost, StoreBroken, StoreError, StoreFull
from channelstream.shard.store.base import Saved, UserForgotten, Write
from channelstream.shard.writer import AtOnce, Committing, Outcome, Writer

PATIENCE_S = 20.0
GROUP = [UserForgotten("ann")]


class SlowStore:
    """Takes each group when it is let to."""

    generation = 1

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.commits: list[list[Write]] = []
        self.error: Exception | None = None
        self.to_tidy = 0
        self.tidied = threading.Semaphore(0)
        self.closed = False
        self.threads: set[str] = set()

    def load(self) -> Saved:
        return Saved()

    def commit(self, writes: Sequence[Write]) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.go.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.commits.append(list(writes))

    def tidy(self) -> bool:
        self.threads.add(threading.current_thread().name)
        self.to_tidy -= 1
        self.tidied.release()
        if self.error is not None:
            raise self.error
        return self.to_tidy > 0

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def writer(store: SlowStore) -> Iterator[Writer]:
    writer = Writer(store)
    writer.start()
    yield writer
    store.go.release(10)
    writer.close()
    assert store.closed


def test_a_group_is_over_when_the_descriptor_says_so(writer: Writer, store: SlowStore) -> None:
    writer.submit(GROUP)
    assert select.select([writer], [], [], 0)[0] == []
    assert writer.finished() is None
    store.go.release()
    assert select.select([writer], [], [], PATIENCE_S)[0] == [writer]
    assert writer.wait() == Outcome()
    assert store.commits == [GROUP]
    assert (writer.finished(), select.select([writer], [], [], 0)[0]) == (None, [])


def test_an_event_that_comes_behind_its_outcome_wakes_nobody_for_good(writer: Writer, store: SlowStore) -> None:
    for taken in range(1, 6):
        store.go.release()
        writer.submit(GROUP)
        assert writer.wait() == Outcome()
        assert len(store.commits) == taken
    if writer._events_due:
        select.select([writer], [], [], PATIENCE_S)
    assert (writer.finished(), select.select([writer], [], [], 0)[0]) == (None, [])
    assert writer._events_due == 0


def test_the_disk_is_another_threads_business(writer: Writer, store: SlowStore) -> None:
    store.go.release()
    writer.submit(GROUP)
    writer.wait()
    assert store.threads == {"writer"}


@pytest.mark.parametrize("error", [StoreFull("full"), StoreBroken("broken"), OwnerLost("lost")])
def test_an_error_of_the_store_is_the_outcome(writer: Writer, store: SlowStore, error: StoreError) -> None:
    store.error = error
    store.go.release(2)
    writer.submit(GROUP)
    assert writer.wait() == Outcome(error)
    store.error = None
    writer.submit(GROUP)
    assert writer.wait() == Outcome()


def test_a_fault_of_ours_counts_as_a_broken_store(writer: Writer, store: SlowStore) -> None:
    store.error = KeyError("x")
    store.go.release()
    writer.submit(GROUP)
    assert isinstance(writer.wait().error, StoreBroken)


def test_with_nothing_to_do_it_tidies_until_there_is_nothing_to_tidy(writer: Writer, store: SlowStore) -> None:
    store.to_tidy = 3
    for _ in range(3):
        assert store.tidied.acquire(timeout=PATIENCE_S)
    assert store.to_tidy <= 0


def test_what_goes_wrong_with_tidying_ends_nothing(writer: Writer, store: SlowStore) -> None:
    store.error = StoreFull("full")
    assert store.tidied.acquire(timeout=PATIENCE_S)
    store.error = None
    store.go.release()
    writer.submit(GROUP)
    assert writer.wait() == Outcome()


@pytest.mark.parametrize("make", [AtOnce, Writer])
def test_with_or_without_a_thread_it_is_the_same(make: Callable[[Any], Any]) -> None:
    store = SlowStore()
    store.go.release(2)
    committing: Committing = make(store)
    if isinstance(committing, Writer):
        committing.start()
    committing.submit(GROUP)
    assert committing.wait() == Outcome()
    store.error = StoreFull("full")
    committing.submit(GROUP)
    assert committing.wait() == Outcome(store.error)
    assert committing.finished() is None
    if isinstance(committing, Writer):
        committing.close()
