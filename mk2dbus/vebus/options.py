"""What a user may choose about the inverter side."""

from __future__ import annotations

from dataclasses import dataclass

from mk2dbus.mk2.speed import SpeedChoice

POLL_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """Choices of the command line.

    Attributes:
        poll_interval_s: how often fast values are read, where the line allows it.
        pipeline: how many commands may be on the line at a time, 1 to 3.
        speed: of the line.
        standby: hold the adapter awake while the system is switched off (MK3 only).
    """

    poll_interval_s: float = POLL_INTERVAL_S
    pipeline: int = 3
    speed: SpeedChoice = SpeedChoice.AUTO
    standby: bool = False


DEFAULTS = Options()
