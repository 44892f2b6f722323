"""Whether adapter and devices are who they were: with the scales of another one all values are false."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from functools import partial

from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import ConfigureAdapter, GetConfiguration, SwitchPosition
from mk2dbus.mk2.info import AcInput
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.plausible import check_configuration
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.roster import Roster, addresses_in, find_device
from mk2dbus.vebus.schedule import Lane, Poll, Scheduler, SystemGone

log = logging.getLogger(__name__)

WATCH_S, RELAXED_WATCH_S = 10.0, 25.0
"""How often it is looked whether all is as it was. That needs the line for itself, so it is rare while
settings are read; a hint at a reset, or a device that does not answer, brings it at once."""
FIRST_S = 4.0
"""After the start it is looked once more soon: what took one unit away may have taken the session, too."""
HURRY_PAUSE_S = 3.0
"""Hints bring it no more often than this."""
IDENTITY_S = 4.0
"""How often a device, one after the other, is asked who it is."""
UNSETTLED_S = 600.0
"""After a unit came or went it is looked every few seconds for so long: it may come or go again, and what is
added up over the units is false until that is seen."""
MUTE_S = 4.0
MUTE_REQUESTS = 3
"""A device that did not answer so many requests, nor anything for so long, is taken off the bus."""

_WATCH = "watch"


class Watch(Part):
    """Looks after the devices; ends the system by :exc:`.schedule.SystemGone` when it is another one.

    Args:
        roster: who is there.
        cache: infos of devices met before.
        input: the AC input configuration as last read, while it is fresh.
        change: called when other devices answer, or others are present, than before.
    """

    def __init__(
        self,
        link: Link,
        scheduler: Scheduler,
        roster: Roster,
        cache: InfoCache,
        input: Callable[[], AcInput | None],
        change: Callable[[Iterable[Device], int], None],
    ) -> None:
        self._link = link
        self._scheduler = scheduler
        self._roster = roster
        self._cache = cache
        self._input = input
        self._change = change
        self._watched = 0
        self._identified = 0
        self._doubted: set[int] = set()
        """Addresses of devices whose serial number may be that of another one."""
        self._hurried = -HURRY_PAUSE_S
        self._timer: asyncio.TimerHandle | None = None
        self._changed_at = -UNSETTLED_S
        self.same_at = -math.inf
        """Loop time at which all was found to be as it was."""

    def start(self) -> None:
        """Look from now on: all was found just now."""
        self.same_at = asyncio.get_running_loop().time()
        self._scheduler.add(
            [Poll(_WATCH, Lane.WATCH, WATCH_S, self._watch, RELAXED_WATCH_S, None)], after_s=FIRST_S
        )
        self._scheduler.add(
            [Poll("identity", Lane.WATCH, IDENTITY_S, self._identify, IDENTITY_S, None)], after_s=IDENTITY_S
        )

    def check_soon(self) -> None:
        """Something hints at a reset of the adapter, or at a device that is gone: look whether it is so."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._hurried + HURRY_PAUSE_S), self._hurry)

    def _hurry(self) -> None:
        self._timer = None
        self._hurried = asyncio.get_running_loop().time()
        self._scheduler.hurry(_WATCH)

    def stop(self) -> None:
        """The system is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def doubt_serial(self, address: int) -> None:
        """The serial number that one of several devices told may be that of another one: it is asked next."""
        self._doubted.add(address)

    def see_failure(self, poll: Poll) -> None:
        """A poll failed."""
        if poll.name != _WATCH:
            self.check_soon()

    async def _watch(self) -> Values:
        """Adapter and devices are still who they were, and the adapter answers as it was told to.

        Raises:
            SystemGone: they are not.
        """
        begun = asyncio.get_running_loop().time()
        try:
            await self._see_present()
        except errors.NoReply:
            self._drop_mute()
            raise
        # One that is off the bus is not mute but gone.
        self._drop_mute()
        await self._check_form()
        self.same_at = begun
        return {}

    async def _see_present(self) -> None:
        """Ask a device who it is, and whom it sees on the bus."""
        self._watched += 1
        devices, link = self._roster.devices, self._link
        # One after the other, but not one that may be gone: it could not say so.
        answering = [device for device in devices if not device.unanswered] or devices
        device = answering[self._watched % len(answering)]
        configuration = await confirmed(link, partial(link.request, GetConfiguration(device.address)))
        check_configuration(configuration)
        if device.unique not in (None, configuration.unique_number):
            raise SystemGone(f"{device} is another one now, with number {configuration.unique_number:#x}")
        device.unique = configuration.unique_number
        present = configuration.present
        if present != self._roster.present:
            # Only what is said twice is believed.
            present = (await link.request(GetConfiguration(device.address))).present
        if present == configuration.present and (
            present != self._roster.known or present != self._roster.present
        ):
            await self._compare(present)

    async def _identify(self) -> Values:
        """One device after the other is the one it was.

        Raises:
            SystemGone: it is not, or the adapter answers in another form.
        """
        if asyncio.get_running_loop().time() < self._changed_at + UNSETTLED_S:
            self.check_soon()
        self._identified += 1
        devices = self._roster.devices
        device = next(
            (device for device in devices if device.address in self._doubted),
            devices[self._identified % len(devices)],
        )
        # One that is alone tells its unique number to the watch often enough.
        if not await device.is_still_the_same(very=not self._roster.alone):
            raise SystemGone(f"{device} is another one now, or answers in another way")
        self._doubted.discard(device.address)
        return {}

    async def _check_form(self) -> None:
        """The adapter answers as it was told to, and the next device is the one it was."""
        # A reset makes the adapter forget its flags, and may not show; telling it again costs little.
        now = self._input()
        await self._link.request(
            ConfigureAdapter()
            if now is None
            else ConfigureAdapter(SwitchPosition(now.panel_mode), now.actual)
        )
        self._link.forget_address()
        device = self._roster.devices[self._watched % len(self._roster.devices)]
        version = await device.read_version()
        if version.value != device.version:
            raise SystemGone(f"{device} is now version {version.value}")
        if version.complete != device.is_new:
            raise SystemGone("the adapter answers in another form, as after a reset")

    async def _compare(self, present: int) -> None:
        """Take in the addresses that a device sees."""
        known = {device.address: device for device in self._roster.devices if present >> device.address & 1}
        for address in sorted(set(addresses_in(present)) - known.keys()):
            found = await find_device(self._link, address, self._cache)
            if found is not None:
                known[address] = found
        if not known:
            raise SystemGone("none of the devices is left")
        devices = list(known.values())
        for device in self._roster.devices:
            if device not in devices:
                log.warning("%s is gone", device)
        for device in devices:
            if device not in self._roster.devices:
                log.info("%s is there now", device)
        if present != self._roster.present or set(devices) != set(self._roster.devices):
            self._change_to(devices, present)

    def _drop_mute(self) -> None:
        """Devices that do not answer any more are gone, as far as anybody can tell."""
        devices, now = self._roster.devices, asyncio.get_running_loop().time()
        answering = [
            device
            for device in devices
            if device.unanswered < MUTE_REQUESTS or now - device.last_answer < MUTE_S
        ]
        if answering and len(answering) < len(devices):
            for device in devices:
                if device not in answering:
                    log.warning("%s does not answer any more", device)
            self._change_to(answering, self._roster.present)

    def _change_to(self, devices: Iterable[Device], present: int) -> None:
        self._changed_at = asyncio.get_running_loop().time()
        self._change(devices, present)
