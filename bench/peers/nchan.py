"""nchan, the publish-subscribe module of nginx, as Debian has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.crowd import upgrade
from bench.peers.server import CHANNEL, PUBLISH_PATH, WEBSOCKET_PATH, Peer
from bench.processes import HOST

PACKAGES: Final = ("nginx", "libnginx-mod-nchan")
MODULE: Final = "ngx_nchan_module.so"

SBIN: Final = "/usr/sbin"
"""Where Debian has nginx; it is in few users' PATH."""

MOST_CONNECTIONS: Final = 65_536

# One worker, as one edge of ours, one process of Node.js: several would share the clients and talk through shared
# memory. No log of requests, as nobody else here writes one. A short buffer, as history is not what is measured. No
# pings, which is the default.
CONFIG: Final = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {most};
error_log stderr warn;
pid {folder}/nginx.pid;
load_module {module};
events {{
    worker_connections {most};
}}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port} backlog=4096;
        location = {publish} {{
            nchan_publisher;
            nchan_channel_id {channel};
            nchan_message_buffer_length 10;
        }}
        location = {websocket} {{
            nchan_subscriber websocket;
            nchan_channel_id {channel};
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


def config(folder: Path, module: Path, port: int) -> str:
    """What nginx reads. `folder`: for all that it writes."""
    return CONFIG.format(
        folder=folder,
        module=module,
        host=HOST,
        port=port,
        most=MOST_CONNECTIONS,
        channel=CHANNEL,
        publish=PUBLISH_PATH,
        websocket=WEBSOCKET_PATH,
    )


def modules_folder(said: str) -> Path | None:
    """Where nginx looks for modules, out of what `nginx -V` says."""
    found = re.search(r"--modules-path=(\S+)", said)
    return Path(found[1]) if found else None


def find_nginx() -> str | None:
    """The program's path."""
    return shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + SBIN)


def find() -> tuple[str, Path] | None:
    """The paths of nginx and of the module, where both are installed."""
    nginx = find_nginx()
    if not nginx:
        return None
    said = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    folder = modules_folder(said)
    return (nginx, folder / MODULE) if folder and (folder / MODULE).exists() else None


class Nchan(Peer):
    """A master and a worker of nginx."""

    name = "nchan"

    def missing(self) -> str | None:
        """nginx, or its module."""
        return None if find() else f"nchan: apt-get install {' '.join(PACKAGES)}"

    def command(self, folder: Path, port: int) -> Sequence[str | Path]:
        """See `Peer.command`."""
        found = find()
        assert found is not None
        nginx, module = found
        file = folder / "nginx.conf"
        file.write_text(config(folder, module, port))
        return [nginx, "-p", folder, "-c", file]

    def process_name(self, number: int) -> str:
        """See `Peer.process_name`."""
        return "nginx worker" if number else "nginx master"

    def requests(self, count: int) -> Iterator[bytes]:
        """Whoever comes is on the channel."""
        for _ in range(count):
            yield upgrade(WEBSOCKET_PATH)
