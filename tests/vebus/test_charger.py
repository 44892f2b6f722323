"""Control of the charger: charge state, charge current, state of charge."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.items import InvalidValue, OutOfRange, ReadOnly, Refused, WriteFailed
from mk2dbus.simulator import ChargeState, Core, MainState, Override
from mk2dbus.simulator import Kind as Event
from mk2dbus.vebus.charger import COMMANDS, Share, distribute

STATE, CURRENT, SOC = "/VebusSetChargeState", "/Dc/0/MaxChargeCurrent", "/Soc"
SETTING = "/Devices/0/Settings/ChargeCurrent"
CHARGE_CURRENT, BATTERY_CAPACITY = 4, 64
WRITE, READ_RAM, STATE_COMMAND = 0x37, 0x30, 0x0E


def _in_effect(core: Core) -> list[float]:
    return [device.settings[CHARGE_CURRENT].value for device in core.devices.values()]


def _stores(core: Core) -> int:
    """How often EEPROM cells of the charge current were written."""
    return sum(device.settings[CHARGE_CURRENT].writes for device in core.devices.values())


async def _known(run: Driven) -> None:
    """All devices can be written."""
    for number in range(len(run.core.devices)):
        await run.until_known(f"/Devices/{number}/Settings/ChargeCurrent", 200)
    await run.until_known(CURRENT)


# --- charge state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old", "quattro3"])
def test_charge_states_can_be_forced(profile: str) -> None:
    @simulated
    async def forced() -> None:
        async with driven(profile) as run:
            await run.until(lambda: run.value("/VebusMainState") == MainState.CHARGE)
            await run.until_known("/State")
            for wanted, shown in ((2, 4), (3, 5), (1, 7)):
                start = run.now
                await run.write(STATE, wanted)
                assert run.now - start < 2
                assert run.value("/State") == shown
            # What came of it is in the states; the trigger itself has none.
            assert run.value(STATE) is None

    forced()


@pytest.mark.parametrize("done", [True, False])
@simulated
async def test_a_charge_state_is_commanded_once(done: bool) -> None:
    """Also when its reply is lost: the charger may have gone on to the next state meanwhile."""
    async with driven() as run:
        await run.until(lambda: run.value("/VebusMainState") == MainState.CHARGE)
        await run.until_known("/State")
        device = run.core.device
        device.overrides.append(Override(STATE_COMMAND, bytes((3,)), execute=done))
        if done:
            await run.write(STATE, 3)
            assert run.value("/State") == 5
        else:
            with pytest.raises(Refused, match="instead of Float"):
                await run.write(STATE, 3)
        sent = [frame for frame in run.sent if frame.data[1:3] == bytes((STATE_COMMAND, 3))]
        assert len(sent) == 1


@simulated
async def test_a_charge_state_needs_charging() -> None:
    async with driven() as run:
        run.core.plant.inputs[0].voltages_v[:] = [0.0]
        await run.until(lambda: run.value("/VebusMainState") == MainState.INVERT_FULL)
        with pytest.raises(ReadOnly, match=r"only in main state Charge, .* 4 \(Invert full\)"):
            await run.write(STATE, 3)
        assert run.core.log.reasons[Event.NOTE, "charge state forced"] == 0


@simulated
async def test_only_the_three_charge_states_there_are() -> None:
    async with driven() as run:
        await run.until_known("/VebusMainState")
        for value in (0, 4, 2.5, "Float"):
            with pytest.raises(InvalidValue, match="Equalise"):
                await run.write(STATE, value)


@simulated
async def test_a_charge_state_that_is_not_taken() -> None:
    async with driven() as run:
        await run.until(lambda: run.value("/VebusMainState") == MainState.CHARGE)
        run.core.plant.charger.force(ChargeState.BULK)
        force = bytes((3, 0))
        run.core.device.overrides.append(
            Override(STATE_COMMAND, force, execute=False, reply=(bytes((0x94, 9, 1)),), times=1)
        )
        start = run.now
        with pytest.raises(Refused, match="Bulk instead of Float"):
            await run.write(STATE, 3)
        assert run.now - start <= 5
        run.core.device.overrides.append(Override(STATE_COMMAND, force, execute=False, reply=(b"\x80\x01",)))
        with pytest.raises(Refused, match="refused"):
            await run.write(STATE, 3)


# --- charge current ------------------------------------------------------------------------------------


@simulated
async def test_the_charge_current_goes_to_ram_and_shows_what_is_in_effect() -> None:
    async with driven() as run:
        await _known(run)
        assert run.value(CURRENT) == 35
        item = run.tree.get(CURRENT)
        assert item is not None
        assert (item.limits.minimum, item.limits.maximum) == (0, 35)
        await run.write(CURRENT, 20)
        assert run.value(CURRENT) == 20
        assert run.value(SETTING) == 35
        assert run.value("/Devices/0/RamOnly/ChargeCurrent") == 20
        assert _in_effect(run.core) == [20]
        await asyncio.sleep(30)
        assert run.value(CURRENT) == 20
        assert _stores(run.core) == 0


@simulated
async def test_what_venus_writes_to_lift_the_limit_stands_for_the_maximum() -> None:
    async with driven() as run:
        await _known(run)
        await run.write(CURRENT, 20)
        await run.write(CURRENT, 10_000)
        assert run.value(CURRENT) == 35
        assert _in_effect(run.core) == [35]
        for beyond in (36, 9_999, 10_001):
            with pytest.raises(OutOfRange):
                await run.write(CURRENT, beyond)


@pytest.mark.parametrize("profile", ["multiplus2", "parallel3"])
@simulated
async def test_the_charge_current_can_be_set_as_soon_as_it_is_shown(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_known(CURRENT, 20)
        progress = run.value("/Devices/0/Settings/ReadProgress")
        assert progress is None or progress < 100
        await run.write(CURRENT, 9)
        assert run.value(CURRENT) == 9
        assert sum(_in_effect(run.core)) == 9


@simulated
async def test_every_write_is_sent_so_that_a_reset_does_not_outlast_the_next() -> None:
    async with driven() as run:
        await _known(run)
        await run.write(CURRENT, 20)
        run.core.device.settings[CHARGE_CURRENT].ram = 35
        await run.write(CURRENT, 20)
        assert _in_effect(run.core) == [20]


@simulated
async def test_what_is_stored_is_the_upper_limit() -> None:
    async with driven() as run:
        await _known(run)
        await run.write(CURRENT, 25)
        await run.write(SETTING, 18)
        await asyncio.sleep(3)
        # Stored is in effect.
        assert run.value(CURRENT) == 18
        with pytest.raises(OutOfRange, match=r"from 0.* to 18"):
            await run.write(CURRENT, 19)
        await run.write(CURRENT, 18)
        assert _in_effect(run.core) == [18]


@simulated
async def test_an_old_device_stores_and_only_what_changes() -> None:
    async with driven("multiplus-old") as run:
        await _known(run)
        item = run.tree.get(CURRENT)
        assert item is not None
        assert (item.limits.minimum, item.limits.maximum) == (0, 120)
        await run.write(CURRENT, 50)
        await run.write(CURRENT, 50)
        assert run.value(CURRENT) == run.value(SETTING) == 50
        assert _stores(run.core) == 1
        await run.write(CURRENT, 60)
        assert _in_effect(run.core) == [60]


@simulated
async def test_parallel_devices_share_the_charge_current() -> None:
    async with driven("parallel3") as run:
        await _known(run)
        assert run.value(CURRENT) == 210
        for total, parts in ((90, [30, 30, 30]), (50, [17, 17, 16]), (210, [70, 70, 70])):
            start = run.now
            await run.write(CURRENT, total)
            assert run.now - start < 3
            assert _in_effect(run.core) == parts
            assert run.value(CURRENT) == total
        await asyncio.gather(run.write(CURRENT, 90), run.write(CURRENT, 30))
        assert _in_effect(run.core) == [10, 10, 10]
        await run.write(CURRENT, 210)
        run.core.devices[3].overrides.append(Override(WRITE, execute=False, reply=(b"\x80\x00",)))
        with pytest.raises(Refused, match=r"/Devices/1/.*refused.*1 of 3 devices have their share"):
            await run.write(CURRENT, 90)
        assert _in_effect(run.core) == [30, 70, 70]
        assert run.value(CURRENT) == 170


@simulated
async def test_a_silent_system_is_told_within_five_seconds() -> None:
    async with driven() as run:
        await _known(run)
        run.core.adapter.silent = True
        for path, value in ((CURRENT, 90), (STATE, 3), (SOC, 50)):
            start = run.now
            with pytest.raises(WriteFailed):
                await run.write(path, value)
            assert run.now - start <= 5


_SHARES = st.lists(
    st.builds(
        lambda low, room, step: Share(low * step, (low + room) * step, step),
        st.integers(0, 3),
        st.integers(0, 200),
        st.sampled_from([0.1, 0.5, 1.0]),
    ),
    min_size=1,
    max_size=8,
)


@given(_SHARES, st.floats(0, 1))
def test_shares_never_add_up_to_more(shares: list[Share], part: float) -> None:
    low, high = sum(share.minimum for share in shares), sum(share.maximum for share in shares)
    total = low + part * (high - low)
    values = distribute(total, shares)
    assert sum(values) <= total + 1e-3
    for value, share in zip(values, shares, strict=True):
        assert share.minimum - 1e-6 <= value <= share.maximum + 1e-3
    room = [
        share.step for value, share in zip(values, shares, strict=True) if value + share.step <= share.maximum
    ]
    assert not room or total - sum(values) < min(room) + 1e-3


# --- state of charge -----------------------------------------------------------------------------------


def _with_battery_monitor(profile: str = "multiplus2") -> Core:
    core = Core(profile)
    for device in core.devices.values():
        setting = device.settings[BATTERY_CAPACITY]
        setting.stored = setting.ram = 200
    return core


@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old"])
def test_the_state_of_charge_can_be_set(profile: str) -> None:
    @simulated
    async def set_and_read() -> None:
        async with driven(core=_with_battery_monitor(profile)) as run:
            await run.until_known(SOC)
            for value in (50, 87.3, 100, 0):
                await run.write(SOC, value)
                assert run.value(SOC) == pytest.approx(value, abs=0.6)
            await run.write(SOC, 60)
            await asyncio.sleep(5)
            assert run.value(SOC) == pytest.approx(60, abs=1)
            for value in (-1, 100.5):
                with pytest.raises(OutOfRange, match=r"0 to 100 %"):
                    await run.write(SOC, value)

    set_and_read()


@simulated
async def test_a_state_of_charge_that_was_set_gets_old_as_one_that_was_read() -> None:
    async with driven(core=_with_battery_monitor()) as run:
        await run.until_known(SOC)
        # What telemetry asks for is lost; the state of charge alone is told.
        run.core.device.overrides.append(Override(READ_RAM, bytes((13, 11))))
        await run.until(lambda: run.value(SOC) is None, 6)
        await run.write(SOC, 40)
        assert run.core.device.ram_value(13) == pytest.approx(0.4, abs=0.01)
        await asyncio.sleep(5)
        assert run.value("/Connected") == 1
        assert run.value(SOC) is None
        run.core.device.overrides.clear()
        await run.until(lambda: run.value(SOC) == pytest.approx(40, abs=1), 35)


@simulated
async def test_without_a_capacity_there_is_no_battery_monitor() -> None:
    async with driven() as run:
        await run.until_known("/Dc/0/Voltage")
        assert run.value(SOC) is None
        with pytest.raises(ReadOnly, match="BatteryCapacity, is 0 Ah"):
            await run.write(SOC, 50)
        assert run.core.log.counts[Event.RAM_WRITTEN] == 0


@simulated
async def test_a_state_of_charge_that_is_not_taken() -> None:
    async with driven(core=_with_battery_monitor()) as run:
        await run.until_known(SOC)
        shown = run.value(SOC)
        run.core.device.overrides.append(Override(WRITE, execute=False, reply=(b"\x87",)))
        with pytest.raises(Refused, match="instead of 20 %"):
            await run.write(SOC, 20)
        await asyncio.sleep(3)
        assert run.value(SOC) == pytest.approx(shown, abs=1)


def test_what_a_write_would_send_is_said() -> None:
    assert all(command.sends for command in COMMANDS.values())
