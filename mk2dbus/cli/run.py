"""``mk2dbus run``: the service."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mk2dbus import logs
from mk2dbus.bus.errors import BusError
from mk2dbus.decode.errors import CannotRecord
from mk2dbus.identity import DEFAULT_INSTANCE, MAX_INSTANCE
from mk2dbus.mk2.errors import PortUnusable
from mk2dbus.mk2.speed import SpeedChoice
from mk2dbus.service import (
    NAME_PREFIX,
    SIMULATOR_SUFFIX,
    Config,
    default_suffix,
    is_suffix,
    serve,
)
from mk2dbus.state import default_state_dir
from mk2dbus.systemd import Notifier
from mk2dbus.vebus.options import DEFAULTS, Options

from .numbers import whole_within, within
from .private import add_serial_numbers_argument

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
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
        "--sim-control",
        type=Path,
        metavar="SOCKET",
        help="with --simulate: commands there change mains, load, faults … (mk2dbus sim SOCKET help)",
    )
    parser.add_argument(
        "--baudrate",
        choices=[choice.value for choice in SpeedChoice],
        default=DEFAULTS.speed.value,
        help="speed of the line; auto brings an MK3 to 115200 and goes back to 2400 where that does not work "
        "(default: auto)",
    )
    parser.add_argument(
        "--pipeline",
        type=int,
        choices=(1, 2, 3),
        default=DEFAULTS.pipeline,
        help="how many commands may be on the line at a time (default: 3; fewer are used by itself where the "
        "adapter does not take them)",
    )
    parser.add_argument(
        "--poll-interval",
        type=within(0.1, 2),
        default=DEFAULTS.poll_interval_s,
        metavar="SECONDS",
        help="how often fast values are read where the line allows it, 0.1 to 2 (default: 0.1)",
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
        type=whole_within(0, MAX_INSTANCE),
        metavar="N",
        help="value of /DeviceInstance, where the settings of Venus have no other (default: the last one, "
        f"{DEFAULT_INSTANCE} at first)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the service keeps what it must remember (default: $XDG_STATE_HOME/mk2dbus, "
        "/var/lib/mk2dbus for root)",
    )
    parser.add_argument(
        "--standby",
        action="store_true",
        help="keep a system awake that is switched off through /Mode, so that it can be switched on again "
        "(MK3 only; takes some power from the battery)",
    )
    parser.add_argument("--read-only", action="store_true", help="refuse every write")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="default: info")
    parser.add_argument(
        "--capture",
        type=Path,
        metavar="FILE",
        help="record the traffic with the inverter (mk2dbus replay shows it); at 16 MB it goes on in a new "
        "file, and FILE.1 is the one before",
    )
    add_serial_numbers_argument(parser)
    parser.set_defaults(run=run)


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
            return _fail(
                f"unknown profile {arguments.simulate!r}; there are {', '.join(PROFILES)}", EXIT_USAGE
            )
    elif arguments.sim_control is not None:
        return _fail("--sim-control needs --simulate", EXIT_USAGE)
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
        sim_control=arguments.sim_control,
        device_instance=arguments.device_instance,
        read_only=arguments.read_only,
        record=arguments.capture,
        serial_numbers=arguments.with_serial_numbers,
        options=Options(
            poll_interval_s=arguments.poll_interval,
            pipeline=arguments.pipeline,
            speed=SpeedChoice(arguments.baudrate),
            standby=arguments.standby,
        ),
    )
    quiet = logs.configure(arguments.log_level)
    log_counts = asyncio.create_task(logs.catch_up(quiet), name="log counts")
    manager = Notifier.from_environment()
    service = asyncio.ensure_future(serve(config, partial(_announce, manager), manager))
    loop = asyncio.get_running_loop()
    # Started with nohup it outlives its terminal.
    signals = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in signals:
        loop.add_signal_handler(number, _stop, service, manager)
    try:
        await service
    except asyncio.CancelledError:
        quiet.settle()
        logging.getLogger(__name__).info("stopped")
        return EXIT_OK
    except (PortUnusable, BusError, CannotRecord) as error:
        return _fail(str(error), EXIT_FAILED)
    finally:
        log_counts.cancel()
        for number in signals:
            loop.remove_signal_handler(number)
    return EXIT_OK


def _announce(manager: Notifier, line: str) -> None:
    try:
        print(line, flush=True)
    except OSError as error:
        # Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        logging.getLogger(__name__).warning("%s; that cannot be said on stdout: %s", line, error.strerror)
    manager.ready(line)


def _stop(service: asyncio.Future[None], manager: Notifier) -> None:
    manager.stopping()
    service.cancel()
