"""The router's process: the REST app on the API's address, linked to all shards.

NOTE: as in the edge, gevent patches nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Final

import gevent
from gevent.event import Event
from msgspec.structs import replace

from channelstream.bus.links import Links
from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import real_clock
from channelstream.config import Config, shard_address
from channelstream.logs import set_up
from channelstream.process import Life, RandomUuids
from channelstream.router.app import make_app
from channelstream.router.service import Service
from channelstream.serving import Server, listen
from channelstream.status import own_status
from channelstream.wire.messages import ProcessStatus

STOP_WITHIN_S: Final = 0.8
"""Requests that are being answered get this long at the end; each has its own deadline below it."""

log: Final = logging.getLogger(__name__)


def main(config: Config, index: int) -> int:
    """Run router number `index`. Returns the exit code."""
    set_up("router", index, config.log_level, config.debug, sys.stderr)
    life = Life("router", index, config.run_dir)
    life.begin(os.environ)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    own = own_status("router", index)
    name = f"router-{index}:{life.incarnation}"
    bus = ZeroMqBus()
    dialers = [bus.dial(name, shard_address(config, shard), config.max_peer_queue) for shard in range(config.shards)]

    def status() -> ProcessStatus:
        ready, counters = links.ready and server.started, links.counters.told()
        return replace(own, ready=ready, queue_bytes=links.waiting_bytes(), counters=counters)

    links = Links(
        dialers,
        config.ask_timeout,
        on_push=lambda shard, message: None,
        on_session=lambda shard: None,
        on_turn=lambda: None,
        status=status,
        cursors=lambda shard: {},
    )
    new_uuid = RandomUuids()
    service = Service(links, config, real_clock, new_uuid)
    app = make_app(service, config, real_clock, new_uuid)
    server = Server(listen(config.api_host, config.api_port), app, max_body=config.max_body, counters=links.counters)
    server.start()
    links.start()
    log.info("serving the API on http://%s:%d", config.api_host, config.api_port)
    stop.wait()
    server.drain()
    server.stop(STOP_WITHIN_S)
    links.close()
    bus.close()
    life.end()
    log.info("stopped")
    return 0
