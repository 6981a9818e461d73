"""Settings: what is accepted, who wins, what is told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from channelstream import config
from channelstream.config import KEYS, Config, Loaded, load
from channelstream.errors import ConfigErrors


def settings(text: str | None = None, environ: dict[str, str] | None = None, cores: int = 4, **flags: str) -> Loaded:
    """Settings of a user 1000 in the folder /work, on a machine with four cores."""
    ini = None if text is None else f"[channelstream]\n{text}\n"
    return load(
        ini, "my.ini", environ or {}, flags, 1000, cores, "/srv", read_secret={"/run/s": "from a file\n"}.__getitem__
    )


def wrong_of(text: str | None = None, environ: dict[str, str] | None = None, **flags: Any) -> dict[str, str]:
    """What is wrong: key → the sentence."""
    with pytest.raises(ConfigErrors) as raised:
        settings(text, environ, **flags)
    return {error.key: str(error) for error in raised.value.errors}


def test_every_key_is_a_field_and_every_field_a_key() -> None:
    assert set(Config.__struct_fields__) == set(KEYS)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("host", "127.0.0.1"),
        ("port", 8000),
        ("secret", "secret"),
        ("admin_user", "admin"),
        ("admin_secret", "admin_secret"),
        ("cookie_secret", ""),
        ("allow_posting_from", ("127.0.0.1", "::1")),
        ("allow_cors", ()),
        ("validate_requests", True),
        ("enforce_https", False),
        ("http_scheme", "http"),
        ("signature_checker", ""),
        ("debug", False),
        ("log_level", "info"),
        ("demo", False),
        ("demo_app_url", ""),
        ("gc_conns_after", 30.0),
        ("gc_channels_after", 259200.0),
        ("wake_connections_after", 5.0),
        ("api_host", "127.0.0.1"),
        ("api_port", 8001),
        ("public_api", True),
        ("routers", 1),
        ("shards", 2),
        ("edges", 2),
        ("data_dir", "/srv/channelstream-data"),
        ("run_dir", "/tmp/channelstream-1000-8000"),
        ("store", "sqlite"),
        ("signature_scope", "endpoint"),
        ("signature_max_age", 60.0),
        ("trusted_proxies", ()),
        ("max_body", 4194304),
        ("max_frame", 65536),
        ("max_queue", 1048576),
        ("max_peer_queue", 67108864),
        ("ask_timeout", 2.0),
        ("ping_interval", 25.0),
        ("silence_timeout", 60.0),
    ],
)
def test_defaults(key: str, expected: object) -> None:
    found = getattr(settings().config, key)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("host", "localhost", "localhost"),
        ("port", "1", 1),
        ("port", "65535", 65535),
        ("debug", "YES", True),
        ("debug", "on", True),
        ("debug", "1", True),
        ("public_api", "no", False),
        ("public_api", "Off", False),
        ("public_api", "0", False),
        ("gc_conns_after", "45", 45.0),
        ("gc_conns_after", "0.5", 0.5),
        ("gc_conns_after", "250ms", 0.25),
        ("gc_conns_after", "5m", 300.0),
        ("gc_channels_after", "72h", 259200.0),
        ("gc_channels_after", "3 d", 259200.0),
        ("max_body", "10", 10),
        ("max_body", "64k", 65536),
        ("max_body", "64KiB", 65536),
        ("max_body", "2M", 2097152),
        ("max_body", "2 MiB", 2097152),
        ("max_body", "2mb", 2097152),
        ("log_level", "WARN", "warning"),
        ("signature_checker", "my.module:Class", "my.module.Class"),
        ("signature_checker", "my.module.Class", "my.module.Class"),
        ("signature_checker", "channelstream.utils.DefaultSigner", ""),  # in every file that 0.7 makes
        ("allow_posting_from", "10.1.2.3/8  192.0.2.1,::1", ("10.0.0.0/8", "192.0.2.1", "::1")),
        ("allow_posting_from", "0.0.0.0", ("0.0.0.0/0", "::/0")),
        ("allow_cors", "https://A.example, http://b.example:8080", ("https://a.example", "http://b.example:8080")),
        ("secret", "50%;#[x]", "50%;#[x]"),
        ("data_dir", "/var/lib/x/", "/var/lib/x"),
        ("data_dir", "../y", "/y"),
        ("demo_app_url", "https://app.example/demo", "https://app.example/demo"),
    ],
)
def test_accepted(key: str, text: str, expected: object) -> None:
    assert getattr(settings(f"{key} = {text}").config, key) == expected


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("host", "a b"),
        ("host", "300.1.1.1"),
        ("host", "127.0.0.1:8000"),
        ("port", "0"),
        ("port", "65536"),
        ("port", "8_0"),
        ("port", "+80"),
        ("port", "٨٠"),
        ("port", "9" * 5000),
        ("debug", "maybe"),
        ("gc_conns_after", "-1"),
        ("gc_conns_after", "0"),
        ("gc_conns_after", "nan"),
        ("gc_conns_after", "inf"),
        ("gc_conns_after", "1e3"),
        ("gc_conns_after", "5 weeks"),
        ("gc_conns_after", "99999d"),
        ("max_body", "0"),
        ("max_body", "1.5M"),
        ("max_body", "M"),
        ("shards", "0"),
        ("shards", "1000"),
        ("store", "redis"),
        ("signature_scope", "all"),
        ("log_level", "loud"),
        ("http_scheme", "ftp"),
        ("allow_posting_from", "10.0.0.300"),
        ("allow_posting_from", "10.0.0.0/33"),
        ("trusted_proxies", "proxy.example"),
        ("allow_cors", "*"),
        ("allow_cors", "https://a.example/"),
        ("allow_cors", "a.example"),
        ("secret", ""),
        ("admin_secret", ""),
        ("signature_checker", "Class"),
        ("signature_checker", "a..b"),
        ("demo_app_url", "javascript:alert(1)"),
    ],
)
def test_refused(key: str, text: str) -> None:
    sentence = wrong_of(f"{key} = {text}")[key]
    assert sentence.startswith(f"{key} = ")
    assert "(from file my.ini): expected " in sentence
    assert KEYS[key].kind.accepted in sentence


def test_the_last_to_speak_wins() -> None:
    def port(**given: Any) -> tuple[int, str]:
        loaded = settings(**given)
        return loaded.config.port, loaded.origins["port"]

    ini, environ = "port = 1001", {"CHANNELSTREAM_PORT": "1002"}
    assert port() == (8000, "default")
    assert port(text=ini) == (1001, "file my.ini")
    assert port(text=ini, environ=environ) == (1002, "environment CHANNELSTREAM_PORT")
    assert port(text=ini, environ=environ, port="1003") == (1003, "flag --port")


def test_an_empty_variable_is_none() -> None:
    assert settings("port = 1001", {"CHANNELSTREAM_PORT": ""}).config.port == 1001


def test_every_wrong_value_is_told_at_once() -> None:
    found = wrong_of("port = x\ndebug = x", {"CHANNELSTREAM_MAX_BODY": "x"}, edges="x")
    assert set(found) == {"port", "debug", "max_body", "edges"}
    assert "environment CHANNELSTREAM_MAX_BODY" in found["max_body"]
    assert "flag --edges" in found["edges"]


def test_unknown_keys_are_warnings_that_help() -> None:
    loaded = settings("prot = 1\nsomething_else = 2", {"CHANNELSTREAM_SHARD": "1", "CHANNELSTREAM_GC_CON_FILE": "x"})
    assert loaded.warnings == (
        "file my.ini: unknown key 'prot', did you mean 'port'?",
        "file my.ini: unknown key 'something_else'",
        "environment: unknown key 'gc_con_file', did you mean 'gc_conns_after'? (CHANNELSTREAM_GC_CON_FILE)",
        "environment: unknown key 'shard', did you mean 'shards'? (CHANNELSTREAM_SHARD)",
    )


def test_an_unknown_flag_is_an_error() -> None:
    assert "did you mean 'port'?" in wrong_of(prot="1")["prot"]


def test_names_of_ours_that_are_no_keys() -> None:
    environ = {f"CHANNELSTREAM_{name}": "x" for name in ("INI", "EXECUTABLE", "PYTHON", "FLAGS", "DEMO_HOST", "TEST_X")}
    assert settings(environ=environ | {"OTHER_PORT": "x"}).warnings == ()


def test_the_demos_own_keys_are_keys() -> None:
    environ = {"CHANNELSTREAM_DEMO": "on", "CHANNELSTREAM_DEMO_APP_URL": "http://localhost:8080"}
    loaded = settings(environ=environ).config
    assert (loaded.demo, loaded.demo_app_url) == (True, "http://localhost:8080")


def test_a_secret_from_a_file() -> None:
    loaded = settings(environ={"CHANNELSTREAM_SECRET_FILE": "/run/s"})
    assert loaded.config.secret == "from a file"
    assert loaded.origins["secret"] == "environment CHANNELSTREAM_SECRET_FILE"


def test_a_value_wins_over_the_file_it_could_be_in() -> None:
    environ = {"CHANNELSTREAM_SECRET": "direct", "CHANNELSTREAM_SECRET_FILE": "/run/s"}
    assert settings(environ=environ).config.secret == "direct"


def test_a_secret_file_that_cannot_be_read() -> None:
    with pytest.raises(ConfigErrors, match=r"CHANNELSTREAM_SECRET_FILE = '/gone'.*no files are read here"):
        load(None, "", {"CHANNELSTREAM_SECRET_FILE": "/gone"}, {}, 1000, 4)


@pytest.mark.parametrize(
    "text", ["port = 1", "[other]\nport = 1", "[channelstream]\nport = 1\nport = 2", "[channelstream"]
)
def test_files_that_are_none(text: str) -> None:
    with pytest.raises(ConfigErrors, match=r"file = 'my.ini'"):
        load(text, "my.ini", {}, {}, 1000, 4)


def test_one_shard_and_one_edge_on_the_smallest_machine() -> None:
    found = settings(cores=1).config
    assert (found.shards, found.edges) == (1, 1)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/1000", "TMPDIR": "/t"}, "/run/user/1000/channelstream-1000-9000"),
        ({"TMPDIR": "/t/"}, "/t/channelstream-1000-9000"),
        ({}, "/tmp/channelstream-1000-9000"),
    ],
)
def test_the_default_run_dir(environ: dict[str, str], expected: str) -> None:
    assert settings(environ=environ, port="9000").config.run_dir == expected


def test_home_is_expanded() -> None:
    assert settings("data_dir = ~/d", {"HOME": "/home/me"}).config.data_dir == "/home/me/d"


# --- rules between settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_known_secrets_are_good_enough_at_home(host: str) -> None:
    assert settings(host=host).config.secret == "secret"


@pytest.mark.parametrize("given", [{"host": "0.0.0.0"}, {"host": "example.com"}, {"api_host": "::"}])
def test_known_secrets_are_refused_where_others_can_connect(given: dict[str, Any]) -> None:
    found = wrong_of(**given)
    assert set(found) == {"secret", "admin_secret"}
    assert "make-config" in found["secret"]
    assert set(wrong_of(**given, secret="mine")) == {"admin_secret"}
    assert settings(**given, secret="mine", admin_secret="mine too").config.secret == "mine"


def test_two_ports_must_be_two() -> None:
    assert set(wrong_of("port = 8001")) == {"api_port"}


def test_a_run_dir_whose_sockets_would_have_too_long_paths() -> None:
    fits = "/" + "x" * (107 - len(config.LONGEST_SOCKET_NAME) - 1)
    assert settings(f"run_dir = {fits}").config.run_dir == fits
    assert set(wrong_of(f"run_dir = {fits}x")) == {"run_dir"}
    assert len(f"{fits}/shard-{config.MAX_PROCESSES - 1}.sock") <= config.MAX_SOCKET_PATH


def test_silence_must_be_longer_than_a_ping() -> None:
    assert set(wrong_of("silence_timeout = 25s")) == {"silence_timeout"}
    assert settings("silence_timeout = 26s").config.silence_timeout == 26.0


# --- texts ------------------------------------------------------------------------------------------------------------


def test_repr_shows_no_secret() -> None:
    shown = repr(settings("secret = hush1\nadmin_secret = hush2\ncookie_secret = hush3").config)
    assert "hush" not in shown
    assert "port=8000" in shown


@pytest.mark.parametrize(
    ("name", "value", "shown"), [("secret", "hush", config.MASK), ("cookie_secret", "", ""), ("port", 8000, 8000)]
)
def test_what_is_masked(name: str, value: object, shown: object) -> None:
    assert config.masked(name, value) == shown


def test_a_mistyped_secret_is_not_shown() -> None:
    assert "hush" not in wrong_of(secrt="hush")["secrt"]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_a_value_written_is_the_value_read(name: str) -> None:
    loaded = settings().config
    value = getattr(loaded, name)
    assert KEYS[name].kind.parse(config.text_of(value)) == value


def test_the_ini_text_sets_what_it_is_told_and_nothing_else() -> None:
    text = config.ini_text({"secret": "a%b", "port": "9000"})
    loaded = load(text, "my.ini", {}, {}, 1000, 4)
    assert (loaded.config.secret, loaded.config.port, loaded.warnings) == ("a%b", 9000, ())
    from_file = {name for name, origin in loaded.origins.items() if origin != "default"}
    assert from_file == {"secret", "port"}
    assert all(re.search(rf"^(# )?{name} =", text, re.MULTILINE) for name in KEYS)


def test_the_address_of_a_shard() -> None:
    assert config.shard_address(settings("run_dir = /r").config, 3) == "ipc:///r/shard-3.sock"


@pytest.mark.parametrize(
    "key", ["host", "port", "debug", "log_level", "enforce_https", "http_scheme", "gc_conns_after"]
)
def test_a_line_without_a_value_means_the_default(key: str) -> None:
    """Files of 0.7 have such lines."""
    loaded = settings(f"{key} =")
    assert getattr(loaded.config, key) == getattr(settings("").config, key)
    assert loaded.origins[key] == "default"


def test_a_list_may_be_empty() -> None:
    assert settings("allow_posting_from =").config.allow_posting_from == ()
