"""Other servers that do the same, to be measured beside ours. See README.md here."""

from __future__ import annotations

from pathlib import Path

from bench.peers.channelstream_0_7_1.peer import OldChannelstream
from bench.peers.installed import DEFAULT_FOLDER
from bench.peers.nchan import Nchan
from bench.peers.nodes import SocketIo, Ws
from bench.peers.server import Peer


def all_peers(installed: Path = DEFAULT_FOLDER) -> list[Peer]:
    """One of each, fast to slow. `installed`: the folder that they were installed into."""
    return [Nchan(installed), Ws(installed), SocketIo(installed), OldChannelstream(installed)]
