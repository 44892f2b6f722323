"""Writing through both doors: SetValue and Properties.Set. Whatever is sent, there is a defined answer."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mk2dbus.bus.errors import CallFailed, ConnectionLost
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM, ERROR_PREFIX, PROPERTIES
from mk2dbus.items import Kind, Leaf

MODE = "/Mode"
REAL = "/Devices/0/Settings/Absorption"
WHOLE = "/Devices/0/Settings/Count"
TEXT = "/CustomName"


async def properties_set(bench: Any, path: str, value: Any, name: str = "Value") -> str:
    """Error name without its prefix, empty when done."""
    try:
        assert await bench.call(path, PROPERTIES, "Set", "ssv", [BUS_ITEM, name, value]) == []
    except CallFailed as error:
        return error.name.removeprefix(ERROR_PREFIX)
    return ""


def nested(depth: int) -> Any:
    value = variant("i", 3)
    for _ in range(depth):
        value = variant("v", value)
    return value


GOOD = [
    (MODE, variant("i", 4), 4),
    (MODE, variant("y", 4), 4),
    (MODE, variant("n", 4), 4),
    (MODE, variant("q", 4), 4),
    (MODE, variant("u", 4), 4),
    (MODE, variant("x", 4), 4),
    (MODE, variant("t", 4), 4),
    (MODE, variant("d", 4.0), 4),
    (MODE, variant("b", True), 1),
    (REAL, variant("d", 24.5), 24.5),
    (REAL, variant("i", 25), 25.0),
    (REAL, variant("d", 24.0), 24.0),
    (REAL, variant("d", 32.0), 32.0),
    (WHOLE, variant("d", 10.0), 10),
    (WHOLE, variant("b", False), 0),
    (TEXT, variant("s", "attic"), "attic"),
    (TEXT, variant("s", ""), ""),
]

BAD = [
    ("/State", variant("i", 5), 1, "ReadOnly"),
    ("/State", variant("s", "x"), 1, "ReadOnly"),
    ("/State", variant("a{sv}", {}), 1, "ReadOnly"),
    ("/Orphan", variant("i", 1), 1, "ReadOnly"),
    (MODE, variant("i", 2), 1, "InvalidValue"),
    (MODE, variant("d", 3.5), 1, "InvalidValue"),
    (MODE, variant("s", "3"), 1, "InvalidValue"),
    (MODE, variant("d", math.nan), 1, "InvalidValue"),
    (MODE, variant("d", math.inf), 1, "InvalidValue"),
    (MODE, variant("d", 1e300), 1, "OutOfRange"),
    (MODE, variant("t", 2**64 - 1), 1, "OutOfRange"),
    (MODE, variant("x", -(2**63)), 1, "OutOfRange"),
    (MODE, variant("ai", []), 1, "InvalidValue"),
    (MODE, variant("ai", [3]), 1, "InvalidValue"),
    (MODE, variant("as", ["x"]), 1, "InvalidValue"),
    (MODE, variant("ay", b"x"), 1, "InvalidValue"),
    (MODE, variant("a{sv}", {"x": variant("i", 1)}), 1, "InvalidValue"),
    (MODE, variant("(ii)", [1, 2]), 1, "InvalidValue"),
    (MODE, variant("o", "/x"), 1, "InvalidValue"),
    (MODE, variant("g", "ii"), 1, "InvalidValue"),
    (MODE, nested(2), 1, "InvalidValue"),
    (MODE, nested(30), 1, "InvalidValue"),
    (REAL, variant("d", 23.999), 1, "OutOfRange"),
    (REAL, variant("d", 32.001), 1, "OutOfRange"),
    (REAL, variant("d", -math.inf), 1, "InvalidValue"),
    (REAL, variant("d", 1e300), 1, "OutOfRange"),
    (REAL, variant("s", "28"), 1, "InvalidValue"),
    (WHOLE, variant("d", 3.5), 1, "InvalidValue"),
    (WHOLE, variant("i", 11), 1, "OutOfRange"),
    (WHOLE, variant("i", -1), 1, "OutOfRange"),
    (TEXT, variant("i", 3), 1, "InvalidValue"),
    (TEXT, variant("b", True), 1, "InvalidValue"),
    (TEXT, variant("o", "/x"), 1, "InvalidValue"),
    (TEXT, variant("as", ["x"]), 1, "InvalidValue"),
    ("/Failing/ReadOnly", variant("i", 2), 1, "ReadOnly"),
    ("/Failing/AccessLevelRequired", variant("i", 2), 2, "AccessLevelRequired"),
    ("/Failing/Refused", variant("i", 2), 2, "Refused"),
    ("/Failing/NoReply", variant("i", 2), 2, "NoReply"),
    ("/Failing/Disconnected", variant("i", 2), 2, "Disconnected"),
    ("/Failing/Bug", variant("i", 2), 2, "org.freedesktop.DBus.Error.Failed"),
    ("/Failing/Stuck", variant("i", 2), 2, "NoReply"),
]


@pytest.mark.parametrize(("path", "value", "written"), GOOD)
async def test_good_values_are_written_through_both_doors(
    bench: Any, path: str, value: Any, written: object
) -> None:
    assert await bench.item(path, "SetValue", "v", [value]) == 0
    assert await properties_set(bench, path, value) == ""
    assert await properties_set(bench, path, variant("v", value)) == ""
    assert bench.device == [(path, written)] * 3
    assert all(type(value) is type(written) for _, value in bench.device)
    assert (await bench.item(path, "GetValue")).value == written


@pytest.mark.parametrize(("path", "value", "code", "error"), BAD)
async def test_bad_values_are_answered_through_both_doors(
    bench: Any, path: str, value: Any, code: int, error: str
) -> None:
    before = bench.tree.value(path)
    assert await bench.item(path, "SetValue", "v", [value]) == code
    assert await properties_set(bench, path, value) == error
    assert bench.device == []
    assert bench.tree.value(path) == before


async def test_wrapped_once_is_for_set_only(bench: Any) -> None:
    assert await bench.item(MODE, "SetValue", "v", [nested(1)]) == 1
    assert await properties_set(bench, MODE, nested(1)) == ""


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (REAL, variant("d", 33.0), (REAL, "33 V", "24 to 32 V")),
        (MODE, variant("i", 2), (MODE, "2", "3 (On)")),
        (MODE, variant("s", "on"), (MODE, "'on'", "1 (Charger only)")),
        (MODE, variant("a{sv}", {}), (MODE, "a{sv}")),
        ("/State", variant("i", 1), ("/State", "read-only")),
    ],
)
async def test_the_error_says_why_in_one_line(
    bench: Any, path: str, value: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(CallFailed) as failure:
        await bench.call(path, PROPERTIES, "Set", "ssv", [BUS_ITEM, "Value", value])
    text = str(failure.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Text", "org.freedesktop.DBus.Error.PropertyReadOnly"),
        ("Min", "org.freedesktop.DBus.Error.PropertyReadOnly"),
        ("Nothing", "org.freedesktop.DBus.Error.UnknownProperty"),
    ],
)
async def test_only_value_can_be_set(bench: Any, name: str, error: str) -> None:
    assert await properties_set(bench, REAL, variant("d", 25.0), name) == error


@pytest.mark.parametrize(
    ("path", "code", "written"),
    [
        (REAL, 0, [(REAL, 28.5)]),
        (WHOLE, 0, [(WHOLE, 4)]),
        (MODE, 1, []),
        ("/State", 1, []),
        ("/Failing/Stuck", 2, []),
    ],
)
async def test_set_default(bench: Any, path: str, code: int, written: list[object]) -> None:
    assert await bench.item(path, "SetDefault") == code
    assert bench.device == written


async def test_the_value_it_has_is_passed_on_too(bench: Any) -> None:
    assert await bench.item(MODE, "SetValue", "v", [variant("i", 3)]) == 0
    assert bench.device == [(MODE, 3)]


async def test_writes_begin_in_order_of_arrival(bench: Any) -> None:
    values = [1, 3, 4] * 30
    codes = await asyncio.gather(
        *(bench.item(MODE, "SetValue", "v", [variant("i", value)]) for value in values)
    )
    assert codes == [0] * len(values)
    assert bench.device == [(MODE, value) for value in values]


async def test_a_write_that_hangs_holds_up_nobody_and_does_nothing_more_afterwards(bench: Any) -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(value: int | float | str) -> None:
        try:
            begun.set()
            await go_on.wait()
            bench.tree.update({"/Slow": value})
        finally:
            ended.set()

    bench.tree.add(Leaf("/Slow", Kind.INTEGER, writable=True), 1, write=slow)
    waiting = asyncio.create_task(bench.item("/Slow", "SetValue", "v", [variant("i", 2)]))
    await begun.wait()
    assert (await bench.item("/Slow", "GetValue")).value == 1
    assert await bench.item(MODE, "SetValue", "v", [variant("i", 4)]) == 0
    assert not waiting.done()
    assert not ended.is_set()
    assert await waiting == 2
    assert ended.is_set()
    go_on.set()
    assert (await bench.item("/Slow", "GetValue")).value == 1


async def test_a_bug_in_a_writer_is_logged_once_with_its_traceback(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert await bench.item("/Failing/Bug", "SetValue", "v", [variant("i", 2)]) == 2
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "/Failing/Bug" in record.getMessage()
    assert (await bench.item("/State", "GetValue")).value == 5


async def test_close_lets_a_write_end_and_answers_it(bench: Any) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(value: int | float | str) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        ended.set()

    bench.tree.add(Leaf("/Slow", Kind.INTEGER, writable=True), 1, write=slow)
    waiting = asyncio.create_task(bench.item("/Slow", "SetValue", "v", [variant("i", 2)]))
    await begun.wait()
    await bench.service.close()
    assert ended.is_set()
    assert await waiting == 0


async def test_close_cuts_off_what_never_ends(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mk2dbus.bus.access.CLOSE_BOUND_S", 0.05)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def stuck(value: int | float | str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    bench.tree.add(Leaf("/Slow", Kind.INTEGER, writable=True), 1, write=stuck)
    waiting = asyncio.create_task(bench.item("/Slow", "SetValue", "v", [variant("i", 2)]))
    await begun.wait()
    await bench.service.close()
    assert cancelled.is_set()
    assert await waiting == 2
    with pytest.raises((CallFailed, ConnectionLost)):
        await bench.item("/Slow", "GetValue")


SIMPLE = {
    "y": st.integers(0, 255),
    "b": st.booleans(),
    "n": st.integers(-(2**15), 2**15 - 1),
    "q": st.integers(0, 2**16 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "u": st.integers(0, 2**32 - 1),
    "x": st.integers(-(2**63), 2**63 - 1),
    "t": st.integers(0, 2**64 - 1),
    "d": st.floats(),
    "s": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
}
simple = st.sampled_from(sorted(SIMPLE)).flatmap(
    lambda token: SIMPLE[token].map(lambda value: variant(token, value))
)
variants = st.recursive(
    simple,
    lambda inner: st.one_of(
        inner.map(lambda value: variant("v", value)),
        st.lists(inner, max_size=3).map(lambda values: variant("av", values)),
        st.dictionaries(SIMPLE["s"], inner, max_size=3).map(lambda values: variant("a{sv}", values)),
        inner.map(lambda value: variant("(sv)", ["x", value])),
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from([MODE, REAL, WHOLE, TEXT, "/State", "/Orphan"]), value=variants)
async def test_both_doors_agree_on_any_variant(bench: Any, path: str, value: Any) -> None:
    bench.device.clear()
    wrapped = value.signature == "v"
    code = await bench.item(path, "SetValue", "v", [value])
    error = await properties_set(bench, path, value)
    # Set takes one more variant than SetValue does.
    assert code == (0 if not error else 1) or (wrapped and code == 1)
    assert error in ("", "ReadOnly", "InvalidValue", "OutOfRange")
    kept = bench.tree.value(path)
    for written_path, written in bench.device:
        assert (written_path, type(written)) == (path, type(kept))
        assert not isinstance(written, float) or math.isfinite(written)
