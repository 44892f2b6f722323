"""What a reply means on the bus: raw replies to values by path. Pure functions, no state, no waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mk2dbus.items import Value
from mk2dbus.mk2.adapter import LedStatus
from mk2dbus.mk2.info import AcInfo, AcInput, DcInfo
from mk2dbus.mk2.winmon import DeviceState
from mk2dbus.vebus.scaling import RamScale

Values = dict[str, Value]

MAINS_VOLTAGE, MAINS_CURRENT, INVERTER_VOLTAGE, INVERTER_CURRENT = 0, 1, 2, 3
BATTERY_VOLTAGE, BATTERY_CURRENT, RIPPLE_VOLTAGE = 4, 5, 6
INVERTER_PERIOD, MAINS_PERIOD = 7, 8
IGNORE_AC_INPUT, CHARGE_STATE = 11, 13
INVERTER_POWER, INPUT_POWER, OUTPUT_POWER = 14, 15, 16
"""Ids of RAM variables (ramvars.csv)."""

LOWEST_AC_VOLTAGE_V = 50.0
"""Less than this is induced or leaked, and shown as 0 (paths.csv)."""

_MAIN_CHARGE = 9
_STATE_OF_MAIN = {4: 9, 5: 9, 6: 1, 7: 10, 8: 8}
_STATE_OF_CHARGE = {0: 3, 1: 3, 8: 3, 2: 4, 5: 4, 6: 4, 3: 5, 4: 6, 7: 7}
_STATE_FAULT = 2
_CONNECTED_MAINS = frozenset({7, 8, 9})
ACTIVE_INPUT, DISCONNECTED_INPUT = "/Ac/ActiveIn/ActiveInput", 240

_LEDS = (
    (0x01, "/Leds/Mains"),
    (0x02, "/Leds/Absorption"),
    (0x04, "/Leds/Bulk"),
    (0x08, "/Leds/Float"),
    (0x10, "/Leds/Inverter"),
    (0x20, "/Leds/Overload"),
    (0x40, "/Leds/LowBattery"),
    (0x80, "/Leds/Temperature"),
)
_ALARMS = (
    (0x01, "/Alarms/HighTemperature"),
    (0x02, "/Alarms/LowBattery"),
    (0x04, "/Alarms/Overload"),
    (0x08, "/Alarms/Ripple"),
)
_WARNING, _ALARM = 1, 2
_ERROR_MASK = 0x1F


def vebus_error(status: LedStatus) -> int | None:
    """The VE.Bus error code of a status, ``None`` when the reply did not carry it, or there is no device."""
    return None if status.error is None or not status.known else status.error & _ERROR_MASK


def status_values(status: LedStatus) -> Values:
    """LEDs, alarms and error (§3.1)."""
    leds: Values = {
        path: (int(bool(status.on & mask)) + 2 * bool(status.blink & mask)) if status.known else None
        for mask, path in _LEDS
    }
    alarms: Values = {
        path: None
        if status.alarms is None or not status.known
        else _ALARM * bool(status.alarms & mask << 4) or _WARNING * bool(status.alarms & mask)
        for mask, path in _ALARMS
    }
    error = vebus_error(status)
    return {
        **leds,
        **alarms,
        **_sensor_alarms(status, error),
        "/VebusError": error,
        "/Alarms/VeBusError": None if error is None else _ALARM * bool(error),
    }


def _sensor_alarms(status: LedStatus, error: int | None) -> Values:
    """Alarms that the device tells through blinking charge LEDs (§3.1)."""
    if error is None or not status.known:
        return {"/Alarms/TemperatureSensor": None, "/Alarms/VoltageSensor": None}
    absorption, bulk, float_ = (bool(status.blink & mask) for mask in (0x02, 0x04, 0x08))
    healthy = error == 0
    return {
        "/Alarms/TemperatureSensor": _ALARM * (healthy and absorption and float_ and not bulk),
        "/Alarms/VoltageSensor": _ALARM * (healthy and bulk and absorption and not float_),
    }


def is_charging(state: DeviceState) -> bool:
    """Whether the main state is *charge*: only then there is a charge state."""
    return state.main == _MAIN_CHARGE


def state_values(state: DeviceState, error: int | None) -> Values:
    """State of the system out of main and sub state (§4.4) and VE.Bus error; without that it is not known."""
    charging = is_charging(state)
    shown: int | None
    if error is None:
        shown = None
    elif error:
        shown = _STATE_FAULT
    elif charging:
        shown = _STATE_OF_CHARGE.get(state.sub, 0)
    else:
        shown = _STATE_OF_MAIN.get(state.main, 0)
    return {
        "/State": shown,
        "/VebusMainState": state.main,
        "/VebusChargeState": state.sub if charging else None,
        "/Ac/ActiveIn/Connected": int(state.main in _CONNECTED_MAINS),
    }


@dataclass(frozen=True, slots=True)
class InfoScales:
    """Scales of the info frames: those of RAM variables 0…5, 7 and 8 (§3.3); ``None`` where unsupported."""

    by_id: Mapping[int, RamScale | None]

    def scaled(self, id: int, number: int) -> float | None:
        scale = self.by_id[id]
        return None if scale is None or scale.is_bit else scale.scaled(number)

    def frequency(self, id: int, period: int) -> float | None:
        """Hz; periods come out in units of 0.1 s (§4.2)."""
        time = self.scaled(id, period)
        return 10 / time if time is not None and time > 0 else None


def _product(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first * second


def total(parts: Sequence[Value]) -> float | None:
    """Sum, not known when one part is not."""
    numbers = [part for part in parts if isinstance(part, (int, float))]
    return sum(numbers) if len(numbers) == len(parts) and parts else None


def dc_values(info: DcInfo, scales: InfoScales) -> Values:
    """Battery voltage, current (positive charging) and power as voltage times current; output frequency."""
    voltage = scales.scaled(BATTERY_VOLTAGE, info.voltage)
    current = scales.scaled(BATTERY_CURRENT, info.charging_current - info.inverting_current)
    return {
        "/Dc/0/Voltage": voltage,
        "/Dc/0/Current": current,
        "/Dc/0/Power": _product(voltage, current),
    }


def volts(voltage: float | None) -> float | None:
    """An AC voltage as it is shown."""
    return 0.0 if voltage is not None and voltage < LOWEST_AC_VOLTAGE_V else voltage


def ac_values(info: AcInfo, scales: InfoScales, inverter_period: int | None) -> Values:
    """Both sides of one phase: voltage, current, apparent power, frequency.

    The frequency of the output is that of the inverter, which the DC info frame tells; there is none
    without voltage.
    """
    mains = f"/Ac/ActiveIn/L{info.phase}/"
    output = f"/Ac/Out/L{info.phase}/"
    mains_voltage = volts(scales.scaled(MAINS_VOLTAGE, info.mains_voltage))
    output_voltage = volts(scales.scaled(INVERTER_VOLTAGE, info.inverter_voltage))
    mains_current = scales.scaled(MAINS_CURRENT, info.mains_current * info.backfeed_factor)
    output_current = scales.scaled(INVERTER_CURRENT, info.inverter_current * info.inverter_factor)
    output_frequency = None
    if output_voltage == 0:
        output_frequency = 0.0
    elif inverter_period:
        # 0 is told while the inverter does not run; with the offset of its scale that would be 77 Hz.
        output_frequency = scales.frequency(INVERTER_PERIOD, inverter_period)
    return {
        f"{mains}V": mains_voltage,
        f"{mains}I": mains_current,
        f"{mains}S": _product(mains_voltage, mains_current),
        f"{mains}F": 0.0 if mains_voltage == 0 else scales.frequency(MAINS_PERIOD, info.mains_period),
        f"{output}V": output_voltage,
        f"{output}I": output_current,
        f"{output}S": _product(output_voltage, output_current),
        f"{output}F": output_frequency,
    }


def active_input_values(info: AcInput, connected: bool | None) -> Values:
    """Which input is in use; the state of the system tells whether one is."""
    if connected is None:
        return {}
    return {ACTIVE_INPUT: info.active_input if connected else DISCONNECTED_INPUT}


def ac_input_values(info: AcInput, accessory_present: bool | None) -> Values:
    """Mode, inputs and current limit (type 0x41, §3.3). Limits of the limit: :func:`limit_bounds`."""
    limit = info.actual / 10
    adjustable: int | None = int(info.overrulable and not info.dmc_present)
    mode_adjustable: int | None = int(not info.dmc_present)
    if accessory_present:
        adjustable = mode_adjustable = 0
    elif accessory_present is None:
        # Not looked for yet: a BMS may still forbid it.
        adjustable = adjustable and None
        mode_adjustable = mode_adjustable and None
    active = info.active_input
    values: Values = {
        "/Mode": info.mode,
        "/ModeIsAdjustable": mode_adjustable,
        "/Ac/NumberOfAcInputs": info.input_count,
        "/Ac/ActiveIn/CurrentLimit": limit,
        "/Ac/ActiveIn/CurrentLimitIsAdjustable": adjustable,
        "/Ac/State/RemoteGeneratorSelected": int(info.generator_selected),
    }
    for number in (1, 2):
        is_active = number == active + 1
        values[f"/Ac/In/{number}/CurrentLimit"] = limit if is_active else None
        values[f"/Ac/In/{number}/CurrentLimitIsAdjustable"] = adjustable if is_active else None
    return values
