"""Compression: what is agreed to, and frames that the parser of `websockets` reads."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import PayloadTooBig
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from channelstream.edge.deflate import DEFLATED_FROM_BYTES, Inflater, agreed, deflated_frame
from channelstream.edge.frames import masked_size, text_frame

OURS = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

PAYLOAD = json.dumps([{"type": "message", "message": {"text": "the same again and " * 40}}]).encode()


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate", OURS),
        ("permessage-deflate; client_max_window_bits", OURS),  # Chromium's and Firefox's
        ("permessage-deflate; server_no_context_takeover", OURS),
        ("permessage-deflate; server_max_window_bits=15", OURS + "; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=10", None),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", OURS),
        ("x-webkit-deflate-frame", None),
        ("x-webkit-deflate-frame, permessage-deflate", OURS),
        ("permessage-deflate; something_new", None),
        ("permessage-deflate; client_max_window_bits=99", None),
        ("", None),
        ("permessage-deflate;;", None),
        (";", None),
        ("\xff", None),
    ],
)
def test_what_is_agreed_to(offers: str, answer: str | None) -> None:
    assert agreed(offers) == answer


@pytest.mark.parametrize("offers", ["permessage-deflate", "permessage-deflate; client_max_window_bits"])
def test_a_client_can_live_with_it(offers: str) -> None:
    answer = agreed(offers)
    assert answer is not None
    names = [part.strip().partition("=") for part in answer.split(";")[1:]]
    params = [(name, value or None) for name, _, value in names]
    extension = ClientPerMessageDeflateFactory(client_max_window_bits=True).process_response_params(params, [])
    assert (extension.remote_no_context_takeover, extension.local_no_context_takeover) == (True, True)


def reading(*frames: bytes) -> list[Frame]:
    """What a client that has agreed reads."""
    protocol = Protocol(Side.CLIENT, state=OPEN)
    protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(b"".join(frames))
    assert protocol.parser_exc is None
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


def test_a_frame_is_small_and_stands_for_itself() -> None:
    frame = deflated_frame(PAYLOAD)
    assert len(frame) < len(PAYLOAD) / 5
    assert [bytes(one.data) for one in reading(frame, frame, text_frame(b"[]"), frame)] == [
        PAYLOAD,
        PAYLOAD,
        b"[]",
        PAYLOAD,
    ]


@pytest.mark.parametrize("payload", [b"[]", b"x" * (DEFLATED_FROM_BYTES - 1)])
def test_what_is_small_is_plain(payload: bytes) -> None:
    assert deflated_frame(payload) == text_frame(payload)


def test_what_does_not_become_smaller_is_plain() -> None:
    noise = bytes((number * 167 + number**3 // 7) % 256 for number in range(300))
    assert deflated_frame(noise) == text_frame(noise)


@pytest.mark.parametrize("size", [DEFLATED_FROM_BYTES, 70_000, 1 << 20])
def test_any_size(size: int) -> None:
    (frame,) = reading(deflated_frame(b"ab" * (size // 2)))
    assert bytes(frame.data) == b"ab" * (size // 2)


def sending(*payloads: bytes) -> bytes:
    """What a client that has agreed sends."""
    protocol = Protocol(Side.CLIENT, state=OPEN)
    protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    for payload in payloads:
        protocol.send_text(payload)
    return b"".join(protocol.data_to_send())


def inflating(max_size: int = 65_536) -> tuple[Protocol, Inflater]:
    protocol, inflater = Protocol(Side.SERVER, state=OPEN, max_size=max_size), Inflater()
    protocol.extensions = [inflater]
    return protocol, inflater


def test_what_clients_send_is_read_and_its_size_on_the_wire_known() -> None:
    protocol, inflater = inflating()
    data = sending(b"hello " * 500, b"x") + Frame(Opcode.PING, b"").serialize(mask=True)
    protocol.receive_data(data[:-3])
    assert 0 < inflater.wire_bytes <= len(data) - 3
    protocol.receive_data(data[-3:])
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    assert [bytes(frame.data) for frame in frames] == [b"hello " * 500, b"x", b""]
    assert inflater.wire_bytes == len(data)


def test_a_bomb_is_not_blown_up() -> None:
    protocol, _ = inflating(max_size=1000)
    protocol.receive_data(sending(bytes(10 << 20)))
    assert isinstance(protocol.parser_exc, PayloadTooBig)
    assert protocol.close_sent is not None
    assert protocol.close_sent.code == 1009


def test_masked_size() -> None:
    for size in (0, 125, 126, 65_535, 65_536):
        assert len(Frame(Opcode.TEXT, bytes(size)).serialize(mask=True)) == masked_size(size)
