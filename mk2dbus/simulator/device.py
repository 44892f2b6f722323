"""One inverter/charger as winmon commands see it: its stores, its RAM variables, its answers.

mk2-protocol.md §4. A device answers a winmon command with *groups*: a reply code and its bytes. The form they
take, and how they are put into frames, depends on the device's age and on the adapter's ext0 bit 0 (§4);
:attr:`Form.COMPAT` stands for "old device, or that bit set".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from .events import EventLog, Kind
from .plant import ChargeState, MainState, Plant, Unit, UnitConfig
from .tables import RamInfo, SettingInfo

SNAPSHOT_FIRMWARE = 300
ACCESS_FIRMWARE = 308
"""First firmware with access levels, serial number, and the byte after reply code 88 (§4)."""
PASSWORD_VALID_S = 30.0
SETPOINT_VALID_S = 60.0
"""Time after which an ESS setpoint that is not written again expires (§4.6)."""
ASSISTANTS_START = 128
"""First RAM id of the assistants' list."""
LAST_RAM_ID = 0xFF
ESS_ASSISTANT = 5
JOULES_PER_STEP = 65536
ACCESS_GRID_CODE = 0x01
ACCESS_RESET = 0x80

_WRITABLE_RAM = frozenset({10, 11, 12, 13})
"""RAM variables below 128 that take a write; the others are measured quantities."""
_SNAPSHOT_LIMIT = 6
_INVERSE_FLAGS = (3, 7)
"""Flags that must always differ (flags.csv)."""


class Form(Enum):
    """Form of winmon requests and replies (§4)."""

    LONG = auto()
    """New device, ext0 bit 0 clear."""
    COMPAT = auto()
    """Old device, or a new one with ext0 bit 0 set."""


class FrontSwitch(Enum):
    """The rocker switch on the unit."""

    ON = auto()
    OFF = auto()
    CHARGER_ONLY = auto()


Groups = list[bytes]
"""The answer to a winmon command: reply code and data, once or several times."""


@dataclass(frozen=True, slots=True)
class Override:
    """A fault asked for: what a device does with one winmon command instead of what it would do.

    Attributes:
        command: winmon command code.
        prefix: applies only to requests whose data begin with this.
        execute: whether the command takes effect all the same.
        reply: groups to answer with instead; ``None``: no reply at all (the reply is lost);
            ``KEEP``: the true reply.
        times: how often it applies; ``None``: always.
    """

    KEEP = (b"keep",)

    command: int
    prefix: bytes = b""
    execute: bool = True
    reply: tuple[bytes, ...] | None = None
    times: int | None = None


class Setting:
    """One setting: what EEPROM holds, what is in effect, and how often EEPROM was written.

    Attributes:
        stored: raw value in EEPROM; what a read shows.
        ram: raw value in effect.
        writes: number of writes to EEPROM, the cells' wear.
    """

    __slots__ = ("info", "ram", "stored", "writes")

    def __init__(self, info: SettingInfo, raw: int) -> None:
        self.info = info
        self.stored = raw
        self.ram = raw
        self.writes = 0

    @property
    def value(self) -> float:
        """Engineering value in effect."""
        return self.info.to_value(self.ram)


@dataclass(slots=True)
class Assistant:
    """An assistant: its id, and its words in the list at RAM 128 (§4.6)."""

    id: int
    words: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeviceType:
    """What devices of one product and firmware have in common.

    Attributes:
        version: product id and firmware in decimal digits: 2729560 (§4).
        new: answers 05 with everything in one frame, writes with 37.
        settings: infos by id.
        ram: RAM variable infos by id, below 128.
        rated_w: continuous power.
        version_tail: bytes after the version in the long reply.
    """

    version: int
    new: bool
    settings: Mapping[int, SettingInfo]
    ram: Mapping[int, RamInfo]
    rated_w: float
    version_tail: bytes = b""
    password: bytes = b"SIMULATE"

    @property
    def firmware(self) -> int:
        """The last three digits."""
        return self.version % 1000


