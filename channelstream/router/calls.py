"""Every call of the API as data: what it takes, what it answers, which errors it has, with an example of each.

This is what the API's description is made from (`openapi`). What a field is and which values it takes is in its type
(`schemas`, `bodies`, `answers`); what is not known here is how a description looks.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta

from channelstream.router import answers, bodies, schemas
from channelstream.router.schemas import UuidText, told

JSON: Final = "application/json"
JAVASCRIPT: Final = "application/javascript"
EVENT_STREAM: Final = "text/event-stream"

BACKEND: Final = "backend"
CLIENT: Final = "client"
OPERATOR: Final = "operator"

CALLBACK_PATTERN: Final = r"^[A-Za-z0-9_$.]{1,64}$"


class Parameter(NamedTuple):
    """What comes in the URL or a header."""

    name: str
    place: str
    """query or header"""
    kind: Any
    meaning: str
    required: bool = False
    example: object = None


class Body(NamedTuple):
    """What comes in the request's body."""

    kind: Any
    example: object
    required: bool = True


class Reply(NamedTuple):
    """An answer that is no error. `contents` maps a media type to the body's type and an example; empty: no body."""

    meaning: str
    contents: dict[str, tuple[Any, object]]
    status: int = 200


class Problem(NamedTuple):
    """An answer that is an error. `status` 0: whatever else. `headers`: those besides the ones of every answer."""

    status: int
    meaning: str
    kind: Any
    example: object
    headers: tuple[str, ...] = ()


class Call(NamedTuple):
    """A method of a path."""

    method: str
    path: str
    name: str
    """Unique; what generated clients name their function."""
    who: str
    summary: str
    description: str
    replies: tuple[Reply, ...]
    problems: tuple[str, ...]
    """Keys of `PROBLEMS`."""
    body: Body | None = None
    parameters: tuple[Parameter, ...] = ()
    signed: bool = False

    def contract(self) -> tuple[object, ...]:
        """What it takes and answers: equal for two calls of which one is another name of the other."""
        return self.body, self.parameters, self.signed, self.replies, self.problems


# --- examples ---

_CONN_ID: Final = "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab"
_MESSAGE_ID: Final = "8a0f3e64-5b1d-4c5e-8f2a-1c9d7e6b5a40"
_OTHER_ID: Final = "d1c2b3a4-0f9e-4d8c-9b7a-6f5e4d3c2b1a"
_SAID_AT: Final = "2026-05-06T07:08:09.000010"
_EDITED_AT: Final = "2026-05-06T07:09:00.500000"

_STATE: Final = {"avatar": "cat.png", "age": 31}
_PUBLIC: Final = {"avatar": "cat.png"}
_PAYLOAD: Final = {"text": "hello"}

_DELIVERED: Final = {
    "type": "message",
    "uuid": _MESSAGE_ID,
    "timestamp": _SAID_AT,
    "date": _SAID_AT,
    "user": "joe",
    "channel": "lobby",
    "message": _PAYLOAD,
    "edited": None,
    "catchup": False,
    "seq": 2,
}
_LOBBY: Final = {
    "name": "lobby",
    "long_name": None,
    "uuid": _OTHER_ID,
    "settings": {
        "notify_presence": True,
        "broadcast_presence_with_user_lists": False,
        "notify_state": False,
        "store_history": True,
        "history_size": 50,
        "store_frames": True,
        "frames_size": 100,
        "history_ttl": 0,
        "skip_when_slow": False,
    },
    "history": [_DELIVERED],
    "last_active": _SAID_AT,
    "total_connections": 1,
    "total_users": 1,
    "users": ["joe"],
    "seq": 2,
    "epoch": "9f86d081884c7d65",
}
_INFO: Final = {"channels": {"lobby": _LOBBY}, "users": [{"user": "joe", "state": _STATE}]}
_NO_INFO: Final[dict[str, object]] = {"channels": {}, "users": []}
_BARE_LOBBY: Final = {**_LOBBY, "history": [], "users": []}
_PROCESS: Final = {
    "process": "shard-0",
    "role": "shard",
    "index": 0,
    "pid": 4711,
    "since": _SAID_AT,
    "ready": True,
    "connections": 1,
    "channels": 1,
    "queue_bytes": 0,
    "version": "0.1",
    "counters": {"asks_stale": 2},
}
_DELIVERIES: Final = [
    {
        "type": "presence",
        "uuid": _OTHER_ID,
        "timestamp": _SAID_AT,
        "date": _SAID_AT,
        "user": "joe",
        "channel": "lobby",
        "message": {"action": "joined"},
        "users": [],
        "state": _PUBLIC,
        "catchup": False,
        "seq": 1,
    },
    _DELIVERED,
]

