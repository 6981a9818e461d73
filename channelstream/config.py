"""The settings: one table of keys, one frozen object made from it, and the texts that are printed from it.

What lives here: `KEYS` (what a setting is called, what it accepts, what it means), `Config`, the pure `load()`, the
rules between settings, and `read()`, the thin shell that opens the files. It must not know what a setting is used for,
and it reads no environment when it is imported: everything that a value depends on comes in as an argument.
"""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from channelstream.errors import ConfigError, ConfigErrors

SECTION: Final = "channelstream"
"""The section of the ini file. Others are left to whoever they belong to."""

ENVIRONMENT_PREFIX: Final = "CHANNELSTREAM_"

FLAGS_VARIABLE: Final = "CHANNELSTREAM_FLAGS"
"""How the launcher hands its flags to the processes of the group: a JSON object of texts, read back as flags."""

INI_VARIABLE: Final = "CHANNELSTREAM_INI"
"""The file to read where no `-i` is given."""

NOT_KEYS: Final = frozenset({"ini", "flags", "python", "executable", "failpoint"})
"""Names in the environment that are ours and are no settings."""

NOT_KEY_PREFIXES: Final = ("demo_", "test_", "bench_", "stop_")
"""Beginnings of such names: what the demo, the tests, the measurements and supervisord are told."""

MAX_SOCKET_PATH: Final = 107
"""Bytes of a unix socket's path: sun_path has 108, one of them for the final NUL (unix(7))."""

LONGEST_SOCKET_NAME: Final = "/supervisor.sock.4194304"
"""The longest name made in `run_dir`: supervisord binds its socket under a name with its pid, 2**22 at most (proc(5)),
and then renames it. `/shard-999.sock` is shorter."""

MAX_PROCESSES: Final = 999
"""Of one role. A name has three digits; more processes than that are more than one machine has use for."""

MAX_DURATION_S: Final = 10 * 366 * 86400.0
"""Ten years: what is longer is a slip of the pen, and timers stay far from where a float gets coarse."""

DEFAULT_SECRETS: Final = {"secret": "secret", "admin_secret": "admin_secret"}
"""Everybody knows these. They are good for a trial on one machine and for nothing else."""

LEGACY_CHECKER: Final = "channelstream.utils.DefaultSigner"
"""What 0.7 has in every file that it makes: its own way to check a signature, which is ours."""

MASK: Final = "***"

T = TypeVar("T")


class Kind(NamedTuple, Generic[T]):
    """A kind of value: how its text is read, and how that is said to people."""

    parse: Callable[[str], T]
    """Raises `ValueError` where the text is not of this kind."""

    accepted: str
    """What is accepted, to stand after "expected"."""


class Key(NamedTuple):
    """One setting."""

    name: str
    kind: Kind[Any]
    default: str
    """The text that is parsed where nobody says otherwise; for a computed default, how it is computed."""

    meaning: str
    """One line."""

    unit: str = ""
    secret: bool = False
    computed: bool = False


class Loaded(NamedTuple):
    """What `load` makes."""

    config: Config
    origins: Mapping[str, str]
    """Where each key's value came from: `default`, `file NAME`, `environment NAME`, or `flag --name`."""

    warnings: tuple[str, ...]


class Setting(NamedTuple):
    """A text that somebody gave for a key, and who."""

    text: str
    origin: str


class Surroundings(NamedTuple):
    """What computed defaults are computed from."""

    environ: Mapping[str, str]
    uid: int
    cores: int
    cwd: str


# --- reading one value ------------------------------------------------------------------------------------------------

TRUE: Final = frozenset({"true", "yes", "on", "1"})
FALSE: Final = frozenset({"false", "no", "off", "0"})
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE: Final = re.compile(r"(\d+)\s*(?:([kmg])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
FACTOR: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")
CLASS_NAME: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*[.:][^\W\d]\w*")
WEB_ADDRESS: Final = re.compile(r"https?://[^\s/]+(?:/\S*)?")
LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"warn": "warning"}


