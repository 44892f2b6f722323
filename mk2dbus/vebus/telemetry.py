"""What is measured, and what brings it: the polls of a system, with their rates."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from mk2dbus.items import NO_LIMITS, Limits, Number
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import GetAc, GetAcInput, GetDc, GetLeds
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.info import AcInfo, AcInput
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import DeviceState, GetState
from mk2dbus.vebus import readings
from mk2dbus.vebus.board import Board, Remembered
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.plausible import check_ac, check_dc, check_input, check_state, check_values
from mk2dbus.vebus.power import PHASES, Method, PowerMeter, sums
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Ages, Implausible, Lane, Poll, Scheduler

log = logging.getLogger(__name__)

FAST_S = 0.1
"""How often power, current, voltage and state are wanted; at 2400 baud the line sets a limit before."""
STATUS_S, INPUT_S, SLOW_S = 0.5, 1.0, 2.0
"""LEDs, alarms and error; mode and current limit; what changes slowly."""
RELAXED_INPUT_S = 3.0
SLOW = "slow"
"""Name of the poll of what changes slowly."""

_BATTERY_CAPACITY = 64
"""Setting; a capacity of 0 switches the battery monitor off."""
_LIMIT_STEPS_PER_A = 10
_SOC_DIGITS = 3
"""Finer than any step; it takes the noise off a product."""
_BELIEVED_AFTER = 50
"""Times in a row that another number of phases than the addresses tell has to be said to be believed: it is
against the rule (§4.5), but all that is there."""
_ASKED_AT_ONCE = 3
"""Times that an AC info frame is asked for in a row when it contradicts the addresses."""
_AC_IDS = (
    readings.MAINS_VOLTAGE,
    readings.MAINS_CURRENT,
    readings.INVERTER_VOLTAGE,
    readings.INVERTER_CURRENT,
    readings.INVERTER_PERIOD,
    readings.MAINS_PERIOD,
)
_DC_IDS = (readings.BATTERY_VOLTAGE, readings.BATTERY_CURRENT, readings.INVERTER_PERIOD)
_DIAGNOSTICS = (readings.BATTERY_VOLTAGE, readings.RIPPLE_VOLTAGE)
_SYSTEM_IDS = (readings.CHARGE_STATE, readings.IGNORE_AC_INPUT)


class RamItems(Protocol):
    """The items of the RAM variables of the devices. A device may have another number, or none, by now."""

    def show(self, device: Device, words: Mapping[int, int], asked_at: float) -> None:
        """Show raw words of a device, by id, asked for at a loop time."""

    def interest(self, device: Device) -> Iterable[int]:
        """Ids of the variables of a device that somebody asked for lately."""

    def lose_interest(self, device: Device) -> None:
        """One of those cannot be read: do not ask for them again."""


def phases_of(addresses: Iterable[int]) -> int:
    """How many phases devices at these addresses make: the phase is the address modulo 3 (§4.5). Without the
    unit of L2 there still is an L3."""
    return max((address % PHASES for address in addresses), default=0) + 1


class Telemetry(Part):
    """Measured values of the system.

    Args:
        devices: in the order of their addresses; the first one is asked for the state of the system. The
            caller may change them, and says so with :meth:`devices_changed`.
        fast_s: how often the fast ones are wanted.
        complete: whether the devices are all that are on the bus.
        hint: called when it looks as if that had changed.
    """

    def __init__(
        self,
        link: Link,
        board: Board,
        devices: Sequence[Device],
        scheduler: Scheduler,
        ram: RamItems,
        fast_s: float,
        complete: Callable[[], bool],
        hint: Callable[[], None],
    ) -> None:
        self.accessory_present: bool | None = None
        """Whether a BMS or DMC is there; ``None``: not looked for yet."""
        self.on_input: Callable[[AcInput], None] = lambda _: None
        """Called with each AC input configuration that is read."""
        self._link = link
        self._board = board
        self._devices = devices
        self._scheduler = scheduler
        self._ram = ram
        self._fast_s = fast_s
        self._complete = complete
        self._hint = hint
        self._error: Remembered[int] = Remembered()
        self._connected: Remembered[bool] = Remembered()
        self._charging: Remembered[bool] = Remembered()
        self._inverter_period: Remembered[int] = Remembered()
        self._input: Remembered[AcInput] = Remembered()
        self._phases = 1
        self._claimed_phases: tuple[int, int] = (0, 0)
        self._known_counts: set[int] = set()
        """Numbers of phases that the addresses have told."""
        self._ac: dict[int, Remembered[Values]] = {phase: Remembered() for phase in range(1, PHASES + 1)}
        self._units: dict[int, tuple[int, int, int | None]] = {}
        """Of each phase what was said last of the number of units and phases."""
        self._silent: set[int] = set()
        """Phases that did not answer when they were asked last."""
        self._summed: frozenset[str] = frozenset()
        """Paths of what is made of all phases."""
        self._bounds: tuple[int, int, int] | None = None
        self._power = PowerMeter(link, devices, ram.show, complete())
        self._diagnosed = 0

    def start(self) -> None:
        """Put the polls into the plan, in the order in which they are first wanted."""
        fast = self._fast_s
        self._scheduler.add(
            (
                Poll("dc", Lane.INFO, fast, self._read_dc),
                self._ac_poll(1),
                Poll("state", Lane.WINMON, fast, self._read_state, parts=self._state_parts),
                # As old as the snapshot that it begins with.
                Poll("power", Lane.WINMON, fast, self._read_power, spread_s=math.inf),
                Poll("status", Lane.INFO, max(STATUS_S, fast), self._read_status),
                Poll(
                    "input",
                    Lane.INFO,
                    max(INPUT_S, fast),
                    self._read_input,
                    RELAXED_INPUT_S,
                    parts=self._active_input_parts,
                ),
                Poll(
                    SLOW, Lane.WINMON, max(SLOW_S, fast), self._read_slow, RELAXED_INPUT_S, spread_s=math.inf
                ),
                Poll("asked", Lane.WINMON, max(SLOW_S, fast), self._read_asked, RELAXED_INPUT_S, None),
            )
        )
        self.devices_changed()

    def devices_changed(self) -> None:
        """Devices came or went."""
        self._power = PowerMeter(self._link, self._devices, self._ram.show, self._complete())
        self._scheduler.hurry("power")
        count = phases_of(device.address for device in self._devices)
        if not self._known_counts:
            self._set_phases(count)
        self._known_counts.add(count)
        for number in range(1, max(self._diagnosed, len(self._devices))):
            self._scheduler.remove(_diagnostics_name(number))
        self._diagnosed = len(self._devices)
        self._scheduler.add(
            Poll(
                _diagnostics_name(number),
                Lane.WINMON,
                max(SLOW_S, self._fast_s),
                partial(self._read_diagnostics, number),
                RELAXED_INPUT_S,
                spread_s=math.inf,
            )
            for number in range(1, len(self._devices))
        )

    @property
    def state_is_charge(self) -> bool | None:
        """Whether the main state is *charge*; ``None`` when it is not known."""
        return self._charging.get()

    @property
    def input(self) -> AcInput | None:
        """The AC input configuration as last read, while it is fresh."""
        return self._input.get()

    # --- what is read ----------------------------------------------------------------------------------

    @property
    def _first(self) -> Device:
        return self._devices[0]

    async def _read_dc(self) -> Values:
        scales = await self._first.info_scales(_DC_IDS)
        info = await self._link.request(GetDc())
        check_dc(info)
        values = readings.dc_values(info, scales)
        check_values(values)
        self._inverter_period.set(info.inverter_period)
        if self._power.method is not Method.APPARENT:
            # Measured power is the better figure, and comes with its own poll.
            del values["/Dc/0/Power"]
        return values

    async def _read_ac(self, phase: int) -> Values:
        scales = await self._first.info_scales(_AC_IDS)
        try:
            info = await self._ask_ac(phase)
        except errors.NoReply:
            self._silent.add(phase)
            raise
        self._see_units(phase, info)
        values = readings.ac_values(info, scales, self._inverter_period.get())
        check_values(values)
        if info.phase_count is not None:
            values["/Ac/NumberOfPhases"] = self._phases
        self._ac[phase].set(dict(values))
        if phase == self._phases:
            # The last one: now the sums are of one round.
            phases = range(1, self._phases + 1)
            parts: Values = {}
            for one in phases:
                parts |= self._ac[one].get() or {}
            summed = sums(phases, parts, self._power.method)
            self._summed = frozenset(summed)
            values |= summed
        return values

    def _see_units(self, phase: int, info: AcInfo) -> None:
        """Another number of units in a phase, or a phase that did not answer before: units came or went."""
        units = info.backfeed_factor, info.inverter_factor, info.phase_count
        before, self._units[phase] = self._units.get(phase), units
        if phase in self._silent or before not in (None, units):
            self._silent.discard(phase)
            self._hint()

    async def _ask_ac(self, phase: int) -> AcInfo:
        """An AC info frame; asked again at once when it tells another number of phases."""
        for left in reversed(range(_ASKED_AT_ONCE)):
            info = await self._link.request(GetAc(phase))
            check_ac(info)
            if info.phase_count is None:
                break
            try:
                self._check_phases(info)
            except Implausible:
                if not left:
                    raise
                self._scheduler.implausible += 1
            else:
                break
        return info

    def _check_phases(self, info: AcInfo) -> None:
        """The first phase tells how many there are: as many as the addresses say, or it insists.

        Raises:
            Implausible: it is another number than before.
        """
        count = info.phase_count or 1
        if count == self._phases:
            self._claimed_phases = (0, 0)
            return
        if count in self._known_counts:
            # Units came or went: it says what it has made of that.
            self._set_phases(count)
            return
        claimed, times = self._claimed_phases
        times = times + 1 if claimed == count else 1
        self._claimed_phases = (count, times)
        if times < _BELIEVED_AFTER or count > PHASES:
            raise Implausible(f"{count} phases instead of {self._phases}")
        log.warning("the system says that it has %d phase(s) instead of %d", count, self._phases)
        self._set_phases(count)

    def _set_phases(self, count: int) -> None:
        """Poll each phase; on the bus there is room for three."""
        self._claimed_phases = (0, 0)
        for phase in range(count + 1, self._phases + 1):
            self._scheduler.remove(f"ac{phase}")
        self._scheduler.add(self._ac_poll(phase) for phase in range(self._phases + 1, count + 1))
        self._phases = count

    def _ac_poll(self, phase: int) -> Poll:
        read, parts = partial(self._read_ac, phase), partial(self._ac_parts, phase)
        return Poll(f"ac{phase}", Lane.INFO, self._fast_s, read, parts=parts)

    def _ac_parts(self, phase: int) -> Ages:
        """The frequency of the output comes with the DC info, the sums are of all phases."""
        ages = {f"/Ac/Out/L{phase}/F": self._inverter_period.since}
        if phase == self._phases:
            oldest = min(self._ac[one].since for one in range(1, self._phases + 1))
            ages |= dict.fromkeys(self._summed, oldest)
        return ages

    async def _read_state(self) -> Values:
        return self.state_values(await self._first.request(GetState()))

    def state_values(self, state: DeviceState) -> Values:
        """Values of a main and sub state.

        Raises:
            Implausible: there are no such states.
        """
        check_state(state)
        values = readings.state_values(state, self._error.get())
        self._connected.set(bool(values["/Ac/ActiveIn/Connected"]))
        self._charging.set(readings.is_charging(state))
        if (input := self._input.get()) is not None:
            values |= readings.active_input_values(input, self._connected.get())
        return values

    def show_state(self, state: DeviceState) -> None:
        """Show a state that somebody else read."""
        self._scheduler.show("state", self.state_values(state))

    def _state_parts(self) -> Ages:
        """The error comes with the status."""
        return {"/State": self._error.since, **self._active_input_parts()}

    def _active_input_parts(self) -> Ages:
        """Which input is active is told by one poll, whether it is connected by another."""
        return {readings.ACTIVE_INPUT: min(self._connected.since, self._input.since)}

    async def _read_power(self) -> Values:
        meter = self._power
        values = await meter.read()
        # Meanwhile devices may have come or gone, and have other numbers.
        return values if meter is self._power else {}

    async def _read_status(self) -> Values:
        status = await self._link.request(GetLeds())
        error, known = readings.vebus_error(status), self._error.get()
        if error is not None:
            self._error.set(error)
        elif known is None and status.known and status.error is None:
            # An adapter that tells the LEDs alone: nobody can say more than the states.
            self._error.set(0)
        if known is None:
            self._scheduler.hurry("state")
        return readings.status_values(status)

    async def _read_input(self) -> Values:
        ask = partial(self._link.request, GetAcInput())
        return self.input_values(await confirmed(self._link, ask, self._input.get()))

    def input_values(self, info: AcInput) -> Values:
        """Values of an AC input configuration; sets the limits of the current limit along.

        Raises:
            Implausible: it cannot be true.
        """
        check_input(info)
        self._input.set(info)
        self.on_input(info)
        bounds = info.active_input, info.minimum, info.maximum
        if bounds != self._bounds:
            self._bounds = bounds
            self._set_limit_bounds(info)
        values = readings.ac_input_values(info, self.accessory_present)
        return values | readings.active_input_values(info, self._connected.get())

    def _set_limit_bounds(self, info: AcInput) -> None:
        limits = Limits(info.minimum / _LIMIT_STEPS_PER_A, info.maximum / _LIMIT_STEPS_PER_A)
        self._board.set_limits("/Ac/ActiveIn/CurrentLimit", limits)
        for number in (1, 2):
            active = number == info.active_input + 1
            self._board.set_limits(f"/Ac/In/{number}/CurrentLimit", limits if active else NO_LIMITS)

    def show_input(self, info: AcInput) -> None:
        """Show an AC input configuration that somebody else read."""
        self._scheduler.show("input", self.input_values(info))

    async def _read_slow(self) -> Values:
        """RAM variables of the first device."""
        value = await self._read_ram(0, (*_SYSTEM_IDS, *_DIAGNOSTICS))
        charge = value.get(readings.CHARGE_STATE) if await self._has_battery_monitor() else None
        return {
            "/Soc": None if charge is None or not 0 <= charge <= 1 else round(100 * charge, _SOC_DIGITS),
            "/Ac/State/IgnoreAcIn1": self._bit(readings.IGNORE_AC_INPUT, value),
            **_diagnostics(0, value),
        }

    async def _read_asked(self) -> Values:
        """RAM variables that somebody asked for; each is shown when it is read."""
        for device in tuple(self._devices):
            for ids in device.chunks(self._ram.interest(device)):
                asked_at = asyncio.get_running_loop().time()
                try:
                    self._ram.show(device, await device.read_ram(ids, plain=True), asked_at)
                except errors.Rejected:
                    self._ram.lose_interest(device)
        return {}

    def _bit(self, id: int, value: Mapping[int, Number]) -> int | None:
        """A RAM variable that is a bit; ``None`` where the device says that it is none."""
        scale = self._first.known_ram_scale(id)
        return int(value[id]) if scale is not None and scale.is_bit and id in value else None

    async def _read_diagnostics(self, number: int) -> Values:
        return _diagnostics(number, await self._read_ram(number, _DIAGNOSTICS))

    async def _read_ram(self, number: int, ids: Sequence[int]) -> Mapping[int, Number]:
        """RAM variables of a device, scaled; they are shown along."""
        device = self._devices[number]
        asked_at = asyncio.get_running_loop().time()
        words = await device.read_ram(ids)
        self._ram.show(device, words, asked_at)
        return {
            id: scale.value(word)
            for id, word in words.items()
            if (scale := device.known_ram_scale(id)) is not None
        }

    async def _has_battery_monitor(self) -> bool:
        """Without a capacity the monitor is off, and its state of charge reads 1 (ramvars.csv)."""
        return await self._setting(self._first, _BATTERY_CAPACITY) != 0

    async def _setting(self, device: Device, id: int) -> float | None:
        """A setting as last read, ``None`` when the device does not have it."""
        scale = await device.setting_scale(id, Priority.TELEMETRY)
        if scale is None:
            return None
        word = device.words.get(id)
        return scale.value(await device.read_setting(id, Priority.TELEMETRY) if word is None else word)


def _diagnostics_name(number: int) -> str:
    return f"diagnostics{number}"


def _diagnostics(number: int, value: Mapping[int, Number]) -> Values:
    folder = f"/Devices/{number}/Diagnostics"
    return {
        f"{folder}/UBatTerminal": value.get(readings.BATTERY_VOLTAGE),
        f"{folder}/UBatRipple": value.get(readings.RIPPLE_VOLTAGE),
    }
