"""`demo/run.py` as a process: what is left when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_kill_9_of_the_demo_leaves_no_process(helpers):
    port, api_port, backend_port = helpers.free_ports(3)
    run_dir = tempfile.mkdtemp(prefix="cs-", dir="/tmp")
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("CHANNELSTREAM_")},
        "CHANNELSTREAM_PORT": str(port),
        "CHANNELSTREAM_API_PORT": str(api_port),
        "CHANNELSTREAM_RUN_DIR": run_dir,
        "CHANNELSTREAM_DEMO_APP_URL": f"http://127.0.0.1:{backend_port}",
    }
    demo = subprocess.Popen([sys.executable, "demo/run.py"], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert any(line.startswith("ready") for line in demo.stdout)
        status = [sys.executable, "-m", "channelstream", "-i", "demo/demo.ini", "status", "--json"]
        shown = subprocess.run(status, cwd=ROOT, env=environ, check=True, capture_output=True, text=True).stdout
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        assert len(children) == 2, "the server and the backend"
        pids = [*map(int, children), *(one["pid"] for one in json.loads(shown))]
    finally:
        demo.kill()
        demo.communicate()
    helpers.eventually(lambda: not any(map(helpers.is_running, pids)), "all processes are gone")
    shutil.rmtree(run_dir, ignore_errors=True)
