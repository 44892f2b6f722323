"""Winmon commands to a device, each with its reply (mk2-protocol.md §4). ``WINMON_COMMANDS`` is the table.

A device answers in two forms, long or split, whichever the adapter's ``ext0`` says at that moment; another
program may change it, so both are understood at any time. Numbers are raw words as the device has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mk2dbus.mk2.errors import AccessRequired, NotSupported, Rejected
from mk2dbus.mk2.framing import hex_bytes
from mk2dbus.mk2.request import MORE, NOT_SUPPORTED, WINMON_OVERHEAD, More, Winmon, reject_unsupported

MAX_IDS = 6
"""RAM ids in one read or one snapshot."""


def _word(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _signed(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 2], "little", signed=True)


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(_word(data, at) for at in range(0, len(data) - 1, 2))


def _from_first(parts: tuple[bytes, ...], code: int) -> tuple[bytes, ...]:
    """The parts from the first with this code on: before it can be the rest of an earlier split reply."""
    for index, part in enumerate(parts):
        if part[0] == code:
            return parts[index:]
    return ()


# --- replies -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Version:
    """Version of a device, or only its low half when the reply is split (see :class:`GetVersionHigh`).

    Decimal 2623473 is product 0x2623, firmware 0x473.
    """

    value: int
    complete: bool


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Main and sub state (§4.4)."""

    main: int
    sub: int


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """How a setting is scaled and what it may hold (§4.1). ``scale`` is never 0."""

    scale: int
    offset: int
    default: int
    minimum: int
    maximum: int
    access: int = 0
    """Bit 0 grid-code protected, bit 7 a change needs a reset."""


@dataclass(frozen=True, slots=True)
class RamInfo:
    """How a RAM variable is scaled (§4.2). ``scale`` is never 0."""

    scale: int
    offset: int


@dataclass(frozen=True, slots=True)
class Written:
    """A write was acknowledged."""

    reset_needed: bool = False


@dataclass(frozen=True, slots=True)
class AccessLevels:
    """Access level of each of the 16 flags of a flag word."""

    levels: tuple[int, ...]


# --- commands ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetVersion(Winmon[Version]):
    """05: version; two bytes when split, four and more when long."""

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x05
    replies: ClassVar[frozenset[int]] = frozenset({0x82})
    _reply_bytes: ClassVar[int] = 11

    def read(self, parts: tuple[bytes, ...]) -> Version | More:
        reject_unsupported(self, parts)
        body = parts[-1][1:]
        if len(body) >= 4:
            return Version(int.from_bytes(body[:4], "little"), complete=True)
        return Version(_word(body), complete=False) if len(body) == 2 else MORE


@dataclass(frozen=True, slots=True)
class GetVersionHigh(Winmon[int]):
    """06: high half of the version, for split replies."""

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x06
    replies: ClassVar[frozenset[int]] = frozenset({0x83})
    _reply_bytes: ClassVar[int] = 7

    def read(self, parts: tuple[bytes, ...]) -> int | More:
        reject_unsupported(self, parts)
        return _word(parts[-1], 1) if len(parts[-1]) >= 3 else MORE


@dataclass(frozen=True, slots=True)
class GetState(Winmon[DeviceState]):
    """0E: ask the state, or force one: 0 ask, 1 equalise, 2 absorption, 3 float."""

    force: int = 0

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x0E
    replies: ClassVar[frozenset[int]] = frozenset({0x94})
    _reply_bytes: ClassVar[int] = 7

    def arguments(self) -> bytes:
        return bytes((self.force, 0))

    def read(self, parts: tuple[bytes, ...]) -> DeviceState | More:
        reject_unsupported(self, parts)
        return DeviceState(parts[-1][1], parts[-1][2]) if len(parts[-1]) >= 3 else MORE


@dataclass(frozen=True, slots=True)
class GetEnergyCounters(Winmon[tuple[int, ...]]):
    """0F: ten rolling energy counters, 65536 J a step (§4.3)."""

    section: ClassVar[str] = "4.3"
    code: ClassVar[int] = 0x0F
    replies: ClassVar[frozenset[int]] = frozenset({0x98})
    _reply_bytes: ClassVar[int] = 15

    def read(self, parts: tuple[bytes, ...]) -> tuple[int, ...] | More:
        reject_unsupported(self, parts)
        return tuple(parts[-1][1:11]) if len(parts[-1]) >= 11 else MORE


@dataclass(frozen=True, slots=True)
class ReadRam(Winmon[tuple[int, ...]]):
    """30: RAM variables, up to six on a new device; one, its id sent as a word, on an old one."""

    ids: tuple[int, ...]

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x30
    replies: ClassVar[frozenset[int]] = frozenset({0x85, 0x90})

    @property
    def reply_bytes(self) -> int:
        # A new device takes the word of a single id for two.
        return WINMON_OVERHEAD + 1 + 2 * max(len(self.ids), 2)

    def arguments(self) -> bytes:
        # A word for a single id is right on old devices; a new one reads it as two ids, the second being 0.
        return bytes(self.ids) if len(self.ids) > 1 else bytes((self.ids[0], 0))

    def read(self, parts: tuple[bytes, ...]) -> tuple[int, ...] | More:
        reject_unsupported(self, parts)
        last = parts[-1]
        if last[0] == 0x90:
            position = last[1] if len(last) > 1 and last[1] else 1
            if position > len(self.ids):
                return MORE
            raise NotSupported(f"RAM variable {self.ids[position - 1]} is not supported", position)
        values = _words(last[1:])
        expected = (1, 2) if len(self.ids) == 1 else (len(self.ids),)
        # A reply with another count answers another request.
        return values[: len(self.ids)] if len(values) in expected else MORE


