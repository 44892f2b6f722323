"""Every method of every kind of object, its type and its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.names import BUS_ITEM, INTROSPECTABLE, PEER, PROPERTIES
from mk2dbus.items import Kind, Leaf, Limits

ERROR = "org.freedesktop.DBus.Error."
ABSORPTION = "/Devices/0/Settings/Absorption"


@pytest.mark.parametrize(
    ("path", "signature", "value", "text"),
    [
        ("/Dc/0/Voltage", "d", 24.125, "24.12V"),
        ("/Dc/0/Current", "ai", [], "---"),
        ("/State", "i", 5, "Float"),
        ("/ProductName", "s", "MultiPlus-II 48/3000", "MultiPlus-II 48/3000"),
        ("/Devices/0/Assistants", "ai", [5, 6], "5, 6"),
    ],
)
async def test_a_leaf_has_value_and_text(
    bench: Any, path: str, signature: str, value: object, text: str
) -> None:
    got = await bench.item(path, "GetValue")
    assert (got.signature, got.value) == (signature, value)
    assert await bench.item(path, "GetText") == text
    as_property = await bench.property(path, "Value")
    # The property is of type v: the variant of Get holds a variant.
    assert as_property.signature == "v"
    assert (as_property.value.signature, as_property.value.value) == (signature, value)
    as_property = await bench.property(path, "Text")
    assert (as_property.signature, as_property.value) == ("s", text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (ABSORPTION, [("d", 24.0), ("d", 32.0), ("d", 28.5)]),
        ("/Devices/0/Settings/Count", [("i", 0), ("i", 10), ("i", 4)]),
        ("/State", [("ai", []), ("ai", []), ("ai", [])]),
        ("/CustomName", [("ai", []), ("ai", []), ("ai", [])]),
    ],
)
async def test_limits_have_the_type_of_their_item(bench: Any, path: str, expected: list[object]) -> None:
    got = [await bench.item(path, method) for method in ("GetMin", "GetMax", "GetDefault")]
    assert [(limit.signature, limit.value) for limit in got] == expected


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/State", {"Value", "Text", "Unit", "Writeable", "Description"}),
        (ABSORPTION, {"Value", "Text", "Min", "Max", "Default", "Unit", "Writeable", "Description"}),
        ("/Dc", set()),
        ("/", set()),
    ],
)
async def test_get_all_has_what_there_is(bench: Any, path: str, names: set[str]) -> None:
    (found,) = await bench.call(path, PROPERTIES, "GetAll", "s", [BUS_ITEM])
    assert set(found) == names
    (any_interface,) = await bench.call(path, PROPERTIES, "GetAll", "s", [""])
    assert set(any_interface) == names


async def test_unit_writeable_description(bench: Any) -> None:
    assert (await bench.property(ABSORPTION, "Unit")).value == "V"
    assert (await bench.property(ABSORPTION, "Writeable")).value is True
    assert (await bench.property("/State", "Writeable")).value is False
    assert (await bench.property("/Orphan", "Writeable")).value is False
    assert (await bench.property("/Mode", "Description")).value == "switch"
    assert await bench.item("/Mode", "GetDescription", "si", ["en", 0]) == "switch"
    assert await bench.item("/Mode", "GetDescription", "si", ["de", 3]) == "swi"


async def test_folders_show_what_is_below_by_relative_path(bench: Any) -> None:
    values = await bench.item("/Dc", "GetValue")
    assert values.signature == "a{sv}"
    assert {path: value.value for path, value in values.value.items()} == {
        "0/Voltage": 24.125,
        "0/Current": [],
    }
    texts = await bench.item("/Dc", "GetText")
    assert {path: text.value for path, text in texts.value.items()} == {
        "0/Voltage": "24.12V",
        "0/Current": "---",
    }
    everything = await bench.item("/", "GetValue")
    assert {f"/{path}" for path in everything.value} == set(bench.tree)


async def test_get_items_has_every_leaf_with_what_it_has(bench: Any) -> None:
    items = await bench.item("/", "GetItems")
    assert set(items) == set(bench.tree)
    assert {key: part.value for key, part in items[ABSORPTION].items()} == {
        "Value": 28.8,
        "Text": "28.80V",
        "Min": 24.0,
        "Max": 32.0,
        "Default": 28.5,
    }
    assert {key: (part.signature, part.value) for key, part in items["/Dc/0/Current"].items()} == {
        "Value": ("ai", []),
        "Text": ("s", "---"),
    }


async def test_get_items_follows_every_change(bench: Any) -> None:
    await bench.item("/", "GetItems")
    bench.tree.update({"/State": 3})
    bench.tree.set_limits(ABSORPTION, Limits(24.0, 30.0))
    bench.tree.add(Leaf("/New/Text", Kind.TEXT), "new")
    bench.tree.remove("/ProductName")
    items = await bench.item("/", "GetItems")
    assert items["/State"]["Value"].value == 3
    assert items[ABSORPTION]["Max"].value == 30.0
    assert "Default" not in items[ABSORPTION]
    assert items["/New/Text"]["Value"].value == "new"
    assert "/ProductName" not in items
    bench.tree.remove("/New/Text")
    with pytest.raises(CallFailed) as failure:
        await bench.item("/New", "GetValue")
    assert failure.value.name == ERROR + "UnknownObject"


@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "body", "error"),
    [
        ("/Nothing", BUS_ITEM, "GetValue", "", [], "UnknownObject"),
        ("/Nothing", INTROSPECTABLE, "Introspect", "", [], "UnknownObject"),
        ("/Nothing", PROPERTIES, "Get", "ss", [BUS_ITEM, "Value"], "UnknownObject"),
        ("/State/Below", BUS_ITEM, "GetValue", "", [], "UnknownObject"),
        ("/State", "com.example.Other", "GetValue", "", [], "UnknownInterface"),
        ("/State", BUS_ITEM, "GetNothing", "", [], "UnknownMethod"),
        ("/State", "", "GetNothing", "", [], "UnknownMethod"),
        ("/State", BUS_ITEM, "GetItems", "", [], "UnknownMethod"),
        ("/Dc", BUS_ITEM, "SetValue", "i", [1], "UnknownMethod"),
        ("/State", BUS_ITEM, "GetValue", "s", ["x"], "InvalidArgs"),
        ("/Mode", BUS_ITEM, "SetValue", "i", [1], "InvalidArgs"),
        ("/Mode", BUS_ITEM, "SetValue", "", [], "InvalidArgs"),
        ("/State", PROPERTIES, "Get", "s", ["x"], "InvalidArgs"),
        ("/State", PROPERTIES, "Get", "ss", [BUS_ITEM, "Nothing"], "UnknownProperty"),
        ("/State", PROPERTIES, "Get", "ss", [BUS_ITEM, "Min"], "UnknownProperty"),
        ("/State", PROPERTIES, "Get", "ss", [PEER, "Value"], "UnknownProperty"),
        ("/State", PROPERTIES, "Get", "ss", ["com.example.Other", "Value"], "UnknownInterface"),
        ("/State", PROPERTIES, "GetAll", "s", ["com.example.Other"], "UnknownInterface"),
        ("/Dc", PROPERTIES, "Get", "ss", [BUS_ITEM, "Value"], "UnknownProperty"),
    ],
)
async def test_unknown_things_get_the_standard_error(
    bench: Any, path: str, interface: str, member: str, signature: str, body: list[object], error: str
) -> None:
    with pytest.raises(CallFailed) as failure:
        await bench.call(path, interface, member, signature, body)
    assert failure.value.name == ERROR + error


async def test_an_interface_may_be_left_out(bench: Any) -> None:
    (value,) = await bench.call("/State", "", "GetValue")
    assert value.value == 5
    (value,) = await bench.call("/State", PROPERTIES, "Get", "ss", ["", "Text"])
    assert value.value == "Float"


async def test_peer_answers_everywhere(bench: Any) -> None:
    for path in ("/", "/Dc", "/State", "/Nothing"):
        assert await bench.call(path, PEER, "Ping") == []


async def test_get_value_waits_for_what_was_never_read(bench: Any) -> None:
    fetched = 0

    async def fetch() -> None:
        nonlocal fetched
        fetched += 1
        await asyncio.sleep(0)
        bench.tree.update({"/Slow": 7})

    bench.tree.add(Leaf("/Slow", Kind.INTEGER), fetch=fetch)
    items = await bench.item("/", "GetItems")
    assert items["/Slow"]["Value"].value == []
    assert await bench.item("/Slow", "GetText") == "---"
    assert fetched == 0
    answers = await asyncio.gather(*(bench.item("/Slow", "GetValue") for _ in range(20)))
    assert [answer.value for answer in answers] == [7] * 20
    assert fetched == 1
    assert (await bench.property("/Slow", "Value")).value.value == 7
    assert fetched == 1


async def test_a_fetch_that_fails_or_hangs_shows_what_is_there(bench: Any) -> None:
    async def broken() -> None:
        raise RuntimeError("a bug")

    async def stuck() -> None:
        await bench.never.wait()

    bench.tree.add(Leaf("/Broken", Kind.INTEGER), fetch=broken)
    bench.tree.add(Leaf("/Stuck", Kind.INTEGER), fetch=stuck)
    assert (await bench.item("/Broken", "GetValue")).value == []
    waiting = asyncio.create_task(bench.property("/Stuck", "Value"))
    # Nobody else waits for that one.
    assert (await bench.item("/State", "GetValue")).value == 5
    assert not waiting.done()
    assert (await waiting).value.value == []
