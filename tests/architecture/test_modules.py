"""Every module has its tests where one looks for them, and importing a module changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "channelstream"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

TESTED_ELSEWHERE = {
    "__main__.py": "one line; tests/test_cli.py calls what it calls",
    "edge/serve.py": "a process entry: tests/group starts it",
    "router/serve.py": "a process entry: tests/group starts it",
    "shard/serve.py": "a process entry: tests/group starts it",
}
"""Modules without a test file of their own, with the reason. An `__init__.py` with nothing in it needs none."""

NOT_FOR_IMPORT = {
    "__main__.py": "is run",
    "edge/serve.py": "a process entry: patching for gevent is the first thing that it does",
    "router/serve.py": "a process entry: patching for gevent is the first thing that it does",
}

IMPORT_AND_LOOK = """
import importlib, logging, signal, sys, threading

def looks():
    return {
        "handlers": list(logging.getLogger().handlers),
        "level": logging.getLogger().level,
        "threads": threading.active_count(),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)],
        "recursion": sys.getrecursionlimit(),
    }

before = looks()
importlib.import_module(sys.argv[1])
if looks() != before:
    sys.exit(f"{before} became {looks()}")
for name, logger in logging.root.manager.loggerDict.items():
    if name.startswith("channelstream") and getattr(logger, "handlers", []):
        sys.exit(f"a handler of {name}")
monkey = sys.modules.get("gevent.monkey")
if monkey is not None and monkey.saved:
    sys.exit(f"gevent has patched {sorted(monkey.saved)}")
"""


def _holds_something(module: Path) -> bool:
    """Whether there is more than a docstring, a version and imports for the future."""
    lines = (PACKAGE / module).read_text().splitlines()
    return any(line.startswith(("def ", "class ", "async def ")) for line in lines)


def _test_file(module: Path) -> Path:
    return ROOT / "tests" / module.parent / f"test_{module.stem}.py"


@pytest.mark.parametrize("module", [module for module in MODULES if str(module) not in TESTED_ELSEWHERE], ids=str)
def test_a_module_has_a_test_file(module: Path) -> None:
    if module.name == "__init__.py":
        assert not _holds_something(module), f"{module}: code belongs into a module with a name"
    else:
        assert _test_file(module).is_file(), f"expected {_test_file(module).relative_to(ROOT)}"


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_an_exception_is_still_one(module: str) -> None:
    assert (PACKAGE / module).is_file()
    assert not _test_file(Path(module)).is_file()


@pytest.mark.parametrize("module", [module for module in MODULES if str(module) not in NOT_FOR_IMPORT], ids=str)
def test_importing_it_changes_nothing(module: Path) -> None:
    name = ".".join(("channelstream", *module.with_suffix("").parts)).removesuffix(".__init__")
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_LOOK, name], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
