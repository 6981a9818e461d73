"""The bytes of frames, read by parsers that are not ours."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Close, Opcode
from websockets.protocol import Protocol, Side, State
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Message, Ping, TextMessage

from channelstream.edge.frames import (
    CLOSE_DISCONNECTED,
    CLOSE_EXPIRED,
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    CLOSE_NOT_TEXT,
    CLOSE_POLICY,
    CLOSE_REPLACED,
    CLOSE_TOO_BIG,
    PING,
    REASONS,
    close_event,
    close_frame,
    event,
    gap,
    listed,
    text_frame,
)
from channelstream.ids import channel_key, user_key

CODES = [
    CLOSE_NORMAL,
    CLOSE_GOING_AWAY,
    CLOSE_NOT_TEXT,
    CLOSE_POLICY,
    CLOSE_TOO_BIG,
    CLOSE_DISCONNECTED,
    CLOSE_REPLACED,
    CLOSE_EXPIRED,
]


def by_websockets(data: bytes) -> tuple[Opcode, bool, bytes]:
    """The one frame in `data`, as a client of `websockets` reads it."""
    client = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
    client.receive_data(data)
    (frame,) = client.events_received()
    assert client.parser_exc is None
    return frame.opcode, frame.fin, bytes(frame.data)  # type: ignore[union-attr]


def by_wsproto(data: bytes) -> tuple[str, bool]:
    """The text in `data`, whose parts are put together, and whether the message is at its end, as wsproto reads it."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    parts: list[Message] = [event for event in client.events() if isinstance(event, TextMessage)]  # type: ignore[type-arg]
    return "".join(part.data for part in parts), parts[-1].message_finished


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 70_000])
def test_a_text_frame_of_any_length_is_read_by_others(size: int) -> None:
    payload = (b"0123456789" * 7000)[:size]
    frame = text_frame(payload)
    assert by_websockets(frame) == (Opcode.TEXT, True, payload)
    assert by_wsproto(frame) == (payload.decode(), True)


@pytest.mark.parametrize(("size", "header"), [(125, 2), (126, 4), (65_535, 4), (65_536, 10)])
def test_the_shortest_length_is_used(size: int, header: int) -> None:
    assert len(text_frame(b"x" * size)) == header + size


@pytest.mark.parametrize("code", CODES)
def test_a_close_frame_says_why(code: int) -> None:
    opcode, fin, data = by_websockets(close_frame(code))
    assert (opcode, fin) == (Opcode.CLOSE, True)
    assert Close.parse(data) == Close(code, REASONS[code])
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(close_frame(code))
    assert list(client.events()) == [CloseConnection(code, REASONS[code])]


def test_a_close_frame_without_a_known_reason_has_none() -> None:
    assert Close.parse(by_websockets(close_frame(4999))[2]) == Close(4999, "")


def test_every_reason_fits_into_a_control_frame() -> None:
    assert all(len(reason.encode()) <= 123 for reason in REASONS.values())
    assert set(REASONS) == set(CODES)


def test_a_ping() -> None:
    assert by_websockets(PING) == (Opcode.PING, True, b"")
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(PING)
    assert list(client.events()) == [Ping(b"")]


@pytest.mark.parametrize(
    ("bodies", "expected"), [([], b"[]"), ([b'{"a":1}'], b'[{"a":1}]'), ([b"{}", b"{}"], b"[{},{}]")]
)
def test_bodies_become_one_list(bodies: list[bytes], expected: bytes) -> None:
    assert listed(bodies) == expected


@pytest.mark.parametrize("lost", [None, 3])
def test_a_gap_names_the_channel(lost: int | None) -> None:
    assert json.loads(gap(channel_key('a/"b'), lost)) == {"type": "gap", "channel": 'a/"b', "missed": lost}


def test_a_gap_of_private_messages_has_no_channel() -> None:
    assert json.loads(gap(user_key("ann"), 1)) == {"type": "gap", "channel": None, "missed": 1}


def test_an_event_is_one_line_of_data_and_its_position() -> None:
    assert event([b'{"n":1}', b'{"n":2}'], "c:1:e") == b'id: c:1:e\ndata: [{"n":1},{"n":2}]\n\n'
    assert event((), "c:1:e") == b"id: c:1:e\n\n"


def test_the_last_event_says_why() -> None:
    told = close_event(4001, 5)
    assert told == b'event: close\ndata: {"code":4001,"reason":"replaced by another socket"}\nretry: 5\n\n'
