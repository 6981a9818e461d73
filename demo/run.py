"""Starts the server with the demo's settings and the demo's backend beside it; one Ctrl-C ends both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from channelstream.config import read  # noqa: E402  # found beside this file, installed or not
from channelstream.process import tied_to  # noqa: E402

HINTS = """
Open {page} in two windows, or paste this in another shell:

  {curl}
"""


def main() -> int:
    """Run until Ctrl-C or SIGTERM; the exit code is the server's."""
    ini = str(HERE / "demo.ini")
    config = read(ini, os.environ, {}).config
    page = f"http://{config.host}:{config.port}"
    # Both end with this process, however that ends.
    tied = tied_to(os.getpid())
    server = subprocess.Popen(
        [sys.executable, "-m", "channelstream", "-i", ini],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        preexec_fn=tied,
    )
    # Where the server is refused, its own sentence says why, and the backend has nothing to do.
    backend = subprocess.Popen(
        [sys.executable, str(HERE / "app.py")],
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "DEMO_API": f"http://{config.api_host}:{config.api_port}",
            "DEMO_SECRET": config.secret,
            "DEMO_PAGE_ORIGIN": page,
            "DEMO_PORT": str(urlsplit(config.demo_app_url).port),
        },
        start_new_session=True,
        preexec_fn=tied,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGTERM))
    threading.Thread(target=pump, args=(server, page, curl(ini, config.api_port)), daemon=True).start()
    try:
        return server.wait()
    finally:
        backend.terminate()
        backend.wait()


def pump(server: subprocess.Popen[str], page: str, command: str) -> None:
    """Pass on what the server says; once it is ready, say what to try."""
    assert server.stdout is not None
    for line in server.stdout:
        print(line, end="", flush=True)
        if line.startswith("ready"):
            print(HINTS.format(page=f"{page}/demo", curl=command), flush=True)


def curl(ini: str, port: int) -> str:
    """A command that says something in the demo's channel, signed when it is run."""
    sign = f"{shown(sys.executable)} -m channelstream -i {shown(ini)} sign /message"
    body = '[{"user": "you", "channel": "demo", "message": {"text": "hello from a shell"}}]'
    return f"""curl -s -X POST http://127.0.0.1:{port}/message -H "$({sign})" -d '{body}'"""


def shown(path: str) -> str:
    """A path as short as it can be typed from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else path


if __name__ == "__main__":
    sys.exit(main())
