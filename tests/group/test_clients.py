"""What clients of the real group get: websockets and long-polls, by libraries that are not ours."""

from __future__ import annotations

import json
import re
import socket as sockets
import threading
import uuid
from pathlib import Path

import pytest
import requests
import websocket as websocket_client
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode


@pytest.mark.promise("4.1", "4.4", "4.5", "4.6", "4.8")
def test_messages_arrive_as_lists_with_their_keys(small, name, helpers):
    with small.websocket(small.connect("joe", name)) as socket:
        helpers.settle(small, socket, name)
        sent = small.say(name, "hello", colour="red")
        (got,) = helpers.receive(socket, 1)
    assert got["uuid"] == sent
    assert got["type"] == "message"
    assert got["date"] == got["timestamp"]
    assert (got["user"], got["channel"], got["message"]) == ("backend", name, {"text": "hello"})
    assert (got["edited"], got["catchup"], got["seq"], got["colour"]) == (None, False, 2, "red")
    assert not {"pm_users", "exclude_users", "no_history"} & set(got)


@pytest.mark.promise("4.22")
def test_another_library_gets_the_same(small, name):
    conn_id = small.connect("joe", name)
    client = websocket_client.create_connection(f"ws://127.0.0.1:{small.port}/ws?conn_id={conn_id}", timeout=10)
    try:
        client.send('{"type":"heartbeat"}')
        small.say(name, "hello")
        assert json.loads(client.recv())[0]["message"] == {"text": "hello"}
    finally:
        client.close()


@pytest.mark.promise("4.16")
def test_catch_up_comes_first_and_in_order(large, name, helpers):
    conn_id = large.connect("joe", name)
    for number in range(5):
        large.say(name, number)
    with large.websocket(conn_id) as socket:
        missed = helpers.receive(socket, 5)
        large.say(name, 5)
        (live,) = helpers.receive(socket, 1)
    assert helpers.texts(missed) == [0, 1, 2, 3, 4]
    assert [one["catchup"] for one in missed] == [True] * 5
    assert [one["seq"] for one in missed] == [1, 2, 3, 4, 5]
    assert (live["catchup"], live["seq"]) == (False, 6)


@pytest.mark.promise("4.17", "4.20")
def test_a_gap_is_told(small, name, helpers):
    conn_id = small.connect("joe", name, channel_configs={name: {"frames_size": 2}})
    for number in range(5):
        small.say(name, number)
    with small.websocket(conn_id) as socket:
        gap, *rest = helpers.receive(socket, 3)
    assert gap == {"type": "gap", "channel": name, "missed": 3}
    assert helpers.texts(rest) == [3, 4]


@pytest.mark.promise("3.52", "3.53", "3.54", "3.55")
def test_who_gets_what(large, name, helpers):
    """By channel, by pm_users on a channel, by pm_users alone, with exclude_users."""
    users = ["ann", "joe", "tom"]
    open_ = {user: large.websocket(large.connect(f"{user}-{name}", name)) for user in users}
    ann, joe, tom = (f"{user}-{name}" for user in users)
    other = large.websocket(large.connect(joe, f"{name}-other"))
    try:
        large.say(name, "all")
        large.say(name, "joe on the channel", pm_users=[joe])
        large.say(None, "joe everywhere", pm_users=[joe, tom], exclude_users=[tom])
        large.say(name, "not ann", exclude_users=[ann])
        large.say(name, "nobody", pm_users=[joe], exclude_users=[joe])
        for user in (ann, joe, tom):
            large.say(None, "end", pm_users=[user])
        seen = {user: sorted(texts_until_end(helpers, open_[user])) for user in users}
        assert seen["ann"] == ["all"]
        assert seen["joe"] == ["all", "joe everywhere", "joe on the channel", "not ann"]
        assert seen["tom"] == ["all", "not ann"]
        assert texts_until_end(helpers, other) == ["joe everywhere"]
    finally:
        for socket in (*open_.values(), other):
            socket.close()


def texts_until_end(helpers, socket):
    seen = []
    while "end" not in seen:
        seen += helpers.texts(json.loads(socket.recv(timeout=helpers.PATIENCE_S)))
    # Topics of different shards may overtake each other: a moment for what is behind the end.
    try:
        while True:
            seen += helpers.texts(json.loads(socket.recv(timeout=0.5)))
    except TimeoutError:
        seen.remove("end")
        return seen


def test_subscribe_while_attached(large, name, helpers):
    conn_id = large.connect("joe", f"{name}-0")
    with large.websocket(conn_id) as socket:
        for number in range(1, 10):
            channel = f"{name}-{number}"
            large.call("/subscribe", {"conn_id": conn_id, "channels": [channel]})
            large.say(channel, number)
            assert helpers.texts(helpers.receive(socket, 1)) == [number]
        large.call("/unsubscribe", {"conn_id": conn_id, "channels": [f"{name}-1"]})
        large.say(f"{name}-1", "unheard")
        large.say(f"{name}-2", "heard")
        assert helpers.texts(helpers.receive(socket, 1)) == ["heard"]


