"""What lives in a setting word: the setting as a number, or its flags. No state, no waiting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from mk2dbus.items import NO_LIMITS, Kind, Leaf, Limits, OutOfRange, Value
from mk2dbus.vebus.paths import unit_decimals
from mk2dbus.vebus.scaling import RAW_MAX, SettingScale
from mk2dbus.vebus.tables import Flag, Setting, SettingKind, flags

FORBIDDEN_FLAGS = frozenset({9, 10, 12})
"""Never writable through any door (dbus-contract.md): changing them can damage the device."""

OPPOSITE_FLAGS = {3: 7}
"""A flag, and the one that always has the opposite value."""


class View(ABC):
    """An item that is kept in a setting word."""

    leaf: Leaf
    limits: Limits

    @property
    @abstractmethod
    def mask(self) -> int:
        """The bits of the word that its value is made of."""

    @abstractmethod
    def value(self, word: int) -> Value:
        """The value in a word."""

    @abstractmethod
    def bits(self, value: int | float | str) -> tuple[int, int]:
        """Mask and bits that a value stands for.

        Raises:
            OutOfRange: the device does not take this value.
        """


@dataclass(frozen=True, slots=True)
class SettingView(View):
    """The whole word as a number."""

    leaf: Leaf
    limits: Limits
    scale: SettingScale

    @property
    def mask(self) -> int:
        return RAW_MAX

    def value(self, word: int) -> Value:
        value = self.scale.value(word)
        return int(value) if value is not None and self.leaf.kind is Kind.INTEGER else value

    def bits(self, value: int | float | str) -> tuple[int, int]:
        if isinstance(value, str):
            raise OutOfRange("a text cannot be stored")
        try:
            return RAW_MAX, self.scale.raw(value)
        except ValueError as error:
            raise OutOfRange(f"{self.leaf.path}: {error}") from error


@dataclass(frozen=True, slots=True)
class FlagView(View):
    """One bit of the word, with the bit that is always its opposite."""

    leaf: Leaf
    limits: Limits
    bit: int
    opposite: int | None

    @property
    def mask(self) -> int:
        return 1 << self.bit

    def value(self, word: int) -> Value:
        return word >> self.bit & 1

    def bits(self, value: int | float | str) -> tuple[int, int]:
        mask = self.mask
        bits = mask if value else 0
        if self.opposite is not None:
            mask |= 1 << self.opposite
            bits |= 0 if value else 1 << self.opposite
        return mask, bits


def setting_view(folder: str, setting: Setting, scale: SettingScale) -> SettingView:
    """The item of a setting, with the limits and the step of the device."""
    # The maximum of a flag word is the mask of its settable bits.
    limits = NO_LIMITS if setting.kind is SettingKind.FLAGS else scale.limits
    whole = scale.whole and not setting.unit
    if whole:
        limits = Limits(*(None if bound is None else int(bound) for bound in _bounds(limits)))
    leaf = Leaf(
        path=f"{folder}/{setting.name}",
        kind=Kind.INTEGER if whole else Kind.REAL,
        unit=setting.unit,
        writable=setting.kind is not SettingKind.FLAGS,
        meaning=setting.description,
        source=f"setting {setting.id}",
        # Settings of AC voltages come in whole volts.
        decimals=unit_decimals(setting.unit, ac=scale.decimals == 0, otherwise=scale.decimals),
        texts=setting.texts if whole else {},
        more_choices=limits.maximum is not None and limits.maximum > max(setting.texts, default=0),
    )
    return SettingView(leaf, limits, scale)


def _bounds(limits: Limits) -> tuple[float | None, float | None, float | None]:
    return limits.minimum, limits.maximum, limits.default


def flag_view(folder: str, flag: Flag, scale: SettingScale) -> FlagView:
    """The item of a flag; writable where the table and the device's own mask (§4.1) allow it."""
    mask = scale.info.maximum
    settable = flag.settable and flag.number not in FORBIDDEN_FLAGS and bool(mask >> flag.bit & 1)
    opposite = OPPOSITE_FLAGS.get(flag.number)
    opposite_bit = None if opposite is None else flags()[opposite].bit
    leaf = Leaf(
        path=f"{folder}/{flag.name}",
        kind=Kind.INTEGER,
        writable=settable,
        meaning=flag.description,
        source=f"flag {flag.number}",
        texts={0: "no", 1: "yes"},
    )
    return FlagView(
        leaf,
        Limits(0, 1, scale.info.default >> flag.bit & 1),
        flag.bit,
        opposite_bit if opposite_bit is not None and mask >> opposite_bit & 1 else None,
    )


def views(folder: str, setting: Setting, scale: SettingScale) -> Iterator[View]:
    """The items that a setting brings: itself, and its flags where it is a flag word."""
    yield setting_view(folder, setting, scale)
    for flag in flags().values():
        if flag.setting_id == setting.id and flag.name:
            yield flag_view(folder, flag, scale)
