"""RAM variables of a device on the board: named ones, and those of the assistants from 128 up.

What the telemetry does not bring anyway is read when somebody asks, together with what else is asked for at
that moment, and kept fresh for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from mk2dbus.items import Disconnected, InvalidValue, Kind, Leaf, OutOfRange, Value, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.winmon import RamInfo
from mk2dbus.vebus.assistants import FIRST_ID, read_assistants
from mk2dbus.vebus.board import STALE_AFTER_S, Board, Freshness
from mk2dbus.vebus.confirm import Readings
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.paths import unit_decimals
from mk2dbus.vebus.readings import INVERTER_VOLTAGE, MAINS_VOLTAGE
from mk2dbus.vebus.scaling import RAW_MAX, RamScale
from mk2dbus.vebus.settingword import Source
from mk2dbus.vebus.tables import ram_variables

log = logging.getLogger(__name__)

AC_VOLTAGES = frozenset({MAINS_VOLTAGE, INVERTER_VOLTAGE})
INTEREST_S = 30.0
"""How long a value is kept fresh after it was asked for."""
PLAIN = RamScale(RamInfo(-0x7FFF, 0))
"""For a variable whose info the device does not tell: the word as a signed number."""


def ram_leaf(folder: str, id: int, scale: RamScale) -> Leaf:
    """Declaration of a RAM variable's item."""
    row = ram_variables().get(id)
    writable = row.writable if row is not None else True
    path = f"{folder}/{row.name if row is not None else id}"
    meaning = row.description if row is not None else "a word of the assistants"
    source = f"RAM variable {id}"
    if scale.is_bit:
        return Leaf(path, Kind.INTEGER, "", writable, meaning, source, texts={0: "no", 1: "yes"})
    if row is None or (not row.unit and scale.decimals == 0):
        return Leaf(path, Kind.INTEGER, "", writable, meaning, source)
    decimals = unit_decimals(row.unit, ac=id in AC_VOLTAGES, otherwise=scale.decimals)
    return Leaf(path, Kind.REAL, row.unit, writable, meaning, source, decimals)


def ram_value(leaf: Leaf, scale: RamScale, word: int) -> Value:
    """The value of a word, of the type of its item."""
    value = scale.value(word)
    return int(value) if leaf.kind is Kind.INTEGER else float(value)


def ram_word(id: int, scale: RamScale, value: int | float | str, path: str) -> tuple[int, int]:
    """Word and mask that stand for a value. Assistants' words are of either sign, whatever their info says.

    Raises:
        OutOfRange: it does not fit in a word.
    """
    if isinstance(value, str):
        raise InvalidValue(f"{path} takes a number")
    if scale.is_bit:
        mask = 1 << scale.info.scale - 1
        return (mask if value else 0), mask
    try:
        return scale.raw(value, either_sign=id >= FIRST_ID), RAW_MAX
    except (ValueError, OverflowError) as error:
        raise OutOfRange(f"{path}: {error}") from error


class _Item(NamedTuple):
    """A variable on the board, and the scale by which it is shown and written. The device that is there now
    may not have been asked for it yet."""

    leaf: Leaf
    scale: RamScale


