"""The API's description: an OpenAPI 3.1 document.

It is made from the types that validate the bodies and from the table of calls (`calls`), so that it cannot say
anything else than the code does. A type may have `IN_SCHEMA`, a dict of what JSON Schema can say of it beyond its
fields. What is not known here: how people read of them (`reference`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from channelstream.router import answers, bodies, schemas
from channelstream.router.answers import Deliveries, Delivery
from channelstream.router.calls import (
    BACKEND,
    CALLS,
    CLIENT,
    JSON,
    OPERATOR,
    PROBLEMS,
    Body,
    Call,
    Parameter,
    Problem,
    Reply,
)

Json = dict[str, Any]

VERSION: Final = "3.1.0"
"""Of OpenAPI: the first whose schemas are JSON Schema 2020-12, which msgspec writes."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

SCHEMAS: Final = "#/components/schemas/"
"""Where references to types begin."""

ABOUT: Final = (
    "Backends call a small signed API; browsers and other clients receive by websocket, server-sent events or "
    "long-poll, and never publish. Every error is JSON. Unknown keys are ignored, except in messages, where they "
    "travel along. Times are UTC, ISO 8601, without offset, with microseconds."
)

SIGNATURE: Final = (
    "What itsdangerous' `TimestampSigner(secret).sign(value)` gives, not older than `signature_max_age` (60 s). What "
    "`value` is depends on the server's `signature_scope`. `endpoint` (the default): the call's path, such as "
    "`/message`; the word `channelstream` is taken as well, for older clients. `strict`: the path and nothing else. "
    "`any`: anything. `request`: `METHOD PATH SHA256`, the last one being that of the body in hexadecimal, and after "
    "another space a nonce, if you like; such a signature is taken once, so calls that are alike to the byte need "
    "nonces. In any case the caller's address must be among `allow_posting_from`."
)

_TAGS: Final = {
    BACKEND: "What backends call, signed.",
    CLIENT: "What browsers and other clients open; they know a `conn_id`.",
    OPERATOR: "For whoever runs the server.",
}

_SECURITY_SCHEMES: Final[Json] = {
    "signature": {"type": "apiKey", "in": "header", "name": "X-Channelstream-Secret", "description": SIGNATURE},
    "signatureInUrl": {
        "type": "apiKey",
        "in": "query",
        "name": "secret",
        "description": "The same in the URL, where headers cannot be set. URLs end up in logs: prefer the header.",
    },
}

_HEADERS: Final[Json] = {
    "X-Request-Id": {
        "description": "The caller's X-Request-Id where it sent one, else the server's: the same in its log.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 0}},
    "Allow": {"description": "The methods of the path.", "schema": {"type": "string"}},
}

_PARAMETERS: Final[Json] = {
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Comes back in the answer. Up to 128 letters, digits and `._:/+=-`; another one is replaced.",
        "schema": {"type": "string"},
    },
    "X-Channelstream-Endpoint": {
        "name": "X-Channelstream-Endpoint",
        "in": "header",
        "description": "The path once more, as older clients send it. Where it is there, it must equal the path.",
        "schema": {"type": "string"},
    },
}


def document(version: str, public_url: str | None = None) -> Json:
    """The OpenAPI document of a server of this version.

    `public_url` is where clients and backends reach it; None: wherever this document was found.
    """
    problems = dict.fromkeys(["Unexpected", *(name for call in CALLS for name in call.problems)])
    types = _Types([*_kinds_of(CALLS), *(PROBLEMS[name].kind for name in problems)])
    return {
        "openapi": VERSION,
        "jsonSchemaDialect": DIALECT,
        "info": {"title": "channelstream", "version": version, "description": ABOUT},
        "servers": [{"url": public_url or "/"}],
        "tags": [{"name": who, "description": text} for who, text in _TAGS.items()],
        "paths": _paths(CALLS, types),
        "components": {
            "schemas": types.components,
            "responses": {name: _problem(PROBLEMS[name], types) for name in problems},
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


# --- types ---


class _Types:
    """The schemas of some types, and the named ones among them."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        self._kinds: Final = [*dict.fromkeys([Delivery, *kinds])]
        self._schemas, components = msgspec.json.schema_components(self._kinds, ref_template=SCHEMAS + "{name}")
        self.components: Final[Json] = {**components, "Delivery": {"description": _DELIVERY, **self._schemas[0]}}
        for name, more in _beyond_fields().items():
            if name in self.components:
                self.components[name] = {**self.components[name], **more}

    def schema(self, kind: Any) -> Json:
        """Of one of the types that it was made with."""
        if kind == Deliveries:
            return {"type": "array", "items": {"$ref": SCHEMAS + "Delivery"}}
        return dict(self._schemas[self._kinds.index(kind)])


_DELIVERY: Final = "One thing that a client receives; `type` says which."


def _beyond_fields() -> dict[str, Mapping[str, object]]:
    """What the types' `IN_SCHEMA` say, by the types' names."""
    found = [value for module in (schemas, bodies, answers) for value in vars(module).values()]
    return {
        kind.__name__: kind.IN_SCHEMA
        for kind in found
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and hasattr(kind, "IN_SCHEMA")
    }


def _kinds_of(calls: Iterable[Call]) -> list[Any]:
    kinds: list[Any] = []
    for call in calls:
        kinds += [parameter.kind for parameter in call.parameters]
        kinds += [call.body.kind] if call.body else []
        kinds += [kind for reply in call.replies for kind, _ in reply.contents.values()]
    return kinds


# --- calls ---


def _paths(calls: Iterable[Call], types: _Types) -> Json:
    paths: Json = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, types)
    return paths


def _operation(call: Call, types: _Types) -> Json:
    shared = ["X-Channelstream-Endpoint"] if call.signed else []
    told: Json = {
        "operationId": call.name,
        "tags": [call.who],
        "summary": call.summary,
        "description": call.description,
        "security": [{name: []} for name in _SECURITY_SCHEMES] if call.signed else [],
        "parameters": [
            *(_parameter(parameter, types) for parameter in call.parameters),
            *({"$ref": f"#/components/parameters/{name}"} for name in [*shared, "X-Request-Id"]),
        ],
        "responses": _responses(call, types),
    }
    if call.body is not None:
        told["requestBody"] = _request_body(call.body, types)
    return told


def _parameter(parameter: Parameter, types: _Types) -> Json:
    told: Json = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.meaning,
        "required": parameter.required,
        "schema": types.schema(parameter.kind),
    }
    return told if parameter.example is None else {**told, "example": parameter.example}


def _request_body(body: Body, types: _Types) -> Json:
    return {"required": body.required, "content": {JSON: {"schema": types.schema(body.kind), "example": body.example}}}


def _responses(call: Call, types: _Types) -> Json:
    told: Json = {str(reply.status): _reply(reply, types) for reply in call.replies}
    for name in (*call.problems, "Unexpected"):
        told[str(PROBLEMS[name].status or "default")] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(told.items()))


def _reply(reply: Reply, types: _Types) -> Json:
    told: Json = {"description": reply.meaning, "headers": _header_refs(["X-Request-Id"])}
    if reply.contents:
        told["content"] = {
            media_type: {"schema": types.schema(kind), "example": example}
            for media_type, (kind, example) in reply.contents.items()
        }
    return told


def _problem(problem: Problem, types: _Types) -> Json:
    return {
        "description": problem.meaning,
        "headers": _header_refs(["X-Request-Id", *problem.headers]),
        "content": {JSON: {"schema": types.schema(problem.kind), "example": problem.example}},
    }


def _header_refs(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
