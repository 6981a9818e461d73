"""The demo's backend: what an application of yours would do, with nothing but the signed API.

The page asks here, this asks channelstream. Browsers only ever talk to channelstream to listen.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from itsdangerous import TimestampSigner

CHANNEL = "demo"
MAX_BODY = 10_000


def call(api: str, secret: str, path: str, body: object) -> Any:
    """Ask channelstream: a POST whose header signs the path."""
    request = urllib.request.Request(
        api + path,
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "X-Channelstream-Secret": TimestampSigner(secret).sign(path).decode(),
        },
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def make_app(api: str, secret: str, page_origin: str) -> Callable[..., Iterable[bytes]]:
    """The application. `page_origin` is where the page comes from: the only one that may ask."""

    def connect(asked: dict[str, Any]) -> Any:
        config = {"notify_presence": True, "store_history": True, "history_size": 20}
        body = {"username": asked["username"], "channels": [CHANNEL], "channel_configs": {CHANNEL: config}}
        return {"conn_id": call(api, secret, "/connect", body)["conn_id"]}

    def say(asked: dict[str, Any]) -> Any:
        message = {"user": asked["username"], "channel": CHANNEL, "message": {"text": str(asked["text"])[:2000]}}
        return call(api, secret, "/message", [message])

    calls = {"/connect": connect, "/say": say}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = [
            ("Access-Control-Allow-Origin", page_origin),
            ("Access-Control-Allow-Headers", "Content-Type"),
            ("Content-Type", "application/json"),
        ]
        if environ["REQUEST_METHOD"] == "OPTIONS":
            start_response("204 No Content", headers)
            return [b""]
        answer = calls.get(environ["PATH_INFO"])
        if answer is None or environ["REQUEST_METHOD"] != "POST":
            start_response("404 Not Found", headers)
            return [b'{"error": "not found"}']
        try:
            length = min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY)
            told = json.dumps(answer(json.loads(environ["wsgi.input"].read(length)))).encode()
        except (ValueError, KeyError, TypeError) as error:
            start_response("400 Bad Request", headers)
            return [json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()]
        except OSError as error:
            start_response("502 Bad Gateway", headers)
            return [json.dumps({"error": f"channelstream does not answer: {error}"}).encode()]
        start_response("200 OK", headers)
        return [told]

    return app


class Threads(ThreadingMixIn, WSGIServer):
    """One thread a request: a demo has few."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Without a log line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> int:
    """Serve on 127.0.0.1, set up by DEMO_* in the environment (see demo/run.py)."""
    api, secret = os.environ["DEMO_API"], os.environ["DEMO_SECRET"]
    app = make_app(api, secret, os.environ["DEMO_PAGE_ORIGIN"])
    port = int(os.environ["DEMO_PORT"])
    with make_server("127.0.0.1", port, app, Threads, Quiet) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
