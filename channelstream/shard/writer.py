"""The thread that waits for the disk, so that the loop does not.

One group at a time goes in by `submit`; when it is over, `fileno()` is readable and `finished()` says how it went. In
between, with nothing to do, the thread tidies the store in small steps. The store belongs to the thread from `start` to
`close`.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from channelstream.errors import StoreBroken, StoreError
from channelstream.shard.store.base import Store, Write

IDLE_S: Final = 0.05
"""With nothing to store for so long, a step of tidying is done."""

RESTED_S: Final = 5.0
"""With nothing to tidy, it is looked again after so long."""

log: Final = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How a group went."""

    error: StoreError | None = None
    """Why it was not stored; None where it was."""


class Committing(Protocol):
    """What the loop needs: a place to hand groups to."""

    def start(self) -> None:
        """Begin. From here on the store is this one's."""

    def fileno(self) -> int:
        """Readable when a group is over; -1 where each is over at once."""

    def submit(self, writes: Sequence[Write]) -> None:
        """Store a group. The one before it must be over, and its outcome taken."""

    def finished(self) -> Outcome | None:
        """The outcome of the group that is over; None where there is none. Does not wait."""

    def wait(self) -> Outcome:
        """The same, waiting for it."""

    def close(self) -> None:
        """End when all is done that was handed in, and close the store."""


class Writer:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self._groups: Final[queue.SimpleQueue[Sequence[Write] | None]] = queue.SimpleQueue()
        self._outcomes: Final[queue.SimpleQueue[Outcome]] = queue.SimpleQueue()
        self._event: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events_due = 0
        """Outcomes that were taken, without the events of them that were."""
        self._thread: Final = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """See `Committing.start`."""
        self._thread.start()

    def fileno(self) -> int:
        """See `Committing.fileno`."""
        return self._event

    def submit(self, writes: Sequence[Write]) -> None:
        """See `Committing.submit`."""
        self._groups.put(writes)

    def finished(self) -> Outcome | None:
        """See `Committing.finished`."""
        self._take_events()
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self._events_due += 1
        self._take_events()
        return outcome

    def _take_events(self) -> None:
        """Each outcome has one, which may come a moment behind it."""
        if self._events_due > 0:
            with suppress(BlockingIOError):
                self._events_due -= os.eventfd_read(self._event)

    def wait(self) -> Outcome:
        """See `Committing.wait`."""
        outcome = self._outcomes.get()
        self._events_due += 1
        self._take_events()
        return outcome

    def close(self) -> None:
        """See `Committing.close`."""
        self._groups.put(None)
        self._thread.join()
        self._store.close()
        os.close(self._event)

    # --- in the thread ---

    def _run(self) -> None:
        pause_s = IDLE_S
        while True:
            try:
                writes = self._groups.get(timeout=pause_s)
            except queue.Empty:
                pause_s = self._tidy()
                continue
            if writes is None:
                return
            outcome = self._commit(writes)
            # PERF: the outcome first. The event wakes the loop at once, which would find nothing, and turn in vain.
            self._outcomes.put(outcome)
            os.eventfd_write(self._event, 1)
            pause_s = IDLE_S

    def _commit(self, writes: Sequence[Write]) -> Outcome:
        try:
            self._store.commit(writes)
        except StoreError as error:
            return Outcome(error)
        except Exception as error:
            # A fault of ours: what was taken is not known, and nobody may be told that it is safe.
            log.exception("the store failed")
            return Outcome(StoreBroken(f"{type(error).__name__}: {error}"))
        return Outcome()

    def _tidy(self) -> float:
        """How long to pause then. Its faults come back with the next group, which is told to somebody."""
        try:
            return IDLE_S if self._store.tidy() else RESTED_S
        except StoreError as error:
            log.warning("tidying the store: %s", error)
            return RESTED_S


class AtOnce:
    """The same without a thread, for stores that do not wait for a disk."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self._outcome: Outcome | None = None

    def start(self) -> None:
        """See `Committing.start`."""

    def fileno(self) -> int:
        """See `Committing.fileno`."""
        return -1

    def submit(self, writes: Sequence[Write]) -> None:
        """See `Committing.submit`."""
        try:
            self._store.commit(writes)
        except StoreError as error:
            self._outcome = Outcome(error)
        else:
            self._outcome = Outcome()

    def finished(self) -> Outcome | None:
        """See `Committing.finished`."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def wait(self) -> Outcome:
        """See `Committing.wait`."""
        return self.finished() or Outcome()

    def close(self) -> None:
        """See `Committing.close`."""
        self._store.close()
