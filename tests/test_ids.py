"""Keys of topics and names of peers."""

from __future__ import annotations

import pytest

from channelstream.ids import (
    PeerName,
    canonical_uuid,
    channel_key,
    conn_id_of,
    connection_key,
    name_of,
    role_and_index,
    user_key,
)


@pytest.mark.parametrize("name", ["lobby", "", "a/b", "ünïcode", "c/nested"])
def test_the_name_comes_back_out_of_each_key(name: str) -> None:
    assert [name_of(key) for key in (channel_key(name), user_key(name), connection_key(name))] == [name] * 3


def test_keys_of_different_kinds_never_meet() -> None:
    assert len({channel_key("x"), user_key("x"), connection_key("x")}) == 3


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("edge-0:9f86d081", ("edge", 0)),
        ("router-12:x", ("router", 12)),
        ("two-words-3:a:b", ("two-words", 3)),
    ],
)
def test_a_peer_name_says_its_role_and_index(peer: str, expected: tuple[str, int]) -> None:
    assert role_and_index(PeerName(peer)) == expected


@pytest.mark.parametrize(
    "peer", ["", "edge", "edge-0", "edge-0:", "edge:x", "-0:x", "edge-:x", "edge-one:x", "edge--:x"]
)
def test_another_form_is_refused(peer: str) -> None:
    with pytest.raises(ValueError, match="role-index:incarnation"):
        role_and_index(PeerName(peer))


CANONICAL = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"


@pytest.mark.parametrize("text", [CANONICAL, CANONICAL.upper(), CANONICAL.replace("-", ""), f"{{{CANONICAL}}}"])
def test_a_uuid_has_one_canonical_form(text: str) -> None:
    assert canonical_uuid(text) == conn_id_of(text) == CANONICAL


@pytest.mark.parametrize("text", ["", CANONICAL + "\n", CANONICAL + "0", CANONICAL[:-1] + "g"])
def test_what_is_no_uuid_is_told_apart(text: str) -> None:
    assert conn_id_of(text) is None
    with pytest.raises(ValueError, match=r"."):
        canonical_uuid(text)
