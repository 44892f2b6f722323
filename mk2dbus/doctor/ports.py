"""The serial port: there, a serial port, permitted, and not taken by another program."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mk2dbus.host.adapters import adapters, serial_ports
from mk2dbus.host.processes import PROC, Process, Users, processes, users_of

from .findings import Finding, fail, note, ok

PROGRAM = "mk2dbus"
RULES = "70-mk2dbus.rules"


@dataclass(frozen=True, slots=True)
class Competitor:
    """A program known to take or try serial ports."""

    name: str
    does: str
    advice: str
    kept_off: bool = False
    """The udev rules of mk2dbus keep it from our adapters."""


_VENUS = "on Venus OS, the setup script of mk2dbus takes the port from it"
COMPETITORS = (
    Competitor(
        "ModemManager",
        "tries modem commands on serial ports",
        "plug the adapter out and in once mk2dbus is installed (its udev rules keep ModemManager off), or: "
        "systemctl disable --now ModemManager",
        kept_off=True,
    ),
    Competitor("brltty", "takes USB serial ports for Braille displays", "apt remove brltty"),
    Competitor("serial-starter.sh", "starts Victron's own drivers on serial ports", _VENUS),
    Competitor("mk2-dbus", "is Victron's own driver for the same adapters", _VENUS),
    Competitor(
        "mk2vsc", "is Victron's remote configuration, and uses the adapter while it runs", "wait for its end"
    ),
    Competitor("gpsd", "tries serial ports for GPS receivers", "set DEVICES in /etc/default/gpsd"),
)


def find_ports(root: Path = Path("/")) -> tuple[list[str], list[Finding]]:
    """Ports with an adapter, and what to say about that."""
    found = adapters(root)
    if found:
        return [f"/dev/{adapter.port}" for adapter in found], [
            ok("adapter", str(adapter)) for adapter in found
        ]
    others = serial_ports(root)
    if others:
        return [], [
            fail(
                "adapter",
                f"no MK2 or MK3 is plugged in, as far as can be told; there is {', '.join(map(str, others))}",
                f"if one of these is the adapter: mk2dbus doctor --tty /dev/{others[0].port}",
            )
        ]
    return [], [
        fail(
            "adapter",
            "no USB serial port is there",
            "plug the MK3-USB in (dmesg shows whether it is seen); for a plain serial port: "
            "mk2dbus doctor --tty /dev/ttyS0",
        )
    ]


def examine_port(path: str) -> Iterator[Finding]:
    """Whether there is a serial port that we may use."""
    port = Path(path)
    if not port.exists():
        yield fail("port", f"{path} does not exist", "ls /dev/serial/by-id/ lists USB serial ports")
        return
    if not port.is_char_device():
        yield fail("port", f"{path} is not a serial port", "ls /dev/serial/by-id/ lists USB serial ports")
        return
    if not os.access(port, os.R_OK | os.W_OK):
        group = _group(port)
        yield note(
            "permission",
            f"you may not use {path}; it belongs to the group {group}",
            "the service may, when mk2dbus is installed; to look further: sudo mk2dbus doctor",
        )
        return
    yield ok("permission", f"{path} can be read and written")


def not_serial(path: str) -> Finding | None:
    """For a device that nobody uses and that we may open: whether it is no serial port at all."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        return fail("port", f"{path} cannot be opened: {error.strerror}", "plug the adapter out and in")
    try:
        termios.tcgetattr(descriptor)
    except termios.error:
        return fail("port", f"{path} is not a serial port", "ls /dev/serial/by-id/ lists USB serial ports")
    finally:
        os.close(descriptor)
    return None


def examine_users(path: str, users: Users, services: Sequence[int]) -> Iterator[Finding]:
    """Who uses the port; ``services`` are the processes that own names of inverters."""
    for process in users.processes:
        if process.pid in services:
            yield ok("port", f"{path} is used by the service on the bus, {process}")
        elif process.name == PROGRAM:
            yield fail(
                "port",
                f"{path} is used by a {process} that is not on this bus",
                f"stop it (kill {process.pid}), or look at its bus with --bus",
            )
        else:
            known = next((known for known in COMPETITORS if known.name == process.name), None)
            does = f", which {known.does}" if known else ""
            advice = known.advice if known else f"stop it (kill {process.pid})"
            yield fail("port", f"{path} is used by {process}{does}", advice)
    if not users.processes and users.complete:
        yield ok("port", f"no program uses {path}")


def examine_competitors(
    in_the_way: Sequence[Process], root: Path = Path("/"), proc: Path = PROC
) -> Iterator[Finding]:
    """Programs that run and may take the port one day; those ``in_the_way`` already were said before."""
    running = {process.name: process for process in processes(proc)}
    rules = any((root / folder / RULES).exists() for folder in ("etc/udev/rules.d", "usr/lib/udev/rules.d"))
    for known in COMPETITORS:
        process = running.get(known.name)
        if process is None or process in in_the_way or (known.kept_off and rules):
            continue
        yield note("other programs", f"{process} runs, which {known.does}", known.advice)


def users(path: str, proc: Path = PROC) -> Users:
    """The processes that have a port open."""
    return users_of(Path(path), proc)


def is_device(path: str) -> bool:
    """Whether a path is what a serial port could be."""
    return Path(path).is_char_device()


def same_port(one: str, other: str) -> bool:
    """Whether two paths are names of one port."""
    return bool(one) and Path(one).resolve() == Path(other).resolve()


def _group(port: Path) -> str:
    try:
        return port.group()
    except (KeyError, OSError):
        return "of its own"
