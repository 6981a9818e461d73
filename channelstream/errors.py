"""The exceptions of the package, by whose fault it is.

    ChannelstreamError
    ├── OperatorError          the operator: it cannot be started like this, nothing starts
    │   ├── ConfigError        a setting is wrong
    │   ├── ConfigErrors       several are, or one: everything that is wrong, at once
    │   ├── RunDirRefused      the folder of sockets and locks is not safe, or cannot be made
    │   ├── AlreadyRunning     another process has the place of this one
    │   ├── DataDirRefused     the folder or a file of what is kept cannot be used
    │   ├── DataDirInUse       another process has the folder or a file of what is kept
    │   ├── BadHistoryFile     a file to be imported is not one that can be
    │   ├── RestartRefused     a group that cannot be restarted as it is; nothing was ended
    │   ├── NotBack            a process that was to be restarted did not come back
    │   └── CheckImpossible    a check of the delivery could not be carried out
    ├── CallerError            the caller of the REST API; has an HTTP status and a JSON body
    │   ├── AddressRefused     403
    │   ├── SignatureMissing   403
    │   ├── SignatureRefused   401
    │   ├── HttpsRequired      406
    │   ├── NotJson            400
    │   ├── Invalid            422, every wrong field named
    │   ├── BodyTooLarge       413
    │   ├── Unavailable        503, with what was done and what is unknown
    │   └── NotStored          507, with the reason: the disk does not take it
    ├── ClientError            the browser or other client on a socket; has an HTTP status and a JSON body
    │   ├── UnknownConnection  401 (before an upgrade)
    │   ├── MalformedRequest   400, 405, 408, 413, 414, 417, 431: bytes that are no request we take
    │   │   └── TooManyBodies  503: the bodies of others take all the room
    │   ├── ClientGone         no answer: it closed, or stopped reading
    │   ├── BadCallback        400: a JSONP callback that is no name
    │   ├── WrongMethod        405
    │   ├── ForeignPage        403: a page from elsewhere than `allow_cors` has it
    │   └── BadHandshake       a websocket upgrade that is refused
    ├── StoreError             the disk under a shard
    │   ├── StoreFull          nothing was taken; a later try may do
    │   ├── StoreBroken        what was taken cannot be known: the shard ends, and looks at its next start
    │   └── OwnerLost          another life of the shard has the store
    └── PeerError              one of our own processes
        ├── VersionMismatch    speaks another version of the wire
        ├── Undecodable        sent bytes that are no message
        ├── FormerOwner        owned a shard's place before another did
        ├── MessageTooLarge    is to be sent more than a socket takes
        ├── QueueFull          is behind: what waits for it has reached its bound
        ├── TooManyAsks        has not answered as many asks as may be open
        └── ShardAway          did not answer within the deadline

The facts are attributes; the sentence is made in `__str__`, lower case, what was seen before what was expected.
"""

from __future__ import annotations


class ChannelstreamError(Exception):
    """The root of the tree."""


class OperatorError(ChannelstreamError):
    """The way it was started cannot work. Told to a person, in a terminal."""


class ConfigError(OperatorError):
    """A setting that cannot be used. Nothing starts with one."""

    def __init__(self, key: str, value: object, accepted: str, origin: str = "") -> None:
        self.key = key
        self.value = value
        self.accepted = accepted
        self.origin = origin
        super().__init__(key, value, accepted, origin)

    def __str__(self) -> str:
        where = f" (from {self.origin})" if self.origin else ""
        return f"{self.key} = {self.value!r}{where}: expected {self.accepted}"


class ConfigErrors(OperatorError):
    """Everything that is wrong with the settings. `errors` has one `ConfigError` for each, at least one."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        self.errors = errors
        super().__init__(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class RunDirRefused(OperatorError):
    """`run_dir` cannot be used: whoever can write there could take our sockets' places."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"run_dir {self.path} cannot be used: {self.reason}"


class AlreadyRunning(OperatorError):
    """The lock of a process is held by another one. `pid` is 0 where it has not written its pid yet."""

    def __init__(self, name: str, pid: int, run_dir: str) -> None:
        self.name = name
        self.pid = pid
        self.run_dir = run_dir
        super().__init__(name, pid, run_dir)

    def __str__(self) -> str:
        who = f"{self.name} has pid {self.pid}" if self.pid else f"{self.name} is just starting"
        return f"channelstream is already running in {self.run_dir}: {who}; end it first, or choose another run_dir"


class RestartRefused(OperatorError):
    """The processes of a group cannot be restarted one by one. None was ended."""

    def __init__(self, run_dir: str, reason: str) -> None:
        self.run_dir = run_dir
        self.reason = reason
        super().__init__(run_dir, reason)

    def __str__(self) -> str:
        return f"the group in {self.run_dir} was not restarted: {self.reason}"