@pytest.mark.promise("4.10", "4.11", "4.12", "4.13")
def test_presence(large, name, helpers):
    user = f"joe-{name}"
    config = {name: {"notify_presence": True, "broadcast_presence_with_user_lists": True}}
    with large.websocket(large.connect("ann", name, channel_configs=config)) as ann:
        joe = large.connect(user, name, fresh_user_state={"a": 1, "b": 2}, state_public_keys=["a"])
        (joined,) = helpers.receive(ann, 1)
        assert joined["type"] == "presence"
        assert (joined["user"], joined["channel"], joined["message"]) == (user, name, {"action": "joined"})
        assert joined["state"] == {"a": 1}
        assert {one["user"]: one["state"] for one in joined["users"]} == {"ann": {}, user: {"a": 1}}
        second = large.connect(user, name)
        large.call("/disconnect", {"conn_id": second})
        with large.websocket(joe) as socket:
            socket.close()
        (parted,) = helpers.receive(ann, 1)
        assert (parted["user"], parted["message"], parted["state"]) == (user, {"action": "parted"}, None)


@pytest.mark.promise("4.24", "4.32", "4.33")
def test_close_codes(large, name, helpers):
    conn_id = large.connect("joe", name)
    first, second = large.websocket(conn_id), large.websocket(conn_id)
    large.say(name, "for the second")
    assert helpers.texts(helpers.receive(second, 1)) == ["for the second"]
    assert helpers.close_code(first) == 4001
    large.call("/disconnect", {"conn_id": conn_id})
    assert helpers.close_code(second) == 4000


@pytest.mark.promise("4.31")
def test_too_large_a_frame_is_1009(small, name, helpers):
    with small.websocket(small.connect("joe", name)) as socket:
        socket.send("x" * 65_537)
        assert helpers.close_code(socket) == 1009


def test_an_unmasked_frame_is_1002(small, name, helpers):
    with small.websocket(small.connect("joe", name)) as socket:
        socket.socket.sendall(Frame(Opcode.TEXT, b"hi").serialize(mask=False))
        assert helpers.close_code(socket) == 1002


@pytest.mark.promise("4.23", "4.40")
@pytest.mark.parametrize("conn_id", ["", "nonsense", str(uuid.uuid4())])
def test_an_unknown_connection_is_refused_before_the_upgrade(small, conn_id):
    with pytest.raises(InvalidStatus) as refused:
        small.websocket(conn_id)
    assert refused.value.response.status_code == 401
    assert small.listen(conn_id).status_code == 401


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Key", "short", 400),
        ("Sec-WebSocket-Key", None, 400),
        ("Upgrade", None, 426),
    ],
)
def test_odd_handshakes_are_refused_and_cost_nothing(small, name, header, value, status):
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers.pop(header) if value is None else headers.update({header: value})
    conn_id = small.connect("joe", name)
    answer = requests.get(f"http://127.0.0.1:{small.port}/ws?conn_id={conn_id}", headers=headers, timeout=10)
    assert answer.status_code == status
    assert "error" in answer.json()
    small.websocket(conn_id).close()


def test_half_a_request_holds_nobody_up(small, name, helpers):
    with sockets.create_connection(("127.0.0.1", small.port)) as half:
        half.sendall(b"GET /ws?conn_id=")
        with small.websocket(small.connect("joe", name)) as socket:
            small.say(name, "hi")
            helpers.receive(socket, 1)


@pytest.mark.promise("4.36")
def test_long_poll_waits_and_gathers(large, name, helpers):
    conn_id = large.connect("joe", name)
    answers = []
    poll = threading.Thread(target=lambda: answers.append(large.listen(conn_id)))
    poll.start()
    helpers.eventually(lambda: any(one["connections"] for one in large.health() if one["role"] == "edge"), "held")
    large.call("/message", [{"user": "b", "channel": name, "message": {"text": number}} for number in range(3)])
    poll.join(helpers.PATIENCE_S)
    assert helpers.texts(answers[0].json()) == [0, 1, 2]
    assert answers[0].headers["Content-Type"] == "application/json"


@pytest.mark.promise("4.41", "4.42")
def test_nothing_is_lost_between_polls_on_any_edge(large, name, helpers):
    conn_id = large.connect("joe", name)
    stop, sent = threading.Event(), []

    def publish():
        for number in range(150):
            large.say(name, number)
            sent.append(number)
        stop.set()

    publisher = threading.Thread(target=publish)
    publisher.start()
    seen = []
    while not (stop.is_set() and len(seen) >= len(sent)):
        answer = large.listen(conn_id)
        assert answer.status_code == 200
        seen += helpers.texts(answer.json())
    publisher.join()
    assert seen == sent


@pytest.mark.promise("4.42")
def test_an_abandoned_poll_loses_nothing(large, name, helpers):
    """The client leaves while its poll waits; what comes then is the next poll's."""
    conn_id = large.connect("joe", name)
    with sockets.create_connection(("127.0.0.1", large.port)) as abandoned:
        request = f"GET /listen?conn_id={conn_id} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        abandoned.sendall(request.encode())
        helpers.eventually(lambda: sum(one["connections"] for one in large.health() if one["role"] == "edge"), "held")
    large.say(name, "after it left")
    assert helpers.texts(large.listen(conn_id).json()) == ["after it left"]


