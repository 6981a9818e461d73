"""Asks that come a second time: what was answered is answered again, and not carried out twice. Pure.

An ask is sent again, marked as such, where its answer may have been lost with a link or a life of the shard. Within one
life the shard remembers what it has answered. The next life does not: there the command is carried out, and what the
former life may have done already is left out of no answer (`completed`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from channelstream.wire.messages import (
    AddChannels,
    Ask,
    Chain,
    Chained,
    ChangeUser,
    Claim,
    CloseConnection,
    Command,
    Configure,
    ConnectionState,
    DeleteMessages,
    EditMessages,
    EnterUser,
    Leave,
    OpenConnection,
    Publish,
    RemoveChannels,
    Result,
    TakeConnection,
    TellState,
    UserChanged,
    UserState,
)

MOST_REMEMBERED: Final = 20_000
"""Answers to one peer that are remembered at a time; they are forgotten with their deadline. At two seconds each, it is
more than a shard answers. Who is forgotten too early is answered as by another life."""

REMEMBERED: Final[frozenset[type[Command]]] = frozenset(
    {
        OpenConnection,
        AddChannels,
        RemoveChannels,
        CloseConnection,
        TakeConnection,
        EnterUser,
        Leave,
        Publish,
        EditMessages,
        DeleteMessages,
        ChangeUser,
        TellState,
        Configure,
        Claim,
    }
)
"""Commands that change something. Not `Join`: it changes nothing the second time, and its answers may be large."""


class _Answered(NamedTuple):
    deadline: float
    encoded: bytes
    """The result: a third of the room that it takes itself, and hardly any is asked for again."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final[Callable[[bytes], Result]] = msgspec.msgpack.Decoder(Result).decode


class Answers:
    """What this life of the shard has answered lately, by peer and number."""

    def __init__(self) -> None:
        self._answered: dict[str, dict[int, _Answered]] = {}
        """Peer → number → answer, the oldest first."""

    def __len__(self) -> int:
        return sum(map(len, self._answered.values()))

    def of(self, peer: str, ask: Ask) -> Result | None:
        """The answer to an ask that is said again; None where it is carried out for the first time, or may be."""
        known = self._answered.get(peer, {}).get(ask.number) if ask.again else None
        return None if known is None else _decode(known.encoded)

    def forget(self, peer: str, number: int) -> None:
        """It was not answered like that after all."""
        self._answered.get(peer, {}).pop(number, None)

    def remember(self, peer: str, ask: Ask, result: Result) -> None:
        """Keep an answer. Call `forget_before` every now and then."""
        kept = _kept(ask.command, result)
        if kept is None:
            return
        answered = self._answered.setdefault(peer, {})
        answered[ask.number] = _Answered(ask.deadline, _encode(kept))
        if len(answered) > MOST_REMEMBERED:
            del answered[next(iter(answered))]

    def forget_before(self, now_mono: float) -> None:
        """Forget the answers that nobody waits for any more. PERF: not for every turn, since a dict finds its first
        items by stepping over all that were deleted before them."""
        for peer, answered in list(self._answered.items()):
            for number in [number for number, _ in takewhile(lambda one: one[1].deadline < now_mono, answered.items())]:
                del answered[number]
            if not answered:
                del self._answered[peer]  # a dict keeps the room that it once took


def _kept(command: Command, result: Result) -> Result | None:
    """What is remembered of an answer. Of a chain: what its steps have answered, up to one that is not remembered."""
    if isinstance(result, ConnectionState) and result.attaching:
        return replace(result, attaching=0)
    if isinstance(command, Chain) and isinstance(result, Chained):
        small = 0
        while small < len(result.results) and type(command.steps[small]) in REMEMBERED:
            small += 1
        return Chained(result.results[:small]) if small else None
    return result if type(command) in REMEMBERED else None


def completed(command: Command, result: Result) -> Result:
    """The answer to a command that a former life may have carried out: then nothing has changed now, and what the
    command was to change counts as changed by it. To tell of a change that was none is harmless; to be silent about
    one is not: nobody else would tell the channels of it."""
    match command, result:
        case ((AddChannels() | RemoveChannels()), ConnectionState(changed=[])):
            return replace(result, changed=list(dict.fromkeys(command.channels)))
        case ChangeUser(), UserChanged():
            return replace(result, changed=result.changed or list(command.state), public_changed=True)
        case EnterUser(), UserState():
            return replace(result, public_changed=True)
        case Chain(), Chained():
            pairs = zip(command.steps, result.results, strict=False)
            return Chained([completed(step, one) for step, one in pairs])
    return result
