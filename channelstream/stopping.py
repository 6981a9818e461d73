"""How a process with gevent's loop is asked to end: by which signals, and whether the whole group ends with it.

SIGTERM asks it to leave in good order: that is how one process is restarted, by whoever it may be. SIGINT, a second
signal, or the end of the whole group ask it to be quick. Only supervisord knows of the latter, and sends the same
signal for both: so it is asked.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Final

import gevent
from gevent.event import Event

from channelstream.process import SUPERVISED, parent_is_gone
from channelstream.supervision import GroupState, group_state

ASK_EVERY_S: Final = 0.3
"""How often supervisord is asked while a process leaves: the group may end while one of it is restarted."""


class Stopping:
    """What this process was asked. Make it once, in the process that it is about: it takes the signals."""

    def __init__(self, run_dir: str, environ: Mapping[str, str]) -> None:
        self.in_a_hurry = False
        """Whether to be quick. May become true at any time."""
        self._run_dir: Final = run_dir
        self._supervised: Final = SUPERVISED in environ
        self._asked: Final = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._take, number)

    def wait(self) -> None:
        """Returns when the process is asked to end, and it is known whether the group ends with it. That is asked again
        and again from then on."""
        self._asked.wait()
        if self._supervised:
            self._look()
            gevent.spawn(self._watch)

    def _take(self, number: int) -> None:
        if number == signal.SIGINT or self._asked.is_set():
            self.in_a_hurry = True
        self._asked.set()

    def _watch(self) -> None:
        while not self.in_a_hurry:
            gevent.sleep(ASK_EVERY_S)
            self._look()

    def _look(self) -> None:
        """NOTE: in a thread, since this process goes on serving meanwhile."""
        state: GroupState = gevent.get_hub().threadpool.apply(group_state, (self._run_dir,))
        if state is GroupState.ENDING or parent_is_gone():
            self.in_a_hurry = True
