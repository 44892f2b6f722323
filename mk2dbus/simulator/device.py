"""One inverter/charger: its stores, its switch, its RAM variables (mk2-protocol.md §4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto

from .assistants import LIST_END, LIST_START, Assistant, Ess, list_words
from .events import EventLog
from .plant import Plant
from .products import SNAPSHOT_FIRMWARE, DeviceType
from .tables import RamInfo, SettingInfo
from .unit import MainState, Unit, UnitConfig
from .winmon import Form, Groups, Override, Winmon

JOULES_PER_STEP = 65536
_FIRST_SLAVE = 3
"""First address that is not the master of a phase."""
_POWER_RAM = range(14, 20)
_SNAPSHOT_LIMIT = 6


class FrontSwitch(Enum):
    """The rocker switch on the unit."""

    ON = auto()
    OFF = auto()
    CHARGER_ONLY = auto()


class Setting:
    """One setting: what EEPROM holds, what is in effect, and how often EEPROM was written.

    Attributes:
        stored: raw value in EEPROM; what a read shows.
        writes: number of writes to EEPROM, the cells' wear.
    """

    __slots__ = ("_changed", "_ram", "info", "stored", "writes")

    def __init__(self, info: SettingInfo, raw: int, changed: Callable[[], None]) -> None:
        self.info = info
        self.stored = raw
        self.writes = 0
        self._ram = raw
        self._changed = changed

    @property
    def ram(self) -> int:
        """Raw value in effect."""
        return self._ram

    @ram.setter
    def ram(self, raw: int) -> None:
        self._ram = raw
        self._changed()

    @property
    def value(self) -> float:
        """Engineering value in effect."""
        return self.info.to_value(self._ram)


class Device:
    """One inverter/charger of a system.

    Args:
        kind: product and firmware.
        address: VE.Bus address; address modulo 3 is the phase (§4.5).
        unique: unique number (F 7).
        serial: 11 characters.
        plant: where the device's power section lives.
        log: where writes and refusals are recorded.
        stored: raw EEPROM values that differ from the defaults.
        assistants: what stands at RAM 128.
    """

    def __init__(
        self,
        kind: DeviceType,
        address: int,
        unique: int,
        serial: str,
        plant: Plant,
        log: EventLog,
        stored: Mapping[int, int] | None = None,
        assistants: list[Assistant] | None = None,
    ) -> None:
        self.kind = kind
        self.address = address
        self.unique = unique
        self.serial = serial
        self.plant = plant
        self.log = log
        self._config: UnitConfig | None = None
        self._config_of: tuple[object, ...] = ()
        self.settings = {
            number: Setting(info, (stored or {}).get(number, info.default), self._forget_config)
            for number, info in kind.settings.items()
            if info.supported
        }
        """Supported settings by id; attributes may be changed at will."""
        self.assistants = assistants or []
        self.overrides: list[Override] = []
        """Faults asked for; the first that matches applies."""
        self.front_switch = FrontSwitch.ON
        self.remote_charge = True
        """The remote panel allows charging."""
        self.remote_invert = True
        """The remote panel allows inverting."""
        self.limits_a: list[float] = []
        """AC current limit in force per input, as set by panel or setting 6 / 49."""
        self._present = True
        self.restarting_until: float | None = None
        self.error = 0
        """VE.Bus error code."""
        self.relay = False
        self.ignore_ac = False
        self.virtual_switch = False
        self.reset_needed = False
        self.now = 0.0
        self.snapshot: list[int] | None = None
        """Raw words of the last snapshot, until read."""
        self.winmon = Winmon(self)
        self.load_limits()
        self.unit = Unit(self.phase, kind.rated_w, self._unit_config)
        plant.units.append(self.unit)

    @property
    def phase(self) -> int:
        return self.address % 3

    @property
    def reachable(self) -> bool:
        """Whether the device takes part in the traffic on VE.Bus."""
        return self.present and self.unit.awake

    @property
    def reports_invalid_power(self) -> bool:
        """Whether its power and energy are nonsense: a slave with certain firmware (§4.3)."""
        return self.address >= _FIRST_SLAVE and self.kind.invalid_as_slave

    # -- coming and going ----------------------------------------------------------------------------------

    @property
    def present(self) -> bool:
        """Whether it is connected to VE.Bus; setting it is as good as :meth:`leave` and :meth:`join`."""
        return self._present

    @present.setter
    def present(self, present: bool) -> None:
        if present and not self._present:
            self.join()
        elif not present:
            self.leave()

    def leave(self) -> None:
        """Vanish from VE.Bus."""
        self._present = False
        self.unit.awake = False

    def join(self, awake: bool = True) -> None:
        """Be on VE.Bus (again); ``awake``: the others are."""
        self._present = True
        if awake:
            self.restart()

    def restart(self, keep_switch: bool = False) -> None:
        """Begin anew, as after a reset: what was only in RAM is gone, stored values take effect.

        ``keep_switch``: what the remote panel said stays.
        """
        for setting in self.settings.values():
            setting.ram = setting.stored
        self.load_limits()
        if not keep_switch:
            self.remote_charge = self.remote_invert = True
        self.reset_needed = False
        self.snapshot = None
        self.winmon.restart()
        for assistant in self.assistants:
            assistant.restart()
        self.error = 0
        self.restarting_until = None
        if self.present:
            self.unit.wake()

    def reset(self, until: float) -> None:
        """Be away until a time, then begin anew."""
        self.restarting_until = until
        self.unit.awake = False

    def tick(self, now: float) -> None:
        """Tell the device the time; bring its power section up to date with switch and assistants."""
        seconds, self.now = max(0.0, now - self.now), now
        if self.restarting_until is not None and now >= self.restarting_until:
            self.restart()
        unit = self.unit
        unit.charge_allowed = self.charge_allowed
        unit.invert_allowed = self.invert_allowed
        unit.ess = None
        for assistant in self.assistants:
            assistant.advance(seconds, unit.mains_v, unit.output_v)
            if isinstance(assistant, Ess):
                unit.ess = assistant.control

    # -- switch and limits ---------------------------------------------------------------------------------

    @property
    def charge_allowed(self) -> bool:
        """Resulting switch: front switch and remote panel together."""
        return self.remote_charge and self.front_switch is not FrontSwitch.OFF

    @property
    def invert_allowed(self) -> bool:
        return self.remote_invert and self.front_switch is FrontSwitch.ON

    @property
    def input_count(self) -> int:
        return min(self.kind.inputs, len(self.plant.inputs))

    def limit_range_a(self, index: int) -> tuple[float, float]:
        """Smallest and largest current limit of an AC input."""
        info = self.kind.settings[self.limit_setting(index)]
        return info.to_value(info.minimum), info.to_value(info.maximum)

    @staticmethod
    def limit_setting(index: int) -> int:
        """The setting that holds the current limit of an AC input."""
        return 49 if index else 6

    def load_limits(self) -> None:
        """Take the current limits from the settings, as after power-on."""
        numbers = [self.limit_setting(index) for index in range(self.input_count)]
        self.limits_a = [self.settings[number].value for number in numbers if number in self.settings]

    def flag(self, number: int) -> bool:
        """A flag as it is in effect; ``number`` as in flags.csv."""
        setting = self.settings.get((0, 1, 60, 61)[number // 16])
        return bool(setting and setting.ram >> number % 16 & 1)

    def _value(self, number: int, missing: float = 0.0) -> float:
        setting = self.settings.get(number)
        return setting.value if setting else missing

    def _forget_config(self) -> None:
        self._config = None

    def _unit_config(self) -> UnitConfig:
        """What the settings in effect mean for the power section; worked out again only after a change."""
        made_of = (*self.limits_a, self.virtual_switch)
        if self._config is None or made_of != self._config_of:
            self._config, self._config_of = self._make_config(), made_of
        return self._config

    def _make_config(self) -> UnitConfig:
        value = self._value
        output_v = value(5)
        shutdown_v = value(11)
        restart_v = shutdown_v + value(12)
        period_ms = value(62)
        hertz = 60.0 if self.flag(2) else 50.0
        if self.flag(34) and self.virtual_switch and period_ms:
            hertz = 1000 / period_ms
        high_off_v = value(46, 270.0)
        return UnitConfig(
            absorption_v=value(2),
            float_v=value(3),
            charge_a=value(4),
            charger_disabled=self.flag(6),
            reduced_float=self.flag(11),
            bulk_unlimited=self.flag(4),
            adaptive=value(10) >= 2,
            absorption_max_s=value(9) * 60,
            repeat_s=value(7) * 60,
            repeat_interval_s=value(8) * 60,
            shutdown_v=shutdown_v,
            restart_v=restart_v,
            low_alarm_v=restart_v + value(63),
            ac_low_off_v=value(44),
            ac_low_on_v=value(44) + value(45),
            ac_high_off_v=high_off_v,
            ac_high_on_v=high_off_v - value(47),
            output_v=output_v,
            output_hz=hertz,
            power_assist=self.flag(5),
            aes_below_w=0.0 if self.flag(8) else value(50) * output_v,
            input_limits_a=tuple(self.limits_a),
        )

    # -- measured values -----------------------------------------------------------------------------------

    def ram_value(self, number: int) -> float:
        """A RAM variable below 128 in engineering units; bits as 0 or 1."""
        unit, plant = self.unit, self.plant
        match number:
            case 0:
                return unit.mains_v
            case 1:
                return unit.mains_a
            case 2:
                return unit.output_v
            case 3:
                return unit.output_a
            case 4:
                return plant.battery.voltage_v
            case 5:
                return unit.battery_a
            case 6:
                return abs(unit.battery_a) * plant.battery.resistance_ohm
            case 7:
                return 10 / unit.output_hz if unit.output_hz else 0.0
            case 8:
                return 10 / unit.mains_hz if unit.mains_hz else 0.0
            case 9:
                return unit.output_a
            case 10:
                return float(self.virtual_switch)
            case 11:
                return float(self.ignore_ac)
            case 12:
                return float(self.relay)
            case 13:
                # The battery monitor needs to know the capacity.
                return plant.monitor.soc if self._value(64) else 1.0
            case 14 | 17:
                return unit.inverter_w
            case 15 | 18:
                return -unit.input_w
            case 16 | 19:
                return unit.output_w
            case 21:
                return plant.battery.temperature_c
            case _:
                raise KeyError(number)

    @property
    def sub_state(self) -> int:
        """Sub state; only charging has one."""
        return self.plant.charger.state if self.unit.main_state is MainState.CHARGE else 0

    def energy_counters(self) -> bytes:
        """The ten rolling counters (§4.3)."""
        if self.reports_invalid_power:
            return bytes(_nonsense(self.now, index) & 0xFF for index in range(10))
        return bytes(int(joules / JOULES_PER_STEP) & 0xFF for joules in self.unit.energy.joules)

    def read_ram(self, number: int) -> int | None:
        """The 16 bits of a RAM variable, or ``None`` when the device has no such variable."""
        if number >= LIST_START:
            if number > LIST_END:
                return None
            words = list(list_words(self.assistants))
            index = number - LIST_START
            return words[index] if index < len(words) else 0
        info = self.kind.ram.get(number)
        if info is None:
            return None
        if info.is_bit:
            # Bits are views of one word of flags.
            return sum(
                int(self.ram_value(other.id)) << other.bit for other in self.kind.ram.values() if other.is_bit
            )
        if number in _POWER_RAM and self.reports_invalid_power:
            return _nonsense(self.now, number)
        return info.to_raw(self.ram_value(number))

    def take_snapshot(self, ids: bytes) -> None:
        """Store RAM variables of this instant (F 6), if the firmware can."""
        if self.kind.firmware >= SNAPSHOT_FIRMWARE:
            self.snapshot = [self.read_ram(number) or 0 for number in ids[:_SNAPSHOT_LIMIT]]

    def write_named_ram(self, info: RamInfo, raw: int) -> None:
        """A write to a RAM variable that takes one."""
        match info.id:
            case 10:
                self.virtual_switch = bool(raw >> info.bit & 1)
            case 11:
                self.ignore_ac = bool(raw >> info.bit & 1)
            case 12:
                self.relay = bool(raw >> info.bit & 1)
            case _:
                # Without a capacity the battery monitor is off and the value has no effect.
                if self._value(64):
                    self.plant.monitor.soc = min(1.0, max(0.0, info.to_value(raw)))

    def answer(self, command: int, data: bytes, form: Form) -> Groups | None:
        """Groups that answer a winmon command; ``None``: the device keeps silent."""
        return self.winmon.answer(command, data, form)


def _nonsense(now: float, index: int) -> int:
    """16 bits that jump about and are nobody's value; the same for the same time."""
    return (int(now * 5) * 7919 + index * 24593 + 0x4E1F) & 0xFFFF