# --- what several calls have ---

_CONN_ID_IN_URL: Final = Parameter(
    "conn_id", "query", UuidText, "The connection: a UUID, in any form. One in the body wins.", example=_CONN_ID
)
_CONN_ID_NEEDED: Final = Parameter(
    "conn_id", "query", UuidText, "The connection: a UUID, in any form.", required=True, example=_CONN_ID
)
_SIGNED: Final = (
    "NotJson",
    "BadSignature",
    "NotAllowed",
    "NotFound",
    "MethodNotAllowed",
    "HttpsRequired",
    "TooLarge",
    "Invalid",
    "Unavailable",
    "NotStored",
)


def _json(meaning: str, kind: Any, example: object, status: int = 200) -> Reply:
    return Reply(meaning, {JSON: (kind, example)}, status)


def _signed(
    method: str, path: str, name: str, summary: str, description: str, body: Body, reply: Reply, *more: Parameter
) -> Call:
    return Call(method, path, name, BACKEND, summary, description, (reply,), _SIGNED, body, more, True)


def _publish(path: str, name: str, summary: str, description: str) -> Call:
    return _signed(
        "POST",
        path,
        name,
        summary,
        description,
        Body(
            bodies.MessageBodies,
            [{"uuid": _MESSAGE_ID, "user": "joe", "channel": "lobby", "message": _PAYLOAD, "colour": "red"}],
        ),
        _json(
            "The list as it was taken.",
            list[answers.MessageAnswer],
            [
                {
                    "type": "message",
                    "uuid": _MESSAGE_ID,
                    "timestamp": _SAID_AT,
                    "user": "joe",
                    "channel": "lobby",
                    "message": _PAYLOAD,
                    "pm_users": [],
                    "exclude_users": [],
                    "no_history": False,
                    "edited": None,
                    "colour": "red",
                }
            ],
        ),
    )


def _admin(method: str) -> Call:
    return Call(
        method,
        "/admin/admin.json",
        f"admin_{method.lower()}",
        OPERATOR,
        "The numbers of the group",
        "The numbers, and all channels and users with their connections. As large as what the server holds.",
        (
            _json(
                "Everything.",
                answers.AdminAnswer,
                {
                    "remembered_user_count": 2,
                    "unique_user_count": 1,
                    "total_connections": 1,
                    "total_channels": 1,
                    "total_messages": 1,
                    "total_unique_messages": 1,
                    "channels": {"lobby": _LOBBY},
                    "users": [{"user": "joe", "state": _PUBLIC, "connections": [_CONN_ID]}],
                    "uptime": "0:00:12",
                    "version": "0.1",
                },
            ),
        ),
        ("BadSignature", "NotAllowed", "HttpsRequired", "Unavailable"),
        signed=True,
    )


def _disconnect(method: str, description: str, body: Body | None, parameter: Parameter) -> Call:
    of_body = ("NotJson", "TooLarge") if body else ()
    return Call(
        method,
        "/disconnect",
        f"disconnect_{method.lower()}",
        CLIENT,
        "End a connection",
        description,
        (_json("Whether the connection was known.", bool, True),),
        (*of_body, "ForeignOrigin", "HttpsRequired", "Invalid", "Unavailable"),
        body,
        (parameter,),
    )


