"""What the console's actions act on: a core, perhaps with a cable, and what is looked up in it."""

from __future__ import annotations

from typing import Protocol

from .core import Core
from .device import Device
from .syntax import CommandError


class Cable(Protocol):
    """What can be pulled out and put in again."""

    @property
    def plugged(self) -> bool:
        """Whether it is in."""

    @property
    def port(self) -> str:
        """Path that a client opens."""

    def plug(self) -> None:
        """Put it in.

        Raises:
            OSError: no port can be made.
        """

    def unplug(self) -> None:
        """Pull it out."""


class Bench:
    """A core, and the cable to it.

    Args:
        core: what is acted on.
        cable: what ``plug`` and ``unplug`` act on; ``None``: there is none.
    """

    def __init__(self, core: Core, cable: Cable | None = None) -> None:
        self.core = core
        self._cable = cable

    @property
    def cable(self) -> Cable:
        if self._cable is None:
            raise CommandError("there is no cable here")
        return self._cable

    @property
    def port(self) -> str | None:
        """Where the cable is plugged in."""
        return self._cable.port if self._cable is not None and self._cable.plugged else None

    def device(self, address: int) -> Device:
        """The device at an address, present or not."""
        device = self.core.devices.get(address)
        if device is None:
            there = ", ".join(map(str, self.core.devices)) or "none"
            raise CommandError(f"no unit at address {address}; there are {there}")
        return device

    def some(self, address: int | None) -> list[Device]:
        """The device at an address, or all."""
        return list(self.core.devices.values()) if address is None else [self.device(address)]

    def phases(self, phase: int | None) -> range:
        """Indices of one phase, or of all."""
        count = self.core.plant.phases
        if phase is None:
            return range(count)
        if phase >= count:
            raise CommandError(f"no phase {phase + 1}; the system has {count}")
        return range(phase, phase + 1)

    def input_index(self, number: int) -> int:
        """Index of an AC input."""
        count = len(self.core.plant.inputs)
        if number > count:
            raise CommandError(f"no input {number}; the system has {count}")
        return number - 1
