"""Power of the devices and of the system (mk2-protocol.md §4.5), by the best way each device knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mk2dbus.items import Value
from mk2dbus.mk2.adapter import TakeSnapshot
from mk2dbus.mk2.errors import NoReply, NotSupported
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import ReadSnapshot
from mk2dbus.vebus.device import SNAPSHOT_FIRMWARE, Device
from mk2dbus.vebus.readings import INPUT_POWER, INVERTER_POWER, OUTPUT_POWER, Values, total

log = logging.getLogger(__name__)

_SNAPSHOT_IDS = (INVERTER_POWER, INPUT_POWER, OUTPUT_POWER)
_SINGLE_IDS = (INVERTER_POWER, INPUT_POWER)
_EMPTY_LIMIT = 3
"""Snapshots that may come back empty in a row before they are taken for not supported."""

PHASES = 3

FALSE_POWER_FIRMWARE = (range(100, 159), range(200, 209), range(300, 306))
"""Firmware (as its digits are read) of which slaves, address 3 and up, report invalid values (§4.3)."""


def reports_power(device: Device) -> bool:
    """Whether the power a device tells can be believed."""
    return device.address < PHASES or not any(
        device.firmware_digits in firmware for firmware in FALSE_POWER_FIRMWARE
    )


ShowRam = Callable[[int, Mapping[int, int]], None]
"""Takes the raw words of RAM variables by id, of the device with a number."""


class Method(IntEnum):
    """How power is read; the number is that of ``/Ac/PowerMeasurementType`` (paths.csv)."""

    APPARENT = 0
    SINGLE = 2
    SNAPSHOT = 4


@dataclass(frozen=True, slots=True)
class DevicePower:
    """W; inverter positive charging, input positive taken in, output positive to the loads."""

    inverter: float
    input: float
    output: float


class PowerMeter:
    """Reads the power of all devices.

    Attributes:
        method: the way in use; it falls back when a device does not know it.
    """

    def __init__(self, link: Link, devices: Sequence[Device], show_ram: ShowRam) -> None:
        self._link = link
        self._show_ram = show_ram
        self._devices = tuple(devices)
        self._empty = 0
        self._believable = all(map(reports_power, devices))
        snapshots = all(device.firmware_digits >= SNAPSHOT_FIRMWARE for device in devices)
        self.method = Method.SNAPSHOT if snapshots else Method.SINGLE

    async def read(self) -> Values:
        """Power of each device, of each phase and of the system; nothing where only V·I is left.

        Raises:
            NoReply: also when a snapshot was lost on the way to a device.
        """
        powers: list[DevicePower] | None = None
        if self.method is Method.SNAPSHOT:
            powers = await self._attempt_snapshot()
        if self.method is Method.SINGLE:
            powers = await self._attempt_single()
        values: Values = {"/Ac/PowerMeasurementType": int(self.method)}
        if powers is not None and self._believable:
            values |= self._values(powers)
        return values

    async def _supports(self, ids: Iterable[int]) -> bool:
        for device in self._devices:
            for id in ids:
                scale = await device.ram_scale(id)
                if scale is None or scale.is_bit:
                    return False
        return True

    def _fall_back(self, method: Method, why: str) -> None:
        log.info("power is measured less well: %s", why)
        self.method = method

    async def _attempt_snapshot(self) -> list[DevicePower] | None:
        if not await self._supports(_SNAPSHOT_IDS):
            self._fall_back(Method.SINGLE, "a device does not have the power variables for a snapshot")
            return None
        await self._link.request(TakeSnapshot(_SNAPSHOT_IDS))
        powers = []
        for number, device in enumerate(self._devices):
            try:
                words = await device.request(ReadSnapshot())
            except NotSupported:
                self._fall_back(Method.SINGLE, f"{device} does not support snapshots")
                return None
            if len(words) != len(_SNAPSHOT_IDS):
                self._empty += 1
                if self._empty < _EMPTY_LIMIT:
                    raise NoReply(f"{device} has no snapshot")
                self._fall_back(Method.SINGLE, f"the snapshots of {device} are empty")
                return None
            self._show_ram(number, dict(zip(_SNAPSHOT_IDS, words, strict=True)))
            inverter, mains, output = await self._scaled(device, _SNAPSHOT_IDS, words)
            powers.append(DevicePower(inverter, -mains, output))
        self._empty = 0
        return powers

    async def _attempt_single(self) -> list[DevicePower] | None:
        if not await self._supports(_SINGLE_IDS):
            self._fall_back(Method.APPARENT, "a device does not have the power variables")
            return None
        powers = []
        for number, device in enumerate(self._devices):
            words = await device.read_ram(_SINGLE_IDS)
            self._show_ram(number, words)
            inverter, mains = await self._scaled(device, _SINGLE_IDS, [words[id] for id in _SINGLE_IDS])
            powers.append(DevicePower(inverter, -mains, -mains - inverter))
        return powers

    @staticmethod
    async def _scaled(device: Device, ids: Sequence[int], words: Sequence[int]) -> list[float]:
        scaled = []
        for id, word in zip(ids, words, strict=True):
            scale = await device.ram_scale(id)
            assert scale is not None  # _supports() has made sure
            # Powers go both ways, whatever the info says of the sign.
            scaled.append(float(scale.value(word, signed=True)))
        return scaled

    def _values(self, powers: Sequence[DevicePower]) -> Values:
        values: Values = {"/Dc/0/Power": total([power.inverter for power in powers])}
        by_phase: dict[int, list[DevicePower]] = {}
        for number, (device, power) in enumerate(zip(self._devices, powers, strict=True)):
            folder = f"/Devices/{number}/Ac"
            values[f"{folder}/In/P"] = power.input
            values[f"{folder}/Out/P"] = power.output
            values[f"{folder}/Inverter/P"] = power.inverter
            by_phase.setdefault(device.address % PHASES + 1, []).append(power)
        for phase, members in by_phase.items():
            values[f"/Ac/ActiveIn/L{phase}/P"] = total([member.input for member in members])
            values[f"/Ac/Out/L{phase}/P"] = total([member.output for member in members])
        values["/Ac/ActiveIn/P"] = total([power.input for power in powers])
        values["/Ac/Out/P"] = total([power.output for power in powers])
        return values


def sums(phases: Sequence[int], values: Mapping[str, Value], method: Method) -> Values:
    """Apparent power of all phases; where no real power can be read, it stands for that too (§4.5)."""
    summed: Values = {}
    for side in ("/Ac/ActiveIn", "/Ac/Out"):
        parts = [values.get(f"{side}/L{phase}/S") for phase in phases]
        summed[f"{side}/S"] = total(parts)
        if method is Method.APPARENT:
            summed[f"{side}/P"] = total(parts)
            summed |= {f"{side}/L{phase}/P": part for phase, part in zip(phases, parts, strict=True)}
    return summed
