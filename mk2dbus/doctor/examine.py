"""All looks in order. Each later one depends on what the ones before found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from mk2dbus.bus.errors import BusError
from mk2dbus.host.adapters import Adapter, adapters
from mk2dbus.host.processes import Process
from mk2dbus.install.checks import Unit, unit

from .findings import Finding, fail, note, ok
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
from .services import Service, examine_policy, examine_services, find_services


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
        for adapter in adapters(root):
            if tty is None or tty == f"/dev/{adapter.port}":
                yield _examine_unit(adapter, unit(f"mk2dbus@{adapter.instance(root)}.service"))


async def _examine_port(
    port: str, services: list[Service], in_the_way: list[Process]
) -> AsyncIterator[Finding]:
    usable = True
    for finding in examine_port(port):
        usable = finding.level.value == "ok"
        yield finding
    if not is_device(port):
        return
    who = users(port)
    in_the_way += who.processes
    for finding in examine_users(port, who, [service.pid for service in services]):
        yield finding
    if who.processes or not usable:
        return
    if any(same_port(service.port, port) for service in services):
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


def _examine_unit(adapter: Adapter, found: Unit) -> Finding:
    match found.state:
        case "active":
            return ok("unit", f"{found.name} runs")
        case "unknown":
            return note("unit", "systemctl does not answer")
        case "inactive":
            return fail(
                "unit", f"{found.name} does not run", f"systemctl start {found.name}; sudo mk2dbus install"
            )
        case state:
            return fail(
                "unit", f"{found.name} is {state} ({found.result})", f"journalctl -u {found.name} says why"
            )
