"""The two of Node.js: `ws`, and Socket.IO over websockets alone. Their servers are in node/."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.crowd import upgrade
from bench.peers.installed import COMMAND, NODE_PINS, NODE_SERVERS, is_installed, node_folder, node_version
from bench.peers.server import WEBSOCKET_PATH, Peer

SOCKET_IO_PATH: Final = "/socket.io/?EIO=4&transport=websocket"
"""Without the long-poll that clients of Socket.IO begin with where they are not told otherwise."""

SOCKET_IO_CONNECT: Final = b"\x81\x82\0\0\0\x0040"
"""A masked text frame: for Engine.IO a message (4), for Socket.IO the wish to be connected (0). Without it, it gets
nothing."""
SOCKET_IO_PING: Final = b"\x81\x012"
"""How Engine.IO asks, every 25 s, in a text frame; who does not answer within 20 s is cut off."""
SOCKET_IO_PONG: Final = b"\x81\x81\0\0\0\x003"


class NodePeer(Peer):
    """A server in node/ that is told its port."""

    library: str
    script: str

    def missing(self) -> str | None:
        """Node.js, or the library."""
        if not shutil.which("node"):
            return f"Node.js: apt-get install nodejs npm, then {COMMAND}"
        if not is_installed(node_folder(self._installed), NODE_PINS):
            return f"{self.library} {node_version(self.library)}: {COMMAND}"
        return None

    def command(self, folder: Path, port: int) -> Sequence[str | Path]:
        """See `Peer.command`."""
        return ["node", NODE_SERVERS / self.script, str(port)]

    def environ(self) -> Mapping[str, str]:
        """With the place of the libraries, which are not beside the server."""
        modules = node_folder(self._installed) / "node_modules"
        return {**os.environ, "NODE_PATH": str(modules), "NODE_ENV": "production"}


class Ws(NodePeer):
    """`ws`."""

    name = "ws"
    library = "ws"
    script = "ws.js"

    def requests(self, count: int) -> Iterator[bytes]:
        """Whoever comes is on the channel."""
        for _ in range(count):
            yield upgrade(WEBSOCKET_PATH)


class SocketIo(NodePeer):
    """Socket.IO."""

    name = "socket.io"
    library = "socket.io"
    script = "socketio.js"
    greet = SOCKET_IO_CONNECT
    ping = SOCKET_IO_PING
    pong = SOCKET_IO_PONG

    def requests(self, count: int) -> Iterator[bytes]:
        """Whoever greets is on the channel."""
        for _ in range(count):
            yield upgrade(SOCKET_IO_PATH)
