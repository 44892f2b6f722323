"""``mk2dbus sim``: change what a running simulator simulates, over its control socket."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mk2dbus.cli.common import DONE, FAILED, USAGE, Stop, command
from mk2dbus.simulator.control import DONE as REPLY_DONE
from mk2dbus.simulator.control import FAILED as REPLY_FAILED

TIMEOUT_S = 10.0


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "sim",
        help="change what a running simulator simulates: mains, load, faults",
        description="Send commands to a simulator that runs with --control, and print its replies. Ends with "
        "the first that fails, with exit code 1. `mk2dbus sim SOCKET help` lists the commands.",
    )
    parser.add_argument("socket", type=Path, metavar="SOCKET", help="as given to --control")
    parser.add_argument(
        "commands", nargs="*", metavar="COMMAND", help="e.g. 'set mains 0'; without any they come from stdin"
    )
    parser.set_defaults(run=command(run))


async def run(arguments: argparse.Namespace) -> int:
    """Send the commands one after the other; the exit code."""
    lines: Iterable[str] = arguments.commands or sys.stdin
    # Nothing here gives way to the event loop, whose handler of Ctrl-C would therefore wait.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(TIMEOUT_S)
        try:
            line.connect(str(arguments.socket))
        except OSError as error:
            raise Stop(f"no simulator at {arguments.socket}: {error.strerror or error}", USAGE) from error
        with line.makefile("r", encoding="utf-8") as replies:
            for text in lines:
                try:
                    line.sendall(f"{' '.join(text.split())}\n".encode())
                    answer = list(_reply(replies))
                except OSError as error:
                    raise Stop(f"the simulator is gone: {error.strerror or error}", FAILED) from error
                for reply in answer:
                    print(reply, flush=True)
    return DONE


def _reply(replies: Iterator[str]) -> Iterator[str]:
    """The lines of one reply.

    Raises:
        Stop: it says that the command failed, or there is none.
    """
    for reply in replies:
        text = reply.rstrip("\n")
        if text == REPLY_DONE:
            return
        if text.startswith(REPLY_FAILED):
            raise Stop(text.removeprefix(REPLY_FAILED))
        yield text
    raise Stop("the simulator is gone")
