"""What a restart decides, without a process; tests/group has it with a real group under load."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from channelstream.config import Config, load
from channelstream.errors import NotBack, RestartRefused
from channelstream.restart import (
    Dismiss,
    Renew,
    Restart,
    Return,
    StandIn,
    counts_of,
    ready_processes,
    refusal,
    stand_in_command,
    steps_for,
)
from channelstream.wire.messages import ProcessStatus, StatusReport

ONE_OF_EACH = {"shard": 1, "router": 1, "edge": 1}
SEVERAL = {"shard": 2, "router": 2, "edge": 2}
ALL = ("edge", "shard", "router")


def settings(**flags: str) -> Config:
    return load(None, "", {}, {"secret": "s" * 32, **flags}, 0, 1, "/nowhere").config


# --- in which order ---------------------------------------------------------------------------------------------------


def test_shards_then_routers_then_edges_whatever_was_named_first() -> None:
    assert steps_for(SEVERAL, ALL) == [
        *(Renew("shard", 0), Renew("shard", 1)),
        *(Renew("router", 0), Renew("router", 1)),
        *(Renew("edge", 0), Renew("edge", 1)),
    ]


def test_where_a_port_has_one_listener_another_stands_in() -> None:
    assert steps_for(ONE_OF_EACH, ALL) == [
        Renew("shard", 0),
        *(StandIn("router", 1), Renew("router", 0), Dismiss("router", 1)),
        *(StandIn("edge", 1), Renew("edge", 0), Dismiss("edge", 1)),
    ]


def test_only_the_roles_that_were_named() -> None:
    assert steps_for(SEVERAL, ["router"]) == [Renew("router", 0), Renew("router", 1)]


def test_the_counts_are_those_of_the_settings() -> None:
    assert counts_of(settings(shards="3", edges="2", routers="4")) == {"shard": 3, "router": 4, "edge": 2}


# --- whether at all ---------------------------------------------------------------------------------------------------

WHOLE = ["shard-0", "router-0", "edge-0"]


def test_a_whole_group_is_restarted() -> None:
    assert refusal(ONE_OF_EACH, [*WHOLE, "group-0", "restart-0"], WHOLE) is None


@pytest.mark.parametrize(
    ("held", "ready", "why"),
    [
        ([], [], "no process of it runs"),
        (["group-0"], [], "no process of it runs"),
        ([*WHOLE, "edge-1"], WHOLE, "edge-1 runs, and the settings name no such process"),
        (["shard-0", "edge-0"], WHOLE, "router-0 does not run"),
        (WHOLE, ["shard-0", "router-0"], "edge-0 is not ready"),
    ],
)
def test_any_other_is_not(held: list[str], ready: list[str], why: str) -> None:
    assert why in str(refusal(ONE_OF_EACH, held, ready))


# --- who is ready -----------------------------------------------------------------------------------------------------


def status(role: str, pid: int, since: float = 1.0, ready: bool = True) -> ProcessStatus:
    return ProcessStatus(role, 0, pid, since, "1", ready=ready)


def test_who_has_reported_is_ready() -> None:
    answer = StatusReport(status("shard", 1), [status("router", 2), status("edge", 3)])
    assert ready_processes(ONE_OF_EACH, [answer]) == {"shard-0": 1, "router-0": 2, "edge-0": 3}


def test_a_shard_that_not_everybody_has_found_again_is_not() -> None:
    answer = StatusReport(status("shard", 1), [status("router", 2)])
    assert ready_processes(ONE_OF_EACH, [answer]) == {"router-0": 2}


def test_one_that_is_not_linked_to_all_shards_is_not() -> None:
    answer = StatusReport(status("shard", 1), [status("router", 2), status("edge", 3, ready=False)])
    assert "edge-0" not in ready_processes(ONE_OF_EACH, [answer])


@pytest.mark.parametrize("order", [1, -1])
def test_the_younger_life_of_a_process_counts(order: int) -> None:
    lives = [status("edge", 3, since=1.0), status("edge", 4, since=2.0, ready=False)][::order]
    answer = StatusReport(status("shard", 1), [status("router", 2), *lives])
    assert "edge-0" not in ready_processes(ONE_OF_EACH, [answer])


# --- whether it is back -----------------------------------------------------------------------------------------------


def test_it_is_back_when_another_process_has_its_place_and_is_ready() -> None:
    back = Return("edge-0", 7, now=100.0, within_s=10.0)
    assert not back.look(101.0, holder=7, ready_pid=7)
    assert not back.look(102.0, holder=None, ready_pid=7)
    assert not back.look(103.0, holder=0, ready_pid=7), "it has not written its pid yet"
    assert not back.look(103.0, holder=8, ready_pid=7), "nobody has heard of the new one"
    assert back.look(104.0, holder=8, ready_pid=8)
    assert back.look(999.0, holder=8, ready_pid=8), "late, but there"


@pytest.mark.parametrize(
    ("holder", "why"),
    [(7, "pid 7 did not end"), (None, "it was not started again"), (8, "pid 8 was not ready")],
)
def test_after_its_time_it_is_said_what_is_wrong(holder: int | None, why: str) -> None:
    back = Return("edge-0", 7, now=100.0, within_s=10.0)
    with pytest.raises(NotBack) as refused:
        back.look(110.0, holder, ready_pid=0)
    assert str(refused.value) == (f"edge-0 did not come back: {why} within 10 s; no other process was ended after it")


# --- doing ------------------------------------------------------------------------------------------------------------


def test_what_stands_in_gets_no_secret_on_its_command_line() -> None:
    words = stand_in_command("edge", 1, "my.ini")
    assert words[1:] == ["-m", "channelstream", "edge", "--index", "1", "--stand-in", "-i", "my.ini"]
    assert "-i" not in stand_in_command("edge", 1, None)


def test_without_a_supervisord_nothing_is_done(tmp_path: Path) -> None:
    config = settings(run_dir=str(tmp_path / "run"))
    with pytest.raises(RestartRefused, match="no supervisord answers there"):
        Restart(config, None, {}, None, io.StringIO()).run(ALL)
    assert not os.listdir(tmp_path), "nor is anything left behind"
