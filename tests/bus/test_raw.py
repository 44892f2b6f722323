"""Interfaces that are hung on a folder, and the one the command-line tool uses."""

from __future__ import annotations

import asyncio
import math
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.interfaces import Interface, Method
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM, DEVICES, INTROSPECTABLE, RAW
from mk2dbus.bus.raw import raw_interface
from mk2dbus.bus.wire import NOTHING
from mk2dbus.items import Disconnected, InvalidValue, Refused, Value

ABSORPTION = "/Devices/0/Settings/Absorption"
ITEM = "com.victronenergy.BusItem.Error."


class Provider:
    """RAM variables in a dictionary; 7 has no scale, 9 is refused, 11 never answers, 12 is a bug."""

    def __init__(self) -> None:
        self.words = {4: 2412, 7: 77, 128: 5}
        self.previewed: list[tuple[str, int | float | str]] = []

    async def read_ram(self, device: int, id: int) -> tuple[Value, int]:
        await asyncio.sleep(0)
        if device != 0:
            raise InvalidValue(f"there is no device {device}")
        if id == 9:
            raise Refused("RAM variable 9: not supported")
        if id == 11:
            await asyncio.Event().wait()
        if id == 12:
            raise RuntimeError("a bug")
        raw = self.words[id]
        return (None if id == 7 else raw if id == 128 else raw / 100), raw

    async def write_ram(self, device: int, id: int, value: float) -> tuple[Value, int]:
        await self.read_ram(device, id)
        self.words[id] = round(value * (1 if id == 128 else 100))
        return await self.read_ram(device, id)

    async def preview(self, path: str, value: int | float | str) -> str:
        self.previewed.append((path, value))
        if path == "/Mode":
            raise Disconnected(f"{path}: gone")
        return f"{path} {value}\n→ 05 FF"


@pytest.fixture
def provider(bench: Any) -> Provider:
    provider = Provider()
    bench.service.extend(DEVICES, raw_interface(provider))
    return provider


async def raw(bench: Any, member: str, signature: str, *body: object) -> list[Any]:
    answer: list[Any] = await bench.call(DEVICES, RAW, member, signature, body)
    return answer


async def refused(bench: Any, member: str, signature: str, *body: object) -> CallFailed:
    with pytest.raises(CallFailed) as failure:
        await raw(bench, member, signature, *body)
    return failure.value


async def test_read_and_write(bench: Any, provider: Provider) -> None:
    assert await raw(bench, "ReadRam", "iq", 0, 4) == [variant("d", 24.12), 2412]
    assert await raw(bench, "ReadRam", "iq", 0, 7) == [variant("ai", []), 77]
    assert await raw(bench, "ReadRam", "iq", 0, 128) == [variant("i", 5), 5]
    assert await raw(bench, "WriteRam", "iqd", 0, 4, 25.5) == [variant("d", 25.5), 2550]
    # Without the name of the interface, as D-Bus allows.
    assert await bench.call(DEVICES, "", "ReadRam", "iq", [0, 4]) == [variant("d", 25.5), 2550]


@pytest.mark.parametrize(
    ("member", "signature", "body", "name", "said"),
    [
        ("ReadRam", "iq", (0, 9), f"{ITEM}Refused", "not supported"),
        ("ReadRam", "iq", (1, 4), f"{ITEM}InvalidValue", "no device 1"),
        ("ReadRam", "iq", (0, 11), f"{ITEM}NoReply", "RAM variable 11 of device 0"),
        ("ReadRam", "iq", (0, 12), "org.freedesktop.DBus.Error.Failed", "internal error"),
        ("ReadRam", "i", (0,), "org.freedesktop.DBus.Error.InvalidArgs", "'iq'"),
        ("ReadRam", "ii", (0, 4), "org.freedesktop.DBus.Error.InvalidArgs", "'iq'"),
        ("WriteRam", "iqd", (0, 4, math.nan), f"{ITEM}InvalidValue", "nan"),
        ("WriteRam", "iqd", (0, 4, math.inf), f"{ITEM}InvalidValue", "inf"),
        ("WriteRam", "iqd", (0, 9, 1.0), f"{ITEM}Refused", "not supported"),
        ("Preview", "sv", ("/No", variant("i", 1)), "org.freedesktop.DBus.Error.UnknownObject", "/No"),
        ("Preview", "sv", ("/Dc", variant("i", 1)), "org.freedesktop.DBus.Error.UnknownObject", "/Dc"),
        ("Preview", "sv", ("/State", variant("i", 1)), f"{ITEM}ReadOnly", "read-only"),
        ("Preview", "sv", ("/Mode", variant("i", 7)), f"{ITEM}InvalidValue", "cannot be 7"),
        ("Preview", "sv", ("/Mode", variant("i", 4)), f"{ITEM}Disconnected", "gone"),
        ("Preview", "sv", (ABSORPTION, variant("d", 99.0)), f"{ITEM}OutOfRange", "99"),
        ("Preview", "sv", (ABSORPTION, variant("ai", [1])), f"{ITEM}InvalidValue", "ai"),
        ("Choices", "s", ("/No",), "org.freedesktop.DBus.Error.UnknownObject", "/No"),
        ("Nothing", "", (), "org.freedesktop.DBus.Error.UnknownMethod", "'Nothing'"),
    ],
)  # fmt: skip
async def test_errors(
    bench: Any,
    provider: Provider,
    member: str,
    signature: str,
    body: tuple[object, ...],
    name: str,
    said: str,
) -> None:
    error = await refused(bench, member, signature, *body)
    assert error.name == name
    assert said in str(error)