@dataclass(frozen=True, slots=True)
class _Command:
    """How a device takes a winmon command: lengths of its data in each form, what answers it."""

    handler: Callable[[bytes, Form], Groups | None]
    long_lengths: Collection[int]
    compat_lengths: Collection[int]
    firmware: int = 0
    """First firmware that has it."""


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
        self.settings = {
            number: Setting(info, (stored or {}).get(number, info.default))
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
        self.present = True
        """``False``: unplugged from VE.Bus, or gone."""
        self.restarting_until = 0.0
        self.error = 0
        """VE.Bus error code."""
        self.relay = False
        self.ignore_ac = False
        self.virtual_switch = False
        self.reset_needed = False
        self.now = 0.0
        self.snapshot: list[int] | None = None
        """Raw words of the last snapshot, until read."""
        self._armed: tuple[bool, int] | None = None
        self._password_until = -1.0
        self._setpoint_until = -1.0
        self._override_uses: dict[Override, int] = {}
        self._commands = self._command_table()
        self.load_limits()
        self.unit = Unit(self.phase, kind.rated_w, self._unit_config)
        plant.units.append(self.unit)

    @property
    def phase(self) -> int:
        return self.address % 3

    @property
    def reachable(self) -> bool:
        """Whether the device takes part in the traffic on VE.Bus."""
        return self.present and self.unit.awake and self.now >= self.restarting_until

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
        return len(self.plant.inputs)

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

    def restart(self) -> None:
        """Begin anew, as after a reset: what was only in RAM is gone, stored values take effect."""
        for setting in self.settings.values():
            setting.ram = setting.stored
        self.load_limits()
        self.remote_charge = self.remote_invert = True
        self.reset_needed = False
        self.snapshot = None
        self._armed = None
        self._password_until = -1.0
        self._clear_setpoint()
        self.error = 0
        self.unit.wake()

    def tick(self, now: float) -> None:
        """Tell the device the time; bring its power section up to date with switch and assistants."""
        self.now = now
        if now >= self._setpoint_until:
            self._clear_setpoint()
        self.unit.charge_allowed = self.charge_allowed
        self.unit.invert_allowed = self.invert_allowed
        ess = self._ess()
        if ess is None:
            self.unit.feed_in_w = None
            return
        # With no valid setpoint the unit neither takes nor gives for ESS: it just passes the grid through.
        self.unit.feed_in_w = float(_signed(ess.words[0])) if now < self._setpoint_until else None
        self.unit.ess_charge_disabled = bool(ess.words[1] & 1)
        self.unit.ess_feed_in_disabled = bool(ess.words[1] & 2)

    def _ess(self) -> Assistant | None:
        return next((one for one in self.assistants if one.id == ESS_ASSISTANT and len(one.words) >= 2), None)

    def _clear_setpoint(self) -> None:
        ess = self._ess()
        if ess is not None:
            ess.words[0] = 0
        self._setpoint_until = -1.0

    def _value(self, number: int, missing: float = 0.0) -> float:
        setting = self.settings.get(number)
        return setting.value if setting else missing

    def _unit_config(self) -> UnitConfig:
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
                return plant.battery.soc if self._value(64) else 1.0
            case 14 | 17:
                return unit.inverter_w
            case 15 | 18:
                return -unit.input_w
            case 16 | 19:
                return unit.output_w
            case _:
                raise KeyError(number)

    def read_ram(self, number: int) -> int | None:
        """The 16 bits of a RAM variable, or ``None`` when the device has no such variable."""
        if number >= ASSISTANTS_START:
            if number > LAST_RAM_ID:
                return None
            words = self._assistant_words()
            index = number - ASSISTANTS_START
            return words[index] if index < len(words) else 0
        info = self.kind.ram.get(number)
        if info is None:
            return None
        if info.is_bit:
            # Bits are views of one word of flags.
            return sum(
                int(self.ram_value(other.id)) << other.bit for other in self.kind.ram.values() if other.is_bit
            )
        return info.to_raw(self.ram_value(number))

    def _assistant_words(self) -> list[int]:
        """The words from RAM 128 on: for each assistant a header, then its words."""
        return [
            word
            for assistant in self.assistants
            for word in (assistant.id << 4 | len(assistant.words), *assistant.words)
        ]

    def _assistant_slot(self, number: int) -> tuple[Assistant, int] | None:
        """Whose word a RAM id from 128 on is, and which one; ``None`` for headers and behind the end."""
        index = number - ASSISTANTS_START
        for assistant in self.assistants:
            if index == 0:
                return None
            if index <= len(assistant.words):
                return assistant, index - 1
            index -= 1 + len(assistant.words)
        return None

    def take_snapshot(self, ids: bytes) -> None:
        """Store RAM variables of this instant (F 6), if the firmware can."""
        if self.kind.firmware >= SNAPSHOT_FIRMWARE:
            self.snapshot = [self.read_ram(number) or 0 for number in ids[:_SNAPSHOT_LIMIT]]

    # -- winmon --------------------------------------------------------------------------------------------

    def answer(self, command: int, data: bytes, form: Form) -> Groups | None:
        """Groups that answer a winmon command; ``None``: the device keeps silent.

        The form of an old device is always :attr:`Form.COMPAT`.
        """
        if not self.kind.new:
            form = Form.COMPAT
        override = self._override(command, data)
        if override is None:
            groups = self._execute(command, data, form)
        else:
            groups = self._execute(command, data, form) if override.execute else []
            if override.reply is None:
                self._note(Kind.LOST, "override: no reply", command, data)
                return None
            if override.reply is not Override.KEEP:
                groups = list(override.reply)
        if groups is not None and form is Form.COMPAT:
            groups = [group.ljust(3, b"\x00") for group in groups]
        return groups

    def _override(self, command: int, data: bytes) -> Override | None:
        for override in self.overrides:
            if override.command != command or not data.startswith(override.prefix):
                continue
            used = self._override_uses.get(override, 0)
            if override.times is None or used < override.times:
                self._override_uses[override] = used + 1
                return override
        return None

    def _execute(self, command: int, data: bytes, form: Form) -> Groups | None:
        known = self._commands.get(command)
        if known is not None:
            lengths = known.long_lengths if form is Form.LONG else known.compat_lengths
            if lengths and self.kind.firmware >= known.firmware:
                if len(data) not in lengths:
                    self._note(Kind.UNANSWERED, "winmon: wrong length", command, data)
                    return None
                return known.handler(data, form)
        self._note(Kind.NOTE, "winmon: command not supported", command, data)
        return [_refusal(0)]

    def _command_table(self) -> dict[int, _Command]:
        """Winmon commands (§4). No lengths: not supported in that form."""
        none, word, words6 = (0,), (2,), range(1, 7)
        new = self.kind.new
        return {
            0x05: _Command(self._version, none, none),
            0x06: _Command(self._version_high, none, none),
            0x0E: _Command(self._state, word, word),
            0x0F: _Command(self._energy, none, none),
            0x30: _Command(self._read_ram, words6, word),
            0x31: _Command(self._read_setting, word, word),
            0x32: _Command(self._arm_ram, (), word),
            0x33: _Command(self._arm_setting, (), word),
            0x34: _Command(self._write_armed, (), word),
            0x35: _Command(self._setting_info, word, word),
            0x36: _Command(self._ram_info, word, word),
            0x37: _Command(self._write, (4,), (4,) if new else ()),
            0x38: _Command(self._read_snapshot, none, none, SNAPSHOT_FIRMWARE),
            0x3A: _Command(self._password, (8,), (8,), ACCESS_FIRMWARE),
            0x3B: _Command(self._serial_number, none, none, ACCESS_FIRMWARE),
            0x3C: _Command(self._access_levels, word, word, ACCESS_FIRMWARE),
        }

    def _version(self, _data: bytes, form: Form) -> Groups:
        version = struct.pack("<I", self.kind.version)
        return [b"\x82" + (version + self.kind.version_tail if form is Form.LONG else version[:2])]

    def _version_high(self, _data: bytes, _form: Form) -> Groups:
        return [b"\x83" + struct.pack("<I", self.kind.version)[2:]]

    def _state(self, data: bytes, _form: Form) -> Groups:
        forced = {1: ChargeState.EQUALISE, 2: ChargeState.FORCED_ABSORPTION, 3: ChargeState.FLOAT}
        if data[0] not in (0, *forced):
            return [_refusal(1)]
        if data[0]:
            self.plant.charger.force(forced[data[0]])
            self._note(Kind.NOTE, "charge state forced", 0x0E, data)
        return [bytes((0x94, self.unit.main_state, self.sub_state))]

    @property
    def sub_state(self) -> int:
        """Sub state; only charging has one."""
        return self.plant.charger.state if self.unit.main_state is MainState.CHARGE else 0

    def _energy(self, _data: bytes, _form: Form) -> Groups:
        return [b"\x98" + bytes(int(joules / JOULES_PER_STEP) & 0xFF for joules in self.unit.energy.joules)]

    def _read_ram(self, data: bytes, form: Form) -> Groups:
        ids = list(data) if form is Form.LONG else [int.from_bytes(data, "little")]
        reply = b"\x85"
        for position, number in enumerate(ids, 1):
            raw = self.read_ram(number)
            if raw is None:
                return [bytes((0x90, position))]
            reply += raw.to_bytes(2, "little")
        return [reply]

    def _read_setting(self, data: bytes, _form: Form) -> Groups:
        setting = self.settings.get(int.from_bytes(data, "little"))
        return [b"\x91"] if setting is None else [b"\x86" + setting.stored.to_bytes(2, "little")]

    def _setting_info(self, data: bytes, form: Form) -> Groups:
        setting = self.settings.get(int.from_bytes(data, "little"))
        if setting is None:
            return [b"\x89"]
        info = setting.info
        words = struct.pack("<hhHHH", info.scale, info.offset, info.default, info.minimum, info.maximum)
        if form is Form.LONG:
            tail = bytes((info.access,)) if self.kind.firmware >= ACCESS_FIRMWARE else b""
            return [b"\x89" + words + tail]
        return [bytes((0x89 + index,)) + words[2 * index : 2 * index + 2] for index in range(5)]

    def _ram_info(self, data: bytes, form: Form) -> Groups:
        number = int.from_bytes(data, "little")
        info = self.kind.ram.get(number)
        if ASSISTANTS_START <= number <= LAST_RAM_ID:
            info = RamInfo(number, "", 1, 0)
        if info is None:
            return [b"\x8e"]
        if form is Form.LONG:
            return [b"\x8e" + struct.pack("<HH", info.scale, info.offset)]
        return [b"\x8e" + struct.pack("<H", info.scale), b"\x8f" + struct.pack("<H", info.offset)]

    def _arm_ram(self, data: bytes, _form: Form) -> None:
        self._armed = (False, int.from_bytes(data, "little"))

    def _arm_setting(self, data: bytes, _form: Form) -> None:
        self._armed = (True, int.from_bytes(data, "little"))

    def _write_armed(self, data: bytes, _form: Form) -> Groups:
        if self._armed is None:
            self._note(Kind.NOTE, "winmon: 34 without 32 or 33", 0x34, data)
            return [_refusal(0)]
        (is_setting, number), self._armed = self._armed, None
        raw = int.from_bytes(data, "little")
        if is_setting:
            reply = self._write_setting(number, raw, ram_only=False)
            return [b"\x91"] if reply is None else [reply[:1] if reply[0] == 0x88 else reply]
        return [self._write_ram(number, raw) or b"\x90"]

    def _write(self, data: bytes, _form: Form) -> Groups:
        flags, number, raw = struct.unpack("<BBH", data)
        if flags & ~0x03:
            return [_refusal(1)]
        if flags & 0x01:
            return [self._write_setting(number, raw, ram_only=bool(flags & 0x02)) or _refusal(2)]
        return [self._write_ram(number, raw) or _refusal(2)]

    def _write_setting(self, number: int, raw: int, ram_only: bool) -> bytes | None:
        """The reply to a write; ``None``: no such setting."""
        setting = self.settings.get(number)
        if setting is None:
            return None
        info = setting.info
        if info.access & ACCESS_GRID_CODE and self.now > self._password_until:
            return bytes((0x9B, ACCESS_GRID_CODE))
        if info.is_flags:
            if self.kind.new:
                raw = setting.stored & ~info.maximum | raw & info.maximum
            elif (raw ^ setting.stored) & ~info.maximum:
                self._note_write(Kind.NOTE, "foreign flag bits changed", number, raw)
        elif not info.minimum <= raw <= info.maximum:
            self._note_write(Kind.NOTE, "write refused: out of range", number, raw)
            return _refusal(3)
        if number == 0 and len({raw >> bit & 1 for bit in _INVERSE_FLAGS}) == 1:
            self._note_write(Kind.NOTE, "flags 3 and 7 no longer differ", number, raw)
        later = bool(info.access & ACCESS_RESET) and not ram_only
        if not later:
            setting.ram = raw
            if number in (6, 49):
                self.load_limits()
        if ram_only:
            self._note_write(Kind.RAM_WRITTEN, "setting in RAM only", number, raw)
        else:
            setting.stored = raw
            setting.writes += 1
            self.reset_needed |= later
            self._note_write(Kind.STORED, "setting stored", number, raw)
        tail = bytes((later,)) if self.kind.firmware >= ACCESS_FIRMWARE else b""
        return b"\x88" + tail

    def _write_ram(self, number: int, raw: int) -> bytes | None:
        """The reply to a write; ``None``: no such variable, or it is measured."""
        if number >= ASSISTANTS_START:
            slot = self._assistant_slot(number)
            if slot is None:
                return None
            assistant, index = slot
            assistant.words[index] = raw
            if assistant is self._ess() and index == 0:
                self._setpoint_until = self.now + SETPOINT_VALID_S
        elif number not in _WRITABLE_RAM or number not in self.kind.ram:
            return None
        else:
            self._write_named(self.kind.ram[number], raw)
        self._note_write(Kind.RAM_WRITTEN, "RAM variable", number, raw)
        return b"\x87"

    def _write_named(self, info: RamInfo, raw: int) -> None:
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
                    self.plant.battery.soc = min(1.0, max(0.0, info.to_value(raw)))

    def _read_snapshot(self, _data: bytes, _form: Form) -> Groups:
        words, self.snapshot = self.snapshot or [], None
        return [b"\x99" + b"".join(word.to_bytes(2, "little") for word in words)]

    def _password(self, data: bytes, _form: Form) -> Groups:
        if data != self.kind.password:
            return [_refusal(1)]
        self._password_until = self.now + PASSWORD_VALID_S
        return [b"\x9c"]

    def _serial_number(self, _data: bytes, _form: Form) -> Groups:
        return [b"\x9d" + self.serial.encode("ascii")]

    def _access_levels(self, data: bytes, _form: Form) -> Groups:
        setting = self.settings.get(int.from_bytes(data, "little"))
        if setting is None or not setting.info.is_flags:
            return [_refusal(1)]
        levels = bytes((setting.info.access,)) * 16
        return [b"\x9e" + data + levels[:8], b"\x9f" + data + levels[8:]]

    def _note(self, kind: Kind, reason: str, command: int, data: bytes) -> None:
        self.log.add(self.now, kind, reason, bytes((self.address, command)) + data)

    def _note_write(self, kind: Kind, reason: str, number: int, raw: int) -> None:
        """Record a write: address, id (u16) and value (u16, big-endian to be read by people)."""
        self.log.add(self.now, kind, reason, struct.pack(">BHH", self.address, number, raw))


def _refusal(position: int) -> bytes:
    """Reply code 80: not supported (0), or which byte of the data was wrong."""
    return bytes((0x80, position))


def _signed(word: int) -> int:
    return word - 0x10000 if word >= 0x8000 else word
