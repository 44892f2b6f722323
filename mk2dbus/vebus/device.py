"""One VE.Bus device at a short address: who it is, how its words are scaled, reading and writing them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from mk2dbus.items import AccessLevelRequired, Disconnected, NoReply, ReadOnly, Refused, WriteFailed
from mk2dbus.mk2 import errors, winmon
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.request import R, Winmon
from mk2dbus.vebus.assistants import Assistant
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.infocache import Infos
from mk2dbus.vebus.readings import InfoScales
from mk2dbus.vebus.scaling import RAW_MAX, RamScale, SettingScale, ram_scale

log = logging.getLogger(__name__)

VERSIONS = range(1_000_000, 10_000_000)
"""Four digits of the product, then three of the firmware (§4)."""
SNAPSHOT_FIRMWARE = 300
SERIAL_FIRMWARE = 308
"""Firmware, as the last three digits read, from which a device has snapshots, and a serial number (§4)."""
NOISY_ROUNDS = 3
"""How often a serial number is asked, with all attempts, where frames were damaged lately."""


class Stored(NamedTuple):
    """What became of a stored write."""

    word: int
    """What the device has now."""
    sent: bool
    """Whether anything was written; not when the value was there already."""
    reset_needed: bool


class Device:
    """A device that answered. Lives as long as the session that found it.

    Attributes:
        address: short address on the VE.Bus, 0…31.
        version: as the device says it: 2729560 is product 0x2729, firmware 0x560.
        is_new: answers in one frame and is written with winmon 37 (§4); otherwise 33 and 34.
        serial: ``None`` where the firmware does not tell.
        alone: no other device is on the bus.
        words: settings as last read, raw; one that was written and not read back since is not in it.
        assistants: in order; ``None`` while the list was not read.
        unique: number of this very device, as far as told.
        read: whether all there is to know of it was asked.
        last_answer: loop time.
        unanswered: requests in a row that it did not answer.
        last_write: loop time when a setting or RAM variable was last written.
        gone: the session that found it is over, or it is not on the bus any more: nothing is asked of it.
            Who answers at its address may be another one.
    """

    def __init__(self, link: Link, address: int) -> None:
        self.address = address
        self.version = 0
        self.is_new = False
        self.serial: str | None = None
        self.words: dict[int, int] = {}
        self.alone = False
        self.assistants: tuple[Assistant, ...] | None = None
        self.unique: int | None = None
        self.read = False
        self.last_answer = asyncio.get_running_loop().time()
        self.unanswered = 0
        self.last_write = -math.inf
        self.gone = False
        self._link = link
        self._ram_scales: dict[int, RamScale | None] = {}
        self._setting_scales: dict[int, SettingScale | None] = {}
        self._remembered: set[int] = set()
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

    async def request(
        self, command: Winmon[R], priority: Priority = Priority.TELEMETRY, *, attempts: int | None = None
    ) -> R:
        """One exchange with this device; see :meth:`Link.request`."""
        if self.gone:
            raise errors.NoReply(f"{self} is gone")
        try:
            answer = await self._link.request(command, self.address, priority, attempts=attempts)
        except errors.NoReply:
            self.unanswered += 1
            raise
        except errors.Rejected:
            self._answered()
            raise
        if self.gone:
            raise errors.NoReply(f"{self} went while it was asked")
        self._answered()
        return answer

    async def confirmed(self, command: Winmon[R], priority: Priority, known: R | None = None) -> R:
        """One exchange whose answer is kept, or written back; see :func:`.confirm.confirmed`."""
        return await confirmed(self._link, partial(self.request, command, priority), known)

    @property
    def noisy(self) -> bool:
        """Whether the line was noisy lately."""
        return self._link.noisy

    def _answered(self) -> None:
        self.last_answer = asyncio.get_running_loop().time()
        self.unanswered = 0

    # --- identity --------------------------------------------------------------------------------------

    async def read_version(self, priority: Priority = Priority.TELEMETRY) -> winmon.Version:
        """Version and form of the reply: ``complete`` when it came in one piece (a new device)."""
        version = await self.confirmed(winmon.GetVersion(), priority)
        if version.complete:
            return version
        high = await self.confirmed(winmon.GetVersionHigh(), priority)
        return winmon.Version(high << 16 | version.value, complete=False)

    async def is_still_the_same(self, *, very: bool) -> bool:
        """Whether the version is the one it was, and told in the same form; with ``very`` the serial number,
        too, as far as it is known. ``False`` only when that was said twice.

        Raises:
            NoReply, Rejected: it was not told.
        """
        for _ in range(2):
            version = await self.request(winmon.GetVersion())
            if (
                version.complete == self.is_new
                and version.value & RAW_MAX == self.version & RAW_MAX
                and not (very and self.serial is not None and await self._other_serial())
            ):
                return True
            self._make_sure_of_address()
        return False

    async def _other_serial(self) -> bool:
        try:
            return await self.confirmed(winmon.GetSerial(), Priority.TELEMETRY, self.serial) != self.serial
        except errors.NotSupported:
            return True

    async def identify(self) -> None:
        """Ask version and serial number.

        Raises:
            NoReply, Rejected: no device of this kind there.
        """
        version = await self.read_version()
        if version.value not in VERSIONS:
            raise errors.Rejected(f"device {self.address} says version {version.value}, which makes no sense")
        self.version = version.value
        self.is_new = version.complete
        if self.firmware_digits >= SERIAL_FIRMWARE:
            self.serial = await self._ask_serial()

    async def _ask_serial(self) -> str | None:
        """It is asked once in a session, so not given up soon on a noisy line."""
        for left in reversed(range(NOISY_ROUNDS)):
            try:
                return await self.confirmed(winmon.GetSerial(), Priority.TELEMETRY)
            except (errors.NotSupported, errors.NoReply) as error:
                if not left or not self.noisy or isinstance(error, errors.NotSupported):
                    log.info("%s does not tell its serial number: %s", self, error)
                    break
        return None

    # --- RAM variables ---------------------------------------------------------------------------------

    async def ram_scale(self, id: int, priority: Priority = Priority.TELEMETRY) -> RamScale | None:
        """Scale of a RAM variable, asked once; ``None`` when the device does not support the variable."""
        if id not in self._ram_scales:
            try:
                self._ram_scales[id] = ram_scale(await self.confirmed(winmon.GetRamInfo(id), priority))
            except errors.NotSupported:
                self._ram_scales[id] = None
        return self._ram_scales[id]

    async def ask_ram_scale_again(self, id: int) -> bool:
        """Ask anew; whether it is as known."""
        before = self._ram_scales.pop(id, None)
        return await self.ram_scale(id) == before

    async def info_scales(self, ids: Iterable[int]) -> InfoScales:
        """Scales for the info frames."""
        return InfoScales({id: await self.ram_scale(id) for id in ids})

    def known_ram_scale(self, id: int) -> RamScale | None:
        """Scale of a RAM variable as far as asked or remembered; ``None`` also when not supported."""
        return self._ram_scales.get(id)

    def chunks(self, ids: Iterable[int]) -> Iterator[tuple[int, ...]]:
        """Ids of RAM variables, as many at a time as one request can ask for."""
        left = iter(ids)
        while chunk := tuple(itertools.islice(left, winmon.MAX_IDS if self.is_new else 1)):
            yield chunk

    async def read_ram(
        self, ids: Iterable[int], priority: Priority = Priority.TELEMETRY, *, plain: bool = False
    ) -> dict[int, int]:
        """Raw words of RAM variables, in as few requests as the device allows.

        Ids without a scale are left out, unless ``plain``.
        """
        usable = list(ids) if plain else [id for id in ids if await self.ram_scale(id, priority) is not None]
        found: dict[int, int] = {}
        for chunk in self.chunks(usable):
            words = await self.request(winmon.ReadRam(chunk), priority)
            found.update(zip(chunk, words, strict=True))
        return found

    # --- settings --------------------------------------------------------------------------------------

    def known_setting_scale(self, id: int) -> SettingScale | None:
        """Scale and limits as far as asked or remembered; ``None`` also when not supported."""
        return self._setting_scales.get(id)

    async def setting_scale(self, id: int, priority: Priority = Priority.BACKGROUND) -> SettingScale | None:
        """Scale and limits of a setting, asked once; ``None`` when the device does not support it."""
        if id not in self._setting_scales:
            self._setting_scales[id] = await self._ask_setting_scale(id, priority)
        return self._setting_scales[id]

    async def verify_setting_scale(self, id: int, known: SettingScale) -> bool:
        """Before a write: ask anew what this device was not asked yet; whether it is as known."""
        if id not in self._setting_scales or id in self._remembered:
            await self.ask_setting_scale_again(id)
        return self._setting_scales[id] == known

    async def ask_setting_scale_again(self, id: int) -> bool:
        """Ask anew; whether it is as known."""
        before = self._setting_scales.get(id)
        self._setting_scales[id] = await self._ask_setting_scale(id, Priority.CLIENT)
        self._remembered.discard(id)
        return self._setting_scales[id] == before

    async def _ask_setting_scale(self, id: int, priority: Priority) -> SettingScale | None:
        try:
            return SettingScale(await self.confirmed(winmon.GetSettingInfo(id), priority))
        except errors.NotSupported:
            return None

    def remember(self, infos: Infos) -> None:
        """Take infos that this version gave before."""
        self._remembered = set(infos.settings)
        self._setting_scales = {
            id: None if info is None else SettingScale(info) for id, info in infos.settings.items()
        }
        self._ram_scales = {id: None if info is None else ram_scale(info) for id, info in infos.ram.items()}

    @property
    def infos(self) -> Infos:
        """All infos that are known, to be remembered."""
        return Infos(
            {id: None if scale is None else scale.info for id, scale in self._setting_scales.items()},
            {id: None if scale is None else scale.info for id, scale in self._ram_scales.items()},
        )

    async def read_setting(self, id: int, priority: Priority = Priority.BACKGROUND) -> int:
        """Raw word of a setting as stored; remembered in :attr:`words`."""
        try:
            word = await self.confirmed(winmon.ReadSetting(id), priority, self.words.get(id))
        except errors.Mk2Error:
            self.words.pop(id, None)
            raise
        self.words[id] = word
        return word

    async def store_setting(self, id: int, mask: int, bits: int, show: Callable[[int], str]) -> Stored:
        """Store the bits of ``bits`` under ``mask`` in a setting, the others as they are.

        Reads the word first, unless the whole of it is written and it is known to hold something else:
        nothing is sent when it already holds the value. Afterwards the word is read back. An acknowledgement
        that stays out is not proof of failure: what is read back decides, and only when the old word is still
        there is the write sent once more, so that nothing is stored twice.

        Raises:
            Refused, AccessLevelRequired, NoReply, Disconnected: as the contract says; the message has what
            is known of the device now.
        """
        async with self._write_lock:
            self._make_sure_of_address()
            known = self.words.get(id)
            if known is not None and mask == RAW_MAX and known != bits:
                # Somebody waits. Nothing of the old word goes into the new one, so it may be an old reading.
                before = known
            else:
                before = await self._fetch(id, "nothing was written")
            word = before & ~mask | bits & mask
            if word == before:
                return Stored(before, sent=False, reset_needed=False)
            for _ in range(2):
                try:
                    written = await self._write_once(id, word)
                except errors.Rejected as error:
                    # It should have what it had; what is read decides.
                    after = await self._fetch(id, f"it refused before: {error}")
                    if after & mask == word & mask:
                        return Stored(after, sent=True, reset_needed=False)
                    raise write_failure(error, "") from error
                after = await self._fetch(id, "whether it was stored is not known")
                if after & mask == word & mask:
                    return Stored(after, sent=True, reset_needed=bool(written and written.reset_needed))
                if written is not None or after != before:
                    raise Refused(f"the device now has {show(after)} instead of {show(word)}")
            raise NoReply(f"the device did not acknowledge the write and still has {show(before)}")

    async def write_setting_ram(self, id: int, mask: int, bits: int, kept_mask: int, kept: int) -> int:
        """Put bits of a setting in effect without storing them.

        The other bits are those of ``kept`` under ``kept_mask`` (written before), else as stored.

        Returns:
            The word in effect.

        Raises:
            ReadOnly: an old device can only store.
            Refused, AccessLevelRequired, NoReply, Disconnected: as the contract says.
        """
        if not self.is_new:
            raise ReadOnly("this device cannot keep a setting in RAM only; it can only be stored")
        async with self._write_lock:
            self._make_sure_of_address()
            stored = await self._fetch(id, "nothing was written")
            base = stored & ~kept_mask | kept & kept_mask
            word = base & ~mask | bits & mask
            await self._write_volatile(self.setting_write(id, word, ram_only=True))
            return word

    def _make_sure_of_address(self) -> None:
        """Before a write: the adapter may have been reset, and talk to another device."""
        if not self.alone:
            self._link.forget_address()

    async def _write_volatile(self, command: Winmon[winmon.Written]) -> None:
        """Send a write that wears nothing; once more when no acknowledgement comes."""
        for attempt in (1, 2):
            self.last_write = asyncio.get_running_loop().time()
            try:
                await self.request(command, Priority.CLIENT)
            except errors.NoReply as error:
                if attempt == 2:
                    raise write_failure(error, "whether it is in effect is not known") from error
            except errors.Mk2Error as error:
                raise write_failure(error, "whether it is in effect is not known") from error
            else:
                return

    async def write_ram(self, id: int, word: int, mask: int = RAW_MAX) -> None:
        """Write the bits of a RAM variable under ``mask``, the others as they are.

        Raises:
            Refused, NoReply, Disconnected: as the contract says.
        """
        async with self._write_lock:
            self._make_sure_of_address()
            if mask != RAW_MAX:
                try:
                    (before,) = await self.confirmed(winmon.ReadRam((id,)), Priority.CLIENT)
                except errors.Mk2Error as error:
                    raise write_failure(error, "nothing was written") from error
                word = before & ~mask | word & mask
            await self._write_volatile(self.ram_write(id, word))

    async def put_ram(self, id: int, word: int) -> None:
        """Write a whole RAM variable at once, without waiting for other writes to this device.

        Raises:
            Refused, NoReply, Disconnected: as the contract says.
        """
        self._make_sure_of_address()
        await self._write_volatile(self.ram_write(id, word))

    def ram_write(self, id: int, word: int) -> Winmon[winmon.Written]:
        """The command that writes a RAM variable of this device."""
        if self.is_new:
            return winmon.WriteById(id, word, setting=False)
        return winmon.WriteArmed(id, word, setting=False)

    def setting_write(self, id: int, word: int, ram_only: bool = False) -> Winmon[winmon.Written]:
        """The command that writes a setting of this device."""
        if self.is_new:
            return winmon.WriteById(id, word, setting=True, ram_only=ram_only)
        return winmon.WriteArmed(id, word, setting=True)

    async def _write_once(self, id: int, word: int) -> winmon.Written | None:
        """Send the write; ``None`` when no acknowledgement came.

        Raises:
            Rejected: the device says that it did not do it. Disconnected: it is not known.
        """
        self.words.pop(id, None)
        self.last_write = asyncio.get_running_loop().time()
        try:
            return await self.request(self.setting_write(id, word), Priority.CLIENT)
        except errors.NoReply as error:
            log.warning("%s: write of setting %d was not acknowledged: %s", self, id, error)
            return None
        except errors.Rejected:
            raise
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


def command_frames(command: Winmon[winmon.Written]) -> str:
    """The frames of a write as they go over the line, in slot X; Y and Z differ in that letter."""
    return "\n".join(str(adapter_frame("X", payload)) for payload in command.payloads())
