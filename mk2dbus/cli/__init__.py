"""The command line: ``run``, ``simulate``, and the commands that talk to a running service."""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from collections.abc import Sequence

from mk2dbus import __version__
from mk2dbus.cli import assign, backup, listing, monitor, ram, restore, run, simulate


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``run`` to an async function that returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="mk2dbus",
        description="Victron VE.Bus inverter/chargers on D-Bus, over an MK2 or MK3-USB adapter.",
        epilog="Not by Victron Energy. At your own risk: a wrong setting can ruin a battery.",
    )
    parser.add_argument("--version", action="version", version=f"mk2dbus {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run.add_parser(commands)
    simulate.add_parser(commands)
    for module in (listing, assign, monitor, backup, restore, ram):
        module.add_parsers(commands)
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
    arguments = build_parser().parse_args(argv)
    try:
        code: int = asyncio.run(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    return code
