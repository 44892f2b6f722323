"""Raw words of a device to values with a unit, and back, as the device's own infos say (§4.1, §4.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mk2dbus.items import INT32_MAX, INT32_MIN, Limits, Number
from mk2dbus.mk2.winmon import RamInfo, SettingInfo

RAW_MAX = 0xFFFF
NOT_APPLICABLE = 0xFFFF
"""Read from a setting whose maximum is below it: not applicable in this configuration (§4.1)."""

_BIT_MARK = -0x8000
_FRACTION_FROM = 0x4000
_FRACTION_BASE = 0x8000


def to_signed(raw: int) -> int:
    """A 16-bit word as a signed number."""
    return raw - 0x10000 if raw & 0x8000 else raw


@dataclass(frozen=True, slots=True)
class RamScale:
    """Scale of a RAM variable (§4.2)."""

    info: RamInfo

    @property
    def is_bit(self) -> bool:
        """The variable is one bit of the word."""
        return self.info.offset == _BIT_MARK

    @property
    def _divisor(self) -> int:
        """Steps a unit; 0 where a step is one or more units."""
        size = abs(self.info.scale)
        return _FRACTION_BASE - size if size >= _FRACTION_FROM else 0

    @property
    def decimals(self) -> int:
        """Decimals that show every step."""
        return math.ceil(math.log10(self._divisor)) if self._divisor > 1 else 0

    def value(self, raw: int, *, signed: bool | None = None) -> Number:
        """The value of a raw word. ``signed`` overrules what the info says (the currents, §3.3)."""
        if self.is_bit:
            return raw >> (self.info.scale - 1) & 1
        if signed is None:
            signed = self.info.scale < 0
        return self.scaled(to_signed(raw) if signed else raw)

    def scaled(self, number: int) -> float:
        """A number of any width (a sum, 24 bits, 8 bits) in units."""
        shifted = number + self.info.offset
        # A division gives the decimal that is meant (50.55), a product of 0.01 does not.
        return shifted / self._divisor if self._divisor else float(shifted * abs(self.info.scale))

    def raw(self, value: Number, *, either_sign: bool = False) -> int:
        """The word nearest to a value. ``either_sign``: a negative one too where the info says unsigned.

        Raises:
            ValueError: does not fit in a word, or the variable is a bit.
        """
        if self.is_bit:
            raise ValueError("a bit has no word of its own")
        steps = value * self._divisor if self._divisor else value / abs(self.info.scale)
        number = round(steps) - self.info.offset
        low, high = (-0x8000, 0x7FFF) if self.info.scale < 0 else (-0x8000 if either_sign else 0, RAW_MAX)
        if not low <= number <= high:
            raise ValueError(f"{value} does not fit in a word")
        return number & RAW_MAX


def ram_scale(info: RamInfo) -> RamScale | None:
    """The scale an info gives; ``None`` when it makes no sense (then the variable is not usable)."""
    if info.offset == _BIT_MARK:
        return RamScale(info) if 1 <= info.scale <= 16 else None
    # 0x8000 would be a division by zero; 0 is "not supported".
    return RamScale(info) if info.scale not in (0, -0x8000) else None


@dataclass(frozen=True, slots=True)
class SettingScale:
    """Scale and limits of a setting (§4.1)."""

    info: SettingInfo

    def value(self, raw: int) -> float | None:
        """The value of a raw word; ``None`` when the setting is not applicable."""
        if raw == NOT_APPLICABLE and self.info.maximum < NOT_APPLICABLE:
            return None
        return self._scaled(raw)

    def _scaled(self, raw: int) -> float:
        scale, number = self.info.scale, raw + self.info.offset
        return float(scale * number) if scale > 0 else number / -scale

    def raw(self, value: Number) -> int:
        """The raw word nearest to a value.

        Raises:
            ValueError: outside minimum and maximum.
        """
        scale = self.info.scale
        raw = round(value / scale if scale > 0 else value * -scale) - self.info.offset
        if not self.info.minimum <= raw <= self.info.maximum:
            raise ValueError(f"{value} is outside the limits")
        return raw

    @property
    def limits(self) -> Limits:
        """Minimum, maximum and default as values."""
        default = self.info.default
        usable = self.info.minimum <= default <= self.info.maximum
        return Limits(
            minimum=self._scaled(self.info.minimum),
            maximum=self._scaled(self.info.maximum),
            default=self._scaled(default) if usable else None,
        )

    @property
    def decimals(self) -> int:
        """Decimals that show every step."""
        scale = self.info.scale
        return 0 if scale > 0 else min(math.ceil(math.log10(-scale)), 4)

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers that an integer item can hold."""
        if self.info.scale < -1:
            return False
        return all(INT32_MIN <= self._scaled(raw) <= INT32_MAX for raw in (0, RAW_MAX))
