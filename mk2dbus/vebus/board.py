"""Where values are put: what the inverter side needs of whatever shows its items, and how values age."""

from __future__ import annotations

import asyncio
import math
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

    @property
    def since(self) -> float:
        """When it was set; loop time."""
        return self._since

    def get(self) -> T | None:
        """The value, ``None`` when there is none or it is too old."""
        if asyncio.get_running_loop().time() - self._since >= self._stale_after_s:
            self._value = None
        return self._value


class _Group:
    """Values that one poll brings. The timer is set again only when it ran out: polls come often."""

    __slots__ = ("deadline", "paths", "timer")

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.deadline = math.inf
        self.timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Freshness:
    """Puts measured values on a board and withdraws them when nothing new comes.

    Values are grouped by the poll that brings them; each poll renews its group.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._groups: dict[str, _Group] = {}

    def publish(
        self, group: str, values: Mapping[str, Value], stale_after_s: float | None = STALE_AFTER_S
    ) -> None:
        """Show the values a poll brought; what it brought before and not now is not known any more.

        With ``stale_after_s`` of ``None`` they stay until they are withdrawn; with 0 or less they came too
        late to be shown.
        """
        if stale_after_s is not None and stale_after_s <= 0:
            self.withdraw(group)
            return
        known = self._groups.get(group)
        if known is None:
            known = self._groups[group] = _Group()
        shown = {path: value for path, value in values.items() if path in self._board}
        if known.paths != shown.keys():
            shown |= dict.fromkeys(self._present(known.paths - shown.keys()))
            known.paths = set(values)
        if stale_after_s is None:
            known.deadline = math.inf
        else:
            loop = asyncio.get_running_loop()
            known.deadline = loop.time() + stale_after_s
            if known.timer is not None and known.timer.when() > known.deadline:
                known.cancel()
                known.timer = None
            if known.timer is None:
                known.timer = loop.call_at(known.deadline, self._check, group)
        self._board.update(shown)

    def amend(self, group: str, values: Mapping[str, Value]) -> None:
        """Show newer values of some that a poll brought. They age with the others of their group; those of a
        group that is not fresh wait for the next poll."""
        known = self._groups.get(group)
        if known is not None:
            self._board.update({path: value for path, value in values.items() if path in known.paths})

    def _check(self, group: str) -> None:
        """A timer ran out: the values are too old, or were renewed meanwhile and get another one."""
        known = self._groups[group]
        known.timer = None
        loop = asyncio.get_running_loop()
        if loop.time() >= known.deadline:
            self.withdraw(group)
        elif known.deadline < math.inf:
            known.timer = loop.call_at(known.deadline, self._check, group)

    def withdraw(self, group: str) -> None:
        """Make the values of a group invalid; nothing where there are none."""
        known = self._groups.pop(group, None)
        if known is not None:
            known.cancel()
            self._board.update(dict.fromkeys(self._present(known.paths)))

    def withdraw_all(self) -> None:
        """Make all values invalid, in one batch."""
        paths: set[str] = set()
        for known in self._groups.values():
            known.cancel()
            paths |= known.paths
        self._groups.clear()
        self._board.update(dict.fromkeys(self._present(paths)))

    def _present(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path in self._board]