@pytest.mark.promise("4.38", "4.39")
def test_jsonp(small, name):
    conn_id = small.connect("joe", name)
    small.say(name, "a line\u2028separator")
    url = f"http://127.0.0.1:{small.port}/listen?conn_id={conn_id}&callback="
    assert requests.get(url + "alert(1)", timeout=10).status_code == 400
    assert requests.get(url, timeout=10).status_code == 400
    answer = requests.get(url + "app.got$1", timeout=10)
    assert answer.headers["Content-Type"] == "application/javascript"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.text.startswith('app.got$1([{"type":"message"')
    assert answer.text.endswith("}])")
    assert "\u2028" not in answer.text


@pytest.mark.promise("4.3", "4.37")
def test_an_empty_poll_is_an_empty_list(helpers):
    with helpers.running(shards=1, edges=1, routers=1, wake_connections_after="0.3") as group:
        assert group.listen(group.connect("joe", "c")).json() == []


@pytest.mark.promise("4.27", "4.28")
def test_a_silent_client_is_pinged_then_cut_off(helpers):
    settings = {"ping_interval": "0.2", "silence_timeout": "1.5", "gc_conns_after": "1"}
    with helpers.running(shards=1, edges=1, routers=1, **settings) as group:
        config = {"c": {"notify_presence": True}}
        with group.websocket(group.connect("ann", "c", channel_configs=config)) as ann:
            conn_id = group.connect("joe", "c")
            # A socket that answers nothing: no library would do that.
            with sockets.create_connection(("127.0.0.1", group.port)) as silent:
                silent.sendall(
                    f"GET /ws?conn_id={conn_id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
                )
                received = b""
                silent.settimeout(helpers.PATIENCE_S)
                while data := silent.recv(4096):
                    received += data
            assert received.startswith(b"HTTP/1.1 101 ")
            assert received.endswith(b"\x89\x00")
            joined, parted = helpers.receive(ann, 2)
            assert [joined["message"]["action"], parted["message"]["action"]] == ["joined", "parted"]


@pytest.mark.promise("1.7")
def test_demo_page_only_where_it_is_on(helpers, small):
    assert small.get("/demo", small.port).status_code == 404
    with helpers.running(shards=1, edges=1, routers=1, demo="true", demo_app_url="http://127.0.0.1:1") as group:
        page = group.get("/demo", group.port)
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert 'data-backend="http://127.0.0.1:1"' in page.text


def test_a_client_that_stops_reading_is_cut_off_and_comes_back_for_the_rest(helpers):
    with helpers.running(shards=1, edges=1, routers=1, max_queue="256k") as group:
        config = {"c": {"frames_size": 200}}
        slow = group.connect("slow", "c", channel_configs=config)
        with group.websocket(group.connect("quick", "c")) as quick, sockets.socket() as stuck:
            stuck.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", group.port))
            stuck.sendall(
                f"GET /ws?conn_id={slow} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            edge = group.pid_of("edge-0")
            for number in range(100):
                group.say("c", [number, "x" * 200_000])
                (got,) = helpers.receive(quick, 1)
                assert got["message"]["text"][0] == number
            peak_kb = int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{edge}/status").read_text())[0])
            assert peak_kb < 120_000, "20 MB were published: they must not wait for one client"
            helpers.eventually(
                lambda: [one["connections"] for one in group.health() if one["role"] == "edge"] == [1], "cut off"
            )
        with group.websocket(slow) as back:
            rest = []
            while not rest or rest[-1][0] != 99:
                rest += helpers.texts(json.loads(back.recv(timeout=helpers.PATIENCE_S)))
        numbers = [number for number, _ in rest]
        assert numbers == list(range(numbers[0], 100))
        assert numbers[0] > 0, "what was read by the kernel for it counts as served"


LONG = "x " * 500


def test_compression_where_it_is_on(helpers):
    with helpers.running(shards=1, edges=1, routers=1, compression="true") as group:
        compressed, plain = group.connect("joe", "a"), group.connect("sue", "a")
        with group.websocket(compressed) as joe:
            assert "permessage-deflate" in joe.response.headers["Sec-WebSocket-Extensions"]
            url = f"ws://127.0.0.1:{group.port}/ws?conn_id={plain}"
            with helpers.open_websocket(url, open_timeout=helpers.PATIENCE_S, compression=None, legacy=True) as sue:
                assert "Sec-WebSocket-Extensions" not in sue.response.headers
                helpers.settle(group, joe, "a")
                helpers.settle(group, sue, "a")
                joe.send(LONG)  # compressed, and only a sign of life
                group.say("a", LONG)
                group.say("a", "short")
                for socket in (joe, sue):
                    got = []
                    while "short" not in got:
                        got += helpers.texts(helpers.receive(socket, 1))
                    assert [text for text in got if text != "settled"] == [LONG, "short"]


def test_compression_is_not_agreed_to_where_it_is_off(small, name):
    with small.websocket(small.connect("joe", name)) as socket:
        assert "Sec-WebSocket-Extensions" in socket.request.headers
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
