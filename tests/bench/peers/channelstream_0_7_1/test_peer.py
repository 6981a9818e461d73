"""What channelstream 0.7.1 is told."""

import configparser
from pathlib import Path

from bench.peers.channelstream_0_7_1 import peer
from bench.peers.channelstream_0_7_1.peer import OldChannelstream
from bench.systems import filled


def test_it_listens_on_loopback_and_takes_calls_from_there() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(peer.config(12345))
    settings = parser["channelstream"]
    assert (settings["host"], settings["port"]) == ("127.0.0.1", "12345")
    assert settings["allow_posting_from"] == "127.0.0.1"
    assert settings["secret"] == peer.SECRET


def test_messages_go_to_the_channel_in_one_request() -> None:
    messages = [filled(10, 1), filled(10, 2)]
    assert peer.message_body(messages) == [
        {"user": "bench", "channel": "bench", "message": {"text": "@@xxxxxxxx", "t": t}} for t in (1, 2)
    ]


def test_it_is_started_without_the_folder_that_has_its_newer_namesake(tmp_path: Path) -> None:
    python, isolated, script, flag, file = OldChannelstream(tmp_path).command(tmp_path, 12345)
    assert Path(python).is_relative_to(tmp_path)
    assert isolated == "-I"
    assert Path(script).is_file()
    assert flag == "--ini"
    assert "port = 12345" in Path(file).read_text()
