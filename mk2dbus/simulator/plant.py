"""The physics of a system: a battery, AC inputs, loads, generators, and the units between them.

No protocol here, and no clock: :meth:`Plant.advance` takes the time. The same calls give the same values.
Everything a person or a test may want to change (mains, load, state of charge, alarms) is a plain attribute;
it takes effect with the next :meth:`Plant.advance`, which every request of a client causes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from .battery import Battery, BatteryMonitor
from .charger import Charger
from .unit import EssControl, MainState, Unit

STEP_S = 1.0
"""Longest integration step, in seconds."""
SYNC_S = 3.0
"""Time the mains must be good before the units switch over to it."""
EFFICIENCY = 0.94
"""DC to AC and AC to DC; what is lost becomes heat."""
STANDBY_W = 14.0
"""A unit's own consumption while it is on."""
_SETTLED_A = 0.05
"""Change of the battery current below which another iteration would bring nothing."""
_ITERATIONS = 3


class Level(IntEnum):
    """How bad an alarm is."""

    OK = 0
    PRE = 1
    FULL = 2


class SensorAlarm(IntEnum):
    """Alarm of a sensor, told by blinking LEDs alone (§3.1)."""

    NONE = 0
    TEMPERATURE = 1
    VOLTAGE = 2


@dataclass(slots=True)
class AcInput:
    """One AC input: what comes in at each phase."""

    voltages_v: list[float]
    frequency_hz: float


class Location(IntEnum):
    """At which side of the units something is (§4.6)."""

    INPUT = 0
    OUTPUT = 1


