"""Section 4 of docs/contract.md: /events."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager

import pytest
import requests


class Events:
    """What a browser's EventSource does with a stream (HTML standard): an id of its own for each event."""

    def __init__(self, answer):
        self.headers = answer.headers
        self.last_id = ""
        self._lines = answer.iter_lines(chunk_size=1, decode_unicode=True)

    def next(self):
        """The list of the next event that has one."""
        data = []
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "data":
                data.append(value)
            elif not line and data:
                return json.loads("\n".join(data))
        raise AssertionError("the end of the stream")

    def receive(self, count):
        received = []
        while len(received) < count:
            received += self.next()
        assert len(received) == count
        return received


@contextmanager
def events(group, conn_id, last_id=None):
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    url = f"http://127.0.0.1:{group.port}/events?conn_id={conn_id}"
    with requests.get(url, headers=headers, stream=True, timeout=20) as answer:
        assert answer.status_code == 200
        yield Events(answer)


@pytest.mark.promise("4.1", "4.16", "4.43")
def test_events_have_the_list_and_a_position(small, name, helpers):
    conn_id = small.connect("joe", name)
    small.call("/message", [{"user": "b", "channel": name, "message": {"text": number}} for number in range(3)])
    with events(small, conn_id) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        missed = stream.next()
        assert isinstance(missed, list)
        assert helpers.texts(missed) == [0, 1, 2]
        assert [one["catchup"] for one in missed] == [True] * 3
        positions = [stream.last_id]
        for text in ("live", "line\nbreak\r\u2028"):
            small.say(name, text)
            (live,) = stream.next()
            assert (live["message"]["text"], live["catchup"], live["channel"]) == (text, False, name)
            positions.append(stream.last_id)
    assert all(positions)
    assert len(set(positions)) == 3


@pytest.mark.promise("4.40", "4.43")
def test_an_unknown_connection_has_no_events(small):
    for wrong in ("", "nonsense", uuid.uuid4()):
        refused = requests.get(f"http://127.0.0.1:{small.port}/events?conn_id={wrong}", timeout=20)
        assert refused.status_code == 401
        assert "error" in refused.json()


@pytest.mark.promise("4.44", "5.2")
def test_a_stream_goes_on_behind_the_last_event(large, name, helpers):
    """The server has written all of it; only the client knows what it has seen."""
    channels = [f"{name}-{number}" for number in range(4)]
    conn_id = large.connect("joe", *channels)
    with events(large, conn_id) as stream:
        for channel in channels:
            large.say(channel, "seen")
        stream.receive(4)
        seen = stream.last_id
        for channel in channels:
            large.say(channel, "lost")
        stream.receive(4)
    for channel in channels:
        large.say(channel, "away")
    with events(large, conn_id, seen) as stream:
        again = stream.receive(8)
        assert {one["catchup"] for one in again} == {True}
        for channel in channels:
            texts = [one["message"]["text"] for one in again if one["channel"] == channel]
            assert texts == ["lost", "away"]
        large.say(channels[0], "live")
        assert [(one["message"]["text"], one["catchup"]) for one in stream.next()] == [("live", False)]
