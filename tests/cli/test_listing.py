"""``list`` and ``get``."""

from __future__ import annotations

import csv
import io
import json

import pytest

from cli.conftest import House, Shell, setting


def paths(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines if line.startswith("/")]


async def test_groups(house: House, sh: Shell) -> None:
    listed = await sh("list")
    assert (listed.code, listed.err) == (0, "")
    assert sorted(paths(listed.lines)) == sorted(house.tree)
    titles = [line for line in listed.lines[1:] if line and not line.startswith("/")]
    assert titles == [
        "System",
        "Device 0: identity and measurements",
        "Device 0: settings",
        "Device 0: flags",
        "Device 0: RAM variables",
        "Device 0: settings and flags in RAM only (what was last written)",
    ]
    below = {
        title: paths(listed.lines[listed.lines.index(title) :])[: 3 if "flags" in title else 1]
        for title in ("Device 0: flags", "Device 0: RAM variables")
    }
    assert below["Device 0: flags"] == [setting("DisableAes"), setting("DisableCharger"), setting("Leader")]
    # Numbers before names, and read although nobody asked before.
    assert below["Device 0: RAM variables"] == ["/Devices/0/RamVars/128"]
    assert any(line.split()[:2] == ["/Devices/0/RamVars/UBat", "50.25V"] for line in listed.lines)


async def test_ram_variables_are_read_only_when_they_are_shown(house: House, sh: Shell) -> None:
    await sh("list", "/Dc")
    await sh("list", "--changed")
    assert house.reads == []
    await sh("list", "*/UBat")
    assert house.reads == ["/Devices/0/RamVars/UBat"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/Dc"], ["/Dc/0/Voltage"]),
        (["/Dc/*"], ["/Dc/0/Voltage"]),
        (["Voltage"], ["/Dc/0/Voltage"]),
        (["Float"], [setting("Float"), "/Devices/0/RamOnly/Float"]),
        (["Settings/Fl*t", "/Mode"], ["/Mode", setting("Float")]),
        (["[LF]*", "--writable", "--changed"], []),
        (["--writable", "D*"], [setting("Delay"), setting("DisableAes"), setting("DisableCharger")]),
    ],
)
async def test_globs(house: House, sh: Shell, words: list[str], expected: list[str]) -> None:
    listed = await sh("list", *words)
    assert (listed.code, listed.err) == (0, "")
    assert paths(listed.lines) == expected


async def test_a_glob_that_fits_nothing(house: House, sh: Shell) -> None:
    listed = await sh("list", "/Mode", "/Nothing*")
    assert (listed.code, listed.out) == (1, "")
    assert listed.err == "mk2dbus: nothing fits '/Nothing*'\n"


async def test_changed_and_writable(house: House, sh: Shell) -> None:
    assert paths((await sh("list", "--changed")).lines) == []
    house.put(Absorption=57.0, Leader=1, DisableAes=1)
    assert paths((await sh("list", "--changed")).lines) == [
        setting("Absorption"),
        setting("DisableAes"),
        setting("Leader"),
    ]
    assert paths((await sh("list", "--changed", "--writable")).lines) == [
        setting("Absorption"),
        setting("DisableAes"),
    ]


async def test_known(house: House, sh: Shell) -> None:
    assert paths((await sh("list", "Absorption")).lines) == [
        setting("Absorption"),
        "/Devices/0/RamOnly/Absorption",
    ]
    assert paths((await sh("list", "Absorption", "--known")).lines) == [setting("Absorption")]


async def test_get_of_what_is_none(house: House, sh: Shell) -> None:
    """What is no path would make the bus end the connection."""
    assert (await sh("get", "/Dc/0/Voltage/")).out == "50.50V\n"
    for word, said in (
        ("/Dc//0", "'/Dc//0' is no path"),
        ("/Dc/0 ", "'/Dc/0 ' is no path"),
        ("/Nothing", "there is no object /Nothing"),
    ):
        got = await sh("get", word)
        assert (got.code, got.err) == (1, f"mk2dbus: {said}\n")
    assert (await sh("set", "/Mode/x y", "3")).err == "mk2dbus: '/Mode/x y' is no path\n"


async def test_json(house: House, sh: Shell) -> None:
    listed = await sh("list", "--json")
    records = {record["path"]: record for record in json.loads(listed.out)}
    assert set(records) == set(house.tree)
    assert records[setting("Absorption")] == {
        "path": setting("Absorption"),
        "value": 57.6,
        "text": "57.60V",
        "unit": "V",
        "min": 48.0,
        "max": 64.0,
        "default": 57.6,
        "writable": True,
        "description": f"what {setting('Absorption')} is",
    }
    assert records[setting("NotApplicable")]["value"] is None
    assert records["/Devices/0/Assistants"]["value"] == [5, 6]
    assert records["/Mode"]["value"] == 3


async def test_csv(house: House, sh: Shell) -> None:
    listed = await sh("list", "--csv")
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(listed.out))}
    assert set(rows) == set(house.tree)
    assert rows[setting("Absorption")] == {
        "path": setting("Absorption"),
        "value": "57.6",
        "text": "57.60V",
        "unit": "V",
        "min": "48.0",
        "max": "64.0",
        "default": "57.6",
        "writable": "yes",
        "description": f"what {setting('Absorption')} is",
    }
    assert rows[setting("NotApplicable")]["value"] == ""
    assert rows["/Devices/0/Assistants"]["value"] == "5 6"


async def test_settings_still_being_read_are_told(house: House, sh: Shell) -> None:
    house.put(ReadProgress=45)
    listed = await sh("list")
    assert listed.code == 0
    assert listed.err == "mk2dbus: 45% of the settings of device 0 are read so far\n"


@pytest.mark.parametrize(
    ("words", "code", "lines", "said"),
    [
        (["Absorption"], 0, ["57.60V"], ""),
        (["absorption"], 0, ["57.60V"], ""),
        (["RamOnly/Absorption"], 0, ["---"], ""),
        (["UBat"], 0, ["50.25V"], ""),
        (["0/RamVars/128"], 0, ["7"], ""),
        (["Mode", "/Dc/0/Voltage"], 0, ["/Mode On", "/Dc/0/Voltage 50.50V"], ""),
        (["Absorbtion", "Mode"], 1, ["/Mode On"], "there is no object Absorbtion; did you mean Absorption?"),
        (["Dc"], 1, [], "there is no object Dc"),
        (["/Mod"], 1, [], "there is no object /Mod"),
    ],
)
async def test_get(house: House, sh: Shell, words: list[str], code: int, lines: list[str], said: str) -> None:
    got = await sh("get", *words)
    assert (got.code, got.lines) == (code, lines)
    assert said in got.err


async def test_a_name_that_two_devices_have(house: House, sh: Shell) -> None:
    house.add_device(1)
    got = await sh("get", "Absorption")
    assert (got.code, got.out) == (1, "")
    assert f"ambiguous: {setting('Absorption')}, {setting('Absorption', 1)}" in got.err
    assert (await sh("get", "1/Settings/Absorption")).out == "57.60V\n"
