"""AC current sensors of the assistants (mk2-protocol.md §4.6).

They are numbered through all devices, as Victron's clients expect it: they look at ``/AcSensor/Count`` once
it is known, and then at each sensor, whose phase counts from 0 for L1.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mk2dbus.mk2 import errors
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.assistants import CURRENT_SENSOR, Assistant, of_kind
from mk2dbus.vebus.counters import Jump, kilowatt_hours
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.energy import identify
from mk2dbus.vebus.energybook import EnergyBook
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.paths import SENSORS
from mk2dbus.vebus.power import PHASES
from mk2dbus.vebus.readings import INVERTER_VOLTAGE, MAINS_VOLTAGE, Values, volts
from mk2dbus.vebus.schedule import Lane, Poll, Scheduler

log = logging.getLogger(__name__)

POLL_S, RELAXED_POLL_S = 2.0, 3.0
MODULUS = 0x10000
"""Of the energy counter; a step is that of the devices."""

_WORDS = 4
_LOCATION_MASK, _PHASE_SHIFT, _PHASE_MASK = 0x1F, 5, 0x03
_OUTPUT = 1
_LOCATIONS = range(3)
"""AC input 1, output, AC input 2."""
_STEPS_PER_A = 100
_TELLING_STEPS = 100
"""From 1 A on, power and current tell the voltage well enough."""
_POLL = "sensors"


@dataclass(slots=True, eq=False)
class _Sensor:
    """A sensor of a device."""

    device: Device
    assistant: Assistant
    source: str | None = None
    """What tells its energy counter from all others."""
    flags: int = 0
    energy_kwh: float | None = None

    @property
    def words(self) -> tuple[int, int, int]:
        """RAM ids of current, power and energy."""
        current, power, energy = self.assistant.words[1:_WORDS]
        return current, power, energy

    @property
    def location(self) -> int | None:
        found = self.flags & _LOCATION_MASK
        return found if found in _LOCATIONS else None

    @property
    def phase(self) -> int | None:
        """0 for L1."""
        found = self.flags >> _PHASE_SHIFT & _PHASE_MASK
        return found if found < PHASES else None

    @property
    def voltage_id(self) -> int | None:
        """The RAM variable with its voltage, where the device knows that: it is on one phase only."""
        if self.location is None or self.phase != self.device.address % PHASES:
            return None
        return INVERTER_VOLTAGE if self.location == _OUTPUT else MAINS_VOLTAGE


class Sensors(Part):
    """Shows the AC current sensors.

    Args:
        devices: as for :class:`mk2dbus.vebus.telemetry.Telemetry`.
        book: adds up their energy; outlives the system.
    """

    def __init__(self, link: Link, devices: Sequence[Device], scheduler: Scheduler, book: EnergyBook) -> None:
        self._link = link
        self._devices = devices
        self._scheduler = scheduler
        self._book = book
        self._sensors: tuple[_Sensor, ...] | None = None
        """``None`` while not all lists of assistants are known."""

    def assistants_read(self, number: int, device: Device) -> None:
        self._look()

    def discovered(self, number: int, device: Device) -> None:
        self._look()

    def devices_changed(self) -> None:
        self._look()

    def _look(self) -> None:
        """Find the sensors, as soon as the lists of all devices are known: before, their numbers are not."""
        found: tuple[_Sensor, ...] | None = None
        if all(device.assistants is not None or device.read for device in self._devices):
            known = {(sensor.device, sensor.assistant): sensor for sensor in self._sensors or ()}
            there = [
                (device, assistant)
                for device in self._devices
                for assistant in of_kind(device.assistants, CURRENT_SENSOR, _WORDS)
            ]
            if len(there) > len(SENSORS):
                log.warning("%d AC current sensors; the first %d are shown", len(there), len(SENSORS))
            found = tuple(known.get(key) or _Sensor(*key) for key in there[: len(SENSORS)])
        if found == self._sensors:
            return
        self._sensors = found
        self._scheduler.remove(_POLL)
        if found:
            # As old as the first word of several requests.
            poll = Poll(_POLL, Lane.WINMON, POLL_S, self._read, RELAXED_POLL_S, spread_s=math.inf)
            self._scheduler.add([poll])
        elif found is not None:
            self._scheduler.freshness.publish(_POLL, {"/AcSensor/Count": 0}, None)

    async def _read(self) -> Values:
        """All sensors. One whose device does not answer leaves those of the others as they are."""
        sensors = self._sensors or ()
        devices = list(dict.fromkeys(sensor.device for sensor in sensors))
        outcomes = await asyncio.gather(
            *(
                self._read_device(device, [sensor for sensor in sensors if sensor.device is device])
                for device in devices
            ),
            return_exceptions=True,
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if len(failures) == len(devices) or not isinstance(failure, errors.NoReply | errors.Rejected):
                raise failure
        values: Values = {"/AcSensor/Count": len(sensors)}
        for device, outcome in zip(devices, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                for number, sensor in enumerate(sensors):
                    if sensor.device is device:
                        values |= await self._values(number, sensor, outcome)
        self._book.save_at_times()
        return values

    async def _read_device(self, device: Device, sensors: Sequence[_Sensor]) -> Mapping[int, int]:
        """Words of all sensors of a device, and its voltages, in as few requests as possible."""
        new = [sensor for sensor in sensors if sensor.source is None]
        if new:
            source = await identify(self._link, device)
            flags = await device.read_ram([sensor.assistant.words[0] for sensor in new], plain=True)
            for sensor in new:
                sensor.flags = flags[sensor.assistant.words[0]]
                sensor.source = f"sensor {source} {sensor.assistant.header}"
        ids = {id: None for sensor in sensors for id in sensor.words}
        for sensor in sensors:
            voltage = sensor.voltage_id
            if voltage is not None and await device.ram_scale(voltage) is not None:
                ids[voltage] = None
        return await device.read_ram(ids, plain=True)

    async def _values(self, number: int, sensor: _Sensor, words: Mapping[int, int]) -> Values:
        current, power, energy = (words[id] for id in sensor.words)
        folder = f"/AcSensor/{number}"
        self._count(sensor, energy)
        return {
            f"{folder}/Voltage": await self._voltage(sensor, words),
            f"{folder}/Current": current / _STEPS_PER_A,
            f"{folder}/Power": float(power),
            f"{folder}/Energy": sensor.energy_kwh,
            f"{folder}/Location": sensor.location,
            f"{folder}/Phase": sensor.phase,
        }

    @staticmethod
    async def _voltage(sensor: _Sensor, words: Mapping[int, int]) -> float | None:
        """What makes power of current; where there is too little of that, the voltage of the device."""
        current, power, _ = (words[id] for id in sensor.words)
        if current >= _TELLING_STEPS:
            return power / (current / _STEPS_PER_A)
        id = sensor.voltage_id
        scale = None if id is None else await sensor.device.ram_scale(id)
        if id is None or scale is None or scale.is_bit or id not in words:
            return None
        return volts(float(scale.value(words[id])))

    def _count(self, sensor: _Sensor, counter: int) -> None:
        assert sensor.source is not None  # _read_device() has asked
        try:
            (steps,) = self._book.count(
                sensor.source,
                sensor.source,
                (counter,),
                MODULUS,
                found_anew=sensor.energy_kwh is None,
                opening=True,
            )
        except Jump as jump:
            self._scheduler.implausible += 1
            log.debug("energy counter of an AC current sensor of %s: %s", sensor.device, jump)
        else:
            sensor.energy_kwh = kilowatt_hours(steps)
