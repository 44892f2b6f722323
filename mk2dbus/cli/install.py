"""``mk2dbus install`` and ``mk2dbus uninstall``: the service on a machine with systemd."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mk2dbus import __version__
from mk2dbus.install.checks import policy_missing, running
from mk2dbus.install.errors import InstallError
from mk2dbus.install.machine import Machine
from mk2dbus.install.plan import Plan, plan_install, plan_uninstall
from mk2dbus.install.steps import carry_out

from .common import DONE, FAILED, Stop, add_yes_argument, asks, command, complain, confirmed


def add_parsers(subparsers: Any) -> None:
    """Add ``install`` and ``uninstall``."""
    parser = subparsers.add_parser(
        "install",
        help="set up the service on this machine (needs root)",
        description="Set up mk2dbus as a service: a copy of the program, the D-Bus policy, the systemd unit, "
        "the udev rules that start it for each adapter, its user and the group vebus, whose members may "
        "write. All of it or nothing. On a terminal it shows what it will do and asks.",
    )
    _add_arguments(parser)
    parser.add_argument("--force", action="store_true", help="replace files that were changed by hand")
    parser.set_defaults(run=command(_install))

    parser = subparsers.add_parser(
        "uninstall",
        help="take the service off this machine (needs root)",
        description="Stop the service and remove what install put there. What it remembers and its options "
        "stay.",
    )
    _add_arguments(parser)
    parser.add_argument(
        "--purge", action="store_true", help="remove what it remembers, its options, user and group too"
    )
    parser.set_defaults(run=command(_uninstall))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; do nothing")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="work on the files of another system below DIR; nothing is started or stopped",
    )
    add_yes_argument(parser)


async def _install(arguments: argparse.Namespace) -> int:
    machine = Machine(arguments.root.resolve())
    plan = _planned(lambda: plan_install(machine, _policy, force=arguments.force, dry_run=arguments.dry_run))
    if not plan.steps:
        print(f"mk2dbus {__version__} is installed already: nothing to do")
        return DONE
    if not await _carry_out(plan, arguments):
        return DONE
    if not machine.live:
        print(f"mk2dbus {__version__} is installed below {machine.root}")
        return DONE
    return await _report(plan.instances)


async def _uninstall(arguments: argparse.Namespace) -> int:
    machine = Machine(arguments.root.resolve())
    plan = _planned(lambda: plan_uninstall(machine, purge=arguments.purge, dry_run=arguments.dry_run))
    if not plan.steps:
        print("mk2dbus is not installed here: nothing to do")
        return DONE
    if await _carry_out(plan, arguments):
        print("mk2dbus is uninstalled")
    return DONE


def _planned(make: Any) -> Plan:
    try:
        plan: Plan = make()
    except InstallError as error:
        raise Stop(str(error)) from error
    return plan


async def _carry_out(plan: Plan, arguments: argparse.Namespace) -> bool:
    """Show, ask, do; whether it was done."""
    for note in plan.notes:
        print(f"note: {note}")
    shown = arguments.dry_run or asks(arguments.yes)
    if shown:
        print("\n".join(f"  {step.describe()}" for step in plan.steps if step.describe()))
    if arguments.dry_run:
        print("nothing was done")
        return False
    if shown and not await confirmed("Do this?"):
        print("nothing was done")
        return False
    try:
        # In a thread: some steps wait for commands, and one asks the bus.
        await asyncio.to_thread(carry_out, plan.steps, _quiet if shown else print)
    except InstallError as error:
        raise Stop(str(error)) from error
    return True


def _quiet(line: str) -> None:
    """For what was shown before."""


def _policy() -> str | None:
    return asyncio.run(policy_missing())


async def _report(instances: Sequence[str]) -> int:
    """Say what runs; the exit code."""
    print(f"mk2dbus {__version__} is installed; the bus has its policy")
    if not instances:
        print(
            "no adapter is plugged in; the service starts when one is (a serial MK2: "
            "systemctl enable --now mk2dbus@ttyUSB0)"
        )
        return DONE
    failed = []
    for instance, name in (await running(instances)).items():
        if name is None:
            failed.append(instance)
        else:
            print(f"mk2dbus@{instance} runs and owns {name}")
    if failed:
        units = ", ".join(f"mk2dbus@{instance}" for instance in failed)
        return complain(f"{units} does not own a name yet; mk2dbus doctor and journalctl -u say why", FAILED)
    print("to write, be root or in the group vebus: adduser USER vebus, and log in again")
    return DONE
