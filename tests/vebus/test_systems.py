"""Systems of several units: phases, sums, units that vanish and appear, frames that contradict each other."""

from __future__ import annotations

import asyncio

import pytest
from support.clock import simulated
from support.driven import Driven, Mode, driven

from mk2dbus.items import NoReply
from mk2dbus.mk2.framing import Frame, FrameType
from mk2dbus.mk2.speed import SpeedChoice
from mk2dbus.mk2.winmon import ReadSnapshot
from mk2dbus.simulator import PROFILES, Console, Core, Override
from mk2dbus.simulator.products import ACCESS_FIRMWARE
from mk2dbus.vebus import watch
from mk2dbus.vebus.options import Options

GET_VERSION = 0x05
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


@simulated
async def test_all_addresses_fit_in_their_bitmap() -> None:
    async with driven("big", mode=Mode(SpeedChoice.AUTO)) as run:
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 32, 60)
        assert run.value("/ShortIds") == -1  # 32 bits set, in a signed number of 32 bits


@simulated
async def test_the_power_of_some_is_not_shown_as_that_of_all() -> None:
    """A unit is on the bus, and does not say who it is."""
    core = Core("parallel3")
    silent = core.devices[3]
    silent.overrides.append(Override(GET_VERSION))
    async with driven(core=core) as run:
        await run.until_known("/Ac/Out/P", 30)
        await asyncio.sleep(5)
        assert run.value("/Devices/NumberOfMultis") == 2
        assert run.value("/Ac/PowerMeasurementType") == 0
        units = run.core.plant.units
        assert run.value("/Ac/Out/P") == pytest.approx(sum(unit.output_w for unit in units), rel=0.02)
        assert run.value("/Devices/1/Ac/Out/P") == _near(units[2].output_w)
        assert run.value("/Dc/0/MaxChargeCurrent") is None
        item = run.tree.get("/Dc/0/MaxChargeCurrent")
        assert item is not None
        assert item.write is not None
        with pytest.raises(NoReply, match="nothing was written"):
            await item.write(20)
        silent.overrides.clear()
        await run.until(lambda: run.value("/Ac/PowerMeasurementType") == 4, 60)
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


@pytest.mark.parametrize("unsettled_s", [600.0, 0.0], ids=["soon", "long after"])
@pytest.mark.parametrize(("profile", "address"), [("parallel3", 3), ("ess3", 1)])
@simulated
async def test_the_power_of_some_is_not_shown_as_that_of_all_when_a_unit_comes_back(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    profile: str,
    address: int,
    unsettled_s: float,
) -> None:
    monkeypatch.setattr(watch, "UNSETTLED_S", unsettled_s)
    async with driven(profile) as run:
        await run.until_known("/Devices/2/Ac/Out/P")
        await asyncio.sleep(5)
        all_there = run.value("/Devices/NumberOfMultis")
        run.core.devices[address].present = False
        await run.until(lambda: run.value("/Devices/NumberOfMultis") != all_there, 25.0)
        await asyncio.sleep(9)
        run.core.devices[address].present = True
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == all_there, 5.0)
    # A device that answers nothing says nothing of adapter and line.
    warnings = [
        record.message
        for record in caplog.records
        if record.levelname == "WARNING" and record.name.startswith("mk2dbus.mk2")
    ]
    assert warnings == []
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("after_s", [1.0, 3.0, 8.0, 25.0])
@simulated
async def test_a_unit_that_was_away_at_the_start_is_seen_soon(after_s: float) -> None:
    core = Core("ess3")
    core.devices[1].present = False
    async with driven("ess3", core=core) as run:
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 2, 5.0)
        await asyncio.sleep(after_s)
        core.devices[1].present = True
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 3, 6.0)


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


CHARGE_CURRENT, NUMBER = "/Dc/0/MaxChargeCurrent", "/Devices/NumberOfMultis"
_ASKED_ALL_THE_TIME = (0x05, 0x0E, 0x0F, 0x30, 0x31, 0x35, 0x36, 0x38, 0x3B)


@simulated
async def test_what_was_put_in_ram_is_not_forgotten_while_a_unit_does_not_answer() -> None:
    """It still has it: the sum of all with its stored value would be false."""
    async with driven("quattro3", options=Options(poll_interval_s=0.5)) as run:
        await run.until_known(CHARGE_CURRENT)
        items = run.driver._context.items
        await run.until(
            lambda: all(
                one.settings.find(f"/Devices/{n}/RamOnly/ChargeCurrent") for n, one in enumerate(items)
            )
        )
        await run.write(CHARGE_CURRENT, 60)
        unit = run.core.devices[2]
        unit.overrides += [Override(code) for code in _ASKED_ALL_THE_TIME]
        await run.until(lambda: run.value(NUMBER) == 2, 60)
        unit.overrides.clear()
        await run.until(lambda: run.value(NUMBER) == 3, 90)
        # Until then it is that of the others.
        await asyncio.sleep(4.0)
        for _ in range(300):
            await asyncio.sleep(0.1)
            assert run.value(CHARGE_CURRENT) in (None, 60.0)
        await run.write(CHARGE_CURRENT, 90)
        assert run.value(CHARGE_CURRENT) == 90.0


