"""What peers have in common; and each peer that this machine has, for real."""

from pathlib import Path
from time import monotonic, monotonic_ns

import pytest

from bench.crowd import Crowd
from bench.peers import all_peers, server
from bench.peers.server import Peer
from bench.processes import HOST, free_ports
from bench.systems import Sender, filled

CLIENTS = 3
MESSAGES = 5


def test_a_message_is_posted_as_json() -> None:
    head, _, body = server.post("/publish", b"{}").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /publish HTTP/1.1\r\nHost: ")
    assert head.endswith(b"Content-Length: 2")
    assert body == b"{}"


def test_where_nobody_listens_nobody_answers() -> None:
    assert not server.answers((HOST, free_ports(1)[0]))


@pytest.mark.group
@pytest.mark.parametrize("peer", all_peers(), ids=lambda peer: peer.name)
def test_a_peer_delivers_to_all_clients_or_says_how_to_install_it(peer: Peer) -> None:
    how = peer.missing()
    if how is None:
        deliver(peer)
    else:
        assert "apt-get install" in how or "make bench-peers" in how


def deliver(peer: Peer) -> None:
    """Start it, let clients come, and publish to them, one at a time and as many as it takes together."""
    with peer:
        assert all(Path(f"/proc/{pid}").exists() for _, pid in peer.pids)
        with Crowd(1, expected=peer.expected, greet=peer.greet, ping=peer.ping, pong=peer.pong) as crowd:
            crowd.open(peer.address, peer.requests(CLIENTS))
            sender = peer.sender()
            wait_until_all_are_on_the_channel(crowd, sender)
            for _ in range(MESSAGES):
                sender.send([filled(100, monotonic_ns())])
            sender.send([filled(100, monotonic_ns()) for _ in range(MESSAGES)])
            assert crowd.receive(10, wanted=2 * MESSAGES * CLIENTS)
            sender.close()
            assert crowd.lost(2 * MESSAGES) == 0
            assert crowd.gone == []
            assert len(crowd.latencies_ns) == 2 * MESSAGES * CLIENTS
            assert all(0 < latency < 10e9 for latency in crowd.latencies_ns)
    assert not any(Path(f"/proc/{pid}").exists() for _, pid in peer.pids)


def wait_until_all_are_on_the_channel(crowd: Crowd, sender: Sender) -> None:
    """Publish until each has got something; then count from nothing."""
    until = monotonic() + 10
    while not all(crowd.counts.values()):
        assert monotonic() < until, crowd.counts
        sender.send([filled(100, monotonic_ns())])
        crowd.receive(0.2, wanted=crowd.received + CLIENTS)
    crowd.receive_until_quiet(0.1)
    crowd.begin()
