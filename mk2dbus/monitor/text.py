"""Lines of styled text: measuring, cutting, joining. No terminal is known here."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

Span = tuple[str, str]
"""Style and text; the styles are those of :data:`.screen.STYLES`, "" is none."""

Line = tuple[Span, ...]

EMPTY: Line = ()

_BEFORE_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


_NARROW = re.compile("[ -~\u00a1-\u02ff\u2500-\u25cf]*")
"""What nearly all is made of: Latin letters, box drawing, block elements."""


def width(text: str) -> int:
    """Columns that a printable text takes."""
    if _NARROW.fullmatch(text):
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def length(line: Line) -> int:
    """Columns that a line takes."""
    return sum(width(text) for _, text in line)


def cut(text: str, columns: int, more: str = "") -> str:
    """As much of a text as fits; ``more`` ends it where something is missing."""
    if width(text) <= columns:
        return text
    room = columns - width(more)
    if room < 0:
        return ""
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > room:
            return text[:index] + more
    return text


def fit(line: Line, columns: int) -> Line:
    """A line of exactly this width: cut, or filled up with blanks."""
    found: list[Span] = []
    room = columns
    for style, text in line:
        shown = cut(text, room)
        if shown:
            found.append((style, shown))
            room -= width(shown)
        if shown != text:
            break
    if room > 0:
        found.append(("", " " * room))
    return tuple(found)


def beside(blocks: Sequence[Sequence[Line]], widths: Sequence[int], gap: int) -> list[Line]:
    """Blocks of lines next to each other, each as wide as it may be."""
    lines: list[Line] = []
    for row in range(max(map(len, blocks))):
        spans: list[Span] = []
        for index, (block, columns) in enumerate(zip(blocks, widths, strict=True)):
            if index:
                spans.append(("", " " * gap))
            spans += fit(block[row] if row < len(block) else EMPTY, columns)
        lines.append(tuple(spans))
    return lines


def flow(chips: Iterable[Line], columns: int, gap: int = 2) -> list[Line]:
    """Pieces one after the other, in as many lines as they need; none is broken."""
    lines: list[Line] = []
    current: list[Span] = []
    room = columns
    for chip in chips:
        if current and length(chip) + gap <= room:
            current.append(("", " " * gap))
            room -= gap
        elif current:
            lines.append(tuple(current))
            current, room = [], columns
        current += chip
        room -= length(chip)
    if current:
        lines.append(tuple(current))
    return lines


def wrapped(text: str, columns: int, style: str = "") -> list[Line]:
    """A sentence in as many lines as it needs."""
    return [((style, part),) for part in textwrap.wrap(text, max(1, columns))]


def broken(text: str, columns: int, style: str = "") -> list[Line]:
    """A text that somebody may copy: broken where the line is full and nowhere else."""
    columns = max(1, columns)
    return [((style, text[at : at + columns]),) for at in range(0, len(text), columns)]


def words(name: str) -> str:
    """The name of a leaf as words: ``HighTemperature`` → ``High temperature``."""
    first, *rest = _BEFORE_CAPITAL.split(name)
    return " ".join([first, *(word if word.isupper() else word.lower() for word in rest)])
