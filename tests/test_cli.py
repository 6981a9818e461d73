"""The commands, as they are typed."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import itsdangerous
import pytest
from msgspec.structs import replace

import channelstream
from channelstream import cli, config
from channelstream.cli import main, utils_main
from channelstream.config import KEYS
from channelstream.wire.messages import ProcessStatus

ROOT = Path(channelstream.__file__).parent.parent

Run = Callable[..., SimpleNamespace]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from the environment of the tests, and files are made in a folder of their own."""
    for name in [name for name in os.environ if name.startswith("CHANNELSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives `code`, `out` and `err`."""

    def run_words(*words: str, command: Callable[[list[str]], int] = main) -> SimpleNamespace:
        try:
            code = command(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    return run_words


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    """An ini file with a port and a secret."""
    path = tmp_path / "my.ini"
    path.write_text("[channelstream]\nport = 9000\nsecret = hush\n")
    return path


def test_version(run: Run) -> None:
    assert run("--version").out == f"channelstream {channelstream.__version__}\n"


def test_help_names_every_command_and_every_key(run: Run) -> None:
    text = run("--help").out
    assert all(f"\n  {command} " in text for command in cli.COMMANDS)
    for name in KEYS:
        assert f"--{name.replace('_', '-')} " in text
        assert f"CHANNELSTREAM_{name.upper()})" in "".join(text.split())
    assert "examples:" in text


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_its_help(run: Run, command: str) -> None:
    said = run(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"usage: channelstream {command} ")


# --- where settings come from -----------------------------------------------------------------------------------------


def setting(run: Run, name: str, *words: str) -> tuple[object, str]:
    """A setting and where it came from, for a command line."""
    found = json.loads(run("config", "--json", *words).out)["settings"][name]
    return found["value"], found["origin"]


def test_a_file_the_environment_and_flags(run: Run, ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ("-i", str(ini))
    assert setting(run, "port") == (8000, "default")
    assert setting(run, "port", *file) == (9000, f"file {ini}")
    monkeypatch.setenv("CHANNELSTREAM_PORT", "9001")
    assert setting(run, "port", *file) == (9001, "environment CHANNELSTREAM_PORT")
    assert setting(run, "port", *file, "--port", "9002") == (9002, "flag --port")
    assert setting(run, "port", *file, "--set", "port=9003") == (9003, "flag --port")


def test_the_file_can_be_named_by_the_environment(run: Run, ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANNELSTREAM_INI", str(ini))
    assert setting(run, "port") == (9000, f"file {ini}")


def test_flags_that_were_handed_down_are_flags(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANNELSTREAM_FLAGS", '{"allow_posting_from": "", "port": "9000"}')
    monkeypatch.setenv("CHANNELSTREAM_ALLOW_POSTING_FROM", "10.0.0.1")
    assert setting(run, "allow_posting_from") == ([], "flag --allow-posting-from")
    assert setting(run, "port", "--port", "9001") == (9001, "flag --port")


def test_options_may_stand_before_the_command(run: Run, ini: Path) -> None:
    said = run("-i", str(ini), "--demo", "config", "--json")
    found = json.loads(said.out)["settings"]
    assert (found["port"]["value"], found["demo"]["value"]) == (9000, True)


def test_the_value_of_an_option_is_no_command(run: Run) -> None:
    assert cli.command_of(["--admin-user", "sign", "config"]) == ("config", ["--admin-user", "sign"])
    assert cli.command_of(["--admin-user=sign"]) == (None, ["--admin-user=sign"])
    assert cli.command_of(["-i", "status"]) == (None, ["-i", "status"])


@pytest.mark.parametrize(
    ("words", "expected"), [(["--demo"], True), (["--demo", "off"], False), (["--demo=yes"], True)]
)
def test_what_is_true_or_false_may_stand_alone(run: Run, words: list[str], expected: bool) -> None:
    assert setting(run, "demo", *words)[0] is expected


def test_every_key_is_a_flag(run: Run) -> None:
    values = {name: config.text_of(getattr(config.load(None, "", {}, {}, 0, 1).config, name)) for name in KEYS}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    found = json.loads(run("config", "--json", *words).out)["settings"]
    assert {entry["origin"].split()[0] for entry in found.values()} == {"flag"}


def test_wrong_settings_are_lines_and_nothing_starts(run: Run) -> None:
    for command in ([], ["router", "--index", "0"], ["check-config"], ["status"], ["sign", "/message"]):
        said = run(*command, "--port", "x", "--edges", "0")
        assert (said.code, said.out) == (2, "")
        first, second = said.err.splitlines()
        assert first.startswith("channelstream: port = 'x' (from flag --port): expected a port")
        assert second.startswith("channelstream: edges = '0' (from flag --edges): expected")


def test_a_file_that_is_not_there(run: Run) -> None:
    said = run("-i", "gone.ini")
    assert said.code == 2
    assert said.err == "channelstream: file = 'gone.ini': expected a file that can be read: No such file or directory\n"


def test_a_process_that_there_is_none_of(run: Run) -> None:
    said = run("edge", "--index", "2", "--edges", "2")
    assert said.code == 2
    assert "index = 2 (from flag --index): expected 0 to 1, because edges = 2" in said.err


def test_a_role_is_started_with_its_config(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(config: config.Config, index: int) -> int:
        return config.port + index

    monkeypatch.setitem(sys.modules, "channelstream.shard.serve", SimpleNamespace(main=serve))
    assert run("shard", "--index", "1", "--shards", "2", "--port", "500").code == 501


# --- config -----------------------------------------------------------------------------------------------------------


def test_config_shows_every_key_and_no_secret(run: Run, ini: Path) -> None:
    said = run("config", "-i", str(ini))
    shown = {line.split()[0] for line in said.out.splitlines()[1:]}
    assert shown == set(KEYS)
    assert "hush" not in said.out
    assert "hush" not in run("config", "--json", "-i", str(ini)).out


def test_config_as_environment(run: Run, ini: Path, tmp_path: Path) -> None:
    said = run("config", "--env", "-i", "my.ini", "--shards", "3", "--secret", "hush2", "--run-dir", "a b")
    lines = f"{said.out}\nenv -0"
    shell = subprocess.run(["sh", "-ec", lines], capture_output=True, env={"PATH": os.environ["PATH"]}, check=True)
    found = dict(
        entry.split("=", 1) for entry in shell.stdout.decode().split("\0") if entry.startswith("CHANNELSTREAM")
    )
    assert found == {
        "CHANNELSTREAM_PYTHON": sys.executable,
        "CHANNELSTREAM_INI": str(ini),
        "CHANNELSTREAM_RUN_DIR": str(tmp_path / "a b"),
        "CHANNELSTREAM_ROUTERS": "1",
        "CHANNELSTREAM_SHARDS": "3",
        "CHANNELSTREAM_EDGES": str(max(1, len(os.sched_getaffinity(0)) // 2)),
        "CHANNELSTREAM_STOP_ROUTER": "11",
        "CHANNELSTREAM_STOP_EDGE": "13",
    }
    assert "hush" not in said.out
    assert stat.S_IMODE((tmp_path / "a b").stat().st_mode) == 0o700


def test_the_documentation_is_what_the_command_prints(run: Run) -> None:
    assert run("config", "--markdown").out == (ROOT / "docs" / "configuration.md").read_text()


def test_check_config(run: Run, ini: Path) -> None:
    assert run("check-config", "-i", str(ini)).code == 0
    with ini.open("a") as file:
        file.write("prot = 1\n")
    said = run("check-config", "-i", str(ini))
    assert said.code == 0
    assert "did you mean 'port'?" in said.err
    assert run("check-config", "--strict", "-i", str(ini)).code == 2


# --- make-config ------------------------------------------------------------------------------------------------------


def test_make_config_writes_a_file_that_works_with_fresh_secrets(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.ini"
    assert run("make-config", "-o", str(path)).code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_text()
    assert run("check-config", "--strict", "-i", str(path), "--host", "0.0.0.0").code == 0

    said = run("make-config", "-o", str(path))
    assert said.code == 2
    assert "--force" in said.err
    assert path.read_text() == first

    path.chmod(0o644)
    assert run("make-config", "-o", str(path), "--force").code == 0
    assert path.read_text() != first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_make_config_prints(run: Run) -> None:
    assert run("make-config").out.startswith("[channelstream]\n")


def test_make_config_where_nothing_can_be_written(run: Run) -> None:
    said = run("make-config", "-o", "gone/new.ini")
    assert (said.code, said.err.count("\n")) == (2, 1)


def test_the_old_command(run: Run, tmp_path: Path) -> None:
    words = [
        "make_config",
        "-o",
        "old.ini",
        "-j",
        '{"port": 9000, "debug": true, "allow_cors": ["http://a", "http://b"]}',
    ]
    assert run(*words, command=utils_main).code == 0
    assert setting(run, "port", "-i", "old.ini") == (9000, "file old.ini")
    assert setting(run, "debug", "-i", "old.ini")[0] is True
    assert setting(run, "allow_cors", "-i", "old.ini")[0] == ["http://a", "http://b"]


@pytest.mark.parametrize("text", ["{", "[]", '{"prot": 1}', '{"port": 0}'])
def test_the_old_command_with_wrong_values(run: Run, tmp_path: Path, text: str) -> None:
    said = run("make_config", "-o", "old.ini", "-j", text, command=utils_main)
    assert said.code == 2
    assert said.err.startswith("channelstream: ")
    assert not (tmp_path / "old.ini").exists()


# --- sign -------------------------------------------------------------------------------------------------------------


def test_sign_prints_a_header(run: Run) -> None:
    name, _, signature = run("sign", "/message", "--secret", "hush").out.strip().partition(": ")
    assert name == "X-Channelstream-Secret"
    assert itsdangerous.TimestampSigner("hush").unsign(signature) == b"/message"


def test_sign_prints_a_command(run: Run) -> None:
    body = '[{"user": "it\'s me"}]'
    words = shlex.split(run("sign", "/message", "--curl", "--data", body, "--api-port", "9001").out)
    assert words[:5] == ["curl", "-sS", "-X", "POST", "http://127.0.0.1:9001/message"]
    assert "Content-Type: application/json" in words
    assert words[-2:] == ["--data-binary", body]


def test_a_printed_command_has_a_body_where_the_call_needs_one(run: Run) -> None:
    words = shlex.split(run("sign", "/info", "--curl", "--signature-scope", "request").out)
    assert words[-2:] == ["--data-binary", "{}"]
    signature = next(word for word in words if word.startswith("X-Channelstream-Secret")).partition(": ")[2]
    body_hash = hashlib.sha256(b"{}").hexdigest()
    assert itsdangerous.TimestampSigner("secret").unsign(signature).decode() == f"POST /info {body_hash}"
    assert "--data-binary" not in run("sign", "/openapi.json", "--curl", "--method", "get").out


def test_sign_binds_the_request_where_the_scope_says_so(run: Run) -> None:
    line = run("sign", "/message", "--method", "patch", "--data", "[]", "--signature-scope", "request").out
    body_hash = hashlib.sha256(b"[]").hexdigest()
    signature = line.removeprefix("X-Channelstream-Secret: ").strip()
    assert itsdangerous.TimestampSigner("secret").unsign(signature).decode() == f"PATCH /message {body_hash}"


def test_sign_wants_a_path(run: Run) -> None:
    assert run("sign", "message").code == 2


# --- status -----------------------------------------------------------------------------------------------------------


def gathered(monkeypatch: pytest.MonkeyPatch, *found: ProcessStatus) -> None:
    """Lets `status` find these processes."""
    module = SimpleNamespace(gather=lambda config, timeout_s: list(found))
    monkeypatch.setitem(sys.modules, "channelstream.status", module)
    monkeypatch.setattr(channelstream, "status", module, raising=False)


UP = ProcessStatus("edge", 0, 4711, 0.0, "1.2", connections=12, channels=3, queue_bytes=5, ready=True)


def test_status_when_all_is_well(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered(monkeypatch, UP)
    said = run("status")
    assert said.code == 0
    cells = said.out.splitlines()[1].split()
    assert cells[:2] + cells[3:] == ["edge-0", "4711", "12", "3", "5", "1.2", "ready"]


def test_status_when_somebody_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered(monkeypatch, UP, ProcessStatus("shard", 1, 0, 0.0, ""))
    said = run("status")
    assert said.code == 1
    assert said.out.splitlines()[2].split()[0] == "shard-1"
    assert said.out.splitlines()[2].endswith("missing")


def test_status_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered(monkeypatch, UP)
    (found,) = json.loads(run("status", "--json").out)
    assert (found["role"], found["index"], found["pid"], found["ready"]) == ("edge", 0, 4711, True)


def test_status_shows_what_was_dropped_or_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered(monkeypatch, UP, replace(UP, index=1, counters={"skipped": 7, "gaps_told": 2}))
    assert run("status").out.splitlines()[3:] == ["edge-1: skipped 7, gaps_told 2"]
    assert [found["counters"] for found in json.loads(run("status", "--json").out)] == [
        {},
        {"skipped": 7, "gaps_told": 2},
    ]


def test_missing_processes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered(monkeypatch, UP, ProcessStatus("shard", 1, 0, 0.0, ""))
    assert cli.missing_processes(config.load(None, "", {}, {}, 0, 1).config) == ["shard-1"]


# --- what is imported -------------------------------------------------------------------------------------------------


def test_the_command_line_imports_nothing_that_gevent_would_have_to_patch() -> None:
    unwanted = {"ssl", "socket", "threading", "logging", "zmq", "gevent", "falcon", "subprocess"}
    code = f"import sys, channelstream.cli; print(sorted(set(sys.modules) & {unwanted}))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert found.stdout == "[]\n"


def test_python_m_channelstream() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "channelstream", "--port", "0"]
    found = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("channelstream: port = '0'")


@pytest.mark.parametrize("command", [["check-config"], []])
def test_a_checker_that_cannot_be_loaded_is_told_before_anything_starts(run: Run, command: list[str]) -> None:
    said = run(*command, "--signature-checker", "no.such.Checker")
    assert said.code == 2
    assert "signature_checker = 'no.such.Checker'" in said.err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m channelstream config | head -n 1"
    said = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("key")


# --- history ----------------------------------------------------------------------------------------------------------

HISTORY = """\
{"type":"header","format":"channelstream history","version":1}
{"type":"channel","name":"lobby","config":{"store_history":true},"seq":7}
{"type":"message","channel":"lobby","seq":3,"uuid":"m3","at":1.5,"body":{"message":{"text":"h\\u00e9"}}}
{"type":"message","channel":"lobby","seq":5,"uuid":"m5","at":2.5,"body":{"n":5}}
{"type":"user","name":"ann","state":{"color":"red"},"public_keys":["color"]}
"""


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text(HISTORY)
    return path


def test_what_was_imported_is_exported(run: Run, history: Path, tmp_path: Path) -> None:
    words = ("--data-dir", "data", "--store", "sqlite", "--shards", "3")
    done = run("history", "import", str(history), *words)
    assert (done.code, done.out) == (0, "imported: 2 messages, 1 channels, 1 users\n")
    again = run("history", "import", str(history), *words)
    assert (again.code, again.out.splitlines()[1]) == (0, "skipped: 2 messages that were there already")
    exported = [json.loads(line) for line in run("history", "export", *words).out.splitlines()]
    assert [line["type"] for line in exported] == ["header", "channel", "message", "message", "user"]
    assert (exported[1]["name"], exported[1]["seq"]) == ("lobby", 7)
    assert exported[2:] == [json.loads(line) for line in HISTORY.splitlines()[2:]]
    written = run("history", "export", "--channel", "lobby", "-o", "out.jsonl", *words)
    assert written.out == "written: out.jsonl, 4 lines\n"
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "--data-dir", "none"], "nothing is kept there"),
        (["export", "history.jsonl"], "expected nothing: an export goes to standard output, or to -o FILE"),
        (["import", "missing.jsonl", "--store", "sqlite"], "No such file"),
        (["import", "history.jsonl", "--store", "memory"], "store = 'memory'"),
        (["import", "history.jsonl", "-o", "x"], "no --channel and no --output"),
        (["import", "bad.jsonl", "--store", "sqlite"], "line 2: expected a line of a history file"),
        (["other"], "invalid choice"),
    ],
)
def test_a_transfer_that_cannot_be_done_says_why(run: Run, history: Path, words: list[str], said: str) -> None:
    Path("bad.jsonl").write_text(HISTORY.splitlines()[0] + "\nnonsense\n")
    done = run("history", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_an_import_reads_standard_input(history: Path) -> None:
    command = [sys.executable, "-m", "channelstream", "history", "import", "--store", "sqlite", "--data-dir", "data"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, input=HISTORY.encode(), capture_output=True, env=env, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"imported: 2 messages, 1 channels, 1 users\n", b"")
