"""Which pages may read an answer."""

from __future__ import annotations

import pytest

from channelstream.cors import Cors

OURS = "https://chat.example.org"


def test_without_a_list_every_page_may_and_never_with_cookies() -> None:
    cors = Cors(())
    told = dict(cors.headers("https://anywhere.example"))
    assert told["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in dict(cors.preflight("https://anywhere.example", "GET"))
    assert not cors.is_foreign("https://anywhere.example", "push.example.org")


def test_with_a_list_its_origins_are_named_one_by_one() -> None:
    cors = Cors((OURS, "http://localhost:5000"))
    told = dict(cors.headers(OURS))
    assert told["Access-Control-Allow-Origin"] == OURS
    assert told["Access-Control-Allow-Credentials"] == "true"
    assert told["Vary"] == "Origin"
    assert not cors.is_foreign(OURS, "push.example.org")


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.org.evil.net",
        "https://evil.net/https://chat.example.org",
        "http://chat.example.org",
        "https://chat.example.org:8443",
        "https://CHAT.example.org",
        "null",
        "",
    ],
)
def test_what_only_looks_like_one_of_them_is_foreign(origin: str) -> None:
    cors = Cors((OURS,))
    assert cors.is_foreign(origin, "push.example.org")
    assert cors.headers(origin) == [("Vary", "Origin")]
    assert cors.preflight(origin, "GET") == [("Vary", "Origin")]


def test_our_own_pages_and_what_is_no_page_are_at_home() -> None:
    cors = Cors((OURS,))
    assert not cors.is_foreign("https://push.example.org", "push.example.org")
    assert not cors.is_foreign(None, "push.example.org")


def test_a_preflight_says_what_may_be_done() -> None:
    told = dict(Cors((OURS,)).preflight(OURS, "GET, POST"))
    assert told["Access-Control-Allow-Methods"] == "GET, POST"
    assert "Last-Event-ID" in told["Access-Control-Allow-Headers"]
    assert told["Access-Control-Max-Age"] == "86400"
