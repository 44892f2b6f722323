"""The power section of one inverter/charger: state, measured values, protections, energy meters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

STARTUP_S = 2.0
"""Time a unit takes from waking up to giving power (main state 1)."""
OVERLOAD_FACTOR = 2.0
"""Share of the rated power at which a unit shuts down, after :data:`OVERLOAD_S`."""
OVERLOAD_S = 3.0
RETRY_S = 30.0
"""Pause before a unit shut down by overload starts again."""


class MainState(IntEnum):
    """Main states (§4.4)."""

    DOWN = 0
    STARTUP = 1
    OFF = 2
    SLAVE = 3
    INVERT_FULL = 4
    INVERT_HALF = 5
    INVERT_AES = 6
    POWER_ASSIST = 7
    BYPASS = 8
    CHARGE = 9


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """What a unit's settings, as they are in effect now, mean for its power section. Units in the names."""

    absorption_v: float
    float_v: float
    charge_a: float
    charger_disabled: bool
    reduced_float: bool
    bulk_unlimited: bool
    adaptive: bool
    absorption_max_s: float
    repeat_s: float
    repeat_interval_s: float
    shutdown_v: float
    restart_v: float
    low_alarm_v: float
    ac_low_off_v: float
    ac_low_on_v: float
    ac_high_off_v: float
    ac_high_on_v: float
    output_v: float
    output_hz: float
    power_assist: bool
    aes_below_w: float
    """0: AES is disabled."""
    input_limits_a: tuple[float, ...]
    """Current limit in force of each AC input."""


@dataclass(slots=True)
class EssControl:
    """What an ESS assistant asks of its phase (§4.6).

    Attributes:
        feed_in_w: power to give to the grid; ``None``: no valid setpoint, the grid is just passed through.
    """

    feed_in_w: float | None
    charge_disabled: bool
    feed_in_disabled: bool


@dataclass(slots=True)
class EnergyMeter:
    """Energy through a unit since it woke up, in J, in the order of the ten counters (§4.3)."""

    joules: list[float] = field(default_factory=lambda: [0.0] * 10)

    def add(self, seconds: float, unit: Unit, source: int | None) -> None:
        """Account for the present powers over a time; ``source`` is the AC input in use, if any.

        Between three places, of which at least one gives and one takes, what goes from one to another is the
        smaller of what the one gives and the other takes.
        """
        into_inverter_w, out_of_inverter_w = _parts(unit.inverter_w)
        into_output_w, out_of_output_w = _parts(unit.output_w)
        joules = self.joules
        joules[8] += min(out_of_inverter_w, into_output_w) * seconds
        joules[9] += min(out_of_output_w, into_inverter_w) * seconds
        if source is None or source > 1:
            return
        out_of_input_w, into_input_w = _parts(unit.input_w)
        joules[0 + source] += min(out_of_input_w, into_inverter_w) * seconds
        joules[2 + source] += min(out_of_input_w, into_output_w) * seconds
        joules[4 + source] += min(out_of_inverter_w, into_input_w) * seconds
        joules[6 + source] += min(out_of_output_w, into_input_w) * seconds


def _parts(watts: float) -> tuple[float, float]:
    """A power as its positive and its negative part, both without sign."""
    return max(watts, 0.0), max(-watts, 0.0)


class Unit:
    """The power section of one inverter/charger and what it measures.

    Args:
        phase: 0…2.
        rated_w: continuous output power.
        config: the settings in effect, asked for whenever time passes.
    """

    def __init__(self, phase: int, rated_w: float, config: Callable[[], UnitConfig]) -> None:
        self.phase = phase
        self.rated_w = rated_w
        self.read_config = config
        self.config = config()
        self.charge_allowed = True
        self.invert_allowed = True
        self.awake = True
        self.ess: EssControl | None = None
        """Set where the unit has an ESS assistant, which then rules its phase."""
        self.energy = EnergyMeter()
        self.main_state = MainState.OFF
        self.mains_v = 0.0
        self.mains_a = 0.0
        self.mains_hz = 0.0
        self.output_v = 0.0
        self.output_a = 0.0
        self.output_hz = 0.0
        self.inverter_w = 0.0
        """AC side; positive: into the battery."""
        self.input_w = 0.0
        """Positive: taken from the input."""
        self.output_w = 0.0
        """Positive: to the loads."""
        self.battery_a = 0.0
        """Positive: charging."""
        self.load_share = 0.0
        """Power through the inverter as a share of what it is rated for."""
        self.low_battery = False
        """Shut down by low battery voltage."""
        self.overloaded = False
        """Shut down by overload."""
        self._overload_s = 0.0
        self.startup_s = 0.0
        """Time until the unit is up."""

    def wake(self) -> None:
        """Start: it takes :data:`STARTUP_S` until power comes, and the counters begin anew."""
        self.awake = True
        self.startup_s = STARTUP_S
        self.low_battery = self.overloaded = False
        self.energy = EnergyMeter()

    def watch(self, seconds: float, battery_v: float, connected: bool) -> None:
        """Protections: low battery with hysteresis, overload with retry."""
        self.startup_s = max(0.0, self.startup_s - seconds)
        if connected or battery_v >= self.config.restart_v:
            self.low_battery = False
        elif battery_v < self.config.shutdown_v:
            self.low_battery = True
        if self.overloaded:
            self._overload_s -= seconds
            self.overloaded = self._overload_s > 0
            if not self.overloaded:
                self._overload_s = 0.0
        elif self.load_share > OVERLOAD_FACTOR:
            self._overload_s += seconds
            if self._overload_s >= OVERLOAD_S:
                self.overloaded = True
                self._overload_s = RETRY_S
        else:
            self._overload_s = 0.0

    @property
    def can_invert(self) -> bool:
        return self.awake and self.invert_allowed and not (self.low_battery or self.overloaded)

    def rest(self) -> None:
        """Neither take nor give anything: asleep, or not there."""
        self.mains_v = self.mains_a = self.mains_hz = self.output_v = self.output_a = self.output_hz = 0.0
        self.inverter_w = self.input_w = self.output_w = self.battery_a = self.load_share = 0.0
        self.main_state = MainState.OFF
