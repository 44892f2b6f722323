"""How items of the system are written: what each one does is declared once, beside what it does it with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mk2dbus.vebus.system import System

Written = int | float | str
"""A value that the item of a path has accepted."""


@dataclass(frozen=True, slots=True)
class Command:
    """The way from a written item to the system.

    Attributes:
        run: does it and returns when the outcome is known; raises :exc:`mk2dbus.items.WriteFailed`.
        sends: what goes over the line then, for people.
        wakes: values that a system which sleeps is woken for.
    """

    run: Callable[[System, Written], Awaitable[None]]
    sends: str
    wakes: frozenset[int] = frozenset()
