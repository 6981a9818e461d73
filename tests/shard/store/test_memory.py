"""The store that forgets. What it shares with every store is in tests/contract."""

from __future__ import annotations

from channelstream.shard.store.base import Saved, UserSaved
from channelstream.shard.store.memory import MemoryStore


def test_the_servers_choice_keeps_no_second_copy() -> None:
    store = MemoryStore()
    store.commit([UserSaved("ann", {}, ())])
    assert store.load() == Saved()


def test_with_replay_it_keeps_what_a_store_keeps() -> None:
    store = MemoryStore(replay=True)
    store.commit([UserSaved("ann", {}, ())])
    assert list(store.load().users) == ["ann"]


def test_closing_forgets_everything() -> None:
    store = MemoryStore(replay=True)
    store.commit([UserSaved("ann", {}, ())])
    store.close()
    assert store.load() == Saved()