async def test_preview_writes_nothing(bench: Any, provider: Provider) -> None:
    assert await raw(bench, "Preview", "sv", ABSORPTION, variant("i", 28)) == [f"{ABSORPTION} 28.0\n→ 05 FF"]
    wrapped = variant("v", variant("d", 28.5))
    assert await raw(bench, "Preview", "sv", ABSORPTION, wrapped) == [f"{ABSORPTION} 28.5\n→ 05 FF"]
    assert provider.previewed == [(ABSORPTION, 28.0), (ABSORPTION, 28.5)]
    assert bench.device == []


async def test_choices(bench: Any, provider: Provider) -> None:
    assert await raw(bench, "Choices", "s", "/Mode") == [{1: "Charger only", 3: "On", 4: "Off"}]
    assert await raw(bench, "Choices", "s", ABSORPTION) == [{}]


async def interfaces(bench: Any, path: str) -> dict[str, ET.Element]:
    (xml,) = await bench.call(path, INTROSPECTABLE, "Introspect")
    return {entry.attrib["name"]: entry for entry in ET.fromstring(xml).findall("interface")}


async def test_introspection_shows_it_there_and_nowhere_else(bench: Any, provider: Provider) -> None:
    found = (await interfaces(bench, DEVICES))[RAW]
    methods = {
        method.attrib["name"]: [
            "".join(arg.attrib["type"] for arg in method.findall(f"arg[@direction='{way}']"))
            for way in ("in", "out")
        ]
        for method in found.findall("method")
    }
    assert methods == {
        "ReadRam": ["iq", "vq"],
        "WriteRam": ["iqd", "vq"],
        "Preview": ["sv", "s"],
        "Choices": ["s", "a{is}"],
    }
    assert set(await interfaces(bench, DEVICES)) - {RAW} == set(await interfaces(bench, "/Dc"))
    for path in ("/", "/Devices/0", ABSORPTION):
        assert RAW not in await interfaces(bench, path)
        with pytest.raises(CallFailed) as failure:
            await bench.call(path, RAW, "ReadRam", "iq", [0, 4])
        assert failure.value.name.endswith("UnknownInterface")


async def test_it_goes_and_comes_with_the_folder(bench: Any, provider: Provider) -> None:
    for path in [path for path in bench.tree if path.startswith(DEVICES)]:
        bench.tree.remove(path)
    assert (await refused(bench, "ReadRam", "iq", 0, 4)).name.endswith("UnknownObject")


async def test_what_cannot_be_extended(bench: Any, provider: Provider) -> None:
    with pytest.raises(ValueError, match="already"):
        bench.service.extend(DEVICES, raw_interface(provider))
    with pytest.raises(ValueError, match="leaf"):
        bench.service.extend("/State", raw_interface(provider))
    with pytest.raises(ValueError, match="already"):
        bench.service.extend("/", Interface(BUS_ITEM, ()))


async def test_the_root_can_be_extended(bench: Any) -> None:
    bench.service.extend("/", Interface("a.b", (Method("Do", lambda _target, _arguments: NOTHING),)))
    assert await bench.call("/", "a.b", "Do") == []
    assert "a.b" in await interfaces(bench, "/")
    (items,) = await bench.call("/", BUS_ITEM, "GetItems")
    assert set(items) == set(bench.tree)
