"""One session with an adapter over an open port: start-up (mk2-protocol.md §5), then a system.

Nothing is commanded: every ``S`` of a session that was not asked to control carries "do not send".
"""

from __future__ import annotations

import asyncio
import logging

from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import AdapterVersion, ConfigureAdapter, GetConfiguration, GetVersion, PanelFrame
from mk2dbus.mk2.link import Link, Port, Unasked
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.options import Options
from mk2dbus.vebus.plausible import check_configuration
from mk2dbus.vebus.schedule import Implausible, SystemGone
from mk2dbus.vebus.system import StartAgain, System, addresses_in, find_device
from mk2dbus.vebus.tables import product_name

log = logging.getLogger(__name__)

OLDEST_ADAPTER_FIRMWARE = 131
RETRY_S = 1.0
TOO_OLD_RETRY_S = 30.0
MK3_PRODUCT = 0x1170


class Session:
    """Keeps a system on the board as long as the port is there.

    Args:
        items: objects of the devices by number; kept by the caller, so that they outlive the session.
        cache: infos of devices met before.

    Attributes:
        system: what was found, while it answers.
    """

    def __init__(
        self, port: Port, board: Board, items: list[DeviceItems], cache: InfoCache, options: Options
    ) -> None:
        self.system: System | None = None
        self.link = Link(
            port, unasked=self._hear, winmon_depth=options.pipeline, overlap=options.pipeline > 1
        )
        self._cache = cache
        self._board = board
        self._items = items
        self._options = options
        self._adapter_mode: int | None = None
        self._complained: str | None = None

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
            self.system = await self._find_system(adapter)
            if self.system is None:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self.system.serve()
            except StartAgain as asked:
                log.info("%s", asked)
            except (SystemGone, errors.NoReply, errors.Rejected) as gone:
                log.warning("connection to the inverter lost: %s", gone)
            finally:
                self.system = None
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

    async def _find_system(self, adapter: AdapterVersion) -> System | None:
        """Configure the adapter and ask who is there; ``None`` when nobody is."""
        nobody = f"adapter {adapter.version} answers, but no inverter behind it"
        try:
            await self.link.request(ConfigureAdapter())
            configuration = await self.link.request(GetConfiguration(0))
            check_configuration(configuration)
        except errors.NoReply:
            self._complain(nobody)
            return None
        except Implausible as error:
            self._complain(str(error))
            return None
        present = configuration.present
        found = [await find_device(self.link, address, self._cache) for address in addresses_in(present)]
        devices = [device for device in found if device is not None]
        if not devices:
            self._complain(nobody)
            return None
        self._complained = None
        log.info(
            "connected: %s (%s), adapter %d",
            product_name(devices[0].product_id),
            ", ".join(map(str, devices)),
            adapter.version,
        )
        return System(self.link, self._board, self._items, self._cache, devices, present, self._options)

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
