"""What the display is made of: block elements and boxes, or plain ASCII."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Each is one column wide.

    ``rising`` and ``falling`` fill a cell of a graph from its foot or its top, from empty to full;
    ``partial`` are the last cells of a bar, from nearly empty to nearly full. ``frame``: corners from the
    upper left on, horizontal, vertical. ``joints``: where a line leaves an edge to the right, to the left,
    downwards, upwards. ``lamps``: a LED that is off, on, blinking as it is lit, and blinking
    as it is dark.
    """

    ascii: bool
    rising: str
    falling: str
    partial: str
    full: str
    empty: str
    frame: str
    joints: str
    right: str
    left: str
    down: str
    up: str
    lamps: tuple[str, str, str, str]
    more: str
    becomes: str
    cursor: str

    def clean(self, text: str) -> str:
        """A text of the service as it can be shown: without control characters, or in ASCII."""
        if self.ascii:
            text = text.translate(_ASCII).encode("ascii", "replace").decode()
        return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


_ASCII: Mapping[int, str] = str.maketrans({"°": "", "→": "->", "…": "...", "–": "-", "·": "-", "×": "x"})

UNICODE = Glyphs(
    ascii=False,
    rising=" ▁▂▃▄▅▆▇█",
    falling=" ▔▀█",
    partial="▏▎▍▌▋▊▉",
    full="█",
    empty="░",
    frame="┌┐└┘─│",
    joints="├┤┬┴",
    right="▶",
    left="◀",
    down="▼",
    up="▲",
    lamps=("○", "●", "◉", "◎"),
    more="…",
    becomes="→",
    cursor="▏",
)

ASCII = Glyphs(
    ascii=True,
    rising=" .:|",
    falling=" '|",
    partial="",
    full="#",
    empty=".",
    frame="++++-|",
    joints="++++",
    right=">",
    left="<",
    down="v",
    up="^",
    lamps=(".", "*", "+", "-"),
    more="~",
    becomes="->",
    cursor="_",
)
