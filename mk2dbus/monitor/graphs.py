"""The last minutes, in what room is left."""

from __future__ import annotations

from .scene import SERIES, Scene
from .text import Line, beside, length, width
from .widgets import graph

_TWO_ACROSS = 56
"""Columns that two beside each other need."""
_LEAST_ROWS = 3
_MOST_ROWS = 24
_COLUMNS = 36
"""Of one, where rows are few and more than two are beside each other."""
_GAP = 3
_GUTTER = 7
"""Columns of the scale."""


def graphs(scene: Scene, columns: int, rows: int) -> list[Line]:
    """As many of the graphs as fit with a height that says something."""
    if rows < _LEAST_ROWS:
        return []
    names, view = list(SERIES), scene.overview()
    present = {
        "volts": view.battery.volts_text,
        "amperes": view.battery.amperes_text,
        "input": view.input.power_text,
        "output": view.output.power_text,
    }
    if columns < _TWO_ACROSS:
        across = 1
    elif rows >= 2 * (_LEAST_ROWS + 1) or columns < 3 * _COLUMNS:
        across = 2
    else:
        across = min(len(names), columns // _COLUMNS)
    down = min(-(-len(names) // across), max(1, rows // (_LEAST_ROWS + 1)))
    height = min(_MOST_ROWS, rows // down)
    widths = [(columns - (across - 1) * _GAP) // across] * across
    lines: list[Line] = []
    for start in range(0, across * down, across):
        blocks = [
            _graph(scene, name, present[name], columns, height)
            for name, columns in zip(names[start : start + across], widths, strict=False)
        ]
        lines += beside(blocks, widths[: len(blocks)], _GAP)
    return lines


def _graph(scene: Scene, name: str, present: str, columns: int, rows: int) -> list[Line]:
    """Title with the present value, and below it the graph with its scale on the left."""
    series, history = SERIES[name], scene.history(name)
    minutes = history.span_s(scene.now) // 60
    values = history.columns(scene.now, max(1, columns - _GUTTER))
    drawn = graph(values, rows - 1, series.scale, series.style, scene.glyphs)
    last = f"last {minutes} min"
    title: Line = (("title", f"{series.title}  "), ("bold", present))
    room = columns - length(title) - width(last)
    if room > 0:
        title += (("", " " * room), ("dim", last))
    return [title, *((("dim", f"{label:>{_GUTTER - 1}} "), *line) for label, line in drawn)]