class NotBack(OperatorError):
    """A restart ended half-way: those after this process still are as they were."""

    def __init__(self, process: str, reason: str) -> None:
        self.process = process
        self.reason = reason
        super().__init__(process, reason)

    def __str__(self) -> str:
        return f"{self.process} did not come back: {self.reason}; no other process was ended after it"


class DataDirRefused(OperatorError):
    """What is kept cannot be read or written there. Nothing was changed."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"data_dir: {self.path} cannot be used: {self.reason}"


class CheckImpossible(OperatorError):
    """A check of the delivery could not be carried out. `log`: the last lines of its group."""

    def __init__(self, reason: str, log: tuple[str, ...]) -> None:
        self.reason = reason
        self.log = log
        super().__init__(reason, log)

    def __str__(self) -> str:
        return "\n".join([f"the check could not be carried out: {self.reason}", *self.log])


class DataDirInUse(OperatorError):
    """A lock in `data_dir` is held by another process. `pid` is 0 where it has not written its pid."""

    def __init__(self, path: str, name: str, pid: int) -> None:
        self.path = path
        self.name = name
        self.pid = pid
        super().__init__(path, name, pid)

    def __str__(self) -> str:
        who = f"{self.name} has pid {self.pid}" if self.pid else f"{self.name} is running"
        return f"data_dir: {self.path} is in use: {who}; end it first, or choose another data_dir"


class BadHistoryFile(OperatorError):
    """A file to be imported has a line that cannot be used. Nothing was imported."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        self.reason = reason
        super().__init__(line, reason)

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}; nothing was imported"


class CallerError(ChannelstreamError):
    """The caller of the REST API did something that is refused."""

    status = 400

    def body(self) -> object:
        """What the caller is told, as JSON."""
        return {"error": str(self)}


class AddressRefused(CallerError):
    """The caller's address is not among those that may post."""

    status = 403

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(address)

    def __str__(self) -> str:
        return f"address {self.address} is not allowed to call the API"


class SignatureMissing(CallerError):
    """No signature came with the request."""

    status = 403

    def __str__(self) -> str:
        return "no signature: expected the header X-Channelstream-Secret"


class SignatureRefused(CallerError):
    """A signature that is wrong, too old, for something else, or used before. `reason` is for the log only."""

    status = 401

    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason = reason
        self.hint = hint
        super().__init__(reason, hint)

    def body(self) -> object:
        told = {"request": "Bad Signature"}
        if self.hint:
            told["hint"] = self.hint
        return told

    def __str__(self) -> str:
        return self.reason


class HttpsRequired(CallerError):
    """`enforce_https` is on and the request came in the clear."""

    status = 406

    def __str__(self) -> str:
        return "https is required"


class NotJson(CallerError):
    """The body is not JSON."""

    status = 400

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)

    def __str__(self) -> str:
        return f"the body is not JSON: {self.detail}"


class Invalid(CallerError):
    """The body is JSON but does not fit the schema. `fields` maps a dotted path to what is wrong there."""

    status = 422

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self.fields = fields
        super().__init__(fields)

    def body(self) -> object:
        return self.fields

    def __str__(self) -> str:
        return "; ".join(f"{path}: {', '.join(wrong)}" for path, wrong in self.fields.items())


class BodyTooLarge(CallerError):
    """The body is larger than `max_body`."""

    status = 413

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(limit)

    def __str__(self) -> str:
        return f"the body is larger than {self.limit} bytes"


class Unavailable(CallerError):
    """A shard that the call needs did not answer in time. The caller may repeat the call.

    `done` names what was carried out, `unknown` what may or may not have been.
    """

    status = 503
    retry_after_s = 1

    def __init__(self, shards: list[int], done: list[str], unknown: list[str]) -> None:
        self.shards = shards
        self.done = done
        self.unknown = unknown
        super().__init__(shards, done, unknown)

    def body(self) -> object:
        return {"error": str(self), "done": self.done, "unknown": self.unknown}

    def __str__(self) -> str:
        return f"no answer in time from shard {', '.join(map(str, self.shards))}: repeat the request"


class NotStored(CallerError):
    """A disk does not take what the call would keep. `done` names what was carried out all the same, `refused` what was
    not and will not be. The caller may repeat the call: it heals by itself."""

    status = 507
    retry_after_s = 5

    def __init__(self, reason: str, done: list[str], refused: list[str]) -> None:
        self.reason = reason
        self.done = done
        self.refused = refused
        super().__init__(reason, done, refused)

    def body(self) -> object:
        return {"error": str(self), "done": self.done, "refused": self.refused}

    def __str__(self) -> str:
        return f"not stored: {self.reason}"


