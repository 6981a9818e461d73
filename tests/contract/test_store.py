"""What every store holds to. Another store is one more parameter of the fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from channelstream.shard.store.base import (
    ChannelCounted,
    ChannelForgotten,
    ChannelSaved,
    ConnectionForgotten,
    ConnectionSaved,
    FramesSaved,
    HistoryCut,
    MessageChanged,
    MessageForgotten,
    MessageSaved,
    Place,
    RecordForgotten,
    RecordSaved,
    Saved,
    SavedFrame,
    Store,
    StoredMessage,
    UserForgotten,
    UserSaved,
)
from channelstream.shard.store.memory import MemoryStore
from channelstream.shard.store.sqlite import SqliteStore
from channelstream.wire.messages import ChannelConfig

MAKERS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(generation=7, replay=True),
    "sqlite": lambda folder: SqliteStore(folder, 0, synced=True, generation=7, wall=0.0),
    "sqlite, fsync = off": lambda folder: SqliteStore(folder, 0, synced=False, generation=7, wall=0.0),
}


@pytest.fixture(params=list(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = MAKERS[request.param](tmp_path)
    yield store
    store.close()


def is_empty(saved: Saved) -> bool:
    return not (saved.channels or saved.users or saved.records or saved.connections or saved.frames)


def channel(name: str = "lobby", epoch: str = "e1", **config: Any) -> ChannelSaved:
    return ChannelSaved(name, f"uuid of {name}", epoch, 0, ChannelConfig(**config))


def stored(seq: int) -> StoredMessage:
    return StoredMessage(f"m{seq}", seq, b'{"n":%d,"\xc3\xa9":"\\u0000"}' % seq, 1000.0 + seq)


def message(seq: int, name: str = "lobby") -> MessageSaved:
    return MessageSaved(name, stored(seq))


def seqs(saved: Saved, name: str = "lobby") -> list[int]:
    return [message.seq for message in saved.channels[name].history]


def test_a_new_store_holds_nothing(store: Store) -> None:
    assert is_empty(store.load())


def test_what_was_committed_is_loaded_as_it_was(store: Store) -> None:
    user = UserSaved("ann", {"text": "é", "int": 1, "float": 1.5, "yes": True, "none": None}, ("text", "int"))
    config: dict[str, Any] = {"store_history": True, "history_size": 3, "history_ttl": 60, "notify_presence": True}
    store.commit([channel(**config), message(1), user])
    saved = store.load()
    assert saved.users == {"ann": user}
    lobby = saved.channels["lobby"]
    assert (lobby.uuid, lobby.epoch, lobby.config) == ("uuid of lobby", "e1", ChannelConfig(**config))
    assert lobby.history == [stored(1)]


def test_history_is_in_the_order_of_seq_over_many_commits(store: Store) -> None:
    store.commit([channel()])
    for seq in range(1, 6):
        store.commit([message(seq)])
    store.commit([message(6), message(7)])
    assert seqs(store.load()) == [1, 2, 3, 4, 5, 6, 7]


def test_channels_do_not_mix(store: Store) -> None:
    store.commit([channel("a"), channel("b"), message(1, name="a"), message(1, name="b"), message(2, name="a")])
    saved = store.load()
    assert (seqs(saved, "a"), seqs(saved, "b")) == ([1, 2], [1])


def test_what_was_cut_off_is_gone(store: Store) -> None:
    store.commit([channel(), *(message(seq) for seq in range(1, 6)), HistoryCut("lobby", 3)])
    assert seqs(store.load()) == [3, 4, 5]
    store.commit([HistoryCut("lobby", 6)])
    assert (seqs(store.load()), store.load().channels["lobby"].seq) == ([], 5)


def test_a_changed_configuration_keeps_the_history(store: Store) -> None:
    store.commit([channel(), message(1)])
    store.commit([channel(epoch="e2", notify_presence=True)])
    lobby = store.load().channels["lobby"]
    assert (lobby.epoch, lobby.config.notify_presence, lobby.history) == ("e2", True, [stored(1)])


def test_a_forgotten_channel_takes_its_history_along(store: Store) -> None:
    store.commit([channel("a"), channel("b"), message(1, name="a"), message(1, name="b")])
    store.commit([ChannelForgotten("a")])
    assert list(store.load().channels) == ["b"]
    store.commit([channel("a")])
    assert seqs(store.load(), "a") == []


def test_a_user_is_what_was_said_last(store: Store) -> None:
    store.commit([UserSaved("ann", {"a": 1}, ("a",)), UserSaved("bob", {}, ())])
    store.commit([UserSaved("ann", {"b": 2}, ())])
    assert store.load().users == {"ann": UserSaved("ann", {"b": 2}, ()), "bob": UserSaved("bob", {}, ())}


def test_a_forgotten_user_is_gone(store: Store) -> None:
    store.commit([UserSaved("ann", {}, ()), UserSaved("bob", {}, ())])
    store.commit([UserForgotten("ann")])
    assert list(store.load().users) == ["bob"]


def test_forgetting_what_is_not_there_is_no_error(store: Store) -> None:
    store.commit([ChannelForgotten("a"), UserForgotten("ann")])
    assert is_empty(store.load())


def test_within_a_commit_the_order_counts(store: Store) -> None:
    store.commit([channel(), message(1), ChannelForgotten("lobby"), channel(), message(2)])
    assert seqs(store.load()) == [2]


def test_a_commit_that_fails_leaves_nothing_behind(store: Store) -> None:
    store.commit([channel(), message(1)])
    with pytest.raises(Exception, match="unknown"):
        store.commit([message(2), UserSaved("ann", {}, ()), message(1, name="unknown")])
    saved = store.load()
    assert (seqs(saved), saved.users) == ([1], {})


def test_an_empty_commit_is_no_error(store: Store) -> None:
    store.commit([])
    assert is_empty(store.load())


def test_what_was_loaded_does_not_change_with_later_writes(store: Store) -> None:
    store.commit([channel(), message(1), UserSaved("ann", {"a": 1}, ())])
    loaded = store.load()
    store.commit([message(2), UserSaved("ann", {"a": 2}, ()), channel("b")])
    assert (seqs(loaded), loaded.users["ann"].state, list(loaded.channels)) == ([1], {"a": 1}, ["lobby"])


def test_a_caller_may_change_what_it_loaded(store: Store) -> None:
    store.commit([channel(), message(1), UserSaved("ann", {"a": 1}, ())])
    loaded = store.load()
    loaded.channels["lobby"].history.clear()
    loaded.users["ann"].state["a"] = 9
    again = store.load()
    assert (seqs(again), again.users["ann"].state) == ([1], {"a": 1})


def test_a_message_that_changed_is_the_new_one_in_its_place(store: Store) -> None:
    store.commit([channel(), message(1), message(2), MessageChanged("lobby", 1, b'{"new":1}')])
    first, second = store.load().channels["lobby"].history
    assert (first.seq, first.body) == (1, b'{"new":1}')
    assert second == stored(2)


def test_a_message_that_was_taken_out_is_gone(store: Store) -> None:
    store.commit([channel(), message(1), message(2), MessageForgotten("lobby", 1)])
    store.commit([MessageForgotten("lobby", 9)])
    assert seqs(store.load()) == [2]


def test_a_message_may_be_changed_and_taken_out_in_the_group_that_brings_it(store: Store) -> None:
    changed = MessageChanged("lobby", 2, b"{}")
    store.commit([channel(), message(1), message(2), message(3), changed, MessageForgotten("lobby", 3)])
    assert [(one.seq, one.body) for one in store.load().channels["lobby"].history] == [(1, stored(1).body), (2, b"{}")]


def test_a_change_of_what_is_not_there_changes_nothing(store: Store) -> None:
    store.commit([channel(), message(1), message(2), MessageForgotten("lobby", 1)])
    store.commit([MessageChanged("lobby", 1, b"{}"), MessageChanged("lobby", 9, b"{}")])
    assert store.load().channels["lobby"].history == [stored(2)]


def test_the_last_of_several_changes_counts(store: Store) -> None:
    store.commit([channel(), message(1), MessageChanged("lobby", 1, b"1"), MessageChanged("lobby", 1, b"2")])
    assert store.load().channels["lobby"].history[0].body == b"2"
    store.commit([MessageChanged("lobby", 1, b"3"), MessageForgotten("lobby", 1)])
    assert seqs(store.load()) == []


def test_what_was_taken_out_stays_counted(store: Store) -> None:
    store.commit([channel(), message(1), message(2), message(3)])
    store.commit([MessageForgotten("lobby", 3), MessageForgotten("lobby", 2)])
    assert store.load().channels["lobby"].seq == 3


def test_a_cut_takes_what_came_in_its_own_group(store: Store) -> None:
    store.commit([channel(), message(1)])
    store.commit([message(2), message(3), HistoryCut("lobby", 3), message(4), HistoryCut("lobby", 4)])
    assert seqs(store.load()) == [4]
    store.commit([HistoryCut("lobby", 2)])
    assert seqs(store.load()) == [4]


def test_a_message_after_a_cut_of_everything_is_there(store: Store) -> None:
    store.commit([channel(), message(1), message(2), HistoryCut("lobby", 3)])
    store.commit([message(3)])
    assert (seqs(store.load()), store.load().channels["lobby"].seq) == ([3], 3)


def test_deliveries_that_are_not_kept_are_counted(store: Store) -> None:
    store.commit([channel(), message(1), ChannelCounted("lobby", 5)])
    assert store.load().channels["lobby"].seq == 5
    store.commit([message(6)])
    assert (seqs(store.load()), store.load().channels["lobby"].seq) == ([1, 6], 6)


@pytest.mark.parametrize("count", [3, 2000])
def test_much_is_cut_or_forgotten_at_once(store: Store, count: int) -> None:
    store.commit([channel("a"), *(message(seq, "a") for seq in range(1, count + 1))])
    store.commit([channel("b"), *(message(seq, "b") for seq in range(1, count + 1))])
    store.commit([HistoryCut("a", count), ChannelForgotten("b")])
    saved = store.load()
    assert (list(saved.channels), seqs(saved, "a")) == (["a"], [count])
    store.commit([channel("b"), message(1, "b")])
    while store.tidy():
        pass
    saved = store.load()
    assert (seqs(saved, "a"), seqs(saved, "b"), saved.channels["a"].seq) == ([count], [1], count)


def test_a_channel_that_is_made_and_forgotten_in_a_group_is_not_there(store: Store) -> None:
    store.commit([channel(), message(1), ChannelForgotten("lobby")])
    assert is_empty(store.load())


def test_a_write_about_a_channel_that_was_forgotten_in_the_group_is_an_error(store: Store) -> None:
    store.commit([channel("gone")])
    with pytest.raises(Exception, match="gone"):
        store.commit([ChannelForgotten("gone"), message(1, "gone")])
    assert list(store.load().channels) == ["gone"]


def test_a_record_is_what_was_said_last(store: Store) -> None:
    first, second = RecordSaved("k1", "ann", ("a", "b")), RecordSaved("k2", "bob", ())
    store.commit([first, second])
    assert store.load().records == {"k1": first, "k2": second}
    changed = RecordSaved("k1", "ann", ("a", "ü"))
    store.commit([changed, RecordForgotten("k2"), RecordForgotten("never there")])
    assert store.load().records == {"k1": changed}


def test_a_connections_places_are_what_was_said_last(store: Store) -> None:
    first = ConnectionSaved("k1", "ann", {"mood": 1.5}, (Place("c/a", 0, 5), Place("u/ann", 2, 2)))
    second = ConnectionSaved("k2", "bob", {}, ())
    store.commit([first, second])
    assert store.load().connections == {"k1": first, "k2": second}
    moved = ConnectionSaved("k1", "ann", {}, (Place("c/a", 0, 9),))
    store.commit([ConnectionForgotten("k2"), ConnectionForgotten("never there"), moved])
    assert store.load().connections == {"k1": moved}
    store.commit([ConnectionForgotten("k1"), first])
    assert store.load().connections == {"k1": first}


def test_frames_are_given_once(store: Store) -> None:
    kept = SavedFrame("m1", 4, b"\x00\xff", None, None)
    private = SavedFrame("m2", 5, b"{}", ["ann"], ["bob", "eve"])
    frames = FramesSaved("c/lobby", "e1", 5, (kept, private))
    nothing = FramesSaved("u/ann", "e2", 9, ())
    store.commit([channel(), frames, nothing])
    assert store.load().frames == {"c/lobby": frames, "u/ann": nothing}
    assert store.load().frames == {}


def test_a_new_store_is_not_complete_and_one_that_was_loaded_is(store: Store) -> None:
    assert not store.load().is_complete
    store.commit([channel()])
    assert store.load().is_complete
    assert store.load().channels["lobby"].is_whole


def test_a_life_has_a_generation(store: Store) -> None:
    assert store.generation == 7


def test_a_step_of_housekeeping_changes_nothing_that_is_loaded(store: Store) -> None:
    store.commit([channel(), message(1), UserSaved("ann", {}, ())])
    before = store.load()
    before.is_complete = True
    store.commit([UserSaved("ann", {}, ())])
    while store.tidy():
        pass
    assert store.load() == before