class DeviceRam:
    """The RAM variables of one device.

    Args:
        folder: ``/Devices/<n>``.
    """

    def __init__(self, source: Source, board: Board, folder: str) -> None:
        self._source = source
        self._board = board
        self._folder = f"{folder}/RamVars"
        self._assistants_path = f"{folder}/Assistants"
        self._items: dict[int, _Item] = {}
        self._readings: dict[int, Readings] = {}
        self._freshness = Freshness(board)
        self._interest: dict[int, float] = {}
        self._asked: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._round: asyncio.Future[None] | None = None

    def clear(self) -> None:
        """Take all items off the board: another device is there now."""
        self.detach()
        for item in self._items.values():
            self._board.remove(item.leaf.path)
        self._items.clear()

    def detach(self) -> None:
        """The device is gone."""
        self._interest.clear()
        self._asked.clear()
        self._readings.clear()
        self._freshness.withdraw_all()
        self._end_round()

    def find(self, path: str) -> int | None:
        """Id of the variable whose item is at a path."""
        return next((id for id, item in self._items.items() if item.leaf.path == path), None)

    def show(self, words: Mapping[int, int], asked_at: float) -> None:
        """Show words that were read, by id; those without an item are passed over, and on a noisy line those
        that are not near the ones before.

        Args:
            asked_at: loop time when the first of them was asked for: none is older.
        """
        device, age_s = self._source.device, asyncio.get_running_loop().time() - asked_at
        for id, word in words.items():
            item = self._items.get(id)
            if item is None or device is None:
                continue
            path = item.leaf.path
            value = ram_value(item.leaf, item.scale, word)
            readings = self._readings.setdefault(id, Readings())
            believed = not device.noisy or readings.support({path: value})
            readings.add({path: value})
            if believed:
                self._freshness.publish(path, {path: value}, STALE_AFTER_S - age_s)

    def attach(self, device: Device) -> None:
        """Put on the board at once what is remembered of this kind of device."""
        for id, row in ram_variables().items():
            scale = device.known_ram_scale(id)
            if row.name and scale is not None:
                self._place(id, scale)
        if device.assistants is not None:
            self._place_assistants(device)

    async def discover(self, device: Device) -> None:
        """Find which variables the device has, and how far the assistants' list reaches."""
        for id, row in ram_variables().items():
            if row.name:
                try:
                    scale = await device.ram_scale(id, Priority.BACKGROUND)
                except errors.NoReply:
                    log.info("%s did not answer for RAM variable %d", device, id)
                    continue
                if scale is not None:
                    self._place(id, scale)
        try:
            await self._discover_assistants(device)
        except (errors.NoReply, errors.Rejected) as error:
            log.info("%s: cannot read the list of assistants: %s", device, error)

    async def _discover_assistants(self, device: Device) -> None:
        if device.assistants is None:
            device.assistants = await read_assistants(device)
        for assistant in device.assistants:
            for id in (assistant.header, *assistant.words):
                await device.ram_scale(id, Priority.BACKGROUND)
        self._place_assistants(device, PLAIN)

    def _place_assistants(self, device: Device, otherwise: RamScale | None = None) -> None:
        """Those whose scale is known; the others with another one, if it is given."""
        found = device.assistants or ()
        for assistant in found:
            for id in (assistant.header, *assistant.words):
                scale = device.known_ram_scale(id) or otherwise
                if scale is not None:
                    self._place(id, scale)
        self._board.update({self._assistants_path: tuple(assistant.kind for assistant in found)})

    async def check_scale(self, device: Device, id: int) -> bool:
        """Ask the scale of a variable anew; whether it is as known. Its item begins anew when it is not.

        Raises:
            NoReply, Rejected: it was not told.
        """
        as_known = await device.ask_ram_scale_again(id)
        scale = device.known_ram_scale(id)
        if not as_known and id in self._items and scale is not None:
            self._place(id, scale)
        return as_known

    def _place(self, id: int, scale: RamScale) -> None:
        leaf = ram_leaf(self._folder, id, scale)
        before = self._items.get(id)
        if before == (leaf, scale):
            return
        if before is not None:
            self._freshness.withdraw(before.leaf.path)
            self._board.remove(before.leaf.path)
        self._items[id] = _Item(leaf, scale)
        write = partial(self._write, id) if leaf.writable else None
        self._board.add(leaf, write=write, fetch=partial(self._fetch, id))

    # --- reading ---------------------------------------------------------------------------------------

    async def _fetch(self, id: int) -> None:
        """Somebody asks for a variable that is not known: read it, and keep it fresh for a while."""
        if self._source.device is None:
            return
        self._interest[id] = asyncio.get_running_loop().time() + INTEREST_S
        self._asked[id] = None
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        self._wake.set()
        await asyncio.shield(self._round)

    def interest(self) -> list[int]:
        """Ids that somebody asked for lately: they are worth being kept fresh."""
        now = asyncio.get_running_loop().time()
        self._interest = {id: until for id, until in self._interest.items() if until > now}
        return list(self._interest)

    def lose_interest(self) -> None:
        """What was asked for cannot be read together with the rest."""
        self._interest.clear()

    async def run(self, device: Device) -> None:
        """Read what is asked for, at once. Runs as long as the device is there."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._round = self._round, None
            ids, self._asked = self._asked, {}
            try:
                for chunk in device.chunks(ids):
                    asked_at = asyncio.get_running_loop().time()
                    self.show(await device.read_ram(chunk, Priority.CLIENT, plain=True), asked_at)
            except (errors.NoReply, errors.NotSupported) as error:
                log.info("%s: cannot read RAM variables: %s", device, error)
            finally:
                if asked is not None and not asked.done():
                    asked.set_result(None)

    def _end_round(self) -> None:
        asked, self._round = self._round, None
        if asked is not None and not asked.done():
            asked.set_result(None)

    # --- writing ---------------------------------------------------------------------------------------

    async def _write(self, id: int, value: int | float | str) -> None:
        item = self._items[id]
        path = item.leaf.path
        device = self._source.device
        if device is None:
            raise Disconnected(f"{path} cannot be written: the device is not connected")
        word, mask = ram_word(id, item.scale, value, path)
        try:
            await device.write_ram(id, word, mask)
        except WriteFailed as error:
            raise type(error)(f"{path}: {error}") from error
        log.info("%s: %s = %s (RAM)", device, path, value)
        asked_at = asyncio.get_running_loop().time()
        try:
            self.show(await device.read_ram((id,), Priority.CLIENT, plain=True), asked_at)
        except errors.Mk2Error as error:
            log.info("%s: %s was written but cannot be read: %s", device, path, error)
