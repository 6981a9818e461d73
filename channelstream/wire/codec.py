"""Messages ↔ bytes. Pure: what a socket is, is not known here.

A batch is one ZeroMQ frame: a version byte, the sender's generation and the batch's number in its stream (8 bytes
each, big-endian), then a msgpack array of messages. A message is encoded by itself, so that one that goes to many peers
is encoded once, and a batch is only its head and the messages joined.

PERF: bodies are byte strings inside the messages instead of ZeroMQ frames beside them. They stay untouched either
way; for 100 messages of 300 bytes one frame costs less than half of 101.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from channelstream.errors import Undecodable, VersionMismatch
from channelstream.wire.messages import ToPeer, ToShard

WIRE_VERSION: Final = 2
"""Raised whenever an older reader would misread; the processes of a group are of one release."""

_HEAD: Final = struct.Struct(">BQQBI")
"""Version, generation, number, the msgpack mark of an array with a 32-bit length, and that length."""

_ARRAY_32: Final = 0xDD
_ARRAY_AT: Final = 17
"""Where the msgpack array begins."""

_encoder: Final = msgspec.msgpack.Encoder()

M = TypeVar("M")


class Batch(NamedTuple, Generic[M]):
    """What came in one frame."""

    generation: int
    number: int
    messages: list[M]


def encode(message: ToShard | ToPeer) -> bytes:
    """One message, ready to stand in any number of batches."""
    return _encoder.encode(message)


def join(generation: int, number: int, encoded: Sequence[bytes]) -> bytes:
    """A batch of encoded messages. `generation` is 0 for senders that own nothing; `number` counts the batches from
    one process to another, so that a lost one is noticed with the next."""
    return _HEAD.pack(WIRE_VERSION, generation, number, _ARRAY_32, len(encoded)) + b"".join(encoded)


class Reader(Generic[M]):
    """Reads batches of one direction."""

    def __init__(self, kind: type[M]) -> None:
        self._decoder: Final = msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]

    def read(self, batch: bytes) -> Batch[M]:
        """Raises `VersionMismatch` or `Undecodable`."""
        if len(batch) < _HEAD.size:
            raise Undecodable(f"{len(batch)} bytes, expected at least {_HEAD.size}")
        version, generation, number, _, _ = _HEAD.unpack_from(batch)
        if version != WIRE_VERSION:
            raise VersionMismatch(version, WIRE_VERSION)
        try:
            return Batch(generation, number, self._decoder.decode(memoryview(batch)[_ARRAY_AT:]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(str(error)) from error


def shard_reader() -> Reader[ToShard]:
    """For what a shard receives."""
    return Reader(ToShard)  # type: ignore[arg-type]


def peer_reader() -> Reader[ToPeer]:
    """For what a router or an edge receives."""
    return Reader(ToPeer)  # type: ignore[arg-type]
