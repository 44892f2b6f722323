"""What the bottom of the display asks, says and does with a key. Nothing is asked of the service here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mk2dbus.bus.client import ItemView
from mk2dbus.cli.values import complaint, number, show, text_of

from .glyphs import Glyphs
from .text import Line, flow, wrapped

MODE = "/Mode"
LIMIT = "/Ac/ActiveIn/CurrentLimit"
NAMES = {MODE: "mode", LIMIT: "input current limit"}

ENTER, ESCAPE, BACKSPACE = "enter", "escape", "backspace"
"""Keys that are no characters."""

_OFF = 4
_TYPED_LENGTH = 12
_WARNINGS: Mapping[tuple[str, float], str] = {
    (
        MODE,
        _OFF,
    ): "The adapter gets its power from the inverter: only the switch on the unit turns both on again."
}


@dataclass(frozen=True, slots=True)
class Busy:
    """Something is under way; keys wait."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """How it came out, until the next key."""

    text: str
    good: bool = False


@dataclass(frozen=True, slots=True)
class Choose:
    """Which of the choices, by its number."""

    view: ItemView
    choices: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Enter:
    """A number is typed."""

    view: ItemView
    typed: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Whether to write."""

    view: ItemView
    value: int | float
    after: str


@dataclass(frozen=True, slots=True)
class Writing:
    """To be written, and then under way."""

    view: ItemView
    value: int | float
    after: str


Dialog = Busy | Said | Choose | Enter | Confirm | Writing | None
"""None: nothing is asked."""


def ask(view: ItemView, choices: Mapping[int, str]) -> Dialog:
    """The first question about an item."""
    name = NAMES[view.path]
    if not view.writable:
        return Said(f"the {name} cannot be written: {view.path} is read-only")
    if view.path == LIMIT:
        return Enter(view)
    if not choices:
        return Said(f"the service does not tell which values {view.path} takes")
    return Choose(view, choices)


def press(dialog: Dialog, key: str) -> Dialog:
    """What a key makes of it. Only from :class:`Confirm`, with y, it becomes :class:`Writing`."""
    match dialog:
        case Choose(view, choices):
            if key == ESCAPE:
                return None
            chosen = next((value for value in choices if str(value) == key), None)
            return dialog if chosen is None else Confirm(view, chosen, choices[chosen])
        case Enter():
            return _typed(dialog, key)
        case Confirm(view, value, after):
            return Writing(view, value, after) if key in ("y", "Y") else Said("nothing was written")
        case Busy() | Writing():
            return dialog
        case _:
            return None


def _typed(dialog: Enter, key: str) -> Dialog:
    if key == ESCAPE:
        return None
    if key == BACKSPACE:
        return replace(dialog, typed=dialog.typed[:-1], wrong="")
    if key != ENTER:
        if len(key) > 1 or len(dialog.typed) >= _TYPED_LENGTH:
            return dialog
        return replace(dialog, typed=dialog.typed + key, wrong="")
    # A comma is what half of the world has on its number pad.
    value = number(dialog.typed.strip().replace(",", "."))
    if value is None or not math.isfinite(value):
        return replace(dialog, wrong=f"{dialog.typed!r} is no number")
    wrong = complaint(dialog.view, value)
    if wrong is not None:
        return replace(dialog, wrong=wrong)
    return Confirm(dialog.view, value, text_of(value, dialog.view, {}))


def lines(dialog: Dialog, columns: int, glyphs: Glyphs) -> list[Line]:
    """As it is shown; nothing when nothing is asked."""
    match dialog:
        case Busy(text):
            return wrapped(glyphs.clean(text), columns, "dim")
        case Writing(view, _, after):
            return wrapped(f"writing {NAMES[view.path]} {glyphs.clean(after)} {glyphs.more}", columns, "dim")
        case Said(text, good):
            return wrapped(glyphs.clean(text), columns, "good" if good else "bad")
        case Choose(view, choices):
            chips: list[Line] = [
                (("title", f"{NAMES[view.path].capitalize()} (now {glyphs.clean(view.text)}):"),)
            ]
            chips += [
                (("key", str(value)), ("", f" {glyphs.clean(text)}")) for value, text in choices.items()
            ]
            return flow([*chips, (("key", "Esc"), ("dim", " cancels"))], columns)
        case Enter(view, typed, wrong):
            now = f"{NAMES[view.path].capitalize()} (now {view.text}{_range(view)}):"
            asked: Line = (("title", glyphs.clean(now)), ("", f" {typed}"), ("key", glyphs.cursor))
            keys: Line = (("key", "Enter"), ("dim", " goes on"))
            found = flow([asked, keys, (("key", "Esc"), ("dim", " cancels"))], columns)
            return found + wrapped(glyphs.clean(wrong), columns, "bad")
        case Confirm(view, value, after):
            change = f"{NAMES[view.path].capitalize()} {view.text} {glyphs.becomes} {after}"
            warning = _WARNINGS.get((view.path, value), "")
            question: Line = (("title", glyphs.clean(change)), ("", "?"))
            keys = (("key", "y"), ("dim", " writes, any other key does not"))
            return [*flow([question, keys], columns), *wrapped(warning, columns, "warn")]
        case _:
            return []


def _range(view: ItemView) -> str:
    if view.minimum is None or view.maximum is None:
        return ""
    return f"; {show(view.minimum)} to {show(view.maximum)} {view.unit}".rstrip()
