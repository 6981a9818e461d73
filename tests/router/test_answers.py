"""The types of answers fit the parts that they share with what is validated and what crosses processes."""

from __future__ import annotations

from msgspec.structs import fields

from channelstream.router import answers
from channelstream.router.schemas import ChannelConfigChange
from channelstream.wire.messages import ChannelConfig


def test_a_channels_settings_are_its_configuration() -> None:
    shown = [field.name for field in fields(answers.ChannelSettings)]
    assert shown == [field.name for field in fields(ChannelConfig)]
    assert set(shown) == {field.name for field in fields(ChannelConfigChange)}


def test_every_type_says_what_it_is() -> None:
    kinds = [kind for kind in vars(answers).values() if isinstance(kind, type) and kind.__module__ == answers.__name__]
    assert kinds
    assert all(kind.__doc__ for kind in kinds)
