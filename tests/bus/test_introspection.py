"""What objects say of themselves is what they do; and how all that looks to other people's tools."""

from __future__ import annotations

import asyncio
import os
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.names import BUS_ITEM, INTROSPECTABLE, PROPERTIES

EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


async def introspect(bench: Any, path: str) -> ET.Element:
    (xml,) = await bench.call(path, INTROSPECTABLE, "Introspect")
    return ET.fromstring(xml)


async def walk(bench: Any, path: str = "/") -> list[str]:
    """Every path that introspection leads to."""
    found = [path]
    for node in (await introspect(bench, path)).findall("node"):
        found += await walk(bench, path.rstrip("/") + "/" + node.attrib["name"])
    return found


async def test_introspection_leads_to_every_object_and_no_other(bench: Any) -> None:
    folders = {"/"} | {
        path[:end] for path in bench.tree for end, char in enumerate(path) if char == "/" and end > 0
    }
    found = await walk(bench)
    assert len(found) == len(set(found))
    assert set(found) == folders | set(bench.tree)
    bench.tree.remove("/Dc/0/Voltage")
    bench.tree.remove("/Dc/0/Current")
    assert set(await walk(bench)) == (folders | set(bench.tree)) - {"/Dc", "/Dc/0"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/Dc",
        "/Dc/0",
        "/State",
        "/Mode",
        "/Devices/0/Settings/Absorption",
        "/CustomName",
        "/Orphan",
        "/Dc/0/Current",
    ],
)
async def test_what_is_advertised_works_and_nothing_else_does(bench: Any, path: str) -> None:
    root = await introspect(bench, path)
    interfaces = {interface.attrib["name"]: interface for interface in root.findall("interface")}
    (everything,) = await bench.call(path, PROPERTIES, "GetAll", "s", [""])
    properties = interfaces[BUS_ITEM].findall("property")
    assert {entry.attrib["name"] for entry in properties} == set(everything)
    for entry in properties:
        value = await bench.property(path, entry.attrib["name"])
        assert value.signature == entry.attrib["type"]
        assert value == everything[entry.attrib["name"]]
        annotation = entry.find("annotation")
        assert annotation is not None
        assert annotation.attrib == {"name": EMITS, "value": "false"}
    item = bench.tree.get(path)
    if item is not None:
        (value_entry,) = [entry for entry in properties if entry.attrib["name"] == "Value"]
        assert value_entry.attrib["access"] == ("readwrite" if item.writable else "read")
        assert everything["Writeable"].value is item.writable

    for name, interface in interfaces.items():
        for method in interface.findall("method"):
            takes = "".join(arg.attrib["type"] for arg in method.findall("arg[@direction='in']"))
            gives = "".join(arg.attrib["type"] for arg in method.findall("arg[@direction='out']"))
            if takes or method.attrib["name"] == "SetDefault":
                # Exists and takes this and nothing else.
                with pytest.raises(CallFailed) as failure:
                    await bench.call(path, name, method.attrib["name"], "(y)", [[1]])
                assert failure.value.name.endswith("InvalidArgs")
            else:
                answer = await bench.call(path, name, method.attrib["name"])
                assert len(answer) == bool(gives)

    advertised = {method.attrib["name"] for method in interfaces[BUS_ITEM].findall("method")}
    for method in ("GetValue", "GetText", "GetMin", "GetMax", "GetDefault", "SetDefault", "GetItems"):
        if method not in advertised:
            with pytest.raises(CallFailed) as failure:
                await bench.item(path, method)
            assert failure.value.name.endswith("UnknownMethod")


async def test_the_signal_is_advertised_where_it_comes_from(bench: Any) -> None:
    for path, expected in (("/", ["ItemsChanged"]), ("/Dc", []), ("/State", [])):
        signals = (await introspect(bench, path)).findall("interface/signal")
        assert [signal.attrib["name"] for signal in signals] == expected


async def tool(bench: Any, *command: str) -> tuple[int, str]:
    """Run a program of the system against the bus; exit code and everything it printed."""
    address = bench.address
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": address, "LC_ALL": "C.UTF-8"},
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.fixture
def outside(bench: Any, dbus_daemon: Any) -> Any:
    bench.address = dbus_daemon.address
    return bench


async def test_busctl(outside: Any) -> None:
    name = outside.name
    code, output = await tool(outside, "busctl", "--user", "--list", "tree", name)
    assert code == 0
    assert set(outside.tree) <= set(output.split())

    code, output = await tool(outside, "busctl", "--user", "introspect", name, "/Mode", BUS_ITEM)
    assert code == 0
    rows = {line.split()[0]: line.split() for line in output.splitlines()}
    assert rows[".Value"][1:3] == ["property", "v"]
    assert rows[".Value"][-1] == "writable"
    assert rows[".Text"][1:4] == ["property", "s", '"On"']
    assert rows[".SetValue"][1:4] == ["method", "v", "i"]

    async def get(path: str, prop: str) -> str:
        _, output = await tool(outside, "busctl", "--user", "get-property", name, path, BUS_ITEM, prop)
        return output.strip()

    assert await get("/Mode", "Value") == "v i 3"
    assert await get("/Dc/0/Current", "Value") == "v ai 0"
    assert await get("/Mode", "Text") == 's "On"'
    code, output = await tool(
        outside, "busctl", "--user", "set-property", name, "/Mode", BUS_ITEM, "Value", "i", "4"
    )
    assert (code, output) == (0, "")
    assert await get("/Mode", "Text") == 's "Off"'
    code, output = await tool(
        outside, "busctl", "--user", "set-property", name, "/Mode", BUS_ITEM, "Value", "i", "7"
    )
    assert code != 0
    assert "/Mode cannot be 7" in output
    code, output = await tool(outside, "busctl", "--user", "call", name, "/Dc", BUS_ITEM, "GetText")
    assert output.strip() == 'v a{sv} 2 "0/Voltage" s "24.12V" "0/Current" s "---"'


async def test_dbus_send(outside: Any) -> None:
    async def send(path: str, member: str, *arguments: str) -> str:
        _, output = await tool(
            outside, "dbus-send", "--session", "--print-reply=literal", f"--dest={outside.name}", path,
            f"{BUS_ITEM}.{member}", *arguments,
        )  # fmt: skip
        return " ".join(output.split())

    assert await send("/Mode", "SetValue", "variant:int32:1") == "int32 0"
    assert await send("/Mode", "SetValue", "variant:int32:2") == "int32 1"
    assert await send("/Mode", "GetValue") == "variant int32 1"
    items = await send("/", "GetItems")
    assert all(path in items for path in outside.tree)
    assert "UnknownMethod" in await send("/Mode", "Nothing")


async def test_gdbus(outside: Any) -> None:
    code, output = await tool(
        outside, "gdbus", "introspect", "--session", "--dest", outside.name, "--object-path", "/", "--recurse"
    )
    assert code == 0
    assert "node /Devices/0/Settings/Absorption {" in output
    assert "readwrite v Value = <28.8" in output
