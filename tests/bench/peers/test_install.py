"""What the command would run; nothing is fetched here."""

import sys
from pathlib import Path

import pytest

from bench.peers import install, installed


def test_libraries_for_node_are_exactly_those_of_the_lock_file_and_run_no_scripts_of_theirs(tmp_path: Path) -> None:
    ((program, what, *flags),) = install.node_steps(tmp_path)
    assert (program, what) == ("npm", "ci")
    assert tmp_path in flags
    assert "--ignore-scripts" in flags


def test_the_old_version_has_an_environment_of_its_own_and_nothing_that_is_not_pinned(tmp_path: Path) -> None:
    make, fill = install.channelstream_steps(tmp_path)
    assert make[0] == sys.executable
    assert make[-1] == tmp_path
    assert fill[0] == tmp_path / "bin" / "python"
    assert "--no-deps" in fill
    assert fill[-1] == installed.CHANNELSTREAM_PINS


def test_the_system_gets_nchan_with_its_package_manager() -> None:
    assert [step[0] for step in install.NCHAN_STEPS] == ["apt-get"]
    assert {"nginx", "libnginx-mod-nchan"} <= set(install.NCHAN_STEPS[0])


def test_what_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, pins in (
        (installed.node_folder(tmp_path), installed.NODE_PINS),
        (installed.channelstream_folder(tmp_path), installed.CHANNELSTREAM_PINS),
    ):
        folder.mkdir()
        installed.set_installed(folder, pins)
    assert install.main(["--into", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"the peers are in {tmp_path}\n"


def test_a_step_that_fails_ends_it() -> None:
    with pytest.raises(install.subprocess.CalledProcessError):
        install.run([["false"], ["true"]])
