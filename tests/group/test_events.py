"""Server-sent events of the real group, read by a library that is not ours. A real browser is in tests/browser."""

from __future__ import annotations

import json
import signal
import socket
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent


class Stream:
    """One GET /events. `last_id` is what a browser would give back."""

    def __init__(self, source: EventSource, headers: httpx.Headers) -> None:
        self.headers = headers
        self._events = source.iter_sse()
        self.last_id = ""

    def next(self) -> ServerSentEvent:
        """The next one that a page would see, or an id alone."""
        event = next(self._events)
        self.last_id = event.id or self.last_id
        return event

    def receive(self, count: int) -> list[dict[str, Any]]:
        """So many objects, however they were joined."""
        received: list[dict[str, Any]] = []
        while len(received) < count:
            event = self.next()
            received += json.loads(event.data) if event.data else []
        assert len(received) == count, received
        return received


@contextmanager
def events(group: Any, conn_id: str, patience_s: float, last_id: str = "", **headers: str) -> Iterator[Stream]:
    told = {"Last-Event-ID": last_id, **headers} if last_id else headers
    with httpx.Client(timeout=patience_s, trust_env=False) as client:
        url = f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}"
        with client.stream("GET", url, headers=told) as answer:
            assert answer.status_code == 200
            yield Stream(EventSource(answer), answer.headers)


@pytest.mark.promise("1.13", "4.43")
def test_events_are_lists_with_a_position(small, name, helpers):
    conn_id = small.connect("joe", name)
    small.say(name, "missed")
    with events(small, conn_id, helpers.PATIENCE_S) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Access-Control-Allow-Origin"] == "*"
        assert stream.headers["X-Request-Id"]
        (missed,) = stream.receive(1)
        small.say(name, "live")
        (live,) = stream.receive(1)
        assert (helpers.texts([missed, live]), missed["catchup"], live["catchup"]) == (["missed", "live"], True, False)
        assert stream.last_id


@pytest.mark.promise("4.44")
def test_what_was_on_its_way_when_the_stream_broke_comes_again(large, name, helpers):
    """The kernel had taken it, so the server counts it as served; the browser knows better."""
    channels = [f"{name}-{number}" for number in range(6)]
    conn_id = large.connect(f"joe-{name}", *channels)
    with events(large, conn_id, helpers.PATIENCE_S) as stream:
        large.say(channels[0], "seen")
        stream.receive(1)
        seen = stream.last_id
        for channel in channels:
            large.say(channel, "lost")
        large.say(None, "lost too", pm_users=[f"joe-{name}"])
        stream.receive(len(channels) + 1)
    with events(large, conn_id, helpers.PATIENCE_S, seen) as stream:
        again = stream.receive(len(channels) + 1)
        assert sorted(helpers.texts(again)) == ["lost"] * len(channels) + ["lost too"]
        assert all(one["catchup"] for one in again)
        large.say(channels[0], "next")
        assert helpers.texts(stream.receive(1)) == ["next"]
        last = stream.last_id
    with events(large, conn_id, helpers.PATIENCE_S, last) as stream:
        large.say(channels[0], "nothing twice")
        assert helpers.texts(stream.receive(1)) == ["nothing twice"]


def test_a_stream_that_never_told_anything_has_a_position_too(small, name, helpers):
    conn_id = small.connect("joe", name)
    with events(small, conn_id, helpers.PATIENCE_S) as stream:
        while stream.last_id.count(",") < 1:  # the channel's cursor and the private one
            stream.next()
        small.say(name, "lost")
        first = stream.last_id
        stream.receive(1)
    with events(small, conn_id, helpers.PATIENCE_S, first) as stream:
        assert helpers.texts(stream.receive(1)) == ["lost"]


def test_a_made_up_position_shows_nothing_that_was_not_for_this_client(small, name, helpers):
    other = small.connect("ann", f"{name}-other")
    small.say(f"{name}-other", "not for joe")
    with events(small, other, helpers.PATIENCE_S) as stream:
        stream.receive(1)
        position = stream.last_id
    conn_id = small.connect("joe", name)
    with events(small, conn_id, helpers.PATIENCE_S, position) as stream:
        small.say(name, "for joe")
        assert helpers.texts(stream.receive(1)) == ["for joe"]


