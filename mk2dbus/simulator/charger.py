"""The charge stages of a system. No protocol, and no clock: seconds come in."""

from __future__ import annotations

from enum import IntEnum

from .unit import UnitConfig

INIT_S = 2.0
"""Time a charger takes to start (sub state 0)."""
STORAGE_AFTER_S = 24 * 3600.0
"""Float time after which reduced float begins, where the setting allows it."""
BULK_PROTECTION_S = 10 * 3600.0
ADAPTIVE_MINIMUM_S = 3600.0
"""Shortest absorption of the adaptive characteristics; they absorb as long as bulk took, within limits."""
STORAGE_CELL_V = 2.2
"""Voltage of reduced float, per 2 V cell."""


class ChargeState(IntEnum):
    """Sub states of :attr:`MainState.CHARGE` (§4.4)."""

    INIT = 0
    BULK = 1
    ABSORPTION = 2
    FLOAT = 3
    STORAGE = 4
    REPEATED_ABSORPTION = 5
    FORCED_ABSORPTION = 6
    EQUALISE = 7
    BULK_STOPPED = 8


class Charger:
    """The charge stages of a system: one state machine, its leader's settings."""

    def __init__(self) -> None:
        self.state = ChargeState.BULK
        self.active = False
        self.stage_s = 0.0
        """Time in the present state."""
        self.bulk_s = 0.0
        """How long the last bulk took."""
        self.since_absorption_s = 0.0

    def force(self, state: ChargeState) -> None:
        """Go to a state now (winmon 0E)."""
        if self.active:
            self._enter(state)

    def target_v(self, config: UnitConfig, cells: float) -> float:
        """Voltage that the state regulates to, V; 0: no charging."""
        match self.state:
            case ChargeState.INIT | ChargeState.BULK_STOPPED:
                return 0.0
            case ChargeState.FLOAT:
                return config.float_v
            case ChargeState.STORAGE:
                return min(config.float_v, STORAGE_CELL_V * cells)
            case ChargeState.EQUALISE:
                return config.absorption_v + 0.04 * cells
            case _:
                return config.absorption_v

    def step(self, seconds: float, active: bool, battery_v: float, config: UnitConfig) -> None:
        """Let time pass. ``active``: the charger may run."""
        if not active:
            self.active = False
            return
        if not self.active:
            self.active = True
            self._enter(ChargeState.INIT)
            return
        self.stage_s += seconds
        self.since_absorption_s += seconds
        match self.state:
            case ChargeState.INIT if self.stage_s >= INIT_S:
                self._enter(ChargeState.BULK)
            case ChargeState.BULK:
                # The regulator holds the voltage exactly, so "reached" needs a hair of tolerance.
                if battery_v >= config.absorption_v - 0.005:
                    self.bulk_s = self.stage_s
                    self._enter(ChargeState.ABSORPTION)
                elif self.stage_s >= BULK_PROTECTION_S and not config.bulk_unlimited:
                    self._enter(ChargeState.BULK_STOPPED)
            case ChargeState.ABSORPTION | ChargeState.FORCED_ABSORPTION if self.stage_s >= self._absorption_s(
                config
            ):
                self._enter(ChargeState.FLOAT)
            case ChargeState.REPEATED_ABSORPTION | ChargeState.EQUALISE if self.stage_s >= config.repeat_s:
                self._enter(ChargeState.FLOAT)
            case ChargeState.FLOAT if config.reduced_float and self.stage_s >= STORAGE_AFTER_S:
                self._enter(ChargeState.STORAGE)
            case ChargeState.FLOAT | ChargeState.STORAGE if (
                self.since_absorption_s >= config.repeat_interval_s
            ):
                self._enter(ChargeState.REPEATED_ABSORPTION)
            case _:
                pass

    def _absorption_s(self, config: UnitConfig) -> float:
        if config.adaptive and self.state is ChargeState.ABSORPTION:
            return min(max(self.bulk_s, ADAPTIVE_MINIMUM_S), config.absorption_max_s)
        return config.absorption_max_s

    def _enter(self, state: ChargeState) -> None:
        if state in (ChargeState.FLOAT, ChargeState.REPEATED_ABSORPTION):
            self.since_absorption_s = 0.0
        self.state = state
        self.stage_s = 0.0