@dataclass(frozen=True, slots=True)
class ReadSetting(Winmon[int]):
    """31: a setting as stored."""

    id: int

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x31
    replies: ClassVar[frozenset[int]] = frozenset({0x86, 0x91})
    _reply_bytes: ClassVar[int] = 7

    def arguments(self) -> bytes:
        return self.id.to_bytes(2, "little")

    def read(self, parts: tuple[bytes, ...]) -> int | More:
        reject_unsupported(self, parts)
        if parts[-1][0] == 0x91:
            raise NotSupported(f"setting {self.id} is not supported")
        return _word(parts[-1], 1) if len(parts[-1]) >= 3 else MORE


@dataclass(frozen=True, slots=True)
class GetSettingInfo(Winmon[SettingInfo]):
    """35: setting info, in one piece (new) or groups of three bytes, one or more a frame (split)."""

    id: int

    section: ClassVar[str] = "4.1"
    code: ClassVar[int] = 0x35
    replies: ClassVar[frozenset[int]] = frozenset({0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x91})
    _reply_bytes: ClassVar[int] = 16
    _LONG: ClassVar[int] = 11

    def arguments(self) -> bytes:
        return self.id.to_bytes(2, "little")

    def read(self, parts: tuple[bytes, ...]) -> SettingInfo | More:
        reject_unsupported(self, parts)
        if parts[-1][0] == 0x91:
            raise NotSupported(f"setting {self.id} is not supported")
        parts = _from_first(parts, 0x89)
        if not parts:
            return MORE
        first = parts[0]
        if len(first) < 3 or _signed(first, 1) == 0:
            raise NotSupported(f"setting {self.id} is not supported")
        # Four groups in a frame are as long as the long form with an access level.
        grouped = len(first) == self._LONG + 1 and first[3::3] == b"\x8a\x8b\x8c"
        if len(first) in (self._LONG, self._LONG + 1) and not grouped:
            scale, offset, default, minimum, maximum = struct.unpack_from("<hhHHH", first, 1)
            return SettingInfo(scale, offset, default, minimum, maximum, *first[self._LONG :])
        return self._read_groups(parts)

    def _read_groups(self, parts: tuple[bytes, ...]) -> SettingInfo | More:
        groups: dict[int, bytes] = {}
        for part in parts:
            for at in range(0, len(part) - 2, 3):
                groups.setdefault(part[at], part[at + 1 : at + 3])
        try:
            scale, offset, default, minimum, maximum = (groups[code] for code in range(0x89, 0x8E))
        except KeyError:
            return MORE
        return SettingInfo(_signed(scale), _signed(offset), _word(default), _word(minimum), _word(maximum))


@dataclass(frozen=True, slots=True)
class GetRamInfo(Winmon[RamInfo]):
    """36: RAM variable info: ``8E scale 8F offset`` in one frame or two, or without the 8F in between."""

    id: int

    section: ClassVar[str] = "4.2"
    code: ClassVar[int] = 0x36
    replies: ClassVar[frozenset[int]] = frozenset({0x8E, 0x8F, 0x90})
    _reply_bytes: ClassVar[int] = 10

    def arguments(self) -> bytes:
        return self.id.to_bytes(2, "little")

    def read(self, parts: tuple[bytes, ...]) -> RamInfo | More:
        reject_unsupported(self, parts)
        if parts[-1][0] == 0x90:
            raise NotSupported(f"RAM variable {self.id} is not supported")
        parts = _from_first(parts, 0x8E)
        if not parts:
            return MORE
        first = parts[0]
        if len(first) < 3 or _signed(first, 1) == 0:
            raise NotSupported(f"RAM variable {self.id} is not supported")
        scale = _signed(first, 1)
        if len(first) == 5:
            return RamInfo(scale, _signed(first, 3))
        if len(first) == 6 and first[3] == 0x8F:
            return RamInfo(scale, _signed(first, 4))
        second = parts[1] if len(parts) > 1 else b""
        if len(first) == 3 and len(second) == 3 and second[0] == 0x8F:
            return RamInfo(scale, _signed(second, 1))
        return MORE


