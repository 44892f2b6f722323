"""Systems of several units: phases, sums, units that vanish and appear, frames that contradict each other."""

from __future__ import annotations

import asyncio

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.mk2.framing import Frame, FrameType
from mk2dbus.simulator import PROFILES

MULTIS = [name for name in PROFILES if name not in ("nodevice", "big")]


def _present(run: Driven) -> list[int]:
    return [device.address for device in run.core.devices.values() if device.present]


def _near(truth: float) -> object:
    return pytest.approx(truth, abs=max(6.0, abs(truth) * 0.01))


def _check_sums(run: Driven) -> None:
    """Power of each device, phase and the whole is what the plant has."""
    units = {address: run.core.devices[address].unit for address in _present(run)}
    for number, unit in enumerate(units.values()):
        folder = f"/Devices/{number}/Ac"
        assert run.value(f"{folder}/In/P") == _near(unit.input_w), folder
        assert run.value(f"{folder}/Out/P") == _near(unit.output_w), folder
    for phase in {address % 3 for address in units}:
        members = [unit for address, unit in units.items() if address % 3 == phase]
        assert run.value(f"/Ac/ActiveIn/L{phase + 1}/P") == _near(sum(unit.input_w for unit in members))
        assert run.value(f"/Ac/Out/L{phase + 1}/P") == _near(sum(unit.output_w for unit in members))
        assert run.value(f"/Ac/Out/L{phase + 1}/I") == pytest.approx(
            sum(unit.output_a for unit in members), abs=0.3
        )
    assert run.value("/Ac/ActiveIn/P") == _near(sum(unit.input_w for unit in units.values()))
    assert run.value("/Ac/Out/P") == _near(sum(unit.output_w for unit in units.values()))
    assert run.value("/Dc/0/Current") == pytest.approx(
        sum(unit.battery_a for unit in units.values()), abs=0.5
    )


@pytest.mark.parametrize("profile", ["split2", "quattro3", "parallel3", "parallel-3phase"])
@simulated
async def test_every_phase_and_unit_is_shown_and_summed(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_known("/Ac/ActiveIn/P", 15.0)
        await asyncio.sleep(10)
        addresses = _present(run)
        assert run.value("/Devices/NumberOfMultis") == len(addresses)
        assert run.value("/ShortIds") == sum(1 << address for address in addresses)
        assert run.value("/Ac/NumberOfPhases") == len({address % 3 for address in addresses})
        assert run.value("/Ac/PowerMeasurementType") == 4
        _check_sums(run)


def _folders(run: Driven) -> set[str]:
    return {path.split("/")[2] for path in run.tree if path.startswith("/Devices/") and path.count("/") > 2}


@simulated
async def test_a_unit_that_vanishes_is_taken_off_and_comes_back() -> None:
    async with driven("parallel3") as run:
        await run.until_known("/Devices/2/Ac/Out/P")
        await asyncio.sleep(5)
        serials = [run.value(f"/Devices/{number}/SerialNumber") for number in range(3)]
        run.core.devices[3].present = False
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 2, 15.0)
        # The third is the second now, with its own values; the others went on.
        assert _folders(run) >= {"0", "1"}
        assert "2" not in _folders(run)
        assert run.value("/Devices/1/SerialNumber") == serials[2]
        assert run.value("/Connected") == 1
        assert run.value("/ShortIds") == 0b1000001
        await asyncio.sleep(6)
        _check_sums(run)
        run.core.devices[3].present = True
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 3, 70.0)
        assert [run.value(f"/Devices/{number}/SerialNumber") for number in range(3)] == serials
        await asyncio.sleep(6)
        _check_sums(run)


@simulated
async def test_values_of_the_others_stay_while_a_unit_vanishes() -> None:
    async with driven("parallel3") as run:
        await run.until_all_read()
        run.core.devices[6].present = False
        for _ in range(300):
            await asyncio.sleep(0.1)
            assert run.value("/Connected") == 1
            assert run.value("/Dc/0/Voltage") is not None
            assert run.value("/State") is not None
        assert run.value("/Devices/NumberOfMultis") == 2


@simulated
async def test_settings_of_a_unit_that_moves_down_are_its_own() -> None:
    async with driven("parallel3") as run:
        progress = "/Devices/2/Settings/ReadProgress"
        await run.until(lambda: progress in run.tree and run.value(progress) == 100, 300.0)
        path = "/Devices/{}/Settings/AbsorptionVoltage"
        await run.write(path.format(2), 55.5)
        run.core.devices[3].present = False
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 2, 15.0)
        assert run.value(path.format(1)) == 55.5
        assert run.value(path.format(0)) != 55.5
        await run.write(path.format(1), 55.25)
        assert run.core.devices[6].settings[2].stored == 5525


@simulated
async def test_another_number_of_phases_in_one_frame_is_left_out() -> None:
    async with driven("quattro3") as run:
        await run.until_known("/Ac/Out/L3/V")
        await asyncio.sleep(2)
        original = run.core.system.ac_info
        lies = 2

        def one_phase(phase: int) -> Frame | None:
            nonlocal lies
            frame = original(phase)
            if phase == 0 and lies and frame is not None:
                lies -= 1
                data = bytearray(frame.data)
                data[4] = 0x08
                return Frame(FrameType.INFO, bytes(data))
            return frame

        run.core.system.ac_info = one_phase  # type: ignore[method-assign]  # the system lies a while
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert run.value("/Ac/NumberOfPhases") == 3
            assert run.value("/Ac/Out/L3/V") is not None
        assert lies == 0
        await run.until(lambda: run.value("/Mgmt/Statistics/ImplausibleFrames") == 2, 10)


@pytest.mark.parametrize(
    ("what", "offset", "value"),
    [
        ("mains voltage", 5, b"\xff\xff"),
        ("units", 0, b"\x00"),
        ("units", 1, b"\xc8"),
        ("period", 13, b"\x01"),
    ],
)
@simulated
async def test_impossible_values_are_never_shown(what: str, offset: int, value: bytes) -> None:
    async with driven() as run:
        await run.until_known("/Ac/Out/L1/F")
        await asyncio.sleep(2)
        original = run.core.system.ac_info

        def impossible(phase: int) -> Frame | None:
            frame = original(phase)
            if frame is None:
                return None
            data = bytearray(frame.data)
            data[offset : offset + len(value)] = value
            return Frame(FrameType.INFO, bytes(data))

        before = {path: run.value(path) for path in run.tree if path.startswith("/Ac/ActiveIn/L1/")}
        run.core.system.ac_info = impossible  # type: ignore[method-assign]  # the system lies from now on
        for _ in range(80):
            await asyncio.sleep(0.1)
            for path, true in before.items():
                if path[-1] in "VF":
                    assert run.value(path) in (None, pytest.approx(true, rel=0.02)), path
        assert run.value("/Ac/ActiveIn/L1/V") is None
        assert run.value("/Dc/0/Voltage") is not None


@simulated
async def test_a_bitmap_is_believed_only_when_said_twice() -> None:
    async with driven("parallel3") as run:
        await run.until_all_read()
        original = run.core.system.configuration
        lies = 1

        def others(address: int) -> Frame | None:
            nonlocal lies
            frame = original(address)
            if frame is not None and lies:
                lies -= 1
                data = bytearray(frame.data)
                data[7:11] = (0b1001 | 1 << address).to_bytes(4, "little")
                return Frame(FrameType.INFO, bytes(data))
            return frame

        run.core.system.configuration = others  # type: ignore[method-assign]  # one damaged frame
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert run.value("/Devices/NumberOfMultis") == 3
        assert lies == 0
