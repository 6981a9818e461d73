"""Section 4 of docs/contract.md: the ways to receive, /ws and /listen."""

from __future__ import annotations

import json
import socket as sockets
import threading
import time
import uuid

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode


def plain_socket(group, conn_id):
    """A websocket after its handshake, without a library that would answer by itself."""
    plain = sockets.socket()
    plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", group.port))
    plain.sendall(
        f"GET /ws?conn_id={conn_id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(plain, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return plain


def exactly(plain, count):
    """So many bytes."""
    received = b""
    while len(received) < count:
        data = plain.recv(count - len(received))
        assert data, "the end"
        received += data
    return received


def objects_until(plain, met):
    """All objects that come, up to one of which this is true."""
    objects = []
    while not objects or not met(objects[-1]):
        head = exactly(plain, 2)
        longer = {126: 2, 127: 8}.get(head[1], 0)
        size = int.from_bytes(exactly(plain, longer), "big") if longer else head[1]
        objects += json.loads(exactly(plain, size)) if head[0] == 0x81 else []
    return objects


def poll(group, conn_id, callback):
    url = f"http://127.0.0.1:{group.port}/listen"
    return requests.get(url, params={"conn_id": conn_id, "callback": callback}, timeout=20)


# --- /ws ---


@pytest.mark.promise("4.22")
def test_lists_are_text_frames(small, name, helpers):
    with plain_socket(small, small.connect("joe", name)) as plain:
        for text in ("short", "x" * 200, "x" * 70_000):
            small.say(name, text)
            head = exactly(plain, 2)
            assert head[0] == 0x81, "one final, unmasked text frame"
            assert head[1] < 128
            longer = {126: 2, 127: 8}.get(head[1], 0)
            size = int.from_bytes(exactly(plain, longer), "big") if longer else head[1]
            assert helpers.texts(json.loads(exactly(plain, size))) == [text]


@pytest.mark.promise("4.23")
def test_a_connection_that_is_over_is_refused(small, name):
    conn_id = small.connect("joe", name)
    small.call("/disconnect", {"conn_id": conn_id})
    for wrong in (conn_id, conn_id[:-1], str(uuid.uuid4()), "x" * 2000):
        with pytest.raises(InvalidStatus) as refused:
            small.websocket(wrong)
        assert 400 <= refused.value.response.status_code < 500


@pytest.mark.promise("4.24", "4.33")
def test_the_last_socket_gets_everything(large, name, helpers):
    conn_id = large.connect("joe", name)
    former = large.websocket(conn_id)
    for number in range(6):
        large.say(name, number)
        assert helpers.before(former, number) == []
        current = large.websocket(conn_id)
        assert helpers.close_code(former) == 4001
        former = current
    large.say(name, "end")
    assert helpers.before(former, "end") == []
    former.close()


@pytest.mark.promise("4.25", "4.27", "4.28")
def test_any_text_is_a_sign_of_life_and_silence_is_the_end(hasty, name, helpers, defaults):
    assert (defaults["ping_interval"], defaults["silence_timeout"]) == (25, 60)
    config = {name: {"notify_presence": True}}
    with hasty.websocket(hasty.connect("ann", name, channel_configs=config)) as ann:
        with plain_socket(hasty, hasty.connect("joe", name)) as plain:
            helpers.receive(ann, 1)
            for text in (b'{"type":"heartbeat"}', b"anything", b"") * 6:
                assert exactly(plain, 2) == b"\x89\x00", "a ping, each fifth of a second"
                plain.sendall(Frame(Opcode.TEXT, text).serialize(mask=True))
            hasty.say(name, "still here")
            received = b""
            while data := plain.recv(4096):
                received += data
            assert b"still here" in received
            assert received.endswith(b"\x89\x00")
        assert helpers.texts(helpers.receive(ann, 1)) == ["still here"]
        (parted,) = helpers.receive(ann, 1)
        assert parted["message"] == {"action": "parted"}


@pytest.mark.promise("4.26")
def test_what_a_client_says_changes_nothing(small, name, helpers):
    with small.websocket(small.connect("joe", name)) as socket:
        for said in ('{"type":"heartbeat"}', "", "é", b"", b"\x00\xff", '{"type":"disconnect"}', "[" * 1000):
            socket.send(said)
        assert socket.ping().wait(helpers.PATIENCE_S)
        small.say(name, "end")
        assert helpers.before(socket, "end") == []


@pytest.mark.promise("4.30")
def test_who_does_not_read_is_closed_with_1008(small, name, helpers):
    config = {name: {"frames_size": 1}}
    with plain_socket(small, small.connect("joe", name, channel_configs=config)) as plain:
        for _ in range(12):
            small.say(name, "x" * 1_000_000)
        received = b""
        while data := plain.recv(1 << 20):
            received = received[-100:] + data
    assert received.endswith(b"\x88\x0a\x03\xf0too slow")


@pytest.mark.promise("3.21a", "4.30a")
def test_who_does_not_read_stays_where_its_channels_skip(small, name, helpers):
    conn_id = small.connect("joe", name, channel_configs={name: {"skip_when_slow": True}})
    with plain_socket(small, conn_id) as plain:
        for number in range(12):
            small.say(name, "x" * 1_000_000, number=number)
        *before, gap = objects_until(plain, lambda one: one["type"] == "gap")
        assert [one["number"] for one in before] == list(range(len(before)))
        assert gap == {"type": "gap", "channel": name, "missed": 12 - len(before)}
        small.say(name, "late", number=12)
        (late,) = objects_until(plain, lambda one: True)
        assert (late["number"], late["seq"], late["catchup"]) == (12, 13, False)


@pytest.mark.promise("4.31")
def test_a_frame_may_be_so_large(small, name, helpers, defaults):
    assert defaults["max_frame"] == 64 * 1024
    with small.websocket(small.connect("joe", name)) as socket:
        for kind in ("x", b"x"):
            socket.send(kind * defaults["max_frame"])
        assert socket.ping().wait(helpers.PATIENCE_S)
        socket.send("x" * (defaults["max_frame"] + 1))
        assert helpers.close_code(socket) == 1009


# --- /listen ---


@pytest.mark.promise("4.35", "4.37")
def test_a_poll_waits_for_so_long(hasty, small, name, helpers, defaults):
    assert defaults["wake_connections_after"] == 5
    conn_id = hasty.connect("joe", name)
    began = time.monotonic()
    answer = hasty.listen(conn_id)
    assert 0.5 <= time.monotonic() - began < 5
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["Content-Type"] == "application/json"
    answer = poll(hasty, conn_id, "got")
    assert answer.text == "got([])"


def polled_meanwhile(group, conn_id, helpers, do):
    """Poll, do something once the poll is held, and give the poll's answer. `do` is told which edge holds it."""
    helpers.eventually(lambda: not any(held(group)), "nobody else is held")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(group.listen(conn_id)))
    waiting.start()
    counts = helpers.eventually(lambda: any(counts := held(group)) and counts, "the poll is held")
    do(counts.index(1))
    waiting.join(helpers.PATIENCE_S)
    return answers[0].json()


