"""Which addresses may call, and which address a caller behind proxies has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channelstream.addresses import REMEMBERED_ADDRESSES, AddressRules, client_address, client_scheme
from channelstream.errors import ConfigError


@pytest.mark.parametrize(
    ("entries", "address", "allowed"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        ([" 127.0.0.1 ", "", " "], "127.0.0.1", True),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.1.2.3/8"], "10.9.9.9", True),
        (["192.0.2.1", "10.0.0.0/8"], "10.0.0.1", True),
        (["::1"], "::1", True),
        (["::1"], "0:0:0:0:0:0:0:1", True),
        (["::1"], "127.0.0.1", False),
        (["2001:db8::/32"], "2001:db8:1::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["127.0.0.1"], "::ffff:127.0.0.1", True),
        (["127.0.0.1"], "::ffff:7f00:1", True),
        (["::ffff:10.0.0.0/104"], "10.1.1.1", True),
        (["::ffff:10.0.0.0/104"], "11.1.1.1", False),
        (["::ffff:10.0.0.1"], "10.0.0.1", True),
        (["::ffff:0:0/96"], "10.0.0.1", True),
        (["::ffff:0:0/96"], "2001:db8::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["0.0.0.0"], "203.0.113.9", True),
        (["0.0.0.0"], "2001:db8::1", True),
        (["0.0.0.0/0"], "203.0.113.9", True),
        (["0.0.0.0/0"], "2001:db8::1", True),
        (["::/0"], "203.0.113.9", True),
        (["127.0.0.1", "0.0.0.0"], "203.0.113.9", True),
        (["0.0.0.0"], "", True),
        (["0.0.0.0/8"], "203.0.113.9", False),
        ([], "127.0.0.1", False),
        ([""], "127.0.0.1", False),
        (["127.0.0.1"], "", False),
        (["127.0.0.1"], "localhost", False),
        (["127.0.0.1"], "127.0.0.1:80", False),
        (["127.0.0.1"], "127.0.0.01", False),
        (["127.0.0.1"], "127.1", False),
    ],
)
def test_rules(entries: list[str], address: str, allowed: bool) -> None:
    rules = AddressRules(entries)
    assert [rules.allows(address), rules.allows(address)] == [allowed, allowed]


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.0/33", "1.2.3", "10.0.0.0-10.0.0.9", "::g", "*"])
def test_an_entry_that_is_no_address_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AddressRules(["127.0.0.1", entry], "trusted_proxies")
    assert (caught.value.key, caught.value.value) == ("trusted_proxies", entry)


def test_decisions_are_remembered_within_a_bound() -> None:
    rules = AddressRules(["10.0.0.0/8"])
    for number in range(REMEMBERED_ADDRESSES + 10):
        rules.allows(f"10.0.{number >> 8}.{number & 255}")
    assert rules._decision.cache_info().currsize == REMEMBERED_ADDRESSES


PROXIES = AddressRules(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "127.0.0.1,198.51.100.7,10.0.0.2 , 10.0.0.3", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", "127.0.0.1, garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "127.0.0.1,, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("", "198.51.100.7", ""),
    ],
)
def test_the_client_behind_proxies(remote: str, forwarded_for: str | None, client: str) -> None:
    assert client_address(remote, forwarded_for, PROXIES) == client


def test_without_trusted_proxies_the_header_is_not_read() -> None:
    assert client_address("10.0.0.1", "198.51.100.7", AddressRules([])) == "10.0.0.1"


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=120))
def test_what_a_stranger_writes_never_makes_him_trusted(remote: str, forwarded_for: str) -> None:
    told = client_address("10.0.0.1", f"{forwarded_for}, 203.0.113.9", PROXIES)
    assert told == "203.0.113.9"
    assert client_address(remote, forwarded_for, AddressRules(["192.0.2.1"])) == remote


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("192.0.2.1", None, "http"),
        ("192.0.2.1", "https", "https"),
        ("192.0.2.1", "http, HTTPS ", "https"),
        ("192.0.2.1", "https, http", "http"),
        ("192.0.2.2", "https", "http"),
    ],
)
def test_the_scheme_that_the_nearest_trusted_proxy_saw(remote: str, forwarded: str | None, expected: str) -> None:
    assert client_scheme(remote, "http", forwarded, AddressRules(["192.0.2.1"])) == expected
