"""Ours, started to be measured."""

import pytest

from bench.group import CHANNEL, Group, compact
from bench.processes import kill
from bench.systems import crowd_for, filled


def test_json_without_spaces():
    assert compact([{"a": 1, "b": "ä"}]) == b'[{"a":1,"b":"\\u00e4"}]'


@pytest.mark.group
def test_clients_come_messages_are_delivered_and_a_killed_edge_comes_back():
    with Group(edges=2) as group, crowd_for(group) as crowd:
        assert sorted(name for name, _ in group.pids) == ["edge-0", "edge-1", "router-0", "shard-0"]
        assert crowd.open(group.address, group.connections([[CHANNEL, "other"]] * 6)) == 6
        sender = group.sender([CHANNEL, "other"])
        sender.send([filled(10, 1), filled(10, 2)])
        sender.close()
        assert crowd.receive(10, 12)
        assert set(crowd.counts.values()) == {2}
        edge = group.fullest_edge()
        kill(edge)
        group.wait_until_replaced(edge)
        assert edge not in [pid for _, pid in group.pids]
        assert len(group.pids) == 4
    assert not group._folder.exists()
