"""What is remembered of each very device while it is away: what it cannot be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mk2dbus.vebus.device import Device

MOST = 256
"""Units remembered; a system has 32 at most. The one that was met first is forgotten first."""


@dataclass(slots=True)
class Unit:
    """One very device.

    Attributes:
        reset_required: a setting was stored that takes effect only after a reset.
        ram_doubt: bits, by setting, that were put in RAM only and may be in effect or not.
    """

    reset_required: bool = False
    ram_doubt: dict[int, int] = field(default_factory=dict)


class Units:
    """All units that were met."""

    def __init__(self) -> None:
        self._units: dict[tuple[int, int, str | None], Unit] = {}

    def __iter__(self) -> Iterator[Unit]:
        return iter(self._units.values())

    def of(self, device: Device) -> Unit:
        """What is remembered of a device; one that was never met has nothing to remember."""
        key = device.address, device.version, device.serial
        if key not in self._units and len(self._units) >= MOST:
            del self._units[next(iter(self._units))]
        return self._units.setdefault(key, Unit())
