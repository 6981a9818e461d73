"""What is installed is what is pinned, and what is not says how to install it."""

import json
import re
from pathlib import Path

import pytest

from bench.peers import all_peers, installed
from bench.peers.channelstream_0_7_1.peer import OldChannelstream
from bench.peers.nodes import SocketIo, Ws
from bench.processes import NotStarted


def test_what_is_installed_as_a_whole_is_known_by_its_pins(tmp_path: Path) -> None:
    assert not installed.is_installed(tmp_path, installed.NODE_PINS)
    installed.set_installed(tmp_path, installed.NODE_PINS)
    assert installed.is_installed(tmp_path, installed.NODE_PINS)


def test_other_versions_are_not_those_that_are_pinned(tmp_path: Path) -> None:
    installed.set_installed(tmp_path, installed.CHANNELSTREAM_PINS)
    assert not installed.is_installed(tmp_path, installed.NODE_PINS)


def test_the_peers_have_folders_of_their_own(tmp_path: Path) -> None:
    assert installed.node_folder(tmp_path) != installed.channelstream_folder(tmp_path)


@pytest.mark.parametrize("peer", [Ws, SocketIo, OldChannelstream])
def test_a_peer_that_is_not_installed_says_how_to_install_it(
    peer: type[Ws | SocketIo | OldChannelstream], tmp_path: Path
) -> None:
    assert installed.COMMAND in (peer(tmp_path).missing() or "")


def test_a_peer_that_is_not_installed_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="make bench-peers"):
        OldChannelstream(tmp_path).__enter__()


def test_each_peer_has_a_name_of_its_own() -> None:
    assert [peer.name for peer in all_peers()] == ["nchan", "ws", "socket.io", "channelstream 0.7.1"]


def test_the_makefile_has_the_command() -> None:
    makefile = (installed.HERE.parents[1] / "Makefile").read_text()
    assert f"\n{installed.COMMAND.removeprefix('make ')}:" in makefile


def test_git_ignores_what_is_installed() -> None:
    ignored = (installed.HERE.parents[1] / ".gitignore").read_text().splitlines()
    assert f"{installed.DEFAULT_FOLDER.name}/" in ignored


def test_all_versions_for_node_are_exact_and_no_registry_is_named() -> None:
    text = installed.NODE_PINS.read_text()
    pins = json.loads(text)["packages"]
    wanted = json.loads((installed.NODE_SERVERS / "package.json").read_text())["dependencies"]
    assert wanted == {name: pins[f"node_modules/{name}"]["version"] for name in ("socket.io", "ws")}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pin["version"]) for name, pin in pins.items() if name)
    assert "resolved" not in text


def test_the_version_of_a_library_is_the_one_that_is_pinned() -> None:
    assert f'"ws": "{installed.node_version("ws")}"' in (installed.NODE_SERVERS / "package.json").read_text()


def test_all_versions_for_python_are_exact_and_no_registry_is_named() -> None:
    lines = [line for line in installed.CHANNELSTREAM_PINS.read_text().splitlines() if not line.startswith("#")]
    assert "channelstream==0.7.1" in lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
