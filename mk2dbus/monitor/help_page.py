"""The keys and the notes."""

from __future__ import annotations

from .scene import Scene
from .text import EMPTY, Line, broken

KEYS = (
    ("m", "mode: charger only, inverter only, on, off; asks before it writes"),
    ("l", "input current limit; asks before it writes"),
    ("Tab", "the figures of the line, and back"),
    ("n", "hide or show the notes"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "into the background"),
    ("q, Ctrl-C", "end"),
)


def help_page(scene: Scene, columns: int, rows: int) -> list[Line]:
    """What the keys do, then the notes in full."""
    keys: list[Line] = [(("key", f"  {key:<11}"), ("", text)) for key, text in KEYS]
    return [EMPTY, *keys, EMPTY, *note_lines(scene, columns)]


def note_lines(scene: Scene, columns: int) -> list[Line]:
    """The notes of the command line, so that they can be copied."""
    return [line for note in scene.notes for line in broken(scene.glyphs.clean(note), columns, "note")]
