"""The time of the event loop, and so of all that ages: it goes on while the machine sleeps."""

from __future__ import annotations

import asyncio
import time


class BootTimeLoop(asyncio.SelectorEventLoop):
    """Reckons with the time since the machine was switched on. The one that asyncio takes stands still while
    the machine is suspended: what was measured before would be shown as new afterwards."""

    def time(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
