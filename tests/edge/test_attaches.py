"""Attaches that wait: for their turn, for their answer, for being sent again."""

from __future__ import annotations

from channelstream.edge.attaches import ASK_AGAIN_S, WINDOW, Attaches, Waiting
from channelstream.edge.core import Held
from channelstream.wire.messages import TopicCursor

NOW = 100.0


def waiting(name: str = "x", topics: int = 1, shard: int = 0) -> Waiting:
    cursors = {key: TopicCursor(key, "e", 1) for key in (f"c/{number}" for number in range(topics))}
    return Waiting(Held(name, "ann", 1), shard, cursors, is_again=True)


def queued(*every: Waiting) -> Attaches:
    attaches = Attaches(2)
    for one in every:
        attaches.put(one)
    return attaches


def test_what_fits_is_sent_in_the_order_in_which_it_came() -> None:
    every = [waiting(str(number)) for number in range(5)]
    attaches = queued(*every)
    assert list(attaches.next_to_send(0, NOW)) == every
    assert [one.number for one in every] == [1, 2, 3, 4, 5]
    assert {one.sent_at for one in every} == {NOW}
    assert list(attaches.next_to_send(0, NOW)) == []


def test_one_that_was_asked_for_with_its_connection_is_under_way() -> None:
    attaches = queued()
    one, other = waiting("one", topics=WINDOW), waiting("other")
    attaches.asked(one, attaches.next_number(), NOW)
    attaches.put(other)
    assert (attaches.of(one.client, 0), one.number) == (one, 1)
    assert list(attaches.next_to_send(0, NOW)) == [], "it takes its part of the window"
    assert list(attaches.late(NOW + ASK_AGAIN_S)) == [one]
    attaches.remove(one.client, 0)
    assert list(attaches.next_to_send(0, NOW)) == [other]


def test_topics_count() -> None:
    large, small = waiting("large", topics=WINDOW * 3), waiting("small")
    attaches = queued(large, small)
    assert list(attaches.next_to_send(0, NOW)) == [large]
    attaches.remove(large.client, 0)
    assert list(attaches.next_to_send(0, NOW)) == [small]


def test_what_was_left_meanwhile_frees_what_it_took() -> None:
    one, other = waiting("one", topics=WINDOW), waiting("other")
    attaches = queued(one, other)
    list(attaches.next_to_send(0, NOW))
    one.topics.clear()
    attaches.remove(one.client, 0)
    assert list(attaches.next_to_send(0, NOW)) == [other]
    attaches.remove(other.client, 0)
    assert (len(attaches), attaches._weights) == (0, [0, 0])


def test_each_shard_has_its_own_window() -> None:
    here, there = waiting("x", topics=WINDOW, shard=0), waiting("x", shard=1)
    attaches = queued(here, there)
    assert list(attaches.next_to_send(0, NOW)) == [here]
    assert list(attaches.next_to_send(1, NOW)) == [there]
    assert list(attaches.at(1)) == [there]


def test_a_later_one_of_the_same_client_takes_the_place_of_an_earlier_one() -> None:
    first = waiting()
    attaches = queued(first)
    list(attaches.next_to_send(0, NOW))
    second = Waiting(first.client, 0, {}, is_again=True)
    attaches.put(second)
    assert attaches.of(first.client, 0) is second
    assert list(attaches.next_to_send(0, NOW)) == [second]
    assert attaches.remove(first.client, 0) is second
    assert attaches.remove(first.client, 0) is None
    assert attaches._weights == [0, 0]


def test_it_is_sent_again_more_and_more_rarely() -> None:
    one = waiting()
    attaches = queued(one)
    assert list(attaches.late(NOW + 1000)) == []  # not sent yet
    list(attaches.next_to_send(0, NOW))
    now, waits = NOW, []
    for _ in range(6):
        since = now
        while not list(attaches.late(now)):
            now += 0.5
        waits.append(now - since)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert one.number == 1


def test_what_is_late_makes_room_and_is_bounded_itself() -> None:
    every = [waiting(str(number), topics=WINDOW - 1) for number in range(4)]
    attaches = queued(*every)
    for one in every:  # whoever comes new does not wait
        attaches.send(one, NOW)
    more = waiting("more")
    attaches.put(more)
    assert list(attaches.next_to_send(0, NOW)) == []
    late = NOW + ASK_AGAIN_S
    assert list(attaches.late(late)) == every[:1]
    assert list(attaches.late(late)) == every[1:2]
    assert [*attaches.late(late), *attaches.late(late)] == every[2:]
    assert list(attaches.next_to_send(0, late)) == [more]
