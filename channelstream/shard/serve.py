"""The shard's process: locks its place, binds its socket, turns its loop until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Final

from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import real_clock
from channelstream.config import Config, shard_address
from channelstream.logs import set_up
from channelstream.process import Life, RandomUuids
from channelstream.shard.core import Settings, Shard
from channelstream.shard.loop import Loop
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.writer import AtOnce
from channelstream.status import own_status

log: Final = logging.getLogger(__name__)


class Stop:
    """Whether a signal has asked for the end."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def main(config: Config, index: int) -> int:
    """Run shard number `index`. Returns the exit code."""
    set_up("shard", index, config.log_level, config.debug, sys.stderr)
    life = Life("shard", index, config.run_dir)
    life.begin(os.environ)
    stopping = Stop()
    now = real_clock()
    store = MemoryStore()
    settings = Settings(config.gc_conns_after, config.gc_channels_after, keeps=False)
    shard = Shard(own_status("shard", index), settings, RandomUuids(), store.load(), now)
    bus = ZeroMqBus()
    # A later life of this shard has a higher generation, so that what an earlier one still sends is refused.
    listener = bus.listen(shard_address(config, index), int(now.wall * 1e6), config.max_peer_queue)
    log.info("listening")
    try:
        Loop(shard, listener, AtOnce(store), real_clock).run(stopping)
    finally:
        listener.close()
        bus.close()
        store.close()
        life.end()
    log.info("stopped")
    return 0