CALLS: Final[tuple[Call, ...]] = (
    _signed(
        "POST",
        "/connect",
        "connect",
        "Make a connection, or add channels to one",
        "Makes a connection for a user, on channels, and answers what is known of them. Hand the `conn_id` to the "
        "client, which opens `/ws` or `/listen` with it. A second call with the same `conn_id` and user adds channels; "
        "with another user it is a 422. A call that was not answered may be repeated.",
        Body(
            schemas.ConnectBody,
            {
                "username": "joe",
                "conn_id": _CONN_ID,
                "channels": ["lobby"],
                "channel_configs": {"lobby": {"notify_presence": True, "store_history": True, "history_size": 50}},
                "fresh_user_state": {"avatar": "cat.png"},
                "user_state": {"age": 31},
                "state_public_keys": ["avatar"],
                "info": {"include_connections": False},
            },
        ),
        _json(
            "The connection, its user, and what it is on.",
            answers.ConnectAnswer,
            {
                "conn_id": _CONN_ID,
                "username": "joe",
                "state": _STATE,
                "public_state": _PUBLIC,
                "channels": ["lobby"],
                "channels_info": _INFO,
            },
        ),
    ),
    _signed(
        "POST",
        "/subscribe",
        "subscribe",
        "Add channels to a connection",
        "Works whether a client is there or not; one that is there gets the channels' messages from now on. An unknown "
        "connection is a 422.",
        Body(schemas.SubscribeBody, {"conn_id": _CONN_ID, "channels": ["lobby"]}),
        _json(
            "What the connection is on now.",
            answers.SubscribeAnswer,
            {"channels": ["lobby"], "channels_info": _INFO, "subscribed_to": ["lobby"]},
        ),
        _CONN_ID_IN_URL,
    ),
    _signed(
        "POST",
        "/unsubscribe",
        "unsubscribe",
        "Take channels from a connection",
        "A connection may be left without any channel and still gets its user's private messages. An unknown "
        "connection is a 422.",
        Body(schemas.UnsubscribeBody, {"conn_id": _CONN_ID, "channels": ["lobby"]}),
        _json(
            "What the connection is on now.",
            answers.UnsubscribeAnswer,
            {"channels": [], "channels_info": _NO_INFO, "unsubscribed_from": ["lobby"]},
        ),
        _CONN_ID_IN_URL,
    ),
    _signed(
        "POST",
        "/user_state",
        "user_state",
        "Change a user's state",
        "Merges keys into what the server keeps with a user. Where something changed, the user's channels with "
        "`notify_state` are told of the public part. An unknown user is a 422.",
        Body(
            schemas.UserStateBody,
            {"user": "joe", "user_state": {"avatar": "dog.png"}, "state_public_keys": ["avatar"]},
        ),
        _json(
            "The user's state now.",
            answers.UserStateAnswer,
            {
                "user_state": {"avatar": "dog.png", "age": 31},
                "changed_state": [{"key": "avatar", "value": "dog.png"}],
                "public_keys": ["avatar"],
            },
        ),
    ),
    _publish(
        "/message",
        "publish",
        "Publish messages",
        "A list of messages, taken whole or refused whole. With `channel` alone a message goes to every connection on "
        "it; with `pm_users` as well, to those users' connections on it; with `pm_users` alone, to all their "
        "connections. `exclude_users` wins over both. A channel that does not exist is no error: nobody is there. The "
        "order of the list is kept within each channel. Give each message a `uuid` and the call may be repeated: what "
        "the channel still holds is not taken twice.",
    ),
    _publish("/messages", "publish_messages", "Publish messages", "The same as `POST /message`."),
    _signed(
        "PATCH",
        "/message",
        "edit",
        "Edit messages",
        "Changes messages where they are kept (history, and what is held for connections that were away), and tells "
        "clients with a `message:edit`. Keys that are not given stay as they were. Whoever may see the message is "
        "told; where it is kept no more, only the edit says who that is: repeat the message's `pm_users`. A message "
        "that was deleted is not edited.",
        Body(bodies.EditBodies, [{"uuid": _MESSAGE_ID, "channel": "lobby", "message": {"text": "hello there"}}]),
        _json(
            "The list as it was taken.",
            list[answers.EditAnswer],
            [
                {
                    "type": "message:edit",
                    "uuid": _MESSAGE_ID,
                    "channel": "lobby",
                    "pm_users": [],
                    "message": {"text": "hello there"},
                    "edited": _EDITED_AT,
                }
            ],
        ),
    ),
    _signed(
        "DELETE",
        "/message",
        "delete",
        "Delete messages",
        "Removes messages from where they are kept, and tells clients with a `message:delete`, which names the message "
        "and repeats nothing of it. Other keys than these are ignored.",
        Body(bodies.DeletionBodies, [{"uuid": _MESSAGE_ID, "channel": "lobby"}]),
        _json(
            "The list as it was taken.",
            list[answers.DeletionAnswer],
            [{"type": "message:delete", "uuid": _MESSAGE_ID, "channel": "lobby", "pm_users": []}],
        ),
    ),
    _signed(
        "POST",
        "/channel_config",
        "channel_config",
        "Configure channels",
        "An object with a configuration by channel name. Changes the keys that are given and leaves the others; "
        "channels that are missing are made.",
        Body(schemas.ChannelConfigs, {"lobby": {"store_history": True, "history_size": 50}}),
        _json(
            "These channels, without history and users.",
            answers.Info,
            {"channels": {"lobby": _BARE_LOBBY}, "users": []},
        ),
    ),
    _signed(
        "POST",
        "/info",
        "info",
        "What is known of channels and users",
        "Without a body: everything.",
        Body(schemas.InfoBody, {"info": {"channels": ["lobby"], "include_history": True}}, required=False),
        _json("The channels, and the users on them.", answers.Info, _INFO),
    ),
    _disconnect(
        "GET",
        "For whoever knows the `conn_id`: pages from anywhere may call it. The connection is gone at once, and its "
        "channels are told within a second.",
        None,
        _CONN_ID_NEEDED,
    ),
    _disconnect(
        "POST",
        "The same. With a `conn_id` in the URL the body is not looked at, so that a browser's beacon will do.",
        Body(schemas.DisconnectBody, {"conn_id": _CONN_ID}, required=False),
        _CONN_ID_IN_URL._replace(meaning="The connection: a UUID, in any form. Needed here or in the body."),
    ),
    Call(
        "GET",
        "/ws",
        "websocket",
        CLIENT,
        "Receive by websocket",
        "A websocket (RFC 6455). Each text frame that comes is a JSON list of deliveries, see `Delivery`; what was "
        "missed comes first. Whatever a client sends counts as a sign of life and nothing else. A second socket with "
        "the same `conn_id` takes over. Close codes: 1001 the server is going away, come back; 1008 too slow; 1009 a "
        "frame too big; 4000 disconnected by the backend; 4001 replaced by another socket; 4002 expired.",
        (Reply("From here on it is a websocket.", {}, 101),),
        ("NoWebsocket", "UnknownConnection", "ForeignOrigin", "HttpsRequired", "UpgradeRequired", "Busy"),
        parameters=(_CONN_ID_NEEDED,),
    ),
    Call(
        "GET",
        "/listen",
        "listen",
        CLIENT,
        "Receive by long-poll",
        "Waits some seconds for a delivery and a moment for what follows it. Poll again at once: nothing is lost in "
        "between, wherever the next poll lands.",
        (
            Reply(
                "What there is; an empty list where nothing came.",
                {
                    JSON: (answers.Deliveries, _DELIVERIES),
                    JAVASCRIPT: (Annotated[str, told("With `callback`: a call of it with the list.")], "got([])"),
                },
            ),
        ),
        ("BadCallback", "UnknownConnection", "ForeignOrigin", "HttpsRequired", "Busy"),
        parameters=(
            _CONN_ID_NEEDED,
            Parameter(
                "callback",
                "query",
                Annotated[str, Meta(pattern=CALLBACK_PATTERN)],
                "The name of a function that the answer is to call (JSONP).",
            ),
        ),
    ),
    Call(
        "GET",
        "/events",
        "events",
        CLIENT,
        "Receive by Server-Sent Events",
        "For a browser's `EventSource`. The data of each event is a JSON list of deliveries, see `Delivery`; what was "
        "missed comes first. Its id is the client's position: a browser that comes back gives it in `Last-Event-ID`, "
        "and what it has not seen follows. An event without data only brings a new position. Before the server ends a "
        "stream it sends an event of the type `close` with `code` and `reason` as those of a websocket; whoever is "
        "replaced by another client (4001) is told to wait for a day.",
        (
            Reply(
                "Events without end.",
                {
                    EVENT_STREAM: (
                        Annotated[str, told("Lines as the HTML standard has them.")],
                        "retry: 1000\n\nid: 8f4b9a2c1d3e5f60:2:9f86d081884c7d65\n"
                        'data: [{"type": "gap", "channel": "lobby", "missed": null}]\n\n',
                    )
                },
            ),
        ),
        ("UnknownConnection", "ForeignOrigin", "HttpsRequired", "Busy"),
        parameters=(
            _CONN_ID_NEEDED,
            Parameter("Last-Event-ID", "header", str, "The position to go on from; browsers send it by themselves."),
        ),
    ),
    _admin("GET"),
    _admin("POST"),
    Call(
        "GET",
        "/openapi.json",
        "openapi",
        OPERATOR,
        "This description",
        "An OpenAPI 3.1 document of the calls that are answered here.",
        (_json("The document.", dict[str, Any], {"openapi": "3.1.0", "info": {}, "paths": {}}),),
        ("BadSignature", "NotAllowed", "HttpsRequired", "Unavailable"),
        signed=True,
    ),
    Call(
        "GET",
        "/healthz",
        "health",
        OPERATOR,
        "How each process is",
        "Answered with 200 as long as the process that is asked can say so. For addresses that may call the API.",
        (
            _json(
                "How the group is.",
                answers.HealthAnswer,
                {"version": "0.1", "ready": True, "processes": [_PROCESS]},
            ),
        ),
        ("NotAllowed", "HttpsRequired"),
    ),
    Call(
        "GET",
        "/readyz",
        "ready",
        OPERATOR,
        "Whether the group is ready",
        "For load balancers. For addresses that may call the API.",
        (
            _json("Every process has reported in.", answers.ReadyAnswer, {"ready": True, "waiting_for": []}),
            _json("One is missing.", answers.ReadyAnswer, {"ready": False, "waiting_for": ["shard-1"]}, status=503),
        ),
        ("NotAllowed", "HttpsRequired"),
    ),
)

