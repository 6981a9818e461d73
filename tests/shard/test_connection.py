"""Where a connection is held, and when it is over."""

from __future__ import annotations

import pytest

from channelstream.clock import Now
from channelstream.shard.connection import CLOSED_GRACE_S, Connection, Record

KEEP_S = 30.0


def at(mono: float) -> Now:
    return Now(mono, 0.0)


@pytest.fixture(params=[Record, Connection])
def lifetime(request: pytest.FixtureRequest) -> Record | Connection:
    made: Record | Connection = request.param("k1", "ann", 100.0)
    return made


def test_a_new_one_waits_for_its_client(lifetime: Record) -> None:
    assert (lifetime.route, lifetime.attachment, lifetime.closed) == ("", 0, False)
    assert lifetime.detached_for_s(at(104.0)) == 4.0
    assert lifetime.due(KEEP_S) == 130.0


def test_one_that_is_held_is_never_over(lifetime: Record) -> None:
    lifetime.take("edge-0:a", 7)
    assert (lifetime.route, lifetime.attachment) == ("edge-0:a", 7)
    assert lifetime.due(KEEP_S) is None
    assert lifetime.detached_for_s(at(999.0)) == 0.0


def test_one_that_was_cut_off_is_kept(lifetime: Record) -> None:
    lifetime.take("edge-0:a", 7)
    lifetime.let_go(at(200.0), closed=False)
    assert (lifetime.route, lifetime.attachment) == ("", 7)
    assert lifetime.due(KEEP_S) == 230.0


def test_one_that_closed_is_over_within_a_second(lifetime: Record) -> None:
    lifetime.take("edge-0:a", 7)
    lifetime.let_go(at(200.0), closed=True)
    assert lifetime.due(KEEP_S) == 200.0 + CLOSED_GRACE_S
    assert CLOSED_GRACE_S < 1.0


def test_the_grace_is_never_longer_than_what_is_kept_at_all(lifetime: Record) -> None:
    lifetime.let_go(at(200.0), closed=True)
    assert lifetime.due(0.1) == 200.1


def test_one_that_comes_back_has_not_closed(lifetime: Record) -> None:
    lifetime.let_go(at(200.0), closed=True)
    lifetime.take("edge-1:b", 8)
    lifetime.let_go(at(300.0), closed=False)
    assert lifetime.due(KEEP_S) == 330.0


def test_a_clock_that_reads_less_is_not_taken_for_a_negative_wait(lifetime: Record) -> None:
    assert lifetime.detached_for_s(at(99.0)) == 0.0


def test_the_ones_of_different_shards_keep_different_things() -> None:
    assert Record("k1", "ann", 0.0).channels == ()
    assert Connection("k1", "ann", 0.0).topics == ()
    assert not Connection("k1", "ann", 0.0).was_attached
