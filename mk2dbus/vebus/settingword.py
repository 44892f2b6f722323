"""One setting of one device with the items that live in it: itself, or up to sixteen flags.

Each is there twice: stored, and in RAM only. It outlives the session that found it, so that its objects stay
on the bus, invalid, while the device is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from mk2dbus.items import Disconnected, NoReply, OutOfRange, Refused, Value, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.bounds import bounds_on
from mk2dbus.vebus.device import Device, command_frames, write_failure
from mk2dbus.vebus.scaling import SettingScale
from mk2dbus.vebus.views import View

log = logging.getLogger(__name__)

WRITE_TIMEOUT_S = 4.5
"""A write has to be answered within 5 s (dbus-contract.md)."""

_RESET_NEEDED = 0x80
"""Bit of a setting's access level: a change needs a reset (§4.1)."""

Mirrors = Mapping[str, tuple[str, ...]]
"""Paths that show the same value as an item, by the path of the item."""


class Source(Protocol):
    """The device as it is now."""

    @property
    def device(self) -> Device | None: ...


class SettingWord:
    """One setting of one device and its items on the board.

    Args:
        scale: by which its items are shown and written.
        stored: its items as stored in EEPROM.
        volatile: the same items in RAM only; their values are what was last written there.
        reset_needed: called when a stored value takes effect only after a reset.
        outdated: called when the device turns out to scale or limit the setting in another way.
        unsure: called when a write left behind that it is not known what the device has.
    """

    def __init__(
        self,
        source: Source,
        board: Board,
        setting_id: int,
        scale: SettingScale,
        stored: Sequence[View],
        volatile: Sequence[View],
        mirrors: Mirrors,
        reset_needed: Callable[[], None],
        outdated: Callable[[Device, int], None],
        unsure: Callable[[int], None],
    ) -> None:
        self.id = setting_id
        self._scale = scale
        self._stored = stored
        self._volatile = volatile
        self._source = source
        self._board = board
        self._mirrors = mirrors
        self._reset_needed = reset_needed
        self._outdated = outdated
        self._unsure = unsure
        self._placed = False
        self._ram_word = 0
        self._ram_mask = 0
        """Which bits of ``_ram_word`` were written to RAM since the device was found."""
        self._ram_doubt = 0
        """Bits that may or may not have been written there."""

    def place(self) -> None:
        """Put the items on the board."""
        for view in self._stored:
            write = partial(self.write, view, False) if view.leaf.writable else None
            self._board.add(view.leaf, limits=view.limits, write=write, fetch=self.fetch)
            for path in self._mirrors.get(view.leaf.path, ()):
                self._board.set_limits(path, view.limits)
        for view in self._volatile:
            write = partial(self.write, view, True) if view.leaf.writable else None
            self._board.add(view.leaf, limits=view.limits, write=write)
        self._placed = True

    def withdraw(self) -> None:
        """Take the items off the board."""
        for view in (*self._stored, *self._volatile):
            self._board.remove(view.leaf.path)
        self._placed = False

    def view(self, path: str) -> tuple[View, bool] | None:
        """The item at a path, and whether it is in RAM only; ``None`` when it is not one of this word."""
        for view in self._stored:
            if view.leaf.path == path:
                return view, False
        for view in self._volatile:
            if view.leaf.path == path:
                return view, True
        return None

    def detach(self) -> None:
        """The device is gone. When it is back it may have been reset meanwhile, or not."""
        self._ram_doubt |= self._ram_mask
        self._ram_mask = 0
        self.show()

    @property
    def doubt(self) -> int:
        """Bits that may be in effect in RAM only, once the device was away."""
        return self._ram_doubt | self._ram_mask

    def found(self, doubt: int) -> None:
        """A device is there: which bits may be in effect in its RAM only."""
        self._ram_mask, self._ram_doubt = 0, doubt

    def reset(self) -> None:
        """The device begins anew with what is stored."""
        self._ram_mask = self._ram_doubt = 0
        self.show()

    def show(self) -> None:
        """Show what the device is known to have; invalid when that is not known."""
        if not self._placed:
            return
        device = self._source.device
        word = None if device is None else device.words.get(self.id)
        values: dict[str, Value] = {}
        for view in self._stored:
            value = None if word is None else view.value(word)
            values[view.leaf.path] = value
            values.update(dict.fromkeys(self._mirrors.get(view.leaf.path, ()), value))
        for view in self._volatile:
            known = device is not None and view.mask & self._ram_mask == view.mask
            values[view.leaf.path] = view.value(self._ram_word) if known else None
        self._board.update(values)

    @property
    def known(self) -> bool:
        """Whether it was read."""
        device = self._source.device
        return device is not None and self.id in device.words

    @property
    def in_effect(self) -> int | None:
        """The raw word in effect: as stored, but for what was put in RAM only; ``None`` when not known."""
        device = self._source.device
        stored = None if device is None else device.words.get(self.id)
        if stored is None or self._ram_doubt:
            return None
        return stored & ~self._ram_mask | self._ram_word & self._ram_mask

    # --- reading ---------------------------------------------------------------------------------------

    async def read(self, device: Device, priority: Priority = Priority.BACKGROUND) -> None:
        """Read the word and show it.

        Raises:
            Mk2Error: it could not be read; its items are invalid then.
        """
        try:
            await device.read_setting(self.id, priority)
        finally:
            self.show()

    async def fetch(self) -> None:
        """Read the word because somebody asks; when that fails the items stay invalid."""
        device = self._source.device
        if device is None:
            return
        try:
            await self.read(device, Priority.CLIENT)
        except errors.Mk2Error as error:
            log.info("%s: cannot read setting %d: %s", device, self.id, error)

    # --- writing ---------------------------------------------------------------------------------------

    async def write(self, view: View, ram_only: bool, value: int | float | str) -> None:
        """Store a value, or only put it in effect; :class:`Device` says what is made sure.

        Raises:
            WriteFailed: and why.
        """
        path = view.leaf.path
        device = self._source.device
        if device is None:
            raise Disconnected(f"{path} cannot be written: the device is not connected")
        try:
            mask, bits = view.bits(value)
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                if not await device.verify_setting_scale(self.id, self._scale):
                    self._outdated(device, self.id)
                    raise Refused("the device has other limits than those remembered; nothing was written")
                await self._check_bounds(device, mask, bits)
                if ram_only:
                    await self._write_ram(device, view, mask, bits)
                else:
                    await self._store(device, view, mask, bits)
        except TimeoutError:
            text = f"{path}: no outcome within {WRITE_TIMEOUT_S} s; whether it was written is not known"
            raise NoReply(text) from None
        except WriteFailed as error:
            raise type(error)(str(error) if path in str(error) else f"{path}: {error}") from error
        except errors.Mk2Error as error:
            raise type(write_failure(error, ""))(f"{path}: {error}; nothing was written") from error
        finally:
            self.show()
            if not self.known:
                self._unsure(self.id)

    async def preview(self, view: View, ram_only: bool, value: int | float | str) -> str:
        """What :meth:`write` would send, one line each, nothing where the value is stored already.

        Raises:
            WriteFailed: as the write itself before it sends.
        """
        device = self._source.device
        if device is None:
            raise Disconnected(f"{view.leaf.path} cannot be written: the device is not connected")
        mask, bits = view.bits(value)
        await self._check_bounds(device, mask, bits)
        if not self.known:
            await self.read(device, Priority.CLIENT)
        before = device.words[self.id]
        base = before
        if ram_only:
            base = before & ~self._ram_mask | self._ram_word & self._ram_mask
        word = base & ~mask | bits & mask
        if word == before and not ram_only:
            return ""
        how = "in RAM only" if ram_only else "stored"
        command = device.setting_write(self.id, word, ram_only)
        return (
            f"setting {self.id}, {how}: {view.leaf.path} = {_text(view, word)} (raw {before} → {word})\n"
            f"{command_frames(command)}"
        )

    async def _store(self, device: Device, view: View, mask: int, bits: int) -> None:
        show = partial(_text, view)
        kept, kept_bits = self._ram_mask & ~mask, self._ram_word
        stored = await device.store_setting(self.id, mask, bits, show)
        if not stored.sent:
            return
        log.info("%s: %s is %s now", device, view.leaf.path, show(stored.word))
        if stored.reset_needed or self._scale.info.access & _RESET_NEEDED:
            log.warning("%s: %s takes effect after a reset", device, view.leaf.path)
            self._reset_needed()
        # The whole stored word is in effect now: other flags that were set in RAM only go there again.
        self._ram_mask = self._ram_doubt = 0
        if kept:
            try:
                self._ram_word = await device.write_setting_ram(self.id, kept, kept_bits, 0, 0)
            except WriteFailed as error:
                log.warning("%s: what was in RAM only beside %s is lost: %s", device, view.leaf.path, error)
            else:
                self._ram_mask = kept

    async def _write_ram(self, device: Device, view: View, mask: int, bits: int) -> None:
        written, doubt, sent_before = self._ram_mask, self._ram_doubt, device.last_write
        # Not known until it is acknowledged.
        self._ram_mask &= ~mask
        self._ram_doubt |= mask
        try:
            word = await device.write_setting_ram(self.id, mask, bits, written, self._ram_word)
        except WriteFailed as error:
            if device.last_write == sent_before or not isinstance(error, NoReply | Disconnected):
                # Nothing has changed.
                self._ram_mask, self._ram_doubt = written, doubt
            raise
        self._ram_word = word
        if self._source.device is device:
            self._ram_mask = written | mask
            self._ram_doubt &= ~mask
        log.info("%s: %s is %s now, not stored", device, view.leaf.path, _text(view, word))

    async def _check_bounds(self, device: Device, mask: int, bits: int) -> None:
        """Settings that bound each other (bounds.csv) must go on doing so."""
        for bound in bounds_on(self.id):
            values: dict[int, float] = {}
            for id in bound.ids:
                scale = await device.setting_scale(id, Priority.CLIENT)
                if scale is None:
                    break
                if id not in device.words:
                    await device.read_setting(id, Priority.CLIENT)
                raw = device.words[id]
                value = scale.value(raw & ~mask | bits & mask if id == self.id else raw)
                if value is None:
                    break
                values[id] = value
            else:
                if not bound.holds(values):
                    raise OutOfRange(bound.reason)


def _text(view: View, word: int) -> str:
    return view.leaf.text(view.value(word))
