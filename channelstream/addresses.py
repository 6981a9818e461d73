"""Which addresses may call, and which address and scheme a caller behind proxies has. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from channelstream.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REMEMBERED_ADDRESSES: Final = 4096
"""Decisions kept per set of rules. Backends are few; the bound is for strangers that knock from everywhere."""

_EVERYONE: Final = frozenset({"0.0.0.0", "0.0.0.0/0", "::", "::/0"})
"""The spellings of "from anywhere", in either family: who opens the API to all IPv4 does not mean to shut out IPv6."""

_MAPPED_BITS: Final = 96
"""The length of the prefix ::ffff:0:0/96, under which IPv6 shows IPv4 addresses (RFC 4291, section 2.5.5.2)."""


class AddressRules:
    """Addresses and networks that something is allowed from."""

    def __init__(self, entries: Sequence[str], key: str = "allow_posting_from") -> None:
        """`entries` are addresses or CIDR networks, empty ones are skipped. Raises `ConfigError`, naming `key`."""
        given = [entry.strip() for entry in entries if entry.strip()]
        self.allows_everyone: Final = not _EVERYONE.isdisjoint(given)
        self._networks: Final = tuple(_network(entry, key) for entry in given)
        self._decision: Final = lru_cache(REMEMBERED_ADDRESSES)(self._decide)

    def allows(self, address: str) -> bool:
        """Whether the address is covered. What is no address is covered only where everyone is."""
        return self.allows_everyone or self._decision(address)

    def _decide(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def client_address(remote: str, forwarded_for: str | None, trusted: AddressRules) -> str:
    """The address of the client: the direct peer's, or what trusted proxies say in X-Forwarded-For.

    Each proxy appends the address that it was called from, so the list is read from its end for as long as the
    address that vouches for the next one is a trusted proxy. What a stranger wrote further left is never reached.
    """
    if forwarded_for is None:
        return remote
    client = remote
    for entry in reversed(forwarded_for.split(",")):
        if not trusted.allows(client):
            break
        parsed = _parsed(_without_port(entry.strip()))
        if parsed is None:
            break
        client = str(parsed)
    return client


def client_scheme(remote: str, scheme: str, forwarded_proto: str | None, trusted: AddressRules) -> str:
    """The scheme that the client used: that of the connection, or what a trusted proxy says in X-Forwarded-Proto."""
    if forwarded_proto and trusted.allows(remote):
        return forwarded_proto.rpartition(",")[2].strip().lower()
    return scheme


def _network(entry: str, key: str) -> Network:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError as error:
        raise ConfigError(key, entry, "an address (192.0.2.7) or a network (192.0.2.0/24, 2001:db8::/32)") from error
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:  # only where all of the prefix is the network's own: the bits beyond it are 0 here
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def _parsed(text: str) -> Address | None:
    """The address, an IPv4 one where it is written as IPv6; None where it is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(entry: str) -> str:
    """`192.0.2.7` of `192.0.2.7:5000`, `2001:db8::1` of `[2001:db8::1]:5000`: some proxies add the port."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, _, port = entry.partition(":")
    return host if port.isdecimal() and "." in host else entry
