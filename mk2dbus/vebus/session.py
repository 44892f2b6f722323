"""One session with an adapter over an open port: start-up (mk2-protocol.md §5), then a system.

Nothing is commanded: every ``S`` of a session that was not asked to control carries "do not send".
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from mk2dbus.items import Disconnected
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import (
    AdapterVersion,
    ConfigureAdapter,
    GetConfiguration,
    PanelFrame,
    WakeUp,
)
from mk2dbus.mk2.addressing import find_addressed
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link, Unasked
from mk2dbus.mk2.request import Winmon
from mk2dbus.mk2.speed import HighSpeedStatus, LineSpeed
from mk2dbus.mk2.transport import Port
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.context import Context
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.plausible import check_configuration
from mk2dbus.vebus.roster import addresses_in, find_device
from mk2dbus.vebus.schedule import Implausible, SystemGone
from mk2dbus.vebus.statistics import INTERVAL_S
from mk2dbus.vebus.system import StartAgain, System
from mk2dbus.vebus.tables import product_name

log = logging.getLogger(__name__)

OLDEST_ADAPTER_FIRMWARE = 131
RETRY_S = 1.0
TOO_OLD_RETRY_S = 30.0
MK3_PRODUCT = 0x1170
_START_UP_BEAT_S = 15.0
"""Each step of the start-up takes less."""


def is_mk3(adapter: AdapterVersion) -> bool:
    """Whether an adapter is an MK3, and knows what an MK2 does not (§3)."""
    return adapter.product_id == MK3_PRODUCT


class Session:
    """Keeps a system on the board as long as the port is there.

    Attributes:
        system: what was found, while it answers.
        asleep: the adapter answers, and nobody behind it.
    """

    def __init__(self, port: Port, context: Context) -> None:
        self.system: System | None = None
        self.asleep = False
        self.link = Link(
            port,
            unasked=self._hear,
            bad_line=self._on_bad_line,
            doubtful=self._on_doubt,
            pipeline=context.options.pipeline,
        )
        self._port = port
        self._context = context
        self._options = context.options
        self._speed = LineSpeed(port, context.options.speed)
        self._there = asyncio.Event()
        self._hurried = asyncio.Event()
        self._bad_line: str | None = None
        self._adapter_mode: int | None = None
        self._complained: str | None = None
        self._over = False
        self._standby_kept = False
        self._doubted = False

    async def run(self) -> None:
        """Serve until the port is lost or the task cancelled.

        Raises:
            PortLost: the port has gone.
        """
        tasks = [
            asyncio.create_task(self.link.run(), name="mk2 link"),
            asyncio.create_task(self._live(), name="vebus session"),
            asyncio.create_task(self._show_statistics(), name="statistics"),
        ]
        self._context.statistics.begin(self.link)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over = True
            results: list[BaseException | None] = []
            try:
                # The link goes last: what was taken of the system for this time is given back over it.
                for task in tasks[1:]:
                    task.cancel()
                await asyncio.wait(tasks[1:])
            finally:
                tasks[0].cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                self._context.statistics.end()
                if not self._standby_kept:
                    # A reset would let the standby line go; who starts next finds the speed.
                    await self._speed.leave()
        # The link comes first: when it ended, the rest failed because of it.
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _show_statistics(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._context.statistics.show()

    def _on_bad_line(self, share: float) -> None:
        """The line is noisy. At high speed that is a reason to leave it."""
        if self._speed.state.status is HighSpeedStatus.IN_USE:
            self._bad_line = f"{share:.0%} of the frames are damaged"
            if self.system is not None:
                self.system.redetect(self._bad_line)
        else:
            log.warning("%.0f %% of the received frames are damaged: look at cable and adapter", 100 * share)

    def _on_doubt(self, command: Winmon[Any], address: int) -> None:
        """An answer may have been that to another question."""
        self._doubted = True
        if self.system is not None:
            self.system.doubt(command, address)

    async def _live(self) -> None:
        # When it is cancelled in the moment in which the system goes, it hears of the latter only.
        while not self._over:
            adapter = await self._find_adapter()
            self.system = await self._find_system(adapter)
            if self.system is None:
                await self._pause()
                continue
            self.asleep = False
            self._there.set()
            self._context.statistics.follow(self.system.scheduler)
            try:
                await self.system.serve()
            except StartAgain as asked:
                log.info("%s", asked)
            except (SystemGone, errors.NoReply, errors.Rejected) as gone:
                log.warning("connection to the inverter lost: %s", gone)
            finally:
                self._standby_kept = self.system.standby_kept
                self.system = None
                self._there.clear()
                self._context.statistics.follow(None)
            # What clients still ask is not for whoever is there next.
            self.link.abandon("the system is gone")
            self.link.forget_address()

    async def wake(self) -> System:
        """Wake the system that sleeps behind the adapter, and wait until it is there.

        Raises:
            Disconnected: the connection is lost.
        """
        log.info("waking the system")
        try:
            await self.link.request(WakeUp(), priority=Priority.CLIENT)
        except errors.Mk2Error as error:
            raise Disconnected(f"the connection was lost: {error}") from error
        self._hurried.set()
        while self.system is None:
            await self._there.wait()
        return self.system

    async def _pause(self) -> None:
        """Before the next attempt; none when somebody waits for it."""
        try:
            async with asyncio.timeout(RETRY_S):
                await self._hurried.wait()
        except TimeoutError:
            return
        self._hurried.clear()

    # --- start-up --------------------------------------------------------------------------------------

    def _complain(self, text: str) -> None:
        """Say once what is in the way, not at every attempt."""
        if text != self._complained:
            self._complained = text
            log.warning("%s", text)

    async def _find_adapter(self) -> AdapterVersion:
        while True:
            self._context.beat(_START_UP_BEAT_S)
            version = await self._bring_up()
            if version is None:
                self.asleep = False
                self._complain("the adapter does not answer (it has power only while the inverter is awake)")
                await asyncio.sleep(RETRY_S)
                continue
            name = "MK3" if is_mk3(version) else "MK2"
            self._context.board.update(
                {
                    "/Interfaces/Mk2/ProductId": version.product_id,
                    "/Interfaces/Mk2/ProductName": name,
                    "/Interfaces/Mk2/Version": version.version,
                }
            )
            if version.firmware >= OLDEST_ADAPTER_FIRMWARE:
                return version
            self._complain(f"the adapter's firmware {version.firmware} is too old (131 is the oldest usable)")
            self._context.beat(TOO_OLD_RETRY_S)
            await asyncio.sleep(TOO_OLD_RETRY_S)

    async def _bring_up(self) -> AdapterVersion | None:
        """Find the adapter, and the speed of the line; ``None`` when it does not answer."""
        async with self.link.suspended():
            if self._bad_line is None:
                version = await self._speed.bring_up()
            else:
                version = await self._speed.fall_back(self._bad_line)
                self._bad_line = None
        self._context.board.update(
            {
                "/Interfaces/Mk2/Status/Baudrate": self._port.baudrate,
                "/Interfaces/Mk2/Status/HighSpeed": self._speed.state.status.value,
                "/Interfaces/Mk2/Status/Reason": self._speed.state.reason,
            }
        )
        return version

    async def _find_system(self, adapter: AdapterVersion) -> System | None:
        """Configure the adapter and ask who is there; ``None`` when nobody is."""
        nobody = f"adapter {adapter.version} answers, but no inverter behind it"
        self._doubted = False
        try:
            await self.link.request(ConfigureAdapter())
            configuration = await confirmed(self.link, partial(self.link.request, GetConfiguration(0)))
            check_configuration(configuration)
        except errors.NoReply:
            self.asleep = True
            self._complain(nobody)
            return None
        except Implausible as error:
            self._complain(str(error))
            return None
        present = configuration.present
        devices = []
        for address in addresses_in(present):
            self._context.beat(_START_UP_BEAT_S)
            unique = configuration.unique_number if address == configuration.address else None
            device = await find_device(self.link, address, self._context.cache, unique)
            if device is not None:
                devices.append(device)
        if not devices:
            self._complain(nobody)
            return None
        self._complained = None
        try:
            await find_addressed(self.link, {device.address: device.serial for device in devices})
        except errors.NoReply as error:
            self._complain(f"a device does not answer reliably: {error}")
            return None
        if self._doubted:
            self._complain("replies came twice: who is there is asked again")
            return None
        if self._options.standby and not is_mk3(adapter):
            log.warning("an MK2 has no standby line: a system that is switched off will sleep")
        log.info("connected: %s, adapter %d", _kinds(devices), adapter.version)
        standby = self._options.standby and is_mk3(adapter)
        return System(self.link, self._context, devices, present, replace(self._options, standby=standby))

    def _hear(self, said: Unasked) -> None:
        """Take what the adapter says by itself."""
        if isinstance(said, PanelFrame):
            if self.system is not None:
                self.system.other_panel(said)
        elif isinstance(said, AdapterVersion):
            # A changed mode byte hints at a reset of the adapter and does not prove it (§3).
            if self._adapter_mode not in (None, said.mode) and self.system is not None:
                self.system.check_soon()
            self._adapter_mode = said.mode


def _kinds(devices: Iterable[Device]) -> str:
    """Devices in words, those of a kind together."""
    kinds = Counter((device.product_id, device.firmware) for device in devices)
    return ", ".join(
        (f"{count} × " if count > 1 else "")
        + f"{product_name(product)} (product {product:04X}, firmware {firmware:03X})"
        for (product, firmware), count in kinds.items()
    )
