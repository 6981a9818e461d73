"""The tables, and what a file's header says."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelstream.shard.store import schema


def test_what_is_made_is_as_it_was_made(tmp_path: Path) -> None:
    db = schema.connect(tmp_path / "a")
    schema.create(db)
    assert schema.is_as_made(db)
    db.execute("CREATE INDEX more ON messages (seq)")
    assert not schema.is_as_made(db)
    db.close()
    header = (tmp_path / "a").read_bytes()[: schema.HEADER_BYTES]
    assert schema.refusal(header) is None


def test_a_connection_that_is_set_up_writes_ahead_and_checkpoints_only_when_told(tmp_path: Path) -> None:
    for synced, level in ((True, 2), (False, 0)):
        db = schema.connect(tmp_path / "a")
        schema.set_up(db, synced)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (level,)
        assert db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        db.close()


@pytest.mark.parametrize("header", [b"", b"SQLite format 3\0", b"no database" * 10])
def test_what_is_too_damaged_to_say_what_it_is_is_not_refused(header: bytes) -> None:
    assert schema.refusal(header) is None


def test_a_database_of_another_program_is_refused() -> None:
    assert schema.refusal(schema.MAGIC + bytes(100)) is not None
