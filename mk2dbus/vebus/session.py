"""One session with an adapter over an open port: start-up (mk2-protocol.md §5), then polling.

Nothing is commanded: every ``S`` of a session that was not asked to control carries "do not send".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from mk2dbus.items import Value
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import (
    AccessoryKind,
    AdapterVersion,
    ConfigureAdapter,
    FindAccessory,
    GetConfiguration,
    GetVersion,
    PanelFrame,
    ResetDevices,
)
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link, Port, Unasked
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.panel import Panel
from mk2dbus.vebus.power import reports_power
from mk2dbus.vebus.tables import product_name
from mk2dbus.vebus.telemetry import SystemGone, Telemetry

log = logging.getLogger(__name__)

OLDEST_ADAPTER_FIRMWARE = 131
RETRY_S = 1.0
TOO_OLD_RETRY_S = 30.0
MK3_PRODUCT = 0x1170
MAX_ADDRESS = 31


class StartAgain(SystemGone):
    """Somebody asked for the session to start again."""


class Session:
    """Keeps a system on the board as long as the port is there.

    Args:
        items: objects of the devices by number; kept by the caller, so that they outlive the session.
        cache: infos of devices met before.
    """

    def __init__(self, port: Port, board: Board, items: list[DeviceItems], cache: InfoCache) -> None:
        self.panel: Panel | None = None
        self.link = Link(port, unasked=self._hear, winmon_depth=3, overlap=True)
        self._cache = cache
        self._board = board
        self._items = items
        self._telemetry: Telemetry | None = None
        self._adapter_mode: int | None = None
        self._complained: str | None = None
        self._discovering = False
        self._shown: set[str] = set()
        self._asked_again: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether a system was found and answers."""
        return self._telemetry is not None

    def redetect(self) -> None:
        """Find adapter and devices again, as at the start."""
        if self._asked_again is not None and not self._asked_again.done():
            self._asked_again.set_exception(StartAgain("detecting the devices again"))

    async def reset_devices(self) -> None:
        """Reset all devices; they are found again when they are back.

        Raises:
            Mk2Error: the line failed.
        """
        await self.link.request(ResetDevices(), priority=Priority.CLIENT)
        for items in self._items:
            items.reset_required = False
        if self._asked_again is not None and not self._asked_again.done():
            self._asked_again.set_exception(StartAgain("all devices were reset"))

    async def run(self) -> None:
        """Serve until the port is lost or the task cancelled.

        Raises:
            PortLost: the port has gone.
        """
        tasks = [
            asyncio.create_task(self.link.run(), name="mk2 link"),
            asyncio.create_task(self._live(), name="vebus session"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        # The link comes first: when it ended, the rest failed because of it.
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _live(self) -> None:
        while True:
            adapter = await self._find_adapter()
            devices = await self._find_devices(adapter)
            if devices is None:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self._serve(devices)
            except StartAgain as asked:
                log.info("%s", asked)
            except (SystemGone, errors.NoReply, errors.Rejected) as gone:
                log.warning("connection to the inverter lost: %s", gone)
            self.link.forget_address()

    # --- start-up --------------------------------------------------------------------------------------

    def _complain(self, text: str) -> None:
        """Say once what is in the way, not at every attempt."""
        if text != self._complained:
            self._complained = text
            log.warning("%s", text)

    async def _find_adapter(self) -> AdapterVersion:
        while True:
            try:
                version = await self.link.request(GetVersion())
            except errors.NoReply:
                for items in self._items:
                    # The adapter has its power from the inverter: that was off, and starts anew.
                    items.reset_required = False
                self._complain("the adapter does not answer (it has power only while the inverter is awake)")
                await asyncio.sleep(RETRY_S)
                continue
            name = "MK3" if version.product_id == MK3_PRODUCT else "MK2"
            self._board.update(
                {
                    "/Interfaces/Mk2/ProductId": version.product_id,
                    "/Interfaces/Mk2/ProductName": name,
                    "/Interfaces/Mk2/Version": version.version,
                }
            )
            if version.firmware >= OLDEST_ADAPTER_FIRMWARE:
                return version
            self._complain(f"the adapter's firmware {version.firmware} is too old (131 is the oldest usable)")
            await asyncio.sleep(TOO_OLD_RETRY_S)

    async def _find_devices(self, adapter: AdapterVersion) -> list[Device] | None:
        """Configure the adapter and ask who is there; ``None`` when nobody is."""
        try:
            await self.link.request(ConfigureAdapter())
            configuration = await self.link.request(GetConfiguration(0))
        except errors.NoReply:
            self._complain(f"adapter {adapter.version} answers, but no inverter behind it")
            return None
        devices = []
        for address in range(MAX_ADDRESS + 1):
            if configuration.present >> address & 1:
                device = Device(self.link, address)
                try:
                    await device.identify()
                except (errors.NoReply, errors.Rejected) as error:
                    log.warning("device %d is listed but not usable: %s", address, error)
                else:
                    device.remember(self._cache.load(device.version, device.is_new))
                    devices.append(device)
        if not devices:
            self._complain(f"adapter {adapter.version} answers, but no inverter behind it")
            return None
        self._complained = None
        for number, device in enumerate(devices):
            device.alone = configuration.present.bit_count() == 1
            if number == len(self._items):
                self._items.append(DeviceItems(self._board, number))
            self._items[number].attach(device)
        self._show(_identity(devices, configuration.present))
        log.info(
            "connected: %s (%s), adapter %d",
            product_name(devices[0].product_id),
            ", ".join(map(str, devices)),
            adapter.version,
        )
        return devices

    def _show(self, values: Mapping[str, Value]) -> None:
        """Show what stays as it is until the system is gone."""
        self._shown |= values.keys()
        self._board.update(values)

    # --- while connected -------------------------------------------------------------------------------

    async def _serve(self, devices: list[Device]) -> None:
        """Keep the values of a found system fresh until it is gone.

        Raises:
            SystemGone: it is.
            PortLost, LinkClosed: the link is over.
        """
        telemetry = Telemetry(
            self.link,
            self._board,
            devices,
            busy=lambda: self._discovering,
            watch=partial(self._watch, devices),
            show_ram=lambda number, words: self._items[number].ram.show(words),
        )
        accessory = asyncio.get_running_loop().create_future()
        self._asked_again = asyncio.get_running_loop().create_future()

        async def accessory_present() -> bool:
            return bool(await asyncio.shield(accessory))

        self._telemetry = telemetry
        self.panel = Panel(self.link, telemetry.show_input, accessory_present)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(telemetry.run(), name="telemetry")
                tasks.create_task(self.panel.run(), name="panel")
                tasks.create_task(_wait_for(self._asked_again), name="asked again")
                for items, device in zip(self._items, devices, strict=False):
                    tasks.create_task(items.ram.run(device), name="RAM variables")
                tasks.create_task(self._find_accessories(telemetry, accessory), name="accessories")
                tasks.create_task(self._read_everything(devices), name="discovery")
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            accessory.cancel()
            self._asked_again.cancel()
            self.panel = None
            self._telemetry = None
            telemetry.freshness.withdraw_all()
            self._board.update(dict.fromkeys(self._shown) | {"/Connected": 0})
            self._shown.clear()
            for items in self._items:
                items.detach()

    async def _find_accessories(self, telemetry: Telemetry, accessory: asyncio.Future[bool]) -> None:
        """Is a BMS or a Digital Multi Control there, that controls the system."""
        bms, dmc = await asyncio.gather(
            self._find_accessory(AccessoryKind.BMS, "/Devices/Bms/Version"),
            self._find_accessory(AccessoryKind.DMC, "/Devices/Dmc/Version"),
        )
        telemetry.accessory_present = bms or dmc
        accessory.set_result(bms or dmc)

    async def _find_accessory(self, kind: AccessoryKind, path: str) -> bool:
        try:
            found = await self.link.request(FindAccessory(kind), priority=Priority.BACKGROUND)
        except errors.NoReply:
            return False
        log.info("a %s controls mode and current limit", kind.name)
        self._show({path: found.version})
        return True

    async def _read_everything(self, devices: list[Device]) -> None:
        """In the background: what the devices have, once; then again and again, slowly."""
        self._discovering = True
        try:
            for items, device in zip(self._items, devices, strict=False):
                await items.ram.discover(device)
                await items.settings.discover(device)
                self._cache.save(device.version, device.is_new, device.infos)
        finally:
            self._discovering = False
        async with asyncio.TaskGroup() as tasks:
            for items, device in zip(self._items, devices, strict=False):
                tasks.create_task(items.settings.refresh(device), name="refresh")

    async def _watch(self, devices: list[Device]) -> None:
        """Adapter and devices are still who they were, and the adapter answers as it was told to.

        Raises:
            SystemGone: they are not.
        """
        # A reset makes the adapter forget its flags, and may not show; telling it again costs little.
        await self.link.request(ConfigureAdapter())
        self.link.forget_address()
        for device in devices:
            version = await device.read_version()
            if version.value != device.version:
                raise SystemGone(f"{device} is now version {version.value}")
            if version.complete != device.is_new:
                raise SystemGone("the adapter answers in another form, as after a reset")

    def _hear(self, said: Unasked) -> None:
        """Take what the adapter says by itself."""
        if isinstance(said, PanelFrame):
            if self.panel is not None:
                self.panel.other_panel(said)
        elif isinstance(said, AdapterVersion):
            # A changed mode byte hints at a reset of the adapter and does not prove it (§3).
            if self._adapter_mode not in (None, said.mode) and self._telemetry is not None:
                self._telemetry.check_soon()
            self._adapter_mode = said.mode


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of tasks failed of: a defect, if there is one, else what came first."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    expected = (SystemGone, errors.Mk2Error)
    return next((error for error in leaves if not isinstance(error, expected)), leaves[0])


def _identity(devices: list[Device], present: int) -> Mapping[str, Value]:
    """What identifies the system: the paths that the start-up fills."""
    master = devices[0]
    return {
        "/Connected": 1,
        "/ProductId": master.product_id,
        "/ProductName": product_name(master.product_id),
        "/FirmwareVersion": master.firmware,
        "/FirmwareSubVersion": 0,
        "/Serial": master.serial,
        "/ShortIds": present,
        "/Devices/NumberOfMultis": len(devices),
        "/Quirks": int(not all(map(reports_power, devices))),
        "/FirmwareFeatures/CommandWriteViaId": int(master.is_new),
    }
