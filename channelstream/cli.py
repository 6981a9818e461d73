"""The commands. Each imports what it needs when it is chosen.

NOTE: each process of the group comes through here, so nothing that takes long may be imported at the top, and
`channelstream --version` should answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from channelstream import __version__
from channelstream.config import GROUPS, INI_VARIABLE, KEYS, Key, Loaded, masked, read, text_of
from channelstream.errors import ChannelstreamError, ConfigError, ConfigErrors

if TYPE_CHECKING:
    from channelstream.config import Config
    from channelstream.wire.messages import ProcessStatus

EXIT_OK: Final = 0
EXIT_MISSING: Final = 1
"""`status`: some process does not answer. `restart`: one did not come back."""

EXIT_REFUSED: Final = 2
"""What was asked for cannot be done; the reason is on standard error. argparse ends with it too."""

EXIT_INTERRUPTED: Final = 130
"""Ctrl-C before anything had begun: 128 and the number of SIGINT, as shells have it."""

STATUS_TIMEOUT_S: Final = 2.0
"""How long `status` waits for the processes. A person is waiting."""

SECRET_BYTES: Final = 32
"""Of a generated secret, before it is written in base64: as many as SHA-256 makes."""

BODILESS: Final = ("GET", "HEAD", "OPTIONS")
"""Methods whose calls have no body. Any other call without one is refused, so a printed command has at least `{}`."""

COMMANDS: Final = {
    "router": "run one router process (what supervisord executes)",
    "shard": "run one shard process",
    "edge": "run one edge process",
    "make-config": "write a commented ini file with fresh secrets",
    "check-config": "check an ini file",
    "config": "show every setting and where it came from",
    "sign": "sign a path, for calls by hand",
    "status": "show the processes of the running group",
    "restart": "restart the processes of the running group, one at a time",
    "check-delivery": "break a group of its own while it works, and say whether anything was lost",
    "history": "write what is kept to a file, or put a file's content into it, while the group is stopped",
}

USAGES: Final = {
    None: "%(prog)s [COMMAND] [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "router": "%(prog)s --index N [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "shard": "%(prog)s --index N [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "edge": "%(prog)s --index N [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "make-config": "%(prog)s [-o FILE] [--force]",
    "check-config": "%(prog)s [--strict] -i FILE [--set KEY=VALUE] [--KEY VALUE] ...",
    "config": "%(prog)s [--json | --env | --markdown] [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "sign": "%(prog)s [--curl] [--data JSON] [--method M] [-i FILE] [--KEY VALUE] ... PATH",
    "status": "%(prog)s [--json] [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "restart": "%(prog)s [--role ROLE] [--timeout SECONDS] [--json] [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
    "check-delivery": "%(prog)s [--seconds S] [--kill WORDS] [--stop WORDS] [--set KEY=VALUE] ... [--json]",
    "history": "%(prog)s export [--channel NAME] ... [-o FILE] [-i FILE] ...\n"
    "       %(prog)s import [FILE] [-i FILE] [--set KEY=VALUE] [--KEY VALUE] ...",
}
"""argparse would list every key."""

RESTART: Final = """\
Restarts the processes of the running group, one at a time, shards first, then routers, then edges: each is asked to
leave, and the next one waits until it is ready again. No call fails and no message is lost meanwhile; clients are told
1001 and come back. Where a role has one process only, another one stands in for it. To be called with the settings
that the group was started with.

exit codes: 0 all are back, 1 one is not (the others were left as they are), 2 nothing was done
"""

EXAMPLES: Final = """\
examples:
  channelstream make-config -o my.ini        a config file with fresh secrets
  channelstream -i my.ini                    start the group; Ctrl-C ends it
  channelstream --port 9000 --demo           the same without a file, with a demo at /demo
  channelstream -i my.ini restart            restart it, and nobody notices
  channelstream sign /message --curl --data '[{"user": "me", "channel": "a", "message": {"text": "hi"}}]'
