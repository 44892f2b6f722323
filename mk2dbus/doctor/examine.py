"""All looks in order. Each later one depends on what the ones before found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from mk2dbus.bus.errors import BusError
from mk2dbus.host.adapters import adapters
from mk2dbus.host.processes import Process
from mk2dbus.install.checks import Unit, unit, units

from .findings import Finding, Level, fail, note, ok
from .line import examine_line
from .ports import (
    examine_competitors,
    examine_port,
    examine_users,
    find_ports,
    is_device,
    not_serial,
    same_port,
    users,
)
from .services import INSTALL, Service, examine_installations, examine_policy, examine_services, find_services


async def examine(tty: str | None, bus: str, root: Path = Path("/")) -> AsyncIterator[Finding]:
    """Look at everything, at one port or at all with an adapter."""
    services: list[Service] = []
    try:
        services = await find_services(bus)
    except BusError as error:
        yield fail("bus", str(error), "is D-Bus running? systemctl status dbus; another bus: --bus")
    else:
        yield ok("bus", f"reachable, {len(services)} service(s) of inverters on it")
        async for finding in examine_policy(bus, services, root):
            yield finding
    for finding in examine_services(services):
        yield finding

    if tty is None:
        ports, findings = find_ports(root)
        served = [service.port for service in services if service.port]
        # A plain serial port is no adapter that can be seen, but a service that uses one knows.
        if ports or not served:
            for finding in findings:
                yield finding
    else:
        ports = [tty]
    in_the_way: list[Process] = []
    for port in ports:
        async for finding in _examine_port(port, services, in_the_way):
            yield finding
    for finding in examine_competitors(in_the_way, root):
        yield finding
    if bus == "system" and (root / "run/systemd/system").is_dir():
        for finding in examine_installations(root):
            yield finding
        for name in _expected_units(tty, root):
            yield _examine_unit(unit(name))


def _expected_units(tty: str | None, root: Path) -> list[str]:
    """The units that should run: for the adapters that are plugged in, and those that somebody started."""
    plugged = {
        f"mk2dbus@{adapter.instance(root)}.service": f"/dev/{adapter.port}" for adapter in adapters(root)
    }
    if tty is not None:
        return [name for name, port in plugged.items() if port == tty]
    return [*plugged, *(name for name in units() if name not in plugged)]


async def _examine_port(
    port: str, services: list[Service], in_the_way: list[Process]
) -> AsyncIterator[Finding]:
    served = next((service.name for service in services if same_port(service.port, port)), None)
    usable = True
    for finding in examine_port(port):
        usable = finding.level is Level.OK
        # Whether we may is of no matter where the service does.
        if usable or served is None:
            yield finding
    if not is_device(port):
        return
    who = users(port)
    in_the_way += who.processes
    for finding in examine_users(port, who, [service.pid for service in services]):
        yield finding
    if served is not None and not who.processes:
        yield ok("port", f"{port} is used by {served}")
    if who.processes or not usable or served is not None:
        return
    if not who.complete:
        yield note(
            "port",
            f"whether another user's program uses {port} cannot be seen, so it is left alone",
            "to have the adapter asked: sudo mk2dbus doctor",
        )
        return
    refused = not_serial(port)
    if refused is not None:
        yield refused
        return
    async for finding in examine_line(port):
        yield finding


def _examine_unit(found: Unit) -> Finding:
    if not found.installed:
        return fail("unit", f"{found.name} is not installed: nothing starts the service", INSTALL)
    match found.state:
        case "active":
            return ok("unit", f"{found.name} runs")
        case "unknown":
            return note("unit", "systemctl does not answer")
        case "inactive":
            return fail(
                "unit",
                f"{found.name} does not run",
                f"sudo systemctl start {found.name}; plugging the adapter out and in starts it, too",
            )
        case state:
            return fail(
                "unit", f"{found.name} is {state} ({found.result})", f"journalctl -u {found.name} says why"
            )
