"""The users on a channel in the order of their names, and the JSON that is made of them. Pure.

Who connects is told who else is there, so that a channel that grows to thousands tells its list thousands of times, one
name longer each time. PERF: the list is kept in parts, and each part keeps what was made of it until it changes: a
newcomer costs one part and the copying of bytes that are ready.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

PART: Final = 24
"""Names in a part that was just made; one with twice as many is split. A newcomer to two thousand costs the JSON of
some thirty names anew, and a look at some sixty parts: about as much each."""

Made = Callable[[list[str]], bytes | None]
"""The JSON of what is to be told of users, joined by commas; None where that of one is not known."""

_json: Final = msgspec.json.Encoder()


class _Part:
    """Some names that follow each other, in order; never none."""

    __slots__ = ("json", "made", "made_by", "names")

    def __init__(self, names: list[str]) -> None:
        self.names: Final = names
        self.json = b""
        """The names as JSON, joined by commas; b"" where it is to be made."""
        self.made = b""
        """The same for what is told of these users."""
        self.made_by: Made | None = None
        """Who made that."""


class Listing:
    """See the module. Names are added once and removed once."""

    __slots__ = ("_parts",)

    def __init__(self, names: Iterable[str]) -> None:
        ordered = sorted(names)
        self._parts = [_Part(ordered[at : at + PART]) for at in range(0, len(ordered), PART)]

    def add(self, name: str) -> None:
        """One more."""
        if not self._parts:
            self._parts.append(_Part([name]))
            return
        place = self._place(name)
        part = self._parts[place]
        insort(part.names, name)
        part.json = part.made = b""
        if len(part.names) >= 2 * PART:
            self._parts[place : place + 1] = [_Part(part.names[:PART]), _Part(part.names[PART:])]

    def remove(self, name: str) -> None:
        """One less."""
        place = self._place(name)
        part = self._parts[place]
        part.names.remove(name)
        part.json = part.made = b""
        if not part.names:
            del self._parts[place]

    def touch(self, name: str) -> None:
        """What is told of this user is another thing now."""
        self._parts[self._place(name)].made = b""

    def json(self) -> bytes:
        """The names, as a JSON list."""
        for part in self._parts:
            part.json = part.json or _json.encode(part.names)[1:-1]
        return _joined([part.json for part in self._parts])

    def told(self, made: Made) -> bytes | None:
        """What is told of the users, as a JSON list; None where that of one of them is not known."""
        told: list[bytes] = []
        for part in self._parts:
            if not part.made or part.made_by != made:
                new = made(part.names)
                if new is None:
                    return None
                part.made, part.made_by = new, made
            told.append(part.made)
        return _joined(told)

    def _place(self, name: str) -> int:
        """Which part a name belongs to."""
        return max(bisect_right(self._parts, name, key=_first) - 1, 0)


def _joined(parts: list[bytes]) -> bytes:
    """One JSON list of several, each without its brackets. PERF: a list may be long, and is copied once."""
    if not parts:
        return b"[]"
    parts[0] = b"[" + parts[0]
    parts[-1] += b"]"
    return b",".join(parts)


def _first(part: _Part) -> str:
    return part.names[0]
