"""The page docs/rest-api.md: the API for people who write backends, made from its OpenAPI document.

Types become tables here, and examples are shown as they are. What is said is said elsewhere (`calls`, and the types).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from channelstream.router import schemas
from channelstream.router.calls import CALLS, JSON, PROBLEMS, Call, Problem
from channelstream.router.openapi import ABOUT, SCHEMAS, SIGNATURE, Json, document

_SIGNED_EXAMPLE: Final = """\
```python
import requests
from itsdangerous import TimestampSigner

def call(path, body, secret="demo-secret", api="http://127.0.0.1:8001"):
    signature = TimestampSigner(secret).sign(path).decode()
    answer = requests.post(api + path, json=body, headers={"X-Channelstream-Secret": signature}, timeout=5)
    answer.raise_for_status()
    return answer.json()
```"""

_WIDTH: Final = 120
"""Of the lines, where it can be kept."""


def rest_api_markdown() -> str:
    """The page docs/rest-api.md."""
    page = _Page(document(""))
    parts = [
        "# The API",
        "",
        "<!-- Written by `channelstream.router.reference.rest_api_markdown()`; a test compares the two. -->",
        "",
        *_paragraph(ABOUT),
        "",
        *_paragraph(_WORDS),
        "",
        *_overview(CALLS),
        *_signing(),
        *page.errors(),
    ]
    for number, call in enumerate(CALLS):
        parts += page.section(call, CALLS[:number])
    parts += ["", "## Other types", *page.types_left()]
    return "\n".join(parts) + "\n"


_WORDS: Final = (
    "A *channel name* has 1 to 256 characters, a *user name* 1 to 512. A *state* is an object whose values are "
    "strings, integers of 64 bits, floats, booleans or null. A *UUID* is taken in any form (upper case, without "
    "hyphens, in braces, as a URN) and given back in one. A *time* is given back like `2026-05-06T07:08:09.000010`."
)


class _Page:
    """The parts of the page that come from the document. Each type is shown once, where it is met first."""

    def __init__(self, described: Json) -> None:
        self._described: Final = described
        self._types: Final[Json] = described["components"]["schemas"]
        self._asked: Final = self._met([operation.get("requestBody") for operation in self._operations()])
        """The types that are sent to the server; the others come from it."""
        self._shown: Final[set[str]] = set()

    def _operations(self) -> list[Json]:
        return [operation for path in self._described["paths"].values() for operation in path.values()]

    def errors(self) -> list[str]:
        """The section about errors."""
        problems = sorted((PROBLEMS[name] for name in self._described["components"]["responses"]), key=_error_order)
        rows = [(str(one.status or "other"), one.meaning, f"`{json.dumps(one.example)}`") for one in problems]
        return [
            "",
            "## Errors",
            "",
            *_paragraph(
                "Every error is JSON, and every answer has an `X-Request-Id`: the caller's, or the server's. A 503 "
                "or 507 that is an error has a `Retry-After`."
            ),
            "",
            *_table(("status", "meaning", "such as"), rows),
        ]

    def section(self, call: Call, earlier: Iterable[Call]) -> list[str]:
        """The section about a call, which follows those about `earlier` ones."""
        operation = self._described["paths"][call.path][call.method.lower()]
        parts = ["", f"## {_title(call)}", "", *_paragraph(f"{call.summary}. {call.description}")]
        alike = [one for one in earlier if one.contract() == call.contract()]
        if alike:
            return [*parts, "", f"Takes and answers what {_link(_title(alike[0]))} does."]
        if call.parameters:
            parts += ["", *_parameters(operation["parameters"])]
        if call.body is not None:
            content = operation["requestBody"]["content"][JSON]
            needed = "" if call.body.required else ", which may be left out"
            parts += ["", f"Body{needed}: {_shown(content['schema'])}", "", *_example(content["example"])]
            parts += self._types_in(content["schema"])
        for reply in call.replies:
            parts += self._answered(operation["responses"][str(reply.status)], reply.status)
        return parts

    def _answered(self, response: Json, status: int) -> list[str]:
        parts: list[str] = []
        for media_type, content in response.get("content", {}).items():
            form = "" if media_type == JSON else f" as `{media_type}`"
            meaning = content["schema"].get("description", response["description"])
            parts += ["", f"{status}{form}: {_shown(content['schema'])}. {meaning}", ""]
            parts += _example(content["example"]) if media_type == JSON else _block("", content["example"])
            parts += self._types_in(content["schema"])
        return parts or ["", f"{status}: {response['description']}"]

    def types_left(self) -> list[str]:
        """The types that the calls' sections refer to and do not show."""
        return [line for name in self._met(self._operations()) if name not in self._shown for line in self._type(name)]

    def _types_in(self, schema: Json) -> list[str]:
        """The types that a schema names itself, one after the other."""
        return [line for name in _named(schema) if name not in self._shown for line in self._type(name)]

    def _type(self, name: str) -> list[str]:
        self._shown.add(name)
        schema = self._types[name]
        parts = ["", f"### {name}", "", *_paragraph(schema["description"]), ""]
        if "properties" not in schema:
            return [*parts, *(f"- {_shown(option)}" for option in schema["anyOf"])]
        return [*parts, *(_asked_fields(schema) if name in self._asked else _answered_fields(schema))]

    def _met(self, part: object) -> dict[str, None]:
        """The types that a part of the document refers to, directly or not, in the order of a reader."""
        met: dict[str, None] = {}
        waiting = _named(part)
        while waiting:
            name = waiting.pop(0)
            if name not in met:
                met[name] = None
                waiting += _named(self._types[name])
        return met


