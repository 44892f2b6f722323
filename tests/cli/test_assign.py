"""``set``, ``read-ram`` and ``write-ram``."""

from __future__ import annotations

import asyncio

import pytest
from support.bus import Daemon

from cli.conftest import House, Shell, Terminal, serving, setting
from mk2dbus.items import Disconnected, NoReply

RAM_ONLY = "/Devices/0/RamOnly/Absorption"


@pytest.mark.parametrize(
    ("words", "writes", "lines"),
    [
        (["Absorption", "57"], [(setting("Absorption"), 57.0)], ["57.60V → 57.00V"]),
        (["Absorption=57"], [(setting("Absorption"), 57.0)], ["57.60V → 57.00V"]),
        (["Absorption=57V"], [(setting("Absorption"), 57.0)], ["57.60V → 57.00V"]),
        (["Absorption", "57.05 v"], [(setting("Absorption"), 57.05)], ["57.60V → 57.05V"]),
        (["/Mode", "off"], [("/Mode", 4)], ["On → Off"]),
        (["Mode", "CHARGER ONLY"], [("/Mode", 1)], ["On → Charger only"]),
        (["Mode", "0x4"], [("/Mode", 4)], ["On → Off"]),
        (["DisableCharger=yes"], [(setting("DisableCharger"), 1)], ["no → yes"]),
        (["DisableCharger", "on"], [(setting("DisableCharger"), 1)], ["no → yes"]),
        (["Curve", "adaptive"], [(setting("Curve"), 2)], ["Adaptive+BatterySafe → Adaptive"]),
        (["CustomName", "a=b"], [("/CustomName", "a=b")], [" → a=b"]),
        (["CustomName=a=b"], [("/CustomName", "a=b")], [" → a=b"]),
        (["CustomName", "default"], [("/CustomName", "default")], [" → default"]),
        (["Absorption", "57", "Mode=4"], [(setting("Absorption"), 57.0), ("/Mode", 4)], ["57.00V", "Off"]),
        (["/Mode", "4", "/Mode", "3"], [("/Mode", 4), ("/Mode", 3)], ["On → Off", "Off → On"]),
        (["RamOnly/Absorption", "57"], [(RAM_ONLY, 57.0)], ["57.60V (stored) → 57.00V"]),
        (["--ram-only", "Absorption=57"], [(RAM_ONLY, 57.0)], ["57.60V (stored) → 57.00V"]),
        (["--ram-only", setting("Absorption"), "57"], [(RAM_ONLY, 57.0)], ["57.60V (stored) → 57.00V"]),
        (["--yes", "Float", "default"], [(setting("Float"), 55.2)], ["54.00V → 55.20V"]),
    ],
)
async def test_set(
    house: House, sh: Shell, words: list[str], writes: list[tuple[str, float]], lines: list[str]
) -> None:
    house.put(Float=54.0)
    done = await sh("set", *words)
    assert (done.code, done.err) == (0, "")
    assert house.writes == writes
    assert len(done.lines) == len(lines)
    for line, text in zip(done.lines, lines, strict=True):
        assert line.endswith(text)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["Absorption"], 2, "pairs"),
        (["Absorption", "57", "Float"], 2, "'Float' is left over"),
        (["Nothing", "1"], 1, "no object Nothing"),
        (["/Nothing", "1"], 1, "/Nothing"),
        (["/Devices", "1"], 1, "/Devices holds no value"),
        (["/Dc", "1"], 1, "/Dc holds no value"),
        (["Voltage", "1"], 1, "/Dc/0/Voltage is read-only"),
        (["Absorption", "99"], 1, "cannot be 99 V; it takes a number from 48 to 64 V"),
        (["Absorption", "nan"], 1, "nan"),
        (["Absorption", "inf"], 1, "inf"),
        (["Absorption", ""], 1, "a number"),
        (["Absorption", "high"], 1, "a number"),
        (["Absorption", "57A"], 1, "a number"),
        (["Mode", "sideways"], 1, "1 (Charger only), 3 (On), 4 (Off)"),
        (["Mode", "2"], 1, "/Mode cannot be 2"),
        (["Mode", "3.5"], 1, "/Mode cannot be 3.5"),
        (["Mode", "default"], 1, "/Mode has no default"),
        (["--ram-only", "Mode", "4"], 1, "neither setting nor flag"),
        (["--ram-only", "Low", "40"], 1, "/Devices/0/RamOnly/Low does not exist"),
        (["Low", "40", "Absorption", "99"], 1, "cannot be 99 V"),
    ],
)
async def test_what_cannot_be_set(house: House, sh: Shell, words: list[str], code: int, said: str) -> None:
    for extra in ([], ["--dry-run"]):
        refused = await sh("set", *extra, *words)
        assert refused.code == code
        assert said in refused.err
        assert refused.err.count("\n") == 1
    assert house.writes == []


