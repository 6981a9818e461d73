"""A client's position as a text, there and back."""

from __future__ import annotations

import pytest

from channelstream.edge.position import MAX_TOPICS, Position, cursors_in
from channelstream.ids import fingerprint
from channelstream.wire.messages import TopicCursor

HERE = TopicCursor("c/ä room, with: signs", "3f2b1c9e-7d7f-4c2e-9a37-0123456789ab", 7)
PRIVATE = TopicCursor("u/ann", "epoch", 0)


def position(*cursors: TopicCursor) -> Position:
    made = Position()
    for cursor in cursors:
        made.advance(cursor)
    return made


def claimed(cursor: TopicCursor) -> TopicCursor:
    """As it comes back: the client's word, with the epoch's fingerprint."""
    return TopicCursor(cursor.topic, fingerprint(cursor.epoch), cursor.seq, claimed=True)


def test_a_position_comes_back_as_it_went() -> None:
    text = str(position(HERE, PRIVATE))
    assert cursors_in(text, [HERE.topic, PRIVATE.topic]) == {
        HERE.topic: claimed(HERE),
        PRIVATE.topic: claimed(PRIVATE),
    }
    assert text.isascii()
    assert not set(text) & set("\r\n\0 ")


def test_only_what_the_connection_is_on_is_looked_for() -> None:
    assert cursors_in(str(position(HERE, PRIVATE)), ["u/ann", "c/other"]) == {"u/ann": claimed(PRIVATE)}


def test_the_last_word_on_a_topic_counts() -> None:
    later = TopicCursor(HERE.topic, "another epoch", 1)
    assert cursors_in(str(position(HERE, PRIVATE, later)), [HERE.topic]) == {HERE.topic: claimed(later)}


def test_the_topics_that_moved_last_are_named() -> None:
    cursors = [TopicCursor(f"c/{number}", "e", 1) for number in range(MAX_TOPICS + 2)]
    made = position(*cursors)
    made.advance(TopicCursor("c/2", "e", 2))
    found = cursors_in(str(made), [cursor.topic for cursor in cursors])
    assert list(found) == [f"c/{number}" for number in range(2, MAX_TOPICS + 2)]
    assert found["c/2"].seq == 2


def test_a_topic_that_only_stands_somewhere_pushes_none_out_that_moved() -> None:
    moved = [TopicCursor(f"c/{number}", "e", 1) for number in range(MAX_TOPICS)]
    made = position(*moved)
    for cursor in (TopicCursor("c/quiet", "e", 9), TopicCursor("c/0", "e", 5)):
        made.refresh(cursor)
    found = cursors_in(str(made), ["c/quiet", *(cursor.topic for cursor in moved)])
    assert list(found) == [cursor.topic for cursor in moved]
    assert found["c/0"].seq == 5


def test_a_fresh_one_is_empty() -> None:
    assert str(Position()) == ""


GOOD = str(position(PRIVATE))
EPOCH = ":" + fingerprint(PRIVATE.epoch)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        ":::",
        "1",
        "x" * 100_000,
        "," * 100_000,
        GOOD.replace(":0:", ":-1:"),
        GOOD.replace(":0:", ":²:"),
        GOOD.replace(":0:", ":" + "9" * 19 + ":"),
        GOOD.replace(EPOCH, ":"),
        GOOD.replace(EPOCH, ""),
    ],
)
def test_what_cannot_be_read_is_not_there(text: str) -> None:
    assert cursors_in(text, ["u/ann"]) == {}
