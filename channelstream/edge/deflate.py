"""Compression of websocket messages (permessage-deflate, RFC 7692) without context takeover: each message is compressed
by itself, so once for all who agreed to it, and an idle connection keeps nothing. Pure.
"""

from __future__ import annotations

import zlib
from typing import Final

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionName

from channelstream.edge.frames import masked_size, text_frame

NAME: Final = "permessage-deflate"

WINDOW_BITS: Final = 15
"""The window that messages are compressed with. A client that wants a smaller one gets them plain: what is compressed
is the same for all."""

DEFLATED_FROM_BYTES: Final = 256
"""Less than this is sent plain: it would save some tens of bytes, and they fit into the same packet."""

_BLOCK_END: Final = b"\x00\x00\xff\xff"
"""What a flush ends with, and is not sent (RFC 7692 section 7.2.1)."""

_factory: Final = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)


def agreed(offers: str) -> str | None:
    """The answer's Sec-WebSocket-Extensions to a request's; None where nothing of it is agreed to. The first offer that
    can be taken is (RFC 7692 section 5.1)."""
    try:
        extensions = parse_extension(offers)
    except InvalidHeader:
        return None
    for name, params in extensions:
        if name != NAME:
            continue
        try:
            answer, extension = _factory.process_request_params(params, [])
        except NegotiationError:
            continue
        if extension.local_max_window_bits == WINDOW_BITS:
            return build_extension([(ExtensionName(NAME), answer)])
    return None


def deflated_frame(payload: bytes) -> bytes:
    """The text frame of a compressed payload; of a small one, or one that would not become smaller, the plain one."""
    if len(payload) < DEFLATED_FROM_BYTES:
        return text_frame(payload)
    deflater = zlib.compressobj(wbits=-WINDOW_BITS)
    deflated = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_BLOCK_END)
    return text_frame(deflated, compressed=True) if len(deflated) < len(payload) else text_frame(payload)


class Inflater(PerMessageDeflate):
    """Reads what a client has compressed. Make one for each parser."""

    def __init__(self) -> None:
        # A client may always compress with the largest window: ours reads any.
        super().__init__(True, True, WINDOW_BITS, WINDOW_BITS)
        self.wire_bytes = 0
        """Of all whole frames so far, with their heads, as they came."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Called by the parser for each frame. Raises `ProtocolError`, `PayloadTooBig`."""
        self.wire_bytes += masked_size(len(frame.data))
        return super().decode(frame, max_size=max_size)
