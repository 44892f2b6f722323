"""Where values are put: what the inverter side needs of whatever shows its items, and how values age."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from mk2dbus.items import NO_LIMITS, Leaf, Limits, Value

T = TypeVar("T")

Write = Callable[[int | float | str], Awaitable[None]]
"""Writes a value that :meth:`Leaf.accept` took; raises :exc:`mk2dbus.items.WriteFailed`."""

Fetch = Callable[[], Awaitable[None]]
"""Reads a value from the device and puts it on the board."""

STALE_AFTER_S = 4.5
"""Age at which a measured value is withdrawn; the contract allows 5 s, this leaves room for a busy loop."""


class Board(Protocol):
    """A set of items by path; the bus side has one."""

    def add(
        self,
        leaf: Leaf,
        value: Value = None,
        *,
        limits: Limits = NO_LIMITS,
        write: Write | None = None,
        fetch: Fetch | None = None,
    ) -> None: ...

    def remove(self, path: str) -> None: ...

    def update(self, values: Mapping[str, Value]) -> None: ...

    def set_limits(self, path: str, limits: Limits) -> None: ...

    def __contains__(self, path: str) -> bool: ...


class Remembered(Generic[T]):
    """A value that is needed again with others, until it is too old to be true."""

    def __init__(self, stale_after_s: float = STALE_AFTER_S) -> None:
        self._stale_after_s = stale_after_s
        self._value: T | None = None
        self._since = 0.0

    def set(self, value: T) -> None:
        self._value = value
        self._since = asyncio.get_running_loop().time()

    def get(self) -> T | None:
        """The value, ``None`` when there is none or it is too old."""
        if asyncio.get_running_loop().time() - self._since >= self._stale_after_s:
            self._value = None
        return self._value


class Freshness:
    """Puts measured values on a board and withdraws them when nothing new comes.

    Values are grouped by the poll that brings them; each poll renews its group.
    """

    def __init__(self, board: Board, stale_after_s: float = STALE_AFTER_S) -> None:
        self._board = board
        self._stale_after_s = stale_after_s
        self._groups: dict[str, tuple[set[str], asyncio.TimerHandle]] = {}

    def publish(self, group: str, values: Mapping[str, Value]) -> None:
        """Show the values a poll brought; what it brought before and not now is not known any more."""
        before: set[str] = set()
        if group in self._groups:
            before, timer = self._groups[group]
            timer.cancel()
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._stale_after_s, self.withdraw, group)
        self._groups[group] = set(values), expiry
        shown = dict.fromkeys(before) | dict(values)
        self._board.update({path: value for path, value in shown.items() if path in self._board})

    def withdraw(self, group: str) -> None:
        """Make the values of a group invalid."""
        paths, timer = self._groups.pop(group)
        timer.cancel()
        self._board.update(dict.fromkeys(self._present(paths)))

    def withdraw_all(self) -> None:
        """Make all values invalid, in one batch."""
        paths: set[str] = set()
        for group, timer in self._groups.values():
            timer.cancel()
            paths |= group
        self._groups.clear()
        self._board.update(dict.fromkeys(self._present(paths)))

    def _present(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path in self._board]
