"""The command line: ``run``, ``simulate``, and the commands that talk to a running service."""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from collections.abc import Sequence
from importlib import import_module

from mk2dbus import __version__

_MODULES = {
    "run": "run",
    "simulate": "simulate",
    "sim": "simctl",
    "list": "listing",
    "get": "listing",
    "set": "assign",
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


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command, or of all; each sets ``run`` to an async function to the exit code."""
    parser = argparse.ArgumentParser(
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
    arguments = build_parser(words[0] if words else None).parse_args(words)
    try:
        code: int = asyncio.run(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    return code