class ClientError(ChannelstreamError):
    """A client did something that is refused."""

    status = 400

    def body(self) -> object:
        """What the client is told, as JSON."""
        return {"error": str(self)}


class UnknownConnection(ClientError):
    """No such `conn_id`: never made, expired, or malformed."""

    status = 401

    def __str__(self) -> str:
        return "unknown connection"


class MalformedRequest(ClientError):
    """A request that breaks the rules of HTTP or a limit. It is answered with `status` and the connection is closed."""

    def __init__(self, detail: str, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.detail = detail
        self.status = status
        self.headers = headers
        super().__init__(detail, status)

    def __str__(self) -> str:
        return self.detail


class TooManyBodies(MalformedRequest):
    """Other requests' bodies take all the room that there is for them. The caller may repeat the request."""

    def __init__(self) -> None:
        super().__init__("too many large requests at the same time: repeat it", 503, (("Retry-After", "1"),))


class ClientGone(ClientError):
    """The client closed its connection, or did not read, before all that was meant for it was written."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)

    def __str__(self) -> str:
        return self.detail


class BadCallback(ClientError):
    """A JSONP callback that is no name. Anything else would be code of a stranger's."""

    def __str__(self) -> str:
        return "expected a callback of letters, digits, _ $ ., 64 at most"


class WrongMethod(ClientError):
    """A client's path was called with another method than GET."""

    status = 405

    def __str__(self) -> str:
        return "method not allowed"


class ForeignPage(ClientError):
    """A page of an origin that is not among `allow_cors` uses a client's path."""

    status = 403

    def __init__(self, origin: str) -> None:
        self.origin = origin[:200]
        super().__init__(self.origin)

    def __str__(self) -> str:
        return f"origin {self.origin!r} is not among allow_cors"


class BadHandshake(ClientError):
    """A websocket upgrade that is refused before it happens."""

    def __init__(self, detail: str, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.detail = detail
        self.status = status
        self.headers = headers
        super().__init__(detail, status)

    def __str__(self) -> str:
        return self.detail


class StoreError(ChannelstreamError):
    """The disk under a shard. `reason` is for callers too: it names no path."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason


class StoreFull(StoreError):
    """Nothing was taken, and nothing is damaged; a later try may do."""


class StoreBroken(StoreError):
    """It cannot be known what was taken. A later success would mean nothing (a failed fsync may have dropped pages)."""


class OwnerLost(StoreError):
    """Another life of this shard has taken the store: this one was stopped, and did not know."""


class PeerError(ChannelstreamError):
    """One of our own processes."""


class VersionMismatch(PeerError):
    """A peer speaks another version of the wire. It is not answered."""

    def __init__(self, seen: int, expected: int) -> None:
        self.seen = seen
        self.expected = expected
        super().__init__(seen, expected)

    def __str__(self) -> str:
        return f"wire version {self.seen}, expected {self.expected}: the processes of a group must be of one release"


class Undecodable(PeerError):
    """Bytes from a peer that are no message."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)

    def __str__(self) -> str:
        return f"undecodable message: {self.detail}"


class FormerOwner(PeerError):
    """A batch of a shard that another one has succeeded: it was stopped, and does not know it. Refused."""

    def __init__(self, generation: int, expected: int) -> None:
        self.generation = generation
        self.expected = expected
        super().__init__(generation, expected)

    def __str__(self) -> str:
        return f"generation {self.generation}, expected at least {self.expected}: a former owner"


class MessageTooLarge(PeerError):
    """A message that no peer would take; it was not sent."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(size, limit)

    def __str__(self) -> str:
        return f"a message of {self.size} bytes, expected at most {self.limit}"


class QueueFull(PeerError):
    """What waits for a peer has reached its bound; this message was not taken."""

    def __init__(self, peer: str, waiting_bytes: int, bound_bytes: int) -> None:
        self.peer = peer
        self.waiting_bytes = waiting_bytes
        self.bound_bytes = bound_bytes
        super().__init__(peer, waiting_bytes, bound_bytes)

    def __str__(self) -> str:
        return f"queue to {self.peer} is full: {self.waiting_bytes} bytes wait, the bound is {self.bound_bytes}"


class TooManyAsks(PeerError):
    """As many asks of a shard are open as may be; this one was not sent."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        super().__init__(bound)

    def __str__(self) -> str:
        return f"{self.bound} asks wait for an answer already"


class ShardAway(PeerError):
    """A shard did not answer within the deadline, or could not be asked at all."""

    def __init__(self, shard: int, detail: str) -> None:
        self.shard = shard
        self.detail = detail
        super().__init__(shard, detail)

    def __str__(self) -> str:
        return f"shard {self.shard}: {self.detail}"
