"""What both arrangements of the overview have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .glyphs import Glyphs
from .overview import ALARM, Alarm, Overview
from .scene import Scene
from .text import Line, cut
from .widgets import rounded_up

FULL: Mapping[str, str] = {}
SHORT = {"Absorption": "Absorp.", "Low battery": "Low batt", "Temperature": "Temp"}
"""Names of LEDs where room is scarce; the others stay."""

_LEAST_SCALE_W = 100.0


def full_scale(scene: Scene, view: Overview) -> float:
    """What the longest bar stands for: the same for all three, so that they can be compared."""
    powers = [abs(power or 0.0) for power in (view.input.power, view.battery.power, view.output.power)]
    history = [scene.history(name).greatest() for name in ("input", "output")]
    return rounded_up(max(_LEAST_SCALE_W, *powers, *history))


def arrow(power: float | None, forward: str, backward: str) -> str:
    """Three columns: which way the power goes."""
    if power is None or round(power) == 0:
        return "   "
    return f" {forward if power > 0 else backward} "


def charging(power: float | None) -> tuple[str, str]:
    """A word for it, and its style."""
    if power is None or round(power) == 0:
        return "", ""
    return ("charging", "charge") if power > 0 else ("discharging", "discharge")


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
