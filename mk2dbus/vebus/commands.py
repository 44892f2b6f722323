"""How items of the system are written: what each one does is declared once, beside what it does it with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Written = int | float | str
"""A value that the item of a path has accepted."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Command(Generic[P]):
    """The way from a written item to the part of the system that does it.

    Attributes:
        part: what does it.
        run: does it and returns when the outcome is known; raises :exc:`mk2dbus.items.WriteFailed`.
        sends: what goes over the line then, for people.
        wakes: values that a system which sleeps is woken for.
    """

    part: type[P]
    run: Callable[[P, Written], Awaitable[None]]
    sends: str
    wakes: frozenset[int] = frozenset()


Commands = Mapping[str, Command[Any]]
"""By path of the item."""
