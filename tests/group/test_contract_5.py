"""Section 5 of docs/contract.md: lifetimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from socket import SHUT_RDWR

import pytest


def members(group, name):
    """How many connections are on a channel; None where there is no channel."""
    channel = group.call("/info", {"channels": [name]})["channels"].get(name)
    return None if channel is None else channel["total_connections"]


@pytest.mark.promise("5.1")
def test_who_does_not_come_is_forgotten(hasty, name, helpers, defaults):
    assert defaults["gc_conns_after"] == 30
    config = {name: {"notify_presence": True}}
    with hasty.websocket(hasty.connect("ann", name, channel_configs=config)) as ann:
        never, cut = hasty.connect(f"never-{name}", name), hasty.connect(f"cut-{name}", name)
        with hasty.websocket(cut) as socket:
            hasty.say(name, "hi")
            assert helpers.texts(helpers.receive(socket, 1)) == ["hi"]
            socket.socket.shutdown(SHUT_RDWR)
        helpers.eventually(lambda: members(hasty, name) == 1, "both are forgotten")
        assert [hasty.listen(conn_id).status_code for conn_id in (never, cut)] == [401, 401]
        seen = [(one["type"], one["user"], one["message"].get("action")) for one in helpers.receive(ann, 5)]
    assert sorted(one for one in seen if one[0] == "presence") == sorted(
        ("presence", f"{who}-{name}", action) for who in ("never", "cut") for action in ("joined", "parted")
    )


@pytest.mark.promise("5.1", "5.2")
def test_who_was_cut_off_comes_back_and_misses_nothing(large, name, helpers):
    conn_id = large.connect(f"joe-{name}", name, channel_configs={name: {"notify_presence": True}})
    sent = []
    for _ in range(3):
        with large.websocket(conn_id) as socket:
            assert helpers.texts(helpers.receive(socket, len(sent[-3:]))) == sent[-3:]
            large.say(name, "live")
            assert helpers.before(socket, "live") == []
            helpers.cut_off(large, socket)
        for _ in range(3):
            large.say(name, len(sent))
            sent.append(len(sent))
    shown = large.call("/info", {"channels": [name]})["channels"][name]
    assert shown["total_connections"] == 1
    assert shown["seq"] == 1 + 3 + len(sent), "it joined once and never parted"


@pytest.mark.promise("5.3")
def test_who_closes_is_gone_within_a_second(large, name, helpers):
    config = {name: {"notify_presence": True}}
    with large.websocket(large.connect("ann", name, channel_configs=config)) as ann:
        conn_id = large.connect(f"joe-{name}", name)
        helpers.receive(ann, 1)
        with large.websocket(conn_id) as socket:
            closed_at = datetime.now(UTC)
            socket.close()
        (parted,) = helpers.receive(ann, 1)
        assert (parted["user"], parted["message"]) == (f"joe-{name}", {"action": "parted"})
        parted_at = datetime.fromisoformat(parted["timestamp"]).replace(tzinfo=UTC)
        assert parted_at - closed_at < timedelta(seconds=1)
        assert large.listen(conn_id).status_code == 401
        assert members(large, name) == 1


@pytest.mark.promise("5.4")
def test_a_user_outlives_its_connections(hasty, name, helpers):
    state = {"user_state": {"a": 1, "b": 2}, "state_public_keys": ["a"]}
    hasty.connect(name, name, **state)
    helpers.eventually(lambda: members(hasty, name) in (0, None), "its connection is forgotten")
    assert hasty.call("/user_state", {"user": name})["user_state"] == {"a": 1, "b": 2}
    helpers.eventually(lambda: members(hasty, name) is None, "its channel is forgotten")
    answer = hasty.call("/connect", {"username": name, "fresh_user_state": {"a": 0, "c": 0}})
    assert (answer["state"], answer["public_state"]) == ({"a": 1, "b": 2}, {"a": 1})


@pytest.mark.promise("5.5")
def test_a_channel_that_nobody_uses_is_forgotten(hasty, name, helpers, defaults):
    assert defaults["gc_channels_after"] == 72 * 3600
    quiet, busy, held = f"{name}-quiet", f"{name}-busy", f"{name}-held"
    hasty.call("/channel_config", {channel: {"store_history": True} for channel in (quiet, busy, held)})
    with hasty.websocket(hasty.connect("joe", held)) as socket:
        for _ in range(2):

            def is_over():
                hasty.say(busy, "activity")
                return members(hasty, quiet) is None

            helpers.eventually(is_over, "it is forgotten")
            assert (members(hasty, busy), members(hasty, held)) == (0, 1)
            hasty.call("/channel_config", {quiet: {}})
        hasty.say(held, "hi")
        assert helpers.texts(helpers.receive(socket, 1)) == ["hi"]
    helpers.eventually(lambda: members(hasty, busy) is members(hasty, held) is None, "those are forgotten, too")
