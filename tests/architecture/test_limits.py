"""docs/limits.md says the numbers that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelstream import http_reader, logs, process, serving
from channelstream.bus import base, links, zeromq
from channelstream.edge import core as edge_core
from channelstream.edge import delivery, outbox, position, readers, stream, websocket
from channelstream.router import schemas
from channelstream.shard import core as shard_core
from channelstream.shard import frames

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
MIB = 1024 * 1024
DEADLINES = http_reader.Deadlines()

SAID = {
    f"behind {zeromq.HIGH_WATER} batches in ZeroMQ": 2,
    f"{links.MAX_OPEN_ASKS:,} in each process": 1,
    f"{links.PARTINGS_KEPT_S:.0f} seconds, {links.MOST_PARTINGS:,} for each shard": 1,
    f"| {base.MAX_FRAME_BYTES // MIB} MiB |": 1,
    f"{zeromq.BATCHES_A_TURN} batches, {base.TURN_BYTES // MIB} MiB and one batch": 1,
    f"peers that a shard remembers | {base.MAX_PEERS} |": 1,
    f"{delivery.MAX_WAITING_BYTES // MIB} MiB and one turn": 1,
    {0.25: "a quarter of the bound"}[outbox.LOW_WATER]: 1,
    f"{position.MAX_TOPICS} channels, those that moved last": 1,
    f"in {websocket.MAX_FRAGMENTS} fragments": 1,
    f"at a time | {stream.RECEIVE_BYTES // 1024} KiB, and {readers.SLICE_S * 1000:.0f} ms for all": 1,
    f"its next turn, up to {process.KEPT_HEAP_BYTES // MIB} MiB": 1,
    f"`RLIMIT_NOFILE` − {serving.FILES_KEPT_BACK}": 1,
    f"{http_reader.MAX_REQUEST_LINE // 1024} KiB line, {http_reader.MAX_HEADER_BYTES // 1024} KiB and "
    f"{http_reader.MAX_HEADERS} headers; {DEADLINES.headers_s:.0f} s": 1,
    f"`max_body`; {DEADLINES.body_s:.0f} s and {DEADLINES.body_rate_bytes_s / 1024:.0f} KiB/s": 1,
    f"{serving.MAX_BODIES_BYTES // MIB} MiB in each process; those up to {serving.SMALL_BODY_BYTES // 1024} KiB": 1,
    f"on its way to a caller | {DEADLINES.write_s:.0f} s |": 1,
    {1.0: "one a second"}[logs.QUIET_S]: 1,
    f"`frames_size`, and {frames.MAX_FRAMES_BYTES // MIB} MiB": 1,
    f"from each shard | {frames.MAX_CATCHUP_BYTES // MIB} MiB": 1,
    f"{shard_core.GONE_KEPT_S / 60:.0f} minutes, {shard_core.MAX_GONE:,}": 1,
    f"{shard_core.CROSSING_S:.0f} seconds, {shard_core.MAX_VERSIONS:,}": 1,
    f"{shard_core.MAX_CLAIMS:,} in each shard": 1,
    f"not there yet | {edge_core.MAX_REFUSED} connections": 1,
    f"that an error names | {schemas.MAX_WRONG_FIELDS} |": 1,
}


@pytest.mark.parametrize("text", SAID)
def test_the_page_says_what_the_code_does(text: str) -> None:
    assert PAGE.count(text) == SAID[text]
