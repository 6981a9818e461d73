"""More than can be taken: memory stays bounded, whoever asked is told, it is counted, and the others go on."""

from __future__ import annotations

import json
import os
import signal
import socket as sockets
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests

from channelstream.ids import channel_key
from channelstream.ring import Ring


@contextmanager
def stopped(pid):
    """A process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def resident_bytes(pid):
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def counters(group, process):
    """What a process has counted, as it last said."""
    (found,) = (one["counters"] for one in group.health() if one["process"] == process)
    return found


def plain_websocket(group, conn_id):
    """A client that reads only what it is made to, and has hardly any room in its kernel."""
    plain = sockets.socket()
    plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    # Small packets: for large ones, such as those of the loopback, the server's kernel would take megabytes.
    plain.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_MAXSEG, 536)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", group.port))
    plain.sendall(
        f"GET /ws?conn_id={conn_id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert plain.recv(12) == b"HTTP/1.1 101"
    return plain


def test_an_edge_that_is_stopped_costs_its_shard_no_memory_and_its_clients_nothing_without_a_word(helpers):
    count, size = 400, 100_000
    # What comes at once when the edge goes on is too much for nobody: slow clients are another test's.
    with helpers.running(shards=1, edges=1, routers=1, max_peer_queue="2MiB", max_queue="64MiB") as group:
        shard = group.pid_of("shard-0")
        with group.websocket(group.connect("ann", "a")) as socket:
            helpers.settle(group, socket, "a")
            before = resident_bytes(shard)
            most = 0
            with stopped(group.pid_of("edge-0")):
                for number in range(count):
                    group.say("a", "x" * size, number=number)
                    most = max(most, resident_bytes(shard))
            counted = counters(group, "shard-0")
            assert counted.get("peers_behind", 0) + counted.get("peers_silent", 0) >= 1, counted
            # Frames (a hundred of them), ZeroMQ's own pipe (a hundred batches), our queue, and what malloc keeps.
            assert most - before < 35_000_000, (before, most)
            served, missed = 1, 0
            while served < count + 1:
                for one in json.loads(socket.recv(timeout=helpers.PATIENCE_S)):
                    if one["type"] == "gap":
                        missed += one["missed"]
                        served += one["missed"]
                    elif one["seq"] > served:  # else it has come before
                        assert (one["seq"], one["number"]) == (served + 1, one["seq"] - 2)
                        served = one["seq"]
            assert served == count + 1
            group.say("a", "late")
            assert helpers.receive(socket, 1)[0]["message"] == {"text": "late"}


def test_a_shard_that_is_stopped_is_answered_for_with_503_and_the_others_go_on(helpers):
    ring = Ring(2)
    names = [next(name for name in map(str, range(100)) if ring.owner(channel_key(name)) == shard) for shard in (0, 1)]
    with helpers.running(shards=2, edges=1, routers=1, max_peer_queue="256KiB", ask_timeout="2s") as group:
        for name in names:
            group.say(name, "hi")
        answers = []

        def flood(number):
            body = json.dumps([{"user": "u", "channel": names[0], "message": {"text": "x" * 100_000}}])
            headers = {"X-Channelstream-Secret": helpers.signature("/message")}
            began = time.monotonic()
            answer = requests.post(f"http://127.0.0.1:{group.api_port}/message", data=body, headers=headers, timeout=20)
            answers.append((time.monotonic() - began, answer))

        with stopped(group.pid_of("shard-0")):
            threads = [threading.Thread(target=flood, args=(number,)) for number in range(200)]
            for thread in threads:
                thread.start()
            helpers.eventually(lambda: answers, "somebody was refused")
            group.say(names[1], "hi")  # 200, while the others wait
            for thread in threads:
                thread.join()
        assert {answer.status_code for _, answer in answers} == {503}
        assert all(answer.headers["Retry-After"] == "1" for _, answer in answers)
        assert all(answer.json()["unknown"] for _, answer in answers)
        message = [{"user": "u", "channel": names[0], "message": {}}]
        helpers.eventually(lambda: group.post("/message", message).status_code == 200, "the shard goes on")
        # None of the refused was carried out later.
        told = group.call("/info", {"info": {"channels": [names[0]]}})["channels"]
        assert not told or told[names[0]]["seq"] <= 2

        def all_counted():
            counted = counters(group, "router-0")
            refused, overdue = counted.get("asks_refused", 0), counted.get("asks_overdue", 0)
            return refused and refused + overdue >= 200

        helpers.eventually(all_counted, "each was counted")


def latency(group, socket, count=30):
    """The median of how long a message takes from its publishing to a client that reads."""
    took = []
    for number in range(count):
        began = time.monotonic()
        group.say("quick", number)
        socket.recv(timeout=20)
        took.append(time.monotonic() - began)
    return statistics.median(took)


def test_clients_that_stop_reading_are_closed_or_skipped_within_bounds_and_the_others_do_not_notice(helpers):
    each, size, count = 250, 20_000, 60
    with helpers.running(shards=1, edges=1, routers=1, max_queue="64KiB") as group, ExitStack() as open_sockets:
        group.call("/channel_config", {"skips": {"skip_when_slow": True}, "closes": {}})
        quick = open_sockets.enter_context(group.websocket(group.connect("quick", "quick")))
        helpers.settle(group, quick, "quick")
        alone = latency(group, quick)
        edge = group.pid_of("edge-0")
        slow = {
            channel: [
                open_sockets.enter_context(plain_websocket(group, group.connect(f"{channel}-{number}", channel)))
                for number in range(each)
            ]
            for channel in ("skips", "closes")
        }
        helpers.eventually(lambda: held(group) == 2 * each + 1, "all are held")
        before = resident_bytes(edge)
        text = "x" * size
        for number in range(count):
            group.say("skips", text, number=number)
            group.say("closes", text)
        crowded = latency(group, quick)
        helpers.eventually(lambda: held(group) == each + 1, "those who may be closed are")
        counted = counters(group, "edge-0")
        assert counted["slow_closed"] == each
        assert counted["skipped"] > each
        # For each client its queue, with what the frames in it cost besides (the frames are everybody's).
        assert resident_bytes(edge) - before < 2 * each * 2 * 64 * 1024
        assert crowded < 10 * alone + 0.05, (alone, crowded)
        # One of those that stayed reads again: each is there, or stands in a gap in its place. There is more than one
        # gap where the kernel has taken more meanwhile.
        gaps = 0
        position = 0
        for one in objects_of(slow["skips"][0]):
            if one["type"] == "gap":
                assert one == {"type": "gap", "channel": "skips", "missed": one["missed"]}
                gaps += 1
                position += one["missed"]
            else:
                assert one["number"] == position
                position += 1
            if position == count:
                break
        assert gaps


def held(group):
    return next(one["connections"] for one in group.health() if one["role"] == "edge")


def objects_of(plain):
    """One object after the other, of a client whose handshake's end has not been read."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += plain.recv(1 << 16)
    data = data.partition(b"\r\n\r\n")[2]
    while True:
        while (taken := frame_in(data)) is None:
            piece = plain.recv(1 << 16)
            assert piece, "the end"
            data += piece
        payload, data = taken
        yield from json.loads(payload) if payload else []


