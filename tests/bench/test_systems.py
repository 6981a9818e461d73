"""Messages."""

import json

from bench.systems import Message, Websockets, crowd_for, filled


def test_a_message_has_the_mark_once_and_the_stamp():
    message = filled(10, 12345)
    assert message == Message("@@xxxxxxxx", 12345)
    assert message.json() == b'{"text":"@@xxxxxxxx","t":12345}'
    assert json.loads(message.json()) == message.fields()
    assert filled(0, 1).text == "@@"


def test_most_systems_speak_websocket_and_lack_nothing():
    assert Websockets().missing() is None
    with crowd_for(Websockets()) as crowd:  # type: ignore[arg-type]
        assert len(crowd) == 0
