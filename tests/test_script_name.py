"""The prefix that a proxy tells of."""

from __future__ import annotations

import pytest

from channelstream.script_name import MAX_PREFIX, Mounted, mounted


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        ("/push", "/push/listen", Mounted("/push", "/listen")),
        ("/push/", "/push/listen", Mounted("/push", "/listen")),
        ("/a/b-c.d", "/a/b-c.d/ws", Mounted("/a/b-c.d", "/ws")),
        ("/push", "/push", Mounted("/push", "/")),
        ("/push", "/listen", Mounted("/push", "/listen")),
        ("/push", "/pushed/listen", Mounted("/push", "/pushed/listen")),
    ],
)
def test_the_prefix_is_taken_off_at_a_slash(prefix: str, path: str, expected: Mounted) -> None:
    assert mounted(prefix, path) == expected


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "push",
        "//evil.example",
        "/a b",
        "/<script>",
        "/é",
        "/" + "x" * MAX_PREFIX,
        "/listen",
        "/push/ws",
        "/..",
        "/a/./b",
    ],
)
def test_what_is_no_prefix_is_none(prefix: str) -> None:
    assert mounted(prefix, "/listen") == Mounted("", "/listen")
