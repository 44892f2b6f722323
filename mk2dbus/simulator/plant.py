"""The physics: a battery, AC inputs, loads, and the power sections of the units between them.

No protocol here, and no clock: :meth:`Plant.advance` takes the time. The same calls give the same values.
Everything a person or a test may want to change (mains, load, state of charge, alarms) is a plain attribute;
it takes effect with the next :meth:`Plant.advance`, which every request of a client causes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

STEP_S = 1.0
"""Longest integration step, in seconds."""
INIT_S = 2.0
"""Time a charger takes to start (sub state 0)."""
SYNC_S = 3.0
"""Time the mains must be good before the units switch over to it."""
STARTUP_S = 2.0
"""Time a unit takes from waking up to giving power (main state 1)."""
STORAGE_AFTER_S = 24 * 3600.0
"""Float time after which reduced float begins, where the setting allows it."""
BULK_PROTECTION_S = 10 * 3600.0
ADAPTIVE_MINIMUM_S = 3600.0
"""Shortest absorption of the adaptive characteristics; they absorb as long as bulk took, within limits."""
STORAGE_CELL_V = 2.2
"""Voltage of reduced float, per 2 V cell."""
EFFICIENCY = 0.94
"""DC to AC and AC to DC; what is lost becomes heat."""
STANDBY_W = 14.0
"""A unit's own consumption while it is on."""
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
class AcInput:
    """One AC input: what comes in at each phase."""

    voltages_v: list[float]
    frequency_hz: float


class Battery:
    """A lead-acid battery: open-circuit voltage by state of charge, resistance, slow polarisation.

    Args:
        nominal_v: 12, 24 or 48.
        capacity_ah: capacity.
        soc: state of charge at the start, 0…1.
    """

    POLARISATION_S = 180.0

    def __init__(self, nominal_v: float, capacity_ah: float = 200.0, soc: float = 0.7) -> None:
        self.nominal_v = nominal_v
        self.capacity_ah = capacity_ah
        self.soc = soc
        self.current_a = 0.0
        """Positive: charging."""
        self.polarisation_v = 0.0

    @property
    def resistance_ohm(self) -> float:
        return 0.02 * self.nominal_v / 48 * 200 / self.capacity_ah

    @property
    def open_circuit_v(self) -> float:
        """Voltage at rest, V."""
        volts = self.nominal_v / 2 * (1.95 + 0.18 * self.soc)
        if self.soc < 0.1:
            volts -= 0.3 * self.nominal_v * (1 - self.soc / 0.1) ** 2
        return volts

    @property
    def voltage_v(self) -> float:
        return self.voltage_at(self.current_a)

    def voltage_at(self, current_a: float) -> float:
        """Terminal voltage with a current, V."""
        return max(0.0, self.open_circuit_v + self.polarisation_v + current_a * self.resistance_ohm)

    def current_for(self, voltage_v: float) -> float:
        """Current that brings the terminals to a voltage, A."""
        return (voltage_v - self.open_circuit_v - self.polarisation_v) / self.resistance_ohm

    def integrate(self, seconds: float) -> None:
        """Let the present current flow for a while."""
        charging = self.current_a > 0
        hardness = 1.2 * self.soc / (1.02 - self.soc) if charging else 0.5 * (1 + 0.1 / (self.soc + 0.02))
        target_v = self.current_a * self.resistance_ohm * hardness
        self.polarisation_v += (target_v - self.polarisation_v) * min(1.0, seconds / self.POLARISATION_S)
        efficiency = 0.95 if charging else 1.0
        change = self.current_a * efficiency * seconds / 3600 / self.capacity_ah
        self.soc = min(1.0, max(0.0, self.soc + change))


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


