"""The group of a check: what it is given, and whose processes it has. Real ones are in tests/faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from channelstream.checking import own_group
from channelstream.checking.own_group import OwnGroup, environment, free_ports
from channelstream.errors import CheckImpossible


def test_no_setting_comes_from_outside():
    environ = {
        "PATH": "/bin",
        "CHANNELSTREAM_PORT": "80",
        "CHANNELSTREAM_INI": "/etc/x.ini",
        "CHANNELSTREAM_FLAGS": "{}",
        "CHANNELSTREAM_SECRET": "theirs",
        "BROKEN_BUILD": "drop",
    }
    given = environment(environ, {"secret": "ours", "shards": "2"})
    assert given == {
        "PATH": "/bin",
        "BROKEN_BUILD": "drop",
        "CHANNELSTREAM_SECRET": "ours",
        "CHANNELSTREAM_SHARDS": "2",
    }


def test_ports_are_different():
    assert len(set(free_ports(5))) == 5


def test_a_group_that_does_not_start_says_why_and_leaves_nothing():
    group = OwnGroup({"shards": "none"})
    with pytest.raises(CheckImpossible) as raised:
        group.wait_until_ready()
    assert "shards" in str(raised.value)
    group.stop()
    assert not group.folder.exists()


def test_a_process_of_its_own_is_a_grandchild(monkeypatch):
    monkeypatch.setattr(own_group.OwnGroup, "_started", lambda self, environ: launcher())
    group = OwnGroup({})
    deadline = time.monotonic() + 20
    while not group.lines:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    grandchild = int(group.lines[0])
    try:
        assert group.owns(grandchild)
        assert not group.owns(group._process.pid)
        assert not group.owns(os.getpid())
        assert not group.owns(2**22 + 1)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        group.stop()


LAUNCH = """
import subprocess, sys
inner = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
subprocess.run([sys.executable, "-c", inner])
"""


def launcher() -> subprocess.Popen[str]:
    """A process whose child has a child."""
    return subprocess.Popen([sys.executable, "-c", LAUNCH], stdout=subprocess.PIPE, text=True)
