"""``mk2dbus simulate``: a simulated adapter with inverters behind it, at a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from mk2dbus.simulator import DEFAULT_PROFILE, PROFILES, Simulator, UnknownProfileError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Declare the command."""
    width = max(map(len, PROFILES))
    profiles = "\n".join(f"  {name:{width}}  {profile.summary}" for name, profile in PROFILES.items())
    parser = subparsers.add_parser(
        "simulate",
        help="run a simulated adapter with inverters at a pseudo-terminal",
        description="Run a simulated MK2/MK3 adapter with VE.Bus devices behind it, and print the path\n"
        "to connect to. Ends with Ctrl-C or SIGTERM.",
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
        type=milliseconds,
        default=15.0,
        metavar="MS",
        help="time the inverter takes to answer (default: 15)",
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
        print(f"mk2dbus simulate: {error}", file=sys.stderr)
        return EXIT_USAGE
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with simulator:
            print(simulator.port, flush=True)
            await stop.wait()
    except FileExistsError:
        print(f"mk2dbus simulate: {arguments.link} exists; give another --link or remove it", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        place = f" at {arguments.link}" if arguments.link else ""
        print(f"mk2dbus simulate: cannot make a port{place}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    return EXIT_OK


def milliseconds(text: str) -> float:
    """A time in ms from the command line."""
    value = float(text)
    if not 0 <= value <= 10_000:
        raise ValueError(text)
    return value