def frame_in(data):
    """The payload of the first frame (b"" of one that is no text), and what is behind it; None: it is not whole."""
    if len(data) < 10:
        return None
    longer = {126: 2, 127: 8}.get(data[1], 0)
    size = int.from_bytes(data[2 : 2 + longer], "big") if longer else data[1]
    start = 2 + longer
    if len(data) < start + size:
        return None
    return (data[start : start + size] if data[0] == 0x81 else b""), data[start + size :]


def test_a_group_whose_lines_nobody_reads_goes_on_and_ends(helpers):
    """`channelstream | less`: what is logged has nowhere to go, and nothing waits for it."""
    group = helpers.Group(shards=1, edges=1, routers=1, debug=True)
    try:
        group.wait_until_ready()
        group.stop_reading()
        for number in range(400):  # each is a line of the log, too long for the pipes between here and there
            group.get(f"/{'nowhere' * 150}/{number}")
        group.say("a", "hi")
        group.go_on_reading()

        def told():
            group.say("a", "hi")
            return any("lines not shown" in line for line in group.lines)

        helpers.eventually(told, "it says that lines were not shown")
        group.stop_reading()
        for number in range(400):
            group.get(f"/{'nowhere' * 150}/{number}")
    finally:
        group.process.send_signal(signal.SIGTERM)
        code = group.process.wait(helpers.PATIENCE_S)
        group.go_on_reading()
        group.stop()
        group.remove()
    assert code == 0
