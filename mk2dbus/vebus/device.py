"""One VE.Bus device at a short address: who it is, how its words are scaled, reading and writing them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from mk2dbus.items import AccessLevelRequired, Disconnected, NoReply, Refused, WriteFailed
from mk2dbus.mk2 import errors, winmon
from mk2dbus.mk2.link import Link, Priority
from mk2dbus.mk2.request import R, Winmon
from mk2dbus.vebus.readings import InfoScales
from mk2dbus.vebus.scaling import RamScale, SettingScale, ram_scale

log = logging.getLogger(__name__)

SNAPSHOT_FIRMWARE = 300
SERIAL_FIRMWARE = 308
"""Firmware, as the last three digits read, from which a device has snapshots, and a serial number (§4)."""


class Device:
    """A device that answered. Lives as long as the session that found it.

    Attributes:
        address: short address on the VE.Bus, 0…31.
        version: as the device says it: 2729560 is product 0x2729, firmware 0x560.
        is_new: answers in one frame and is written with winmon 37 (§4); otherwise 33 and 34.
        serial: ``None`` where the firmware does not tell.
        words: settings as last read, raw; one that was written and not read back since is not in it.
    """

    def __init__(self, link: Link, address: int) -> None:
        self.address = address
        self.version = 0
        self.is_new = False
        self.serial: str | None = None
        self.words: dict[int, int] = {}
        self._link = link
        self._ram_scales: dict[int, RamScale | None] = {}
        self._setting_scales: dict[int, SettingScale | None] = {}
        self._write_lock = asyncio.Lock()

    @property
    def product_id(self) -> int:
        """The digits before the last three, read as hex (§4)."""
        return int(str(self.version // 1000), 16)

    @property
    def firmware(self) -> int:
        """The last three digits, read as hex (§4)."""
        return int(str(self.version % 1000), 16)

    @property
    def firmware_digits(self) -> int:
        """The last three digits as they are read aloud: 560."""
        return self.version % 1000

    def __str__(self) -> str:
        return f"device {self.address} (product {self.product_id:04X}, firmware {self.firmware:03X})"

    async def request(self, command: Winmon[R], priority: Priority = Priority.TELEMETRY) -> R:
        """One exchange with this device; see :meth:`Link.request`."""
        return await self._link.request(command, self.address, priority)

    # --- identity --------------------------------------------------------------------------------------

    async def read_version(self, priority: Priority = Priority.TELEMETRY) -> winmon.Version:
        """Version and form of the reply: ``complete`` when it came in one piece (a new device)."""
        version = await self.request(winmon.GetVersion(), priority)
        if version.complete:
            return version
        high = await self.request(winmon.GetVersionHigh(), priority)
        return winmon.Version(high << 16 | version.value, complete=False)

    async def identify(self) -> None:
        """Ask version and serial number.

        Raises:
            NoReply, Rejected: no device of this kind there.
        """
        version = await self.read_version()
        if not str(version.value // 1000).isdecimal() or version.value < 1000:
            raise errors.Rejected(f"device {self.address} says version {version.value}, which makes no sense")
        self.version = version.value
        self.is_new = version.complete
        if self.firmware_digits >= SERIAL_FIRMWARE:
            try:
                self.serial = await self.request(winmon.GetSerial())
            except (errors.NotSupported, errors.NoReply) as error:
                log.info("%s does not tell its serial number: %s", self, error)

    # --- RAM variables ---------------------------------------------------------------------------------

    async def ram_scale(self, id: int, priority: Priority = Priority.TELEMETRY) -> RamScale | None:
        """Scale of a RAM variable, asked once; ``None`` when the device does not support the variable."""
        if id not in self._ram_scales:
            try:
                self._ram_scales[id] = ram_scale(await self.request(winmon.GetRamInfo(id), priority))
            except errors.NotSupported:
                self._ram_scales[id] = None
        return self._ram_scales[id]

    async def info_scales(self, ids: Iterable[int]) -> InfoScales:
        """Scales for the info frames."""
        return InfoScales({id: await self.ram_scale(id) for id in ids})

    async def read_ram(self, ids: Iterable[int], priority: Priority = Priority.TELEMETRY) -> dict[int, int]:
        """Raw words of RAM variables that the device supports, in as few requests as it allows.

        Ids without a scale are left out.
        """
        usable = [id for id in ids if await self.ram_scale(id, priority) is not None]
        size = winmon.MAX_IDS if self.is_new else 1
        found: dict[int, int] = {}
        for start in range(0, len(usable), size):
            chunk = tuple(usable[start : start + size])
            words = await self.request(winmon.ReadRam(chunk), priority)
            found.update(zip(chunk, words, strict=True))
        return found

    # --- settings --------------------------------------------------------------------------------------

    async def setting_scale(self, id: int, priority: Priority = Priority.BACKGROUND) -> SettingScale | None:
        """Scale and limits of a setting, asked once; ``None`` when the device does not support it."""
        if id not in self._setting_scales:
            try:
                info = await self.request(winmon.GetSettingInfo(id), priority)
                self._setting_scales[id] = SettingScale(info)
            except errors.NotSupported:
                self._setting_scales[id] = None
        return self._setting_scales[id]

    async def read_setting(self, id: int, priority: Priority = Priority.BACKGROUND) -> int:
        """Raw word of a setting as stored; remembered in :attr:`words`."""
        self.words.pop(id, None)
        self.words[id] = await self.request(winmon.ReadSetting(id), priority)
        return self.words[id]

    async def store_setting(
        self, id: int, mask: int, bits: int, show: Callable[[int], str]
    ) -> tuple[int, bool]:
        """Store the bits of ``bits`` under ``mask`` in a setting, the others as they are.

        Reads the word first: nothing is sent when it already holds the value. Afterwards the word is read
        back. An acknowledgement that stays out is not proof of failure: what is read back decides, and only
        when the old word is still there is the write sent once more, so that nothing is stored twice.

        Returns:
            The word the device has now, and whether it asks for a reset.

        Raises:
            Refused, AccessLevelRequired, NoReply, Disconnected: as the contract says; the message has what
            is known of the device now.
        """
        async with self._write_lock:
            # The adapter may have been reset since: make sure that this device is the one written.
            self._link.forget_address()
            before = await self._fetch(id, "nothing was written")
            word = before & ~mask | bits & mask
            if word == before:
                return before, False
            for _ in range(2):
                written = await self._write_once(id, word)
                after = await self._fetch(id, "whether it was stored is not known")
                if after & mask == word & mask:
                    return after, written is not None and written.reset_needed
                if written is not None or after != before:
                    raise Refused(f"the device now has {show(after)} instead of {show(word)}")
            raise NoReply(f"the device did not acknowledge the write and still has {show(before)}")

    async def _write_once(self, id: int, word: int) -> winmon.Written | None:
        """Send the write; ``None`` when no acknowledgement came."""
        self.words.pop(id, None)
        command: Winmon[winmon.Written] = (
            winmon.WriteById(id, word, setting=True)
            if self.is_new
            else winmon.WriteArmed(id, word, setting=True)
        )
        try:
            return await self.request(command, Priority.CLIENT)
        except errors.NoReply as error:
            log.warning("%s: write of setting %d was not acknowledged: %s", self, id, error)
            return None
        except errors.Rejected as error:
            # It should have what it had; look, so that what is shown is what it has.
            await self._fetch(id, f"it refused before: {error}")
            raise write_failure(error, "") from error
        except errors.Mk2Error as error:
            raise write_failure(error, "whether it was stored is not known") from error

    async def _fetch(self, id: int, otherwise: str) -> int:
        try:
            return await self.read_setting(id, Priority.CLIENT)
        except errors.Mk2Error as error:
            raise write_failure(error, otherwise) from error


def write_failure(error: errors.Mk2Error, otherwise: str) -> WriteFailed:
    """The outcome of a write that an error of the line ended; ``otherwise`` says what is known then."""
    if isinstance(error, errors.AccessRequired):
        return AccessLevelRequired(f"the device wants a password for access level {error.level} first")
    if isinstance(error, errors.Rejected):
        return Refused(f"the device refused: {error}")
    if isinstance(error, errors.NoReply):
        return NoReply(f"the device did not answer; {otherwise}")
    return Disconnected(f"the connection was lost; {otherwise}")
