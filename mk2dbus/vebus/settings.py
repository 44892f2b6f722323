"""Settings and flags of a device as items: found one after the other, read, written, shown.

A :class:`SettingWord` is one setting of one device, with the items that live in it: itself, or up to sixteen
flags. It outlives the session that found it, so that its objects stay on the bus, invalid, while the device
is gone.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mk2dbus.items import NO_LIMITS, Disconnected, Kind, Leaf, Limits, NoReply, OutOfRange, Value, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.link import Priority
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.scaling import RAW_MAX, SettingScale
from mk2dbus.vebus.tables import Flag, Setting, SettingKind, flags, settings

log = logging.getLogger(__name__)

WRITE_TIMEOUT_S = 4.5
"""A write has to be answered within 5 s (dbus-contract.md)."""

FIRST_IDS = (64, 2, 3, 0, 4)
"""Read first: the battery capacity decides whether there is a state of charge; the others people ask for."""

FORBIDDEN_FLAGS = frozenset({9, 10, 12})
"""Never writable through any door (dbus-contract.md): changing them can damage the device."""

OPPOSITE_FLAGS = {3: 7}
"""A flag, and the one that always has the opposite value."""

_ROUNDS = 3
"""How often a setting that does not answer is tried before it is left alone until the next session."""


Mirrors = Mapping[str, tuple[str, ...]]
"""Paths that show the same value as an item, by the path of the item."""


class Source(Protocol):
    """The device as it is now."""

    @property
    def device(self) -> Device | None: ...


# --- what lives in a word ------------------------------------------------------------------------------


class View(ABC):
    """An item that is kept in a setting word. No state, no waiting."""

    leaf: Leaf
    limits: Limits

    @abstractmethod
    def value(self, word: int) -> Value:
        """The value in a word."""

    @abstractmethod
    def bits(self, value: int | float | str) -> tuple[int, int]:
        """Mask and bits that a value stands for.

        Raises:
            OutOfRange: the device does not take this value.
        """


@dataclass(frozen=True, slots=True)
class SettingView(View):
    """The whole word as a number."""

    leaf: Leaf
    limits: Limits
    scale: SettingScale

    def value(self, word: int) -> Value:
        value = self.scale.value(word)
        return int(value) if value is not None and self.leaf.kind is Kind.INTEGER else value

    def bits(self, value: int | float | str) -> tuple[int, int]:
        if isinstance(value, str):
            raise OutOfRange("a text cannot be stored")
        try:
            return RAW_MAX, self.scale.raw(value)
        except ValueError as error:
            raise OutOfRange(str(error)) from error


@dataclass(frozen=True, slots=True)
class FlagView(View):
    """One bit of the word, with the bit that is always its opposite."""

    leaf: Leaf
    limits: Limits
    bit: int
    opposite: int | None

    def value(self, word: int) -> Value:
        return word >> self.bit & 1

    def bits(self, value: int | float | str) -> tuple[int, int]:
        mask = 1 << self.bit
        bits = mask if value else 0
        if self.opposite is not None:
            mask |= 1 << self.opposite
            bits |= 0 if value else 1 << self.opposite
        return mask, bits


def setting_view(folder: str, setting: Setting, scale: SettingScale) -> SettingView:
    """The item of a setting, with the limits and the step of the device."""
    # The maximum of a flag word is the mask of its settable bits.
    limits = NO_LIMITS if setting.kind is SettingKind.FLAGS else scale.limits
    whole = scale.whole and not setting.unit
    if whole:
        limits = Limits(*(None if bound is None else int(bound) for bound in _bounds(limits)))
    leaf = Leaf(
        path=f"{folder}/{setting.name}",
        kind=Kind.INTEGER if whole else Kind.REAL,
        unit=setting.unit,
        writable=setting.kind in (SettingKind.NUMBER, SettingKind.ENUM),
        meaning=setting.description,
        source=f"setting {setting.id}",
        decimals=scale.decimals,
        texts=setting.texts if whole else {},
        more_choices=limits.maximum is not None and limits.maximum > max(setting.texts, default=0),
    )
    return SettingView(leaf, limits, scale)


def _bounds(limits: Limits) -> tuple[float | None, float | None, float | None]:
    return limits.minimum, limits.maximum, limits.default


def flag_view(folder: str, flag: Flag, scale: SettingScale) -> FlagView:
    """The item of a flag; writable where the table and the device's own mask (§4.1) allow it."""
    mask = scale.info.maximum
    settable = flag.settable and flag.number not in FORBIDDEN_FLAGS and bool(mask >> flag.bit & 1)
    opposite = OPPOSITE_FLAGS.get(flag.number)
    opposite_bit = None if opposite is None else flags()[opposite].bit
    leaf = Leaf(
        path=f"{folder}/{flag.name}",
        kind=Kind.INTEGER,
        writable=settable,
        meaning=flag.description,
        source=f"flag {flag.number}",
        texts={0: "no", 1: "yes"},
    )
    return FlagView(
        leaf,
        Limits(0, 1, scale.info.default >> flag.bit & 1),
        flag.bit,
        opposite_bit if opposite_bit is not None and mask >> opposite_bit & 1 else None,
    )


