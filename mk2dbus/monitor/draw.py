"""A scene as lines for a size: header, page, and at the foot a dialog or the keys."""

from __future__ import annotations

from .dialog import Said
from .dialog import lines as dialog_lines
from .help_page import help_page
from .line_page import line_page
from .overview_page import overview_page
from .scene import Page, Scene
from .text import EMPTY, Line, fit, flow, length, width

_PAGES = {Page.OVERVIEW: overview_page, Page.LINE: line_page, Page.HELP: help_page}
_NOTES = "n notes"
_KEYS = {
    Page.OVERVIEW: ("m mode", "l limit", "Tab line", _NOTES, "? help", "q quit"),
    Page.LINE: ("Tab overview", "? help", "q quit"),
    Page.HELP: ("any other key: back", "q quit"),
}
"""Where columns are scarce the first are left out."""
_DIALOG_SHARE = 2
"""A dialog takes at most the height divided by this."""


def draw(scene: Scene, columns: int, rows: int) -> list[Line]:
    """Exactly ``rows`` lines of exactly ``columns`` columns, whatever they are."""
    foot = _foot(scene, columns)[: max(1, rows // _DIALOG_SHARE)]
    head = [_head(scene, columns)] if rows > 2 else []
    body = max(0, rows - len(head) - len(foot))
    page = _PAGES[scene.page](scene, columns, body)[:body]
    lines = [*head, *page, *[EMPTY] * (body - len(page)), *foot]
    return [fit(line, columns) for line in lines[-rows:]] if rows > 0 else []


def _head(scene: Scene, columns: int) -> Line:
    view = scene.overview()
    if not view.there:
        left: Line = (("bad", f"the {scene.gone} is gone; waiting for it"),)
    elif view.connected is False:
        left = (("bad", "no connection to the inverter"),)
    else:
        name = f" ({view.name})" if view.name else ""
        left = (("title", (view.product or "VE.Bus system") + name),)
    room = columns - length(left) - 2
    for shown in (scene.service, scene.service.rpartition(".")[2]):
        if width(shown) <= room:
            return (*left, ("", " " * (columns - length(left) - width(shown))), ("dim", shown))
    return left


def _foot(scene: Scene, columns: int) -> list[Line]:
    asked = dialog_lines(scene.dialog, columns, scene.glyphs)
    if asked and not isinstance(scene.dialog, Said):
        return asked
    words = [word for word in _KEYS[scene.page] if scene.notes or word != _NOTES]
    for left_out in range(len(words)):
        chips = [
            (("key", key), ("dim", f" {rest}"))
            for key, _, rest in (word.partition(" ") for word in words[left_out:])
        ]
        for gap in (2, 1):
            lines = flow(chips, columns, gap)
            if len(lines) == 1:
                return [*asked, *lines]
    return [*asked, *lines]
