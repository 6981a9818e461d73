"""The commands, and the plan of `all`."""

from __future__ import annotations

from typing import Final

from bench.commands import connect, fanout, idle, many_channels, presence, publish, reconnect, scale
from bench.commands.base import Command

COMMANDS: Final[dict[str, Command]] = {
    command.name: command
    for command in (
        fanout.COMMAND,
        many_channels.COMMAND,
        presence.COMMAND,
        connect.COMMAND,
        reconnect.COMMAND,
        publish.COMMAND,
        idle.COMMAND,
        scale.COMMAND,
        fanout.FLOOR,
    )
}

PLAN: Final = [
    line.split()
    for line in (
        "floor --clients 100,2000,10000 --rounds 2",
        "fanout --peers",
        "fanout --clients 200 --peers",
        "fanout --payload 1000,4000 --rounds 2",
        "fanout --clients 100,500,10000 --rounds 2",
        "fanout --full-speed",
        "fanout --load 0.5 --rounds 5",
        "many_channels",
        "presence",
        "connect",
        "connect --channels 5",
        "connect --clients 500 --peers",
        "reconnect",
        "publish --rounds 2",
        "idle",
        "idle --clients 1000 --peers",
        "scale --rounds 2",
    )
]
"""What `all` runs: less than 15 minutes on two cores. With peers there are fewer clients, since the slowest of them
needs 50 ms for each that comes."""
