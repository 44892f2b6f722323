"""A system that is switched off: held awake by the standby line, or asleep and woken."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.clock import simulated
from support.driven import Driven, Mode, driven

from mk2dbus.items import Disconnected, NoReply
from mk2dbus.mk2.framing import FrameType
from mk2dbus.mk2.speed import SpeedChoice
from mk2dbus.simulator import Core
from mk2dbus.simulator import Kind as Event
from mk2dbus.vebus.options import Options
from mk2dbus.vebus.standby import STANDBY_LINE

MODE, CONNECTED, READY = "/Mode", "/Connected", "/ModeIsAdjustable"
STANDBY = Options(standby=True)
AT_POWER_ON = 0x05


def _wake_frames(run: Driven) -> int:
    return sum(frame.type == FrameType.COMMAND for frame in run.sent)


def _line_frames(run: Driven) -> int:
    return sum(frame.data[:1] == b"H" for frame in run.sent)


def _sleeping(profile: str = "multiplus2") -> Core:
    """A system that sleeps behind an adapter with power of its own."""
    core = Core(profile)
    core.adapter.kind = replace(core.adapter.kind, usb_powered=True)
    core.system.sleep()
    return core


# --- the standby line ----------------------------------------------------------------------------------


@simulated
async def test_off_and_on_again() -> None:
    async with driven(options=STANDBY) as run:
        await run.until_known(READY)
        await run.until(lambda: bool(run.core.adapter.lines & STANDBY_LINE), 5)
        # The others stay as they were.
        assert run.core.adapter.lines == AT_POWER_ON | STANDBY_LINE
        await run.write(MODE, 4)
        await asyncio.sleep(60)
        assert (run.value(CONNECTED), run.value(MODE)) == (1, 4)
        await run.write(MODE, 3)
        assert run.value(MODE) == 3
        assert run.core.system.awake
        assert _wake_frames(run) == 0


@simulated
async def test_without_the_option_the_line_is_left_alone() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await run.write(MODE, 4)
        assert run.value(MODE) == 4
        await run.until(lambda: run.value(CONNECTED) == 0, 15)
        assert not run.core.system.awake
        assert _line_frames(run) == 0
        with pytest.raises(Disconnected, match="not connected"):
            await run.write(MODE, 3)
        assert _wake_frames(run) == 0


@simulated
async def test_the_line_is_held_again_after_a_reset_of_the_adapter() -> None:
    async with driven(options=STANDBY) as run:
        await run.until_known(READY)
        await run.until(lambda: bool(run.core.adapter.lines & STANDBY_LINE), 5)
        run.core.adapter.power_cycle()
        run.core.touch()
        assert run.core.adapter.lines == AT_POWER_ON
        await run.until(lambda: bool(run.core.adapter.lines & STANDBY_LINE), 10)


@simulated
async def test_a_reset_while_the_system_is_off_does_not_let_it_sleep() -> None:
    async with driven(options=STANDBY) as run:
        await run.until_known(READY)
        await run.until(lambda: bool(run.core.adapter.lines & STANDBY_LINE), 5)
        await run.write(MODE, 4)
        await asyncio.sleep(10)
        run.core.adapter.power_cycle()
        run.core.touch()
        await asyncio.sleep(30)
        assert (run.value(CONNECTED), run.value(MODE)) == (1, 4)


def test_the_line_is_let_go_at_the_end() -> None:
    core = Core("multiplus2")

    @simulated
    async def ended() -> None:
        async with driven(core=core, options=STANDBY) as run:
            await run.until_known(READY)
            await run.until(lambda: bool(core.adapter.lines & STANDBY_LINE), 5)
        assert core.adapter.lines == AT_POWER_ON

    ended()


def test_a_system_that_is_off_stays_awake_after_the_end() -> None:
    """Stopping changes nothing; the next start finds the system, and can switch it on."""
    core = Core("multiplus2")

    @simulated
    async def ended_and_started() -> None:
        async with driven(core=core, options=STANDBY) as run:
            await run.until_known(READY)
            await run.until(lambda: bool(core.adapter.lines & STANDBY_LINE), 5)
            await run.write(MODE, 4)
            await asyncio.sleep(2)
        assert core.adapter.lines == AT_POWER_ON | STANDBY_LINE
        core.run(run.now + 60)
        assert core.system.awake
        await asyncio.sleep(60)
        async with driven(core=core, options=STANDBY) as run:
            await run.until_known(READY)
            assert run.value(MODE) == 4
            await run.write(MODE, 3)
        assert core.adapter.lines == AT_POWER_ON

    ended_and_started()


@simulated
async def test_an_end_without_an_answer_does_not_hang() -> None:
    async with driven(options=STANDBY) as run:
        await run.until_known(READY)
        await run.until(lambda: bool(run.core.adapter.lines & STANDBY_LINE), 5)
        run.core.adapter.silent = True
        start = run.now
    assert run.now - start < 2


@simulated
async def test_an_mk2_is_not_asked() -> None:
    async with driven("multiplus-old", options=STANDBY) as run:
        await run.until_known(READY)
        await asyncio.sleep(10)
        assert _line_frames(run) == 0
        assert run.value(CONNECTED) == 1


def test_an_adapter_without_the_line_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    @simulated
    async def without() -> None:
        core = Core("multiplus2")
        del core.adapter._commands["H"]
        async with driven(core=core, options=STANDBY) as run:
            await run.until_known(READY)
            await asyncio.sleep(60)
            assert run.value(CONNECTED) == 1
            assert _line_frames(run) == 3
            await run.write(MODE, 1)

    without()
    assert sum("no standby line" in record.message for record in caplog.records) == 1


# --- waking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_system_that_sleeps_is_woken_when_asked_for(mode: int) -> None:
    @simulated
    async def woken() -> None:
        async with driven(core=_sleeping()) as run:
            await run.until_known("/Interfaces/Mk2/Version")
            await asyncio.sleep(10)
            assert run.value(CONNECTED) == 0
            assert _wake_frames(run) == 0
            start = run.now
            await run.write(MODE, mode)
            assert run.now - start < 5
            assert (run.value(CONNECTED), run.value(MODE)) == (1, mode)
            assert _wake_frames(run) == 1

    woken()


@simulated
async def test_nobody_is_woken_by_anything_else() -> None:
    async with driven(core=_sleeping()) as run:
        await run.until_known("/Interfaces/Mk2/Version")
        await asyncio.sleep(5)
        for path, value in ((MODE, 4), ("/Ac/ActiveIn/CurrentLimit", 10), ("/Soc", 50), ("/SystemReset", 1)):
            with pytest.raises(Disconnected):
                await run.write(path, value)
        await asyncio.sleep(5)
        assert _wake_frames(run) == 0
        assert not run.core.system.awake


@simulated
async def test_one_that_does_not_come_in_time_is_told_and_not_commanded_later() -> None:
    async with driven(core=_sleeping()) as run:
        await run.until_known("/Interfaces/Mk2/Version")
        await asyncio.sleep(5)
        run.core.device.leave()
        start = run.now
        with pytest.raises(NoReply, match=r"/Mode: the system was woken and is not there yet"):
            await run.write(MODE, 1)
        assert 4 < run.now - start < 5
        run.core.device.join()
        await run.until(lambda: run.value(CONNECTED) == 1, 20)
        await asyncio.sleep(10)
        assert run.core.log.counts[Event.PANEL] == 0
        assert run.value(MODE) == 3


@simulated
async def test_without_anybody_there_waking_fails() -> None:
    async with driven("nodevice") as run:
        await run.until_known("/Interfaces/Mk2/Version")
        await asyncio.sleep(5)
        with pytest.raises(NoReply, match="was woken"):
            await run.write(MODE, 3)


@simulated
async def test_without_an_adapter_nobody_is_woken() -> None:
    core = Core("multiplus2")
    core.system.sleep()
    async with driven(core=core) as run:
        await asyncio.sleep(5)
        with pytest.raises(Disconnected, match="not connected"):
            await run.write(MODE, 3)
        assert _wake_frames(run) == 0


@simulated
async def test_a_system_that_is_off_stays_awake_after_the_end_at_high_speed() -> None:
    """The end resets an adapter that it brought to high speed; here that would let the standby line go."""
    fast = Mode(SpeedChoice.AUTO)
    async with driven(options=STANDBY, mode=fast) as run:
        await run.until_known(READY)
        await run.until(lambda: bool(run.core.adapter.lines & STANDBY_LINE), 5)
        await run.write(MODE, 4)
        await asyncio.sleep(1.0)
    await asyncio.sleep(30)
    run.core.run(asyncio.get_running_loop().time())
    assert run.core.adapter.lines & STANDBY_LINE
    assert run.core.system.awake
    async with driven(options=STANDBY, mode=fast, core=run.core) as again:
        await again.until_known(READY)
        await again.write(MODE, 3)
        assert again.value(MODE) == 3
        await asyncio.sleep(1.0)
    assert not run.core.adapter.lines & STANDBY_LINE
