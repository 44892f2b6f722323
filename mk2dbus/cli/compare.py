"""Differences between two backups, or between a backup and what a service has now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .archive import Archive, Saved, SavedDevice
from .values import same, show

ABSENT = "not there"

_YES_NO = {0: "no", 1: "yes"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting or flag that is not the same on both sides; ``None`` where it is not there at all."""

    name: str
    one: Saved | None
    other: Saved | None

    def texts(self) -> tuple[str, str]:
        """Both values, the way a person reads them."""
        return _text(self.one, self.other), _text(self.other, self.one)


def _text(saved: Saved | None, opposite: Saved | None) -> str:
    if saved is None:
        return ABSENT
    # A file written by hand has no texts and units, or old ones: its value is what counts.
    for known in (saved, opposite):
        if known is not None and known.text and known.value == saved.value:
            return known.text
        if known is not None and known.text in _YES_NO.values() and saved.value in _YES_NO:
            return _YES_NO[int(saved.value)]
    return show(saved.value) + (saved.unit or (opposite.unit if opposite else ""))


def differences(one: SavedDevice, other: SavedDevice) -> list[Difference]:
    """What differs of the settings and flags that can be written on one side at least."""
    all_one, all_other = {**one.read_only, **one.writable}, {**other.read_only, **other.writable}
    names = {**one.writable, **other.writable}
    return list(_differences(names, all_one, all_other))


def read_only_differences(one: SavedDevice, other: SavedDevice) -> list[Difference]:
    """What differs of the settings and flags that can be written on neither side."""
    names = {**one.read_only, **other.read_only}
    writable = one.writable.keys() | other.writable.keys()
    found = _differences(names, one.read_only, other.read_only)
    return [difference for difference in found if difference.name not in writable]


def _differences(
    names: Mapping[str, Saved], one: Mapping[str, Saved], other: Mapping[str, Saved]
) -> Iterator[Difference]:
    for name in names:
        left, right = one.get(name), other.get(name)
        if left is None or right is None or not same(left.value, right.value):
            yield Difference(name, left, right)


def pairs(one: Archive, other: Archive) -> list[tuple[SavedDevice | None, SavedDevice | None]]:
    """The devices of both sides by number."""
    left, right = ({device.number: device for device in side.devices} for side in (one, other))
    return [(left.get(number), right.get(number)) for number in sorted(left.keys() | right.keys())]


def identity(device: SavedDevice) -> str:
    """Product and firmware, which have to be the same for a restore."""
    return f"{product(device)}, firmware {firmware(device)}"


def product(device: SavedDevice) -> str:
    if device.product_id is None:
        return device.product or "unknown product"
    return device.product or f"product {device.product_id:04X}"


def firmware(device: SavedDevice) -> str:
    return "unknown" if device.firmware is None else f"{device.firmware:X}"
