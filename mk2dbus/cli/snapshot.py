"""What a service has now, in the form of a backup: complete, or not at all."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mk2dbus import __version__
from mk2dbus.bus.client import Client, ItemView, Shown
from mk2dbus.bus.names import DEVICES
from mk2dbus.vebus.tables import product_name

from .archive import Archive, Saved, SavedDevice
from .common import Stop, in_order
from .listing import is_flag

WAIT_S = 20.0
"""How long to wait for the service without any progress; at 2400 baud it reads several settings a second."""

_POLL_S = 0.25

_READ_PROGRESS = "ReadProgress"
RESET_REQUIRED = "ResetRequired"

# Not settings, or twice there: the flags of a word and the flag behind the other name are saved one by one.
_LEFT_OUT = re.compile(rf"{_READ_PROGRESS}|{RESET_REQUIRED}|UpsFunction|FlagsWord\d")

_DEVICE = re.compile(rf"{DEVICES}/(\d+)/")

Items = Mapping[str, tuple[Shown, str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All settings and flags of all devices, and how the service shows each, by path."""

    archive: Archive
    views: Mapping[str, ItemView]


def setting_path(device: int, name: str) -> str:
    return f"{DEVICES}/{device}/Settings/{name}"


async def snapshot(client: Client, wait_s: float) -> Snapshot:
    """Wait until the service has read all settings, then take them.

    Raises:
        Stop: it has not, and got no further for ``wait_s``; or a device went meanwhile.
    """
    items = await _read_completely(client, wait_s)
    prefixes = tuple(setting_path(number, "") for number in _devices(items))
    paths = sorted((path for path in items if path.startswith(prefixes)), key=in_order)
    views = {view.path: view for view in await client.views(paths)}
    # All values at one instant, at which the devices were still there.
    items = await client.paths_and_values()
    reason = _unready(items)
    if reason is not None:
        raise Stop(reason)
    devices = tuple(_device(number, items, views) for number in _devices(items))
    archive = Archive(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        service=client.service,
        devices=devices,
    )
    return Snapshot(archive, views)


async def _read_completely(client: Client, wait_s: float) -> Items:
    loop = asyncio.get_running_loop()
    before, deadline = None, 0.0
    show = sys.stderr.isatty()
    while True:
        items = await client.paths_and_values()
        reason = _unready(items)
        if reason != before:
            before, deadline = reason, loop.time() + wait_s
            if show:
                print(f"\r\x1b[K{reason or ''}", end="", file=sys.stderr, flush=True)
        if reason is None:
            return items
        if loop.time() >= deadline:
            if show:
                print(file=sys.stderr)
            raise Stop(f"{reason}, and nothing happened for {wait_s:g} s")
        await asyncio.sleep(_POLL_S)


def _devices(items: Items) -> Sequence[int]:
    return sorted({int(found[1]) for path in items if (found := _DEVICE.match(path))})


def _unready(items: Items) -> str | None:
    """Why a snapshot would not be complete; ``None`` when it would."""
    if "/Connected" in items and items["/Connected"][0] != 1:
        return "the inverter is not connected"
    devices = _devices(items)
    expected = items.get(f"{DEVICES}/NumberOfMultis", (None, ""))[0]
    if isinstance(expected, int) and len(devices) < expected:
        return f"{len(devices)} of {expected} devices are found so far"
    if not devices:
        return "the service shows no device"
    for device in devices:
        progress = items.get(setting_path(device, _READ_PROGRESS), (None, ""))[0]
        if progress != 100:
            return (
                f"{0 if progress is None else progress}% of the settings of device {device} are read so far"
            )
    return None


def _device(number: int, items: Items, views: Mapping[str, ItemView]) -> SavedDevice:
    folder = f"{DEVICES}/{number}"

    def value(name: str) -> Shown:
        return items.get(f"{folder}/{name}", (None, ""))[0]

    groups: dict[str, dict[str, Saved]] = {"settings": {}, "flags": {}, "read_only": {}}
    unknown = []
    for path, view in views.items():
        name = path.rpartition("/")[2]
        if path != setting_path(number, name) or _LEFT_OUT.fullmatch(name) or path not in items:
            continue
        now, text = items[path]
        if not isinstance(now, (int, float)):
            unknown.append(name)
            continue
        group = "read_only" if not view.writable else "flags" if is_flag(view) else "settings"
        groups[group][name] = Saved(
            value=now,
            unit=view.unit,
            text=text if isinstance(now, int) and text != f"{now}{view.unit}" else "",
            default=view.default if isinstance(view.default, (int, float)) else None,
        )
    product_id, firmware, serial = value("ProductId"), value("FirmwareVersion"), value("SerialNumber")
    return SavedDevice(
        number=number,
        product_id=product_id if isinstance(product_id, int) else None,
        product=product_name(product_id) if isinstance(product_id, int) else "",
        firmware=firmware if isinstance(firmware, int) else None,
        serial=serial if isinstance(serial, str) else "",
        unknown=tuple(unknown),
        **groups,
    )
