"""What an item is: the ground that the inverter side and the bus side share.

A :class:`Leaf` declares an item once: path, type, unit, access, texts. The inverter side fills items
with values, the bus side shows them; neither knows the other. Values are plain Python, ``None`` means
"not known right now" (*invalid* on the bus).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = int | float | str | tuple[int, ...] | None
"""A value of an item; ``None`` when it is not known."""

Number = int | float

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class Kind(StrEnum):
    """Type of an item; the text is its D-Bus signature."""

    REAL = "d"
    INTEGER = "i"
    TEXT = "s"
    LIST = "ai"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and factory default of a writable item, in the unit of the item; ``None``: there is none."""

    minimum: Number | None = None
    maximum: Number | None = None
    default: Number | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Leaf:
    """Declaration of one item.

    ``decimals`` is the number of decimals of the text; ``texts`` names the values of an enumeration, all of
    those that can be written unless ``more_choices``.
    """

    path: str
    kind: Kind
    unit: str = ""
    writable: bool = False
    meaning: str = ""
    source: str = ""
    decimals: int = 2
    texts: Mapping[int, str] = field(default_factory=dict)
    more_choices: bool = False
    unlimited: Number | None = None
    """A value that clients write for "as much as there is": it stands for the maximum."""

    def text(self, value: Value) -> str:
        """The value as a person reads it: ``14.41V``, ``Float``, ``---`` when not known."""
        if value is None or value == ():
            # On the bus an empty array stands for both.
            return "---"
        if isinstance(value, str):
            return value
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        if isinstance(value, int):
            return self.texts.get(value, f"{value}{self.unit}")
        # + 0.0 turns -0.0 into 0.0, so that a small negative number does not read "-0".
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}{self.unit}"

    def accept(self, value: object, limits: Limits = NO_LIMITS) -> int | float | str:
        """Check a value from a client against type and limits; the value as this item keeps it.

        Any integer, float or bool does for a number; an integer item takes a float that is whole.

        Raises:
            ReadOnly: the item is never writable.
            InvalidValue: wrong type, not a number, not whole, not one of the enumeration.
            OutOfRange: outside ``limits``, or beyond what D-Bus can carry back.
        """
        if not self.writable:
            raise ReadOnly(f"{self.path} is read-only")
        if self.kind is Kind.TEXT:
            if isinstance(value, str):
                return value
            raise InvalidValue(f"{self.path} cannot be {_show(value)}; it takes a text")
        if self.kind is Kind.LIST or not isinstance(value, (int, float)):
            raise InvalidValue(self._complaint(value, limits))
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidValue(self._complaint(value, limits))
        low, high = limits.minimum, limits.maximum
        if self.unlimited is not None and value == self.unlimited and high is not None:
            value = high
        if (low is not None and value < low) or (high is not None and value > high):
            raise OutOfRange(self._complaint(value, limits))
        if self.kind is Kind.REAL:
            return float(value)
        if not INT32_MIN <= value <= INT32_MAX:
            raise OutOfRange(self._complaint(value, limits))
        whole = int(value)
        if whole != value or (self.texts and whole not in self.texts and not self.more_choices):
            raise InvalidValue(self._complaint(value, limits))
        return whole

    def _complaint(self, value: object, limits: Limits) -> str:
        """One sentence: what cannot be, and what can."""
        unit = f" {self.unit}" if self.unit else ""
        if self.texts and not self.more_choices:
            takes = ", ".join(f"{number} ({text})" for number, text in self.texts.items())
        else:
            takes = "a whole number" if self.kind is Kind.INTEGER else "a number"
            low, high = limits.minimum, limits.maximum
            if low is not None and high is not None:
                takes += f" from {_bare(low)} to {_bare(high)}{unit}"
            elif low is not None or high is not None:
                takes += f" of at least {_bare(low)}{unit}" if high is None else f" up to {_bare(high)}{unit}"
            elif unit:
                takes += f" of{unit}"
        shown = f"{_bare(value)}{unit}" if isinstance(value, (int, float)) else _show(value)
        return f"{self.path} cannot be {shown}; it takes {takes}"


def _bare(value: object) -> str:
    """A number as a person writes it: 64, not 64.0."""
    return (
        str(int(value))
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        else _show(value)
    )


def _show(value: object) -> str:
    """A foreign value for an error text, cut so that a huge one does not flood log or reply."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


class WriteFailed(Exception):
    """A write was not done; the message says why in one sentence. Subclasses say whose word it was."""


class ReadOnly(WriteFailed):
    """Not writable, or not now. Nothing was sent."""


class InvalidValue(WriteFailed):
    """Wrong type, not a number, not one of the choices. Nothing was sent."""


class OutOfRange(WriteFailed):
    """Outside minimum and maximum. Nothing was sent."""


class AccessLevelRequired(WriteFailed):
    """The device wants an access level (a grid code password) first. It still has the old value."""


class Refused(WriteFailed):
    """The device refused, or has something else than was written."""


class NoReply(WriteFailed):
    """The device did not answer; whether it took the value is not known."""


class Disconnected(WriteFailed):
    """No connection to adapter or device; when it was lost on the way, the message says what is known."""
