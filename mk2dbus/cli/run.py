"""``mk2dbus run``: the service."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mk2dbus.bus.errors import BusError
from mk2dbus.mk2.errors import PortUnusable
from mk2dbus.service import (
    DEFAULT_DEVICE_INSTANCE,
    NAME_PREFIX,
    SIMULATOR_SUFFIX,
    Config,
    default_suffix,
    is_suffix,
    serve,
)
from mk2dbus.state import default_state_dir

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
LOG_LEVELS = ("debug", "info", "warning", "error")


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "run",
        help="put an inverter on D-Bus",
        description="Put a VE.Bus system on D-Bus, until Ctrl-C or SIGTERM. Nothing is commanded unless a "
        "client writes.",
    )
    device = parser.add_mutually_exclusive_group(required=True)
    device.add_argument("--tty", metavar="PORT", help="serial port of the adapter, e.g. /dev/ttyUSB0")
    device.add_argument(
        "--simulate",
        nargs="?",
        const="",
        metavar="PROFILE",
        help="use the built-in simulator (mk2dbus simulate --list shows its profiles)",
    )
    parser.add_argument(
        "--baudrate", type=int, choices=(2400,), default=2400, help="speed of the adapter (default: 2400)"
    )
    parser.add_argument(
        "--bus",
        default="system",
        metavar="system|session|ADDRESS",
        help="the bus to be on (default: system)",
    )
    parser.add_argument(
        "--name",
        metavar="SUFFIX",
        help=f"the bus name is {NAME_PREFIX}.SUFFIX (default: base name of the port; "
        f"{SIMULATOR_SUFFIX} with --simulate)",
    )
    parser.add_argument(
        "--device-instance",
        type=_instance,
        default=DEFAULT_DEVICE_INSTANCE,
        metavar="N",
        help=f"value of /DeviceInstance (default: {DEFAULT_DEVICE_INSTANCE})",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the service keeps what it must remember (default: $XDG_STATE_HOME/mk2dbus, "
        "/var/lib/mk2dbus for root)",
    )
    parser.add_argument("--read-only", action="store_true", help="refuse every write")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="default: info")
    parser.set_defaults(run=run)


def _instance(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 0xFFFF:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return number


def _fail(text: str, code: int) -> int:
    print(f"mk2dbus run: {text}", file=sys.stderr)
    return code


async def run(arguments: argparse.Namespace) -> int:
    """Run the service until a signal ends it; the exit code."""
    if arguments.simulate is not None:
        # Imported only here: with a real adapter it is not needed.
        from mk2dbus.simulator import DEFAULT_PROFILE, PROFILES

        arguments.simulate = arguments.simulate or DEFAULT_PROFILE
        if arguments.simulate not in PROFILES:
            return _fail(f"no profile {arguments.simulate!r}; there are {', '.join(PROFILES)}", EXIT_USAGE)
    suffix = arguments.name
    if suffix is None:
        suffix = SIMULATOR_SUFFIX if arguments.tty is None else default_suffix(arguments.tty)
    if not is_suffix(suffix):
        return _fail(
            f"--name {suffix!r} cannot be part of a bus name: letters, digits, _ and - only, no digit first",
            EXIT_USAGE,
        )
    config = Config(
        bus=arguments.bus,
        suffix=suffix,
        state_dir=arguments.state_dir or default_state_dir(),
        tty=arguments.tty,
        simulate=arguments.simulate or "",
        baudrate=arguments.baudrate,
        device_instance=arguments.device_instance,
        read_only=arguments.read_only,
    )
    _configure_logging(arguments.log_level)
    service = asyncio.ensure_future(serve(config, _announce))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.cancel)
    try:
        await service
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopped")
        return EXIT_OK
    except (PortUnusable, BusError) as error:
        return _fail(str(error), EXIT_FAILED)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return EXIT_OK


def _announce(line: str) -> None:
    print(line, flush=True)


def _configure_logging(level: str) -> None:
    # The journal has its own time stamps.
    time = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.WARNING, format=f"{time}%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("mk2dbus").setLevel(level.upper())
