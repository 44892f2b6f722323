"""org.freedesktop.DBus.Peer: answered on every path, whether there is an object or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ErrorReply
from .interfaces import Answer, Interface, Method, Target
from .library import encode
from .names import FAILED, PEER
from .wire import NOTHING, Body

_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def _ping(_target: Target, _: list[Any]) -> Answer:
    return NOTHING


def _get_machine_id(_target: Target, _: list[Any]) -> Answer:
    for file in _MACHINE_ID_FILES:
        try:
            machine_id = file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if machine_id:
            return Body("s", encode("s", [machine_id]))
    raise ErrorReply(FAILED, "this machine has no machine id")


STANDARD_PEER = Interface(
    PEER,
    (
        Method("Ping", _ping),
        Method("GetMachineId", _get_machine_id, gives=(("machine_uuid", "s"),)),
    ),
)
