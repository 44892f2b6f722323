"""The standby line of an MK3 (``H``, mk2-protocol.md §3): what keeps a system awake that is switched off.

With it, an inverter that was switched off through ``/Mode`` goes on supplying the adapter, and can be
switched on again. Of the lines only that one is touched; the others stay as they are read. It takes some
power from the battery, so the line is let go when the service ends; unless the system is switched off at
that moment. Then it would fall asleep, and the next start would find nobody: starting and stopping must
change nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import Lines, SwitchPosition
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.info import AcInput
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.part import Part

log = logging.getLogger(__name__)

STANDBY_LINE = 0x02
KEEP_S = 2.0
"""How often it is looked whether the line is still held: an adapter that was reset has let it go, and a
system that is switched off sleeps some seconds later."""
RELEASE_S = 1.0
"""How long the end of the service may take for it."""


class Standby(Part):
    """Holds the standby line as long as the system answers.

    Args:
        link: the session with an MK3.
        input: the AC input configuration as last read, while it is fresh.
    """

    def __init__(self, link: Link, input: Callable[[], AcInput | None]) -> None:
        self._link = link
        self._input = input
        self._held = False
        self.kept = False
        """The end of the service left the line held: the adapter must stay as it is."""

    async def run(self) -> None:
        """Take the line, and look after it. Ends when the adapter does not have it."""
        while True:
            try:
                lines = await self._request(None)
                if not lines & STANDBY_LINE:
                    lines = await self._request(lines | STANDBY_LINE)
            except errors.NoReply:
                # Who once had it is being reset, and will let it go.
                if not self._held:
                    log.warning("the adapter has no standby line: a system that is switched off will sleep")
                    return
                continue
            if not self._held and lines & STANDBY_LINE:
                self._held = True
                log.info("the standby line is held: a system that is switched off stays awake")
            await asyncio.sleep(KEEP_S)

    async def _request(self, lines: int | None) -> int:
        # What is read is written back.
        ask = partial(self._link.request, Lines(lines), priority=Priority.CLIENT)
        return await confirmed(self._link, ask)

    async def release(self) -> None:
        """Let the line go, unless the system is switched off, or that is not known."""
        if not self._held:
            return
        now = self._input()
        if now is None or now.mode == SwitchPosition.OFF:
            log.warning("the standby line stays held, so that the system can be switched on again")
            self.kept = True
            return
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._request(await self._request(None) & ~STANDBY_LINE)
        except (TimeoutError, errors.Mk2Error) as error:
            log.warning("the standby line could not be let go: %s", error)
        else:
            log.info("the standby line was let go")
