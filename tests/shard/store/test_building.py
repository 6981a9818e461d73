"""A whole file at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channelstream.errors import DataDirRefused
from channelstream.shard.store import building, reading, schema
from channelstream.shard.store.base import Saved
from channelstream.shard.store.rows import Life


def test_a_file_holds_what_it_was_made_of(stores: Any, make: Any, tmp_path: Path) -> None:
    store = stores.open()
    store.load()
    store.commit(make.everything())
    saved = store.read()
    saved.channels["c3"].is_whole = False
    (tmp_path / "made").write_bytes(b"something in the way")
    building.build(tmp_path / "made", saved, Life(9, 8, complete=True))
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    db = schema.connect(tmp_path / "made")
    found = reading.read(db)
    db.close()
    assert found.saved == saved
    assert found.life == Life(9, 8, complete=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "store"]


def test_a_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataDirRefused, match="cannot be used"):
        building.build(tmp_path / "missing" / "made", Saved(), Life(1))
