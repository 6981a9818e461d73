"""Which requests may become a websocket."""

from __future__ import annotations

import pytest

from channelstream.errors import BadHandshake
from channelstream.handshake import check_handshake, is_key

PROPER = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"HTTP_UPGRADE": "WebSocket"},
        {"HTTP_UPGRADE": "h2c, websocket"},
        {"HTTP_CONNECTION": "keep-alive, Upgrade"},
        {"CONTENT_LENGTH": "0"},
    ],
)
def test_proper_handshakes(change: dict[str, str]) -> None:
    check_handshake("GET", "HTTP/1.1", PROPER | change)


@pytest.mark.parametrize(("status", "method", "version"), [(405, "POST", "HTTP/1.1"), (400, "GET", "HTTP/1.0")])
def test_request_lines_that_open_nothing(status: int, method: str, version: str) -> None:
    with pytest.raises(BadHandshake) as refused:
        check_handshake(method, version, PROPER)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (426, {"HTTP_UPGRADE": ""}),
        (426, {"HTTP_UPGRADE": "websockets"}),
        (400, {"HTTP_CONNECTION": "keep-alive"}),
        (400, {"HTTP_CONNECTION": "upgraded"}),
        (400, {"CONTENT_LENGTH": "5"}),
        (426, {"HTTP_SEC_WEBSOCKET_VERSION": "8"}),
        (426, {"HTTP_SEC_WEBSOCKET_VERSION": "13, 8"}),
        (426, {"HTTP_SEC_WEBSOCKET_VERSION": ""}),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": ""}),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": "!!!"}),
        (400, {"HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}),
    ],
)
def test_others_are_refused_with_their_status(status: int, change: dict[str, str]) -> None:
    with pytest.raises(BadHandshake) as refused:
        check_handshake("GET", "HTTP/1.1", PROPER | change)
    assert refused.value.status == status


@pytest.mark.parametrize("missing", PROPER)
def test_nothing_may_be_missing(missing: str) -> None:
    with pytest.raises(BadHandshake):
        check_handshake("GET", "HTTP/1.1", {key: value for key, value in PROPER.items() if key != missing})


def test_a_client_of_another_version_is_told_ours() -> None:
    with pytest.raises(BadHandshake) as refused:
        check_handshake("GET", "HTTP/1.1", PROPER | {"HTTP_SEC_WEBSOCKET_VERSION": "7"})
    assert refused.value.headers == (("Sec-WebSocket-Version", "13"),)


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("dGhlIHNhbXBsZSBub25jZQ==", True),
        ("dGhlIHNhbXBsZSBub25jZQ", False),
        ("dGhlIHNhbXBsZSBub25jZ!==", False),
        ("dGhlIHNhbXBsZSBub25j\xe4Q==", False),
        ("dGhlIHNhbXBsZSBub25j", False),
        ("AAAAAAAAAAAAAAAAAAAAAAA=", False),
        ("", False),
    ],
)
def test_a_key_is_sixteen_bytes_in_strict_base64(key: str, good: bool) -> None:
    assert is_key(key) is good
