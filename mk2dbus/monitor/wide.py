"""The overview with its parts beside each other, as the power flows."""

from __future__ import annotations

from collections.abc import Sequence

from .glyphs import Glyphs
from .overview import Battery, Overview, Side
from .parts import FULL, SHORT, alarm_lines, arrow, charging, full_scale
from .scene import Scene
from .text import EMPTY, Line, beside, fit, length, width
from .widgets import bar, box, lamp

WIDE = 76
"""Columns that it needs."""
_GAP = 3
"""Between boxes, with room for an arrow."""


def wide(scene: Scene, view: Overview, columns: int) -> list[Line]:
    glyphs, full = scene.glyphs, full_scale(scene, view)
    outer = (columns - 2 * _GAP) // 3
    middle = columns - 2 * _GAP - 2 * outer
    widths = (outer, middle, outer)
    inner = outer - 3
    sides = [_side_lines(side, inner, full, glyphs) for side in (view.input, view.output)]
    height = max(3, *map(len, sides)) + 2
    into = arrow(view.input.power, glyphs.right, glyphs.left)
    out = arrow(view.output.power, glyphs.right, glyphs.left)
    system: list[Line] = [
        (("state", view.state),),
        (("dim", "mode "), ("", view.mode)),
        (("dim", f"a full bar is {_watts(full)}"),),
    ]
    upper = _joined(
        [
            box(view.input.title, sides[0], outer, height, glyphs),
            box("Inverter/charger", system, middle, height, glyphs),
            box(view.output.title, sides[1], outer, height, glyphs),
        ],
        widths,
        (into, out),
    )
    panel = _panel(view, scene.lit, inner, glyphs)
    rows = len(panel) + 2
    alarms = alarm_lines(view.alarms, inner, glyphs)
    charged = arrow(view.battery.power, glyphs.down, glyphs.up).strip()
    lower = beside(
        [
            box("Front panel", panel, outer, rows, glyphs),
            box(
                "Battery",
                _battery_lines(view.battery, middle - 3, full, glyphs),
                middle,
                rows,
                glyphs,
                mark=charged,
            ),
            box("Alarms", alarms, outer, rows, glyphs),
        ],
        widths,
        _GAP,
    )
    return upper + lower


def _joined(boxes: Sequence[Sequence[Line]], widths: Sequence[int], arrows: tuple[str, str]) -> list[Line]:
    """Three boxes with an arrow between them, in the row of the powers."""
    rows = beside(boxes, widths, _GAP)
    parts = [fit(block[1], columns) for block, columns in zip(boxes, widths, strict=True)]
    rows[1] = (*parts[0], ("flow", arrows[0]), *parts[1], ("flow", arrows[1]), *parts[2])
    return rows


def _panel(view: Overview, lit: bool, columns: int, glyphs: Glyphs) -> list[Line]:
    """The LEDs in two columns, as on the unit."""
    half = len(view.leds) // 2
    for names in (FULL, SHORT):
        leds = [lamp(led, names.get(led.name, led.name), lit, glyphs) for led in view.leds]
        first = max(map(length, leds[:half])) + 1
        if first + max(map(length, leds[half:])) <= columns:
            break
    return [(*fit(left, first), *right) for left, right in zip(leds[:half], leds[half:], strict=True)]


def _side_lines(side: Side, columns: int, full: float, glyphs: Glyphs) -> list[Line]:
    lines: list[Line] = [_power_line(side.power, side.power_text, columns, full, "flow", glyphs)]
    several = len(side.phases) > 1
    if several:
        for phase in side.phases:
            text = f"{phase.name} {phase.volts:>4} {phase.amperes:>6} {phase.power_text:>6} "
            room = columns - width(text)
            shown = bar(phase.power, full / len(side.phases), room, "flow", glyphs) if room >= 4 else EMPTY
            lines.append((("", text), *shown))
    else:
        phase = side.phases[0]
        lines.append((("", f"{phase.volts}  {phase.amperes}  {phase.hertz}"),))
    rest = "  ".join(filter(None, (side.hertz if several else "", side.extra)))
    return [*lines, (("dim", rest),)] if rest else lines


def _power_line(
    power: float | None, text: str, columns: int, full: float, style: str, glyphs: Glyphs
) -> Line:
    label = f"{text:>8} "
    return (("bold", label), *bar(power, full, columns - width(label), style, glyphs))


def _battery_lines(battery: Battery, columns: int, full: float, glyphs: Glyphs) -> list[Line]:
    word, style = charging(battery.power)
    state = "  ".join(filter(None, (battery.charge and f"charged {battery.charge}", battery.temperature)))
    return [
        _power_line(battery.power, battery.power_text, columns, full, style, glyphs),
        (("", f"{battery.volts_text}  {battery.amperes_text}"),),
        (("", state),),
        ((style, word),),
    ]


def _watts(power: float) -> str:
    return f"{power / 1000:g} kW" if power >= 1000 else f"{power:g} W"
