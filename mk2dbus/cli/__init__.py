"""The command line: ``run``, ``simulate``, and the commands that talk to a running service."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from mk2dbus import __version__
from mk2dbus.clock import BootTimeLoop

USAGE = 2

_MODULES = {
    "run": "run",
    "simulate": "simulate",
    "sim": "simctl",
    "list": "listing",
    "get": "listing",
    "set": "assign",
    "watch": "watch",
    "monitor": "monitor",
    "paths": "paths",
    "backup": "backup",
    "diff": "backup",
    "restore": "restore",
    "read-ram": "ram",
    "write-ram": "ram",
    "install": "install",
    "uninstall": "install",
    "doctor": "doctor",
    "capture": "capture",
    "replay": "capture",
}
"""Where each command is. Only that module is imported: on a small machine imports are most of a start."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all commands do."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command, or of all; each sets ``run`` to an async function to the exit code."""
    parser = Parser(
        prog="mk2dbus",
        description="Victron VE.Bus inverter/chargers on D-Bus, over an MK2 or MK3-USB adapter.",
        epilog="Not by Victron Energy. At your own risk: a wrong setting can ruin a battery.",
    )
    parser.add_argument("--version", action="version", version=f"mk2dbus {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    names = [_MODULES[command]] if command in _MODULES else list(dict.fromkeys(_MODULES.values()))
    for name in names:
        import_module(f"mk2dbus.cli.{name}").add_parsers(commands)
    return parser


def _no_command(word: str) -> str:
    close = difflib.get_close_matches(word, _MODULES, n=2)
    return f"there is no command {word!r}; " + (
        f"did you mean {' or '.join(close)}?" if close else "mk2dbus --help lists them"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0, or 1 when something was refused or failed, 2 for wrong usage.
    """
    # A terminal or pipe that has no °C or → gets a ? in its place.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        build_parser().print_help(sys.stderr)
        return USAGE
    if words[0] not in _MODULES and not words[0].startswith("-"):
        print(f"mk2dbus: {_no_command(words[0])}", file=sys.stderr)
        return USAGE
    arguments = build_parser(words[0]).parse_args(words)
    try:
        with asyncio.Runner(loop_factory=BootTimeLoop) as runner:
            code: int = runner.run(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    return code
