"""A system that was found: its devices, and the parts that watch and control it, as long as it answers.

Devices come and go meanwhile: they are numbered in the order of their addresses, so one that goes moves those
after it down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from mk2dbus.items import Disconnected, Value
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import (
    AccessoryKind,
    ConfigureAdapter,
    FindAccessory,
    GetConfiguration,
    PanelFrame,
    ResetDevices,
    SwitchPosition,
)
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.request import Winmon
from mk2dbus.mk2.winmon import GetRamInfo, GetSettingInfo, ReadSetting
from mk2dbus.vebus.assistants import read_assistants
from mk2dbus.vebus.board import Freshness
from mk2dbus.vebus.charger import Charger
from mk2dbus.vebus.commands import Command, Written
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.context import Context
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.energy import Energy
from mk2dbus.vebus.ess import Ess
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.options import Options
from mk2dbus.vebus.panel import Panel
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.plausible import check_configuration
from mk2dbus.vebus.power import reports_power
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Lane, Poll, Scheduler, SystemGone
from mk2dbus.vebus.sensors import Sensors
from mk2dbus.vebus.standby import Standby
from mk2dbus.vebus.tables import product_name
from mk2dbus.vebus.telemetry import Telemetry

log = logging.getLogger(__name__)

WATCH_S, RELAXED_WATCH_S = 10.0, 25.0
"""How often it is looked whether all is as it was. That needs the line for itself, so it is rare while
settings are read; a hint at a reset, or a device that does not answer, brings it at once."""
HURRY_PAUSE_S = 3.0
"""Hints bring it no more often than this."""
IDENTITY_S = 4.0
"""How often a device is asked for its version: with the scales of another one all its values are false."""
ACCESSORIES_S = 60.0
"""How often it is looked for a BMS or a DMC that was plugged in."""
MUTE_S = 4.0
MUTE_REQUESTS = 3
"""A device that did not answer so many requests, nor anything for so long, is taken off the bus."""

_WATCH = "watch"


class StartAgain(SystemGone):
    """Somebody asked for the session to start again."""


class System:
    """What is behind the adapter, from the moment it was found until it is gone.

    Attributes:
        link: the session with the adapter.
        board: where values are shown.
        devices: those that answer, by number.
        items: their objects, by number; there can be more of them, of devices that are gone.
        scheduler: takes the polls of the parts.
    """

    def __init__(
        self, link: Link, context: Context, devices: Sequence[Device], present: int, options: Options
    ) -> None:
        board, items = context.board, context.items
        self.link = link
        self.board = board
        self.items = items
        self.devices = list(devices)
        self.scheduler = Scheduler(
            link,
            Freshness(board),
            busy=lambda: self._discovery.locked(),
            on_failure=self._on_failure,
            beat=context.beat,
        )
        self.telemetry = Telemetry(
            link, board, self.devices, self.scheduler, _RamItems(items), options.poll_interval_s
        )
        self.panel = Panel(
            link,
            self.devices,
            self.telemetry.show_input,
            partial(self.scheduler.hurry, "input"),
            self.accessories,
        )
        self.telemetry.on_input = self.panel.see
        self.charger = Charger(link, board, self.scheduler, self.devices, items, self.telemetry.show_state)
        self.ess = Ess(board, self.devices, self.scheduler)
        self._parts: tuple[Part, ...] = (
            self.telemetry,
            self.panel,
            self.charger,
            self.ess,
            Sensors(link, self.devices, self.scheduler, context.energy),
            Energy(link, self.devices, self.scheduler, context.energy),
        )
        if options.standby:
            self._parts += (Standby(link, lambda: self.telemetry.input),)
        self._cache = context.cache
        self._present = present
        self._watched = 0
        self._identified = 0
        self._hurried = -HURRY_PAUSE_S
        self._discovery = asyncio.Lock()
        self._accessories: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._accessories_present: frozenset[AccessoryKind] = frozenset()
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: asyncio.TaskGroup | None = None
        self._device_tasks: dict[int, tuple[Device, asyncio.Task[None]]] = {}
        self._shown: set[str] = set()

    # --- what clients ask for --------------------------------------------------------------------------

    def redetect(self, why: str = "detecting the devices again") -> None:
        """Find adapter and devices again, as at the start."""
        self._end(StartAgain(why))

    async def reset_devices(self) -> None:
        """Reset all devices; they are found again when they are back.

        Raises:
            Mk2Error: the line failed.
        """
        await self.link.request(ResetDevices(), priority=Priority.CLIENT)
        for items in self.items:
            items.reset_required = False
            items.settings.reset()
        self._end(StartAgain("all devices were reset"))

    def doubt(self, command: Winmon[Any], address: int) -> None:
        """The answer to a command may have been that to another one: what it told is asked anew.

        What telemetry brings comes anew by itself.
        """
        for number, device in enumerate(self.devices):
            if device.address != address or self._tasks is None:
                continue
            settings = self.items[number].settings
            if isinstance(command, ReadSetting):
                settings.forget(device, command.id)
                self.scheduler.hurry(_refresh_name(number))
            elif isinstance(command, GetSettingInfo):
                self._tasks.create_task(settings.check_scale(device, command.id), name="doubtful setting")
            elif isinstance(command, GetRamInfo):
                self._tasks.create_task(self.items[number].ram.check_scale(device, command.id))

    def other_panel(self, frame: PanelFrame) -> None:
        """Another panel controls the system."""
        self.panel.other_panel(frame)

    def check_soon(self) -> None:
        """Something hints at a reset of the adapter, or at a device that is gone: look whether it is so."""
        now = asyncio.get_running_loop().time()
        if now >= self._hurried + HURRY_PAUSE_S:
            self._hurried = now
            self.scheduler.hurry(_WATCH)

    async def accessories(self) -> frozenset[AccessoryKind]:
        """Which of BMS and DMC are there and control the system; waits until they were looked for.

        Raises:
            Disconnected: the system was gone before.
        """
        await asyncio.wait({self._accessories})
        if self._accessories.cancelled():
            raise Disconnected("the connection was lost; nothing was commanded")
        return self._accessories_present

    # --- the life of a system --------------------------------------------------------------------------

    async def serve(self) -> None:
        """Keep everything fresh until the system is gone.

        Raises:
            SystemGone: it is.
            PortLost, LinkClosed: the link is over.
        """
        for number in range(len(self.devices)):
            self._attach(number)
        self._forget_items()
        self._show_identity()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(_wait_for(self._ending), name="asked to end")
                for part in self._parts:
                    part.start()
                self.scheduler.add(
                    [Poll(_WATCH, Lane.WATCH, WATCH_S, self._watch, RELAXED_WATCH_S, None)],
                    after_s=RELAXED_WATCH_S,
                )
                self.scheduler.add(
                    [
                        Poll(
                            "accessories",
                            Lane.WATCH,
                            ACCESSORIES_S,
                            self._find_accessories,
                            stale_after_s=None,
                        )
                    ]
                )
                self.scheduler.add(
                    [Poll("identity", Lane.WATCH, IDENTITY_S, self._identify, IDENTITY_S, None)],
                    after_s=IDENTITY_S,
                )
                tasks.create_task(self.scheduler.run(), name="scheduler")
                for part in self._parts:
                    tasks.create_task(part.run(), name=type(part).__name__)
                self._start_devices()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        except asyncio.CancelledError:
            for part in self._parts:
                await part.release()
            raise
        finally:
            self._tasks = None
            self._accessories.cancel()
            self._ending.cancel()
            for part in self._parts:
                part.stop()
            self.scheduler.freshness.withdraw_all()
            self.board.update(dict.fromkeys(self._shown) | {"/Connected": 0})
            for items in self.items:
                items.detach()

    @property
    def _known(self) -> int:
        """Bitmap of the devices that answer."""
        return sum(1 << device.address for device in self.devices)

    def _end(self, reason: SystemGone) -> None:
        if not self._ending.done():
            self._ending.set_exception(reason)

    def _show(self, values: Mapping[str, Value]) -> None:
        """Show what stays as it is until the system is gone."""
        self._shown |= values.keys()
        self.board.update(values)

    def _show_identity(self) -> None:
        master = self.devices[0]
        self._show(
            {
                "/Connected": 1,
                "/ProductId": master.product_id,
                "/ProductName": product_name(master.product_id),
                "/FirmwareVersion": master.firmware,
                "/FirmwareSubVersion": 0,
                "/Serial": master.serial,
                "/ShortIds": self._known,
                "/Devices/NumberOfMultis": len(self.devices),
                "/Quirks": int(not all(map(reports_power, self.devices))),
                "/FirmwareFeatures/CommandWriteViaId": int(master.is_new),
            }
        )

    # --- devices ---------------------------------------------------------------------------------------

    def _attach(self, number: int) -> None:
        if number == len(self.items):
            self.items.append(DeviceItems(self.board, number))
        device = self.devices[number]
        device.alone = self._present.bit_count() == 1
        self.items[number].attach(device)

    def _forget_items(self) -> None:
        """Take the objects of numbers that no device has any more off the board."""
        for items in self.items[len(self.devices) :]:
            items.remove()
        del self.items[len(self.devices) :]

    def _start_devices(self) -> None:
        """A task for each device, new ones for those whose number changed."""
        assert self._tasks is not None
        for number, device in enumerate(self.devices):
            known = self._device_tasks.get(number)
            if known is not None:
                if known[0] is device:
                    continue
                known[1].cancel()
            task = self._tasks.create_task(self._serve_device(number, device), name=str(device))
            self._device_tasks[number] = device, task
        for number in range(len(self.devices), max(self._device_tasks, default=-1) + 1):
            self._device_tasks.pop(number)[1].cancel()

    async def _serve_device(self, number: int, device: Device) -> None:
        """Read all that a device has, once; and RAM variables whenever somebody asks."""
        items = self.items[number]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(items.ram.run(device), name="RAM variables")
            tasks.create_task(items.settings.run(device), name="unknown settings")
            await self._find_assistants(number, device)
            # One after the other: what people look at first is there first, and addresses change seldom.
            async with self._discovery:
                if not device.read:
                    self._take_over(number, device)
                    await items.ram.discover(device)
                    await items.settings.discover(device)
                    self._cache.save(device.version, device.is_new, device.infos)
                    device.read = True
            for part in self._parts:
                part.discovered(number, device)
            self.scheduler.remove(_refresh_name(number))
            self.scheduler.add([items.settings.refresh_poll(_refresh_name(number), device)])

    async def _find_assistants(self, number: int, device: Device) -> None:
        """Before all else: who controls the system cannot wait until all settings are read."""
        if device.assistants is None:
            try:
                device.assistants = await read_assistants(device, Priority.TELEMETRY)
            except (errors.NoReply, errors.Rejected) as error:
                log.info("%s: cannot read the list of assistants yet: %s", device, error)
                return
        for part in self._parts:
            part.assistants_read(number, device)

    def _take_over(self, number: int, device: Device) -> None:
        """A scale is fixed for a firmware (§5): what another unit of the same kind told holds here too."""
        for twin in self.devices:
            if twin.read and (twin.version, twin.is_new) == (device.version, device.is_new):
                device.remember(twin.infos)
                self.items[number].attach(device)
                return

    def _change_devices(self, devices: Iterable[Device], present: int) -> None:
        """Other devices are there than before."""
        before = list(self.devices)
        # The same list: the parts have it too.
        self.devices[:] = sorted(devices, key=lambda device: device.address)
        self._present = present
        for number in range(len(self.devices), len(before)):
            self.scheduler.remove(_refresh_name(number))
        for number, device in enumerate(self.devices):
            if number >= len(before) or before[number] is not device:
                if number < len(self.items):
                    self.items[number].detach()
                self._attach(number)
            else:
                device.alone = present.bit_count() == 1
        self._forget_items()
        self._show_identity()
        for part in self._parts:
            part.devices_changed()
        self._start_devices()

    # --- whether all is as it was ----------------------------------------------------------------------

    def _on_failure(self, poll: Poll) -> None:
        if poll.name != _WATCH:
            self.check_soon()

    async def _watch(self) -> Values:
        """Adapter and devices are still who they were, and the adapter answers as it was told to.

        Raises:
            SystemGone: they are not.
        """
        self._drop_mute()
        self._watched += 1
        # One after the other, but not one that may be gone: it could not say so.
        answering = [device for device in self.devices if not device.unanswered] or self.devices
        device = answering[self._watched % len(answering)]
        configuration = await confirmed(
            self.link, partial(self.link.request, GetConfiguration(device.address))
        )
        check_configuration(configuration)
        if device.unique not in (None, configuration.unique_number):
            raise SystemGone(f"{device} is another one now, with number {configuration.unique_number:#x}")
        device.unique = configuration.unique_number
        present = configuration.present
        if present != self._present:
            # Only what is said twice is believed.
            present = (await self.link.request(GetConfiguration(device.address))).present
        if present == configuration.present and present != self._known:
            await self._compare(present)
        await self._check_form()
        return {}

    async def _identify(self) -> Values:
        """One device after the other is the one it was.

        Raises:
            SystemGone: it is not, or the adapter answers in another form.
        """
        self._identified += 1
        device = self.devices[self._identified % len(self.devices)]
        if not await device.is_still_the_same():
            raise SystemGone(f"{device} is another one now, or answers in another way")
        return {}

    async def _check_form(self) -> None:
        """The adapter answers as it was told to, and the next device is the one it was."""
        # A reset makes the adapter forget its flags, and may not show; telling it again costs little.
        now = self.telemetry.input
        await self.link.request(
            ConfigureAdapter()
            if now is None
            else ConfigureAdapter(SwitchPosition(now.panel_mode), now.actual)
        )
        self.link.forget_address()
        device = self.devices[self._watched % len(self.devices)]
        version = await device.read_version()
        if version.value != device.version:
            raise SystemGone(f"{device} is now version {version.value}")
        if version.complete != device.is_new:
            raise SystemGone("the adapter answers in another form, as after a reset")

    async def _compare(self, present: int) -> None:
        """Take in the addresses that a device sees."""
        known = {device.address: device for device in self.devices if present >> device.address & 1}
        for address in sorted(set(addresses_in(present)) - known.keys()):
            found = await find_device(self.link, address, self._cache)
            if found is not None:
                known[address] = found
        if not known:
            raise SystemGone("none of the devices is left")
        devices = list(known.values())
        if {id(device) for device in devices} != {id(device) for device in self.devices}:
            for device in self.devices:
                if device not in devices:
                    log.warning("%s is gone", device)
            for device in devices:
                if device not in self.devices:
                    log.info("%s is there now", device)
            self._change_devices(devices, present)
        elif present != self._present:
            self._present = present
            self._show_identity()

    def _drop_mute(self) -> None:
        """Devices that do not answer any more are gone, as far as anybody can tell."""
        loop = asyncio.get_running_loop()
        answering = [
            device
            for device in self.devices
            if device.unanswered < MUTE_REQUESTS or loop.time() - device.last_answer < MUTE_S
        ]
        if answering and len(answering) < len(self.devices):
            for device in self.devices:
                if device not in answering:
                    log.warning("%s does not answer any more", device)
            self._change_devices(answering, self._present)

    async def _find_accessories(self) -> Values:
        """Is a BMS or a Digital Multi Control there, that controls the system."""
        kinds = (AccessoryKind.BMS, AccessoryKind.DMC)
        bms, dmc = await asyncio.gather(*map(self._find_accessory, kinds))
        versions = dict(zip(kinds, (bms, dmc), strict=True))
        present = frozenset(kind for kind, version in versions.items() if version is not None)
        if present and not self.telemetry.accessory_present:
            log.info("a VE.Bus BMS or Digital Multi Control controls mode and current limit")
        self.telemetry.accessory_present = bool(present)
        self._accessories_present = present
        self.panel.see_accessories(present)
        if not self._accessories.done():
            self._accessories.set_result(None)
        return {"/Devices/Bms/Version": bms, "/Devices/Dmc/Version": dmc}

    async def _find_accessory(self, kind: AccessoryKind) -> int | None:
        try:
            found = await self.link.request(FindAccessory(kind), priority=Priority.TELEMETRY)
        except errors.NoReply:
            return None
        return found.version


class _RamItems:
    """The RAM variables of all devices."""

    def __init__(self, items: Sequence[DeviceItems]) -> None:
        self._items = items

    def show(self, number: int, words: Mapping[int, int]) -> None:
        if number < len(self._items):
            self._items[number].ram.show(words)

    def interest(self, number: int) -> Iterable[int]:
        return self._items[number].ram.interest() if number < len(self._items) else ()

    def lose_interest(self, number: int) -> None:
        if number < len(self._items):
            self._items[number].ram.lose_interest()


def addresses_in(present: int) -> list[int]:
    """Short addresses in a bitmap."""
    return [address for address in range(present.bit_length()) if present >> address & 1]


async def find_device(link: Link, address: int, cache: InfoCache) -> Device | None:
    """The device at an address; ``None`` when what is there does not say who it is."""
    device = Device(link, address)
    try:
        await device.identify()
    except (errors.NoReply, errors.Rejected) as error:
        log.warning("device %d is listed but not usable: %s", address, error)
        return None
    device.remember(cache.load(device.version, device.is_new))
    return device


def _refresh_name(number: int) -> str:
    return f"settings{number}"


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of tasks failed of: a defect, if there is one, else what came first."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    expected = (SystemGone, errors.Mk2Error)
    return next((error for error in leaves if not isinstance(error, expected)), leaves[0])


async def _redetect(system: System, value: Written) -> None:
    system.redetect()


async def _reset(system: System, value: Written) -> None:
    try:
        await system.reset_devices()
    except errors.Mk2Error as error:
        raise Disconnected(
            f"the connection was lost; whether the devices were reset is not known: {error}"
        ) from error


COMMANDS: Mapping[str, Command] = {
    "/SystemReset": Command(_reset, "a reset of all devices (F 08)"),
    "/RedetectSystem": Command(_redetect, "the start-up of the session once more; nothing is written"),
}
