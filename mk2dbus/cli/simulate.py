"""``mk2dbus simulate``: a simulated adapter with inverters behind it, at a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from mk2dbus.simulator import DEFAULT_PROFILE, PROFILES, Simulator, UnknownProfileError
from mk2dbus.simulator.control import Control, Responder

from .numbers import within

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
STDIN = Path("-")
_READ_SIZE = 4096


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Declare the command."""
    width = max(map(len, PROFILES))
    profiles = "\n".join(f"  {name:{width}}  {profile.summary}" for name, profile in PROFILES.items())
    parser = subparsers.add_parser(
        "simulate",
        help="run a simulated adapter with inverters at a pseudo-terminal",
        description="Run a simulated MK2/MK3 adapter with VE.Bus devices behind it, and print the path\n"
        "to connect to. Ends with Ctrl-C or SIGTERM. On a terminal, type help to see what\n"
        "can be changed meanwhile; with --control the same is open to `mk2dbus sim`.",
        epilog=f"profiles:\n{profiles}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "profile", nargs="?", default=DEFAULT_PROFILE, metavar="PROFILE", help=f"default: {DEFAULT_PROFILE}"
    )
    parser.add_argument("--link", type=Path, metavar="PATH", help="symbolic link to make to the device")
    parser.add_argument(
        "--baudrate",
        type=int,
        choices=(2400, 0),
        default=2400,
        help="0: do not pace the line (default: 2400)",
    )
    parser.add_argument(
        "--latency",
        type=within(0, 10_000),
        default=15.0,
        metavar="MS",
        help="time the inverter takes to answer (default: 15)",
    )
    parser.add_argument(
        "--control",
        type=Path,
        metavar="PATH",
        help="unix socket for commands (see mk2dbus sim); -: take them from stdin, as from a terminal anyway",
    )
    parser.add_argument("--list", action="store_true", help="list the profiles and exit")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Run the simulator until it is told to stop; the exit code."""
    if arguments.list:
        for name, profile in PROFILES.items():
            print(f"{name}\t{profile.summary}")
        return EXIT_OK
    try:
        simulator = Simulator(arguments.profile, arguments.baudrate, arguments.latency, arguments.link)
    except UnknownProfileError as error:
        return _fail(str(error), EXIT_USAGE)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(simulator)
            except FileExistsError:
                return _fail(f"{arguments.link} exists; give another --link or remove it")
            except OSError as error:
                place = f" at {arguments.link}" if arguments.link else ""
                return _fail(f"cannot make a port{place}: {error.strerror}")
            if arguments.control not in (None, STDIN):
                try:
                    await stack.enter_async_context(Control(simulator, arguments.control))
                except OSError as error:
                    return _fail(f"cannot make a socket at {arguments.control}: {error.strerror or error}")
            print(simulator.port, flush=True)
            if arguments.control == STDIN or _on_terminal():
                stack.enter_context(_typed(Responder(simulator).reply))
            await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    return EXIT_OK


def _fail(text: str, code: int = EXIT_FAILED) -> int:
    print(f"mk2dbus simulate: {text}", file=sys.stderr)
    return code


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and _in_foreground()


def _in_foreground() -> bool:
    """Whether a terminal at stdin is ours to read: a program in the background would be stopped for it."""
    descriptor = sys.stdin.fileno()
    return not os.isatty(descriptor) or os.tcgetpgrp(descriptor) == os.getpgrp()


@contextmanager
def _typed(reply: Callable[[str], str]) -> Iterator[None]:
    """Answer the lines that come on stdin, on stdout, until its end."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    begun = bytearray()

    def read() -> None:
        if not _in_foreground():
            loop.remove_reader(descriptor)
            return
        data = os.read(descriptor, _READ_SIZE)
        begun.extend(data)
        *lines, rest = begun.split(b"\n")
        if not data:
            loop.remove_reader(descriptor)
            lines = [rest] if rest else []
        begun[:] = rest
        for line in lines:
            print(reply(line.decode(errors="replace")), end="", flush=True)

    def listen() -> None:
        loop.add_reader(descriptor, read)

    try:
        listen()
    except PermissionError:
        # A file is always readable and cannot be waited for.
        for line in sys.stdin:
            print(reply(line), end="", flush=True)
        yield
        return
    # Brought to the foreground again.
    loop.add_signal_handler(signal.SIGCONT, listen)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCONT)
        loop.remove_reader(descriptor)
