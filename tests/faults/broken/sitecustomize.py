"""Breaks the server on purpose, to see whether the delivery check notices. No part of the product: python imports this
where its folder is on PYTHONPATH, and the group's processes are then patched as `BROKEN_BUILD=NAME:PERIOD` says.

    drop    every so many-th delivery of a message on a channel is not handed to an edge's clients
    swap    every so many-th one changes places with the next one of its channel
    repeat  every so many-th one is handed out twice
    early   a shard says that its writes are down while the last so many groups are not
    epoch   the epoch of a topic is always the same, whatever was lost (the period says nothing)
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

MESSAGE = b'"type":"message"'


def every(period: int) -> Callable[[], bool]:
    """A function that is true each so many-th time."""
    counted = [0]

    def due() -> bool:
        counted[0] += 1
        return counted[0] % period == 0

    return due


def handing_out(tampered: Callable[[str, bytes], list[bytes]]) -> Callable[[ModuleType], None]:
    """Puts something between an edge and its clients: the topic and a body in, what is handed out instead."""

    def patch(delivery: ModuleType) -> None:
        made = delivery._made

        def broken(write: Any, *others: Any) -> Any:
            topic = write.reached.topic
            bodies: list[bytes] = []
            for body in write.bodies:
                is_meant = MESSAGE in body and topic.startswith("c/")
                bodies += tampered(topic, body) if is_meant else [body]
            return made(write._replace(bodies=bodies), *others)

        delivery._made = broken

    return patch


def drop(period: int) -> Callable[[ModuleType], None]:
    due = every(period)
    return handing_out(lambda topic, body: [] if due() else [body])


def repeat(period: int) -> Callable[[ModuleType], None]:
    due = every(period)
    return handing_out(lambda topic, body: [body, body] if due() else [body])


def swap(period: int) -> Callable[[ModuleType], None]:
    due = every(period)
    held: dict[str, bytes] = {}

    def tampered(topic: str, body: bytes) -> list[bytes]:
        if topic in held:
            return [body, held.pop(topic)]
        if due():
            held[topic] = body
            return []
        return [body]

    return handing_out(tampered)


def early(period: int) -> Callable[[ModuleType], None]:
    def patch(sqlite: ModuleType) -> None:
        commit, close = sqlite.SqliteStore.commit, sqlite.SqliteStore.close
        waiting: deque[Sequence[Any]] = deque()

        def commit_later(store: Any, writes: Sequence[Any]) -> None:
            waiting.append(writes)
            while len(waiting) > period:
                commit(store, waiting.popleft())

        def close_after_all(store: Any) -> None:
            while waiting:
                commit(store, waiting.popleft())
            close(store)

        sqlite.SqliteStore.commit, sqlite.SqliteStore.close = commit_later, close_after_all

    return patch


def epoch(period: int) -> Callable[[ModuleType], None]:
    def patch(topic: ModuleType) -> None:
        begin = topic.Topic.__init__

        def begin_as_ever(self: Any, key: str, epoch: str, *more: Any, **others: Any) -> None:
            begin(self, key, f"always {key}", *more, **others)

        topic.Topic.__init__ = begin_as_ever

    return patch


PATCHES: dict[str, tuple[str, Callable[[int], Callable[[ModuleType], None]]]] = {
    "drop": ("channelstream.edge.delivery", drop),
    "swap": ("channelstream.edge.delivery", swap),
    "repeat": ("channelstream.edge.delivery", repeat),
    "early": ("channelstream.shard.store.sqlite", early),
    "epoch": ("channelstream.shard.topic", epoch),
}


class Loader(importlib.abc.Loader):
    """Runs a module and breaks it then."""

    def __init__(self, loader: Any, patch: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that is to be broken."""

    def __init__(self, name: str, patch: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._patch = patch

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = Loader(spec.loader, self._patch)
        return spec


if os.environ.get("BROKEN_BUILD"):
    kind, _, period = os.environ["BROKEN_BUILD"].partition(":")
    where, make = PATCHES[kind]
    sys.meta_path.insert(0, Finder(where, make(int(period))))
