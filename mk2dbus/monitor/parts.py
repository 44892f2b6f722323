"""What both arrangements of the overview have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .glyphs import Glyphs
from .overview import ALARM, Alarm, Battery, Led, Overview
from .scene import Scene
from .text import Line, cut
from .widgets import lamp, rounded_up

FULL: Mapping[str, str] = {}
SHORT = {"Absorption": "Absorp.", "Low battery": "Low batt", "Temperature": "Temp"}
SHORTEST = {**SHORT, "Absorption": "Abs", "Inverter": "Inv", "Overload": "Over", "Low battery": "Low"}
"""Names of LEDs where room is scarce; the others stay."""

NOT_CONNECTED = ("warn", "not connected")

_LEAST_SCALE_W = 100.0


def full_scale(scene: Scene, view: Overview) -> float:
    """What the longest bar stands for: the same for all three, so that they can be compared."""
    powers = [abs(power or 0.0) for power in (view.input.power, view.battery.power, view.output.power)]
    history = [scene.history(name).greatest() for name in ("input", "output")]
    return rounded_up(max(_LEAST_SCALE_W, *powers, *history))


def direction(power: float | None) -> int:
    """Which way the power goes: 1, -1, or 0."""
    return 0 if power is None or round(power) == 0 else 1 if power > 0 else -1


def arrow(way: int, forward: str, backward: str) -> str:
    """Three columns: which way it goes."""
    return f" {('', forward, backward)[way]} " if way else "   "


def charging(battery: Battery) -> int:
    """1 while it is charged, -1 while it is discharged, 0 when nothing goes in or out."""
    return 0 if battery.resting else direction(battery.power)


CHARGING = ("", "charging", "discharging")
CHARGE_STYLE = ("", "charge", "discharge")
"""By what :func:`charging` says."""


def lamps(leds: Iterable[Led], names: Mapping[str, str], lit: bool, glyphs: Glyphs) -> list[Line]:
    """The LEDs under these names."""
    return [lamp(led, names.get(led.name, led.name), lit, glyphs) for led in leds]


def alarm_style(alarms: Sequence[Alarm] | None) -> str:
    """Of the worst; nothing when there is none."""
    if not alarms:
        return ""
    return "bad" if any(alarm.level >= ALARM for alarm in alarms) else "warn"


def alarm_lines(alarms: Sequence[Alarm] | None, columns: int, glyphs: Glyphs) -> list[Line]:
    """One for each alarm, or for that there is none."""
    if alarms is None:
        return [(("dim", "not known"),)]
    if not alarms:
        return [(("good", "none"),)]
    texts = [
        ("bad", alarm.text) if alarm.level >= ALARM else ("warn", f"{alarm.text} (warning)")
        for alarm in alarms
    ]
    return [((style, cut(text, columns, glyphs.more)),) for style, text in texts]
