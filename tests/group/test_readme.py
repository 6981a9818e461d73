"""The README's lines, run as they stand there (on other ports): a message arrives in a websocket and in a long-poll."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block_with(text: str, group) -> list[str]:
    """The lines of the indented block that has this text, for a group's ports."""
    (found,) = (block for block in re.findall(r"(?:^    .*\n)+", README, re.MULTILINE) if text in block)
    found = found.replace(".venv/bin/", f"{Path(sys.executable).parent}{os.sep}")
    found = found.replace(":8000/", f":{group.port}/").replace(":8001/", f":{group.api_port}/")
    return [line.strip() for line in found.splitlines()]


def shell(*lines: str) -> str:
    command = ["sh", "-ec", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_three_lines(helpers):
    with helpers.running(secret="demo-secret", shards=1, edges=1, routers=1) as group:
        sign, connect, listen = block_with('"username": "joe", "conn_id"', group)
        assert '"username":"joe"' in shell(sign, connect)
        seen: list[str] = []
        websocket = subprocess.Popen(
            ["sh", "-c", f"exec {listen}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        reader = threading.Thread(target=lambda: seen.extend(websocket.stdout))
        reader.start()
        try:
            helpers.eventually(
                lambda: any(one["connections"] for one in group.health() if one["role"] == "edge"), "held"
            )
            publish = block_with("message -H", group)
            shell(*publish)
            helpers.eventually(lambda: any('"text": "hello"' in line for line in seen), "the message is shown")
        finally:
            websocket.kill()
            reader.join()
            websocket.wait()
            websocket.stdin.close()
            websocket.stdout.close()
        connect, poll = block_with("listen?", group)
        shell(sign, connect)
        shell(*publish)
        helpers.eventually(lambda: '"text": "hello"' in shell(poll), "the message is in a poll")


def test_the_python_example(helpers):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with helpers.running(secret="demo-secret", shards=1, edges=1, routers=1) as group:
        exec(compile(example.replace(":8001", f":{group.api_port}"), "README.md", "exec"), {})
        lobby = group.call("/info", {})["channels"]["lobby"]
        assert (lobby["users"], lobby["seq"]) == (["joe"], 2)