class _Write(Winmon[Written]):
    """Common to the writing commands: sent once, whatever happens; who asked reads back and decides."""

    attempts: ClassVar[int] = 1
    replies: ClassVar[frozenset[int]] = frozenset({0x87, 0x88, 0x90, 0x91, 0x9B})
    _reply_bytes: ClassVar[int] = 6

    def _read(self, parts: tuple[bytes, ...], acknowledge: int) -> Written | More:
        last = parts[-1]
        if last[0] in (NOT_SUPPORTED, 0x90, 0x91):
            raise Rejected(f"reply {hex_bytes(last)}")
        if last[0] == 0x9B:
            level = last[1] if len(last) > 1 else 0
            raise AccessRequired(f"access level {level} is required", level)
        if last[0] != acknowledge:
            return MORE
        # Split replies are padded with a second byte; only a single one is the "reset needed" byte.
        return Written(reset_needed=len(last) == 2 and bool(last[1] & 1))


@dataclass(frozen=True, slots=True)
class WriteById(_Write):
    """37: write a setting or a RAM variable; the only way on a new device with long replies."""

    id: int
    value: int
    setting: bool
    ram_only: bool = False
    """Takes effect, is not stored; reading the setting still gives the stored value."""

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x37

    def arguments(self) -> bytes:
        flags = int(self.setting) | int(self.ram_only) << 1
        return bytes((flags, self.id)) + self.value.to_bytes(2, "little")

    def read(self, parts: tuple[bytes, ...]) -> Written | More:
        return self._read(parts, 0x88 if self.setting else 0x87)


@dataclass(frozen=True, slots=True)
class WriteArmed(_Write):
    """32 or 33, then 34: write on an old device. The first has no reply but a refusal."""

    id: int
    value: int
    setting: bool

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x34

    def payloads(self) -> tuple[bytes, ...]:
        arm = bytes((0x33 if self.setting else 0x32,)) + self.id.to_bytes(2, "little")
        return arm, bytes((self.code,)) + self.value.to_bytes(2, "little")

    def read(self, parts: tuple[bytes, ...]) -> Written | More:
        return self._read(parts, 0x88 if self.setting else 0x87)


@dataclass(frozen=True, slots=True)
class ReadSnapshot(Winmon[tuple[int, ...]]):
    """38: the values of the last snapshot in the order asked for; empty when there is none (any more).

    Attributes:
        count: how many were asked for, to know the size of the reply.
    """

    count: int = 3

    section: ClassVar[str] = "4.5"
    code: ClassVar[int] = 0x38
    replies: ClassVar[frozenset[int]] = frozenset({0x99})
    attempts: ClassVar[int] = 1

    @property
    def reply_bytes(self) -> int:
        return WINMON_OVERHEAD + 1 + 2 * self.count

    def read(self, parts: tuple[bytes, ...]) -> tuple[int, ...] | More:
        reject_unsupported(self, parts)
        return _words(parts[-1][1:])


@dataclass(frozen=True, slots=True)
class SendPassword(Winmon[bool]):
    """3A: password for an access level, 8 bytes, valid for 30 s. A wrong one is rejected."""

    password: bytes = field(repr=False)

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x3A
    replies: ClassVar[frozenset[int]] = frozenset({0x9C})
    _reply_bytes: ClassVar[int] = 5
    attempts: ClassVar[int] = 1

    def arguments(self) -> bytes:
        return self.password

    def read(self, parts: tuple[bytes, ...]) -> bool | More:
        reject_unsupported(self, parts)
        return True


@dataclass(frozen=True, slots=True)
class GetSerial(Winmon[str]):
    """3B: serial number, 11 ASCII characters; firmware 308 and later."""

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x3B
    replies: ClassVar[frozenset[int]] = frozenset({0x9D})
    _reply_bytes: ClassVar[int] = 16

    def read(self, parts: tuple[bytes, ...]) -> str | More:
        reject_unsupported(self, parts)
        characters = parts[-1][1:12].rstrip(b"\x00 ")
        if not characters.isascii() or not characters.decode("ascii").isprintable():
            return MORE
        return characters.decode("ascii")


@dataclass(frozen=True, slots=True)
class GetAccessLevels(Winmon[AccessLevels]):
    """3C: access level of each flag of a flag word, in one frame or two; firmware 308 and later."""

    id: int

    section: ClassVar[str] = "4"
    code: ClassVar[int] = 0x3C
    replies: ClassVar[frozenset[int]] = frozenset({0x9E, 0x9F})
    _reply_bytes: ClassVar[int] = 26
    _GROUP: ClassVar[int] = 11

    def arguments(self) -> bytes:
        return self.id.to_bytes(2, "little")

    def read(self, parts: tuple[bytes, ...]) -> AccessLevels | More:
        reject_unsupported(self, parts)
        joined = b"".join(parts)
        groups = {joined[at]: joined[at : at + self._GROUP] for at in range(0, len(joined), self._GROUP)}
        levels = b""
        for code in (0x9E, 0x9F):
            group = groups.get(code, b"")
            if len(group) < self._GROUP or _word(group, 1) != self.id:
                return MORE
            levels += group[3:]
        return AccessLevels(tuple(levels))


WINMON_COMMANDS: tuple[type[Winmon[Any]], ...] = (
    GetVersion,
    GetVersionHigh,
    GetState,
    GetEnergyCounters,
    ReadRam,
    ReadSetting,
    WriteArmed,
    GetSettingInfo,
    GetRamInfo,
    WriteById,
    ReadSnapshot,
    SendPassword,
    GetSerial,
    GetAccessLevels,
)
