"""History as lines of JSON, for a file that people keep: what `channelstream history` writes and reads. Pure.

A file begins with one line that says what it is. Then come channels, each followed by its messages in their order, and
users. docs/storage.md describes each line for those who make such files themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from channelstream.errors import BadHistoryFile
from channelstream.ids import MAX_CHANNEL_NAME, MAX_USER_NAME, channel_key
from channelstream.shard.store.base import Saved, SavedChannel, StoredMessage, UserSaved
from channelstream.wire.messages import ChannelConfig, State

FORMAT: Final = "channelstream history"

VERSION: Final = 1
"""Raised whenever an older program would misread a file."""

MAX_SEQ: Final = 2**53
"""Browsers count as far as this without a gap."""


class Header(Struct, frozen=True, tag="header", tag_field="type"):
    """The first line. `exported` is UTC, for people."""

    format: str
    version: int
    exported: str = ""


class ChannelLine(Struct, frozen=True, tag="channel", tag_field="type"):
    """A channel. `seq` is the last delivery that it counted; `epoch` is for people, an import begins a new one."""

    name: str
    config: ChannelConfig
    seq: int = 0
    uuid: str = ""
    epoch: str = ""


class MessageLine(Struct, frozen=True, tag="message", tag_field="type"):
    """A message of the channel that a line before named; `at` in seconds since the epoch of UTC."""

    channel: str
    seq: int
    uuid: str
    at: float
    body: msgspec.Raw


class UserLine(Struct, frozen=True, tag="user", tag_field="type"):
    """A user's state, and which of its keys others may see."""

    name: str
    state: State
    public_keys: tuple[str, ...] = ()


Line = Header | ChannelLine | MessageLine | UserLine

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Imported(Struct):
    """What a file holds, in order."""

    channels: dict[str, SavedChannel] = field(default_factory=dict)
    users: dict[str, UserSaved] = field(default_factory=dict)


class Report(Struct):
    """What an import did."""

    channels: int = 0
    """Made, or something put into."""
    messages: int = 0
    skipped: int = 0
    """Messages that were there already."""
    users: int = 0


# --- writing ----------------------------------------------------------------------------------------------------------


def lines_of(found: Iterable[Saved], names: frozenset[str], exported: str) -> Iterator[bytes]:
    """The lines of a file: of the channels with these names, or of everything where there is none."""
    yield _encode(Header(FORMAT, VERSION, exported)) + b"\n"
    stores = list(found)
    channels = {name: channel for saved in stores for name, channel in saved.channels.items()}
    for name in sorted(channels):
        if not names or name in names:
            yield from _channel_lines(name, channels[name])
    if not names:
        users = {name: user for saved in stores for name, user in saved.users.items()}
        for name in sorted(users):
            yield _encode(UserLine(name, users[name].state, users[name].public_keys)) + b"\n"


def _channel_lines(name: str, channel: SavedChannel) -> Iterator[bytes]:
    yield _encode(ChannelLine(name, channel.config, channel.seq, channel.uuid, channel.epoch)) + b"\n"
    for one in channel.history:
        yield _encode(MessageLine(name, one.seq, one.uuid, one.at, msgspec.Raw(on_one_line(one.body)))) + b"\n"


def on_one_line(body: bytes) -> bytes:
    """The same JSON: inside its strings there are no line ends as such."""
    return body.replace(b"\n", b" ").replace(b"\r", b" ")


# --- reading ----------------------------------------------------------------------------------------------------------


def parse(lines: Iterable[bytes]) -> Imported:
    """All of a file. Raises `BadHistoryFile` with the number of the first line that cannot be used."""
    reader = _Reader()
    number = 0
    for number, text in enumerate(lines, 1):
        if text.strip():
            reader.take(number, text)
    if not reader.has_begun:
        raise BadHistoryFile(number + 1, "it is empty; expected a line that says what it is")
    return reader.imported


