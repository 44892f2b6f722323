"""The figures of the line to the adapter: whatever leaves the service has for them."""

from __future__ import annotations

from .scene import FIGURES, INTERFACE, Scene
from .text import EMPTY, Line, cut, width, words, wrapped
from .widgets import Scale, bar, graph

_GRAPH_COLUMNS = 60
_LEAST_GRAPH = 8
_PERCENT = "%"
_ANY = Scale("", 0, least=1e-9, signed=True)


def line_page(scene: Scene, columns: int, rows: int) -> list[Line]:
    """A row per figure: name, text, and what fits of a bar or of the last minutes."""
    items, glyphs = scene.items, scene.glyphs
    adapter = [items.known(f"{INTERFACE}{name}") for name in ("ProductName", "Connection")]
    version = items.known(f"{INTERFACE}Version")
    title = " at ".join(filter(None, adapter)) + (f", version {version}" if version else "")
    lines: list[Line] = [(("title", title),), EMPTY] if title else [EMPTY]
    paths = scene.figures()
    if not paths:
        text = "The service tells no figures of the line." if items.there else ""
        return lines + wrapped(text, columns, "dim")
    names = {path: _name(path) for path in paths}
    label = min(max(map(width, names.values())), columns // 2)
    # A sentence among them must not push the numbers aside.
    value = max((width(items.text(path)) for path in paths if not items.is_text(path)), default=0)
    room = min(_GRAPH_COLUMNS, columns - label - value - 6)
    for path in paths:
        text = items.text(path)
        row: Line = (
            ("", f"  {cut(names[path], label):<{label}}"),
            ("bold", "  " + " " * (value - width(text)) + text + "  "),
        )
        if room >= _LEAST_GRAPH and items.number(path) is not None:
            row += (
                bar(items.number(path), 100, room, "flow", glyphs)
                if text.endswith(_PERCENT)
                else graph(scene.history(path).columns(scene.now, room), 1, _ANY, "flow", glyphs)[0][1]
            )
        lines.append(row)
    if len(lines) > rows > 0:
        missing = len(lines) - rows + 1
        lines[rows - 1 :] = [(("dim", f"  {glyphs.more} {missing} more in a higher window"),)]
    return lines


def _name(path: str) -> str:
    """``/Mgmt/Statistics/RoundTripMax`` → ``Round trip max``."""
    folder = next(folder for folder in FIGURES if path.startswith(folder))
    return ", ".join(map(words, path.removeprefix(folder).split("/")))
