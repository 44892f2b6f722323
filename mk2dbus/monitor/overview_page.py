"""The power flow, the front panel, alarms, devices and graphs, arranged for a size."""

from __future__ import annotations

from .compact import compact
from .graphs import graphs
from .help_page import note_lines
from .overview import Overview
from .scene import Scene
from .text import Line, cut, width
from .wide import WIDE, wide


def overview_page(scene: Scene, columns: int, rows: int) -> list[Line]:
    """The best of it that fits; more rows than there are never."""
    view = scene.overview()
    flow_rows = wide(scene, view, columns) if columns >= WIDE else []
    if not flow_rows or len(flow_rows) > rows:
        flow_rows = compact(scene, view, columns, rows)
    lines = flow_rows
    for block in (_devices(view, columns), _notes(scene, columns, rows - len(lines))):
        if block and len(lines) + len(block) <= rows:
            lines = lines + block
    return lines + graphs(scene, columns, rows - len(lines))


def _notes(scene: Scene, columns: int, rows: int) -> list[Line]:
    notes = note_lines(scene, columns) if scene.show_notes else []
    if len(notes) > rows > 1:
        notes = [*notes[: rows - 1], (("dim", f"{scene.glyphs.more} all of it with ?"),)]
    return notes


def _devices(view: Overview, columns: int) -> list[Line]:
    """A row per device, where there are several."""
    if not view.devices:
        return []
    rows = [("Device", "Serial", "Input", "Inverter", "Output")]
    rows += [(d.number, d.serial, d.input, d.inverter, d.output) for d in view.devices]
    widths = [max(width(row[index]) for row in rows) for index in range(5)]
    if sum(widths) + 2 * len(widths) > columns:
        widths[1] = 0
    lines: list[Line] = []
    for index, row in enumerate(rows):
        cells = [
            f"{cell:<{size}}" if position < 2 else f"{cell:>{size}}"
            for position, (cell, size) in enumerate(zip(row, widths, strict=True))
            if size
        ]
        lines.append((("" if index else "dim", cut("  ".join(("", *cells))[1:], columns)),))
    return lines
