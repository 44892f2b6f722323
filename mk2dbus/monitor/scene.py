"""All that a drawing depends on, but its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from .dialog import Dialog
from .glyphs import Glyphs
from .history import History
from .items import Items
from .overview import Overview, overview
from .widgets import Scale

STATISTICS = "/Mgmt/Statistics/"
INTERFACE = "/Interfaces/Mk2/"
INTERFACE_STATUS = f"{INTERFACE}Status/"
FIGURES = (STATISTICS, INTERFACE_STATUS)
"""Folders whose leaves are the figures of the line, whichever there are."""


class Page(Enum):
    OVERVIEW = "overview"
    LINE = "line"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Series:
    """A graph of the overview."""

    title: str
    scale: Scale
    style: str


SERIES = {
    "volts": Series("Battery voltage", Scale("V", 1, least=1.0, signed=False), "volts"),
    "amperes": Series("Battery current", Scale("A", 0, least=4.0, signed=True), "charge"),
    "input": Series("Input power", Scale("W", 0, least=100.0, signed=True), "flow"),
    "output": Series("Output power", Scale("W", 0, least=100.0, signed=True), "flow"),
}


@dataclass(slots=True)
class Scene:
    """What is to be seen. ``now`` is the time of the histories, ``step`` counts for what moves and blinks."""

    service: str
    glyphs: Glyphs
    notes: Sequence[str] = ()
    page: Page = Page.OVERVIEW
    show_notes: bool = True
    dialog: Dialog = None
    now: float = 0.0
    step: int = 0
    gone: str = "service"
    """What is missing while the items are not there."""
    items: Items = field(init=False)
    histories: dict[str, History] = field(default_factory=dict)
    """By the name of a series, or the path of a figure of the line."""

    def __post_init__(self) -> None:
        self.items = Items(self.glyphs.clean)

    @property
    def lit(self) -> bool:
        """The phase of what blinks."""
        return self.step % 2 == 0

    def overview(self) -> Overview:
        return overview(self.items)

    def history(self, name: str) -> History:
        return self.histories.setdefault(name, History())

    def figures(self) -> list[str]:
        """Paths of the figures of the line."""
        return [path for folder in FIGURES for path in self.items.below(folder)]

    def tick(self, now: float) -> None:
        """Take the values of this moment into the histories."""
        self.now = now
        self.step = int(now * 2)
        battery = self.items.number
        view = self.overview()
        for name, value in (
            ("volts", battery("/Dc/0/Voltage")),
            ("amperes", battery("/Dc/0/Current")),
            ("input", view.input.power),
            ("output", view.output.power),
            *((path, self.items.number(path)) for path in self.figures()),
        ):
            self.history(name).add(now, value)
