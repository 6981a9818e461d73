"""The demo page: two browser windows talk through the server. Its backend is an application of its own."""

from __future__ import annotations

import html
from importlib.resources import files


def demo_page(backend_url: str) -> bytes:
    """The page, told where its backend is (`demo_app_url`)."""
    page = files("channelstream.web").joinpath("demo.html").read_text("utf-8")
    return page.replace("{{backend}}", html.escape(backend_url.rstrip("/"), quote=True)).encode()
