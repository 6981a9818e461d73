"""Clients that come."""

import argparse

import pytest

from bench.commands.connect import rooms, targets_of


def test_so_many_share_their_channels():
    assert rooms(5, 2, 2) == [
        ["room-0-0", "room-0-1"],
        ["room-0-0", "room-0-1"],
        ["room-1-0", "room-1-1"],
        ["room-1-0", "room-1-1"],
        ["room-2-0", "room-2-1"],
    ]


def test_the_target_is_said_for_one_channel():
    rows = [{"system": "ours", "cpu_us": 400.0}]
    assert [target.met for target in targets_of(rows, argparse.Namespace(channels=1))] == [True]
    assert targets_of(rows, argparse.Namespace(channels=2)) == []


@pytest.mark.group
def test_it_measures(measured):
    rows = measured("connect", "--clients", "20", "--rounds", "2", "--channels", "2")["rows"]
    assert len(rows) == 1
    assert (rows[0]["system"], rows[0]["clients"], rows[0]["channels"]) == ("ours", 20, 2)
    assert all("note" in row or (row["cpu_us"] > 0 and row["rate"] > 0) for row in rows)
