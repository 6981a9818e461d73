"""The machine and its limits."""

import resource

import pytest

from bench.machine import TooFewDescriptors, machine, most_clients, need_descriptors


def test_what_matters_is_named():
    found = machine()
    assert {"cpu", "cores", "memory", "kernel", "python", "channelstream", "gevent"} <= set(found)
    assert all(found.values())


def test_a_limit_is_raised_as_far_as_it_goes_and_told_where_it_is_too_low():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        most = most_clients()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        need_descriptors(most)
        with pytest.raises(TooFewDescriptors, match="hard limit"):
            need_descriptors(most + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("most", "advice"), [(1000, "raise it, or ask for 1,000 --clients at most"), (0, "raise it")])
def test_what_is_advised_can_be_followed(monkeypatch, most, advice):
    monkeypatch.setattr("bench.machine.most_clients", lambda: most)
    with pytest.raises(TooFewDescriptors, match=f": {advice}$"):
        need_descriptors(2000)
