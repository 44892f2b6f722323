"""The bus: reachable, its policy in force, and the services of inverters on it as they see themselves."""

from __future__ import annotations

import grp
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from mk2dbus.bus.client import Client, Shown
from mk2dbus.bus.errors import BusError
from mk2dbus.install.checks import bus_unfit, owners, policy_missing
from mk2dbus.install.layout import GROUP, LOCAL_COMMAND, POLICY, UNIT

from .findings import Finding, fail, note, ok

_CONNECTION = "/Interfaces/Mk2/Connection"
INSTALL = "sudo mk2dbus install"


@dataclass(frozen=True, slots=True)
class Service:
    """A service of an inverter on the bus."""

    name: str
    pid: int
    program: str
    version: str
    port: str
    """The port that it uses; empty when it does not say."""
    connected: bool
    product: str
    firmware: int | None


async def find_services(bus: str) -> list[Service]:
    """All of them, asked over the bus.

    Raises:
        BusError: no bus.
    """
    found = []
    for name, pid in (await owners(bus)).items():
        try:
            client = await Client.open(bus, name)
        except BusError:
            continue  # it went meanwhile
        try:
            items = await client.paths_and_values()
        except BusError:
            items = {}
        finally:
            client.close()
        found.append(_service(name, pid, {path: value for path, (value, _) in items.items()}))
    return found


def _service(name: str, pid: int, values: dict[str, Shown]) -> Service:
    firmware = values.get("/FirmwareVersion")
    return Service(
        name=name,
        pid=pid,
        program=str(values.get("/Mgmt/ProcessName") or "a program that does not answer"),
        version=str(values.get("/Mgmt/ProcessVersion") or ""),
        port=str(values.get(_CONNECTION) or ""),
        connected=values.get("/Connected") == 1,
        product=str(values.get("/ProductName") or ""),
        firmware=firmware if isinstance(firmware, int) else None,
    )


def examine_services(services: list[Service]) -> Iterator[Finding]:
    """How each is."""
    for service in services:
        program = f"{service.program} {service.version}".strip()
        where = f" at {service.port}" if service.port else ""
        if service.connected:
            firmware = "" if service.firmware is None else f", firmware {service.firmware:03X}"
            yield ok("service", f"{service.name} ({program}){where}: {service.product}{firmware}")
        else:
            yield fail(
                "service",
                f"{service.name} ({program}){where} has no connection to the inverter",
                "the adapter has power only while the inverter is awake: switch the inverter on, check the "
                "VE.Bus cable; journalctl -u 'mk2dbus@*' has what the service saw",
            )


async def examine_policy(bus: str, services: list[Service], root: Path = Path("/")) -> AsyncIterator[Finding]:
    """Whether the service may own its name, and who may write."""
    if bus != "system":
        return
    unfit = bus_unfit()
    if unfit is not None:
        yield fail("bus", unfit, "use dbus-daemon (package dbus) as the system bus, and restart the machine")
    file = next((root / place for place in (POLICY.local, POLICY.packaged) if (root / place).exists()), None)
    if file is None:
        yield fail("policy", "the D-Bus policy of mk2dbus is not installed", INSTALL)
        return
    if file.read_bytes() != POLICY.content():
        yield note("policy", f"{file} is not the one of this version of mk2dbus", _renewal(root))
    if os.geteuid() == 0:
        missing = await policy_missing(bus)
        if missing is not None:
            yield fail("policy", missing, "systemctl reload dbus")
            return
        yield ok("policy", f"{file} is in force")
    else:
        yield ok("policy", f"{file} is there" + (", and a service has its name" if services else ""))
        if not _may_write():
            yield note(
                "policy",
                f"you may read, but not write: you are not in the group {GROUP}",
                f"sudo adduser {_user()} {GROUP}, and log in again",
            )


def examine_installations(root: Path = Path("/")) -> Iterator[Finding]:
    """Whether there is one of ``mk2dbus install`` beside that of a package."""
    local, packaged = root / UNIT.local, root / UNIT.packaged
    if local.exists() and packaged.exists():
        yield note(
            "unit",
            f"{local} of `mk2dbus install` is used, not {packaged} of the package",
            f"to use the package: sudo /{LOCAL_COMMAND} uninstall",
        )


def _renewal(root: Path) -> str:
    """What brings the policy of this version."""
    return "sudo apt install ./mk2dbus_*_all.deb" if (root / UNIT.packaged).exists() else INSTALL


def _may_write() -> bool:
    try:
        return grp.getgrnam(GROUP).gr_gid in {os.getgid(), *os.getgroups()}
    except KeyError:
        return False


def _user() -> str:
    return os.environ.get("USER") or "USER"
