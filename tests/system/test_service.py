"""The whole road: from the simulator's wire to busctl and back."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest
from support.bus import Daemon

from mk2dbus.simulator import Kind, Override, Simulator
from system.conftest import ITEM, Service, call, mk2dbus

ABSORPTION = "/Devices/0/Settings/AbsorptionVoltage"
FLOAT = "/Devices/0/Settings/FloatVoltage"
CHARGER = "/Devices/0/Settings/DisableCharger"


def _stored(simulator: Simulator) -> int:
    return sum(setting.writes for setting in simulator.device.settings.values())


async def test_one_line_says_what_is_there(service: Service, simulator: Simulator) -> None:
    assert service.name == "com.victronenergy.vebus.ttySim"
    assert re.fullmatch(rf"{re.escape(service.name)} on {simulator.port}, \d+ objects", service.line)
    owner = await call("busctl", f"--address={service.address}", "status", service.name)
    assert f"PID={service.process.pid}" in owner.out


async def test_values_are_those_of_the_simulator(service: Service, simulator: Simulator) -> None:
    await service.until("/Ac/NumberOfPhases", 1.0)
    await service.until("/Ac/PowerMeasurementType", 4.0)
    await asyncio.sleep(1)
    unit = simulator.plant.units[0]
    for path, truth, step in (
        ("/Dc/0/Voltage", simulator.plant.battery.voltage_v, 0.1),
        ("/Dc/0/Current", unit.battery_a, 0.2),
        ("/Dc/0/Power", unit.inverter_w, 5),
        ("/Ac/ActiveIn/L1/V", unit.mains_v, 0.01),
        ("/Ac/ActiveIn/P", unit.input_w, 5),
        ("/Ac/Out/P", unit.output_w, 5),
    ):
        assert await service.value(path) == pytest.approx(truth, abs=step), path
    assert await service.get("/State", "Text") == 's "Bulk"'
    assert await service.get("/Dc/0/Voltage") == f"v d {await service.value('/Dc/0/Voltage'):g}"
    assert await service.get("/Mode") == "v i 3"
    assert await service.get("/Ac/ActiveIn/L2/V") == "v ai 0"
    assert await service.get("/Ac/ActiveIn/L2/V", "Text") == 's "---"'


async def test_the_tree_has_every_leaf(service: Service) -> None:
    await service.until("/Devices/0/Settings/ReadProgress", 100.0)
    tree = await call("busctl", f"--address={service.address}", "tree", "--list", service.name)
    paths = tree.out.split()
    for path in ("/", "/Dc", "/Dc/0", "/Dc/0/Voltage", "/Ac/ActiveIn/L3/F", "/AcSensor/8/Phase", ABSORPTION):
        assert path in paths
    listed = await mk2dbus("list", "--bus", service.address)
    assert listed.code == 0
    leaves = [line.split()[0] for line in listed.out.splitlines()[1:] if line.startswith("/")]
    assert len(leaves) > 350
    assert set(leaves) <= set(paths)


async def test_writes_by_every_door(service: Service, simulator: Simulator) -> None:
    await service.until(ABSORPTION, 57.6)
    await service.until(CHARGER, 0.0)
    setting = simulator.device.settings[2]
    assert await service.set_value(ABSORPTION, "d", "56.5") == 0
    assert (setting.stored, setting.writes) == (5650, 1)
    assert await service.set_value(ABSORPTION, "d", "56.5") == 0
    assert setting.writes == 1
    assert (await service.set_property(ABSORPTION, "i", "57")).code == 0
    assert (setting.stored, setting.writes) == (5700, 2)
    sent = await call(
        *("dbus-send", f"--bus={service.address}", "--print-reply=literal", f"--dest={service.name}"),
        *(FLOAT, f"{ITEM}.SetValue", "variant:double:54.2"),
    )
    assert sent.out.split() == ["int32", "0"]
    assert simulator.device.settings[3].stored == 5420
    told = await call(
        *("gdbus", "call", "--address", service.address, "--dest", service.name, "--object-path", CHARGER),
        *("--method", "org.freedesktop.DBus.Properties.Set", ITEM, "Value", "<<int32 1>>"),
    )
    assert told.code == 0, told.err
    assert simulator.device.settings[0].stored & 1 << 6
    done = await mk2dbus("set", ABSORPTION, "56.8", "--bus", service.address)
    assert (done.code, done.err) == (0, "")
    assert "56.80V" in done.out
    assert setting.stored == 5680


async def test_nonsense_is_refused_with_a_reason(service: Service, simulator: Simulator) -> None:
    await service.until(CHARGER, 0.0)
    await service.until("/Mode", 3.0)
    for path, signature, value, error in (
        (ABSORPTION, "double", "64.5", "OutOfRange"),
        (ABSORPTION, "double", "nan", "InvalidValue"),
        (ABSORPTION, "string", "'57'", "InvalidValue"),
        (CHARGER, "double", "0.5", "InvalidValue"),
        ("/Dc/0/Voltage", "double", "50", "ReadOnly"),
        ("/Mode", "int32", "9", "InvalidValue"),
    ):
        to = ("gdbus", "call", "--address", service.address, "--dest", service.name, "--object-path", path)
        set_value = await call(*to, "--method", f"{ITEM}.SetValue", f"<{signature} {value}>")
        assert set_value.out.strip() == "(1,)", set_value
        refused = await call(
            *to, "--method", "org.freedesktop.DBus.Properties.Set", ITEM, "Value", f"<{signature} {value}>"
        )
        assert refused.code == 1
        assert f"{ITEM}.Error.{error}" in refused.err
        assert path in refused.err
    assert _stored(simulator) == 0


async def test_the_device_has_the_last_word(service: Service, simulator: Simulator) -> None:
    await service.until(ABSORPTION, 57.6)
    simulator.device.overrides.append(Override(0x37, execute=False, reply=(b"\x9b\x01",), times=1))
    refused = await mk2dbus("set", ABSORPTION, "56", "--bus", service.address)
    assert refused.code == 1
    assert "access level 1" in refused.err
    simulator.device.overrides.append(Override(0x37, execute=False, reply=(b"\x80\x00",), times=1))
    assert await service.set_value(ABSORPTION, "d", "56") == 2
    assert await service.value(ABSORPTION) == 57.6
    assert _stored(simulator) == 0


async def test_mode_is_commanded_while_the_service_runs(service: Service, simulator: Simulator) -> None:
    await service.until("/ModeIsAdjustable", 1.0)
    assert simulator.log.of(Kind.PANEL) == []
    assert (await service.set_property("/Mode", "i", "1")).code == 0
    assert await service.get("/Mode", "Text") == 's "Charger only"'
    for _ in range(200):
        if len(simulator.log.of(Kind.PANEL)) >= 3:
            break
        await asyncio.sleep(0.1)
    assert len(simulator.log.of(Kind.PANEL)) >= 3
    assert {event.data[0] for event in simulator.log.of(Kind.PANEL)} == {1}
    assert await service.stop() == 0
    count = len(simulator.log.of(Kind.PANEL))
    await asyncio.sleep(1.5)
    assert len(simulator.log.of(Kind.PANEL)) == count
    assert simulator.device.limits_a  # the system is as it was last told


async def test_a_pulled_cable(service: Service, simulator: Simulator) -> None:
    await service.until(ABSORPTION, 57.6)
    simulator.unplug()
    await service.until("/Connected", 0.0, 5)
    assert await service.value("/Dc/0/Voltage") is None
    assert await service.value(ABSORPTION) is None
    assert await service.set_value(ABSORPTION, "d", "56") == 2
    refused = await mk2dbus("set", ABSORPTION, "56", "--bus", service.address)
    assert refused.code == 1
    assert "not connected" in refused.err
    simulator.plug()
    await service.until("/Connected", 1.0)
    await service.until(ABSORPTION, 57.6)
    await service.until("/Dc/0/Voltage", ...)
    assert service.log.count("WARNING") <= 2, service.log


async def test_the_bus_restarts(service: Service, dbus_daemon: Daemon) -> None:
    await service.until("/State", ...)
    dbus_daemon.kill()
    dbus_daemon.start()
    await service.until("/Dc/0/Voltage", ..., 10)
    await service.until("/Connected", 1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_clean_stop(service: Service, number: signal.Signals, simulator: Simulator) -> None:
    await service.until("/State", ...)
    assert await service.stop(number) == 0
    names = await call("busctl", f"--address={service.address}", "list", "--acquired")
    assert service.name not in names.out
    assert simulator.log.of(Kind.PANEL) == []


async def test_what_is_told_to_the_service_is_kept(service: Service, simulator: Simulator) -> None:
    assert await service.set_value("/CustomName", "s", "Galley") == 0
    await service.stop()
    await service.start("--tty", str(simulator.port), "--device-instance", "12")
    assert await service.value("/CustomName") == "Galley"
    assert await service.get("/DeviceInstance") == "v i 12"


async def test_read_only(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    service = Service(dbus_daemon.address, tmp_path)
    await service.start("--tty", str(simulator.port), "--read-only", "--name", "looking")
    assert service.name == "com.victronenergy.vebus.looking"
    await service.until(ABSORPTION, 57.6)
    await service.until("/Mode", 3.0)
    for path, value in ((ABSORPTION, "56"), ("/Mode", "1"), ("/CustomName", "x")):
        refused = await mk2dbus("set", path, value, "--bus", service.address)
        assert refused.code == 1
        assert "--read-only" in refused.err
    assert _stored(simulator) == 0
    assert simulator.log.of(Kind.PANEL) == []
    assert await service.stop() == 0


async def test_at_line_speed(dbus_daemon: Daemon, tmp_path: Path) -> None:
    """The real 2400 baud once: first values soon, writes while the settings are still being read."""
    service = Service(dbus_daemon.address, tmp_path)
    async with Simulator("multiplus2", link=tmp_path / "ttySim") as simulator:
        await service.start("--tty", str(simulator.port))
        await service.until("/Dc/0/Voltage", ...)
        await service.until(ABSORPTION, 57.6)
        assert await service.set_value(ABSORPTION, "d", "56.5") == 0
        assert simulator.device.settings[2].writes == 1
        progress = await service.value("/Devices/0/Settings/ReadProgress")
        assert isinstance(progress, float)
        assert progress < 100
        assert await service.stop() == 0
        assert simulator.log.of(Kind.PANEL) == simulator.log.of(Kind.GARBAGE) == []


async def test_the_built_in_simulator(dbus_daemon: Daemon, tmp_path: Path) -> None:
    service = Service(dbus_daemon.address, tmp_path)
    await service.start("--simulate")
    assert service.name == "com.victronenergy.vebus.sim0"
    await service.until("/Dc/0/Voltage", ...)
    assert await service.stop() == 0
    assert "Traceback" not in service.log


async def test_debug_shows_the_frames(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    service = Service(dbus_daemon.address, tmp_path)
    await service.start("--tty", str(simulator.port), "--log-level", "debug")
    await service.until("/Dc/0/Voltage", ...)
    assert "→ 02 FF 56 A9" in service.log
    assert "← 02 FF 53 AC" in service.log
    assert await service.stop() == 0


async def test_quiet_when_all_is_well(service: Service) -> None:
    await service.until("/ModeIsAdjustable", 1.0)
    lines = service.log.splitlines()
    assert len(lines) <= 3, lines
    assert "connected: MultiPlus-II 48/3000/35-50 120V" in service.log


async def test_monitor_prints_changes(service: Service, simulator: Simulator) -> None:
    await service.until("/State", ...)
    monitor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mk2dbus", "monitor", "--bus", service.address),
        stdout=asyncio.subprocess.PIPE,
    )
    assert monitor.stdout is not None
    try:
        async with asyncio.timeout(20):
            seen = ""
            while "/Dc/0/Voltage" not in seen:
                seen = (await monitor.stdout.readline()).decode()
            simulator.plant.mains_voltage = 0
            while seen.split()[:2] != ["/State", "Inverting"]:
                seen = (await monitor.stdout.readline()).decode()
    finally:
        monitor.terminate()
        await monitor.wait()
    assert monitor.returncode == 0
