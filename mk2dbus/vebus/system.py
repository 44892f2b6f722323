"""A system that was found: its devices, and the parts that watch and control it, as long as it answers.

Devices come and go meanwhile: they are numbered in the order of their addresses, so one that goes moves those
after it down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from mk2dbus.items import Disconnected, NoReply, Value
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import PanelFrame, ResetDevices
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.request import Winmon
from mk2dbus.mk2.winmon import GetRamInfo, GetSerial, GetSettingInfo, GetVersion, ReadSetting
from mk2dbus.vebus.accessories import Accessories, Present
from mk2dbus.vebus.assistants import read_assistants
from mk2dbus.vebus.board import Freshness
from mk2dbus.vebus.charger import Charger
from mk2dbus.vebus.commands import Command, Commands, Written
from mk2dbus.vebus.context import Context
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.energy import Energy
from mk2dbus.vebus.ess import Ess
from mk2dbus.vebus.options import Options
from mk2dbus.vebus.panel import Panel
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.power import reports_power
from mk2dbus.vebus.ramvars import DeviceRam
from mk2dbus.vebus.roster import Roster
from mk2dbus.vebus.schedule import Scheduler, SystemGone
from mk2dbus.vebus.sensors import Sensors
from mk2dbus.vebus.settings import AGAIN_S
from mk2dbus.vebus.standby import Standby
from mk2dbus.vebus.tables import product_name
from mk2dbus.vebus.telemetry import Telemetry
from mk2dbus.vebus.watch import Watch

log = logging.getLogger(__name__)

P = TypeVar("P")


class StartAgain(SystemGone):
    """Somebody asked for the session to start again."""


class System:
    """What is behind the adapter, from the moment it was found until it is gone.

    Attributes:
        link: the session with the adapter.
        board: where values are shown.
        roster: who is there; the devices that answer have numbers in the order of their addresses.
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
        self.roster = Roster(list(devices), present)
        self.devices = self.roster.devices
        self.scheduler = Scheduler(
            link,
            Freshness(board),
            busy=lambda: self._discovery.locked(),
            on_failure=lambda poll: self._watch.see_failure(poll),
            beat=context.beat,
        )

        def complete() -> bool:
            return self.roster.complete

        self.telemetry = Telemetry(
            link,
            board,
            self.devices,
            self.scheduler,
            _RamItems(items),
            options.poll_interval_s,
            complete,
            self.check_soon,
        )
        accessories = Accessories(link, self.scheduler, self._see_accessories)
        self.panel = Panel(
            link,
            self.devices,
            self.telemetry.show_input,
            partial(self.scheduler.hurry, "input"),
            accessories.present,
            lambda: self._watch.same_at,
            self.check_soon,
        )
        self.telemetry.on_input = self.panel.see
        self._watch = Watch(
            link,
            self.scheduler,
            self.roster,
            context.cache,
            lambda: self.telemetry.input,
            self._change_devices,
        )
        self._parts: tuple[Part, ...] = (
            self.telemetry,
            self.panel,
            Charger(
                link,
                board,
                self.scheduler,
                self.devices,
                items,
                self.telemetry.show_state,
                complete,
            ),
            Ess(board, self.devices, self.scheduler),
            Sensors(link, self.devices, self.scheduler, context.energy),
            Energy(link, self.devices, self.scheduler, context.energy, self._see_reset),
            self._watch,
            accessories,
        )
        if options.standby:
            self._parts += (Standby(link, lambda: self.telemetry.input),)
        self._cache = context.cache
        self._units = context.units
        self._discovery = asyncio.Lock()
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: asyncio.TaskGroup | None = None
        self._device_tasks: dict[int, tuple[Device, asyncio.Task[None]]] = {}
        self._shown: set[str] = set()
        self._doubts: asyncio.Queue[tuple[GetRamInfo | GetSettingInfo, int]] = asyncio.Queue()

    # --- what clients ask for --------------------------------------------------------------------------

    async def carry_out(self, command: Command[P], value: Written) -> None:
        """Let the part that a command is for do it.

        Raises:
            WriteFailed: it is not done, or that is not known.
        """
        part = next(part for part in (self, *self._parts) if isinstance(part, command.part))
        await command.run(part, value)

    @property
    def standby_kept(self) -> bool:
        """Whether the end of the service left the standby line held."""
        return any(isinstance(part, Standby) and part.kept for part in self._parts)

    def redetect(self, why: str = "detecting the devices again") -> None:
        """Find adapter and devices again, as at the start."""
        self._end(StartAgain(why))

    async def reset_devices(self) -> None:
        """Reset all devices; they are found again when they are back.

        Raises:
            NoReply: nobody would have heard it.
            Disconnected: the line failed.
        """
        # It has no answer of its own, and the cable may be out.
        answering = min(self.devices, key=lambda device: device.unanswered)
        try:
            await answering.request(GetVersion(), Priority.CLIENT)
        except (errors.NoReply, errors.Rejected) as error:
            raise NoReply("the inverter does not answer; nothing was reset") from error
        except errors.Mk2Error as error:
            raise Disconnected(f"the connection was lost; nothing was reset: {error}") from error
        try:
            await self.link.request(ResetDevices(), priority=Priority.CLIENT)
        except errors.Mk2Error as error:
            raise Disconnected(
                f"the connection was lost; whether the devices were reset is not known: {error}"
            ) from error
        for unit in self._units:
            unit.reset_required = False
            unit.ram_doubt.clear()
        for items in self.items:
            items.settings.reset()
        self._end(StartAgain("all devices were reset"))

    def _see_reset(self, device: Device) -> None:
        for items in self.items:
            if items.device is device:
                items.see_reset()

    def doubt(self, command: Winmon[Any], address: int) -> None:
        """The answer to a command may have been that to another one: what it told is asked anew.

        What telemetry brings comes anew by itself, and the version is compared again and again.
        """
        if isinstance(command, GetSerial):
            if self.roster.alone:
                self.redetect("the serial number may be that of another device")
            else:
                self._watch.doubt_serial(address)
        elif isinstance(command, GetSettingInfo | GetRamInfo):
            self._doubts.put_nowait((command, address))
        elif isinstance(command, ReadSetting):
            for number, device in enumerate(self.devices):
                if device.address == address and number < len(self.items):
                    self.items[number].settings.forget(device, command.id)
                    self.scheduler.hurry(_refresh_name(number))

    async def _check_scales(self) -> None:
        """Ask scales that are in doubt anew, and keep them if they are others."""
        while True:
            doubt = await self._doubts.get()
            command, address = doubt
            for number, device in enumerate(self.devices):
                if device.address != address:
                    continue
                items = self.items[number]
                part = items.ram if isinstance(command, GetRamInfo) else items.settings
                try:
                    if not await part.check_scale(device, command.id) and device.read:
                        self._cache.save(device.version, device.is_new, device.infos)
                except (errors.NoReply, errors.Rejected) as error:
                    log.info("%s: cannot check a scale yet: %s", device, error)
                    self._doubts.put_nowait(doubt)
                    await asyncio.sleep(AGAIN_S)

    def other_panel(self, frame: PanelFrame) -> None:
        """Another panel controls the system."""
        self.panel.other_panel(frame)

    def check_soon(self) -> None:
        """Something hints at a reset of the adapter, or at a device that is gone: look whether it is so."""
        self._watch.check_soon()

    def _see_accessories(self, present: Present) -> None:
        self.telemetry.accessory_present = bool(present)
        self.panel.see_accessories(present)

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
                tasks.create_task(self.scheduler.run(), name="scheduler")
                tasks.create_task(self._check_scales(), name="scales in doubt")
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
            self._ending.cancel()
            for part in self._parts:
                part.stop()
            self.scheduler.freshness.withdraw_all()
            self.board.update(dict.fromkeys(self._shown) | {"/Connected": 0})
            for device in self.devices:
                device.gone = True
            for items in self.items:
                items.detach()

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
                "/ShortIds": _bits(self.roster.known),
                "/Devices/NumberOfMultis": len(self.devices),
                "/Quirks": int(not all(map(reports_power, self.devices))),
                "/FirmwareFeatures/CommandWriteViaId": int(master.is_new),
            }
        )

    # --- devices ---------------------------------------------------------------------------------------

    def _attach(self, number: int) -> None:
        if number == len(self.items):
            self.items.append(DeviceItems(self.board, number, self._units))
        device = self.devices[number]
        device.alone = self.roster.alone
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
        self.roster.change(devices, present)
        for device in self.devices:
            device.alone = self.roster.alone
        if self.devices == before:
            return
        for device in before:
            device.gone = device not in self.devices
        for number in range(len(self.devices), len(before)):
            self.scheduler.remove(_refresh_name(number))
        for number, device in enumerate(self.devices):
            if number >= len(before) or before[number] is not device:
                if number < len(self.items):
                    self.items[number].detach()
                self._attach(number)
        self._forget_items()
        self._show_identity()
        for part in self._parts:
            part.devices_changed()
        self._start_devices()


class _RamItems:
    """The RAM variables of all devices."""

    def __init__(self, items: Sequence[DeviceItems]) -> None:
        self._items = items

    def show(self, device: Device, words: Mapping[int, int], asked_at: float) -> None:
        for ram in self._of(device):
            ram.show(words, asked_at)

    def interest(self, device: Device) -> Iterable[int]:
        return [id for ram in self._of(device) for id in ram.interest()]

    def lose_interest(self, device: Device) -> None:
        for ram in self._of(device):
            ram.lose_interest()

    def _of(self, device: Device) -> list[DeviceRam]:
        """Those of a device; none when it is gone."""
        return [items.ram for items in self._items if items.device is device]


def _bits(bitmap: int) -> int:
    """A bitmap of 32 bits as the signed number that D-Bus has room for."""
    return int.from_bytes(bitmap.to_bytes(4, "little"), "little", signed=True)


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
    await system.reset_devices()


COMMANDS: Commands = {
    "/SystemReset": Command(System, _reset, "a reset of all devices (F 08)"),
    "/RedetectSystem": Command(
        System, _redetect, "the start-up of the session once more; nothing is written"
    ),
}