def _error_order(problem: Problem) -> int:
    return problem.status or 1000


def _named(part: object) -> list[str]:
    """The types that a part of the document refers to directly."""
    if isinstance(part, list):
        return [name for item in part for name in _named(item)]
    if not isinstance(part, dict):
        return []
    names = [part["$ref"].removeprefix(SCHEMAS)] if str(part.get("$ref", "")).startswith(SCHEMAS) else []
    return names + [name for key, item in part.items() if key not in ("example", "mapping") for name in _named(item)]


def _parameters(parameters: Iterable[Json]) -> list[str]:
    rows = [
        (f"`{one['name']}`", one["in"], _shown(one["schema"]), "yes" if one["required"] else "no", one["description"])
        for one in parameters
        if "name" in one
    ]
    return _table(("parameter", "in", "type", "required", "meaning"), rows)


def _asked_fields(schema: Json) -> list[str]:
    rows = [
        (f"`{name}`", _shown(one), _default(name, one, schema["required"]), one.get("description", ""))
        for name, one in schema["properties"].items()
    ]
    return _table(("field", "type", "default", "meaning"), rows)


def _answered_fields(schema: Json) -> list[str]:
    rows = [
        (f"`{name}`", _shown(one) + ("" if name in schema["required"] else ", or absent"), one.get("description", ""))
        for name, one in schema["properties"].items()
    ]
    return _table(("field", "type", "meaning"), rows)


def _overview(calls: Iterable[Call]) -> list[str]:
    rows = [(_link(_title(call)), call.who, call.summary) for call in calls]
    return _table(("call", "who", "what it does"), rows)


def _signing() -> list[str]:
    return [
        "",
        "## Signatures",
        "",
        "Calls of backends carry a header `X-Channelstream-Secret`, or `?secret=` in the URL. It is this:",
        "",
        *_paragraph(SIGNATURE),
        "",
        _SIGNED_EXAMPLE,
    ]


def _title(call: Call) -> str:
    return f"{call.method} {call.path}"


def _link(title: str) -> str:
    shown = f"`{title}`" if " " in title else title
    return f"[{shown}](#{_anchor(title)})"


def _anchor(title: str) -> str:
    """The anchor that a heading gets where Markdown is shown: of its words, letters, digits, hyphens, underscores."""
    return "".join(sign for sign in title.lower().replace(" ", "-") if sign.isalnum() or sign in "-_")


def _default(name: str, schema: Json, required: Sequence[str]) -> str:
    if "default" in schema:
        return f"`{json.dumps(schema['default'])}`"
    return "required" if name in required else ""


_STATE_VALUE: Final[Json] = msgspec.json.schema(schemas.StateValue)


def _shown(schema: Json) -> str:
    """A schema as a reader sees it, on one line."""
    if "$ref" in schema:
        return _link(schema["$ref"].removeprefix(SCHEMAS))
    if schema.get("additionalProperties", schema.get("anyOf")) in (_STATE_VALUE, _STATE_VALUE["anyOf"]):
        return "state" if "additionalProperties" in schema else "a value of a state"
    if "anyOf" in schema:
        return " or ".join(map(_shown, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    show = _SHOWN.get(schema.get("type", ""), _shown_as_type)
    return show(schema)


def _shown_as_type(schema: Json) -> str:
    return str(schema.get("type", "anything"))


def _shown_text(schema: Json) -> str:
    if schema.get("pattern") == schemas.UUID_FORMS or schema.get("format") == "uuid":
        return "UUID"
    if "pattern" in schema and schema["pattern"].startswith(r"^\d{4}-"):
        return "time"
    return "string" + _bounds(schema, "minLength", "maxLength", " characters")


def _shown_number(schema: Json) -> str:
    return str(schema["type"]) + _bounds(schema, "minimum", "maximum", "")


def _shown_list(schema: Json) -> str:
    return f"list of {_shown(schema['items'])}" + _bounds(schema, "minItems", "maxItems", " of them")


def _shown_object(schema: Json) -> str:
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        return f"object: name → {_shown(schema['additionalProperties'])}"
    return "object"


_SHOWN: Final[dict[str, Callable[[Json], str]]] = {
    "string": _shown_text,
    "integer": _shown_number,
    "number": _shown_number,
    "array": _shown_list,
    "object": _shown_object,
}


def _bounds(schema: Json, least: str, most: str, unit: str) -> str:
    if least in schema and most in schema:
        return f" ({schema[least]} to {schema[most]}{unit})"
    if most in schema:
        return f" (at most {schema[most]}{unit})"
    return f" (at least {schema[least]}{unit})" if least in schema else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_one_line(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _example(value: object) -> list[str]:
    return _block("json", _wrapped(value, ""))


def _block(language: str, text: str) -> list[str]:
    return [f"```{language}", text.rstrip("\n"), "```"]


def _wrapped(value: object, indent: str) -> str:
    """JSON that is broken only where a line would get too long."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    deeper = indent + "  "
    if isinstance(value, list):
        inner = [_wrapped(item, deeper) for item in value]
        return "[\n" + ",\n".join(deeper + item for item in inner) + f"\n{indent}]"
    inner = [f"{json.dumps(key, ensure_ascii=False)}: {_wrapped(item, deeper)}" for key, item in value.items()]
    return "{\n" + ",\n".join(deeper + item for item in inner) + f"\n{indent}" + "}"
