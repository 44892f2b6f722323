"""Whether this process stood still just now: stopped, without memory, or the machine slept.

What clients asked meanwhile waits in the socket. Nobody can tell how long each has waited, nor whether its
client still does.
"""

from __future__ import annotations

import asyncio

TICK_S = 1.0
LONG_S = 5.0
"""A standstill above this counts; within the same time a write is answered otherwise."""
AFTER_S = 1.0
"""How long afterwards what was asked meanwhile may still come; the bus daemon may have had to keep it."""


class Standstill:
    """Looks at the clock again and again, from :meth:`start` to :meth:`stop`."""

    def __init__(self) -> None:
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lasted = 0.0
        self._over_at: float | None = None

    @property
    def lately(self) -> float | None:
        """How long this process stood still, in seconds, while what was asked meanwhile may still come."""
        if self._over_at is None or asyncio.get_running_loop().time() > self._over_at + AFTER_S:
            return None
        return self._lasted

    def start(self) -> None:
        """Look from now on."""
        if self._timer is None:
            self._wait()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK_S
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now > self._due + LONG_S:
            self._lasted, self._over_at = now - self._due, now
        self._wait()
