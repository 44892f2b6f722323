"""What the command-line tool needs beyond the values of items: any RAM variable, and looks before a write."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import Any, Protocol

from mk2dbus.items import InvalidValue, Kind, Value

from .errors import ErrorReply
from .interfaces import Answer, Interface, Method, Target
from .library import encode, variant
from .names import RAW, UNKNOWN_OBJECT
from .tree import Item
from .values import plain, unwrapped, value_variant
from .wire import Body


class RawAccess(Protocol):
    """The inverter side of the interface; each raises ``mk2dbus.items.WriteFailed`` when it cannot."""

    async def read_ram(self, device: int, id: int) -> tuple[Value, int]:
        """Read a RAM variable now: its value, ``None`` where the device tells no scale, and its word."""
        ...

    async def write_ram(self, device: int, id: int, value: float) -> tuple[Value, int]:
        """Write a RAM variable; what it has afterwards, as :meth:`read_ram`."""
        ...

    async def preview(self, path: str, value: int | float | str) -> str:
        """What a write of this value would send, a line per request; empty when nothing would be sent.

        Type and limits of the item are checked before this is called.
        """
        ...


def raw_interface(provider: RawAccess) -> Interface:
    """The interface on the folder of the devices; see :meth:`.service.BusService.extend`."""

    def read_ram(target: Target, arguments: list[Any]) -> Answer:
        device, id = arguments
        return _ram(target, provider.read_ram(device, id), f"reading RAM variable {id} of device {device}")

    def write_ram(target: Target, arguments: list[Any]) -> Answer:
        device, id, value = arguments
        what = f"writing RAM variable {id} of device {device}"
        if not math.isfinite(value):
            raise InvalidValue(f"{what}: {value} is not a number")
        target.access.check_age(f"RAM variable {id} of device {device}")
        return _ram(target, provider.write_ram(device, id, value), what)

    def preview(target: Target, arguments: list[Any]) -> Answer:
        path, argument = arguments
        value = _item(target, path).accept(plain(unwrapped(argument)))
        return _preview(target, provider.preview(path, value), path)

    return Interface(
        RAW,
        (
            Method("ReadRam", read_ram, takes=(("device", "i"), ("id", "q")), gives=_RAM_OUT),
            Method(
                "WriteRam", write_ram, takes=(("device", "i"), ("id", "q"), ("value", "d")), gives=_RAM_OUT
            ),
            Method("Preview", preview, takes=(("path", "s"), ("value", "v")), gives=(("text", "s"),)),
            Method("Choices", _choices, takes=(("path", "s"),), gives=(("texts", "a{is}"),)),
        ),
    )


_RAM_OUT = (("value", "v"), ("raw", "q"))


async def _ram(target: Target, work: Coroutine[Any, Any, tuple[Value, int]], what: str) -> Body:
    value, raw = await target.access.perform(work, what)
    packed = variant("ai", []) if value is None else value_variant(_kind(value), value)
    return Body("vq", encode("vq", [packed, raw]))


async def _preview(target: Target, work: Coroutine[Any, Any, str], path: str) -> Body:
    return Body("s", encode("s", [await target.access.perform(work, f"preview of {path}")]))


def _choices(target: Target, arguments: list[Any]) -> Answer:
    """The values of an enumeration and their meaning; empty for other items."""
    (path,) = arguments
    return Body("a{is}", encode("a{is}", [dict(_item(target, path).leaf.texts)]))


def _item(target: Target, path: str) -> Item:
    item = target.tree.get(path)
    if item is None:
        raise ErrorReply(UNKNOWN_OBJECT, f"there is no object {path}")
    return item


def _kind(value: Value) -> Kind:
    match value:
        case str():
            return Kind.TEXT
        case tuple():
            return Kind.LIST
        case int():
            return Kind.INTEGER
        case _:
            return Kind.REAL
