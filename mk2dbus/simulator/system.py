"""A VE.Bus system: its devices, what they have in common, and the frames they report in (§3.1, §3.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mk2dbus.mk2.framing import Frame, FrameType

from .charger import ChargeState
from .device import Device, FrontSwitch
from .events import EventLog, Kind
from .plant import Level, Plant, SensorAlarm
from .products import DeviceType
from .unit import MainState, Unit

SLEEP_AFTER_S = 4.0
"""Time from being switched off until the devices sleep, unless the standby line holds them awake."""
RESET_S = 3.0
"""Time a device is away after a reset (F 8)."""
WARM_C, HOT_C = 50.0, 60.0
"""Temperatures of the battery from which there is a pre-alarm, an alarm."""

LEDS_UNKNOWN = 0x1F
_MAINS, _ABSORPTION, _BULK, _FLOAT = 0x01, 0x02, 0x04, 0x08
_INVERTER, _OVERLOAD, _LOW_BATTERY, _TEMPERATURE = 0x10, 0x20, 0x40, 0x80
_TEMPERATURE_ALARM, _LOW_BATTERY_ALARM, _OVERLOAD_ALARM, _RIPPLE_ALARM = 0x01, 0x02, 0x04, 0x08
"""Pre-alarms; the full alarms are the same, four bits higher."""

_PHASE_DC = 0x0C
_PHASES_AC = (0x08, 0x07, 0x06, 0x05)
"""Phase bytes of L1…L4; L1 of a system with n phases is 0x08 + n − 1."""
_DMC_PHASE, _BMS_PHASE = 0x80, 0x83
_FLAG_REMOTE_OVERRULES = (30, 15)
"""Flags that allow a remote to change the current limit of AC input 1 and 2."""
_KEEP_LIMIT = 0x8000
_CHARGE_LEDS = _BULK | _ABSORPTION | _FLOAT
_SENSOR_LEDS = {SensorAlarm.TEMPERATURE: _ABSORPTION | _FLOAT, SensorAlarm.VOLTAGE: _BULK | _ABSORPTION}
"""LEDs that blink for the alarm of a sensor (§3.1)."""
_ESS_INVERTING_LEDS = _BULK | _FLOAT
"""LEDs that blink, as recorded, when ESS lets a unit invert."""

_STAGE_LEDS = {
    ChargeState.INIT: (0, 0),
    ChargeState.BULK: (_BULK, 0),
    ChargeState.ABSORPTION: (_ABSORPTION, 0),
    ChargeState.FLOAT: (_FLOAT, 0),
    ChargeState.STORAGE: (_FLOAT, 0),
    ChargeState.REPEATED_ABSORPTION: (_ABSORPTION, 0),
    ChargeState.FORCED_ABSORPTION: (0, _BULK | _ABSORPTION | _FLOAT),
    ChargeState.EQUALISE: (0, _BULK | _ABSORPTION | _FLOAT),
    ChargeState.BULK_STOPPED: (0, _BULK),
}


def _hot(celsius: float) -> Level:
    """How bad a temperature of the battery is."""
    return Level.FULL if celsius >= HOT_C else Level.PRE if celsius >= WARM_C else Level.OK


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel frame: switch position 1…4 and current limit in 0.1 A (§3.2)."""

    mode: int
    limit: int

    @property
    def charge(self) -> bool:
        return self.mode in (1, 3)

    @property
    def invert(self) -> bool:
        return self.mode in (2, 3)


