"""The overview with its parts beside each other, as the power flows."""

from __future__ import annotations

from collections.abc import Sequence

from .glyphs import Glyphs
from .overview import Battery, Overview, Side
from .parts import (
    CHARGE_STYLE,
    CHARGING,
    FULL,
    NOT_CONNECTED,
    SHORT,
    alarm_lines,
    alarm_style,
    charging,
    direction,
    full_scale,
    lamps,
)
from .scene import Scene
from .text import EMPTY, Line, beside, fit, flow, length, width
from .widgets import bar, box, pipe

WIDE = 76
"""Columns that it needs."""
_GAPS = ((150, 9), (100, 5), (0, 3))
"""From so many columns on, columns between the boxes, for what flows."""
_LEAST_BAR = 4


def wide(scene: Scene, view: Overview, columns: int) -> list[Line]:
    glyphs, full = scene.glyphs, full_scale(scene, view)
    gap = next(gap for least, gap in _GAPS if columns >= least)
    outer = (columns - 2 * gap) // 3
    middle = columns - 2 * gap - 2 * outer
    widths = (outer, middle, outer)
    inner = outer - 3
    sides = [_side_lines(side, inner, full, glyphs) for side in (view.input, view.output)]
    system = _system_lines(view, middle - 3, full)
    height = max(3, *map(len, sides)) + 2
    way = charging(view.battery)
    known = view.battery.power is not None
    upper = _joined(
        [
            box(view.input.title, sides[0], outer, height, glyphs),
            box("Inverter/charger", system[: height - 2], middle, height, glyphs, foot=known),
            box(view.output.title, sides[1], outer, height, glyphs),
        ],
        widths,
        gap,
        [_pipe(side, gap, scene.step, glyphs) for side in (view.input, view.output)],
        glyphs,
    )
    panel = _panel(view, scene.lit, inner, glyphs)
    rows = len(panel) + 2
    alarms = alarm_lines(view.alarms, inner, glyphs)
    mark = (glyphs.joints[3], glyphs.down, glyphs.up)[way] if known else ""
    lower = beside(
        [
            box("Front panel", panel, outer, rows, glyphs),
            box(
                "Battery",
                _battery_lines(view.battery, middle - 3, full, glyphs),
                middle,
                rows,
                glyphs,
                mark=("flow" if way else "frame", mark),
            ),
            box("Alarms", alarms, outer, rows, glyphs, edge=alarm_style(view.alarms) or "frame"),
        ],
        widths,
        gap,
    )
    return upper + lower


def _pipe(side: Side, columns: int, step: int, glyphs: Glyphs) -> Line:
    """What joins a side to the inverter; empty where nothing does, or nobody knows."""
    if side.power is None or not side.connected:
        return EMPTY
    return pipe(direction(side.power), columns, step, glyphs)


def _joined(
    boxes: Sequence[Sequence[Line]], widths: Sequence[int], gap: int, pipes: Sequence[Line], glyphs: Glyphs
) -> list[Line]:
    """Three boxes, and between them what flows, in the row of the powers."""
    to_right, to_left = glyphs.joints[0], glyphs.joints[1]
    rows = beside(boxes, widths, gap)
    found: Line = EMPTY
    for index, (block, columns) in enumerate(zip(boxes, widths, strict=True)):
        # The edges are the first and the last span of a box's line.
        first, *inside, last = fit(block[1], columns)
        if index:
            before = pipes[index - 1]
            found += before or (("", " " * gap),)
            first = (first[0], to_left) if before else first
        if index < len(pipes) and pipes[index]:
            last = (last[0], to_right)
        found += (first, *inside, last)
    rows[1] = found
    return rows


def _system_lines(view: Overview, columns: int, full: float) -> list[Line]:
    """The state, then the rest, the most important first: the box ends where the others do."""
    facts: list[Line] = [(("dim", "mode "), ("", view.mode))]
    if view.setpoints:
        facts.append((("dim", "setpoint "), ("", " ".join(view.setpoints))))
    if any(part.power is not None for part in (view.input, view.battery, view.output)):
        facts.append((("dim", f"a full bar is {_watts(full)}"),))
    if view.charge_limit:
        facts.append((("dim", "charge limit "), ("", view.charge_limit)))
    return [(("state", view.state),), *flow(facts, columns)]


def _panel(view: Overview, lit: bool, columns: int, glyphs: Glyphs) -> list[Line]:
    """The LEDs in two columns, as on the unit."""
    half = len(view.leds) // 2
    for names in (FULL, SHORT):
        leds = lamps(view.leds, names, lit, glyphs)
        first = max(map(length, leds[:half])) + 1
        if first + max(map(length, leds[half:])) <= columns:
            break
    return [(*fit(left, first), *right) for left, right in zip(leds[:half], leds[half:], strict=True)]


def _side_lines(side: Side, columns: int, full: float, glyphs: Glyphs) -> list[Line]:
    lines: list[Line] = [_bar_line(side.power, side.power_text, columns, full, "flow", glyphs)]
    several = len(side.phases) > 1
    if not side.connected:
        return [*lines, (NOT_CONNECTED,), (("dim", side.extra),)]
    if several:
        for phase in side.phases:
            text = f"{phase.name} {phase.volts:>4} {phase.amperes:>6} {phase.power_text:>6} "
            room = columns - width(text)
            shown = (
                bar(phase.power, full / len(side.phases), room, "flow", glyphs)
                if room >= _LEAST_BAR
                else EMPTY
            )
            lines.append((("", text), *shown))
    else:
        phase = side.phases[0]
        lines.append((("", f"{phase.volts}  {phase.amperes}  {phase.hertz}"),))
    rest = "  ".join(filter(None, (side.hertz if several else "", side.extra)))
    return [*lines, (("dim", rest),)] if rest else lines


def _bar_line(value: float | None, text: str, columns: int, full: float, style: str, glyphs: Glyphs) -> Line:
    label = f"{text:>8} "
    return (("bold", label), *bar(value, full, columns - width(label), style, glyphs))


def _battery_lines(battery: Battery, columns: int, full: float, glyphs: Glyphs) -> list[Line]:
    way = charging(battery)
    power_style = CHARGE_STYLE[way] or "flow"
    lines: list[Line] = [
        _bar_line(battery.power, battery.power_text, columns, full, power_style, glyphs),
        (("", "  ".join(filter(None, (battery.volts_text, battery.amperes_text, battery.temperature)))),),
        (("", ""),),
        ((CHARGE_STYLE[way], CHARGING[way]),),
    ]
    if battery.percent is not None:
        lines[2] = _bar_line(battery.percent, battery.charge, columns, 100.0, "charge", glyphs)
    return lines


def _watts(power: float) -> str:
    return f"{power / 1000:g} kW" if power >= 1000 else f"{power:g} W"
