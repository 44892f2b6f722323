"""Adapters that are plugged in, as the kernel tells them in /sys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FTDI = "0403"
KINDS = {"MK3-USB_Interface": "mk3", "MK2USB_COM_Interface": "mk2"}
"""Product name → kind, which is the folder below /dev with stable names; as in 70-mk2dbus.rules."""

_UNSAFE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A USB serial port: an MK2 or MK3, or something else."""

    port: str
    """Name below /dev: ttyUSB0."""
    vendor: str
    product_id: str
    product: str
    """As it names itself, with _ for blanks; empty where it does not."""
    serial: str

    @property
    def kind(self) -> str | None:
        """``mk3``, ``mk2``, ``None`` for what is no adapter, or cannot be told to be one."""
        return KINDS.get(self.product) if self.vendor == FTDI else None

    @property
    def stable_name(self) -> str | None:
        """Name below /dev that stays when the number of the port changes: mk3/HQ2132ABCDE."""
        return f"{self.kind}/{self.serial}" if self.kind and self.serial else None

    def instance(self, root: Path = Path("/")) -> str:
        """The instance of mk2dbus@.service that udev starts: by serial number where options are for that."""
        if self.stable_name is not None:
            stable = self.stable_name.replace("/", "-")
            if (root / "etc/mk2dbus" / f"{stable}.conf").exists():
                return stable
        return self.port

    def __str__(self) -> str:
        what = self.product or f"{self.vendor}:{self.product_id}"
        return f"/dev/{self.port} ({what}, {self.serial or 'no serial number'})"


def serial_ports(root: Path = Path("/")) -> list[Adapter]:
    """All USB serial ports, in order of their names."""
    found = []
    for entry in sorted((root / "sys/class/tty").glob("tty*")):
        device = _usb_device(entry / "device")
        if device is not None:
            found.append(
                Adapter(
                    port=entry.name,
                    vendor=_text(device / "idVendor"),
                    product_id=_text(device / "idProduct"),
                    product=_UNSAFE.sub("_", _text(device / "product")),
                    serial=_text(device / "serial"),
                )
            )
    return found


def adapters(root: Path = Path("/")) -> list[Adapter]:
    """Those that are an MK2 or MK3 for certain."""
    return [port for port in serial_ports(root) if port.kind is not None]


def _usb_device(device: Path) -> Path | None:
    """The USB device that a port is on: some folders above the port."""
    if not device.exists():
        return None
    place = device.resolve()
    return next((folder for folder in (place, *place.parents) if (folder / "idVendor").is_file()), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