def test_a_second_client_takes_over_and_the_first_is_told_to_stay_away(large, name, helpers):
    conn_id = large.connect("joe", name)
    with events(large, conn_id, helpers.PATIENCE_S) as first:
        large.say(name, "one")
        first.receive(1)
        with large.websocket(conn_id) as second:
            while (event := first.next()).event != "close":
                assert not event.data
            assert json.loads(event.data)["code"] == 4001
            assert event.retry == 86_400_000
            large.say(name, "two")
            assert helpers.texts(helpers.receive(second, 1)) == ["two"]


@pytest.mark.promise("4.40")
@pytest.mark.parametrize("query", ["", "?conn_id=nonsense", f"?conn_id={uuid.uuid4()}"])
def test_a_stream_for_nobody_is_401(small, query):
    answer = httpx.get(f"http://127.0.0.1:{small.port}/events{query}", timeout=10, trust_env=False)
    assert (answer.status_code, answer.json()) == (401, {"error": "unknown connection"})


def test_a_disconnected_client_is_told_why(small, name, helpers):
    conn_id = small.connect("joe", name)
    with events(small, conn_id, helpers.PATIENCE_S) as stream:
        small.say(name, "one")
        stream.receive(1)
        small.call("/disconnect", {"conn_id": conn_id})
        while (event := stream.next()).event != "close":
            assert not event.data
        assert json.loads(event.data) == {"code": 4000, "reason": "disconnected by the backend"}
        with pytest.raises(StopIteration):
            stream.next()


@pytest.mark.promise("4.44", "5.2")
def test_a_stream_goes_on_elsewhere_when_its_edge_is_killed(helpers):
    with helpers.running(shards=2, edges=2, routers=1) as group:
        conn_id = group.connect("joe", "c")
        with events(group, conn_id, helpers.PATIENCE_S) as stream:
            group.say("c", 0)
            stream.receive(1)
            seen = stream.last_id
            group.say("c", 1)
            helpers.kill_the_holder(group, signal.SIGKILL)
            with pytest.raises(StopIteration):
                stream.receive(2)  # what it had taken, and then the end
            group.say("c", 2)
        with events(group, conn_id, helpers.PATIENCE_S, seen) as stream:
            group.say("c", 3)
            assert helpers.texts(stream.receive(3)) == [1, 2, 3]


def test_a_forged_epoch_shows_nothing_from_before(small, name, helpers):
    small.connect("ann", name)
    small.say(name, "before joe came")
    conn_id = small.connect("joe", name)
    with events(small, conn_id, helpers.PATIENCE_S) as stream:
        while stream.last_id.count(",") < 1:
            stream.next()
        forged = ",".join(f"{part.split(':')[0]}:0:zzz" for part in stream.last_id.split(","))
    with events(small, conn_id, helpers.PATIENCE_S, forged) as stream:
        small.say(name, "now")
        got = []
        while "now" not in helpers.texts(got):
            event = stream.next()
            got += json.loads(event.data) if event.data else []
    assert helpers.texts(got) == ["now"]
    assert {one["type"] for one in got} == {"gap", "message"}


def test_clients_that_leave_before_their_stream_begins_leave_nothing(hasty, name, helpers):
    for number in range(20):
        conn_id = hasty.connect(f"{name}-{number}", name)
        with socket.create_connection(("127.0.0.1", hasty.port)) as gone:
            gone.sendall(f"GET /events?conn_id={conn_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    info = {"info": {"channels": [name]}}

    def all_are_gone() -> bool:
        known = hasty.call("/info", info)["channels"].get(name, {"total_connections": 0})
        return not known["total_connections"]

    helpers.eventually(all_are_gone, "all are gone")


def test_who_was_away_sees_all_that_was_edited_and_what_was_deleted(large, name, helpers):
    conn_id = large.connect("joe", name)
    with large.websocket(conn_id) as websocket:
        edited, deleted = large.say(name, "frist"), large.say(name, "secret")
        helpers.receive(websocket, 2)
        helpers.cut_off(large, websocket)
    large.call("/message", [{"uuid": edited, "channel": name, "message": {"text": "first"}}], method="PATCH")
    large.call("/message", [{"uuid": edited, "channel": name, "user": "bob"}], method="PATCH")
    large.call("/message", [{"uuid": deleted, "channel": name}], method="DELETE")
    large.call("/message", [{"uuid": deleted, "channel": name, "user": "bob"}], method="PATCH")
    with large.websocket(conn_id) as websocket:
        edit, deletion = helpers.receive(websocket, 2)
    assert (edit["type"], edit["message"], edit["user"]) == ("message:edit", {"text": "first"}, "bob")
    assert (deletion["type"], deletion["uuid"]) == ("message:delete", deleted)
