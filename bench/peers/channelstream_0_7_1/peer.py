"""The system: starts it in its virtual environment, connects users and publishes with its own calls."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.calls import Backend
from bench.crowd import upgrade
from bench.peers.installed import (
    CHANNELSTREAM_PINS,
    CHANNELSTREAM_SERVER,
    COMMAND,
    channelstream_folder,
    is_installed,
)
from bench.peers.server import CHANNEL, WEBSOCKET_PATH, Peer
from bench.processes import HOST
from bench.systems import Message

SECRET: Final = "a secret for measuring"

CONFIG: Final = """\
[channelstream]
host = {host}
port = {port}
secret = {secret}
admin_secret = {secret}
allow_posting_from = {host}
log_level = WARNING
"""


def config(port: int) -> str:
    """What it reads."""
    return CONFIG.format(host=HOST, port=port, secret=SECRET)


def message_body(messages: Sequence[Message]) -> list[dict[str, object]]:
    """What is posted to /message."""
    return [{"user": CHANNEL, "channel": CHANNEL, "message": message.fields()} for message in messages]


class ApiSender:
    """Posts to /message: see `bench.systems.Sender`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._backend: Final = Backend(address, SECRET)

    def send(self, messages: Sequence[Message]) -> None:
        """All in one request."""
        self._backend.send("/message", json.dumps(message_body(messages), separators=(",", ":")).encode())

    def close(self) -> None:
        """No more."""
        self._backend.close()


class OldChannelstream(Peer):
    """One process that does everything."""

    name = "channelstream 0.7.1"
    batches = True

    def missing(self) -> str | None:
        """Its environment."""
        there = is_installed(channelstream_folder(self._installed), CHANNELSTREAM_PINS)
        return None if there else f"{self.name}: {COMMAND}"

    def command(self, folder: Path, port: int) -> Sequence[str | Path]:
        """See `Peer.command`."""
        file = folder / "channelstream.ini"
        file.write_text(config(port))
        # Isolated (-I), as there is a newer `channelstream` in the folder that the bench is run in.
        python = channelstream_folder(self._installed) / "bin" / "python"
        return [python, "-I", CHANNELSTREAM_SERVER / "start.py", "--ini", file]

    def requests(self, count: int) -> Iterator[bytes]:
        """As many users on one channel."""
        # Without its users in the answer: each new one would be told of all others.
        return self.connections([[CHANNEL]] * count, info={"include_users": False})

    def connections(self, channels: Sequence[Sequence[str]], **fields: object) -> Iterator[bytes]:
        """A user for each of these lists of channels: /connect as it is asked for, then its opening request. `fields`:
        more of the /connect."""
        backend = Backend(self.address, SECRET)
        for number, own in enumerate(channels):
            conn_id = str(uuid.uuid4())
            body = {"username": f"user-{number}", "conn_id": conn_id, "channels": list(own), **fields}
            backend.call("/connect", body)
            yield upgrade(f"{WEBSOCKET_PATH}?conn_id={conn_id}")
        backend.close()

    def sender(self) -> ApiSender:
        """Uses its API."""
        return ApiSender(self.address)
