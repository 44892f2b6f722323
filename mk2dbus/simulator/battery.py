"""The battery and its monitor. No protocol, and no clock: seconds come in."""

from __future__ import annotations


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
        self.forced_v: float | None = None
        """Terminal voltage whatever the current, V; ``None``: as the battery has it."""
        self.temperature_c = 25.0

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
        if self.forced_v is not None:
            return self.forced_v
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


class BatteryMonitor:
    """What the units believe of the battery: it moves with the battery, and can be told another beginning."""

    def __init__(self, battery: Battery) -> None:
        self._battery = battery
        self._error = 0.0

    @property
    def soc(self) -> float:
        """State of charge it shows, 0…1."""
        return min(1.0, max(0.0, self._battery.soc + self._error))

    @soc.setter
    def soc(self, soc: float) -> None:
        self._error = soc - self._battery.soc
