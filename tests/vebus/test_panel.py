"""Control of mode and current limit: panel frames only when asked for, and who else may be in control."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.items import ReadOnly, Refused
from mk2dbus.simulator import Kind as Event

LIMIT = "/Ac/In/1/CurrentLimit"


def _panel_frames(run: Driven) -> list[tuple[float, int, float]]:
    """Time, mode and limit (A) of the panel frames that reached the bus."""
    return [
        (event.time, event.data[0], int.from_bytes(event.data[1:3], "little") / 10)
        for event in run.core.log.of(Event.PANEL)
    ]


@simulated
async def test_frames_start_with_the_first_write_and_keep_their_rhythm() -> None:
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        await asyncio.sleep(10)
        assert _panel_frames(run) == []
        await run.write("/Mode", 1)
        assert run.value("/Mode") == 1
        await asyncio.sleep(30)
        frames = _panel_frames(run)
        assert {(mode, limit) for _, mode, limit in frames} == {(1, 50.0)}
        gaps = [later[0] - earlier[0] for earlier, later in pairwise(frames)]
        assert len(gaps) >= 27
        assert max(gaps) < 1.3
        assert min(gaps) > 0.7


@simulated
async def test_limit_keeps_the_mode() -> None:
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        await run.write(LIMIT, 12.5)
        assert run.value(LIMIT) == run.value("/Ac/ActiveIn/CurrentLimit") == 12.5
        await run.write("/Mode", 1)
        await run.write("/Ac/ActiveIn/CurrentLimit", 16)
        await asyncio.sleep(2)
        assert _panel_frames(run)[-1][1:] == (1, 16.0)


@simulated
async def test_limits_come_from_the_device() -> None:
    async with driven() as run:
        await run.until_known(LIMIT)
        item = run.tree.get(LIMIT)
        assert item is not None
        assert (item.limits.minimum, item.limits.maximum) == (1.0, 100.0)
        other = run.tree.get("/Ac/In/2/CurrentLimit")
        assert other is not None
        assert (other.limits.minimum, other.limits.maximum) == (None, None)


@simulated
async def test_another_panel_takes_over_until_asked_again() -> None:
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        await run.write("/Mode", 1)
        await asyncio.sleep(3)
        run.core.press_panel(3, 20.0)
        await asyncio.sleep(1)
        count = len(run.commands_sent())
        await asyncio.sleep(10)
        assert len(run.commands_sent()) == count
        assert run.value("/Mode") == 3
        assert run.value(LIMIT) == 20.0
        await run.write("/Mode", 1)
        await asyncio.sleep(3)
        assert run.value("/Mode") == 1
        assert len(run.commands_sent()) > count


@simulated
async def test_a_bms_keeps_control() -> None:
    async with driven("bms") as run:
        await run.until_known("/ModeIsAdjustable")
        assert run.value("/ModeIsAdjustable") == 0
        assert run.value("/Ac/ActiveIn/CurrentLimitIsAdjustable") == 0
        assert run.value("/Devices/Bms/Version") is not None
        with pytest.raises(ReadOnly, match="BMS"):
            await run.write("/Mode", 1)
        with pytest.raises(ReadOnly, match="BMS"):
            await run.write(LIMIT, 10)
        assert _panel_frames(run) == []


@simulated
async def test_a_mode_that_the_system_does_not_take_is_told_and_not_repeated() -> None:
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        # The front switch at "charger only" leaves no inverting, whatever a panel says.
        from mk2dbus.simulator import FrontSwitch

        run.core.turn_front_switch(FrontSwitch.CHARGER_ONLY)
        await run.until(lambda: run.value("/Mode") == 1, 5)
        start = run.now
        with pytest.raises(Refused, match="mode 1 instead of 3"):
            await run.write("/Mode", 3)
        assert run.now - start <= 5
        count = len(run.commands_sent())
        await asyncio.sleep(10)
        assert len(run.commands_sent()) == count


@simulated
async def test_frames_stop_with_the_session() -> None:
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        await run.write("/Mode", 1)
        run.port.lose()
        await run.until(lambda: run.opened == 2 and run.value("/Connected") == 1, 10)
        count = len(_panel_frames(run))
        await asyncio.sleep(10)
        assert len(_panel_frames(run)) == count
        # As it was last told.
        assert run.value("/Mode") == 1
