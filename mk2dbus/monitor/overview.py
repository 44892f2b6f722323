"""What a person at the inverter wants to see, taken from the items."""

from __future__ import annotations

from dataclasses import dataclass

from .items import Items
from .text import words

PHASES = ("L1", "L2", "L3")

ALARM = 2
"""Level of an alarm; 1 is a warning, 0 is none (paths.csv)."""

BLINKING = (2, 3)
"""States of a LED, the second inverted (mk2-protocol.md, `L`)."""

LEDS = ("Mains", "Bulk", "Absorption", "Float", "Inverter", "Overload", "LowBattery", "Temperature")
"""As on the front panel: the left column, then the right one."""

_NOT_CONNECTED = 240
_NO_CURRENT_A = 0.05
"""Shown as 0.0."""
_ALARMS, _VEBUS_ALARM = "/Alarms/", "/Alarms/VeBusError"


@dataclass(frozen=True, slots=True)
class Phase:
    """What goes through one phase: texts, and the power as a number (W, or VA where W are not told)."""

    name: str
    volts: str
    amperes: str
    hertz: str
    power: float | None
    power_text: str


@dataclass(frozen=True, slots=True)
class Side:
    """AC input or AC output."""

    title: str
    power: float | None
    power_text: str
    phases: tuple[Phase, ...]
    extra: str = ""
    connected: bool = True
    """False for an input that is open: what is measured there feeds nothing."""

    @property
    def hertz(self) -> str:
        return self.phases[0].hertz


@dataclass(frozen=True, slots=True)
class Battery:
    """Current and power are positive while it is charged."""

    power: float | None
    power_text: str
    volts: float | None
    volts_text: str
    amperes: float | None
    amperes_text: str
    percent: float | None
    """State of charge."""
    charge: str
    temperature: str

    @property
    def resting(self) -> bool:
        """Whether nothing goes in or out: power without current is what the inverter needs for itself."""
        return self.amperes is not None and abs(self.amperes) < _NO_CURRENT_A


@dataclass(frozen=True, slots=True)
class Led:
    name: str
    state: int | None


@dataclass(frozen=True, slots=True)
class Alarm:
    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Device:
    """One of several devices of a system; all texts."""

    number: str
    serial: str
    input: str
    inverter: str
    output: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything of the first page."""

    there: bool
    connected: bool | None
    product: str
    name: str
    state: str
    mode: str
    charge_limit: str
    setpoints: tuple[str, ...]
    """Of an ESS, one for each phase that has one."""
    input: Side
    battery: Battery
    output: Side
    leds: tuple[Led, ...]
    alarms: tuple[Alarm, ...] | None
    """None: not known."""
    devices: tuple[Device, ...]
    """Empty where there is only one: it is the system."""

    @property
    def blinks(self) -> bool:
        return any(led.state in BLINKING for led in self.leds)


def overview(items: Items) -> Overview:
    """What the items say now."""
    connected = items.whole("/Connected")
    phases = _phases(items)
    return Overview(
        there=items.there,
        connected=None if connected is None else connected != 0,
        product=items.known("/ProductName"),
        name=items.known("/CustomName"),
        state=items.text("/State"),
        mode=items.text("/Mode"),
        charge_limit=items.known("/Dc/0/MaxChargeCurrent"),
        setpoints=tuple(
            filter(None, (items.known(f"/Hub4/{phase}/AcPowerSetpoint") for phase in phases)),
        ),
        input=_input(items, phases),
        battery=Battery(
            power=items.number("/Dc/0/Power"),
            power_text=items.text("/Dc/0/Power"),
            volts=items.number("/Dc/0/Voltage"),
            volts_text=items.text("/Dc/0/Voltage"),
            amperes=items.number("/Dc/0/Current"),
            amperes_text=items.text("/Dc/0/Current"),
            percent=items.number("/Soc"),
            charge=items.known("/Soc"),
            temperature=items.known("/Dc/0/Temperature"),
        ),
        output=_side(items, "AC output", "/Ac/Out", phases),
        leds=tuple(Led(words(name), items.whole(f"/Leds/{name}")) for name in LEDS),
        alarms=_alarms(items),
        devices=_devices(items),
    )


def _phases(items: Items) -> tuple[str, ...]:
    number = items.whole("/Ac/NumberOfPhases")
    if number is None:
        voltages = (items.number(f"/Ac/Out/{phase}/V") for phase in PHASES)
        number = sum(voltage is not None for voltage in voltages)
    return PHASES[: max(1, number)]


def _input(items: Items, phases: tuple[str, ...]) -> Side:
    active = items.whole("/Ac/ActiveIn/ActiveInput")
    limit = items.known("/Ac/ActiveIn/CurrentLimit")
    extra = f"limit {limit}" if limit else ""
    several = (items.whole("/Ac/NumberOfAcInputs") or 1) > 1
    title = f"AC input {active + 1}" if several and active in (0, 1) else "AC input"
    connected = active != _NOT_CONNECTED and items.whole("/Ac/ActiveIn/Connected") != 0
    return _side(items, title, "/Ac/ActiveIn", phases, extra, connected)


def _side(
    items: Items,
    title: str,
    folder: str,
    phases: tuple[str, ...],
    extra: str = "",
    connected: bool = True,
) -> Side:
    power, text = _power(items, folder)
    return Side(
        title,
        power,
        text,
        tuple(_phase(items, phase, f"{folder}/{phase}") for phase in phases),
        extra,
        connected,
    )


def _phase(items: Items, name: str, folder: str) -> Phase:
    power, text = _power(items, folder)
    return Phase(
        name,
        items.text(f"{folder}/V"),
        items.text(f"{folder}/I"),
        items.text(f"{folder}/F"),
        power,
        text,
    )


def _power(items: Items, folder: str) -> tuple[float | None, str]:
    """Watts, or volt-amperes where the firmware tells no watts."""
    path = f"{folder}/P"
    if items.number(path) is None and items.number(f"{folder}/S") is not None:
        path = f"{folder}/S"
    return items.number(path), items.text(path)


def _alarms(items: Items) -> tuple[Alarm, ...] | None:
    paths = items.below(_ALARMS)
    levels = {path: items.whole(path) for path in paths}
    found = [
        Alarm(words(path.removeprefix(_ALARMS).replace("/", " ")), level)
        for path, level in levels.items()
        if level and path != _VEBUS_ALARM
    ]
    if items.whole("/VebusError"):
        found.append(Alarm(f"VE.Bus error: {items.text('/VebusError')}", ALARM))
    elif levels.get(_VEBUS_ALARM):
        found.append(Alarm("VE.Bus error", ALARM))
    if not found and all(level is None for level in levels.values()):
        return None
    return tuple(sorted(found, key=lambda alarm: -alarm.level))


def _devices(items: Items) -> tuple[Device, ...]:
    number = items.whole("/Devices/NumberOfMultis") or 0
    folders = [f"/Devices/{index}" for index in range(number)] if number > 1 else []
    return tuple(
        Device(
            number=str(index),
            serial=items.text(f"{folder}/SerialNumber"),
            input=items.text(f"{folder}/Ac/In/P"),
            inverter=items.text(f"{folder}/Ac/Inverter/P"),
            output=items.text(f"{folder}/Ac/Out/P"),
        )
        for index, folder in enumerate(folders)
    )
