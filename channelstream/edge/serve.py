"""The edge's process: the public port, shared with the other edges, linked to all shards.

NOTE: gevent patches nothing here, nor in the router: all that waits is gevent's own sockets and events, or a libev
watcher. Patching would cost each process a fifth of a second at its start and hide what blocks.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import Final

import gevent

from channelstream.bus.zeromq import ZeroMqBus
from channelstream.clock import monotonic, real_clock
from channelstream.config import Config, shard_address
from channelstream.edge.link import Link
from channelstream.edge.sending import IS_NATIVE
from channelstream.edge.wsgi import PublicPort
from channelstream.leaving import QUICK_S, Leaving, edge_within_s
from channelstream.logs import set_up
from channelstream.process import Life, RandomUuids, RunDir
from channelstream.router.app import make_app
from channelstream.router.service import Service
from channelstream.serving import Server, listen
from channelstream.status import own_status
from channelstream.stopping import Stopping

LOOK_S: Final = 0.01
"""How often it is looked whose turn to go it is, and who is still there."""

log: Final = logging.getLogger(__name__)


def main(config: Config, index: int) -> int:
    """Run edge number `index`. Returns the exit code."""
    set_up("edge", index, config.log_level, config.debug, sys.stderr)
    life = Life("edge", index, config.run_dir)
    life.begin(os.environ)
    stopping = Stopping(config.run_dir, os.environ)
    name = f"edge-{index}:{life.incarnation}"
    bus = ZeroMqBus()
    dialers = [bus.dial(name, shard_address(config, shard), config.max_peer_queue) for shard in range(config.shards)]
    link = Link(config, dialers, own_status("edge", index))
    new_uuid = RandomUuids()
    service = Service(link.links, config, real_clock, new_uuid)
    rest = make_app(service, config, real_clock, new_uuid, api=config.public_api)
    app = PublicPort(link, rest, config, new_uuid)
    listener = listen(config.host, config.port)
    server = Server(
        listener, app, max_body=config.max_body, counters=link.counters, quick=rest.quick, opening=app.opens
    )
    # PERF: what there is now lives as long as the process. Looking through it again, as thousands of clients come, is a
    # thirtieth of what they cost.
    gc.freeze()
    server.start()
    link.start()
    if not IS_NATIVE:
        log.warning("built without its C part, as no compiler was there: each delivery costs half as much again")
    log.info("serving clients on http://%s:%d", config.host, config.port)
    stopping.wait()
    at_once = stopping.in_a_hurry or is_alone(life.run_dir, life.name)
    spread_s = 0.0 if at_once else config.drain_seconds
    go_away(server, link, stopping, spread_s, edge_within_s(config))
    bus.close()
    life.end()
    log.info("stopped")
    return 0


def go_away(server: Server, link: Link, stopping: Stopping, spread_s: float, within_s: float) -> None:
    """Leave the port, send everyone away, and wait for those who are still being served."""
    leaving = Leaving(monotonic(), within_s, QUICK_S)
    server.drain()
    link.leave(spread_s)
    while True:
        if stopping.in_a_hurry and not leaving.hurried:
            leaving.hurry(monotonic())
            link.hurry()
        all_told, now = link.send_away(), monotonic()
        if leaving.is_over(now, server.taken_connections, all_told, server.is_quiet(now)):
            break
        gevent.sleep(LOOK_S)
    server.stop(0)
    # What was told last is with the shards when they answer; where the group ends, nobody waits for a shard that hangs.
    gevent.spawn(link.settle).join(QUICK_S if stopping.in_a_hurry else None)
    link.stop()


def is_alone(run_dir: RunDir, name: str) -> bool:
    """Whether no other edge is there for the clients: then the sooner this one is back, the better."""
    return not any(other.startswith("edge-") and other != name for other in run_dir.held_locks())
