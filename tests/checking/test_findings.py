"""Every finding says what it found."""

from __future__ import annotations

import typing

import msgspec
import pytest

from channelstream.checking import findings
from channelstream.checking.findings import Finding

KINDS = Finding.__subclasses__()


def made(kind: type[Finding]) -> Finding:
    """One with a value of its own in each field."""
    values = {str: lambda name: f"the-{name}", int: lambda name: len(name), float: lambda name: float(len(name))}
    hints = typing.get_type_hints(kind)
    fields = {name: values.get(hints[name], values[int])(name) for name in kind.__struct_fields__}
    return kind(**fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_its_sentence_names_where(kind):
    finding = made(kind)
    words = [
        value for name in ("client", "where", "topic", "publisher", "process") if (value := getattr(finding, name, ""))
    ]
    assert words
    assert any(word in str(finding) for word in words)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_travels_as_json(kind):
    finding = made(kind)
    assert msgspec.json.decode(msgspec.json.encode(finding), type=findings.AnyFinding) == finding
    assert msgspec.json.decode(msgspec.json.encode(finding))["finding"] == finding.kind


def test_the_union_has_all_of_them():
    assert set(typing.get_args(findings.AnyFinding)) == set(KINDS)


def test_each_kind_has_a_word_of_its_own():
    assert len({made(kind).kind for kind in KINDS}) == len(KINDS)