class _Reader:
    def __init__(self) -> None:
        self.imported: Final = Imported()
        self.has_begun = False
        self._uuids: dict[str, set[str]] = {}
        """Of the messages of each channel."""

    def take(self, number: int, text: bytes) -> None:
        try:
            line = _decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadHistoryFile(number, f"expected a line of a history file: {error}") from error
        if not self.has_begun:
            self._begin(number, line)
            return
        match line:
            case Header():
                raise BadHistoryFile(number, "it begins a second time")
            case ChannelLine():
                self._take_channel(number, line)
            case MessageLine():
                self._take_message(number, line)
            case UserLine():
                self._take_user(number, line)

    def _begin(self, number: int, line: Line) -> None:
        if not isinstance(line, Header) or line.format != FORMAT:
            raise BadHistoryFile(number, f'expected {{"type":"header","format":"{FORMAT}","version":{VERSION}}}')
        if line.version != VERSION:
            raise BadHistoryFile(number, f"its version is {line.version}, expected {VERSION}")
        self.has_begun = True

    def _take_channel(self, number: int, line: ChannelLine) -> None:
        if not 0 < len(line.name) <= MAX_CHANNEL_NAME:
            raise BadHistoryFile(number, f"a name of {len(line.name)} characters, expected 1 to {MAX_CHANNEL_NAME}")
        if line.name in self.imported.channels:
            raise BadHistoryFile(number, f"the channel {line.name!r} is there a second time")
        if not 0 <= line.seq <= MAX_SEQ:
            raise BadHistoryFile(number, f"seq {line.seq}, expected 0 to {MAX_SEQ}")
        config = line.config
        if config.history_size < 0 or config.frames_size < 0 or config.history_ttl < 0:
            raise BadHistoryFile(number, "a size or an age below 0")
        self.imported.channels[line.name] = SavedChannel(line.uuid, line.epoch, line.seq, config)
        self._uuids[line.name] = set()

    def _take_message(self, number: int, line: MessageLine) -> None:
        channel = self.imported.channels.get(line.channel)
        if channel is None:
            raise BadHistoryFile(number, f"a message of the channel {line.channel!r}, which no line before is about")
        last = channel.history[-1].seq if channel.history else 0
        if not last < line.seq <= MAX_SEQ:
            raise BadHistoryFile(
                number, f"seq {line.seq}, expected more than {last}, which the message before has, up to {MAX_SEQ}"
            )
        if not line.uuid or line.uuid in self._uuids[line.channel]:
            raise BadHistoryFile(number, f"the uuid {line.uuid!r}, expected one that no message before has")
        try:
            if not _object(line.body):
                raise BadHistoryFile(number, "body: expected a JSON object that is not empty")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadHistoryFile(number, f"body: expected a JSON object: {error}") from error
        self._uuids[line.channel].add(line.uuid)
        channel.history.append(StoredMessage(line.uuid, line.seq, bytes(line.body), line.at))
        channel.seq = max(channel.seq, line.seq)

    def _take_user(self, number: int, line: UserLine) -> None:
        if not 0 < len(line.name) <= MAX_USER_NAME:
            raise BadHistoryFile(number, f"a name of {len(line.name)} characters, expected 1 to {MAX_USER_NAME}")
        if line.name in self.imported.users:
            raise BadHistoryFile(number, f"the user {line.name!r} is there a second time")
        self.imported.users[line.name] = UserSaved(line.name, line.state, line.public_keys)


# --- putting in -------------------------------------------------------------------------------------------------------


def put_into(saved: Saved, imported: Imported, report: Report) -> None:
    """Adds to what is there what a file has beside it.

    What is there stays as it is: channels' configurations, users' states, messages with the same seq or uuid. A channel
    that something was put into begins a new epoch, so that no client takes it for the one that it knows.
    """
    for name, channel in imported.channels.items():
        known = saved.channels.get(name)
        if known is None:
            known = saved.channels[name] = SavedChannel(channel.uuid, channel.epoch, 0, channel.config)
            is_changed = True
        else:
            is_changed = False
        added = _missing(known, channel)
        report.messages += len(added)
        report.skipped += len(channel.history) - len(added)
        if added or is_changed:
            report.channels += 1
            known.history = sorted([*known.history, *added], key=lambda message: message.seq)
            known.seq = max(known.seq, channel.seq)
            known.is_whole = False
            saved.frames.pop(channel_key(name), None)
    for name, user in imported.users.items():
        if name not in saved.users:
            saved.users[name] = user
            report.users += 1


def _missing(known: SavedChannel, channel: SavedChannel) -> list[StoredMessage]:
    seqs = {message.seq for message in known.history}
    uuids = {message.uuid for message in known.history}
    return [message for message in channel.history if message.seq not in seqs and message.uuid not in uuids]
