"""When changes are told: at once, but at most ten times a second and never onto a socket that is full.

What has to wait is merged per path, so a bus that stalls costs no memory and hears the newest values after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .tree import Change, Item, Tree

INTERVAL_S = 0.105
"""Least time between two signals: a little above 0.1 s, so no second, however cut, has more than ten."""

Changes = list[tuple[Item, Change]]


class Timer(Protocol):
    """What is needed of an event loop; tests bring a clock of their own."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle: ...


class Announcer:
    """Takes the changes from the tree and hands them to ``tell``, batch by batch.

    ``tell`` sends a batch; ``ready`` says whether it can: while it cannot, changes stay in the tree until
    :meth:`wake` is called again.
    """

    def __init__(
        self, tree: Tree, tell: Callable[[Changes], None], ready: Callable[[], bool], timer: Timer
    ) -> None:
        self._tree = tree
        self._tell = tell
        self._ready = ready
        self._timer = timer
        self._next_at = timer.time()
        self._due: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """There may be something to tell. What comes in the same turn of the loop goes into one signal."""
        if self._due is None and self._ready():
            self._due = self._timer.call_at(max(self._next_at, self._timer.time()), self._announce)

    def stop(self) -> None:
        """Tell nothing more until :meth:`wake` is called again."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _announce(self) -> None:
        self._due = None
        if not self._ready():
            return
        changes = self._tree.take_changes()
        if changes:
            self._next_at = self._timer.time() + INTERVAL_S
            self._tell(changes)