@simulated
async def test_a_reset_that_is_required_is_that_of_one_unit() -> None:
    async with driven("quattro3", options=Options(poll_interval_s=0.5)) as run:
        await run.until(lambda: run.value(NUMBER) == 3, 60)
        run.driver._context.items[1]._require_reset()
        required = [f"/Devices/{number}/Settings/ResetRequired" for number in range(3)]
        assert [run.value(path) for path in required] == [0, 1, 0]
        console = Console(run.core)
        console.execute("unit leave 1")
        await run.until(lambda: run.value(NUMBER) == 2, 60)
        assert [run.value(path) for path in required[:2]] == [0, 0]
        console.execute("unit join 1")
        await run.until(lambda: run.value(NUMBER) == 3, 90)
        assert [run.value(path) for path in required] == [0, 1, 0]
        console.execute("unit firmware 1 470")
        serial = run.core.devices[1].serial
        await run.until(lambda: run.value("/Devices/1/SerialNumber") == serial, 90)
        assert [run.value(path) for path in required] == [0, 0, 0]


@simulated
async def test_an_answer_that_comes_when_the_numbers_are_others_is_shown_nowhere_else() -> None:
    async with driven("quattro3", options=Options(poll_interval_s=0.5)) as run:
        power = "/Devices/1/RamVars/OutputPower"
        await run.until(lambda: power in run.tree, 100)
        run.core.plant.loads_w[:] = [100.0, 1500.0, 300.0]
        await run.until(lambda: run.value(power) == pytest.approx(1500.0, abs=5.0), 30)
        session = run.driver._session
        assert session is not None
        assert session.system is not None

        def under_way() -> bool:
            on_line = session.link._on_line
            return any(isinstance(one.request, ReadSnapshot) and one.address == 1 for one in on_line)

        await run.until(under_way)
        first, _, third = session.system.devices
        session.system._change_devices([first, third], 0b101)
        for _ in range(100):
            await asyncio.sleep(0.01)
            assert run.value(power) in (None, pytest.approx(300.0, abs=5.0))
        await run.until(lambda: run.value(power) is not None, 10)


@pytest.mark.parametrize(
    ("profile", "address", "number", "after_s", "limit_s"),
    [
        ("parallel3", 3, 1, 0.0, 20.0),
        ("parallel3", 0, 0, 0.0, 20.0),
        ("parallel3", 6, 2, 100.0, 20.0),
        # One that has no serial number to tell.
        ("mixed", 4, 4, 0.0, 130.0),
    ],
)
@simulated
async def test_a_unit_is_swapped_for_one_of_the_same_kind(
    profile: str, address: int, number: int, after_s: float, limit_s: float
) -> None:
    """It has its own settings; also when nobody has asked the first one for its number yet."""
    async with driven(profile, options=Options(poll_interval_s=0.5)) as run:
        system = run.core.system
        system.devices[address].settings[2].stored = 5650
        await run.until(lambda: run.value("/Connected") == 1)
        await asyncio.sleep(after_s)
        before = run.driver._session and run.driver._session.system
        new = system.replace(address, system.devices[address].kind)
        await run.until(lambda: run.driver._session and run.driver._session.system is not before, limit_s)
        await run.until(lambda: run.value("/Connected") == 1)
        if new.kind.firmware >= ACCESS_FIRMWARE:
            assert run.value(f"/Devices/{number}/SerialNumber") == new.serial
        shown = f"/Devices/{number}/Settings/AbsorptionVoltage"
        word = new.settings[2].stored
        assert word != 5650
        await run.until(lambda: shown in run.tree and run.value(shown) == word / 100, 400.0)


@simulated
async def test_the_charge_current_of_a_unit_that_is_away_is_not_in_the_sum() -> None:
    async with driven("ess3") as run:
        await run.until_all_read()
        await run.until_known("/Dc/0/MaxChargeCurrent")
        before = run.value("/Dc/0/MaxChargeCurrent")
        run.core.devices[1].present = False
        await run.until(lambda: run.value("/Dc/0/MaxChargeCurrent") != before, 5.5)
