"""The edge's process: the public port, shared with the other edges, linked to all shards.

NOTE: gevent patches nothing here, nor in the router: all that waits is gevent's own sockets and events, or a libev
watcher. Patching would cost each process a fifth of a second at its start and hide what blocks.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Final

import gevent
from gevent.event import Event

from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import monotonic, real_clock
from channelstream.config import Config, shard_address
from channelstream.edge.frames import CLOSE_GOING_AWAY
from channelstream.edge.link import Link
from channelstream.edge.wsgi import PublicPort
from channelstream.logs import set_up
from channelstream.process import Life, RandomUuids
from channelstream.router.app import make_app
from channelstream.router.service import Service
from channelstream.serving import Server, listen
from channelstream.status import own_status

STOP_WITHIN_S: Final = 1.5
"""Clients that are told to go have this long to answer, and polls and requests to be answered."""

log: Final = logging.getLogger(__name__)


def main(config: Config, index: int) -> int:
    """Run edge number `index`. Returns the exit code."""
    set_up("edge", index, config.log_level, config.debug, sys.stderr)
    life = Life("edge", index, config.run_dir)
    life.begin(os.environ)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    name = f"edge-{index}:{life.incarnation}"
    bus = ZeroMqBus()
    dialers = [bus.dial(name, shard_address(config, shard), config.max_peer_queue) for shard in range(config.shards)]
    link = Link(config, dialers, own_status("edge", index))
    new_uuid = RandomUuids()
    service = Service(link.links, config, real_clock, new_uuid)
    rest = make_app(service, config, real_clock, new_uuid, api=config.public_api)
    app = PublicPort(link, rest, config, new_uuid)
    server = Server(listen(config.host, config.port), app, max_body=config.max_body, counters=link.counters)
    server.start()
    link.start()
    log.info("serving clients on http://%s:%d", config.host, config.port)
    stop.wait()
    go_away(server, link)
    bus.close()
    life.end()
    log.info("stopped")
    return 0


def go_away(server: Server, link: Link) -> None:
    """Take no more, tell everyone to come back, and wait for those who are still being served."""
    until = monotonic() + STOP_WITHIN_S
    server.drain()
    link.close_all(CLOSE_GOING_AWAY)
    while server.open_connections and monotonic() < until:
        gevent.sleep(0.01)
    server.stop(0)
    link.stop()
