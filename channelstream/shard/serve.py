"""The shard's process: locks its place, binds its socket, turns its loop until it is told to stop."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from types import FrameType
from typing import Final

from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import real_clock
from channelstream.config import Config, shard_address
from channelstream.errors import OwnerLost, StoreError
from channelstream.logs import set_up
from channelstream.process import EXIT_FAILED, EXIT_OK, Life, RandomUuids
from channelstream.shard.core import Settings, Shard
from channelstream.shard.loop import Loop
from channelstream.shard.store.opening import open_store
from channelstream.shard.writer import AtOnce, Committing, Writer
from channelstream.status import own_status

log: Final = logging.getLogger(__name__)


class Stop:
    """Whether a signal has asked for the end."""

    def __init__(self) -> None:
        self._asked = False
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def fileno(self) -> int:
        """Readable from then on. A wait that a signal interrupts goes on by itself (PEP 475)."""
        return self._woken

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def main(config: Config, index: int) -> int:
    """Run shard number `index`. Returns the exit code. Raises `DataDirRefused` where its store cannot be used."""
    set_up("shard", index, config.log_level, config.debug, sys.stderr)
    life = Life("shard", index, config.run_dir)
    life.begin(os.environ)
    try:
        return run(config, index, life)
    finally:
        life.end()


def run(config: Config, index: int, life: Life) -> int:
    """The life of a shard that has its place."""
    stopping = Stop()
    now = real_clock()
    # PERF: there is no garbage in what comes from the store, and looking for some doubles the time of a start.
    gc.disable()
    store = open_store(config, index, now)
    settings = Settings(config.gc_conns_after, config.gc_channels_after, keeps=config.store != "memory")
    shard = Shard(own_status("shard", index), settings, RandomUuids(), store.load(), now)
    gc.freeze()
    gc.enable()
    bus = ZeroMqBus()
    # A later life of this shard has a higher generation, so that what an earlier one still sends is refused.
    listener = bus.listen(shard_address(config, index), store.generation, config.max_peer_queue)
    listener.wake_on(stopping.fileno())
    writer: Committing = Writer(store) if settings.keeps else AtOnce(store)
    writer.start()
    log.info("listening")
    try:
        Loop(shard, listener, writer, real_clock, life.has_place).run(stopping)
    except OwnerLost as error:
        log.critical("%s: ending at once", error)
        # Not in good order: the socket's file and the database are another one's.
        os._exit(EXIT_FAILED)
    except StoreError as error:
        # Who asked is not answered, and asks the next life again.
        log.critical("the store can not be used any more: %s", error)
        return EXIT_FAILED
    finally:
        listener.close()
        bus.close()
        writer.close()
    log.info("stopped")
    return EXIT_OK
