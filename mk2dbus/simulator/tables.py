"""Settings and RAM variables as a device knows them: raw scale, offset and limits, and the way to and from
engineering units (mk2-protocol.md §4.1, §4.2). Read from the package's data tables, on purpose without the
driver's own reader, so that driver and simulator check each other.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

BIT_OFFSET = 0x8000
"""Offset of a RAM variable that is a bit."""


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """What winmon 35 tells about a setting; everything raw, as it goes over the line."""

    id: int
    name: str
    scale: int
    """s16; 0: not supported."""
    offset: int
    """s16."""
    default: int
    minimum: int
    maximum: int
    """u16; of a flag word: the mask of the bits that may be set."""
    is_flags: bool = False
    access: int = 0
    """0x01 grid-code protected, 0x80 a change needs a reset."""

    @property
    def supported(self) -> bool:
        return self.scale != 0

    def to_value(self, raw: int) -> float:
        """Engineering value of a raw one."""
        shifted = raw + self.offset
        return self.scale * shifted if self.scale > 0 else shifted / -self.scale

    def to_raw(self, value: float) -> int:
        """Raw value nearest to an engineering one, not limited."""
        shifted = value / self.scale if self.scale > 0 else value * -self.scale
        return round(shifted) - self.offset


@dataclass(frozen=True, slots=True)
class RamInfo:
    """What winmon 36 tells about a RAM variable: the two raw words."""

    id: int
    name: str
    scale: int
    offset: int

    @property
    def is_bit(self) -> bool:
        return self.offset == BIT_OFFSET

    @property
    def bit(self) -> int:
        """Bit number of a bit variable."""
        return self.scale - 1

    @property
    def signed(self) -> bool:
        return self.scale >= 0x8000

    @property
    def factor(self) -> float:
        """Engineering units per raw step."""
        size = 0x10000 - self.scale if self.signed else self.scale
        return 1 / (0x8000 - size) if size >= 0x4000 else float(size)

    def to_raw(self, value: float) -> int:
        """The 16 bits for an engineering value, limited to what fits.

        Negative values of variables that call themselves unsigned are sent as signed all the same: real
        devices do so with currents (§3.3).
        """
        offset = self.offset - 0x10000 if self.offset > 0x8000 else self.offset
        raw = round(value / self.factor) - offset
        high = 0x7FFF if self.signed or raw < 0 else 0xFFFF
        return max(-0x8000, min(raw, high)) & 0xFFFF

    def to_value(self, raw: int) -> float:
        """Engineering value of a raw word."""
        offset = self.offset - 0x10000 if self.offset > 0x8000 else self.offset
        return self.factor * ((raw - 0x10000 if self.signed and raw >= 0x8000 else raw) + offset)


_UNPUBLISHED: dict[int, tuple[int, int]] = {71: (-100, -32768), 75: (1, 0)}
"""Scale and offset where the table has none: plausible ones, so that the simulated device has them."""

_RESET_NEEDED = frozenset({50, 51, 64, 65})
_GRID_CODE = frozenset({81, *range(128, 192)})


def load_settings() -> dict[int, SettingInfo]:
    """Infos of all settings of the 48 V MultiPlus-II of the table, by id."""
    infos = {}
    for row in _rows("settings.csv"):
        number = int(row["id"])
        scale, offset = _UNPUBLISHED.get(number, (0, 0))
        access = (0x80 if number in _RESET_NEEDED else 0) | (0x01 if number in _GRID_CODE else 0)
        infos[number] = SettingInfo(
            id=number,
            name=row["name"],
            scale=int(row["scale"] or scale),
            offset=int(row["offset"] or offset),
            default=int(row["default"]),
            minimum=int(row["minimum"]),
            maximum=int(row["maximum"]),
            is_flags=row["kind"] == "flags",
            access=access,
        )
    return infos


def load_ram() -> dict[int, RamInfo]:
    """Infos of the RAM variables with known info words, by id."""
    return {
        int(row["id"]): RamInfo(
            id=int(row["id"]),
            name=row["name"],
            scale=int(row["typical_scale_raw"], 16),
            offset=int(row["typical_offset_raw"], 16),
        )
        for row in _rows("ramvars.csv")
        if row["typical_scale_raw"]
    }


def _rows(name: str) -> list[dict[str, str]]:
    with resources.files("mk2dbus").joinpath("data", name).open(encoding="utf-8") as table:
        return list(csv.DictReader(table))