class System:
    """All devices on one VE.Bus.

    Args:
        devices: in the order of their addresses; the first leads. Empty: nothing is connected.
        plant: what the devices' power sections are part of.
        log: where panel frames and changes of state go.
        bms_version: of a VE.Bus BMS that is present.
        dmc_version: of a Digital Multi Control that is present.
    """

    def __init__(
        self,
        devices: list[Device],
        plant: Plant,
        log: EventLog,
        bms_version: int | None = None,
        dmc_version: int | None = None,
    ) -> None:
        self.devices = {device.address: device for device in devices}
        self.plant = plant
        self.log = log
        self.bms_version = bms_version
        self.dmc_version = dmc_version
        self.awake = True
        """Whether the devices are awake; an adapter that they supply is alive only then."""
        self.held_awake = False
        """The adapter pulls the standby line (:meth:`hold_awake`)."""
        self.panel_detected = False
        """The adapter pulls the panel detect line."""
        self.now = 0.0
        self._off_since: float | None = None
        self._restart_at: float | None = None
        self._replaced = 0

    @property
    def leader(self) -> Device | None:
        """The reachable device with the lowest address."""
        return next((device for device in self.devices.values() if device.reachable), None)

    def device(self, address: int) -> Device | None:
        """A device that can be talked to."""
        device = self.devices.get(address)
        return device if device is not None and device.reachable else None

    # -- time ----------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let the time come to ``now``: power, charge stages, falling asleep, coming back after a reset."""
        if self._restart_at is not None and now >= self._restart_at:
            self._restart_at = None
            self._wake(now, "back after a reset")
        self.now = max(now, self.now)
        for device in self.devices.values():
            device.tick(self.now)
        self.plant.advance(self.now)
        self._watch_switch()

    @property
    def deadline(self) -> float | None:
        """When something will happen by itself."""
        times = [self._restart_at]
        if self._off_since is not None and self.awake and not self.held_awake:
            times.append(self._off_since + SLEEP_AFTER_S)
        return min((time for time in times if time is not None), default=None)

    def _watch_switch(self) -> None:
        leader = next(iter(self.devices.values()), None)
        if leader is None or self._restart_at is not None:
            return
        if leader.charge_allowed or leader.invert_allowed:
            self._off_since = None
            return
        if self._off_since is None or self.held_awake:
            self._off_since = self.now
        if self.awake and self.now >= self._off_since + SLEEP_AFTER_S:
            self.sleep("switched off")

    def sleep(self, reason: str = "sleep frame") -> None:
        """Put the devices to sleep: no power for anything, the adapter included."""
        if self.held_awake:
            self.log.add(self.now, Kind.NOTE, "held awake by the standby line")
        elif self.awake and self.devices:
            self.awake = False
            self.log.add(self.now, Kind.NOTE, f"asleep: {reason}")
            for device in self.devices.values():
                device.unit.awake = False

    def hold_awake(self, held: bool) -> None:
        """The standby line: keeps the devices awake while they are switched off, and wakes them to that."""
        self.held_awake = held
        if held and not self.awake and self._restart_at is None and self.devices:
            self._wake(self.now, "standby line", keep_switch=True)

    def wake(self, reason: str = "woken") -> None:
        """Wake the devices, as the front switch or a wake frame does; they start from their stored state."""
        if not self.awake:
            self._wake(self.now, reason)

    def _wake(self, now: float, reason: str, keep_switch: bool = False) -> None:
        self.awake = True
        self._off_since = None
        self.log.add(now, Kind.NOTE, f"awake: {reason}")
        for device in self.devices.values():
            device.restart(keep_switch)

    def replace(self, address: int, kind: DeviceType) -> Device:
        """Put another device in the place of one: other product or firmware, nothing stored."""
        old = self.devices[address]
        place = self.plant.units.index(old.unit)
        self._replaced += 1
        device = Device(
            kind=kind,
            address=address,
            unique=old.unique + 0x1000,
            serial=f"HQ2345{self._replaced:05}",
            plant=self.plant,
            log=self.log,
        )
        self.plant.units.remove(device.unit)
        self.plant.units[place] = device.unit
        self.devices[address] = device
        device.now = self.now
        device.front_switch = old.front_switch
        if not old.present:
            device.leave()
        device.unit.awake = old.present and self.awake
        self.log.add(self.now, Kind.NOTE, "device replaced", bytes((address,)))
        return device

    def turn_front_switch(self, position: FrontSwitch) -> None:
        """Turn the switch on the units by hand; turning it from off to another position wakes them."""
        for device in self.devices.values():
            device.front_switch = position
        if position is not FrontSwitch.OFF:
            self.wake("front switch")

    def reset(self, unique: int) -> None:
        """Reset the device with a unique number (F 8); 0: all."""
        chosen = [device for device in self.devices.values() if unique in (0, device.unique)]
        self.log.add(self.now, Kind.NOTE, "reset", unique.to_bytes(4, "little"))
        if chosen and len(chosen) == len(self.devices):
            # Nobody supplies the bus until they are back.
            self.awake = False
            self._restart_at = self.now + RESET_S
            for device in chosen:
                device.unit.awake = False
            return
        for device in chosen:
            device.reset(self.now + RESET_S)

    # -- commands to all -----------------------------------------------------------------------------------

    def panel(self, panel: Panel, by_dmc: bool = False) -> None:
        """A panel frame on the bus: switch position and current limit for all devices.

        Where there is a Digital Multi Control, it alone (``by_dmc``) is heard.
        """
        data = struct.pack("<BH", panel.mode, panel.limit)
        self.log.add(self.now, Kind.PANEL, "panel frame", data)
        if self.bms_version is not None or (self.dmc_version is not None and not by_dmc):
            self.log.add(self.now, Kind.NOTE, "panel frame ignored: BMS or DMC in control", data)
            return
        if not 1 <= panel.mode <= 4:
            self.log.add(self.now, Kind.NOTE, "panel frame ignored: no such switch position", data)
            return
        for device in self.devices.values():
            device.remote_charge, device.remote_invert = panel.charge, panel.invert
        if panel.limit == _KEEP_LIMIT:
            self.log.add(self.now, Kind.NOTE, "panel frame with limit 0x8000", data)
        else:
            self.set_limit(self.plant.active_input or 0, panel.limit / 10)
        self.advance(self.now)

    def set_limit(self, index: int, amps: float) -> None:
        """Set the current limit of an AC input if the settings allow a remote to; clipped to its range."""
        for device in self.devices.values():
            if index < device.input_count and device.flag(_FLAG_REMOTE_OVERRULES[index]):
                low, high = device.limit_range_a(index)
                device.limits_a[index] = min(max(amps, low), high)

    def snapshot(self, ids: bytes) -> None:
        """Every device stores these RAM variables at this instant (F 6)."""
        for device in self.devices.values():
            if device.reachable:
                device.take_snapshot(ids)

    # -- what the devices report ---------------------------------------------------------------------------

    def leds(self) -> tuple[int, int]:
        """LED masks, on and blink (§3.1)."""
        leader = self.leader
        if leader is None:
            return LEDS_UNKNOWN, LEDS_UNKNOWN
        on = blink = 0
        if self.plant.connected:
            on |= _MAINS
        unit = leader.unit
        if unit.main_state is MainState.CHARGE and unit.inverter_w < 0:
            blink |= _ESS_INVERTING_LEDS
        elif unit.main_state is MainState.CHARGE:
            stage_on, stage_blink = _STAGE_LEDS[self.plant.charger.state]
            on |= stage_on
            blink |= stage_blink
        elif unit.main_state in (MainState.INVERT_FULL, MainState.INVERT_HALF, MainState.POWER_ASSIST):
            on |= _INVERTER
        elif unit.main_state is MainState.INVERT_AES:
            blink |= _INVERTER
        if self.plant.sensor_alarm:
            on &= ~_CHARGE_LEDS
            blink = blink & ~_CHARGE_LEDS | _SENSOR_LEDS[self.plant.sensor_alarm]
        alarms = self.alarms()
        for alarm, led in (
            (_TEMPERATURE_ALARM, _TEMPERATURE),
            (_LOW_BATTERY_ALARM, _LOW_BATTERY),
            (_OVERLOAD_ALARM, _OVERLOAD),
        ):
            if alarms & alarm << 4:
                on |= led
            elif alarms & alarm:
                blink |= led
        return on, blink

    def alarms(self) -> int:
        """Alarm mask of the `L` reply (§3.1); a full alarm includes no pre-alarm."""
        units = [device.unit for device in self.devices.values() if device.reachable]
        if not units:
            return 0
        plant = self.plant
        overload = max(
            Level.FULL if unit.overloaded else Level.PRE if unit.load_share > 1 else Level.OK
            for unit in units
        )
        low_battery = max(self._low_battery(unit) for unit in units)
        levels = {
            _TEMPERATURE_ALARM: max(plant.temperature_level, _hot(plant.battery.temperature_c)),
            _RIPPLE_ALARM: plant.ripple_level,
            _OVERLOAD_ALARM: max(plant.overload_level, overload),
            _LOW_BATTERY_ALARM: max(plant.low_battery_level, low_battery),
        }
        return sum(bit << (4 if level > 1 else 0) for bit, level in levels.items() if level)

    def _low_battery(self, unit: Unit) -> Level:
        if unit.low_battery:
            return Level.FULL
        low = not self.plant.connected and self.plant.battery.voltage_v < unit.config.low_alarm_v
        return Level.PRE if low else Level.OK

    def error(self) -> int:
        """VE.Bus error code of the system."""
        return max((device.error for device in self.devices.values() if device.reachable), default=0)

    def ac_info(self, phase: int) -> Frame | None:
        """AC info frame of a phase, 0 = L1; ``None``: there is no such phase.

        Its currents are the mean of the units: times the factors, their number, they are the phase's total.
        """
        units = [device for device in self.devices.values() if device.reachable and device.phase == phase]
        if not units or phase >= self.plant.phases:
            return None
        first = units[0]
        phase_byte = _PHASES_AC[phase] + (self.plant.phases - 1 if phase == 0 else 0)
        words = [
            first.kind.ram[number].to_raw(sum(device.ram_value(number) for device in units) / len(units))
            for number in (0, 1, 2, 3)
        ]
        period = min(first.read_ram(8) or 0, 0xFF)
        head = bytes((len(units), len(units), 0x01, first.unit.main_state, phase_byte))
        return Frame(FrameType.INFO, head + struct.pack("<4HB", *words, period))

    def dc_info(self) -> Frame | None:
        """DC info frame: the battery currents of all devices together."""
        leader = self.leader
        if leader is None:
            return None
        total_a = sum(device.unit.battery_a for device in self.devices.values() if device.reachable)
        step_a = leader.kind.ram[5].factor
        charging, inverting = round(max(total_a, 0.0) / step_a), round(max(-total_a, 0.0) / step_a)
        data = bytes((0xF3, 0x00, 0xC8, 0x02, _PHASE_DC))
        data += struct.pack("<H", leader.read_ram(4) or 0)
        data += inverting.to_bytes(3, "little") + charging.to_bytes(3, "little")
        return Frame(FrameType.INFO, data + bytes((min(leader.read_ram(7) or 0, 0xFF),)))

    def input_config(self) -> Frame | None:
        """AC input configuration (type 0x41): limits of the active input, switch register."""
        leader = self.leader
        if leader is None:
            return None
        index = min(self.plant.active_input or 0, leader.input_count - 1)
        config = index | leader.input_count << 4
        config |= 0x04 if leader.flag(_FLAG_REMOTE_OVERRULES[index]) else 0
        config |= 0x08 if self.dmc_version is not None else 0
        config |= 0x80 if self.panel_detected else 0
        low, high = leader.limit_range_a(index)
        switch = 0x01 * leader.remote_charge | 0x02 * leader.remote_invert
        switch |= 0x04 * (leader.front_switch is FrontSwitch.ON)
        switch |= 0x08 * (leader.front_switch is FrontSwitch.CHARGER_ONLY)
        switch |= 0x10 * leader.charge_allowed | 0x20 * leader.invert_allowed
        limits = struct.pack("<3H", *(round(10 * amps) for amps in (low, high, leader.limits_a[index])))
        return Frame(FrameType.AC_INPUT, bytes((0, 0, 0, 0, config)) + limits + bytes((switch,)))

    def configuration(self, address: int) -> Frame | None:
        """Configuration of one device (F 7): who it is, and who is on the bus."""
        device = self.device(address)
        if device is None:
            return None
        bitmap = sum(1 << other.address for other in self.devices.values() if other.reachable)
        is_phase_master = address < 3
        kind = 2 + device.phase if is_phase_master else 0x20 + device.phase
        data = struct.pack("<IBHIH", device.unique, kind, 0, bitmap, 0) + bytes((address,))
        return Frame(FrameType.INFO, data)

    def query(self, data: bytes) -> Frame | None:
        """The answer of a DMC or BMS to a query of type 0x21 (§3.4)."""
        versions = {_DMC_PHASE: self.dmc_version, _BMS_PHASE: self.bms_version}
        version = versions.get(data[4]) if len(data) == 5 and data[:4] == b"\xff" * 4 else None
        if version is None:
            return None
        return Frame(FrameType.INFO, bytes(4) + bytes((data[4],)) + version.to_bytes(4, "little"))
