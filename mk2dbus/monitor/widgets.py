"""Bars, graphs, boxes, lamps: values to lines of a given size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .glyphs import Glyphs
from .overview import BLINKING, Led
from .text import EMPTY, Line, Span, cut, fit, width

_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

_NOTHING = 0.05
"""Share of the least range that counts as zero: a current that wavers about it has no other side."""

_LAMPS = {"Mains": "good", "Inverter": "good", "Bulk": "warn", "Absorption": "warn", "Float": "warn"}
"""Colours on the front panel; the others are red."""


def rounded_up(value: float) -> float:
    """The next number that reads well; for scales, which should not move with each value."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (*_STEPS, 20.0) if step * unit >= value * (1 - 1e-9))


def bar(value: float | None, full: float, columns: int, style: str, glyphs: Glyphs) -> Line:
    """A magnitude of at most ``full``; blank when it is not known."""
    if value is None or columns <= 0 or full <= 0:
        return (("", " " * max(0, columns)),)
    parts = len(glyphs.partial) + 1
    filled, part = divmod(round(min(1.0, abs(value) / full) * columns * parts), parts)
    text = glyphs.full * filled + (glyphs.partial[part - 1] if part else "")
    return ((style, text), ("dim", glyphs.empty * (columns - len(text))))


@dataclass(frozen=True, slots=True)
class Scale:
    """Of a graph. ``least`` is the smallest range that is told apart, in the unit.

    ``signed``: from zero, upwards and downwards; else from the least value there is.
    """

    unit: str
    decimals: int
    least: float
    signed: bool

    def label(self, value: float) -> str:
        return f"{value:.{self.decimals}f}{self.unit}"


def graph(
    values: Sequence[float | None], rows: int, scale: Scale, style: str, glyphs: Glyphs
) -> list[tuple[str, Line]]:
    """``rows`` lines with the label of each, one column per value."""
    known = [value for value in values if value is not None]
    if not known:
        return [("", ((style, " " * len(values)),))] * rows
    if scale.signed:
        return _signed(values, min(known), max(known), rows, scale, style, glyphs)
    step = scale.least / 2
    low = math.floor(min(known) / step) * step
    high = max(low + scale.least, math.ceil(max(known) / step) * step)
    cells = [None if value is None else (value - low) / (high - low) * rows for value in values]
    lines = _rising(cells, rows, style, glyphs)
    labels = [scale.label(high), *[""] * (rows - 2), scale.label(low)]
    return list(zip(labels[-rows:] if rows > 1 else labels[:1], lines, strict=True))


def _signed(
    values: Sequence[float | None],
    low: float,
    high: float,
    rows: int,
    scale: Scale,
    style: str,
    glyphs: Glyphs,
) -> list[tuple[str, Line]]:
    """Both sides of zero have the same scale; zero is between two rows."""
    above = _rows_above(low, high, rows, scale.least * _NOTHING)
    below = rows - above
    needed = (high / above if above else 0.0, -low / below if below else 0.0, scale.least / rows)
    per_row = rounded_up(max(needed))
    cells = [None if value is None else value / per_row for value in values]
    # What is below zero is known all the same where there are no rows for it.
    rising = [None if cell is None or (cell < 0 and below) else max(0.0, cell) for cell in cells]
    falling = [None if cell is None else max(0.0, -cell) for cell in cells]
    lines = _rising(rising, above, style, glyphs) + _falling(falling, below, glyphs)
    labels = [""] * rows
    if 0 < above < rows:
        labels[above - 1] = scale.label(0)
    labels[-1] = scale.label(-below * per_row)
    labels[0] = scale.label(above * per_row)
    return list(zip(labels, lines, strict=True))


def _rows_above(low: float, high: float, rows: int, nothing: float) -> int:
    """How many of the rows are for what is above zero: all, none, or a share of at least one."""
    if low >= -nothing:
        return rows
    if high <= nothing:
        return 0
    if rows == 1:
        return int(high >= -low)
    return min(max(1, round(rows * high / (high - low))), rows - 1)


def _rising(cells: Sequence[float | None], rows: int, style: str, glyphs: Glyphs) -> list[Line]:
    """Columns that stand on the ground, in units of a row; what is known is at least a line on it."""
    levels = len(glyphs.rising) - 1
    heights = [0 if cell is None else max(1, round(cell * levels)) for cell in cells]
    return [
        ((style, "".join(glyphs.rising[min(levels, max(0, h - row * levels))] for h in heights)),)
        for row in range(rows - 1, -1, -1)
    ]


def _falling(cells: Sequence[float | None], rows: int, glyphs: Glyphs) -> list[Line]:
    """Columns that hang from zero; what is below it is seen, however little."""
    levels = len(glyphs.falling) - 1
    depths = [max(1, round(cell * levels)) if cell else 0 for cell in cells]
    return [
        (("discharge", "".join(glyphs.falling[min(levels, max(0, d - row * levels))] for d in depths)),)
        for row in range(rows)
    ]


def pipe(way: int, columns: int, step: int, glyphs: Glyphs) -> Line:
    """A line between two boxes; an arrow runs along it with each step, forwards (1) or backwards (-1)."""
    across = glyphs.frame[4]
    if not way:
        return (("frame", across * columns),)
    before = step % columns if way > 0 else columns - 1 - step % columns
    arrow = ("flow", glyphs.right if way > 0 else glyphs.left)
    return (("frame", across * before), arrow, ("frame", across * (columns - 1 - before)))


def box(
    title: str,
    lines: Sequence[Line],
    columns: int,
    rows: int,
    glyphs: Glyphs,
    *,
    mark: Span = ("", ""),
    foot: bool = False,
    edge: str = "frame",
) -> list[Line]:
    """A frame of ``rows`` lines altogether, its edges in the style ``edge``.

    ``mark`` is a sign in the middle of its upper edge; ``foot``: a line leaves the middle of the lower one.
    """
    upper_left, upper_right, lower_left, lower_right, across, down = tuple(glyphs.frame)
    inner = columns - 2
    shown = cut(title, inner - 4, glyphs.more)
    heading: list[Span] = [(edge, upper_left + across), ("title", f" {shown} ")]
    rest = inner - width(shown) - 3
    before = inner // 2 - (inner - rest)
    if mark[1] and before >= 1:
        heading += [(edge, across * before), mark, (edge, across * (rest - before - 1))]
    else:
        heading.append((edge, across * rest))
    heading.append((edge, upper_right))
    found: list[Line] = [tuple(heading)]
    for row in range(rows - 2):
        inside = fit((("", " "), *(lines[row] if row < len(lines) else EMPTY)), inner)
        found.append(((edge, down), *inside, (edge, down)))
    lower = across * inner
    if foot:
        lower = lower[: inner // 2] + glyphs.joints[2] + lower[inner // 2 + 1 :]
    found.append(((edge, lower_left + lower + lower_right),))
    return found


def lamp(led: Led, name: str, lit: bool, glyphs: Glyphs) -> Line:
    """A LED with a name. ``lit``: a blinking one is lit at this moment."""
    off, on, blinking_lit, blinking_dark = glyphs.lamps
    colour = _LAMPS.get(led.name, "bad")
    if led.state is None:
        return (("dim", f"{off} {name}"),)
    if led.state in BLINKING:
        shines = lit == (led.state == BLINKING[0])
        return (
            (colour if shines else "dim", blinking_lit if shines else blinking_dark),
            ("", f" {name}"),
        )
    if led.state:
        return ((colour, on), ("", f" {name}"))
    return (("dim", off), ("", f" {name}"))
