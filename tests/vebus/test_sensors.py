"""AC current sensors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.simulator import Core, Kind, Override
from mk2dbus.simulator.assistants import Assistant, CurrentSensor
from mk2dbus.vebus.counters import Moment, kilowatt_hours
from mk2dbus.vebus.energybook import EnergyBook, EnergyFile, loop_clock
from mk2dbus.vebus.options import Options

CALM = Options(poll_interval_s=1.5)
READ_RAM = 0x30
COUNT = "/AcSensor/Count"
NAMES = ("Voltage", "Current", "Power", "Energy", "Location", "Phase")


def sensor(flags: int, current: int, power: int, energy: int) -> Assistant:
    """One that stands still."""
    return Assistant(1, [flags, current, power, energy])


def core_with(*assistants: Assistant, profile: str = "multiplus2", address: int = 0) -> Core:
    core = Core(profile)
    core.devices[address].assistants[:] = assistants
    return core


def values(run: Driven, number: int) -> list[object]:
    return [run.value(f"/AcSensor/{number}/{name}") for name in NAMES]


def near(*expected: float | None) -> list[object]:
    return [one if one is None else pytest.approx(one, abs=0.5) for one in expected]


@simulated
async def test_sensors_are_shown_as_the_plant_has_them() -> None:
    async with driven("sensors") as run:
        took = await run.until(lambda: run.value(COUNT) is not None, 30)
        assert took < 12
        assert run.value(COUNT) == 2
        # What there is to know of each is there with the number: clients look at once.
        for number, source in enumerate(run.core.plant.generators):
            voltage, current, power, energy, location, phase = values(run, number)
            assert voltage == pytest.approx(230, abs=3)
            assert current == pytest.approx(source.power_w / 230, abs=0.1)
            assert power == pytest.approx(source.power_w, abs=1)
            assert isinstance(energy, float)
            assert (location, phase) == (source.location, source.phase)
        assert values(run, 2) == [None] * 6
        item = run.tree.get("/AcSensor/0/Voltage")
        assert item is not None
        assert item.leaf.text(230.4) == "230V"
        run.core.plant.generators[0].power_w = 300.0
        await run.until(lambda: run.value("/AcSensor/0/Power") == pytest.approx(300, abs=1), 4)


@simulated
async def test_what_was_read_first_is_not_shown_too_long_when_the_rest_is_late() -> None:
    sensors = [sensor(0, 1000, 2300, 0) for _ in range(9)]
    async with driven(core=core_with(*sensors)) as run:
        await run.until(lambda: run.value("/AcSensor/0/Current") == 10.0, 30)
        # Two sensors in a request; each but the first of these is lost twice.
        for number in range(2, 9, 2):
            first_word = 128 + 5 * number + 2
            run.core.device.overrides.append(Override(READ_RAM, bytes([first_word]), times=2))
        lost = run.core.log.counts[Kind.LOST]
        await run.until(lambda: run.core.log.counts[Kind.LOST] > lost, 10)
        sensors[0].words[1] = 2000
        await asyncio.sleep(5)
        end = run.now + 10
        while run.now < end:
            assert run.value("/AcSensor/0/Current") in (None, 20.0)
            await asyncio.sleep(0.1)
        assert run.value("/AcSensor/0/Current") == 20.0


@simulated
async def test_energy_is_added_up_over_the_roll_over() -> None:
    core = Core("sensors")
    first = next(one for one in core.device.assistants if isinstance(one, CurrentSensor))
    first.joules = 65530.0 * 65536
    async with driven(core=core, options=CALM) as run:
        await run.until_known("/AcSensor/0/Energy")
        began = run.value("/AcSensor/0/Energy")
        assert began == pytest.approx(kilowatt_hours(65530), abs=kilowatt_hours(2))
        for _ in range(4):
            first.joules += 4 * 65536
            await asyncio.sleep(5)
        assert first.words[3] < 100
        assert run.value("/AcSensor/0/Energy") == pytest.approx(
            kilowatt_hours(65530 + 16), abs=kilowatt_hours(2)
        )


@simulated
async def test_energy_goes_on_after_a_restart_of_service_or_device(tmp_path: Path) -> None:
    one = sensor(1, 500, 1150, 1000)
    core = core_with(one)
    for energy, shown in ((1000, 1000), (1007, 1007), (0, 1007), (3, 1010)):
        one.words[3] = energy
        book = EnergyBook(EnergyFile(tmp_path, "sim0"), lambda: Moment("boot", loop_clock().seconds))
        async with driven(core=core, energy=book, options=CALM) as run:
            await run.until_known("/AcSensor/0/Energy")
            assert run.value("/AcSensor/0/Energy") == pytest.approx(kilowatt_hours(shown))


@simulated
async def test_a_jump_of_the_energy_counter_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mk2dbus.vebus.sensors")
    one = sensor(1, 500, 1150, 1000)
    async with driven(core=core_with(one), options=CALM) as run:
        await run.until_known("/AcSensor/0/Energy")
        one.words[3] = 30_000
        await run.until(lambda: "from (1000,) to (30000,)" in caplog.text, 5)
        one.words[3] = 1003
        await asyncio.sleep(5)
        assert run.value("/AcSensor/0/Energy") == pytest.approx(kilowatt_hours(1003))
        assert run.value("/AcSensor/0/Power") == 1150


@pytest.mark.parametrize(
    ("flags", "current", "power", "expected"),
    [
        pytest.param(0x00, 500, 590, (118, 5, 590, None, 0, 0), id="input, L1"),
        pytest.param(0x01, 500, 590, (118, 5, 590, None, 1, 0), id="output"),
        pytest.param(0x02, 500, 590, (118, 5, 590, None, 2, 0), id="second input"),
        pytest.param(0x21, 500, 590, (118, 5, 590, None, 1, 1), id="L2"),
        pytest.param(0x41, 500, 590, (118, 5, 590, None, 1, 2), id="L3"),
        pytest.param(0x61, 500, 590, (118, 5, 590, None, 1, None), id="no such phase"),
        pytest.param(0x1F, 500, 590, (118, 5, 590, None, None, 0), id="no such place"),
        pytest.param(0x00, 0, 0, (120, 0, 0, None, 0, 0), id="night: voltage of the mains"),
        pytest.param(0x01, 3, 4, (120, 0, 4, None, 1, 0), id="night: voltage of the output"),
        pytest.param(0x21, 3, 4, (None, 0, 4, None, 1, 1), id="night, on a phase that the device is not on"),
        pytest.param(0xFF01, 65535, 65535, (100, 655.35, 65535, None, 1, 0), id="the most"),
    ],
)
@simulated
async def test_words_mean(flags: int, current: int, power: int, expected: Sequence[float | None]) -> None:
    async with driven(core=core_with(sensor(flags, current, power, 0)), options=CALM) as run:
        await run.until_known(COUNT)
        run.core.plant.load_w = 0
        await asyncio.sleep(4)
        found = values(run, 0)
        assert found[3] == 0.0
        found[3] = None
        assert found == near(*expected)


@simulated
async def test_there_is_no_voltage_without_mains() -> None:
    async with driven(core=core_with(sensor(0, 0, 0, 0)), options=CALM) as run:
        await run.until_known(COUNT)
        run.core.plant.inputs[0].voltages_v[:] = [0.0]
        await run.until(lambda: run.value("/AcSensor/0/Voltage") == 0, 10)


@simulated
async def test_the_sensors_of_all_devices_are_numbered_through() -> None:
    core = core_with(sensor(0, 300, 690, 1), profile="split2")
    core.devices[1].assistants[:] = [Assistant(9), sensor(0x21, 400, 920, 2), sensor(0x20, 500, 1150, 3)]
    async with driven(core=core, options=CALM) as run:
        await run.until_known(COUNT)
        assert run.value(COUNT) == 3
        assert [run.value(f"/AcSensor/{number}/Power") for number in range(4)] == [690, 920, 1150, None]
        assert [run.value(f"/AcSensor/{number}/Phase") for number in range(3)] == [0, 1, 1]
        # The first device goes: its sensor is not there any more, the others move down.
        core.devices[1].present = False
        await run.until(lambda: run.value(COUNT) == 1, 60)
        assert [run.value(f"/AcSensor/{number}/Power") for number in range(2)] == [690, None]


@simulated
async def test_nine_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    core = core_with(*(sensor(1, 500 + number, 1000 + number, number) for number in range(12)))
    async with driven(core=core, options=CALM) as run:
        await run.until_known(COUNT)
        assert run.value(COUNT) == 9
        assert [run.value(f"/AcSensor/{number}/Power") for number in range(9)] == list(range(1000, 1009))
        assert "/AcSensor/9/Power" not in run.tree
        assert caplog.text.count("12 AC current sensors") == 1
        # 29 variables, six to a request.
        await asyncio.sleep(20)
        assert run.value("/AcSensor/8/Current") == pytest.approx(5.08)


@simulated
async def test_one_that_is_too_short_is_none() -> None:
    async with driven(core=core_with(Assistant(1, [1, 2, 3]), sensor(1, 500, 600, 0)), options=CALM) as run:
        await run.until_known(COUNT)
        assert run.value(COUNT) == 1
        assert run.value("/AcSensor/0/Power") == 600


@simulated
async def test_two_sensors_are_read_with_two_requests() -> None:
    async with driven("sensors", options=CALM) as run:
        await run.until_known(COUNT)
        await run.until_all_read()
        await asyncio.sleep(5)
        before = len(run.sent)
        await asyncio.sleep(20)
        reads = [
            frame
            for frame in run.sent[before:]
            if len(frame.data) > 3 and frame.data[1] == 0x30 and 132 <= max(frame.data[2:]) < 200
        ]
        assert len(reads) <= 11


@simulated
async def test_all_is_invalid_while_the_system_is_away() -> None:
    async with driven("sensors", options=CALM) as run:
        await run.until_known(COUNT)
        run.core.adapter.silent = True
        await run.until(lambda: run.value("/Connected") == 0, 10)
        assert run.value(COUNT) is None
        assert values(run, 0) == [None] * 6
