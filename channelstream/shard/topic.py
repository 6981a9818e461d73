"""A topic: a counted stream of deliveries, its frames, and who is served from it.

The base of channels and users. It knows positions and routes; what a body says and why it is sent is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from channelstream import few
from channelstream.few import Pairs, Shared
from channelstream.ids import TopicKey, fingerprint
from channelstream.shard.connection import Connection
from channelstream.shard.frames import Frames
from channelstream.shard.store.base import FramesSaved, SavedFrame
from channelstream.wire.messages import AttachedTopic, Deliver, Publication, TopicCursor


class Frame(Struct, frozen=True, gc=False):
    """A delivery kept for catch-up. `body` is the JSON object without `catchup` and `seq`; empty where nobody is to see
    it any more, but its place must not look like a hole."""

    seq: int
    body: bytes
    only: list[str] | None
    exclude: list[str] | None

    def visible_to(self, user: str) -> bool:
        """Whether a user's connections get this one; `exclude` wins over `only`."""
        return bool(self.body) and may_see(user, self.only, self.exclude)


def may_see(user: str, only: list[str] | None, exclude: list[str] | None) -> bool:
    """The rule of `pm_users` and `exclude_users`."""
    return (exclude is None or user not in exclude) and (only is None or user in only)


def spliced(body: bytes, seq: int, catchup: bool) -> bytes:
    """The finished object: the position is put in front of the closing brace, without parsing anything."""
    return b'%b,"catchup":%b,"seq":%d}' % (body[:-1], b"true" if catchup else b"false", seq)


def spliced_all(bodies: Sequence[bytes], first: int) -> list[bytes]:
    """The same for deliveries, the first of which has this seq. PERF: the ends of all of them are made at once."""
    if len(bodies) == 1:
        return [spliced(bodies[0], first, False)]
    ends = (_LIVE_END * len(bodies) % tuple(range(first, first + len(bodies)))).splitlines()
    return [body[:-1] + end for body, end in zip(bodies, ends, strict=True)]


_LIVE_END: Final = b',"catchup":false,"seq":%d}\n'


def edited(body: bytes, changes: dict[str, bytes]) -> bytes:
    """A JSON object with some keys changed; the others stay as they were written."""
    keys = _read_keys(body) | {key: msgspec.Raw(value) for key, value in changes.items()}
    return msgspec.json.encode(keys)


_read_keys: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def new_ones(
    publication: Publication, holds_any: Callable[[Sequence[str]], bool]
) -> Iterator[tuple[Sequence[str], Sequence[bytes]]]:
    """Messages that are to be taken together: uuids and bodies, in their order. Those whose uuid is held when their
    turn comes are left out; each part has to be taken before the next one is asked for. All of them are one part but
    for a repeated request."""
    uuids, bodies = publication.uuids, publication.bodies
    if len(set(uuids)) == len(uuids) and not holds_any(uuids):  # PERF: as nearly always
        yield uuids, bodies
        return
    for uuid, body in zip(uuids, bodies, strict=True):
        if not holds_any((uuid,)):
            yield (uuid,), (body,)


MOST_BEHIND: Final = 2**20 - 1
"""How many deliveries behind a member is remembered to have been. Frames reach back far less."""


def _attached_place(seq: int, cursor: int) -> int:
    """The place of a member that was attached at `seq` and had been served up to `cursor`."""
    return -1 - (seq << 20 | min(seq - cursor, MOST_BEHIND))


def _attached_at(place: int) -> tuple[int, int]:
    """The reverse: seq and cursor."""
    seq, behind = divmod(-1 - place, MOST_BEHIND + 1)
    return seq, seq - behind


CHANGE: Final = "/"
"""Stands in no uuid."""

DELETION: Final = "x"
"""Behind `CHANGE`, the key of a deletion's frame."""


class Change(NamedTuple):
    """What the last word on a message was."""

    key: str
    """The frame's."""
    is_deletion: bool


_NO_FRAMES: Final[Frames[Frame]] = Frames()
_NONE_UNDONE: Final[dict[str, int]] = {}
_NO_CHANGES: Final[dict[str, Change]] = {}
"""Of all topics of which nothing was kept yet, as of most users. Nothing is put into these."""

_same: Final[Shared[tuple[Any, ...]]] = Shared(256)
"""Most topics have one member, at one of some edges."""


