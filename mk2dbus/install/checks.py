"""Whether it came to what it should: the policy is loaded, the units run, the names are owned."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mk2dbus.bus import names
from mk2dbus.bus.connection import Connection
from mk2dbus.bus.errors import BusError, NameRefused, NameTaken

START_LIMIT_S = 10.0
"""For an instance to own its name; it takes less than 3 s."""

INSTANCES = "mk2dbus@*.service"
"""The units of all instances, for systemctl."""

SLICE = "system-mk2dbus.slice"
"""What systemd puts the instances into; without them it stays loaded."""

_POLL_S = 0.2
_PROBE = names.SERVICE_PREFIX.rstrip(".")
"""A name that the policy gives us and under which nobody looks for a service."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of systemd, as ``systemctl show`` tells it."""

    name: str
    state: str
    """active, activating, inactive, failed…"""
    pid: int
    result: str
    installed: bool = True
    """Whether systemd has its file."""


async def policy_missing(bus: str = "system") -> str | None:
    """Why root cannot own our names, or ``None`` when the policy is loaded. To be called as root."""
    try:
        connection = await Connection.open(bus)
    except BusError as error:
        return str(error)
    try:
        await connection.request_name(_PROBE)
        await connection.release_name(_PROBE)
    except NameTaken:
        return None  # so somebody may
    except NameRefused:
        return "the bus does not apply the policy: did it say why in its log (journalctl -u dbus)?"
    except BusError as error:
        return str(error)
    finally:
        connection.close()
    return None


def bus_unfit() -> str | None:
    """Why the program that is the system bus cannot apply the policy, or ``None``."""
    if "dbus-broker.service" not in _systemctl("show", "--property=Id", "dbus.service"):
        return None
    return (
        "the system bus is dbus-broker, which does not know send_destination_prefix: with the policy nobody "
        "may write, and reading is open beyond the inverter"
    )


async def owners(bus: str = "system") -> dict[str, int]:
    """Services of inverters on the bus: name → process.

    Raises:
        BusError: no bus, or it went away.
    """
    connection = await Connection.open(bus)
    try:
        (on_bus,) = await connection.call_daemon("ListNames")
        found = {}
        for name in sorted(name for name in on_bus if name.startswith(names.SERVICE_PREFIX)):
            (pid,) = await connection.call_daemon("GetConnectionUnixProcessID", "s", [name])
            found[name] = int(pid)
        return found
    finally:
        connection.close()


def unit(name: str) -> Unit:
    """How a unit is."""
    shown = _show(name)
    return Unit(
        name,
        shown.get("ActiveState", "unknown"),
        int(shown.get("MainPID") or 0),
        shown.get("Result", ""),
        shown.get("LoadState") != "not-found",
    )


async def running(instances: Sequence[str], bus: str = "system") -> dict[str, str | None]:
    """The name that each instance owns, waiting for it a while; ``None`` for one that owns none."""
    until = time.monotonic() + START_LIMIT_S
    while True:
        pids = {instance: unit(f"mk2dbus@{instance}.service").pid for instance in instances}
        owned = {pid: name for name, pid in (await owners(bus)).items()}
        found = {instance: owned.get(pid) for instance, pid in pids.items()}
        if None not in found.values() or time.monotonic() >= until:
            return found
        await asyncio.sleep(_POLL_S)


def units() -> list[str]:
    """The units of ours that systemd has loaded: running, failed or waiting."""
    listed = _systemctl("list-units", "--all", "--plain", "--no-legend", INSTANCES)
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def _show(name: str) -> Mapping[str, str]:
    shown = _systemctl("show", "--property=LoadState,ActiveState,MainPID,Result", name)
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _systemctl(*words: str) -> str:
    """What it says; nothing where it is not there, or does not answer."""
    try:
        return subprocess.run(
            ("systemctl", *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
