"""Is a VE.Bus BMS or a Digital Multi Control there: those control mode and current limit, and no one else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from mk2dbus.items import Disconnected
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import AccessoryKind, FindAccessory
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Lane, Poll, Scheduler

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""How often it is looked for one that was plugged in."""

Present = Collection[AccessoryKind]


class Accessories(Part):
    """Looks for them.

    Args:
        see: called each time with those that are there.
    """

    def __init__(self, link: Link, scheduler: Scheduler, see: Callable[[Present], None]) -> None:
        self._link = link
        self._scheduler = scheduler
        self._see = see
        self._present: Present = frozenset()
        self._looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Look from now on, at once for the first time."""
        self._scheduler.add([Poll("accessories", Lane.WATCH, LOOK_S, self._look, stale_after_s=None)])

    def stop(self) -> None:
        """The system is gone."""
        self._looked.cancel()

    async def present(self) -> Present:
        """Which are there; waits until they were looked for.

        Raises:
            Disconnected: the system was gone before.
        """
        await asyncio.wait({self._looked})
        if self._looked.cancelled():
            raise Disconnected("the connection was lost; nothing was commanded")
        return self._present

    async def _look(self) -> Values:
        kinds = (AccessoryKind.BMS, AccessoryKind.DMC)
        bms, dmc = await asyncio.gather(*map(self._find, kinds))
        versions = dict(zip(kinds, (bms, dmc), strict=True))
        before, self._present = (
            self._present,
            frozenset(kind for kind, version in versions.items() if version is not None),
        )
        if self._present and not before:
            log.info("a VE.Bus BMS or Digital Multi Control controls mode and current limit")
        self._see(self._present)
        if not self._looked.done():
            self._looked.set_result(None)
        return {"/Devices/Bms/Version": bms, "/Devices/Dmc/Version": dmc}

    async def _find(self, kind: AccessoryKind) -> int | None:
        try:
            found = await self._link.request(FindAccessory(kind), priority=Priority.TELEMETRY)
        except errors.NoReply:
            return None
        return found.version
