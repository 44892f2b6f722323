"""Who is on the VE.Bus."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import GetConfiguration
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.infocache import InfoCache

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Roster:
    """The devices of a system.

    Attributes:
        devices: those that answer, in the order of their addresses: always the same list.
        present: bitmap of the short addresses that the devices see on the bus.
    """

    devices: list[Device]
    present: int

    @property
    def known(self) -> int:
        """Bitmap of the devices that answer."""
        return sum(1 << device.address for device in self.devices)

    @property
    def alone(self) -> bool:
        """Whether the bus has one device, whatever is known of it."""
        return self.present.bit_count() == 1

    @property
    def complete(self) -> bool:
        """Whether all who are on the bus answer: else what is added up over the devices is not the whole."""
        return not self.present & ~self.known

    def change(self, devices: Iterable[Device], present: int) -> None:
        """Other devices are there than before."""
        self.devices[:] = sorted(devices, key=lambda device: device.address)
        self.present = present


def addresses_in(present: int) -> list[int]:
    """Short addresses in a bitmap."""
    return [address for address in range(present.bit_length()) if present >> address & 1]


async def find_device(link: Link, address: int, cache: InfoCache, unique: int | None = None) -> Device | None:
    """The device at an address; ``None`` when what is there does not say who it is.

    ``unique``: its unique number, if that was told already.
    """
    device = Device(link, address)
    try:
        await device.identify()
    except (errors.NoReply, errors.Rejected) as error:
        log.warning("device %d is listed but not usable: %s", address, error)
        return None
    device.remember(cache.load(device.version, device.is_new))
    device.unique = unique
    if device.serial is None and unique is None:
        # Nothing else tells it from another one of its kind.
        try:
            ask = partial(link.request, GetConfiguration(address))
            device.unique = (await confirmed(link, ask)).unique_number
        except errors.NoReply as error:
            log.info("%s does not tell its number yet: %s", device, error)
    return device
