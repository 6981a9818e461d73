"""The router's process: the REST app on the API's address, linked to all shards.

NOTE: as in the edge, gevent patches nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

import gevent
from msgspec.structs import replace

from channelstream.bus.links import Links
from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import monotonic, real_clock
from channelstream.config import Config, shard_address
from channelstream.leaving import QUICK_ROUTER_S, Leaving, calls_within_s
from channelstream.logs import set_up
from channelstream.process import Life, RandomUuids
from channelstream.router.app import make_app
from channelstream.router.service import Service
from channelstream.serving import Server, listen
from channelstream.status import own_status
from channelstream.stopping import Stopping
from channelstream.wire.messages import ProcessStatus

LOOK_S: Final = 0.01
"""How often it is looked whether the last call has been answered."""

log: Final = logging.getLogger(__name__)


def main(config: Config, index: int) -> int:
    """Run router number `index`. Returns the exit code."""
    set_up("router", index, config.log_level, config.debug, sys.stderr)
    life = Life("router", index, config.run_dir)
    life.begin(os.environ)
    stopping = Stopping(config.run_dir, os.environ)
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
        kept_bytes=config.max_peer_queue,
    )
    new_uuid = RandomUuids()
    service = Service(links, config, real_clock, new_uuid)
    app = make_app(service, config, real_clock, new_uuid)
    listener = listen(config.api_host, config.api_port)
    server = Server(listener, app, max_body=config.max_body, counters=links.counters, quick=app.quick)
    server.start()
    links.start()
    log.info("serving the API on http://%s:%d", config.api_host, config.api_port)
    stopping.wait()
    go_away(server, stopping, calls_within_s(config))
    links.close()
    bus.close()
    life.end()
    log.info("stopped")
    return 0


def go_away(server: Server, stopping: Stopping, within_s: float) -> None:
    """Leave the port, and answer what is still being asked."""
    leaving = Leaving(monotonic(), within_s, QUICK_ROUTER_S)
    server.drain()
    while True:
        now = monotonic()
        if stopping.in_a_hurry:
            leaving.hurry(now)
        if leaving.is_over(now, 0, True, server.is_quiet(now)):
            break
        gevent.sleep(LOOK_S)
    server.stop(0)
