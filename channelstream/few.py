"""Collections that cost little while they are small: plain tuples of a handful of items, dicts from then on.

Nearly every connection is on one channel, and nearly every user has one connection, yet some are on thousands. A dict
with one key takes 230 bytes and a tuple of one item 48, and there are several for each client.

They are values: what changes one gives the one that is to be kept instead, and the former must not be used any more.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SMALL: Final = 8
"""Items of a tuple. To look along so many takes as long as to look into a dict."""

Few = tuple[T, ...] | dict[T, None]
"""A set in the order in which its items came. Iterate over it, count it, look what is in it. The empty one is `()`."""

Pairs = tuple[Any, ...] | dict[K, V]
"""Values by key, in the order in which the keys came: `(key, value, key, value, …)`. The empty one is `()`. Use the
functions below."""


def added(few: Few[T], item: T) -> Few[T]:
    """With one item more."""
    if item in few:
        return few
    if isinstance(few, dict):
        few[item] = None
        return few
    return (*few, item) if len(few) < SMALL else dict.fromkeys((*few, item))


def removed(few: Few[T], item: T) -> Few[T]:
    """Without an item, if it is there."""
    if isinstance(few, dict):
        few.pop(item, None)
        return few or ()
    return tuple([one for one in few if one != item])


def keys(pairs: Pairs[K, V]) -> Collection[K]:
    """The keys in their order."""
    return pairs.keys() if isinstance(pairs, dict) else pairs[::2]


def value(pairs: Pairs[K, V], key: K) -> V:
    """The value of a key. Raises `KeyError`."""
    if isinstance(pairs, dict):
        return pairs[key]
    for at in range(0, len(pairs), 2):
        if pairs[at] == key:
            found: V = pairs[at + 1]
            return found
    raise KeyError(key)


def put(pairs: Pairs[K, V], key: K, new: V) -> Pairs[K, V]:
    """With this value of a key; its place stays where it has one."""
    if isinstance(pairs, dict):
        pairs[key] = new
        return pairs
    for at in range(0, len(pairs), 2):
        if pairs[at] == key:
            return (*pairs[: at + 1], new, *pairs[at + 2 :])
    more = (*pairs, key, new)
    return more if len(more) <= 2 * SMALL else dict(zip(more[::2], more[1::2], strict=True))


def dropped(pairs: Pairs[K, V], key: K) -> Pairs[K, V]:
    """Without a key, if it is there."""
    if isinstance(pairs, dict):
        pairs.pop(key, None)
        return pairs or ()
    for at in range(0, len(pairs), 2):
        if pairs[at] == key:
            return pairs[:at] + pairs[at + 2 :]
    return pairs


class Shared(Generic[T]):
    """One object for all that are equal, as far as they come one soon after another: each message brings a copy of its
    own of every name. `most`: how many are looked up; beyond that all are forgotten, and live as long as they are
    used."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._known: dict[T, T] = {}

    def of(self, one: T) -> T:
        """The one that came first of those that are equal to this."""
        if len(self._known) >= self._most:
            self._known = {}
        return self._known.setdefault(one, one)
