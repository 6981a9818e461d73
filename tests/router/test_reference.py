"""The page docs/rest-api.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from channelstream.router.calls import CALLS
from channelstream.router.openapi import document
from channelstream.router.reference import rest_api_markdown

PAGE = rest_api_markdown()
FILE = Path(__file__).parents[2] / "docs" / "rest-api.md"


def anchors(page: str) -> list[str]:
    """Of the headings, as they are made where Markdown is shown."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles]


def test_the_file_is_what_the_function_gives() -> None:
    assert FILE.read_text() == PAGE


def test_every_call_has_a_section_and_no_other() -> None:
    assert set(re.findall(r"^## ([A-Z]+ /\S+)$", PAGE, re.M)) == {f"{call.method} {call.path}" for call in CALLS}


def test_every_link_leads_to_a_heading_and_no_heading_is_there_twice() -> None:
    found = anchors(PAGE)
    assert len(set(found)) == len(found)
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= set(found)


def test_every_type_is_shown_with_every_field() -> None:
    types = document("")["components"]["schemas"]
    errors = {"ErrorAnswer", "SignatureAnswer", "UnavailableAnswer", "NotStoredAnswer"}
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S))
    assert sections.keys() == types.keys() - errors
    for name, section in sections.items():
        assert re.findall(r"^\| `(\w+)`", section, re.M) == list(types[name].get("properties", ())), name


def test_examples_are_json() -> None:
    examples = re.findall(r"```json\n(.*?)\n```", PAGE, re.S)
    assert len(examples) > 20
    for example in examples:
        json.loads(example)
        assert max(map(len, example.splitlines())) <= 120


def test_what_a_field_may_be_and_what_it_is_without() -> None:
    assert "| `username` | string (1 to 512 characters) | required | Whose connection it is. |" in PAGE
    assert "| `conn_id` | UUID or null | `null` |" in PAGE
    assert "| `channel_configs` | object: name → [ChannelConfigChange](#channelconfigchange) | `{}` |" in PAGE
    assert "| `user_state` | state | `{}` |" in PAGE
    assert "| `history_size` | integer (0 to 100000) |" in PAGE
    assert "| `connections` | list of string, or absent |" in PAGE
    assert '| `action` | `"joined"` or `"parted"` |' in PAGE


def test_another_name_of_a_call_is_told_in_a_line() -> None:
    section = PAGE.partition("## POST /messages\n")[2].partition("\n## ")[0]
    assert "what [`POST /message`](#post-message) does" in section
    assert "```" not in section


def test_tables_are_tables() -> None:
    widths: list[int] = []
    for line in PAGE.splitlines():
        cells = len(re.split(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells == 0 or not widths or cells == widths[-1], line
        widths = [*widths, cells] if cells else []