"""


# --- what can be typed ------------------------------------------------------------------------------------------------


class KeyFlag(argparse.Action):
    """Collects the flags of keys, and those of `--set KEY=VALUE`, in `flags` of the namespace: key → text."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        name, text = self.dest, str(values)
        if name == "set":
            name, equals, text = text.partition("=")
            name = name.strip().replace("-", "_").lower()
            if not equals:
                parser.error(f"--set {name}: expected KEY=VALUE")
        # A new dict each time: argparse hands the same namespace to a command's parser.
        namespace.flags = {**getattr(namespace, "flags", {}), name: text}


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser for one command, or for none: starting the group. Only that one's options are made."""
    parser = argparse.ArgumentParser(
        prog="channelstream" if command is None else f"channelstream {command}",
        usage=USAGES[command],
        description="A realtime message server. Without a command it starts the group of processes in the foreground."
        if command is None
        else COMMANDS[command] + ".",
        epilog=overview() if command is None else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    OPTIONS.get(command, add_settings)(parser)
    return parser


def overview() -> str:
    """The commands and a few examples, for the end of the help."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(["commands (channelstream COMMAND --help):", *lines, "", EXAMPLES])


def add_settings(parser: argparse.ArgumentParser) -> None:
    """`-i`, `--set`, and a flag for every key."""
    parser.set_defaults(flags={})
    parser.add_argument("--version", action="version", version=f"channelstream {__version__}")
    parser.add_argument("-i", "--ini", metavar="FILE", help=f"the ini file (or the environment's {INI_VARIABLE})")
    parser.add_argument("--set", action=KeyFlag, metavar="KEY=VALUE", help="sets any key, as the flags below do")
    for title, keys in GROUPS.items():
        group = parser.add_argument_group(title)
        for key in keys:
            add_key(group, key)


def add_key(group: Any, key: Key) -> None:
    """The flag of a key. One that is true or false may stand alone: `--demo`."""
    alone: dict[str, Any] = {"nargs": "?", "const": "true"} if key.kind.accepted.startswith("true") else {}
    group.add_argument(
        "--" + key.name.replace("_", "-"),
        dest=key.name,
        action=KeyFlag,
        default=argparse.SUPPRESS,
        metavar="VALUE",
        help=f"{key.meaning} (default: {key.default or 'empty'}; CHANNELSTREAM_{key.name.upper()})".replace("%", "%%"),
        **alone,
    )


def add_role(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", type=int, required=True, metavar="N", help="which one of its role it is, from 0")
    # What `restart` starts: a process beside those that the settings name, for as long as one of them is away.
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    add_settings(parser)


def add_make_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: standard output)")
    parser.add_argument("--force", action="store_true", help="write over a file that exists")


def add_check_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    add_settings(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--env", action="store_true", help="as the environment that supervisord.conf needs")
    form.add_argument("--markdown", action="store_true", help="the table of all keys, for the documentation")
    add_settings(parser)


def add_sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="the path of the call, such as /message")
    parser.add_argument("--curl", action="store_true", help="print a whole command")
    parser.add_argument("--data", metavar="JSON", default="", help="its body (with --curl, where it needs one: {})")
    parser.add_argument("--method", metavar="M", default="POST", help="its method (default: POST)")
    add_settings(parser)


def add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_settings(parser)


def add_restart(parser: argparse.ArgumentParser) -> None:
    parser.description = RESTART
    parser.add_argument(
        "--role",
        action="append",
        choices=("shard", "router", "edge"),
        help="only processes of this role; may be given more than once",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="how long each process may take to be back (default: what it may take to leave, and 15)",
    )
    parser.add_argument("--json", action="store_true", help="a summary as JSON; what happens goes to standard error")
    add_settings(parser)


def add_check_delivery(parser: argparse.ArgumentParser) -> None:
    from channelstream.checking.options import add_options

    add_options(parser)


def add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["export", "import"], help="what to do; the format is in docs/storage.md")
    parser.add_argument("file", metavar="FILE", nargs="?", help="what to import (default: standard input)")
    parser.add_argument(
        "--channel", metavar="NAME", action="append", default=[], help="export only this channel; may be repeated"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to export to (default: standard output)")
    add_settings(parser)


OPTIONS: Final[Mapping[str | None, Callable[[argparse.ArgumentParser], None]]] = {
    "router": add_role,
    "shard": add_role,
    "edge": add_role,
    "make-config": add_make_config,
    "check-config": add_check_config,
    "config": add_config,
    "sign": add_sign,
    "status": add_status,
    "restart": add_restart,
    "check-delivery": add_check_delivery,
    "history": add_history,
}


def command_of(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command among the words of a command line, and the words without it.

    It may stand behind options (`-i FILE status`), so it is the first word that is a command's name and not the value
    of an option before it.
    """
    before = ""
    for position, word in enumerate(argv):
        if word in COMMANDS and not takes_next_word(before):
            return word, [*argv[:position], *argv[position + 1 :]]
        before = word
    return None, list(argv)


def takes_next_word(option: str) -> bool:
    """Whether an option needs a value that stands as a word of its own."""
    if not option.startswith("-") or "=" in option:
        return False
    key = KEYS.get(option.lstrip("-").replace("-", "_"))
    if key is not None:
        return not key.kind.accepted.startswith("true")
    takes = {"-i", "--ini", "--set", "--index", "-o", "--output", "--data", "--method", "--channel"}
    return option in takes | {"--role", "--timeout", "--kill", "--stop"}


# --- the commands -----------------------------------------------------------------------------------------------------


def loaded_for(options: argparse.Namespace) -> Loaded:
    """The settings for a command line. Raises `ConfigErrors`."""
    return read(ini_of(options), os.environ, options.flags)


def usable_for(options: argparse.Namespace) -> Loaded:
    """The same, of which every part can be used: what processes would fail at again and again is told here, once.
    Raises `ConfigError`."""
    loaded = loaded_for(options)
    if loaded.config.signature_checker:
        from channelstream.signing import load_checker

        load_checker(loaded.config.signature_checker)
    return loaded


def ini_of(options: argparse.Namespace) -> str | None:
    """Which ini file, if any."""
    return options.ini or os.environ.get(INI_VARIABLE) or None


def run_role(command: str, options: argparse.Namespace) -> int:
    """Becomes one process of the group."""
    from importlib import import_module

    config = loaded_for(options).config
    check_index(command, options.index, config, options.stand_in)
    code: int = import_module(f"channelstream.{command}.serve").main(config, options.index)
    return code


def check_index(role: str, index: int, config: Config, stand_in: bool = False) -> None:
    """Raises `ConfigErrors` where there is no process with that number. One that stands in has the number behind the
    last, and is no shard: what a shard owns has one owner."""
    count: int = getattr(config, f"{role}s")
    if stand_in and index == count and role != "shard":
        return
    if not 0 <= index < count:
        accepted = f"0 to {count - 1}, because {role}s = {count}"
        raise ConfigErrors((ConfigError("index", index, accepted, "flag --index"),))


def run_group(options: argparse.Namespace) -> int:
    """Starts the group and stays in the foreground."""
    from channelstream import group
    from channelstream.screen import Screen

    start = group.Start(
        loaded=usable_for(options),
        ini=ini_of(options),
        flags=options.flags,
        conf=group.conf_path(),
        ready=group_is_ready,
        missing=missing_processes,
        environ=os.environ,
        out=Screen(sys.stdout),
    )
    return group.run(start)


def group_is_ready(config: Config) -> bool:
    """Whether every process of the group answers."""
    from channelstream import status

    return status.group_ready(config)


def missing_processes(config: Config) -> list[str]:
    """The names of those that do not."""
    from channelstream import status

    found = status.gather(config, STATUS_TIMEOUT_S)
    return [f"{process.role}-{process.index}" for process in found if not process.ready]


def make_config(options: argparse.Namespace) -> int:
    """Writes a commented ini file with fresh secrets."""
    write_config(options.output, {}, options.force)
    return EXIT_OK


def write_config(path: str | None, values: Mapping[str, str], force: bool) -> None:
    """Writes an ini file that only its owner can read, or prints it. Raises `ConfigError` where it cannot."""
    from channelstream.config import ini_text

    text = ini_text(fresh_secrets() | dict(values))
    if path is None:
        print(text, end="")
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except FileExistsError as error:
        raise ConfigError("output", path, "a file that does not exist yet, or --force") from error
    except OSError as error:
        raise ConfigError("output", path, f"a file that can be written: {error.strerror}") from error
    print(f"written: {path}")


def fresh_secrets() -> dict[str, str]:
    """A new value for each secret."""
    import secrets

    return {name: secrets.token_urlsafe(SECRET_BYTES) for name, key in KEYS.items() if key.secret}


def check_config(options: argparse.Namespace) -> int:
    """Says whether the settings can be used."""
    loaded = usable_for(options)
    for text in loaded.warnings:
        print(f"warning: {text}", file=sys.stderr)
    if options.strict and loaded.warnings:
        return EXIT_REFUSED
    print(f"{ini_of(options) or 'the settings'}: ok")
    return EXIT_OK


def show_config(options: argparse.Namespace) -> int:
    """Prints the settings in one form or another."""
    from channelstream import config

    if options.markdown:
        print(config.markdown(), end="")
        return EXIT_OK
    loaded = loaded_for(options)
    if options.env:
        from channelstream.group import export_lines

        print(export_lines(loaded, ini_of(options), options.flags, sys.executable, os.getcwd()), end="")
    elif options.json:
        print_json({"settings": settings_for_json(loaded), "warnings": loaded.warnings})
    else:
        print_settings(loaded)
    return EXIT_OK


def settings_for_json(loaded: Loaded) -> dict[str, object]:
    """Every value, secrets masked, and where it came from."""
    return {
        name: {"value": masked(name, getattr(loaded.config, name)), "origin": loaded.origins[name]} for name in KEYS
    }


def print_settings(loaded: Loaded) -> None:
    """The settings as a table."""
    rows = [(name, text_of(masked(name, getattr(loaded.config, name))), loaded.origins[name]) for name in KEYS]
    print_table([("key", "value", "from"), *rows])
    for text in loaded.warnings:
        print(f"warning: {text}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of texts, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(value: object) -> None:
    """A value as JSON, indented."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def sign(options: argparse.Namespace) -> int:
    """Prints the header of a signed call, or a whole command that makes it."""
    from channelstream import signing

    config = loaded_for(options).config
    method, path, data = options.method.upper(), options.path, options.data
    if options.curl and not data and method not in BODILESS:
        data = "{}"
    if not path.startswith("/"):
        raise ConfigError("PATH", path, "a path that begins with /, such as /message")
    value = signing.value_to_sign(config.signature_scope, method, path, data.encode())
    header = f"X-Channelstream-Secret: {signing.sign(config.secret, value)}"
    print(curl_command(config, method, path, data, header) if options.curl else header)
    return EXIT_OK


def curl_command(config: Config, method: str, path: str, data: str, header: str) -> str:
    """A command for a shell that makes a signed call."""
    import shlex

    from channelstream.group import shown_address

    words = ["curl", "-sS", "-X", method, shown_address("http", config.api_host, config.api_port) + path]
    words += ["-H", header, "-H", "Content-Type: application/json"]
    return shlex.join([*words, "--data-binary", data] if data else words)


def show_status(options: argparse.Namespace) -> int:
    """Prints who is up. 0 where all are."""
    from msgspec.structs import asdict

    from channelstream import status
    from channelstream.clock import real_clock

    found = status.gather(loaded_for(options).config, STATUS_TIMEOUT_S)
    if options.json:
        print_json([asdict(process) for process in found])
    else:
        columns = ("process", "pid", "up for", "connections", "channels", "queue", "version", "")
        print_table([columns, *(status_row(process, real_clock().wall) for process in found)])
        for line in counted_lines(found):
            print(line)
    return EXIT_OK if all(process.ready for process in found) else EXIT_MISSING


def status_row(process: ProcessStatus, now: float) -> tuple[str, ...]:
    """One process's line."""
    name = f"{process.role}-{process.index}"
    if not process.pid:
        return (name, "-", "-", "-", "-", "-", "-", "missing")
    numbers = (process.connections, process.channels, process.queue_bytes)
    up_for = f"{max(0, int(now - process.since))}s"
    state = "ready" if process.ready else "not ready"
    return (name, str(process.pid), up_for, *map(str, numbers), process.version, state)


def transfer_history(options: argparse.Namespace) -> int:
    """Exports or imports what is kept."""
    if options.action == "export":
        return export_history(options)
    return import_history(options)


def export_history(options: argparse.Namespace) -> int:
    """Writes what is kept, or some channels of it."""
    from channelstream.clock import real_clock
    from channelstream.shard.store import transfer

    if options.file is not None:
        raise ConfigError("FILE", options.file, "nothing: an export goes to standard output, or to -o FILE")
    config = loaded_for(options).config

    def write(out: BinaryIO) -> int:
        return transfer.export(config, options.channel, out, real_clock(), tell_progress)

    if options.output is None:
        write(sys.stdout.buffer)
        return EXIT_OK
    count = transfer.written(options.output, write)
    tell_progress("")
    print(f"written: {options.output}, {count} lines")
    return EXIT_OK


def import_history(options: argparse.Namespace) -> int:
    """Puts a file's content into what is kept."""
    from channelstream.clock import real_clock
    from channelstream.shard.store import transfer

    if options.channel or options.output is not None:
        raise ConfigError("import", options.channel or options.output, "no --channel and no --output")
    config = loaded_for(options).config
    try:
        with open(options.file, "rb") if options.file not in (None, "-") else nullcontext(sys.stdin.buffer) as lines:
            report = transfer.import_(config, lines, real_clock(), tell_progress)
    except OSError as error:
        raise ConfigError("FILE", options.file, f"a file that can be read: {error.strerror}") from error
    tell_progress("")
    print(f"imported: {report.messages} messages, {report.channels} channels, {report.users} users")
    if report.skipped:
        print(f"skipped: {report.skipped} messages that were there already")
    return EXIT_OK


def tell_progress(text: str) -> None:
    """How far it is, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)


def counted_lines(found: Sequence[ProcessStatus]) -> list[str]:
    """A line for each process that has dropped or refused something since it started; docs/limits.md explains it."""
    return [
        f"{process.role}-{process.index}: " + ", ".join(f"{name} {count}" for name, count in process.counters.items())
        for process in found
        if process.counters
    ]


def restart(options: argparse.Namespace) -> int:
    """Restarts the running group, one process at a time. 0 where all are back."""
    from channelstream.clock import monotonic
    from channelstream.errors import NotBack
    from channelstream.restart import ROLES, Restart

    config = usable_for(options).config
    out = sys.stderr if options.json else sys.stdout
    began = monotonic()
    work = Restart(config, ini_of(options), options.flags, options.timeout, out)
    failed = None
    try:
        work.run(options.role or ROLES)
    except NotBack as error:
        failed = str(error)
    seconds = monotonic() - began
    if options.json:
        done = [process._asdict() for process in work.renewed]
        print_json({"restarted": done, "seconds": round(seconds, 3), "error": failed})
    elif failed is None:
        print(f"{len(work.renewed)} processes restarted in {seconds:.1f} s")
    if failed is not None:
        print(f"channelstream: {failed}", file=sys.stderr)
        return EXIT_MISSING
    return EXIT_OK


def check_delivery(options: argparse.Namespace) -> int:
    """Breaks a group of its own and says what was lost. Its exit codes are its own: see `checking.options`."""
    from channelstream.checking import run

    return run.main(options)


ACTIONS: Final[Mapping[str | None, Callable[[argparse.Namespace], int]]] = {
    None: run_group,
    "make-config": make_config,
    "check-config": check_config,
    "config": show_config,
    "sign": sign,
    "status": show_status,
    "restart": restart,
    "check-delivery": check_delivery,
    "history": transfer_history,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command `channelstream`. Gives the exit code."""
    command, words = command_of(sys.argv[1:] if argv is None else argv)
    options = build_parser(command).parse_args(words)
    if command in ("router", "shard", "edge"):
        return guarded(lambda: run_role(command, options))
    return guarded(lambda: ACTIONS[command](options))


def guarded(action: Callable[[], int]) -> int:
    """Does something; errors that were foreseen become lines on standard error."""
    try:
        return action()
    except ConfigErrors as errors:
        for error in errors.errors:
            print(f"channelstream: {error}", file=sys.stderr)
    except ChannelstreamError as error:
        print(f"channelstream: {error}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`). What is still buffered must not raise again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_REFUSED


# --- the old command --------------------------------------------------------------------------------------------------


def utils_main(argv: Sequence[str] | None = None) -> int:
    """The command `channelstream_utils make_config [-o FILE] [-j JSON]` of former versions."""
    parser = argparse.ArgumentParser(prog="channelstream_utils", description="The former name of make-config.")
    parser.add_argument("command", choices=["make_config"])
    parser.add_argument("-o", "--output", default="config.ini", metavar="FILE", help="default: config.ini")
    parser.add_argument("-j", "--json", default="{}", metavar="JSON", help='values to set: {"port": 9000}')
    parser.add_argument("--force", action="store_true", help="write over a file that exists")
    options = parser.parse_args(argv)

    def write() -> int:
        write_config(options.output, values_of_json(options.json), options.force)
        return EXIT_OK

    return guarded(write)


def values_of_json(text: str) -> dict[str, str]:
    """The values of a JSON object as an ini file has them. Raises `ConfigErrors`."""
    import json

    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigErrors((ConfigError("json", text, f"a JSON object: {error}"),)) from error
    if not isinstance(found, dict):
        raise ConfigErrors((ConfigError("json", text, "a JSON object"),))
    wrong = [ConfigError(name, "", "a key that exists", "flag --json") for name in found if name not in KEYS]
    values = {name: text_of(value) for name, value in found.items()}
    for name, value in values.items():
        try:
            if name in KEYS:
                KEYS[name].kind.parse(value)
        except ValueError:
            wrong.append(ConfigError(name, masked(name, value), KEYS[name].kind.accepted, "flag --json"))
    if wrong:
        raise ConfigErrors(tuple(wrong))
    return values
