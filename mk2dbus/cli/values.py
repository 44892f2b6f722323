"""Values as a person types and reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from mk2dbus.bus.client import ItemView, Shown

from .common import Stop

DEFAULT_WORD = "default"

_YES_NO = {0: "no", 1: "yes"}
_YES_NO_WORDS = {"on": 1, "true": 1, "off": 0, "false": 0}


def show(value: Shown) -> str:
    """A bare value: 14.4, 3; nothing when it is not known."""
    if isinstance(value, float):
        # Six digits are more than any device has, but not always enough for a whole number.
        return str(int(value)) if value.is_integer() and abs(value) < 1e9 else f"{value:g}"
    return "" if value is None else str(value)


def parse(word: str, view: ItemView, choices: Mapping[int, str]) -> int | float | str:
    """The value that a word means: a number (the unit may follow), ``default``, or one of the choices.

    What it cannot be is returned as it is: the service says what the item takes.

    Raises:
        Stop: the item has no default.
    """
    if isinstance(view.value, str):
        return word
    bare = word.strip().casefold()
    if bare == DEFAULT_WORD:
        if not isinstance(view.default, (int, float)):
            raise Stop(f"{view.path} has no default")
        return view.default
    value = number(word)
    if value is None and view.unit and bare.endswith(view.unit.casefold()):
        value = number(bare[: -len(view.unit)].strip())
    if value is not None:
        return value
    found = [choice for choice, text in choices.items() if text.casefold() == bare]
    if not found and dict(choices) == _YES_NO and bare in _YES_NO_WORDS:
        found = [_YES_NO_WORDS[bare]]
    return found[0] if len(found) == 1 else word


def number(word: str) -> int | float | None:
    """A number as a person types it: 14.4, -3, 0x1F; None for anything else."""
    kinds: tuple[Callable[[str], int | float], ...] = (lambda text: int(text, 0), float)
    for kind in kinds:
        try:
            return kind(word)
        except ValueError:
            continue
    return None


def text_of(value: Shown, view: ItemView, choices: Mapping[int, str]) -> str:
    """How the item would show a value: as the service shows the one it has, with all digits that count."""
    if value is None:
        return "---"
    if isinstance(value, (str, tuple)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}{view.unit}"
    if value == view.value:
        return view.text
    if choices and value in choices:
        return choices[int(value)]
    if isinstance(view.value, float):
        decimals = len(view.text.removesuffix(view.unit).partition(".")[2])
        rounded = f"{value:.{decimals}f}"
        if math.isclose(float(rounded), value, rel_tol=1e-9, abs_tol=1e-9):
            return f"{rounded}{view.unit}"
    return f"{show(value)}{view.unit}"


def same(one: Shown, other: Shown) -> bool:
    """Whether two values are equal, apart from what the last digits of a double are worth."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def complaint(view: ItemView, value: float | str) -> str | None:
    """Why an item cannot get a value, as far as can be told from here; else ``None``."""
    if not view.writable:
        return f"{view.path} is read-only"
    if isinstance(value, str):
        return None
    low, high = view.minimum, view.maximum
    too_low = isinstance(low, (int, float)) and value < low
    too_high = isinstance(high, (int, float)) and value > high
    if too_low or too_high:
        unit = f" {view.unit}" if view.unit else ""
        if low is not None and high is not None:
            takes = f"from {show(low)} to {show(high)}"
        else:
            takes = f"of at least {show(low)}" if high is None else f"up to {show(high)}"
        kind = "a whole number" if isinstance(view.value, int) else "a number"
        return f"{view.path} cannot be {show(value)}{unit}; it takes {kind} {takes}{unit}"
    return None
