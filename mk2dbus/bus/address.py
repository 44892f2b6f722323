"""Where a bus is: the addresses of the D-Bus specification, "Server Addresses"."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import unquote_to_bytes

from .errors import BusUnreachable

SYSTEM, SESSION = "system", "session"

_SYSTEM_DEFAULT = "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket"

SocketAddress = bytes | tuple[str, int]


def resolve(bus: str) -> str:
    """The address of ``system`` or ``session``; anything else is an address already.

    Raises:
        BusUnreachable: no session bus is known here.
    """
    if bus == SYSTEM:
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_DEFAULT
    if bus != SESSION:
        return bus
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    if address:
        return address
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime, "bus").exists():
        return f"unix:path={runtime}/bus"
    raise BusUnreachable("there is no session bus here: DBUS_SESSION_BUS_ADDRESS is not set")


def candidates(address: str) -> list[tuple[socket.AddressFamily, SocketAddress]]:
    """The sockets that an address names, in the order to try them.

    Raises:
        BusUnreachable: it is no address, or of a kind that is not known here.
    """
    found: list[tuple[socket.AddressFamily, SocketAddress]] = []
    for entry in filter(None, address.split(";")):
        transport, colon, options_text = entry.partition(":")
        options = {}
        for pair in filter(None, options_text.split(",")):
            key, _, value = pair.partition("=")
            options[key] = unquote_to_bytes(value)
        match transport, options:
            case "unix", {"path": path}:
                found.append((socket.AF_UNIX, path))
            case "unix", {"abstract": name}:
                found.append((socket.AF_UNIX, b"\0" + name))
            case "tcp", {"host": host, "port": port} if port.isdigit():
                family = socket.AF_INET6 if options.get("family") == b"ipv6" else socket.AF_INET
                found.append((family, (host.decode(), int(port))))
            case _ if colon and transport in ("unix", "tcp"):
                raise BusUnreachable(f"{entry!r} names no socket: unix:path=… or tcp:host=…,port=… is needed")
            case _:
                raise BusUnreachable(
                    f"{entry!r} is no bus: use system, session or an address like unix:path=…"
                )
    if not found:
        raise BusUnreachable("the address of the bus is empty")
    return found
