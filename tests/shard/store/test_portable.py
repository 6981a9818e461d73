"""History as lines of JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from channelstream.errors import BadHistoryFile
from channelstream.shard.store import portable
from channelstream.shard.store.base import FramesSaved, Saved, SavedChannel, StoredMessage, UserSaved
from channelstream.shard.store.portable import Report
from channelstream.wire.messages import ChannelConfig

HEADER = b'{"type":"header","format":"channelstream history","version":1}'
CHANNEL = b'{"type":"channel","name":"a","config":{}}'
MESSAGE = b'{"type":"message","channel":"a","seq":1,"uuid":"m1","at":1.5,"body":{"n":1}}'


def saved_with(*seqs: int, name: str = "a", config: ChannelConfig | None = None) -> Saved:
    history = [StoredMessage(f"m{seq}", seq, b'{"n":%d}' % seq, 1.5) for seq in seqs]
    channel = SavedChannel("uuid", "epoch", max(seqs, default=0), config or ChannelConfig(), history)
    return Saved({name: channel}, {"ann": UserSaved("ann", {"é": 1.5}, ("é",))})


def lines(*saved: Saved, names: Any = ()) -> list[bytes]:
    return list(portable.lines_of(saved, frozenset(names), "2026-11-24T07:50:00"))


def test_what_is_written_is_read() -> None:
    saved = saved_with(1, 5, 7, config=ChannelConfig(store_history=True, history_ttl=60))
    imported = portable.parse(lines(saved))
    assert (imported.channels, imported.users) == (saved.channels, saved.users)


def test_several_shards_are_one_file_in_the_order_of_names() -> None:
    written = lines(saved_with(1, name="b"), saved_with(name="a"))
    assert [json.loads(line).get("name") or json.loads(line).get("channel") for line in written[1:]] == [
        "a",
        "b",
        "b",
        "ann",
    ]


def test_some_channels_come_without_users() -> None:
    written = lines(saved_with(1, name="b"), saved_with(name="a"), names=["b"])
    assert [json.loads(line)["type"] for line in written] == ["header", "channel", "message"]


VALUES = some.text() | some.floats(allow_nan=False, allow_infinity=False)


@given(some.dictionaries(some.text(), VALUES, min_size=1, max_size=4))
def test_a_body_is_one_line_however_it_was_written(value: dict[str, Any]) -> None:
    body = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\r\n").encode()
    saved = saved_with()
    saved.channels["a"].history = [StoredMessage("m", 1, body, 0.0)]
    written = lines(saved)
    assert [line.count(b"\n") for line in written] == [1] * len(written)
    assert json.loads(portable.parse(written).channels["a"].history[0].body) == value


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ([], 1, "it is empty"),
        ([b"", b" "], 3, "it is empty"),
        ([b"{"], 1, "expected a line of a history file"),
        ([CHANNEL], 1, '"format":"channelstream history"'),
        ([HEADER.replace(b"channelstream ", b"")], 1, '"format":"channelstream history"'),
        ([HEADER.replace(b"1", b"2")], 1, "its version is 2, expected 1"),
        ([HEADER, HEADER], 2, "a second time"),
        ([HEADER, b'{"type":"other"}'], 2, "other"),
        ([HEADER, CHANNEL, b"", CHANNEL], 4, "'a' is there a second time"),
        ([HEADER, CHANNEL.replace(b'"a"', b'""')], 2, "0 characters"),
        ([HEADER, CHANNEL.replace(b'"a"', b'"' + b"a" * 257 + b'"')], 2, "257 characters"),
        ([HEADER, CHANNEL.replace(b"{}", b'{"history_size":-1}')], 2, "below 0"),
        ([HEADER, CHANNEL.replace(b"{}", b'{"history_size":"x"}')], 2, "history_size"),
        ([HEADER, CHANNEL.replace(b"{}", b'{},"seq":-1')], 2, "seq -1"),
        ([HEADER, MESSAGE], 2, "which no line before is about"),
        ([HEADER, CHANNEL, MESSAGE, MESSAGE], 4, "seq 1, expected more than 1"),
        ([HEADER, CHANNEL, MESSAGE, MESSAGE.replace(b":1,", b":2,")], 4, "the uuid 'm1'"),
        ([HEADER, CHANNEL, MESSAGE.replace(b'{"n":1}', b"[]")], 3, "body: expected a JSON object"),
        ([HEADER, CHANNEL, MESSAGE.replace(b'{"n":1}', b"{ }")], 3, "body: expected a JSON object that is not empty"),
        ([HEADER, CHANNEL, MESSAGE.replace(b'"m1"', b'""')], 3, "the uuid ''"),
        ([HEADER, CHANNEL, MESSAGE[:-9]], 3, "expected a line"),
        ([HEADER, b'{"type":"user","name":"x","state":{"a":[1]}}'], 2, "state"),
        ([HEADER, *[b'{"type":"user","name":"x","state":{}}'] * 2], 3, "a second time"),
        ([HEADER, b"\xff"], 2, "expected a line"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(content: list[bytes], line: int, reason: str) -> None:
    with pytest.raises(BadHistoryFile) as caught:
        portable.parse(content)
    assert caught.value.line == line
    assert reason in str(caught.value)
    assert "nothing was imported" in str(caught.value)


def test_what_is_there_stays_and_the_rest_is_added() -> None:
    there, report = saved_with(2, 3, 9), Report()
    there.frames["c/a"] = FramesSaved("c/a", "epoch", 9, ())
    there.users["ann"] = UserSaved("ann", {"own": 1}, ())
    given_file = portable.parse(lines(saved_with(1, 2, 5, 11, config=ChannelConfig(history_size=1))))
    given_file.channels["a"].history[1] = StoredMessage("other uuid, same seq", 2, b"{}", 0.0)
    given_file.users["bob"] = UserSaved("bob", {}, ())
    portable.put_into(there, given_file, report)
    channel = there.channels["a"]
    assert [message.uuid for message in channel.history] == ["m1", "m2", "m3", "m5", "m9", "m11"]
    assert (channel.seq, channel.config, channel.is_whole) == (11, ChannelConfig(), False)
    assert there.frames == {}
    assert there.users == {"ann": UserSaved("ann", {"own": 1}, ()), "bob": UserSaved("bob", {}, ())}
    assert report == Report(channels=1, messages=3, skipped=1, users=1)


def test_a_second_import_changes_nothing() -> None:
    there, report = saved_with(1, 2), Report()
    portable.put_into(there, portable.parse(lines(saved_with(1, 2))), report)
    assert there == saved_with(1, 2)
    assert report == Report(skipped=2)


def test_a_channel_that_is_new_begins_a_new_epoch() -> None:
    there, report = Saved(), Report()
    portable.put_into(there, portable.parse(lines(saved_with(1, 2))), report)
    assert [message.seq for message in there.channels["a"].history] == [1, 2]
    assert not there.channels["a"].is_whole
    assert report == Report(channels=1, messages=2, users=1)