def views(folder: str, setting: Setting, scale: SettingScale) -> Iterator[View]:
    """The items that a setting brings: itself, and its flags where it is a flag word."""
    yield setting_view(folder, setting, scale)
    for flag in flags().values():
        if flag.setting_id == setting.id and flag.name:
            yield flag_view(folder, flag, scale)


# --- a word on the board -------------------------------------------------------------------------------


class SettingWord:
    """One setting of one device and its items on the board."""

    def __init__(
        self, source: Source, board: Board, setting_id: int, views: Sequence[View], mirrors: Mirrors
    ) -> None:
        self.id = setting_id
        self.views = views
        self._source = source
        self._board = board
        self._mirrors = mirrors

    def place(self) -> None:
        """Put the items on the board."""
        for view in self.views:
            write = partial(self.write, view) if view.leaf.writable else None
            self._board.add(view.leaf, limits=view.limits, write=write, fetch=self.fetch)
            for path in self._mirrors.get(view.leaf.path, ()):
                self._board.set_limits(path, view.limits)

    def withdraw(self) -> None:
        """Take the items off the board."""
        for view in self.views:
            self._board.remove(view.leaf.path)

    def show(self) -> None:
        """Show what the device is known to have; invalid when that is not known."""
        device = self._source.device
        word = None if device is None else device.words.get(self.id)
        values: dict[str, Value] = {}
        for view in self.views:
            value = None if word is None else view.value(word)
            values[view.leaf.path] = value
            values.update(dict.fromkeys(self._mirrors.get(view.leaf.path, ()), value))
        self._board.update(values)

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

    async def write(self, view: View, value: int | float | str) -> None:
        """Store a value; see :meth:`Device.store_setting` for what is made sure.

        Raises:
            WriteFailed: and why.
        """
        path = view.leaf.path
        device = self._source.device
        if device is None:
            raise Disconnected(f"{path} cannot be written: the device is not connected")
        try:
            mask, bits = view.bits(value)
            show = partial(self._text, view)
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                word, reset_needed = await device.store_setting(self.id, mask, bits, show)
        except TimeoutError:
            text = f"{path}: no outcome within {WRITE_TIMEOUT_S} s; whether it was stored is not known"
            raise NoReply(text) from None
        except WriteFailed as error:
            raise type(error)(f"{path}: {error}") from error
        finally:
            self.show()
        log.info("%s: %s is %s now", device, path, show(word))
        if reset_needed:
            log.warning("%s: %s takes effect after a reset", device, path)

    @staticmethod
    def _text(view: View, word: int) -> str:
        return view.leaf.text(view.value(word))


class DeviceSettings:
    """All settings of one device: finds out which it has, keeps their items."""

    def __init__(self, source: Source, board: Board, folder: str, mirrors: Mirrors) -> None:
        self._source = source
        self._board = board
        self._folder = folder
        self._mirrors = mirrors
        self.words: dict[int, SettingWord] = {}

    def show(self) -> None:
        """Show all as far as known (all invalid when the device is gone)."""
        for word in self.words.values():
            word.show()

    def clear(self) -> None:
        """Take all items off the board: another device is there now."""
        for word in self.words.values():
            word.withdraw()
        self.words.clear()

    async def discover(self, device: Device) -> None:
        """Find the settings of the device and read them, in the background. Ends when all are known."""
        ids = [*FIRST_IDS, *(id for id in settings() if id not in FIRST_IDS)]
        progress = f"{self._folder}/ReadProgress"
        total, known = len(ids), 0
        self._board.update({progress: 0})
        for _ in range(_ROUNDS):
            unanswered = []
            for id in ids:
                try:
                    await self.discover_one(device, id)
                    known += 1
                except errors.NoReply:
                    unanswered.append(id)
                except errors.Rejected as error:
                    log.info("%s: cannot read setting %d: %s", device, id, error)
                    known += 1
                self._board.update({progress: 100 * known // total})
            ids = unanswered
        if ids:
            log.warning("%s did not answer for settings %s", device, ", ".join(map(str, ids)))

    async def discover_one(self, device: Device, id: int) -> None:
        """Find out about one setting and read it."""
        scale = await device.setting_scale(id)
        if scale is None:
            return
        if id not in self.words:
            found = tuple(views(self._folder, settings()[id], scale))
            word = SettingWord(self._source, self._board, id, found, self._mirrors)
            word.place()
            self.words[id] = word
        await self.words[id].read(device)
