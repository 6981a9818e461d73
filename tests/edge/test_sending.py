"""The loop in C and the one in Python: the same outcomes on the same sockets."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator

import pytest

from channelstream.edge.sending import (
    BROKEN,
    IS_NATIVE,
    NOT_DIRECT,
    send_to_each,
    send_to_each_in_python,
)

Send = Callable[[list[int], bytes | list[bytes]], list[tuple[int, int]]]

MUCH = bytes(64 * 1024 * 1024)
"""More than any kernel takes at once."""


@pytest.fixture(params=[send_to_each, send_to_each_in_python], ids=["the one in use", "in Python"])
def send(request: pytest.FixtureRequest) -> Send:
    return request.param  # type: ignore[no-any-return]


class Pair:
    """A client's socket and ours, which does not block."""

    def __init__(self) -> None:
        self.ours, self.client = socket.socketpair()
        self.ours.setblocking(False)
        self.client.settimeout(5)

    @property
    def fd(self) -> int:
        return self.ours.fileno()

    def received(self) -> bytes:
        return self.client.recv(65_536)

    def close(self) -> None:
        self.ours.close()
        self.client.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair() for _ in range(3)]
    yield made
    for pair in made:
        pair.close()


def test_the_loop_in_c_is_there_wherever_there_is_a_compiler() -> None:
    assert IS_NATIVE or shutil.which("cc") is None


def test_one_frame_for_all(send: Send, pairs: list[Pair]) -> None:
    assert send([pair.fd for pair in pairs], b"same") == []
    assert [pair.received() for pair in pairs] == [b"same"] * 3


def test_each_its_own(send: Send, pairs: list[Pair]) -> None:
    assert send([pair.fd for pair in pairs], [b"a", b"bb", b"ccc"]) == []
    assert [pair.received() for pair in pairs] == [b"a", b"bb", b"ccc"]


def test_nobody(send: Send) -> None:
    assert send([], b"nothing") == []
    assert send([], []) == []


def test_who_is_not_direct_is_left_out(send: Send, pairs: list[Pair]) -> None:
    assert send([pairs[0].fd, -1, pairs[2].fd], b"x") == [(1, NOT_DIRECT)]
    assert pairs[0].received() == pairs[2].received() == b"x"


def test_who_has_no_room_is_told_of_and_costs_the_others_nothing(send: Send, pairs: list[Pair]) -> None:
    ((place, sent),) = send([pairs[0].fd], MUCH)
    assert place == 0
    assert 0 < sent < len(MUCH)
    assert send([pairs[0].fd, pairs[1].fd], b"x") == [(0, 0)]
    assert pairs[1].received() == b"x"


def test_a_socket_that_is_broken(send: Send, pairs: list[Pair]) -> None:
    pairs[1].client.close()
    assert send([pair.fd for pair in pairs], b"x") == [(1, BROKEN)]
    assert pairs[0].received() == pairs[2].received() == b"x"


def test_a_descriptor_that_nobody_has(send: Send) -> None:
    assert send([999_999], b"x") == [(0, BROKEN)]


@pytest.mark.parametrize("frames", [[b"a"], [b"a", b"b", b"c"]])
def test_a_frame_for_each_and_no_more(send: Send, pairs: list[Pair], frames: list[bytes]) -> None:
    with pytest.raises((TypeError, ValueError)):
        send([pairs[0].fd, pairs[1].fd], frames)


def test_the_one_in_c_takes_nothing_but_numbers_and_bytes() -> None:
    with pytest.raises(TypeError):
        send_to_each(["1"], b"x")  # type: ignore[list-item]
    with pytest.raises(TypeError):
        send_to_each([1], ["x"])  # type: ignore[list-item]
