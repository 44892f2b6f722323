"""Control of the charger: the charge state (winmon 0E), the charge current (setting 4), the state of charge.

The charge current is what control loops set every few seconds, so it must not wear EEPROM cells. New
devices take it in RAM only, where it is in effect until their next reset. That costs nothing, so every
write is sent: one that was lost with a reset that nobody noticed is back with the next. What is stored
stays the upper limit: whoever knows battery and cables has set it. Old devices can only store, and do when
the value is another one than before. The item shows what is in effect.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mk2dbus.items import Disconnected, Limits, NoReply, OutOfRange, ReadOnly, Refused, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import DeviceState, GetState
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.commands import Command, Commands
from mk2dbus.vebus.device import Device, write_failure
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.paths import system_leaf
from mk2dbus.vebus.readings import CHARGE_STATE, Values, is_charging
from mk2dbus.vebus.scaling import SettingScale
from mk2dbus.vebus.schedule import Implausible, Lane, Poll, Scheduler
from mk2dbus.vebus.telemetry import SLOW

log = logging.getLogger(__name__)

STATE_PATH, CURRENT_PATH, SOC_PATH = "/VebusSetChargeState", "/Dc/0/MaxChargeCurrent", "/Soc"
SILENT_S = 3.0
"""A device that answers nothing for so long may be gone, and its share of the charge current with it."""
CURRENT_S = 2.0
"""How often the charge current in effect is shown anew; it needs the line only until it was read once."""
WRITE_TIMEOUT_S = 4.5
"""The contract gives a write 5 s."""
CONFIRM_INTERVAL_S = 0.2

CHARGE_CURRENT, BATTERY_CAPACITY = 4, 64
"""Settings; a capacity of 0 switches the battery monitor off."""
CHARGE_CURRENT_NAME = "ChargeCurrent"

SUB_STATES = {1: frozenset({7}), 2: frozenset({2, 5, 6}), 3: frozenset({3})}
"""Sub states that show that a charge state was reached. Absorption can be repeated or forced, too."""

_NOT_KNOWN = "whether it was done is not known"
_GROUP = "charge current"
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Share:
    """What one device can take of a total; all in the same unit."""

    minimum: float
    maximum: float
    step: float


def distribute(total: float, shares: Sequence[Share]) -> list[float]:
    """Values for the devices, in proportion to their maxima and on their steps.

    Together they are as near to the total as the steps allow and never above it, unless the minima are.
    """
    highest = sum(share.maximum for share in shares)
    factor = total / highest if highest else 0.0
    values = [_on_step(share, factor * share.maximum) for share in shares]
    if sum(values) > total + _ROUNDING:
        values = [share.minimum for share in shares]
    while True:
        left = total - sum(values)
        room = [
            number
            for number, share in enumerate(shares)
            if values[number] + share.step <= share.maximum + _ROUNDING and share.step <= left + _ROUNDING
        ]
        if not room:
            return values
        emptiest = min(room, key=lambda number: values[number] / shares[number].maximum)
        values[emptiest] += shares[emptiest].step


def _on_step(share: Share, value: float) -> float:
    steps = math.floor((value - share.minimum) / share.step + _ROUNDING)
    return share.minimum + max(steps, 0) * share.step


class Charger(Part):
    """What can be commanded of the charger.

    Args:
        devices: in the order of their addresses; the first one leads.
        items: their objects, by number.
        show_state: shows a main and sub state that is read here.
        complete: whether the devices are all that are on the bus.
    """

    def __init__(
        self,
        link: Link,
        board: Board,
        scheduler: Scheduler,
        devices: Sequence[Device],
        items: Sequence[DeviceItems],
        show_state: Callable[[DeviceState], None],
        complete: Callable[[], bool],
    ) -> None:
        self._link = link
        self._board = board
        self._scheduler = scheduler
        self._devices = devices
        self._items = items
        self._show_state = show_state
        self._complete = complete
        self._lock = asyncio.Lock()
        self._told_to_store = False
        self._over = False

    def start(self) -> None:
        """Show the charge current, and what the state of charge may be set to."""
        self._board.set_limits(SOC_PATH, Limits(0.0, 100.0))
        self._scheduler.add([Poll(_GROUP, Lane.WINMON, CURRENT_S, self._read_current)])

    def devices_changed(self) -> None:
        """Other devices share the charge current."""
        self._scheduler.hurry(_GROUP)

    def stop(self) -> None:
        """The system is gone: nothing is shown any more."""
        self._over = True

    # --- charge current --------------------------------------------------------------------------------

    async def _read_current(self) -> Values:
        for device in self._devices:
            if (
                await device.setting_scale(CHARGE_CURRENT, Priority.TELEMETRY) is not None
                and CHARGE_CURRENT not in device.words
            ):
                await device.read_setting(CHARGE_CURRENT, Priority.TELEMETRY)
        return self._current_values()

    def _current_values(self) -> Values:
        """The sum of what is in effect, as far as known; sets the limits of the item along."""
        shares = [self._share(device) for device in self._devices]
        known = [share for share in shares if share is not None]
        if known and len(known) == len(shares):
            self._board.set_limits(
                CURRENT_PATH,
                Limits(sum(share.minimum for share in known), sum(share.maximum for share in known)),
            )
        parts = [self._in_effect(number) for number in range(len(self._devices))]
        now = asyncio.get_running_loop().time()
        silent = any(now > device.last_answer + SILENT_S for device in self._devices)
        unknown = None in parts or silent or not self._complete()
        return {CURRENT_PATH: None if unknown else sum(part for part in parts if part is not None)}

    def _share(self, device: Device) -> Share | None:
        """What a device can take, ``None`` when it is not known, or cannot be set."""
        scale = device.known_setting_scale(CHARGE_CURRENT)
        word = device.words.get(CHARGE_CURRENT)
        stored = None if scale is None or word is None else scale.value(word)
        minimum, maximum = (None, None) if scale is None else (scale.limits.minimum, scale.limits.maximum)
        if scale is None or stored is None or minimum is None or maximum is None:
            return None
        if device.is_new:
            maximum = min(maximum, stored)
        return Share(min(minimum, maximum), maximum, _step(scale))

    def _in_effect(self, number: int) -> float | None:
        device = self._devices[number]
        scale = device.known_setting_scale(CHARGE_CURRENT)
        word = self._items[number].settings.in_effect(CHARGE_CURRENT) if number < len(self._items) else None
        return None if scale is None or word is None else scale.value(word)

    async def set_charge_current(self, value: int | float | str) -> None:
        """Let all devices together charge with at most this current, A.

        Raises:
            WriteFailed: of the first device that does not take its share; the message says what is done.
        """
        total = float(value)
        done = 0
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._lock:
                for number, part in enumerate(self._parts(total)):
                    await self._set_part(number, part)
                    done = number + 1
        except TimeoutError:
            raise NoReply(
                f"no outcome within {WRITE_TIMEOUT_S} s; {self._so_far(done)}, "
                "and whether the next one has is not known"
            ) from None
        except WriteFailed as error:
            if done == 0:
                raise
            # Something was sent, whatever the error says of the last one.
            kind = type(error) if isinstance(error, (NoReply, Disconnected)) else Refused
            raise kind(f"{error}; {self._so_far(done)}") from error
        finally:
            if not self._over:
                self._scheduler.freshness.publish(_GROUP, self._current_values())
        log.info("charge current limited to %g A", total)

    def _so_far(self, done: int) -> str:
        return f"{done} of {len(self._devices)} devices have their share"

    def _parts(self, total: float) -> list[float]:
        if not self._complete():
            raise NoReply("a device of the system does not answer; nothing was written")
        shares: list[Share] = []
        for device in self._devices:
            share = self._share(device)
            if share is None:
                raise ReadOnly(f"the charge current of {device} cannot be set, or is not known yet")
            shares.append(share)
        low, high = sum(share.minimum for share in shares), sum(share.maximum for share in shares)
        if not low <= total <= high:
            raise OutOfRange(
                f"the charge current of all devices takes {low:g} to {high:g} A, not {total:g} A"
            )
        return distribute(total, shares)

    async def _set_part(self, number: int, amps: float) -> None:
        device, settings = self._devices[number], self._items[number].settings
        if not device.is_new and not self._told_to_store:
            self._told_to_store = True
            log.warning("%s can only store the charge current; its EEPROM wears with every change", device)
        await settings.write(CHARGE_CURRENT_NAME, amps, ram_only=device.is_new)

    # --- charge state ----------------------------------------------------------------------------------

    async def force_state(self, wanted: int) -> None:
        """Make the charger equalise (1), absorb (2) or float (3), and wait until it shows it.

        Raises:
            WriteFailed: not charging, refused, no answer, or it shows another state.
        """
        name = system_leaf(STATE_PATH).text(wanted)
        device = self._devices[0]
        outcome: WriteFailed = NoReply(f"{device} did not answer; nothing was commanded")
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._lock:
                self._link.forget_address()
                state = await self._request_state(0, "nothing was commanded")
                if not is_charging(state):
                    raise ReadOnly(f"only in main state Charge, and that is {_main_text(state)} now")
                outcome = NoReply(f"{device} did not answer; {_NOT_KNOWN}")
                try:
                    state = await self._request_state(wanted, _NOT_KNOWN, attempts=1)
                except NoReply:
                    # It may have been done, and the charger have gone on since: it is not told again.
                    state = await self._request_state(0, _NOT_KNOWN)
                while not (is_charging(state) and state.sub in SUB_STATES[wanted]):
                    outcome = Refused(f"the system shows {_state_text(state)} instead of {name}")
                    await asyncio.sleep(CONFIRM_INTERVAL_S)
                    state = await self._request_state(0, _NOT_KNOWN)
        except TimeoutError:
            raise outcome from None
        log.info("charge state %s commanded", name)

    async def _request_state(self, force: int, otherwise: str, attempts: int | None = None) -> DeviceState:
        try:
            state = await self._devices[0].request(GetState(force), Priority.CLIENT, attempts=attempts)
        except errors.Mk2Error as error:
            raise write_failure(error, otherwise) from error
        if self._over:
            raise Disconnected(f"the connection was lost; {otherwise}")
        try:
            self._show_state(state)
        except Implausible as error:
            raise NoReply(f"the system shows what cannot be true ({error}); {otherwise}") from error
        return state

    # --- state of charge -------------------------------------------------------------------------------

    async def set_soc(self, percent: float) -> None:
        """Tell the built-in battery monitor the state of charge, %.

        Raises:
            WriteFailed: there is none or it is off, refused, no answer, or it shows something else.
        """
        device = self._devices[0]
        outcome: WriteFailed = NoReply(f"{device} did not answer; nothing was written")
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._lock:
                try:
                    scale = await device.ram_scale(CHARGE_STATE, Priority.CLIENT)
                    capacity = await _setting(device, BATTERY_CAPACITY)
                except errors.Mk2Error as error:
                    raise write_failure(error, "nothing was written") from error
                if scale is None or scale.is_bit:
                    raise ReadOnly(f"{device} has no battery monitor")
                if capacity == 0:
                    raise ReadOnly("the battery monitor is off: setting 64, BatteryCapacity, is 0 Ah")
                word = scale.raw(percent / 100)
                wanted, tolerance = 100 * scale.value(word), 100 * abs(scale.value(1) - scale.value(0))
                outcome = NoReply(f"{device} did not answer; whether it was written is not known")
                await device.write_ram(CHARGE_STATE, word)
                while True:
                    try:
                        words = await device.read_ram((CHARGE_STATE,), Priority.CLIENT)
                    except errors.Mk2Error as error:
                        raise write_failure(error, "whether it was written is not known") from error
                    shown = 100 * scale.value(words[CHARGE_STATE])
                    if abs(shown - wanted) <= tolerance + _ROUNDING:
                        break
                    outcome = Refused(f"{device} still shows {shown:g} % instead of {wanted:g} %")
                    await asyncio.sleep(CONFIRM_INTERVAL_S)
        except TimeoutError:
            raise outcome from None
        if not self._over:
            self._scheduler.freshness.amend(SLOW, {SOC_PATH: float(shown)})
        self._scheduler.hurry(SLOW)
        log.info("%s: state of charge set to %g %%", device, shown)


async def _setting(device: Device, id: int) -> float | None:
    """A setting as it is stored now, ``None`` when the device does not have it."""
    scale = await device.setting_scale(id, Priority.CLIENT)
    return None if scale is None else scale.value(await device.read_setting(id, Priority.CLIENT))


def _step(scale: SettingScale) -> float:
    return float(scale.info.scale) if scale.info.scale > 0 else 1 / -scale.info.scale


def _main_text(state: DeviceState) -> str:
    return f"{state.main} ({system_leaf('/VebusMainState').text(state.main)})"


def _state_text(state: DeviceState) -> str:
    if not is_charging(state):
        return f"main state {_main_text(state)}"
    return system_leaf("/VebusChargeState").text(state.sub)


COMMANDS: Commands = {
    STATE_PATH: Command(
        Charger,
        lambda charger, value: charger.force_state(int(value)),
        "the charge state to the first device (winmon 0E), when it charges",
    ),
    CURRENT_PATH: Command(
        Charger,
        lambda charger, value: charger.set_charge_current(value),
        "setting 4 to each device, its share: in RAM only (winmon 37); old devices store it, if it changes",
    ),
    SOC_PATH: Command(
        Charger,
        lambda charger, value: charger.set_soc(float(value)),
        "RAM variable 13 to the first device, when its battery monitor is on",
    ),
}
