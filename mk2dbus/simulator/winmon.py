"""A device's answers to winmon commands (§4).

A device answers with *groups*: a reply code and its bytes. The form they take, and how they are put into
frames, depends on the device's age and on the adapter's ext0 bit 0 (§4); :attr:`Form.COMPAT` stands for "old
device, or that bit set".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from .assistants import LIST_END, LIST_START, word_at
from .charger import ChargeState
from .events import Kind
from .products import ACCESS_FIRMWARE, SNAPSHOT_FIRMWARE
from .tables import RamInfo
from .unit import MainState

if TYPE_CHECKING:
    from .device import Device

PASSWORD_VALID_S = 30.0
ACCESS_GRID_CODE = 0x01
ACCESS_RESET = 0x80

_WRITABLE_RAM = frozenset({10, 11, 12, 13})
"""RAM variables below 128 that take a write; the others are measured quantities."""
_INVERSE_FLAGS = (3, 7)
"""Flags that must always differ (flags.csv)."""
_FORCED = {1: ChargeState.EQUALISE, 2: ChargeState.FORCED_ABSORPTION, 3: ChargeState.FLOAT}


class Form(Enum):
    """Form of winmon requests and replies (§4)."""

    LONG = auto()
    """New device, ext0 bit 0 clear."""
    COMPAT = auto()
    """Old device, or a new one with ext0 bit 0 set."""


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


@dataclass(frozen=True, slots=True)
class _Command:
    """How a device takes a winmon command: lengths of its data in each form, what answers it."""

    handler: Callable[[bytes, Form], Groups | None]
    long_lengths: Collection[int]
    compat_lengths: Collection[int]
    firmware: int = 0
    """First firmware that has it."""
    new_only: bool = False


class Winmon:
    """The winmon side of a device: what it remembers between commands, and its answers."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._armed: tuple[bool, int] | None = None
        self._password_until = -1.0
        self._override_uses: dict[Override, int] = {}
        self._commands = self._command_table()

    def restart(self) -> None:
        """Forget what was armed and the password."""
        self._armed = None
        self._password_until = -1.0

    def answer(self, command: int, data: bytes, form: Form) -> Groups | None:
        """Groups that answer a winmon command; ``None``: the device keeps silent.

        The form of an old device is always :attr:`Form.COMPAT`.
        """
        if not self._device.kind.new:
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
        for override in self._device.overrides:
            if override.command != command or not data.startswith(override.prefix):
                continue
            used = self._override_uses.get(override, 0)
            if override.times is None or used < override.times:
                self._override_uses[override] = used + 1
                return override
        return None

    def _execute(self, command: int, data: bytes, form: Form) -> Groups | None:
        known, kind = self._commands.get(command), self._device.kind
        if known is not None and kind.firmware >= known.firmware and (kind.new or not known.new_only):
            lengths = known.long_lengths if form is Form.LONG else known.compat_lengths
            if lengths:
                if len(data) not in lengths:
                    self._note(Kind.UNANSWERED, "winmon: wrong length", command, data)
                    return None
                return known.handler(data, form)
        self._note(Kind.NOTE, "winmon: command not supported", command, data)
        return [_refusal(0)]

    def _command_table(self) -> dict[int, _Command]:
        """Winmon commands (§4). No lengths: not supported in that form."""
        none, word, words6 = (0,), (2,), range(1, 7)
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
            0x37: _Command(self._write, (4,), (4,), new_only=True),
            0x38: _Command(self._read_snapshot, none, none, SNAPSHOT_FIRMWARE),
            0x3A: _Command(self._password, (8,), (8,), ACCESS_FIRMWARE),
            0x3B: _Command(self._serial_number, none, none, ACCESS_FIRMWARE),
            0x3C: _Command(self._access_levels, word, word, ACCESS_FIRMWARE),
        }

    # -- state and values ----------------------------------------------------------------------------------

    def _version(self, _data: bytes, form: Form) -> Groups:
        kind = self._device.kind
        version = struct.pack("<I", kind.version)
        return [b"\x82" + (version + kind.version_tail if form is Form.LONG else version[:2])]

    def _version_high(self, _data: bytes, _form: Form) -> Groups:
        return [b"\x83" + struct.pack("<I", self._device.kind.version)[2:]]

    def _state(self, data: bytes, _form: Form) -> Groups:
        device = self._device
        forced = _FORCED.get(data[0])
        if forced is not None and device.unit.main_state is MainState.CHARGE:
            device.plant.charger.force(forced)
            self._note(Kind.NOTE, "charge state forced", 0x0E, data)
        elif data[0]:
            self._note(Kind.NOTE, "charge state refused", 0x0E, data)
            return [_refusal(1)]
        return [bytes((0x94, device.unit.main_state, device.sub_state))]

    def _energy(self, _data: bytes, _form: Form) -> Groups:
        return [b"\x98" + self._device.energy_counters()]

    def _read_ram(self, data: bytes, form: Form) -> Groups:
        ids = list(data) if form is Form.LONG else [int.from_bytes(data, "little")]
        reply = b"\x85"
        for position, number in enumerate(ids, 1):
            raw = self._device.read_ram(number)
            if raw is None:
                return [bytes((0x90, position))]
            reply += raw.to_bytes(2, "little")
        return [reply]

    def _read_snapshot(self, _data: bytes, _form: Form) -> Groups:
        words, self._device.snapshot = self._device.snapshot or [], None
        return [b"\x99" + b"".join(word.to_bytes(2, "little") for word in words)]

    def _read_setting(self, data: bytes, _form: Form) -> Groups:
        setting = self._device.settings.get(int.from_bytes(data, "little"))
        return [b"\x91"] if setting is None else [b"\x86" + setting.stored.to_bytes(2, "little")]

    # -- infos ---------------------------------------------------------------------------------------------

    def _setting_info(self, data: bytes, form: Form) -> Groups:
        setting = self._device.settings.get(int.from_bytes(data, "little"))
        if setting is None:
            return [b"\x89"]
        info = setting.info
        words = struct.pack("<hhHHH", info.scale, info.offset, info.default, info.minimum, info.maximum)
        if form is Form.LONG:
            tail = bytes((info.access,)) if self._device.kind.firmware >= ACCESS_FIRMWARE else b""
            return [b"\x89" + words + tail]
        return [bytes((0x89 + index,)) + words[2 * index : 2 * index + 2] for index in range(5)]

    def _ram_info(self, data: bytes, form: Form) -> Groups:
        number = int.from_bytes(data, "little")
        info = self._device.kind.ram.get(number)
        if LIST_START <= number <= LIST_END:
            info = RamInfo(number, "", 1, 0)
        if info is None:
            return [b"\x8e"]
        if form is Form.LONG:
            return [b"\x8e" + struct.pack("<HH", info.scale, info.offset)]
        return [b"\x8e" + struct.pack("<H", info.scale), b"\x8f" + struct.pack("<H", info.offset)]

    def _serial_number(self, _data: bytes, _form: Form) -> Groups:
        return [b"\x9d" + self._device.serial.encode("ascii")]

    def _access_levels(self, data: bytes, _form: Form) -> Groups:
        setting = self._device.settings.get(int.from_bytes(data, "little"))
        if setting is None or not setting.info.is_flags:
            return [_refusal(1)]
        levels = bytes((setting.info.access,)) * 16
        return [b"\x9e" + data + levels[:8], b"\x9f" + data + levels[8:]]

    # -- writes --------------------------------------------------------------------------------------------

    def _password(self, data: bytes, _form: Form) -> Groups:
        if data != self._device.kind.password:
            return [_refusal(1)]
        self._password_until = self._device.now + PASSWORD_VALID_S
        return [b"\x9c"]

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
        device = self._device
        setting = device.settings.get(number)
        if setting is None:
            return None
        info = setting.info
        if info.access & ACCESS_GRID_CODE and device.now > self._password_until:
            return bytes((0x9B, ACCESS_GRID_CODE))
        if info.is_flags:
            if device.kind.new:
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
                device.load_limits()
        if ram_only:
            self._note_write(Kind.RAM_WRITTEN, "setting in RAM only", number, raw)
        else:
            setting.stored = raw
            setting.writes += 1
            device.reset_needed |= later
            self._note_write(Kind.STORED, "setting stored", number, raw)
        tail = bytes((later,)) if device.kind.firmware >= ACCESS_FIRMWARE else b""
        return b"\x88" + tail

    def _write_ram(self, number: int, raw: int) -> bytes | None:
        """The reply to a write; ``None``: no such variable, or it is measured."""
        device = self._device
        if number >= LIST_START:
            place = word_at(device.assistants, number)
            if place is None:
                return None
            assistant, index = place
            assistant.words[index] = raw
            assistant.written(index)
        elif number not in _WRITABLE_RAM or number not in device.kind.ram:
            return None
        else:
            device.write_named_ram(device.kind.ram[number], raw)
        self._note_write(Kind.RAM_WRITTEN, "RAM variable", number, raw)
        return b"\x87"

    # -- the log -------------------------------------------------------------------------------------------

    def _note(self, kind: Kind, reason: str, command: int, data: bytes) -> None:
        self._device.log.add(self._device.now, kind, reason, bytes((self._device.address, command)) + data)

    def _note_write(self, kind: Kind, reason: str, number: int, raw: int) -> None:
        """Record a write: address, id (u16) and value (u16, big-endian to be read by people)."""
        data = struct.pack(">BHH", self._device.address, number, raw)
        self._device.log.add(self._device.now, kind, reason, data)


def _refusal(position: int) -> bytes:
    """Reply code 80: not supported (0), or which byte of the data was wrong."""
    return bytes((0x80, position))
