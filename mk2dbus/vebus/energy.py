"""Energy of the system: the rolling counters of all devices, added up (mk2-protocol.md §4.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import GetConfiguration
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import GetEnergyCounters
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.counters import Jump, kilowatt_hours
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.energybook import SYSTEM, EnergyBook
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.plausible import check_configuration
from mk2dbus.vebus.power import reports_power
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Implausible, Lane, Poll, Scheduler

log = logging.getLogger(__name__)

FLOWS = (
    "AcIn1ToInverter",
    "AcIn2ToInverter",
    "AcIn1ToAcOut",
    "AcIn2ToAcOut",
    "InverterToAcIn1",
    "InverterToAcIn2",
    "AcOutToAcIn1",
    "AcOutToAcIn2",
    "InverterToAcOut",
    "OutToInverter",
)
"""What the ten counters count, in their order."""
MODULUS = 0x100

EACH_DEVICE_S = 10.0
"""How often each device is asked. The fastest counter needs 512 s for a whole turn."""
SHORTEST_S, RELAXED_FACTOR = 1.0, 2.0
"""Between two readings, however many devices there are; and what is enough while the line is needed."""
STALE_AFTER_S = 60.0
"""Totals are no momentary values; but when no device tells its counters any more, they are not known."""

_POLL = "energy"


async def identify(link: Link, device: Device) -> str:
    """What tells this very device, with this firmware, at this place, from all others.

    Raises:
        NoReply: it did not tell its number.
        Implausible: another device answered.
    """
    if device.serial is None and device.unique is None:
        configuration = await confirmed(link, partial(link.request, GetConfiguration(device.address)))
        check_configuration(configuration)
        if configuration.address != device.address:
            raise Implausible(f"device {configuration.address} told its number instead of {device}")
        device.unique = configuration.unique_number
    return f"{device.address} {device.serial or f'{device.unique:08x}'} {device.version}"


class Energy(Part):
    """Reads the counters of one device after the other, and shows what all have counted.

    Args:
        devices: as for :class:`mk2dbus.vebus.telemetry.Telemetry`.
        book: adds up; outlives the system.
        see_reset: called when a device that was found turns out to have been reset while it was away.
    """

    def __init__(
        self,
        link: Link,
        devices: Sequence[Device],
        scheduler: Scheduler,
        book: EnergyBook,
        see_reset: Callable[[Device], None],
    ) -> None:
        self._link = link
        self._devices = devices
        self._scheduler = scheduler
        self._book = book
        self._see_reset = see_reset
        self._poll: Poll | None = None
        self._next = 0
        self._read: set[Device] = set()
        """Devices that were read since they were found."""
        self._without: set[Device] = set()
        """Devices that do not count energy."""

    def start(self) -> None:
        self.devices_changed()

    def devices_changed(self) -> None:
        self._read.intersection_update(self._devices)
        self._without.intersection_update(self._devices)
        if self._without or not all(map(reports_power, self._devices)):
            # What one of them does not tell, or not truly, is missing in every sum.
            self._scheduler.remove(_POLL)
            self._poll = None
            return
        every = max(EACH_DEVICE_S / len(self._devices), SHORTEST_S)
        if self._poll is None:
            self._poll = Poll(_POLL, Lane.WINMON, every, self._read_next, stale_after_s=STALE_AFTER_S)
            self._scheduler.add([self._poll])
        self._poll.every_s, self._poll.relaxed_s = every, RELAXED_FACTOR * every

    async def _read_next(self) -> Values:
        device = self._devices[self._next % len(self._devices)]
        self._next = self._next % len(self._devices) + 1
        source = await identify(self._link, device)
        try:
            counters = await device.request(GetEnergyCounters())
        except errors.NotSupported:
            log.info("%s does not count energy", device)
            self._without.add(device)
            self.devices_changed()
            return {}
        if device not in self._devices:
            return {}
        account, found_anew = f"device {source}", device not in self._read
        was_reset = found_anew and self._book.began_anew(account, counters)
        try:
            totals = self._book.count(SYSTEM, account, counters, MODULUS, found_anew=found_anew)
        except Jump as jump:
            raise Implausible(f"energy counters of {device}: {jump}") from jump
        self._read.add(device)
        if was_reset:
            self._see_reset(device)
        self._book.save_at_times()
        return {f"/Energy/{flow}": kilowatt_hours(steps) for flow, steps in zip(FLOWS, totals, strict=True)}
