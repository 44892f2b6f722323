"""Polling: which request brings which values, how often, and in what order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mk2dbus.items import NO_LIMITS, Limits
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import GetAc, GetAcInput, GetDc, GetLeds
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.info import AcInput
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import GetState
from mk2dbus.vebus import readings
from mk2dbus.vebus.board import Board, Freshness, Remembered
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.power import PHASES, Method, PowerMeter, ShowRam, sums
from mk2dbus.vebus.readings import Values

log = logging.getLogger(__name__)

SILENCE_S = 4.0
"""Without any answer for this long the system is gone."""

FAST_S, INPUT_S, SLOW_S, WATCH_S = 0.5, 1.0, 2.0, 10.0
"""How often: power and state; mode and current limit; what changes slowly; whether all is as it was."""

BUSY_S = 3.0
"""While settings are read in the background, nothing comes more often; all stays well below 5 s old."""
BUSY_WATCH_S = 25.0
"""The same for the watch, which needs the line for itself. A hint at a reset brings it at once."""

_WATCH = "watch"
_RETRY_LIMIT_S = 30.0
_REJECTED = 10
"""Failures that a refusal counts for: what the system does not tell it is not asked often."""
_CHARGE_CURRENT, _BATTERY_CAPACITY = 4, 64
"""Settings; a capacity of 0 switches the battery monitor off."""
_LIMIT_STEPS_PER_A = 10


class SystemGone(Exception):
    """Nothing answers any more, or something else answers; the session has to start again."""


@dataclass(slots=True)
class Poll:
    """One entry of the plan.

    Attributes:
        name: group of the values it brings.
        every_s: how often it is wanted.
        read: one or more requests; the values they bring.
    """

    name: str
    every_s: float
    read: Callable[[], Awaitable[Values]]
    due: float = 0.0
    failures: int = 0


class Telemetry:
    """Measured values of the system, kept fresh as long as :meth:`run` runs.

    Args:
        devices: in the order of their addresses; the first one is asked for the state of the system.
        busy: whether background work wants the line.
        show_ram: takes the words of RAM variables that were read, for the items of those variables.
        watch: checks that adapter and devices are still the ones known; raises :exc:`SystemGone`.
    """

    def __init__(
        self,
        link: Link,
        board: Board,
        devices: Sequence[Device],
        *,
        busy: Callable[[], bool],
        watch: Callable[[], Awaitable[None]],
        show_ram: ShowRam,
    ) -> None:
        self.freshness = Freshness(board)
        self.accessory_present: bool | None = None
        """Whether a BMS or DMC is there; ``None``: not looked for yet."""
        self._link = link
        self._board = board
        self._devices = devices
        self._busy = busy
        self._watch = watch
        self._show_ram = show_ram
        self._error: Remembered[int] = Remembered()
        self._connected: Remembered[bool] = Remembered()
        self._inverter_period: Remembered[int] = Remembered()
        self._phases = 1
        self._ac: dict[int, Remembered[Values]] = {phase: Remembered() for phase in range(1, PHASES + 1)}
        self._bounds: tuple[int, int, int] | None = None
        self._power = PowerMeter(link, devices, show_ram)
        self._plan = [
            Poll("dc", FAST_S, self._read_dc),
            Poll("ac1", FAST_S, partial(self._read_ac, 1)),
            Poll("state", FAST_S, self._read_state),
            Poll("power", FAST_S, self._power.read),
            Poll("status", FAST_S, self._read_status),
            Poll("input", INPUT_S, self._read_input),
            Poll("slow", SLOW_S, self._read_slow),
            Poll(_WATCH, WATCH_S, self._read_watch),
        ]

    async def run(self) -> None:
        """Poll until the system is gone.

        Raises:
            SystemGone: no answer to anything for a while.
            PortLost, LinkClosed: the link is over.
        """
        loop = asyncio.get_running_loop()
        for poll in self._plan:
            # Everything once, in the order of the plan; "is all as it was" not before there was something.
            poll.due = loop.time() + (BUSY_WATCH_S if poll.name == _WATCH else 0.0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_silence(), name="silence")
            while True:
                poll = min(self._plan, key=lambda poll: poll.due)
                if (wait := poll.due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                await self._run_poll(poll)

    async def _watch_silence(self) -> None:
        """Notice in time that nothing is answered any more, whatever the polls wait for."""
        loop = asyncio.get_running_loop()
        answered = loop.time()
        while (left := answered + SILENCE_S - loop.time()) > 0:
            await asyncio.sleep(left)
            answered = max(answered, self._link.last_answer or answered)
        raise SystemGone(f"no answer for {SILENCE_S} s")

    async def _run_poll(self, poll: Poll) -> None:
        now = asyncio.get_running_loop().time
        try:
            values = await poll.read()
        except errors.NoReply as error:
            poll.failures += 1
            log.debug("%s: %s", poll.name, error)
        except errors.Rejected as error:
            if poll.failures < _REJECTED:
                log.info("the system does not tell %s values: %s", poll.name, error)
            poll.failures = _REJECTED
        else:
            poll.failures = 0
            self.freshness.publish(poll.name, values)
        poll.due = self._next_due(poll, now())

    def _next_due(self, poll: Poll, now: float) -> float:
        if poll.failures:
            # What alone does not answer must not take the line from the rest.
            return now + min(poll.every_s * 2.0**poll.failures, _RETRY_LIMIT_S)
        every = poll.every_s
        if self._busy():
            every = BUSY_WATCH_S if poll.name == _WATCH else max(every, BUSY_S)
        return max(poll.due + every, now)

    def check_soon(self) -> None:
        """Something hints at a reset of the adapter: look whether all is as it was."""
        for poll in self._plan:
            if poll.name == _WATCH:
                poll.due = asyncio.get_running_loop().time()

    # --- what is read ----------------------------------------------------------------------------------

    @property
    def _first(self) -> Device:
        return self._devices[0]

    async def _read_dc(self) -> Values:
        ids = (readings.BATTERY_VOLTAGE, readings.BATTERY_CURRENT, readings.INVERTER_PERIOD)
        scales = await self._first.info_scales(ids)
        info = await self._link.request(GetDc())
        self._inverter_period.set(info.inverter_period)
        values = readings.dc_values(info, scales)
        if self._power.method is not Method.APPARENT:
            # Measured power is the better figure, and comes with its own poll.
            del values["/Dc/0/Power"]
        return values

    async def _read_ac(self, phase: int) -> Values:
        ids = (
            readings.MAINS_VOLTAGE,
            readings.MAINS_CURRENT,
            readings.INVERTER_VOLTAGE,
            readings.INVERTER_CURRENT,
            readings.INVERTER_PERIOD,
            readings.MAINS_PERIOD,
        )
        scales = await self._first.info_scales(ids)
        info = await self._link.request(GetAc(phase))
        values = readings.ac_values(info, scales, self._inverter_period.get())
        if info.phase_count is not None:
            self._set_phases(info.phase_count)
            values["/Ac/NumberOfPhases"] = info.phase_count
        self._ac[phase].set(dict(values))
        if phase == self._phases:
            # The last one: now the sums are of one round.
            phases = range(1, self._phases + 1)
            known: Values = {}
            for one in phases:
                known |= self._ac[one].get() or {}
            values |= sums(phases, known, self._power.method)
        return values

    def _set_phases(self, count: int) -> None:
        """The first phase tells how many there are: poll them all, on the bus there is room for three."""
        count = min(count, PHASES)
        if count == self._phases:
            return
        self._phases = count
        self._plan = [poll for poll in self._plan if not poll.name.startswith("ac") or poll.name == "ac1"]
        now = asyncio.get_running_loop().time()
        for phase in range(2, count + 1):
            self._plan.append(Poll(f"ac{phase}", FAST_S, partial(self._read_ac, phase), due=now))

    async def _read_state(self) -> Values:
        state = await self._first.request(GetState())
        values = readings.state_values(state, self._error.get())
        self._connected.set(bool(values["/Ac/ActiveIn/Connected"]))
        return values

    async def _read_status(self) -> Values:
        status = await self._link.request(GetLeds())
        if (error := readings.vebus_error(status)) is not None:
            self._error.set(error)
        return readings.status_values(status)

    async def _read_input(self) -> Values:
        return self.input_values(await self._link.request(GetAcInput()))

    def input_values(self, info: AcInput) -> Values:
        """Values of an AC input configuration; sets the limits of the current limit along."""
        bounds = info.active_input, info.minimum, info.maximum
        if bounds != self._bounds:
            self._bounds = bounds
            self._set_limit_bounds(info)
        return readings.ac_input_values(info, self._connected.get(), self.accessory_present)

    def _set_limit_bounds(self, info: AcInput) -> None:
        limits = Limits(info.minimum / _LIMIT_STEPS_PER_A, info.maximum / _LIMIT_STEPS_PER_A)
        self._board.set_limits("/Ac/ActiveIn/CurrentLimit", limits)
        for number in (1, 2):
            active = number == info.active_input + 1
            self._board.set_limits(f"/Ac/In/{number}/CurrentLimit", limits if active else NO_LIMITS)

    def show_input(self, info: AcInput) -> None:
        """Show an AC input configuration that somebody else read."""
        self.freshness.publish("input", self.input_values(info))

    async def _read_slow(self) -> Values:
        device = self._first
        ids = (
            readings.CHARGE_STATE,
            readings.IGNORE_AC_INPUT,
            readings.BATTERY_VOLTAGE,
            readings.RIPPLE_VOLTAGE,
        )
        words = await device.read_ram(ids)
        self._show_ram(0, words)
        value = {id: scale.value(word) for id, word in words.items() if (scale := await device.ram_scale(id))}
        charge = value.get(readings.CHARGE_STATE) if await self._has_battery_monitor() else None
        return {
            "/Soc": None if charge is None else 100 * charge,
            "/Dc/0/MaxChargeCurrent": readings.total(
                [await self._setting(device, _CHARGE_CURRENT) for device in self._devices]
            ),
            "/Ac/State/IgnoreAcIn1": value.get(readings.IGNORE_AC_INPUT),
            "/Devices/0/Diagnostics/UBatTerminal": value.get(readings.BATTERY_VOLTAGE),
            "/Devices/0/Diagnostics/UBatRipple": value.get(readings.RIPPLE_VOLTAGE),
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

    async def _read_watch(self) -> Values:
        await self._watch()
        return {}
