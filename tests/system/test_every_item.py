"""Every item of the simulator through both doors, and what people did with older libraries done with ours."""

from __future__ import annotations

from typing import Any

import pytest
from support.bus import Daemon

from mk2dbus.bus.connection import Connection
from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.library import variant
from mk2dbus.simulator import Simulator
from system.conftest import ITEM, Service, mk2dbus
from system.test_commands import stored, writes

PROPERTIES = "org.freedesktop.DBus.Properties"
SETTINGS = "/Devices/0/Settings"


async def test_bad_values_at_every_item_and_door(service: Service, simulator: Simulator) -> None:
    """Door × item × bad value: always an answer, never a change."""
    await service.until(f"{SETTINGS}/ReadProgress", 100.0)
    before = stored(simulator)
    client = await Connection.open(service.address)
    try:
        (items,) = await client.call(service.name, "/", ITEM, "GetItems")
        assert len(items) > 500
        asked = 0
        for path in items:
            (properties,) = await client.call(service.name, path, PROPERTIES, "GetAll", "s", [ITEM])
            writeable = properties["Writeable"].value
            text = path == "/CustomName"
            bad: list[tuple[Any, str]] = [
                (variant("d", float("nan")), "InvalidValue"),
                (variant("d", float("inf")), "InvalidValue"),
                (variant("ai", [1]), "InvalidValue"),
                (variant("a{sv}", {}), "InvalidValue"),
                (variant("v", variant("v", variant("d", 1.0))), "InvalidValue"),
                (variant("i", 1) if text else variant("s", "1"), "InvalidValue"),
            ]
            if "Max" in properties:
                beyond = float(properties["Max"].value.value) * 2 + 1e6
                bad += [(variant("d", beyond), "OutOfRange"), (variant("d", 1e300), "OutOfRange")]
            for value, error in bad:
                (code,) = await client.call(service.name, path, ITEM, "SetValue", "v", [value])
                assert code == 1, (path, value)
                with pytest.raises(CallFailed) as refused:
                    await client.call(service.name, path, PROPERTIES, "Set", "ssv", [ITEM, "Value", value])
                expected = error if writeable else "ReadOnly"
                assert refused.value.name == f"{ITEM}.Error.{expected}", (path, value)
                assert path in str(refused.value)
                asked += 2
    finally:
        client.close()
    assert asked > 6000
    assert stored(simulator) == before
    assert writes(simulator) == {}


async def test_what_the_examples_of_older_libraries_do(service: Service, simulator: Simulator) -> None:
    """List; write RAM variables, settings and flags, stored and in RAM only: with ours, and with busctl."""
    await service.until(f"{SETTINGS}/ReadProgress", 100.0)
    bus = ("--bus", service.address)
    device = simulator.device
    word = device.settings[0]

    async def ours(*words: str) -> None:
        outcome = await mk2dbus("set", *bus, *words)
        assert outcome.code == 0, outcome.err

    async def busctl(path: str, signature: str, value: str) -> None:
        assert (await service.set_property(path, signature, value)).code == 0

    listed = await mk2dbus("list", *bus)
    for name in ("AbsorptionVoltage", "DisableCharger", "UMainsRms"):
        assert name in listed.out

    await ours("AbsorptionVoltage", "57.1")
    assert (device.settings[2].stored, device.settings[2].ram) == (5710, 5710)
    await busctl(f"{SETTINGS}/AbsorptionVoltage", "d", "57.2")
    assert (device.settings[2].stored, device.settings[2].ram) == (5720, 5720)

    await ours("--ram-only", "AbsorptionVoltage", "56.1")
    assert (device.settings[2].stored, device.settings[2].ram) == (5720, 5610)
    await busctl("/Devices/0/RamOnly/AbsorptionVoltage", "d", "56.2")
    assert (device.settings[2].stored, device.settings[2].ram) == (5720, 5620)

    await ours("DisableCharger", "yes")
    assert word.stored >> 6 & 1
    await busctl(f"{SETTINGS}/DisableCharger", "i", "0")
    assert not word.stored >> 6 & 1
    await busctl(f"{SETTINGS}/DisableCharger", "b", "true")
    await ours("DisableCharger", "no")
    assert not word.stored >> 6 & 1

    await ours("--ram-only", "WeakAcInput", "1")
    assert (word.stored >> 14 & 1, word.ram >> 14 & 1) == (0, 1)
    await busctl("/Devices/0/RamOnly/WeakAcInput", "i", "0")
    assert (word.stored >> 14 & 1, word.ram >> 14 & 1) == (0, 0)

    assert (await mk2dbus("set", *bus, "BatteryCapacity", "200")).code == 0
    device.settings[64].ram = 200  # in effect, as after a reset
    written = await mk2dbus("write-ram", *bus, "13", "0.5")
    assert written.code == 0, written.err
    assert device.ram_value(13) == pytest.approx(0.5, abs=0.02)
    await busctl("/Devices/0/RamVars/ChargeState", "d", "0.75")
    assert device.ram_value(13) == pytest.approx(0.75, abs=0.02)


async def test_a_backup_goes_onto_a_new_device(
    service: Service, simulator: Simulator, dbus_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await service.until(f"{SETTINGS}/ReadProgress", 100.0)
    folder = tmp_path_factory.mktemp("new")
    file = str(folder / "backup.toml")
    changed = await mk2dbus(
        *("set", "--bus", service.address, "AbsorptionVoltage=57", "FloatVoltage=54.5", "DisableAes=no"),
        *("SocStartInvert=30", "SocStopInvert=20", "ChargeCurrent=20", "VirtualSwitchUsage=2"),
    )
    assert changed.code == 0, changed.err
    assert (await mk2dbus("backup", "--bus", service.address, file)).code == 0
    wanted = stored(simulator)
    async with Simulator("multiplus2", baudrate=0, latency_ms=2, link=folder / "ttyNew") as fresh:
        other = Service(dbus_daemon.address, folder)
        await other.start("--tty", str(fresh.port))
        await other.until(f"{SETTINGS}/ReadProgress", 100.0)
        assert stored(fresh) != wanted
        restored = await mk2dbus(
            "restore", "--yes", "--bus", other.address, "--service", other.name, file, limit_s=60
        )
        assert restored.code == 0, restored.err
        assert stored(fresh) == wanted
        assert sum(writes(fresh).values()) == 7
        assert await other.stop() == 0
