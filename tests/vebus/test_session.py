"""The driver against the simulator: what it shows, what it sends, and what it does when things go."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import AsyncExitStack

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.items import Kind
from mk2dbus.simulator import Core, Override
from mk2dbus.simulator import Kind as Event
from mk2dbus.vebus.paths import system_leaves

NOT_TO_BUS = 0x10
STALE_S = 5.0


def _known(run: Driven) -> set[str]:
    """Paths with a value; the line itself is always there."""
    own = ("/Mgmt/Statistics/", "/Interfaces/Mk2/Status/")
    return {path for path in run.tree if run.value(path) is not None and not path.startswith(own)}


def _check_truth(run: Driven) -> None:
    """What is shown is what the simulator has."""
    unit = run.core.plant.units[0]
    for path, truth, step in (
        ("/Ac/ActiveIn/L1/V", unit.mains_v, 0.01),
        ("/Ac/ActiveIn/L1/F", unit.mains_hz, 0.2),
        ("/Ac/ActiveIn/L1/I", unit.mains_a, 0.1),
        ("/Ac/ActiveIn/P", unit.input_w, 5),
        ("/Ac/Out/L1/V", unit.output_v, 0.01),
        ("/Ac/Out/L1/I", unit.output_a, 0.1),
        ("/Ac/Out/P", unit.output_w, 5),
        ("/Dc/0/Current", unit.battery_a, 0.1),
        ("/Dc/0/Voltage", run.core.plant.battery.voltage_v, 0.1),
    ):
        shown = run.value(path)
        assert shown == pytest.approx(truth, abs=step), path


@simulated
async def test_first_values_come_fast_and_are_true() -> None:
    async with driven() as run:
        await run.until_known("/Dc/0/Voltage", 3.0)
        assert run.now <= 3.0
        await asyncio.sleep(5)
        _check_truth(run)
        assert run.value("/Connected") == 1
        assert run.value("/ProductId") == 0x2729
        assert run.value("/FirmwareVersion") == 0x560
        assert run.value("/ProductName") == "MultiPlus-II 48/3000/35-50 120V"
        assert run.value("/Serial") == run.value("/Devices/0/SerialNumber") == "HQ222300000"
        assert run.value("/Interfaces/Mk2/ProductName") == "MK3"
        assert run.value("/Mode") == 3
        assert run.value("/State") == 3
        assert run.value("/Ac/PowerMeasurementType") == 4
        assert run.value("/Soc") is None  # the battery capacity is 0


@simulated
async def test_values_follow_the_mains() -> None:
    async with driven() as run:
        await run.until_known("/State")
        run.core.plant.mains_voltage = 0
        await run.until(lambda: run.value("/State") == 9, 10)
        await asyncio.sleep(3)
        assert run.value("/Ac/ActiveIn/Connected") == 0
        assert run.value("/Ac/ActiveIn/ActiveInput") == 240
        assert run.value("/Ac/ActiveIn/L1/V") == 0
        assert run.value("/Ac/ActiveIn/L1/F") == 0
        assert run.value("/Dc/0/Power") < 0
        assert run.value("/Leds/Inverter") == 1
        _check_truth(run)


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old"])
@simulated
async def test_nothing_is_commanded(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_all_read()
        await asyncio.sleep(120)
        states = run.states_sent()
        assert states
        assert all(frame.data[5] & NOT_TO_BUS for frame in states)
        assert not run.core.log.of(Event.PANEL)
        assert not run.core.log.of(Event.STORED)
        assert not run.core.log.of(Event.RAM_WRITTEN)
        assert not run.core.log.of(Event.GARBAGE)
        # Whatever stays unanswered is a DMC or a BMS that is not there.
        assert {reason for kind, reason in run.core.log.reasons if kind is Event.UNANSWERED} <= {
            "query: no such device"
        }


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old"])
@simulated
async def test_every_value_has_the_type_it_is_declared_with(profile: str) -> None:
    types = {Kind.REAL: float, Kind.INTEGER: int, Kind.TEXT: str, Kind.LIST: tuple}
    async with driven(profile) as run:
        await run.until_all_read()
        await asyncio.sleep(5)
        for item in run.tree.items():
            if item.value is not None:
                assert type(item.value) is types[item.leaf.kind], item.leaf.path
                assert not isinstance(item.value, float) or math.isfinite(item.value)


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old"])
@simulated
async def test_settings_are_those_of_the_device(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_all_read()
        device = run.core.device
        for path, id in (
            ("AbsorptionVoltage", 2),
            ("FloatVoltage", 3),
            ("ChargeCurrent", 4),
            ("InverterOutputVoltage", 5),
        ):
            assert run.value(f"/Devices/0/Settings/{path}") == pytest.approx(device.settings[id].value)
        assert run.value("/Devices/0/Settings/FlagsWord0") == device.settings[0].stored
        assert run.value("/FirmwareFeatures/CommandWriteViaId") == int(profile == "multiplus2")
        await asyncio.sleep(3)
        assert run.value("/Dc/0/MaxChargeCurrent") == run.value("/Devices/0/Settings/ChargeCurrent")
        settings = [path for path in run.tree if path.startswith("/Devices/0/Settings/")]
        supported = [setting for setting in device.settings.values() if setting.info.scale]
        assert len(settings) > len(supported)
        # Nothing is shown that the device does not have.
        assert ("/Devices/0/Settings/SecondInputCurrentLimit" in run.tree) == (49 in device.settings)


@simulated
async def test_an_old_device_is_read_in_its_own_way() -> None:
    async with driven("multiplus-old") as run:
        await run.until_known("/Ac/PowerMeasurementType", 30)
        await asyncio.sleep(5)
        assert run.value("/Connected") == 1
        assert 10 < run.value("/Dc/0/Voltage") < 16
        assert run.value("/Serial") is None
        assert run.value("/Interfaces/Mk2/ProductName") == "MK2"
        assert run.value("/Ac/PowerMeasurementType") in (0, 2)
        assert run.value("/Ac/Out/P") is not None


@simulated
async def test_three_phases_are_summed() -> None:
    async with driven("quattro3") as run:
        await run.until_known("/Ac/ActiveIn/S", 30)
        await run.until_known("/Ac/ActiveIn/P", 30)
        await asyncio.sleep(5)
        assert run.value("/Ac/NumberOfPhases") == 3
        assert run.value("/Devices/NumberOfMultis") == 3
        plant = run.core.plant
        for number, unit in enumerate(plant.units, 1):
            assert run.value(f"/Ac/ActiveIn/L{number}/V") == pytest.approx(unit.mains_v, abs=0.01)
            assert run.value(f"/Ac/ActiveIn/L{number}/P") == pytest.approx(unit.input_w, abs=5)
            assert run.value(f"/Ac/Out/L{number}/P") == pytest.approx(unit.output_w, abs=5)
            assert run.value(f"/Devices/{number - 1}/Ac/Out/P") == pytest.approx(unit.output_w, abs=5)
        for path in ("/Ac/ActiveIn/S", "/Ac/Out/S"):
            folder = path.rpartition("/")[0]
            assert run.value(path) == pytest.approx(
                sum(run.value(f"{folder}/L{n}/S") for n in (1, 2, 3)), rel=0.05
            )
        assert run.value("/Dc/0/Current") == pytest.approx(sum(unit.battery_a for unit in plant.units), abs=1)
        absorption = "/Devices/2/Settings/AbsorptionVoltage"
        await run.until_known(absorption, 120)
        assert run.value("/Dc/0/MaxChargeCurrent") == sum(
            device.settings[4].value for device in run.core.devices.values()
        )
        before = run.value(absorption)
        assert isinstance(before, float)
        await run.write(absorption, before - 0.5)
        assert [device.settings[2].writes for device in run.core.devices.values()] == [0, 0, 1]


@simulated
async def test_without_an_inverter_nothing_is_claimed() -> None:
    async with driven("nodevice") as run:
        await asyncio.sleep(20)
        assert run.value("/Connected") == 0
        assert run.value("/Interfaces/Mk2/ProductName") == "MK3"
        known = {
            leaf.path
            for leaf in system_leaves()
            if leaf.path in run.tree
            and run.value(leaf.path) is not None
            # The line and the service themselves are there.
            and not leaf.path.startswith(("/Mgmt/", "/Interfaces/Mk2/Status/"))
        }
        assert known == {
            "/Connected",
            "/Interfaces/Mk2/ProductId",
            "/Interfaces/Mk2/ProductName",
            "/Interfaces/Mk2/Version",
        }


@simulated
async def test_a_silent_adapter_leaves_no_old_value() -> None:
    async with driven() as run:
        await run.until_all_read()
        run.core.adapter.silent = True
        silent_since = run.now
        await asyncio.sleep(STALE_S)
        left = {path for path in _known(run) if not path.startswith("/Interfaces")}
        assert left == {"/Connected"}
        assert run.value("/Connected") == 0
        assert run.now - silent_since <= STALE_S + 0.01
        run.core.adapter.silent = False
        await run.until_known("/Dc/0/Voltage", 10)
        assert run.value("/Connected") == 1
        await run.until_known("/Devices/0/Settings/AbsorptionVoltage", 10)


@simulated
async def test_an_inverter_that_is_gone_while_the_adapter_answers() -> None:
    async with driven() as run:
        await run.until_all_read()

        def adapter_alone(data: bytes) -> bytes:
            return data if data[1:3] in (b"\xffL", b"\xffV", b"\xffA", b"\xffS") else b""

        run.core.outgoing = adapter_alone
        await asyncio.sleep(STALE_S)
        assert run.value("/Connected") == 0
        left = _known(run)
        assert all(path.startswith("/Interfaces/") for path in left - {"/Connected"}), left
        run.core.outgoing = None
        await run.until_known("/Dc/0/Voltage", 15)


@simulated
async def test_what_is_made_of_several_answers_is_not_older_than_any() -> None:
    async with driven("quattro3") as run:
        await run.until_known("/Ac/ActiveIn/S", 30)
        await run.until_known("/Ac/ActiveIn/ActiveInput", 30)

        def without_phase_2_and_states(data: bytes) -> bytes:
            phase_2 = data[1] == 0x20 and data[6] == 0x07
            state = data[1] == 0xFF and data[3:4] == b"\x94"
            return b"" if phase_2 or state else data

        run.core.outgoing = without_phase_2_and_states
        await asyncio.sleep(2 * STALE_S)
        assert run.value("/Ac/ActiveIn/L1/V") is not None
        assert run.value("/Ac/ActiveIn/L2/V") is None
        assert run.value("/Ac/ActiveIn/S") is None
        assert run.value("/State") is None
        assert run.value("/Ac/ActiveIn/CurrentLimit") is not None
        assert run.value("/Ac/ActiveIn/ActiveInput") is None


@simulated
async def test_what_is_refused_once_is_asked_again() -> None:
    async with driven() as run:
        await run.until_known("/State")
        run.core.device.overrides.append(Override(0x0E, execute=False, reply=(b"\x80\x00",), times=1))
        await run.until(lambda: run.value("/State") is None, 10)
        await run.until(lambda: run.value("/State") is not None, 40)


@simulated
async def test_a_lost_snapshot_is_no_reason_to_measure_less_well() -> None:
    async with driven() as run:
        await run.until_known("/Ac/ActiveIn/P")
        run.core.device.overrides.append(Override(0x38, execute=False, reply=(b"\x99",), times=2))
        await asyncio.sleep(10)
        assert run.value("/Ac/PowerMeasurementType") == 4
        run.core.device.overrides.append(Override(0x38, execute=False, reply=(b"\x99",)))
        await run.until(lambda: run.value("/Ac/PowerMeasurementType") == 2, 30)
        await asyncio.sleep(2)
        _check_truth(run)


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old"])
@simulated
async def test_nothing_flaps_while_all_is_well(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_known("/Devices/0/Diagnostics/UBatRipple")
        await asyncio.sleep(3)
        known = {path for path in run.tree if run.value(path) is not None}
        for _ in range(300):
            await asyncio.sleep(0.2)
            assert not [path for path in known if run.value(path) is None]


@simulated
async def test_one_kind_of_request_that_stays_out_takes_only_its_own_values() -> None:
    async with driven() as run:
        await run.until_known("/State")

        def without_leds(data: bytes) -> bytes:
            return b"" if data[1:3] == b"\xffL" else data

        run.core.outgoing = without_leds
        await asyncio.sleep(STALE_S + 1)
        assert run.value("/Leds/Mains") is None
        for _ in range(40):
            await asyncio.sleep(0.5)
            assert run.value("/Dc/0/Voltage") is not None
        assert run.value("/Connected") == 1


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old"])
@simulated
async def test_an_adapter_reset_is_overcome(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_known("/Devices/0/Settings/AbsorptionVoltage")
        run.core.adapter.flags = 0
        run.core.adapter.ext0 = 0x01
        run.core.adapter.address = 7
        await asyncio.sleep(15)
        assert run.core.adapter.ext0 & 0x01 == 0
        assert run.core.adapter.flags & 0x40
        assert run.value("/Connected") == 1
        await run.until_known("/Dc/0/Voltage", 10)
        _check_truth(run)


@simulated
async def test_an_adapter_that_takes_one_command_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    """One that loses what comes while it waits for an answer, unlike the protocol says, is served too."""
    async with driven() as run:
        core = run.core
        busy_until = 0.0

        def deaf_while_busy(data: bytes) -> bytes:
            nonlocal busy_until
            if run.now < busy_until and data[1:3] not in (b"\xffS", b"\xffA"):
                return b""
            if data[1:4] != b"\xffF\x06":  # a snapshot has no answer
                busy_until = run.now + 0.3
            return data

        def answered(data: bytes) -> bytes:
            nonlocal busy_until
            busy_until = 0.0
            return data

        core.incoming, core.outgoing = deaf_while_busy, answered
        await run.until_known("/Dc/0/Voltage", 30)
        await run.until_all_read()
        await asyncio.sleep(5)
        _check_truth(run)
        for _ in range(40):
            await asyncio.sleep(0.5)
            assert run.value("/Connected") == 1
            assert run.value("/Dc/0/Voltage") is not None
        assert caplog.text.count("one at a time") == 1


@simulated
async def test_a_noisy_line_is_not_taken_for_a_poor_adapter(caplog: pytest.LogCaptureFixture) -> None:
    generator = random.Random(7)
    async with driven() as run:
        run.core.outgoing = lambda data: b"" if generator.random() < 0.02 else data
        await run.until_all_read()
        await asyncio.sleep(120)
        assert "one at a time" not in caplog.text
        assert run.value("/Connected") == 1


@simulated
async def test_a_lost_port_is_opened_again() -> None:
    async with driven() as run:
        await run.until_known("/State")
        run.port.lose()
        await asyncio.sleep(0.1)
        assert run.value("/Connected") == 0
        left = _known(run)
        assert left == {"/Connected"}
        await run.until_known("/Dc/0/Voltage", 10)
        assert run.opened == 2
        assert run.value("/Connected") == 1


@simulated
async def test_telemetry_stays_fresh_while_everything_is_read() -> None:
    async with driven() as run:
        await run.until_known("/Dc/0/Voltage")
        changed: dict[str, float] = {}
        paths = ["/Dc/0/Voltage", "/Ac/ActiveIn/L1/V", "/State", "/Leds/Mains", "/Mode"]
        await asyncio.sleep(5)
        while run.value("/Devices/0/Settings/ReadProgress") != 100:
            await asyncio.sleep(0.2)
            for path in paths:
                assert run.value(path) is not None, path
                changed[path] = run.now
        assert changed


@simulated
async def test_another_device_gets_other_objects() -> None:
    async with driven() as run:
        await run.until_all_read()
        assert "/Devices/0/Settings/LithiumBattery" in run.tree
        run.core = Core("multiplus-old")
        run.port.lose()
        await run.until(lambda: run.value("/Connected") == 0, 1)
        await run.until(lambda: run.value("/Connected") == 1, 20)
        await run.until_all_read()
        assert run.value("/Devices/0/Settings/AbsorptionVoltage") == pytest.approx(
            run.core.device.settings[2].value
        )
        item = run.tree.get("/Devices/0/Settings/AbsorptionVoltage")
        assert item is not None
        assert item.limits.maximum is not None
        assert item.limits.maximum < 20


@simulated
async def test_it_ends_when_told_so_in_the_moment_in_which_the_system_goes() -> None:
    stack = AsyncExitStack()
    run = await stack.enter_async_context(driven())
    await run.until_known("/Dc/0/Voltage")
    await run.write("/RedetectSystem", 1)
    async with asyncio.timeout(10.0):
        await stack.aclose()


@simulated
async def test_a_serial_number_is_asked_again_on_a_noisy_line() -> None:
    core = Core("multiplus2")
    lost: list[bytes] = []

    def noise(data: bytes) -> bytes:
        if data[3:4] == b"\x9d" and len(lost) < 4:
            lost.append(data)
            return data[:-1] + bytes((data[-1] ^ 0x55,))
        return data

    core.outgoing = noise
    async with driven(core=core) as run:
        await run.until(lambda: run.value("/Serial") is not None, 15.0)
        assert len(lost) == 4