@dataclass(slots=True)
class EnergyMeter:
    """Energy through a unit since it woke up, in J, in the order of the ten counters (§4.3)."""

    joules: list[float] = field(default_factory=lambda: [0.0] * 10)

    def add(self, seconds: float, unit: Unit, source: int | None) -> None:
        """Account for the present powers over a time; ``source`` is the AC input in use, if any."""
        charging_w, inverting_w = max(unit.inverter_w, 0.0), max(-unit.inverter_w, 0.0)
        if source is None or source > 1:
            self.joules[8] += inverting_w * seconds
            return
        to_grid_w = max(-unit.input_w, 0.0)
        inverter_to_grid_w = min(to_grid_w, inverting_w)
        inverter_to_out_w = inverting_w - inverter_to_grid_w
        self.joules[source] += charging_w * seconds
        self.joules[2 + source] += max(unit.output_w - inverter_to_out_w, 0.0) * seconds
        self.joules[4 + source] += inverter_to_grid_w * seconds
        self.joules[8] += inverter_to_out_w * seconds


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
        self.feed_in_w: float | None = None
        """Power to give to the grid (ESS); ``None``: not controlled."""
        self.ess_charge_disabled = False
        self.ess_feed_in_disabled = False
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


class Plant:
    """Battery, mains, loads and units, and the time that passes for them.

    Args:
        battery: the battery all units share.
        phases: number of phases, 1…3.
        inputs: the AC inputs; the first good one is used.
        load_w: total load, spread evenly over the phases.
        seed: of the small, slow motion of mains and load.
    """

    def __init__(
        self,
        battery: Battery,
        phases: int,
        inputs: list[AcInput],
        load_w: float,
        seed: int = 1,
    ) -> None:
        self.battery = battery
        self.inputs = inputs
        self.loads_w = [load_w / phases] * phases
        self.units: list[Unit] = []
        """Power sections; the first is the leader. The devices add themselves."""
        self.charger = Charger()
        self.charger.active = True
        self.active_input: int | None = 0 if self._nominally_good(0) else None
        """Index of the AC input the units are connected to."""
        self.external_a = 0.0
        """Current into the battery from others (solar chargers), less what DC loads take."""
        self.charge_blocked = False
        """A BMS forbids charging."""
        self.discharge_blocked = False
        """A BMS forbids inverting."""
        self.temperature_level = 0
        """0 fine, 1 pre-alarm, 2 alarm."""
        self.ripple_level = 0
        """0 fine, 1 pre-alarm, 2 alarm."""
        self.noise = 1.0
        """Factor of the small motion of mains and load; 0: perfectly still."""
        self.time = 0.0
        """Seconds lived."""
        self._now: float | None = None
        self._good_s = [0.0] * len(inputs)
        # Incommensurable periods, and phases from the seed: smooth, never repeating, and the same every time.
        self._angles = [math.modf(seed * 0.618034 + index * 0.414214)[0] * math.tau for index in range(4)]

    @property
    def phases(self) -> int:
        return len(self.loads_w)

    @property
    def load_w(self) -> float:
        """Total load, W. Setting it spreads it evenly over the phases."""
        return sum(self.loads_w)

    @load_w.setter
    def load_w(self, watts: float) -> None:
        self.loads_w = [watts / self.phases] * self.phases

    @property
    def mains_voltage(self) -> float:
        """Voltage of the first AC input, V (all phases when set)."""
        return self.inputs[0].voltages_v[0]

    @mains_voltage.setter
    def mains_voltage(self, volts: float) -> None:
        self.inputs[0].voltages_v = [volts] * self.phases

    @property
    def mains_frequency(self) -> float:
        """Frequency of the first AC input, Hz."""
        return self.inputs[0].frequency_hz

    @mains_frequency.setter
    def mains_frequency(self, hertz: float) -> None:
        self.inputs[0].frequency_hz = hertz

    @property
    def connected(self) -> bool:
        """Whether the units are switched through to an AC input."""
        return self.active_input is not None

    def advance(self, now: float) -> None:
        """Bring everything to the time ``now`` (seconds; the first call sets the origin)."""
        if self._now is None:
            self._now = now
        remaining = max(0.0, now - self._now)
        self._now = max(now, self._now)
        for unit in self.units:
            unit.config = unit.read_config()
        while remaining > 0:
            seconds = min(STEP_S, remaining)
            remaining -= seconds
            self.time += seconds
            self._step(seconds)
        self._step(0.0)

    def _step(self, seconds: float) -> None:
        if not self.units:
            return
        leader = self.units[0]
        self._choose_input(seconds, leader)
        volts = self.battery.voltage_v
        for unit in self.units:
            unit.watch(seconds, volts, self.connected)
        self.charger.step(seconds, self._may_charge(leader), volts, leader.config)
        self._solve(leader)
        if seconds:
            self.battery.integrate(seconds)
            for unit in self.units:
                unit.energy.add(seconds, unit, self.active_input)

    def _nominally_good(self, index: int) -> bool:
        return all(volts > 0 for volts in self.inputs[index].voltages_v)

    def _choose_input(self, seconds: float, leader: Unit) -> None:
        """Connect to the first input that is good, after it was so for a while; let go at once.

        In "inverter only" the input is ignored; a sleeping or starting leader is not connected.
        """
        config = leader.config
        chosen = None
        for index, source in enumerate(self.inputs):
            on = self.active_input == index
            low = config.ac_low_off_v if on else config.ac_low_on_v
            high = config.ac_high_off_v if on else config.ac_high_on_v
            good = (
                all(low <= volts <= high for volts in source.voltages_v) and 45 <= source.frequency_hz <= 65
            )
            self._good_s[index] = self._good_s[index] + seconds if good else 0.0
            if chosen is None and good and (on or self._good_s[index] >= SYNC_S):
                chosen = index
        usable = leader.awake and leader.charge_allowed and not leader.startup_s
        self.active_input = chosen if usable else None

    def _may_charge(self, unit: Unit) -> bool:
        return (
            self.connected
            and unit.awake
            and unit.charge_allowed
            and not (unit.config.charger_disabled or unit.ess_charge_disabled or self.charge_blocked)
        )

    def _wander(self, index: int) -> float:
        """Smooth motion within ±1."""
        t, angle = self.time, self._angles[index]
        return self.noise * (0.6 * math.sin(t / 7.3 + angle) + 0.4 * math.sin(t / 1.9 + 2 * angle))

    def _solve(self, leader: Unit) -> None:
        """Currents and powers of this instant. Battery voltage and current depend on each other: iterate."""
        battery = self.battery
        for _ in range(2):
            volts = max(battery.voltage_v, 1.0)
            for phase in range(self.phases):
                units = [unit for unit in self.units if unit.phase == phase]
                load_w = self.loads_w[phase] * (1 + 0.01 * self._wander(0))
                if self.active_input is not None:
                    self._solve_connected(units, load_w, volts, leader, self.inputs[self.active_input])
                else:
                    self._solve_island(units, load_w, volts)
            battery.current_a = self.external_a + sum(unit.battery_a for unit in self.units)

    def _charge_current_a(self, unit: Unit, leader: Unit) -> float:
        """Current a unit's charger gives as far as the battery takes it."""
        if not (self.charger.active and self._may_charge(unit)):
            return 0.0
        target_v = self.charger.target_v(leader.config, self.battery.nominal_v / 2)
        if not target_v:
            return 0.0
        total = sum(other.config.charge_a for other in self.units if self._may_charge(other))
        wanted = max(0.0, self.battery.current_for(target_v) - self.external_a)
        return unit.config.charge_a * min(1.0, wanted / total) if total else 0.0

    def _solve_connected(
        self, units: list[Unit], load_w: float, volts: float, leader: Unit, source: AcInput
    ) -> None:
        count = max(1, len(units))
        for unit in units:
            mains_v = source.voltages_v[unit.phase] * (1 + 0.003 * self._wander(1))
            unit.mains_v = unit.output_v = mains_v
            unit.mains_hz = unit.output_hz = source.frequency_hz + 0.03 * self._wander(2)
            unit.output_w = load_w / count if unit.awake else 0.0
            limits = unit.config.input_limits_a
            room_w = limits[self.active_input or 0] * mains_v / count - unit.output_w
            charge_w = self._charge_current_a(unit, leader) * volts / EFFICIENCY + STANDBY_W
            assist = unit.config.power_assist and unit.can_invert and not self.discharge_blocked
            if unit.feed_in_w is not None:
                unit.inverter_w = self._ess_w(unit, volts, charge_w)
            elif room_w < 0 and assist:
                unit.inverter_w = max(room_w, -unit.rated_w)
            else:
                # Charging gives way to the load; the unit's own consumption cannot.
                unit.inverter_w = min(charge_w, max(room_w, STANDBY_W))
            unit.input_w = unit.output_w + unit.inverter_w
            unit.mains_a = unit.input_w / mains_v if mains_v else 0.0
            unit.output_a = unit.output_w / mains_v if mains_v else 0.0
            if unit.inverter_w >= 0:
                unit.battery_a = max(0.0, unit.inverter_w - STANDBY_W) * EFFICIENCY / volts
                unit.load_share = 0.0
            else:
                unit.battery_a = (unit.inverter_w / EFFICIENCY - STANDBY_W) / volts
                unit.load_share = -unit.inverter_w / unit.rated_w
            if unit.inverter_w < 0:
                unit.main_state = MainState.POWER_ASSIST
            elif self.charger.active and self._may_charge(unit):
                unit.main_state = MainState.CHARGE
            else:
                unit.main_state = MainState.BYPASS

    def _ess_w(self, unit: Unit, volts: float, charge_w: float) -> float:
        """Inverter power (AC side, positive charging) that brings the grid to the ESS setpoint."""
        setpoint_w = unit.feed_in_w or 0.0
        if unit.ess_feed_in_disabled:
            setpoint_w = min(setpoint_w, 0.0)
        inverter_w = -setpoint_w - unit.output_w
        lowest_w = -unit.rated_w if unit.can_invert and not self.discharge_blocked else 0.0
        return max(lowest_w, min(inverter_w, charge_w))

    def _solve_island(self, units: list[Unit], load_w: float, volts: float) -> None:
        """No mains: the units that may invert share the load of their phase."""
        inverting = [unit for unit in units if self._inverts(unit)]
        for unit in units:
            source = self.inputs[0]
            # What stands at the terminals is measured also when the unit is not connected to it.
            unit.mains_v = (
                source.voltages_v[unit.phase] * (1 + 0.003 * self._wander(1)) if unit.awake else 0.0
            )
            unit.mains_hz = source.frequency_hz if unit.mains_v else 0.0
            unit.mains_a = unit.input_w = 0.0
            if unit in inverting:
                unit.output_w = load_w / len(inverting)
                unit.inverter_w = -unit.output_w
                unit.output_v = unit.config.output_v * (1 + 0.001 * self._wander(3))
                unit.output_hz = unit.config.output_hz
                unit.output_a = unit.output_w / unit.output_v
                aes = unit.output_w < unit.config.aes_below_w
                standby_w = STANDBY_W / 3 if aes else STANDBY_W
                unit.battery_a = (unit.inverter_w / EFFICIENCY - standby_w) / volts
                unit.main_state = MainState.INVERT_AES if aes else MainState.INVERT_FULL
            else:
                unit.output_w = unit.inverter_w = unit.output_v = unit.output_a = 0.0
                unit.output_hz = unit.battery_a = 0.0
                unit.main_state = MainState.STARTUP if unit.awake and unit.startup_s else MainState.OFF
            unit.load_share = unit.output_w / unit.rated_w

    def _inverts(self, unit: Unit) -> bool:
        return unit.can_invert and not unit.startup_s and not self.discharge_blocked
