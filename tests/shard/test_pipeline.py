"""Groups on their way to the disk: what waits for which, and what becomes of it. No thread, no disk."""

from __future__ import annotations

from math import inf

from channelstream.ids import channel_key
from channelstream.shard.effects import Effect, Reply, Send, Store, Tell
from channelstream.shard.pipeline import (
    AGAIN_AFTER_S,
    MAX_WAITING_BYTES,
    MAX_WAITING_WRITES,
    PACE_S,
    RETRY_AFTER_S,
    Pipeline,
)
from channelstream.shard.store.base import (
    ChannelCounted,
    ChannelForgotten,
    ChannelSaved,
    MessageChanged,
    MessageSaved,
    StoredMessage,
    UserForgotten,
    UserSaved,
)
from channelstream.shard.topic import Topic
from channelstream.wire.messages import Answer, ChannelConfig, Deliver, Done

TOPIC = Topic(channel_key("a"), "e1")
NOW = 100.0


def reply(number: int) -> Reply:
    return Reply("router-0:r", Answer(number, Done()), True)


def tell(seq: int) -> Tell:
    return Tell(TOPIC, Deliver("c/a", seq, [b"{}"]), [f"m{seq}"])


def saved(seq: int, size: int = 2) -> Store:
    return Store(MessageSaved("a", StoredMessage(f"m{seq}", seq, b"x" * size, 0.0)))


def channel(uuid: str) -> Store:
    return Store(ChannelSaved("a", uuid, "e1", 0, ChannelConfig()))


def user(name: str, **state: int) -> Store:
    return Store(UserSaved(name, state, ()))


def writes(*effects: Store) -> list[object]:
    return [effect.write for effect in effects]


def test_where_nothing_is_stored_nothing_waits() -> None:
    effects: list[Effect] = [reply(1), tell(1), Send("edge-0:a", Deliver("c/b", 1, [b"{}"]))]
    pipeline = Pipeline()
    assert pipeline.take(effects) == effects
    assert (pipeline.is_empty, pipeline.start(NOW), pipeline.next_due()) == (True, [], inf)


def test_what_rests_on_a_write_waits_for_its_group_in_order() -> None:
    pipeline = Pipeline()
    live = Send("edge-0:a", Deliver("c/b", 1, [b"{}"]))
    assert pipeline.take([saved(1), tell(1), live, reply(1)]) == [live]
    assert pipeline.start(NOW) == writes(saved(1))
    assert pipeline.stored() == [tell(1), reply(1)]
    assert pipeline.is_empty


def test_the_next_group_fills_while_one_is_under_way() -> None:
    pipeline = Pipeline()
    pipeline.take([saved(1), reply(1)])
    pipeline.start(NOW)
    assert pipeline.take([reply(2)]) == []  # rests on what is under way
    pipeline.take([saved(2), reply(3)])
    assert pipeline.start(NOW) == []
    assert pipeline.stored() == [reply(1), reply(2)]
    assert pipeline.start(NOW + PACE_S / 2) == []
    assert pipeline.next_due() == NOW + PACE_S
    assert pipeline.start(NOW + PACE_S) == writes(saved(2))
    assert pipeline.stored() == [reply(3)]


def test_a_group_that_is_not_stored_takes_along_what_was_to_follow() -> None:
    pipeline = Pipeline()
    pipeline.take([saved(1), tell(1), reply(1)])
    pipeline.start(NOW)
    pipeline.take([saved(2), tell(2), reply(2)])
    assert pipeline.not_stored(NOW) == [tell(1), reply(1), tell(2), reply(2)]
    assert (pipeline.is_empty, pipeline.owes) == (True, 0)


def test_what_is_not_undone_is_owed_and_the_last_word_on_a_subject_counts() -> None:
    pipeline = Pipeline()
    pipeline.take([user("ann", a=1), saved(1), user("bob")])
    pipeline.start(NOW)
    pipeline.take([user("ann", a=2)])
    pipeline.not_stored(NOW)
    assert (pipeline.is_empty, pipeline.owes) == (False, 2)
    pipeline.take([Store(UserForgotten("bob")), saved(2)])
    later = NOW + AGAIN_AFTER_S
    assert pipeline.start(later) == writes(user("ann", a=2), user("bob"), Store(UserForgotten("bob")), saved(2))
    pipeline.stored()
    assert pipeline.is_empty


def test_what_is_owed_about_a_channel_stays_in_an_order_that_can_be_carried_out() -> None:
    pipeline = Pipeline()
    made, counted = channel("u1"), Store(ChannelCounted("a", 1))
    for effects in ([made, counted], [channel("u2")]):
        pipeline.take(effects)
        pipeline.start(NOW + 1)
        pipeline.not_stored(NOW)
    assert pipeline.start(NOW + 10) == writes(channel("u2"), counted)


def test_a_channel_that_ended_and_was_made_anew_is_owed_as_both() -> None:
    pipeline = Pipeline()
    pipeline.take([Store(MessageChanged("a", 1, b"{}")), Store(ChannelForgotten("a")), channel("u2")])
    pipeline.start(NOW)
    pipeline.not_stored(NOW)
    assert pipeline.start(NOW + 10) == writes(Store(ChannelForgotten("a")), channel("u2"))


def test_what_is_owed_stays_so_until_a_group_is_stored() -> None:
    pipeline = Pipeline()
    pipeline.take([user("ann", a=1)])
    for at in (NOW, NOW + 10, NOW + 20):
        assert pipeline.start(at) == writes(user("ann", a=1))
        pipeline.not_stored(at)
    assert pipeline.start(NOW + 30) == writes(user("ann", a=1))
    pipeline.stored()
    assert pipeline.is_empty


def test_a_disk_that_refuses_is_not_asked_all_the_time() -> None:
    pipeline = Pipeline()
    pipeline.take([user("ann")])
    pipeline.start(NOW)
    pipeline.not_stored(NOW)
    assert pipeline.next_due() == NOW + RETRY_AFTER_S
    assert pipeline.start(NOW + AGAIN_AFTER_S) == []
    pipeline.take([saved(1)])
    assert pipeline.next_due() == NOW + AGAIN_AFTER_S
    assert pipeline.start(NOW + AGAIN_AFTER_S / 2) == []
    assert pipeline.start(NOW + AGAIN_AFTER_S) == writes(user("ann"), saved(1))


def test_so_much_may_wait_and_no_more() -> None:
    for effects in ([saved(1, MAX_WAITING_BYTES)], [user("ann")] * MAX_WAITING_WRITES):
        pipeline = Pipeline()
        pipeline.take(effects)
        assert not pipeline.is_behind
        pipeline.take([saved(2)])
        assert pipeline.is_behind
        pipeline.start(NOW)
        assert not pipeline.is_behind