async def test_a_failure_in_the_middle(house: House, sh: Shell) -> None:
    house.refuse("Float", NoReply)
    failed = await sh("set", "Absorption=57", "Float=54", "Low=40", "Mode=4")
    assert failed.code == 1
    assert failed.lines == [f"{setting('Absorption')} 57.60V → 57.00V"]
    assert failed.err == (
        f"mk2dbus: {setting('Float')}: says the device (done: {setting('Absorption')}; not tried: "
        f"{setting('Low')}, /Mode)\n"
    )
    assert house.writes == [(setting("Absorption"), 57.0)]


async def test_dry_run(house: House, sh: Shell) -> None:
    shown = await sh("set", "--dry-run", "Absorption=57", "DisableAes=yes", "CustomName=x", "Float=55.2")
    assert (shown.code, shown.err) == (0, "")
    assert shown.lines == [
        f"{setting('Absorption')} 57.60V → 57.00V",
        f"    {setting('Absorption')} = 57.0",
        "    → 07 FF",
        f"{setting('DisableAes')} no → yes",
        f"    {setting('DisableAes')} = 1",
        "    → 07 FF",
        "/CustomName (empty) → x",
        "    nothing is sent to the device",
        f"{setting('Float')} 55.20V (as it is)",
        f"    {setting('Float')} = 55.2",
        "    → 07 FF",
    ]
    house.refuse("Float", Disconnected)
    shown = await sh("set", "--dry-run", "Float=54", "Absorption=57")
    assert shown.code == 1
    assert "says the device" in shown.err
    assert house.writes == []


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("YES", True), ("n", False), ("", False)])
async def test_it_asks_on_a_terminal(
    house: House, sh: Shell, terminal: Terminal, answer: str, written: bool
) -> None:
    terminal.answer(answer)
    done = await sh("set", "Absorption=57", "Mode=off")
    assert done.lines[:2] == [f"{setting('Absorption')} 57.60V → 57.00V", "/Mode On → Off"]
    assert "Write? [y/N] " in done.out
    assert bool(house.writes) is written
    assert done.code == (0 if written else 1)
    assert done.err == ("" if written else "mk2dbus: nothing was written\n")


async def test_yes_does_not_ask(house: House, sh: Shell, terminal: Terminal) -> None:
    assert (await sh("set", "--yes", "Mode=off")).lines == ["/Mode On → Off"]
    assert house.writes == [("/Mode", 4)]


async def test_the_question_can_be_broken_off(house: House, sh: Shell, terminal: Terminal) -> None:
    asking = asyncio.create_task(sh("set", "Mode=off"))
    await asyncio.sleep(0.2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert house.writes == []


async def test_a_service_without_the_raw_interface(dbus_daemon: Daemon, sh: Shell) -> None:
    house = House()
    async with serving(house, dbus_daemon.address, raw=False):
        assert (await sh("set", "Mode=4", "Absorption=57")).code == 0
        for words in (["set", "--dry-run", "Mode=4"], ["read-ram", "1", "2"], ["write-ram", "1", "2"]):
            refused = await sh(*words)
            assert refused.code == 1
            assert refused.err.count("\n") == 1
            assert "has no io.github.mk2dbus.Raw" in refused.err


async def test_read_ram(house: House, sh: Shell) -> None:
    read = await sh("read-ram", "4", "0x80")
    assert (read.code, read.err) == (0, "")
    assert read.lines == ["4      2412   0x096C  24.12", "128    5      0x0005  ---"]
    read = await sh("read-ram", "3-5")
    assert (read.code, len(read.lines), read.err.count("\n")) == (1, 1, 2)
    assert read.err.startswith("mk2dbus: RAM variable 3: device 0 has no such variable\n")
    assert "device 1 has no" in (await sh("read-ram", "4", "--device", "1")).err


async def test_write_ram(house: House, sh: Shell) -> None:
    assert (await sh("write-ram", "4", "25.5")).lines == ["4      2550   0x09F6  25.5"]
    assert house.ram[0, 4] == 2550
    refused = await sh("write-ram", "9", "1")
    assert (refused.code, refused.out) == (1, "")
    assert "no such variable" in refused.err


@pytest.mark.parametrize(("answer", "raw"), [("y", 2550), ("n", 2412)])
async def test_write_ram_asks(house: House, sh: Shell, terminal: Terminal, answer: str, raw: int) -> None:
    terminal.answer(answer)
    done = await sh("write-ram", "4", "25.5")
    assert done.out.startswith("RAM variable 4 of device 0: 24.12 → 25.5\nWrite? [y/N] ")
    assert house.ram[0, 4] == raw


@pytest.mark.parametrize(
    "words",
    [
        ["read-ram"],
        ["read-ram", "x"],
        ["read-ram", "-1"],
        ["read-ram", "1.5"],
        ["read-ram", "65536"],
        ["read-ram", "9-8"],
        ["write-ram", "1"],
        ["write-ram", "1", "x"],
        ["write-ram", "1", "nan"],
        ["write-ram", "1", "1", "2"],
        ["list", "--json", "--csv"],
        ["backup"],
        ["backup", "--wait", "-1", "x"],
        ["backup", "--wait", "nan", "x"],
        ["diff", "a", "b", "c"],
    ],
)
async def test_usage(sh: Shell, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        await sh(*words)
    assert ended.value.code == 2