PROBLEMS: Final[dict[str, Problem]] = {
    "NotJson": Problem(
        400,
        "The body is not JSON; says where.",
        answers.ErrorAnswer,
        {"error": "the body is not JSON: trailing comma in object (byte 17)"},
    ),
    "BadCallback": Problem(
        400, "The callback is no name.", answers.ErrorAnswer, {"error": "expected a callback of letters, digits, _ $ ."}
    ),
    "NoWebsocket": Problem(
        400,
        "No proper opening handshake.",
        answers.ErrorAnswer,
        {"error": "the Connection header does not say upgrade"},
    ),
    "BadSignature": Problem(
        401,
        "The signature is wrong, too old, for something else, or was used before.",
        answers.SignatureAnswer,
        {"request": "Bad Signature"},
    ),
    "UnknownConnection": Problem(
        401, "No such `conn_id`, or no more.", answers.ErrorAnswer, {"error": "unknown connection"}
    ),
    "NotAllowed": Problem(
        403,
        "No signature, or an address that may not call the API.",
        answers.ErrorAnswer,
        {"error": "no signature: expected the header X-Channelstream-Secret"},
    ),
    "ForeignOrigin": Problem(
        403,
        "A page from elsewhere than `allow_cors` has it.",
        answers.ErrorAnswer,
        {"error": "origin 'https://example.org' is not among allow_cors"},
    ),
    "NotFound": Problem(
        404, "No such path, or not on this port (`public_api`).", answers.ErrorAnswer, {"error": "not found"}
    ),
    "MethodNotAllowed": Problem(
        405,
        "The path has no such method; `Allow` names those that it has.",
        answers.ErrorAnswer,
        {"error": "method not allowed"},
        ("Allow",),
    ),
    "HttpsRequired": Problem(
        406,
        "`enforce_https` is on and the call came in the clear.",
        answers.ErrorAnswer,
        {"error": "https is required"},
    ),
    "TooLarge": Problem(
        413, "The body is larger than `max_body`.", answers.ErrorAnswer, {"error": "body over 4194304 bytes"}
    ),
    "Invalid": Problem(
        422,
        "The body does not fit. Every wrong field by its dotted path, with what is wrong there; `_schema` is the body "
        "as a whole. Nothing was done.",
        dict[str, list[str]],
        {"0.user": [schemas.MISSING], "2.uuid": ["expected a UUID, got 'x'"]},
    ),
    "UpgradeRequired": Problem(
        426, "No websocket was asked for.", answers.ErrorAnswer, {"error": "no upgrade to websocket asked for"}
    ),
    "Unavailable": Problem(
        503,
        "A part of the server did not answer in time. Says what was done and what is unknown; repeat the call.",
        answers.UnavailableAnswer,
        {
            "error": "no answer in time from shard 1: repeat the request",
            "done": [_MESSAGE_ID],
            "unknown": [_OTHER_ID],
        },
        ("Retry-After",),
    ),
    "NotStored": Problem(
        507,
        "A disk does not take what the call is to keep. Messages that are refused were not taken at all; what else was "
        "asked is in force, and is stored when it can be. Repeat the call: it heals by itself.",
        answers.NotStoredAnswer,
        {"error": "not stored: the disk is full", "done": [_MESSAGE_ID], "refused": [_OTHER_ID]},
        ("Retry-After",),
    ),
    "Busy": Problem(
        503,
        "A part of the server did not answer in time; come back.",
        answers.ErrorAnswer,
        {"error": "shard 1: no answer within the deadline"},
        ("Retry-After",),
    ),
    "Unexpected": Problem(
        0,
        "Whatever else is wrong (408, 431, 500 …): a sentence.",
        answers.ErrorAnswer,
        {"error": "internal error"},
    ),
}
