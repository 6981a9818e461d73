"""What outlives the processes: the whole group is ended and started again, or killed, with clients that come back."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

HISTORY = {"store_history": True, "history_size": 50}
PRESENCE = {"notify_presence": True, "store_history": True}


def history(group: Any, channel: str) -> list[Any]:
    told = group.call("/info", {"info": {"channels": [channel]}})["channels"][channel]
    return [message["message"]["text"] for message in told["history"]]


def is_renewed(group: Any, former: dict[str, int]) -> bool:
    """Whether every process has another pid than before, and is ready."""
    try:
        processes = group.health()
    except OSError:
        return False
    return all(one["ready"] and one["pid"] != former[one["process"]] for one in processes)


def kill_all(group: Any, helpers: Any) -> None:
    """Every router, shard and edge in one moment; supervisord starts them again."""
    former = {one["process"]: one["pid"] for one in group.health()}
    for pid in former.values():
        os.kill(pid, signal.SIGKILL)
    helpers.eventually(lambda: is_renewed(group, former), "all are back")


@pytest.mark.promise("5.7")
def test_a_group_that_is_ended_and_started_again_goes_on_where_it_was(helpers: Any) -> None:
    with helpers.running(shards=2, edges=1, routers=1) as group:
        conn_id = group.connect("ann", "kept", "plain", channel_configs={"kept": HISTORY})
        group.call("/user_state", {"user": "ann", "user_state": {"mood": "fine"}, "state_public_keys": ["mood"]})
        with group.websocket(conn_id) as socket:
            for channel in ("kept", "plain"):
                group.say(channel, f"1 on {channel}")
            assert sorted(helpers.texts(helpers.receive(socket, 2))) == ["1 on kept", "1 on plain"]
            socket.socket.shutdown(2)
        group.say("plain", "2 on plain")
        group.say(None, "private", pm_users=["ann"])
        group.say("kept", "2 on kept")
        group.again()
        group.say("plain", "3 on plain")
        with group.websocket(conn_id) as socket:
            missed = helpers.receive(socket, 4)
        assert [one["type"] for one in missed] == ["message"] * 4  # and no gap
        on_plain = [(one["message"]["text"], one["seq"]) for one in missed if one["channel"] == "plain"]
        assert on_plain == [("2 on plain", 2), ("3 on plain", 3)]
        assert {"2 on kept", "private"} <= {one["message"]["text"] for one in missed}
        assert history(group, "kept") == ["1 on kept", "2 on kept"]
        told = group.call("/info", {"info": {"channels": ["kept"], "return_public_state": True}})
        assert [user["state"] for user in told["users"] if user["user"] == "ann"] == [{"mood": "fine"}]


@pytest.mark.promise("5.6")
def test_a_group_that_is_killed_as_a_whole_loses_nothing_that_was_answered_for_a_history(helpers: Any) -> None:
    with helpers.running(shards=2, edges=1, routers=1) as group:
        configs = {"kept": HISTORY, "room": PRESENCE}
        conn_id = group.connect("ann", "kept", "plain", "room", channel_configs=configs)
        watcher = group.connect("eve", "room")
        with group.websocket(conn_id) as socket, group.websocket(watcher):
            group.say("kept", 1)
            group.say("plain", 1)
            helpers.receive(socket, 3)  # and that eve joined
            kill_all(group, helpers)
        assert history(group, "kept") == [1]
        group.say("kept", 2)
        with group.websocket(conn_id) as socket:
            group.say("kept", "end")
            seen = helpers.before(socket, "end")
        of_kept = [one for one in seen if one["channel"] == "kept"]
        assert helpers.texts(of_kept)[-1] == 2
        assert not [one for one in of_kept if one["type"] == "gap"]
        assert not [one for one in seen if one["type"] == "presence"]  # nobody came or went
        assert [one for one in seen if one["type"] == "gap" and one["channel"] == "plain"]


@pytest.mark.promise("3.58a")
def test_what_the_disk_does_not_take_is_refused_by_its_uuid_and_taken_later(helpers: Any) -> None:
    import resource

    with helpers.running(shards=1, edges=1, routers=1) as group:
        conn_id = group.connect("ann", "kept", "plain", channel_configs={"kept": HISTORY})
        with group.websocket(conn_id) as socket:
            helpers.settle(group, socket, "kept")
            shard = group.pid_of("shard-0")
            resource.prlimit(shard, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            body = [{"user": "b", "channel": "kept", "message": {"text": "kept"}, "uuid": str(number) * 8 + UUID_TAIL}
                    for number in (1, 2)]  # fmt: skip
            answer = group.post("/message", body)
            assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (507, True)
            assert answer.json()["refused"] == [message["uuid"] for message in body]
            assert answer.json()["error"].startswith("not stored: ")
            group.say("plain", "goes on")
            assert helpers.texts(helpers.receive(socket, 1)) == ["goes on"]
            resource.prlimit(shard, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            helpers.eventually(lambda: group.post("/message", body).status_code == 200, "it is taken again")
            assert helpers.texts(helpers.receive(socket, 2)) == ["kept", "kept"]
        assert history(group, "kept") == ["settled", "kept", "kept"]
        assert group.pid_of("shard-0") == shard


UUID_TAIL = "-0000-4000-8000-000000000000"
