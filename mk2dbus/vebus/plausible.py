"""What a reply can say at all: eight bits of checksum let some damaged frames through.

Bounds are far outside of what any VE.Bus system does, so that nothing true is ever left out.
"""

from __future__ import annotations

from mk2dbus.mk2.info import AcInfo, AcInput, Configuration, DcInfo
from mk2dbus.mk2.winmon import DeviceState
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Implausible

MAX_UNITS, MAX_INPUTS = 32, 2
_BOUNDS = {
    # The largest battery is one of 48 V under equalisation; the largest system has 32 units.
    "/Dc/0/Voltage": (0.0, 100.0),
    "/Dc/0/Current": (-8000.0, 8000.0),
    "V": (0.0, 500.0),
    "I": (-4000.0, 4000.0),
    "F": (30.0, 80.0),
}
_MAX_CURRENT_STEPS = 1 << 20
"""Of 0.01 A; more than all units together."""
_MAX_LIMIT = 10_000
"""Largest input current limit, 0.1 A."""
_MAIN_STATES, _SUB_STATES = range(10), range(9)
_CHARGE = 9


def check_values(values: Values) -> None:
    """Measured values, by path, are possible; a frequency of 0 stands for none.

    Raises:
        Implausible: one is not.
    """
    for path, value in values.items():
        bounds = _BOUNDS.get(path) or _BOUNDS.get(path.rpartition("/")[2])
        if bounds is None or value is None or not isinstance(value, (int, float)):
            continue
        if path.endswith("F") and value == 0:
            continue
        if not bounds[0] <= value <= bounds[1]:
            raise Implausible(f"{path} of {value:g}")


def check_ac(info: AcInfo) -> None:
    """Factors of an AC info frame are numbers of units, its state is one there is (§3.3, §4.4).

    Raises:
        Implausible: they are not.
    """
    if not (0 < info.backfeed_factor <= MAX_UNITS and 0 < info.inverter_factor <= MAX_UNITS):
        raise Implausible(f"{info.backfeed_factor} and {info.inverter_factor} units in phase {info.phase}")
    if info.state not in _MAIN_STATES:
        raise Implausible(f"main state {info.state} in phase {info.phase}")


def check_dc(info: DcInfo) -> None:
    """Neither current of a DC info frame is more than any battery gives, in whatever steps (§3.3).

    Raises:
        Implausible: one is.
    """
    if max(info.charging_current, info.inverting_current) > _MAX_CURRENT_STEPS:
        raise Implausible(f"currents of {info.charging_current} and {info.inverting_current}")


def check_input(info: AcInput) -> None:
    """An AC input configuration fits together.

    Raises:
        Implausible: it does not.
    """
    if not info.minimum <= info.maximum <= _MAX_LIMIT or info.actual > (info.maximum or _MAX_LIMIT):
        raise Implausible(f"a limit of {info.actual} in {info.minimum} to {info.maximum} × 0.1 A")
    if info.input_count > MAX_INPUTS or info.active_input >= max(info.input_count, 1):
        raise Implausible(f"input {info.active_input + 1} of {info.input_count}")


def check_configuration(configuration: Configuration) -> None:
    """A device is on the bus that it tells of (§3.3).

    Raises:
        Implausible: it is not.
    """
    if not configuration.present >> configuration.address & 1:
        raise Implausible(
            f"device {configuration.address} is not among those it sees ({configuration.present:#x})"
        )


def check_state(state: DeviceState) -> None:
    """Main state, and sub state of charging, are ones there are (§4.4).

    Raises:
        Implausible: they are not.
    """
    if state.main not in _MAIN_STATES or (state.main == _CHARGE and state.sub not in _SUB_STATES):
        raise Implausible(f"main state {state.main}, sub state {state.sub}")
