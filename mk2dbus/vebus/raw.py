"""What people and tools ask beside the items: any RAM variable by number, and what a write would send."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mk2dbus.items import Disconnected, InvalidValue, OutOfRange, Value, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.vebus.assistants import LAST_ID
from mk2dbus.vebus.commands import Commands
from mk2dbus.vebus.device import Device, command_frames, write_failure
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.ramvars import PLAIN, ram_leaf, ram_value, ram_word
from mk2dbus.vebus.scaling import RAW_MAX

log = logging.getLogger(__name__)


class RawAccess:
    """Reads and writes by number, and previews, on the devices that are there.

    Args:
        items: objects of the devices, by number.
        commands: how the items of the system are written.
    """

    def __init__(self, items: Sequence[DeviceItems], commands: Commands) -> None:
        self._items = items
        self._commands = commands

    async def read_ram(self, device: int, id: int) -> tuple[Value, int]:
        """A RAM variable now: its value, ``None`` where the device tells no scale, and the raw word.

        Raises:
            InvalidValue: no such device, or no id. Refused, NoReply, Disconnected: as for writes.
        """
        found = self._device(device)
        _check_id(id)
        try:
            scale = await found.ram_scale(id, Priority.CLIENT)
            words = await found.read_ram((id,), Priority.CLIENT, plain=True)
        except errors.Mk2Error as error:
            raise write_failure(error, "nothing was read") from error
        if scale is None:
            return None, words[id]
        return ram_value(ram_leaf("", id, scale), scale, words[id]), words[id]

    async def write_ram(self, device: int, id: int, value: float) -> tuple[Value, int]:
        """Write a RAM variable, whatever its number: the device decides. What it has afterwards.

        Raises:
            InvalidValue, OutOfRange: the value cannot be sent. Others as for items.
        """
        found = self._device(device)
        _check_id(id)
        try:
            scale = await found.ram_scale(id, Priority.CLIENT) or PLAIN
        except errors.Mk2Error as error:
            raise write_failure(error, "nothing was written") from error
        path = f"RAM variable {id}"
        _check_number(value, path)
        word, mask = ram_word(id, scale, value, path)
        await found.write_ram(id, word, mask)
        log.info("%s: RAM variable %d = %s", found, id, value)
        try:
            return await self.read_ram(device, id)
        except WriteFailed as error:
            raise type(error)(f"{path} was written, but cannot be read: {error}") from error

    async def preview(self, path: str, value: int | float | str) -> str:
        """What a write of a checked value to an item would send, one line each; empty where nothing is.

        Raises:
            WriteFailed: as the write itself would before it sends.
        """
        for items in self._items:
            found = items.settings.find(path)
            if found is not None:
                word, view, ram_only = found
                return await word.preview(view, ram_only, value)
            id = items.ram.find(path)
            if id is not None:
                return self._preview_ram(items.device, id, path, value)
        command = self._commands.get(path)
        return "" if command is None else command.sends

    @staticmethod
    def _preview_ram(device: Device | None, id: int, path: str, value: int | float | str) -> str:
        if device is None:
            raise Disconnected(f"{path} cannot be written: the device is not connected")
        raw, mask = ram_word(id, device.known_ram_scale(id) or PLAIN, value, path)
        how = "" if mask == RAW_MAX else f", the other bits as they are (mask {mask:#06x})"
        frames = command_frames(device.ram_write(id, raw))
        return f"RAM variable {id} = {value} (raw {raw}{how})\n{frames}"

    def _device(self, number: int) -> Device:
        if not 0 <= number < len(self._items):
            raise InvalidValue(f"there is no device {number}")
        device = self._items[number].device
        if device is None:
            raise Disconnected(f"device {number} is not connected")
        return device


def _check_id(id: int) -> None:
    if not 0 <= id <= LAST_ID:
        raise InvalidValue(f"{id} is no RAM variable; they are 0 to {LAST_ID}")


def _check_number(value: float, what: str) -> None:
    if value != value or value in (float("inf"), float("-inf")):
        raise OutOfRange(f"{what} cannot be {value}")
