"""Power of the devices and of the system (mk2-protocol.md §4.5), by the best way each device knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from mk2dbus.items import Value
from mk2dbus.mk2.adapter import TakeSnapshot
from mk2dbus.mk2.errors import NoReply, NotSupported
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import ReadSnapshot
from mk2dbus.vebus.device import SNAPSHOT_FIRMWARE, Device
from mk2dbus.vebus.readings import INPUT_POWER, INVERTER_POWER, OUTPUT_POWER, Values, total

log = logging.getLogger(__name__)

T = TypeVar("T")

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


ShowRam = Callable[[Device, Mapping[int, int], float], None]
"""Takes the raw words of RAM variables of a device by id, and when they were asked for."""


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
    """Reads the power of all devices, and falls back when one of them does not know the better way.

    Where a device does not tell the truth, its power is not read, and that of the system is voltage times
    current; the other devices still show theirs. So it is when not all devices of the system are known.

    Args:
        complete: whether ``devices`` are all that are on the bus.
    """

    def __init__(self, link: Link, devices: Sequence[Device], show_ram: ShowRam, complete: bool) -> None:
        self._link = link
        self._show_ram = show_ram
        self._devices = tuple(devices)
        self._complete = complete
        self._believable = [
            (number, device) for number, device in enumerate(devices) if reports_power(device)
        ]
        self._empty = 0
        self._left_over = False
        """A device may still have a snapshot that was not read."""
        snapshots = all(device.firmware_digits >= SNAPSHOT_FIRMWARE for device in devices)
        self._way = Method.SNAPSHOT if snapshots else Method.SINGLE

    @property
    def method(self) -> Method:
        """How the power of the system is measured."""
        whole = self._complete and len(self._believable) == len(self._devices)
        return self._way if whole else Method.APPARENT

    async def read(self) -> Values:
        """Power of each device, of each phase and of the system; nothing where only V·I is left.

        Raises:
            NoReply: also when a snapshot was lost on the way to a device.
        """
        powers: Mapping[int, DevicePower] = {}
        if self._way is Method.SNAPSHOT:
            powers = await self._attempt_snapshot()
        if self._way is Method.SINGLE:
            powers = await self._attempt_single()
        values: Values = {"/Ac/PowerMeasurementType": int(self.method)}
        values |= _device_values(powers)
        if self._complete and len(powers) == len(self._devices):
            values |= self._system_values(powers)
        return values

    async def _supports(self, ids: Iterable[int]) -> bool:
        for _, device in self._believable:
            for id in ids:
                scale = await device.ram_scale(id)
                if scale is None or scale.is_bit:
                    return False
        return True

    def _fall_back(self, method: Method, why: str) -> None:
        log.info("power is measured less well: %s", why)
        self._way = method

    async def _attempt_snapshot(self) -> Mapping[int, DevicePower]:
        if not await self._supports(_SNAPSHOT_IDS):
            self._fall_back(Method.SINGLE, "a device does not have the power variables for a snapshot")
            return {}
        if self._left_over:
            # One that was not read is still there, and would be taken for the next one if that gets lost.
            for reply in await self._read_snapshots():
                if isinstance(reply, NoReply):
                    raise reply
        self._left_over = True
        asked_at = asyncio.get_running_loop().time()
        await self._link.request(TakeSnapshot(_SNAPSHOT_IDS))
        replies = await self._read_snapshots()
        self._left_over = any(isinstance(reply, BaseException) for reply in replies)
        powers = {}
        for (number, device), words in zip(self._believable, replies, strict=True):
            if isinstance(words, NotSupported):
                self._fall_back(Method.SINGLE, f"{device} does not support snapshots")
                return {}
            if isinstance(words, BaseException):
                raise words
            if len(words) != len(_SNAPSHOT_IDS):
                self._empty += 1
                if self._empty < _EMPTY_LIMIT:
                    raise NoReply(f"{device} has no snapshot")
                self._fall_back(Method.SINGLE, f"the snapshots of {device} are empty")
                return {}
            self._show_ram(device, dict(zip(_SNAPSHOT_IDS, words, strict=True)), asked_at)
            inverter, mains, output = await self._scaled(device, _SNAPSHOT_IDS, words)
            powers[number] = DevicePower(inverter, -mains, output)
        self._empty = 0
        return powers

    async def _read_snapshots(self) -> list[tuple[int, ...] | BaseException]:
        return await _all(device.request(ReadSnapshot()) for _, device in self._believable)

    async def _attempt_single(self) -> Mapping[int, DevicePower]:
        if not await self._supports(_SINGLE_IDS):
            self._fall_back(Method.APPARENT, "a device does not have the power variables")
            return {}
        powers = {}
        for number, device in self._believable:
            asked_at = asyncio.get_running_loop().time()
            words = await device.read_ram(_SINGLE_IDS)
            self._show_ram(device, words, asked_at)
            inverter, mains = await self._scaled(device, _SINGLE_IDS, [words[id] for id in _SINGLE_IDS])
            powers[number] = DevicePower(inverter, -mains, -mains - inverter)
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

    def _system_values(self, powers: Mapping[int, DevicePower]) -> Values:
        values: Values = {"/Dc/0/Power": total([power.inverter for power in powers.values()])}
        by_phase: dict[int, list[DevicePower]] = {}
        for number, power in powers.items():
            by_phase.setdefault(self._devices[number].address % PHASES + 1, []).append(power)
        for phase, members in by_phase.items():
            values[f"/Ac/ActiveIn/L{phase}/P"] = total([member.input for member in members])
            values[f"/Ac/Out/L{phase}/P"] = total([member.output for member in members])
        values["/Ac/ActiveIn/P"] = total([power.input for power in powers.values()])
        values["/Ac/Out/P"] = total([power.output for power in powers.values()])
        return values


def _device_values(powers: Mapping[int, DevicePower]) -> Values:
    values: Values = {}
    for number, power in powers.items():
        folder = f"/Devices/{number}/Ac"
        values[f"{folder}/In/P"] = power.input
        values[f"{folder}/Out/P"] = power.output
        values[f"{folder}/Inverter/P"] = power.inverter
    return values


async def _all(requests: Iterable[Awaitable[T]]) -> list[T | BaseException]:
    """All replies, also when one fails: a snapshot read once is gone, and the slots are there."""
    return await asyncio.gather(*requests, return_exceptions=True)


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