@dataclass(slots=True)
class Generator:
    """A source on AC, as a PV inverter. At the output it feeds the loads; at the input nobody sees it."""

    location: Location
    phase: int
    power_w: float


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
        """Power sections; the first that is awake leads. The devices add themselves."""
        self.generators: list[Generator] = []
        """Sources on AC; they need voltage where they are."""
        self.monitor = BatteryMonitor(battery)
        """What the units believe of the battery's state of charge."""
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
        self.temperature_level = Level.OK
        self.ripple_level = Level.OK
        self.low_battery_level = Level.OK
        """At least so bad, whatever the voltage."""
        self.overload_level = Level.OK
        """At least so bad, whatever the load."""
        self.sensor_alarm = SensorAlarm.NONE
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

    @property
    def leader(self) -> Unit | None:
        """The unit whose settings rule the charge stages."""
        return next((unit for unit in self.units if unit.awake), None)

    def advance(self, now: float) -> None:
        """Bring everything to the time ``now`` (seconds; the first call sets the origin)."""
        if self._now is None:
            self._now = now
        remaining = max(0.0, now - self._now)
        self._now = max(now, self._now)
        for unit in self.units:
            unit.config = unit.read_config()
        while True:
            seconds = min(STEP_S, remaining)
            remaining -= seconds
            self.time += seconds
            self._step(seconds)
            if remaining <= 0:
                break

    def _step(self, seconds: float) -> None:
        leader = self.leader
        if leader is None:
            self.active_input = None
            self.charger.active = False
            for unit in self.units:
                unit.rest()
            self.battery.current_a = self.external_a
        else:
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
        for index, source in enumerate(self.inputs[: len(config.input_limits_a)]):
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
            and not (unit.config.charger_disabled or self.charge_blocked)
            and not (unit.ess is not None and unit.ess.charge_disabled)
        )

    def _wander(self, index: int) -> float:
        """Smooth motion within ±1."""
        t, angle = self.time, self._angles[index]
        return self.noise * (0.6 * math.sin(t / 7.3 + angle) + 0.4 * math.sin(t / 1.9 + 2 * angle))

    def _solve(self, leader: Unit) -> None:
        """Currents and powers of this instant. Battery voltage and current depend on each other: iterate."""
        battery = self.battery
        mains, out, hertz, inverting = (self._wander(index) for index in (1, 0, 2, 3))
        by_phase: list[list[Unit]] = [[] for _ in range(self.phases)]
        for unit in self.units:
            if not unit.awake:
                unit.rest()
            elif unit.phase < self.phases:
                by_phase[unit.phase].append(unit)
        for _ in range(_ITERATIONS):
            volts = max(battery.voltage_v, 1.0)
            charge_share = self._charge_share(leader)
            for phase, units in enumerate(by_phase):
                if not units:
                    continue
                load_w = self.loads_w[phase] * (1 + 0.01 * out) - self.generated_w(Location.OUTPUT, phase)
                if self.active_input is not None:
                    source = self.inputs[self.active_input]
                    mains_v = source.voltages_v[phase] * (1 + 0.003 * mains)
                    mains_hz = source.frequency_hz + 0.03 * hertz
                    self._solve_connected(units, load_w, volts, charge_share, mains_v, mains_hz)
                else:
                    mains_v = self.inputs[0].voltages_v[phase] * (1 + 0.003 * mains)
                    self._solve_island(units, load_w, volts, mains_v, inverting)
            before_a = battery.current_a
            battery.current_a = self.external_a + sum(unit.battery_a for unit in self.units)
            if abs(battery.current_a - before_a) < _SETTLED_A:
                break

    def generated_w(self, location: Location, phase: int) -> float:
        """What the generators at a place give, W."""
        return sum(one.power_w for one in self.generators if one.location is location and one.phase == phase)

    def _charge_share(self, leader: Unit) -> float:
        """Share of its full charge current that each charger gives, as far as the battery takes it."""
        if not (self.charger.active and self._may_charge(leader)):
            return 0.0
        target_v = self.charger.target_v(leader.config, self.battery.nominal_v / 2)
        total_a = sum(unit.config.charge_a for unit in self.units if self._may_charge(unit))
        if not target_v or not total_a:
            return 0.0
        return min(1.0, max(0.0, self.battery.current_for(target_v) - self.external_a) / total_a)

    def _solve_connected(
        self,
        units: list[Unit],
        load_w: float,
        volts: float,
        charge_share: float,
        mains_v: float,
        mains_hz: float,
    ) -> None:
        """One phase with mains: the load and what ESS asks are spread over its units."""
        count = len(units)
        ess = next((unit.ess for unit in units if unit.ess is not None), None)
        for unit in units:
            unit.mains_v = unit.output_v = mains_v
            unit.mains_hz = unit.output_hz = mains_hz
            unit.output_w = load_w / count
            charging = self.charger.active and self._may_charge(unit)
            charge_w = STANDBY_W
            if charging:
                charge_w += unit.config.charge_a * charge_share * volts / EFFICIENCY
            room_w = unit.config.input_limits_a[self.active_input or 0] * mains_v / count - unit.output_w
            assist = unit.can_invert and not self.discharge_blocked
            if ess is not None:
                unit.inverter_w = _ess_w(ess, unit, count, min(charge_w, max(room_w, STANDBY_W)), assist)
            elif room_w < 0 and assist and unit.config.power_assist:
                unit.inverter_w = max(room_w, -unit.rated_w)
            else:
                # Charging gives way to the load; the unit's own consumption cannot.
                unit.inverter_w = min(charge_w, max(room_w, STANDBY_W))
            unit.input_w = unit.output_w + unit.inverter_w
            unit.mains_a = unit.input_w / mains_v if mains_v else 0.0
            unit.output_a = unit.output_w / mains_v if mains_v else 0.0
            _flow_dc(unit, volts, STANDBY_W)
            if ess is not None and ess.feed_in_w is None:
                unit.main_state = MainState.BYPASS
            elif unit.inverter_w < 0:
                # Controlled by ESS, devices say that they charge also when they invert, as recorded.
                unit.main_state = MainState.POWER_ASSIST if ess is None else MainState.CHARGE
            else:
                unit.main_state = MainState.CHARGE if charging else MainState.BYPASS

    def _solve_island(
        self, units: list[Unit], load_w: float, volts: float, mains_v: float, wander: float
    ) -> None:
        """One phase without mains: the units that may invert share its load."""
        inverting = [unit for unit in units if self._inverts(unit)]
        for unit in units:
            # What stands at the terminals is measured also when the unit is not connected to it.
            unit.mains_v = mains_v
            unit.mains_hz = self.inputs[0].frequency_hz if mains_v else 0.0
            unit.mains_a = unit.input_w = 0.0
            if unit in inverting:
                unit.output_w = load_w / len(inverting)
                unit.inverter_w = -unit.output_w
                unit.output_v = unit.config.output_v * (1 + 0.001 * wander)
                unit.output_hz = unit.config.output_hz
                unit.output_a = unit.output_w / unit.output_v
                aes = unit.output_w < unit.config.aes_below_w
                _flow_dc(unit, volts, STANDBY_W / 3 if aes else STANDBY_W)
                unit.main_state = MainState.INVERT_AES if aes else MainState.INVERT_FULL
            else:
                unit.output_w = unit.inverter_w = unit.output_v = unit.output_a = 0.0
                unit.output_hz = unit.battery_a = unit.load_share = 0.0
                unit.main_state = MainState.STARTUP if unit.startup_s else MainState.OFF

    def _inverts(self, unit: Unit) -> bool:
        return unit.can_invert and not unit.startup_s and not self.discharge_blocked


def _flow_dc(unit: Unit, volts: float, standby_w: float) -> None:
    """Battery current and load of a unit that follow from the power through its inverter."""
    if unit.inverter_w > 0:
        unit.battery_a = (unit.inverter_w - standby_w) * EFFICIENCY / volts
        unit.load_share = 0.0
    else:
        unit.battery_a = (unit.inverter_w / EFFICIENCY - standby_w) / volts
        unit.load_share = -unit.inverter_w / unit.rated_w


def _ess_w(ess: EssControl, unit: Unit, count: int, highest_w: float, inverts: bool) -> float:
    """Inverter power of a unit (AC side, positive charging) that brings the grid to its phase's setpoint.

    ``count`` units share it; ``highest_w``: what the unit can take.
    """
    if ess.feed_in_w is None:
        return STANDBY_W
    feed_in_w = min(ess.feed_in_w, 0.0) if ess.feed_in_disabled else ess.feed_in_w
    lowest_w = -unit.rated_w if inverts else 0.0
    return max(lowest_w, min(-feed_in_w / count - unit.output_w, highest_w))
