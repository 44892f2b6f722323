"""The commands against the real service with a simulated inverter behind it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import signal
import sys
import tomllib
from pathlib import Path

import pytest

from mk2dbus.simulator import Simulator
from system.conftest import Outcome, Service, mk2dbus

ABSORPTION, FLOAT, FLAGS, CAPACITY = 2, 3, 0, 64
"""Ids of settings."""

DISABLE_CHARGER = 1 << 6


class Command:
    """``mk2dbus`` on the bus of the service."""

    def __init__(self, service: Service) -> None:
        self._bus = ("--bus", service.address)

    async def __call__(self, command: str, *words: str) -> Outcome:
        outcome = await mk2dbus(command, *self._bus, *words)
        assert "Traceback" not in outcome.err
        return outcome


@pytest.fixture
async def run(service: Service) -> Command:
    await service.until("/Devices/0/Settings/ReadProgress", 100.0)
    return Command(service)


def read(file: Path) -> str:
    return file.read_text()


def write(file: Path, text: str) -> None:
    file.write_text(text)


def stored(simulator: Simulator) -> dict[int, int]:
    return {id: setting.stored for id, setting in simulator.device.settings.items()}


def writes(simulator: Simulator) -> dict[int, int]:
    """How often each setting was stored, where it was."""
    return {id: setting.writes for id, setting in simulator.device.settings.items() if setting.writes}


async def test_backup_change_restore(simulator: Simulator, run: Command, tmp_path: Path) -> None:
    file = str(tmp_path / "backup.toml")
    fresh = stored(simulator)
    saved = await run("backup", file)
    assert (saved.code, saved.err) == (0, "")
    (device,) = tomllib.loads(read(Path(file)))["device"]
    assert device["settings"]["AbsorptionVoltage"] == {"value": 57.6, "unit": "V", "default": 57.6}
    assert device["flags"]["DisableCharger"] == {"value": 0, "text": "no", "default": 0}
    assert (await run("diff", file)).code == 0

    changed = await run("set", "AbsorptionVoltage=57", "DisableCharger=yes", "BatteryCapacity", "200Ah")
    assert (changed.code, changed.err) == (0, "")
    assert simulator.device.settings[ABSORPTION].stored == 5700
    assert simulator.device.settings[FLAGS].stored & DISABLE_CHARGER
    differing = await run("diff", file)
    assert differing.code == 1
    assert len(differing.out.splitlines()) == 6

    before = writes(simulator)
    restored = await run("restore", "--yes", file)
    assert (restored.code, "failed" in restored.err) == (0, False)
    assert "3 values written and read back" in restored.out
    assert stored(simulator) == fresh
    # Each cell was written once, and no other.
    assert {id: count - before.get(id, 0) for id, count in writes(simulator).items()} == {
        ABSORPTION: 1,
        FLAGS: 1,
        CAPACITY: 1,
    }
    assert (await run("diff", file)).code == 0
    again = await run("restore", file)
    assert (again.code, again.out) == (0, "nothing differs\n")


async def test_every_setting_comes_back(simulator: Simulator, run: Command, tmp_path: Path) -> None:
    """All writable numbers moved, from defaults to something else and back, in one restore each."""
    defaults, moved = str(tmp_path / "defaults.json"), tmp_path / "moved.json"
    await run("backup", defaults)
    fresh = stored(simulator)
    record = json.loads(read(Path(defaults)))
    listed = json.loads((await run("list", "--json", "/Devices/0/Settings")).out)
    limits = {item["path"].rpartition("/")[2]: item for item in listed}
    for name, saved in record["device"][0]["settings"].items():
        if saved.get("unit") in ("A", "%", "min", "ms"):
            saved["value"] = limits[name]["max" if saved["value"] != limits[name]["max"] else "min"]
    write(moved, json.dumps(record))
    there = await run("restore", str(moved))
    assert there.code == 0, there.err
    assert (await run("diff", str(moved))).code == 0
    assert sum(value != fresh[id] for id, value in stored(simulator).items()) > 20
    back = await run("restore", defaults)
    assert back.code == 0, back.err
    assert stored(simulator) == fresh


async def test_dry_run_and_ram_only_store_nothing(simulator: Simulator, run: Command) -> None:
    shown = await run("set", "--dry-run", "AbsorptionVoltage=57", "DisableCharger=yes")
    assert (shown.code, shown.err) == (0, "")
    assert "57.60V → 57.00V" in shown.out
    assert simulator.device.settings[ABSORPTION].ram == 5760
    # 5700 as the device gets it, low byte first.
    assert "44 16" in shown.out
    done = await run("set", "--ram-only", "AbsorptionVoltage=57", "DisableCharger=yes")
    assert (done.code, done.err) == (0, "")
    assert simulator.device.settings[ABSORPTION].ram == 5700
    assert simulator.device.settings[FLAGS].ram & DISABLE_CHARGER
    assert writes(simulator) == {}
    assert (await run("get", "RamOnly/AbsorptionVoltage")).out == "57.00V\n"
    listed = await run("list", "--changed", "--csv")
    rows = {row["path"]: row["value"] for row in csv.DictReader(io.StringIO(listed.out))}
    assert rows["/Devices/0/RamOnly/AbsorptionVoltage"] == "57.0"


async def test_ram_variables(simulator: Simulator, run: Command) -> None:
    listed = json.loads((await run("list", "--json", "/Devices/0/RamVars")).out)
    values = {item["path"].rpartition("/")[2]: item["value"] for item in listed}
    assert None not in values.values()
    assert values["UBat"] == pytest.approx(simulator.plant.battery.voltage_v, abs=0.1)
    read = await run("read-ram", "4")
    assert float(read.out.split()[3]) == pytest.approx(simulator.plant.battery.voltage_v, abs=0.1)
    assert (await run("read-ram", "300")).code == 1
    assert (await run("read-ram", "4", "--device", "7")).code == 1
    assert (await run("write-ram", "4", "12")).code == 1


async def test_ctrl_c_at_the_question(simulator: Simulator, service: Service, run: Command) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mk2dbus", "set", "--bus", service.address, "AbsorptionVoltage=57"),
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert b"57.60V" in await process.stdout.readline()
        await process.stdout.readexactly(len("Write? "))
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    os.close(ours)
    assert (process.returncode, errors) == (130, b"")
    assert writes(simulator) == {}
