"""A long-poll: what is gathered for it, and what is left to the next one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import pytest

from channelstream.clock import monotonic
from channelstream.config import Config
from channelstream.edge.core import Held
from channelstream.edge.frames import CLOSE_DISCONNECTED, CLOSE_GOING_AWAY, CLOSE_REPLACED
from channelstream.edge.longpoll import GATHER_S, PollClient
from channelstream.edge.outbox import Mark, Ready

LONG_S = 60.0
"""Never waited for: a test that did would fail at its own, shorter patience."""
PATIENCE_S = 10.0


class LinkOfOne:
    """Notes how a poll ends, and whether it is behind."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.released: list[tuple[bool, list[Mark]]] = []
        self.behind: set[Held] = set()

    def release(self, client: Held, closed: bool, unsent: Iterable[Mark] = ()) -> None:
        if not client.released:
            client.released = True
            self.behind.discard(client)
            self.released.append((closed, list(unsent)))

    def fell_behind(self, client: Held) -> None:
        self.behind.add(client)


@pytest.fixture
def link(make_config: Callable[..., Config]) -> LinkOfOne:
    return LinkOfOne(make_config(max_queue="1000"))


@pytest.fixture
def client(link: LinkOfOne) -> PollClient:
    return PollClient("x", "ann", 1, link)  # type: ignore[arg-type]


def ready(number: int, size: int = 0, topic: str = "c/a") -> Ready:
    body = json.dumps({"n": number, "pad": "x" * size}).encode()
    return Ready(b"no frame", [body], Mark(topic, number - 1))


def numbers(answer: bytes) -> list[Any]:
    return [message["n"] for message in json.loads(answer)]


def polling(client: PollClient, wait_s: float = LONG_S, gather_s: float = LONG_S) -> Any:
    """A poll that waits, with the loop turned once so that it does."""
    greenlet = gevent.spawn(client.answer, wait_s, gather_s)
    gevent.sleep(0)
    return greenlet


def test_nothing_is_an_empty_list(client: PollClient, link: LinkOfOne) -> None:
    assert client.answer(0.001) == b"[]"
    client.over(answered=True)
    assert link.released == [(False, [])]


def test_what_was_missed_is_there_at_once(client: PollClient) -> None:
    client.deliver([ready(1), ready(2)])
    assert numbers(client.answer(LONG_S, gather_s=0.001)) == [1, 2]


def test_it_waits_for_the_first_and_gathers_what_follows(client: PollClient) -> None:
    began = monotonic()
    greenlet = polling(client, gather_s=GATHER_S)
    client.deliver([ready(1)])
    gevent.sleep(0)
    client.deliver([ready(2)])
    gevent.sleep(0)
    client.deliver([ready(3), ready(4)])
    assert numbers(greenlet.get(timeout=PATIENCE_S)) == [1, 2, 3, 4]
    assert monotonic() - began >= GATHER_S * 0.99


def test_what_was_answered_is_served(client: PollClient, link: LinkOfOne) -> None:
    client.deliver([ready(1)])
    client.answer(LONG_S, gather_s=0.001)
    client.over(answered=True)
    client.over(answered=False)
    assert link.released == [(False, [])]


def test_an_answer_that_did_not_go_out_is_the_next_polls(client: PollClient, link: LinkOfOne) -> None:
    client.deliver([ready(1), ready(7, topic="c/b")])
    client.answer(LONG_S, gather_s=0.001)
    client.over(answered=False)
    assert link.released == [(False, [Mark("c/a", 0), Mark("c/b", 6)])]


def test_what_comes_too_late_is_the_next_polls(client: PollClient, link: LinkOfOne) -> None:
    client.deliver([ready(1)])
    answer = client.answer(LONG_S, gather_s=0.001)
    client.deliver([ready(2), ready(3)])
    client.over(answered=True)
    assert numbers(answer) == [1]
    assert link.released == [(False, [Mark("c/a", 1)])]  # what is behind it goes without saying


def test_however_much_comes_for_a_poll_it_holds_a_bounded_answer_and_a_mark_for_each_topic(
    client: PollClient, link: LinkOfOne
) -> None:
    for number in range(1, 1000):
        client.deliver([ready(number, 400), ready(number, 400, "c/b")])
    assert len(client._bodies) == 3  # the third one reached max_queue
    assert client.unsent() == [Mark("c/a", 0), Mark("c/b", 0), Mark("c/b", 1), Mark("c/a", 2)]
    assert numbers(client.answer(LONG_S)) == [1, 1, 2]
    client.over(answered=True)
    assert link.released == [(False, [Mark("c/b", 1), Mark("c/a", 2)])]


def test_a_full_answer_goes_out_at_once_and_the_rest_is_the_next_polls(client: PollClient, link: LinkOfOne) -> None:
    greenlet = polling(client)
    client.deliver([ready(1, 600), ready(2, 600), ready(3, 600)])
    assert numbers(greenlet.get(timeout=PATIENCE_S)) == [1, 2]
    client.over(answered=True)
    assert link.released == [(False, [Mark("c/a", 2)])]


def test_a_poll_that_another_has_replaced_leaves_everything_to_it(client: PollClient, link: LinkOfOne) -> None:
    client.deliver([ready(1)])
    client.close(CLOSE_REPLACED)
    assert link.released == [(False, [Mark("c/a", 0)])]
    assert client.answer(0.001) == b"[]"
    client.over(answered=True)
    assert len(link.released) == 1


@pytest.mark.parametrize("code", [CLOSE_DISCONNECTED, CLOSE_GOING_AWAY])
def test_a_poll_that_is_told_to_go_answers_what_it_has(client: PollClient, link: LinkOfOne, code: int) -> None:
    greenlet = polling(client)
    client.deliver([ready(1)])
    client.close(code)
    assert numbers(greenlet.get(timeout=PATIENCE_S)) == [1]
    assert link.released == []
    client.over(answered=True)
    assert link.released == [(False, [])]


def test_one_that_has_nothing_ends_at_once_when_told_to_go(client: PollClient) -> None:
    greenlet = polling(client)
    client.close(CLOSE_GOING_AWAY)
    assert greenlet.get(timeout=PATIENCE_S) == b"[]"


def test_until_the_answer_is_out_it_is_behind(client: PollClient, link: LinkOfOne) -> None:
    assert link.behind == set()
    client.deliver([ready(1)])
    assert (link.behind, client.unsent()) == ({client}, [Mark("c/a", 0)])
    client.answer(LONG_S, gather_s=0.001)
    client.deliver([ready(2)])
    assert (link.behind, client.unsent()) == ({client}, [Mark("c/a", 0), Mark("c/a", 1)])
    client.over(answered=True)
    assert link.behind == set()
