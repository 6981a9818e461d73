"""Every module of the bench has its tests where one looks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
BENCH = TESTS.parents[1] / "bench"
MODULES = sorted(path.relative_to(BENCH) for path in BENCH.rglob("*.py") if path.name != "__init__.py")

TESTED_ELSEWHERE = {
    "__main__.py": "one line; each command's test runs it",
    "peers/channelstream_0_7_1/start.py": "runs in that server's own environment; peers/test_server.py starts it",
}


@pytest.mark.parametrize("module", [module for module in MODULES if str(module) not in TESTED_ELSEWHERE], ids=str)
def test_a_module_has_a_test_file(module: Path) -> None:
    assert (TESTS / module.parent / f"test_{module.stem}.py").is_file()


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_an_exception_is_still_one(module: str) -> None:
    assert (BENCH / module).is_file()
    assert not (TESTS / module).with_name(f"test_{Path(module).stem}.py").is_file()