def held(group):
    """How many clients each edge holds. Its beats tell, once a second."""
    return [one["connections"] for one in group.health() if one["role"] == "edge"]


@pytest.mark.promise("4.36", "4.42")
def test_what_follows_the_first_message_is_gathered(small, name, helpers):
    """As far as two calls come within a quarter of a second. They may not on a machine that is busy, so there are
    several tries; without the gathering none would do. What comes later is the next poll's."""
    conn_id = small.connect("joe", name)

    def together():
        answer = polled_meanwhile(small, conn_id, helpers, lambda _: [small.say(name, word) for word in "abcde"])
        texts = helpers.texts(answer)
        while len(seen := texts) < 5:
            texts = seen + helpers.texts(small.listen(conn_id).json())
        assert texts == list("abcde")
        return len(answer) == 5

    helpers.eventually(together, "five calls in one answer")


@pytest.mark.promise("4.38", "4.39")
@pytest.mark.parametrize("callback", ["got", "x" * 64, "$", "_a1.B$"])
def test_a_poll_as_a_script(small, name, callback):
    conn_id = small.connect("joe", name)
    sent = small.say(name, "hi")
    answer = poll(small, conn_id, callback)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/javascript")
    assert answer.text.startswith(f"{callback}([")
    (got,) = json.loads(answer.text.removeprefix(f"{callback}(").removesuffix(")"))
    assert got["uuid"] == sent


@pytest.mark.promise("4.39")
@pytest.mark.parametrize("callback", ["", "x" * 65, "a-b", "a b", "a()", "é", "a\n", "a;b", "<b>"])
def test_what_is_no_name_is_no_callback(small, name, callback, helpers):
    conn_id = small.connect("joe", name)
    small.say(name, "not lost")
    refused = poll(small, conn_id, callback)
    assert refused.status_code == 400
    assert "error" in refused.json()
    assert helpers.texts(small.listen(conn_id).json()) == ["not lost"]


@pytest.mark.promise("4.40")
def test_a_poll_of_an_unknown_connection(small, name):
    conn_id = small.connect("joe", name)
    small.call("/disconnect", {"conn_id": conn_id})
    for wrong in (conn_id, str(uuid.uuid4()), "nonsense"):
        refused = small.listen(wrong)
        assert refused.status_code == 401
        assert "error" in refused.json()


@pytest.mark.promise("4.41", "4.42")
def test_polls_come_to_all_edges_and_lose_nothing(large, name, helpers):
    conn_id = large.connect("joe", name)
    edges, said, got = set(), [], []

    def do(edge):
        edges.add(edge)
        for text in (len(said), len(said) + 1):
            said.append(text)
            large.say(name, text)

    def on_both():
        got.extend(helpers.texts(polled_meanwhile(large, conn_id, helpers, do)))
        return edges == {0, 1}

    helpers.eventually(on_both, "both edges have held a poll")
    while len(got) < len(said):
        got += helpers.texts(large.listen(conn_id).json())
    assert got == said