def boolean(text: str) -> bool:
    """`True` of `on`, `False` of `off`, and their like."""
    word = text.lower()
    if word not in TRUE | FALSE:
        raise ValueError(text)
    return word in TRUE


def duration(text: str) -> float:
    """Seconds of `25s`, `5m`, `72h`, `250ms`, or of a plain number of seconds. More than 0, ten years at most."""
    found = DURATION.fullmatch(text.lower())
    if found is None:
        raise ValueError(text)
    seconds = float(found[1]) * SECONDS[found[2] or "s"]
    if not 0 < seconds <= MAX_DURATION_S:
        raise ValueError(text)
    return seconds


def size(text: str) -> int:
    """Bytes of `65536`, `64k`, `64KiB`, `1MiB`. At least 1; a k is always 1024."""
    found = SIZE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise ValueError(text)
    return int(found[1]) * FACTOR[(found[2] or "").lower()]


def whole(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers in a range, both ends included."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise ValueError(text)
        return int(text)

    return parse


def one_of(words: Mapping[str, str]) -> Callable[[str], str]:
    """A parser of one of a few words, in any case; gives the word that stands for it."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]

    return parse


def web_address(text: str) -> str:
    """Nothing, or an address for a browser."""
    if text and not WEB_ADDRESS.fullmatch(text):
        raise ValueError(text)
    return text


def class_name(text: str) -> str:
    """Nothing, or the name of a class in a module, with a dot between them however it was written."""
    if text and not CLASS_NAME.fullmatch(text):
        raise ValueError(text)
    name = text.replace(":", ".")
    return "" if name == LEGACY_CHECKER else name


def not_empty(text: str) -> str:
    """The text itself, which must have a character."""
    if not text:
        raise ValueError(text)
    return text


def host(text: str) -> str:
    """An address or a host name to listen on."""
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    if not HOST_NAME.fullmatch(text) or (is_numbers_and_dots(text) and not is_ipv4(text)):
        raise ValueError(text)
    return text


def is_numbers_and_dots(text: str) -> bool:
    """Whether a text was surely meant to be an IPv4 address."""
    return text.replace(".", "").isdecimal()


def is_ipv4(text: str) -> bool:
    """Whether a text is an IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def words(text: str) -> list[str]:
    """The parts of a list that is separated by commas, spaces or line ends."""
    return text.replace(",", " ").split()


def addresses(text: str) -> tuple[str, ...]:
    """Addresses and networks, each as `ipaddress` writes it. `0.0.0.0` and `::` become the networks that hold all."""
    found: list[str] = []
    for word in words(text):
        found.extend(networks_of(word))
    return tuple(dict.fromkeys(found))


def networks_of(word: str) -> tuple[str, ...]:
    """What one address of a list stands for."""
    if word in {"0.0.0.0", "::"}:
        return ("0.0.0.0/0", "::/0")
    if "/" in word:
        return (str(ipaddress.ip_network(word, strict=False)),)
    return (str(ipaddress.ip_address(word)),)


def origins(text: str) -> tuple[str, ...]:
    """Origins as a browser sends them: scheme, host, perhaps a port, nothing after (RFC 6454, section 6.1)."""
    found = tuple(word.lower() for word in words(text))
    for word in found:
        if not ORIGIN.fullmatch(word):
            raise ValueError(word)
    return found


BOOLEAN: Final = Kind(boolean, "true, false, yes, no, on, off, 1 or 0")
PORT: Final = Kind(whole(1, 65535), "a port, 1 to 65535")
HOST: Final = Kind(host, "an IP address or a host name")
PROCESSES: Final = Kind(whole(1, MAX_PROCESSES), f"a whole number, 1 to {MAX_PROCESSES}")
DURATIONS: Final = Kind(duration, "more than 0 seconds: a number, or 250ms, 25s, 5m, 72h, 3d")
SIZES: Final = Kind(size, "a number of bytes, 1 or more, or 64k, 64KiB, 4m, 4MiB")
ADDRESSES: Final = Kind(addresses, "IP addresses or CIDR networks, separated by commas or spaces")
EVERYBODY_TOO: Final = Kind(addresses, ADDRESSES.accepted + "; 0.0.0.0 stands for all")
ORIGINS: Final = Kind(origins, "origins such as https://example.com, separated by commas or spaces")
SECRET: Final = Kind(not_empty, "a text that is not empty")
TEXT: Final = Kind(str, "a text")
PATH: Final = Kind(not_empty, "a path")
LEVEL: Final = Kind(one_of(LEVELS), "debug, info, warning, error or critical")
SCHEME: Final = Kind(one_of({"http": "http", "https": "https"}), "http or https")
STORE: Final = Kind(one_of({"sqlite": "sqlite", "memory": "memory"}), "sqlite or memory")
SCOPES: Final = {name: name for name in ("endpoint", "strict", "any", "request")}
SCOPE: Final = Kind(one_of(SCOPES), "endpoint, strict, any or request")
CLASS: Final = Kind(class_name, "nothing, or a class: package.module.Class or package.module:Class")
LINK: Final = Kind(web_address, "nothing, or an address: http://… or https://…")

# --- the table --------------------------------------------------------------------------------------------------------

GROUPS: Final[Mapping[str, tuple[Key, ...]]] = {
    "Where it listens": (
        Key("host", HOST, "127.0.0.1", "The address that clients connect to"),
        Key("port", PORT, "8000", "The port that clients connect to"),
        Key("api_host", HOST, "127.0.0.1", "The address of the API that backends call"),
        Key("api_port", PORT, "8001", "The port of the API that backends call"),
        Key("public_api", BOOLEAN, "true", "Whether the API answers on the public port too"),
        Key("http_scheme", SCHEME, "http", "The scheme that clients use, for the addresses shown to people"),
        Key("enforce_https", BOOLEAN, "false", "Whether API calls that came in the clear are refused"),
    ),
    "Who may do what": (
        Key("secret", SECRET, "secret", "What backends sign their calls with", secret=True),
        Key("admin_user", SECRET, "admin", "The name to sign in to /admin with"),
        Key("admin_secret", SECRET, "admin_secret", "The password to sign in to /admin with", secret=True),
        Key("cookie_secret", TEXT, "", "What the admin's cookie is signed with; empty: made from secret", secret=True),
        Key("allow_posting_from", EVERYBODY_TOO, "127.0.0.1, ::1", "Who may call the API"),
        Key("trusted_proxies", ADDRESSES, "", "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed"),
        Key("allow_cors", ORIGINS, "", "Origins whose pages may connect from a browser"),
        Key("validate_requests", BOOLEAN, "true", "Whether the age of a signature is checked"),
        Key("signature_scope", SCOPE, "endpoint", "What a signature is good for: its path, any path, one request"),
        Key("signature_max_age", DURATIONS, "60s", "How old a signature may be", "s"),
        Key("signature_checker", CLASS, "", "A class of your own that checks signatures"),
    ),
    "How long things live": (
        Key("gc_conns_after", DURATIONS, "30s", "How long a connection that was cut off may come back", "s"),
        Key("gc_channels_after", DURATIONS, "72h", "How long a channel without connections is kept", "s"),
        Key("wake_connections_after", DURATIONS, "5s", "How long a long-poll waits for a message", "s"),
        Key("ping_interval", DURATIONS, "25s", "How often a websocket or a stream of events is pinged", "s"),
        Key(
            "silence_timeout", DURATIONS, "60s", "How long a client on a socket may be silent before it is closed", "s"
        ),
        Key(
            "drain_seconds",
            DURATIONS,
            "5s",
            "How long an edge that leaves takes to send its clients to the others",
            "s",
        ),
        Key("ask_timeout", DURATIONS, "2s", "How long a router or an edge waits for a shard", "s"),
    ),
    "Processes and files": (
        Key("routers", PROCESSES, "1", "How many router processes run"),
        Key("shards", PROCESSES, "one per two cores", "How many shard processes run", computed=True),
        Key("edges", PROCESSES, "one per two cores", "How many edge processes run", computed=True),
        Key("store", STORE, "sqlite", "Where history, states and places are kept; memory is lost when a shard ends"),
        Key("fsync", BOOLEAN, "true", "Whether an answer waits for the disk; without, a loss of power loses the last"),
        Key("data_dir", PATH, "./channelstream-data", "The folder of what is kept", computed=True),
        Key(
            "run_dir",
            PATH,
            "$XDG_RUNTIME_DIR (or $TMPDIR, or /tmp)/channelstream-UID-PORT",
            "The folder of sockets and locks while it runs",
            computed=True,
        ),
    ),
    "How much is taken": (
        Key("max_body", SIZES, "4MiB", "The largest body of an API call", "bytes"),
        Key(
            "compression", BOOLEAN, "false", "Whether websockets that offer permessage-deflate get compressed messages"
        ),
        Key(
            "max_frame",
            SIZES,
            "64KiB",
            "The largest message that a client may send, inflated where it was compressed",
            "bytes",
        ),
        Key("max_queue", SIZES, "1MiB", "How much may wait for one client before it is cut off", "bytes"),
        Key("max_peer_queue", SIZES, "64MiB", "How much may wait for one process of the group", "bytes"),
    ),
    "What people see": (
        Key("log_level", LEVEL, "info", "The least important lines that are logged"),
        Key("debug", BOOLEAN, "false", "Whether debug lines are logged and errors shown in full"),
        Key("demo", BOOLEAN, "false", "Whether /demo is served"),
        Key("demo_app_url", LINK, "", "The address of the demo's backend"),
    ),
}

KEYS: Final[Mapping[str, Key]] = {key.name: key for keys in GROUPS.values() for key in keys}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, checked. One field for each key; durations are seconds, sizes are bytes. See `KEYS`."""

    host: str
    port: int
    api_host: str
    api_port: int
    public_api: bool
    http_scheme: str
    enforce_https: bool
    secret: str
    admin_user: str
    admin_secret: str
    cookie_secret: str
    allow_posting_from: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    allow_cors: tuple[str, ...]
    validate_requests: bool
    signature_scope: Literal["endpoint", "strict", "any", "request"]
    signature_max_age: float
    signature_checker: str
    gc_conns_after: float
    gc_channels_after: float
    wake_connections_after: float
    ping_interval: float
    silence_timeout: float
    drain_seconds: float
    ask_timeout: float
    routers: int
    shards: int
    edges: int
    store: str
    fsync: bool
    data_dir: str
    run_dir: str
    max_body: int
    compression: bool
    max_frame: int
    max_queue: int
    max_peer_queue: int
    log_level: str
    debug: bool
    demo: bool
    demo_app_url: str

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={masked(name, getattr(self, name))!r}" for name in KEYS)
        return f"Config({shown})"


def shard_address(config: Config, index: int) -> str:
    """Where shard number `index` listens for routers and edges: a ZeroMQ address."""
    return f"ipc://{config.run_dir}/shard-{index}.sock"


def masked(name: str, value: object) -> object:
    """The value of a key as it may be shown: that of a secret only where it is empty."""
    return MASK if KEYS[name].secret and value else value


def text_of(value: object) -> str:
    """A value as a text that its key's parser takes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{int(value) if value.is_integer() else value}s"
    if isinstance(value, (tuple, list)):
        return ", ".join(str(part) for part in value)
    return str(value)


# --- making a Config --------------------------------------------------------------------------------------------------


def load(
    file_text: str | None,
    file_name: str,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    uid: int,
    cores: int,
    cwd: str = "",
    read_secret: Callable[[str], str] | None = None,
) -> Loaded:
    """Settings from everywhere: defaults, then the file, then the environment, then flags; the last to speak wins.

    `file_text` is None where there is no file. `cwd` is what relative paths are relative to. `read_secret` gives the
    text of a file named by `CHANNELSTREAM_<KEY>_FILE`, or raises `OSError`.

    Raises `ConfigErrors` with every wrong value, not just the first; rules between values are checked when each
    value is right by itself.
    """
    surroundings = Surroundings(environ, uid, cores, cwd)
    warnings: list[str] = []
    wrong: list[ConfigError] = []
    settings: dict[str, Setting] = {}
    settings.update(settings_of_file(file_text, file_name, warnings, wrong))
    settings.update(settings_of_environment(environ, read_secret, warnings, wrong))
    settings.update(settings_of_flags(flags, wrong))
    values = parsed(settings, wrong)
    if not wrong:
        config = Config(**completed(values, surroundings))
        said_by = {name: settings[name].origin if name in settings else "default" for name in KEYS}
        wrong.extend(problem for rule in RULES for problem in rule(config, said_by))
    if wrong:
        raise ConfigErrors(tuple(wrong))
    return Loaded(config, said_by, tuple(warnings))


def settings_of_file(
    text: str | None, name: str, warnings: list[str], wrong: list[ConfigError]
) -> Mapping[str, Setting]:
    """What the section of an ini file says. Unknown keys become warnings."""
    if text is None:
        return {}
    origin = f"file {name}"
    parser = configparser.ConfigParser(interpolation=None, empty_lines_in_values=False)
    try:
        parser.read_string(text, name)
    except configparser.Error as error:
        wrong.append(ConfigError("file", name, f"an ini file: {one_line(str(error))}"))
        return {}
    if not parser.has_section(SECTION):
        wrong.append(ConfigError("file", name, f"a file with a section [{SECTION}]"))
        return {}
    found = {
        key: Setting(value.strip(), origin) for key, value in parser[SECTION].items() if not says_nothing(key, value)
    }
    warnings.extend(f"{origin}: {unknown_key(key)}" for key in found if key not in KEYS)
    return {key: setting for key, setting in found.items() if key in KEYS}


def says_nothing(name: str, text: str) -> bool:
    """Whether a value in a file is left empty where it cannot be: files of 0.7 have such lines, and mean the default. A
    secret that was forgotten is not forgiven."""
    key = KEYS.get(name)
    if text.strip() or key is None or key.secret:
        return False
    try:
        key.kind.parse("")
    except ValueError:
        return True
    return False


def settings_of_environment(
    environ: Mapping[str, str],
    read_secret: Callable[[str], str] | None,
    warnings: list[str],
    wrong: list[ConfigError],
) -> Mapping[str, Setting]:
    """What the environment says. An empty value is none; unknown names become warnings."""
    found: dict[str, Setting] = {}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if not variable.startswith(ENVIRONMENT_PREFIX) or not value or is_no_key(name):
            continue
        if name in KEYS:
            found[name] = Setting(value, f"environment {variable}")
        elif name.endswith("_file") and name.removesuffix("_file") in KEYS:
            found.setdefault(name.removesuffix("_file"), setting_in_file(variable, value, read_secret, wrong))
        else:
            warnings.append(f"environment: {unknown_key(name)} ({variable})")
    return found


def is_no_key(name: str) -> bool:
    """Whether a name in our environment is ours, but no setting."""
    return name in NOT_KEYS or (name not in KEYS and name.startswith(NOT_KEY_PREFIXES))


def setting_in_file(
    variable: str, path: str, read_secret: Callable[[str], str] | None, wrong: list[ConfigError]
) -> Setting:
    """The value that `CHANNELSTREAM_<KEY>_FILE` points to, without the line end that editors leave behind."""
    origin = f"environment {variable}"
    try:
        if read_secret is None:
            raise FileNotFoundError("no files are read here")
        return Setting(read_secret(path).rstrip("\r\n"), origin)
    except (OSError, UnicodeDecodeError) as error:
        wrong.append(ConfigError(variable, path, f"a file that can be read: {why(error)}"))
        return Setting(path, origin)


def settings_of_flags(flags: Mapping[str, str], wrong: list[ConfigError]) -> Mapping[str, Setting]:
    """What the command line says. An unknown key is an error here: it was just typed."""
    found = {name: Setting(value, "flag --" + name.replace("_", "-")) for name, value in flags.items()}
    wrong.extend(
        ConfigError(name, MASK, f"a key that exists; {unknown_key(name)}", setting.origin)
        for name, setting in found.items()
        if name not in KEYS
    )
    return {name: setting for name, setting in found.items() if name in KEYS}


def parsed(settings: Mapping[str, Setting], wrong: list[ConfigError]) -> dict[str, object]:
    """The values of the texts that were given."""
    values: dict[str, object] = {}
    for name, (text, origin) in settings.items():
        key = KEYS[name]
        try:
            values[name] = key.kind.parse(text)
        except ValueError:
            wrong.append(ConfigError(name, masked(name, text), key.kind.accepted, origin))
    return values


def completed(values: Mapping[str, object], around: Surroundings) -> dict[str, Any]:
    """The values with every default filled in, and paths made whole."""
    whole_set = {name: key.kind.parse(key.default) for name, key in KEYS.items() if not key.computed}
    whole_set.update(values)
    whole_set.setdefault("shards", max(1, around.cores // 2))
    whole_set.setdefault("edges", max(1, around.cores // 2))
    whole_set.setdefault("data_dir", "channelstream-data")
    whole_set.setdefault("run_dir", default_run_dir(around, int(whole_set["port"])))
    for name in ("data_dir", "run_dir"):
        whole_set[name] = absolute(str(whole_set[name]), around)
    return whole_set


def default_run_dir(around: Surroundings, port: int) -> str:
    """A folder for this user and this port, so that two groups on one machine do not meet."""
    base = around.environ.get("XDG_RUNTIME_DIR") or around.environ.get("TMPDIR") or "/tmp"
    return f"{base.rstrip('/')}/channelstream-{around.uid}-{port}"


def absolute(path: str, around: Surroundings) -> str:
    """A path with `~` expanded, made absolute."""
    home = around.environ.get("HOME", "")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return os.path.normpath(os.path.join(around.cwd, path))


def unknown_key(name: str) -> str:
    """What to tell somebody who wrote a key that does not exist."""
    import difflib  # only a slip needs it

    near = difflib.get_close_matches(name, KEYS, n=1)
    return f"unknown key {name!r}" + (f", did you mean {near[0]!r}?" if near else "")


def one_line(text: str) -> str:
    """A text of several lines as one."""
    return " ".join(text.split())


def why(error: Exception) -> str:
    """The short reason of an error of the operating system, or the whole of another."""
    return getattr(error, "strerror", None) or str(error)


# --- rules between settings -------------------------------------------------------------------------------------------

Rule = Callable[[Config, Mapping[str, str]], Iterable[ConfigError]]
"""Takes the config and where its values came from; gives what is wrong."""


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address. Of names, only `localhost` is taken for one that is."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def known_secrets_stay_at_home(config: Config, said_by: Mapping[str, str]) -> Iterable[ConfigError]:
    """Who can be reached by others must not have a secret that everybody knows."""
    reachable = [f"{name} = {getattr(config, name)}" for name in ("host", "api_host")]
    reachable = [text for text in reachable if not is_loopback(text.partition(" = ")[2])]
    for name, known in DEFAULT_SECRETS.items():
        if reachable and getattr(config, name) == known:
            told = (
                f"a value of your own, because {reachable[0]} can be reached from other machines: "
                f"set {name} in the ini file (channelstream make-config writes one with fresh secrets), "
                f"or in {ENVIRONMENT_PREFIX}{name.upper()}_FILE"
            )
            yield ConfigError(name, known, told, said_by[name])


def ports_differ(config: Config, said_by: Mapping[str, str]) -> Iterable[ConfigError]:
    """Edges and routers cannot listen on the same port."""
    if config.port == config.api_port:
        yield ConfigError("api_port", config.api_port, "a port other than that of the clients", said_by["api_port"])


def sockets_fit(config: Config, said_by: Mapping[str, str]) -> Iterable[ConfigError]:
    """The sockets in `run_dir` have paths that the kernel takes."""
    most = MAX_SOCKET_PATH - len(LONGEST_SOCKET_NAME)
    if len(os.fsencode(config.run_dir)) > most:
        yield ConfigError("run_dir", config.run_dir, f"a path of at most {most} bytes", said_by["run_dir"])


def silence_is_longer_than_a_ping(config: Config, said_by: Mapping[str, str]) -> Iterable[ConfigError]:
    """A client that only answers pings must not be taken for dead."""
    if config.silence_timeout <= config.ping_interval:
        accepted = f"more than ping_interval ({text_of(config.ping_interval)})"
        yield ConfigError("silence_timeout", text_of(config.silence_timeout), accepted, said_by["silence_timeout"])


RULES: Final[tuple[Rule, ...]] = (known_secrets_stay_at_home, ports_differ, sockets_fit, silence_is_longer_than_a_ping)

# --- the shell --------------------------------------------------------------------------------------------------------


def read(ini: str | None, environ: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """Loads from the real file and machine. Flags handed down in `CHANNELSTREAM_FLAGS` count as flags.

    Raises `ConfigErrors`.
    """
    handed_down = msgspec.json.decode(environ.get(FLAGS_VARIABLE) or "{}", type=dict[str, str])
    cores = len(os.sched_getaffinity(0))
    text = None if ini is None else text_of_ini(ini)
    return load(text, ini or "", environ, handed_down | dict(flags), os.getuid(), cores, os.getcwd(), text_of_file)


def text_of_file(path: str) -> str:
    """The text of a file, with or without a byte order mark."""
    with open(path, encoding="utf-8-sig") as file:
        return file.read()


def text_of_ini(path: str) -> str:
    """The text of the ini file. Raises `ConfigErrors` where it cannot be read."""
    try:
        return text_of_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigErrors((ConfigError("file", path, f"a file that can be read: {why(error)}"),)) from error


# --- texts for people -------------------------------------------------------------------------------------------------


def ini_text(values: Mapping[str, str]) -> str:
    """A commented ini file: `values` are set, every other key stands there with its default, commented out."""
    lines = [f"[{SECTION}]"]
    for title, keys in GROUPS.items():
        lines += ["", f"# --- {title} ---"]
        for key in keys:
            lines += ["", f"# {key.meaning}.", f"# Accepted: {key.kind.accepted}."]
            lines.append(f"{key.name} = {values[key.name]}" if key.name in values else commented(key))
    return "\n".join(lines) + "\n"


def commented(key: Key) -> str:
    """A key's line for an ini file in which it is not set."""
    return f"# {key.name} = {key.default}".rstrip()


def markdown() -> str:
    """The page docs/configuration.md."""
    parts = [
        "# Configuration",
        "",
        "<!-- Written by `channelstream config --markdown`; a test compares the two. -->",
        "",
        f"One ini file with a section `[{SECTION}]`, named with `-i FILE` or in `{INI_VARIABLE}`.",
        f"Every key can also be given as `{ENVIRONMENT_PREFIX}KEY` in the environment, as",
        f"`{ENVIRONMENT_PREFIX}KEY_FILE` (the value is what that file holds: the way for secrets), and as a flag",
        "(`--api-port 9001`, or `--set api_port=9001`).",
        "Flags win over the environment, the environment over the file, the file over the defaults.",
        "",
        "`channelstream make-config` writes a commented file with fresh secrets, `channelstream check-config` checks",
        "one, and `channelstream config` shows every value and where it came from.",
    ]
    for title, keys in GROUPS.items():
        parts += ["", f"## {title}", "", "| key | default | meaning | accepted |", "|---|---|---|---|"]
        parts += [markdown_row(key) for key in keys]
    return "\n".join(parts) + "\n"


def markdown_row(key: Key) -> str:
    """A key's line of the table."""
    default = key.default if key.computed and " " in key.default else f"`{key.default}`" if key.default else "(empty)"
    unit = f" ({key.unit})" if key.unit else ""
    return f"| `{key.name}` | {default} | {key.meaning}{unit} | {key.kind.accepted} |"
