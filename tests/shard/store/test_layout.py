"""The pointer to the folder that holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelstream.errors import DataDirRefused
from channelstream.shard.store import layout
from channelstream.shard.store.layout import Layout


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert layout.read(tmp_path) is None
    layout.write(tmp_path, Layout(shards=4, move=7))
    assert layout.read(tmp_path) == Layout(shards=4, move=7)
    assert Layout(shards=4, move=7).folder == "store-7"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version":2,"shards":1,"move":1}', b'{"version":1,"shards":0,"move":1}', b"\xff\xfe"],
)
def test_what_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / layout.FILE).write_bytes(content)
    with pytest.raises(DataDirRefused, match="expected"):
        layout.read(tmp_path)


def test_folders_without_a_layout_are_refused(tmp_path: Path) -> None:
    layout.refuse_lost(tmp_path)
    (tmp_path / "store-1").mkdir()
    with pytest.raises(DataDirRefused, match=r"layout\.json cannot be used: it is not there, and store-1 is"):
        layout.refuse_lost(tmp_path)


def test_what_it_does_not_mean_is_left_of_a_move(tmp_path: Path) -> None:
    for name in ("store-1", "store-2", "store-3", "mine"):
        (tmp_path / name).mkdir()
    found = layout.others(tmp_path, Layout(shards=1, move=2))
    assert [path.name for path in found] == ["store-1", "store-3"]