class Topic:
    """A stream with members.

    A member's place is one number: the cursor, from 0, of one without a route; for one that is attached, a negative
    one that holds the seq at which it was and how far behind it was just before. PERF: a topic of a hundred thousand
    members holds no object per member, and a user's topic no dict.
    """

    __slots__ = (
        "_at_routes",
        "_changes",
        "_frames",
        "_places",
        "_undone",
        "began",
        "epoch",
        "key",
        "reminded",
        "routes",
        "seq",
        "told",
        "untold",
    )

    is_channel: ClassVar[bool] = False

    def __init__(self, key: TopicKey, epoch: str, seq: int = 0) -> None:
        self.key: Final = key
        self.epoch: Final = epoch
        self.began: Final = seq
        """The position at which the epoch began. A cursor from before it may have missed anything."""
        self.seq = seq
        """The number of the last delivery that was counted; 0 before the first."""
        self.told = seq
        """The number of the last one that went out. Members are served up to here; what is counted beyond it waits for
        the store. Kept by the shard, as is `untold`."""
        self.untold = 0
        """How many deliveries wait to go out."""
        self.routes: tuple[str, ...] = ()
        """The edges where members are attached. A delivery goes once to each of them."""
        self._at_routes: tuple[int, ...] = ()
        """How many members are attached at each of these."""
        self.reminded = False
        """Whether somebody will look whether it is over. Kept by the shard."""
        self._frames = _NO_FRAMES
        """uuid → frame, oldest first. An edit or deletion stands under the message's uuid, `CHANGE` and its own seq."""
        self._undone = _NONE_UNDONE
        """Messages that were taken back and are among the frames under their uuid still, with their seq."""
        self._changes = _NO_CHANGES
        """Messages → the last change of each that is among the frames. Those before it are hidden."""
        self._places: Pairs[Connection, int] = ()

    @property
    def skippable(self) -> bool:
        """Whether a client that reads too slowly is told of a gap here, instead of being closed."""
        return False

    # --- members ---

    @property
    def total_connections(self) -> int:
        """How many connections are members."""
        return len(few.keys(self._places))

    def members(self) -> Iterator[Connection]:
        """Every member, with or without a route."""
        return iter(few.keys(self._places))

    def has(self, connection: Connection) -> bool:
        """Whether this connection is a member."""
        return connection in self._places  # no number equals a connection

    def is_attached(self, connection: Connection) -> bool:
        """Whether deliveries go straight to the edge that holds this member."""
        return self._place(connection) < 0

    def _place(self, connection: Connection) -> int:
        return few.value(self._places, connection)

    def _put(self, connection: Connection, place: int) -> None:
        self._places = few.put(self._places, connection, place)

    def join(self, connection: Connection) -> bool:
        """Make it a member that is served from here on; False where it is one already."""
        if connection in self._places:
            return False
        # What is counted and not told yet is from before it came, though it may see that on its way.
        self._put(connection, self.told)
        connection.joined(self, self.seq)
        return True

    def restore_member(self, connection: Connection, joined: int, cursor: int) -> None:
        """Make it a member again, as it was stored. Where the epoch is a new one, it is from before it."""
        last = self.began - 1 if self.began else self.told
        connection.joined(self, min(joined, last))
        self._put(connection, min(cursor, last))

    def cursor(self, connection: Connection) -> int:
        """How far a member is surely served. One that is attached is served further as its edge goes on."""
        place = self._place(connection)
        return max(connection.joined_at(self), place if place >= 0 else _attached_at(place)[1])

    def leave(self, connection: Connection) -> bool:
        """End its membership; False where it is no member."""
        if not self.has(connection):
            return False
        if self.is_attached(connection):
            self._unroute(connection.route)
        self._places = few.dropped(self._places, connection)
        connection.left(self)
        return True

    def attach(self, connection: Connection, position: TopicCursor | None) -> AttachedTopic:
        """Give a member the route of its connection; what it missed comes back.

        `position` is how far the edge says it was served, where the edge knows. Call only for a member that is not
        attached, whose connection has a route.
        """
        cursor = self._place(connection)
        epoch_lost = False
        if position is not None and position.epoch:
            epoch_lost = position.epoch != (fingerprint(self.epoch) if position.claimed else self.epoch)
            cursor = self._within_membership(connection, 0 if epoch_lost else position.seq)
        epoch_lost = epoch_lost or cursor < self.began
        missed, lost = self._missed(cursor, connection.user)
        before = cursor
        if position is not None and position.passed_on >= 0 and not epoch_lost:
            before = min(cursor, self._within_membership(connection, position.passed_on))
        self._put(connection, _attached_place(self.told, before))
        self._route(connection.route)
        return AttachedTopic(
            self.key, self.epoch, self.told, cursor, missed, None if epoch_lost else lost, self.skippable
        )

    def detach(self, connection: Connection, served: int) -> None:
        """Take a member's route. `served`: how far its edge is known to have served the topic as a whole. Call before
        the connection's route is changed.

        What the attach itself brought counts as served only where the edge is known to have gone on behind it: a
        lower `served` may be from before, with the attach still on its way when the edge was lost.
        """
        place = self._place(connection)
        if place >= 0:
            return
        self._unroute(connection.route)
        attached_at, before = _attached_at(place)
        self._put(connection, min(served, self.told) if served > attached_at else before)

    def detach_exactly(self, connection: Connection, cursor: int) -> None:
        """The same where the edge says how far this very member was served; also where the route was lost before."""
        if self.is_attached(connection):
            self._unroute(connection.route)
        self._put(connection, self._within_membership(connection, cursor))

    def advance(self, connection: Connection, cursor: int) -> None:
        """A member without a route was served at least so far."""
        self._put(connection, max(self._place(connection), self._within_membership(connection, cursor)))

    def _within_membership(self, connection: Connection, cursor: int) -> int:
        """An edge's position. One from before the member joined is of an earlier membership, whose end the edge has not
        heard of yet: what was said in between is not for it."""
        return min(max(connection.joined_at(self), cursor), self.told)

    def rewind(self, connection: Connection, cursor: int) -> None:
        """The membership (without a route) was lost and made again: in truth it goes back to at least here."""
        back_at = min(cursor, self.told)
        self._put(connection, back_at)
        connection.joined(self, back_at)

    def _route(self, edge: str) -> None:
        if edge in self.routes:
            self._count_at(self.routes.index(edge), 1)
        else:
            self.routes = _same.of((*self.routes, edge))
            self._at_routes = _same.of((*self._at_routes, 1))

    def _unroute(self, edge: str) -> None:
        at = self.routes.index(edge)
        if self._at_routes[at] > 1:
            self._count_at(at, -1)
        else:
            self.routes = self.routes[:at] + self.routes[at + 1 :]
            self._at_routes = self._at_routes[:at] + self._at_routes[at + 1 :]

    def _count_at(self, at: int, more: int) -> None:
        counts = self._at_routes
        self._at_routes = (*counts[:at], counts[at] + more, *counts[at + 1 :])

    # --- deliveries ---

    @property
    def oldest_frame(self) -> int:
        """The seq of the oldest frame; that of the next delivery where there is none."""
        return next((frame.seq for frame in self._frames.values()), self.seq + 1)

    def holds_any(self, uuids: Sequence[str]) -> bool:
        """Whether it `holds` one of these."""
        if self._undone or self._changes:
            return any(map(self.holds, uuids))
        return not self._frames.keys().isdisjoint(uuids)

    def holds(self, uuid: str) -> bool:
        """Whether a message with this uuid is among the frames, or what told of its deletion: a late repetition of the
        request must not bring it back."""
        change = self._changes.get(uuid)
        is_among = uuid in self._frames and uuid not in self._undone
        return is_among or (change is not None and change.is_deletion)

    def _frame_of(self, uuid: str) -> Frame | None:
        """The frame of a message that is held."""
        return None if uuid in self._undone else self._frames.get(uuid)

    def append(
        self,
        uuids: Sequence[str],
        bodies: Sequence[bytes],
        only: list[str] | None,
        exclude: list[str] | None,
        frames_size: int,
    ) -> Deliver:
        """Count deliveries, keep them among the last `frames_size` frames, and give what the edges are to get. None of
        the uuids stands there twice, or is held."""
        if not self._undone.keys().isdisjoint(uuids):
            self._rename_undone()
        first = self.seq + 1
        self.seq += len(uuids)
        if frames_size:
            self._begin_frames()
            frames = map(Frame, range(first, self.seq + 1), bodies, repeat(only), repeat(exclude))
            self._frames.extend(zip(uuids, frames, strict=True), sum(map(len, bodies)))
        self._trim_frames(frames_size)
        return Deliver(self.key, self.seq, spliced_all(bodies, first), only, exclude, self.skippable)

    def _keep(self, key: str, frame: Frame, frames_size: int) -> None:
        self._begin_frames()
        self._frames[key] = frame
        self._trim_frames(frames_size)

    def _begin_frames(self) -> None:
        """From its first frame on a topic has collections of its own."""
        if self._frames is _NO_FRAMES:
            self._frames, self._undone, self._changes = Frames(), {}, {}

    def _trim_frames(self, frames_size: int) -> None:
        for gone in self._frames.trim(frames_size):
            self._undone.pop(gone, None)
            if self._changes:
                changed = gone.partition(CHANGE)[0]
                if changed in self._changes and self._changes[changed].key == gone:
                    del self._changes[changed]

    def take_back(self, uuids: Sequence[str], seq: int) -> list[Deliver]:
        """Messages, the last of which has this seq, are as if they had never come, but for their numbers: what is
        delivered says only that. Their uuids may come again."""
        numbers = range(seq - len(uuids) + 1, seq + 1)
        for uuid, number in zip(uuids, numbers, strict=True):
            frame = self._frames.get(uuid)
            if frame is not None:
                self._frames[uuid] = replace(frame, body=b"")
                self._undone[uuid] = number
        return [Deliver(self.key, number, []) for number in numbers]

    def _rename_undone(self) -> None:
        """Their uuids are free from here on. The frames stay in their places, since they are in the order of seq. PERF:
        all at once, and only when it matters: a full disk refuses thousands, and each of these is a pass over all."""
        if not self._undone:
            return
        former, self._frames = self._frames, Frames()
        for key, frame in former.items():
            self._frames[f"{CHANGE}{self._undone[key]}" if key in self._undone else key] = frame
        self._undone.clear()

    def settle(self) -> None:
        """Deliveries that might have been undone have gone out."""

    def withdraw(self, uuids: Sequence[str]) -> None:
        """The same for those that were counted last and have not gone out: not even their numbers were used."""
        self.seq -= len(uuids)
        for uuid in uuids:
            if uuid in self._frames:
                del self._frames[uuid]

    def saved_frames(self) -> FramesSaved:
        """All that a later life needs to go on as if nothing had happened."""
        self._rename_undone()
        frames = tuple(SavedFrame(key, *astuple(frame)) for key, frame in self._frames.items())
        return FramesSaved(self.key, self.epoch, self.seq, frames)

    def restore_frames(self, saved: FramesSaved, frames_size: int) -> None:
        """Go on from there. Call before there are members."""
        self.seq = self.told = saved.seq
        for frame in saved.frames:
            self._keep(frame.key, Frame(frame.seq, frame.body, frame.only, frame.exclude), frames_size)
            uuid, change, tail = frame.key.partition(CHANGE)
            if uuid and change and frame.body and frames_size:
                self._changes[uuid] = Change(frame.key, tail.startswith(DELETION))

    def append_edit(
        self, uuid: str, changes: dict[str, bytes], body: bytes, only: list[str] | None, frames_size: int
    ) -> Deliver | None:
        """Change a message that is held, and deliver what tells of it to those who may see the message. `only` counts
        where it is not held. None where the message was deleted: there is nothing to tell any more.

        Who was away gets one edit with all that has changed: what earlier edits said is not shown again.
        """
        earlier = self._changes.get(uuid)
        if earlier is not None and earlier.is_deletion:
            return None
        frame = self._frame_of(uuid)
        if frame is not None and frame.body:
            self._frames[uuid] = replace(frame, body=edited(frame.body, changes))
        kept = body if earlier is None else edited(self._frames[earlier.key].body, changes)
        return self._append_change(uuid, frame, body, kept, False, only, frames_size)

    def append_deletion(self, uuid: str, body: bytes, only: list[str] | None, frames_size: int) -> Deliver:
        """Hide a message that is held, and deliver what tells of it; see `append_edit`."""
        frame = self._frame_of(uuid)
        if frame is not None:
            self._frames[uuid] = replace(frame, body=b"")
        return self._append_change(uuid, frame, body, body, True, only, frames_size)

    def _append_change(
        self,
        uuid: str,
        frame: Frame | None,
        body: bytes,
        kept: bytes,
        is_deletion: bool,
        only: list[str] | None,
        frames_size: int,
    ) -> Deliver:
        """`body` is delivered now, `kept` to those who come later."""
        earlier = self._changes.pop(uuid, None)
        if earlier is not None:
            self._frames[earlier.key] = replace(self._frames[earlier.key], body=b"")
        only, exclude = (only, None) if frame is None else (frame.only, frame.exclude)
        key = f"{uuid}{CHANGE}{DELETION if is_deletion else ''}{self.seq + 1}"
        deliver = self.append((key,), (body,), only, exclude, frames_size)
        if key in self._frames:
            self._frames[key] = replace(self._frames[key], body=kept)
            self._changes[uuid] = Change(key, is_deletion)
        return deliver

    def _missed(self, cursor: int, user: str) -> tuple[list[bytes], int]:
        """The finished bodies after a cursor, and how many are gone: from before the frames, or
        between those that a store has brought back."""
        if cursor >= self.told:
            return [], 0
        reached: list[Frame] = []
        for frame in reversed(self._frames.values()):
            if frame.seq <= cursor:
                break
            if frame.seq <= self.told:
                reached.append(frame)
        bodies = [spliced(frame.body, frame.seq, True) for frame in reversed(reached) if frame.visible_to(user)]
        return bodies, self.told - cursor - len(reached)
