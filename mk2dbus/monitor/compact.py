"""The overview with its parts below each other, for small terminals."""

from __future__ import annotations

from .glyphs import Glyphs
from .overview import Overview, Side
from .parts import (
    CHARGE_STYLE,
    FULL,
    NOT_CONNECTED,
    SHORT,
    SHORTEST,
    alarm_lines,
    arrow,
    charging,
    direction,
    full_scale,
    lamps,
)
from .scene import Scene
from .text import Line, flow, length
from .widgets import bar

Ranked = tuple[int, Line]
"""A line with its rank: where rows are scarce, the highest go first."""

_ALARMS = "Alarms  "


def compact(scene: Scene, view: Overview, columns: int, rows: int) -> list[Line]:
    """A line or two for each part; the least important are left out where they do not fit."""
    glyphs, full = scene.glyphs, full_scale(scene, view)
    battery = view.battery
    way = charging(battery)
    details = (battery.volts_text, battery.amperes_text, battery.charge, battery.temperature)
    ranked: list[Ranked] = [
        (0, (("state", view.state), ("dim", "   mode "), ("", view.mode))),
        *_side(view.input, columns, full, glyphs),
        (
            0,
            (
                *_label("Battery", battery.power_text, arrow(way, glyphs.down, glyphs.up)),
                *bar(battery.power, full, columns - _LABEL_COLUMNS, CHARGE_STYLE[way] or "flow", glyphs),
            ),
        ),
        (2, (("", "  " + "  ".join(filter(None, details))),)),
        *_side(view.output, columns, full, glyphs),
        *_alarms(view, columns, glyphs),
        *((5, line) for line in _panel(view, scene.lit, columns, glyphs)),
    ]
    while len(ranked) > max(rows, 0):
        del ranked[max(range(len(ranked)), key=lambda index: (ranked[index][0], index))]
    return [line for _, line in ranked]


def _side(side: Side, columns: int, full: float, glyphs: Glyphs) -> list[Ranked]:
    label = _label(side.title, side.power_text, arrow(direction(side.power), glyphs.right, glyphs.left))
    found: list[Ranked] = [(0, (*label, *bar(side.power, full, columns - _LABEL_COLUMNS, "flow", glyphs)))]
    if not side.connected:
        return [*found, (2, (("", "  "), NOT_CONNECTED, ("dim", f"  {side.extra}")))]
    several = len(side.phases) > 1
    for phase in side.phases:
        texts = (phase.volts, phase.amperes, *((phase.power_text,) if several else ()), phase.hertz)
        name = f"{phase.name} " if several else ""
        found.append((3 if several else 2, (("", f"  {name}" + "  ".join(texts)),)))
    if side.extra:
        extra: Line = (("dim", f"  {side.extra}"),)
        rank, last = found[-1]
        if length(last) + length(extra) <= columns:
            found[-1] = (rank, (*last, *extra))
        else:
            found.append((3, extra))
    return found


def _label(title: str, text: str, direction: str) -> Line:
    return (("title", f"{title:<10}"), ("bold", f"{text:>8}"), ("flow", direction))


_LABEL_COLUMNS = length(_label("", "", arrow(0, "", "")))


def _alarms(view: Overview, columns: int, glyphs: Glyphs) -> list[Ranked]:
    room = columns - len(_ALARMS)
    lines = flow(alarm_lines(view.alarms, room, glyphs), room)
    return [
        (1 if view.alarms else 4, (("dim", " " * len(_ALARMS) if index else _ALARMS), *line))
        for index, line in enumerate(lines)
    ]


def _panel(view: Overview, lit: bool, columns: int, glyphs: Glyphs) -> list[Line]:
    """The LEDs in as few lines as can be, with the longest names that allow it."""
    forms = [
        flow(lamps(view.leds, names, lit, glyphs), columns, gap)
        for names, gap in ((FULL, 2), (SHORT, 1), (SHORTEST, 1))
    ]
    return min(forms, key=len)
