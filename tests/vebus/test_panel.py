"""Control of mode and current limit: panel frames only when asked for, and who else may be in control."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace
from itertools import pairwise

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.items import Disconnected, NoReply, OutOfRange, ReadOnly, Refused, WriteFailed
from mk2dbus.simulator import Core, FrontSwitch
from mk2dbus.simulator import Kind as Event
from mk2dbus.vebus.panel import COMMANDS

MODE, LIMIT, SECOND_LIMIT = "/Mode", "/Ac/In/1/CurrentLimit", "/Ac/In/2/CurrentLimit"
ACTIVE_LIMIT = "/Ac/ActiveIn/CurrentLimit"
READY = "/ModeIsAdjustable"


def _frames(core: Core, since: float = 0.0) -> list[tuple[float, int, float]]:
    """Time, mode and limit (A) of the panel frames that reached the bus."""
    return [
        (event.time, event.data[0], int.from_bytes(event.data[1:3], "little") / 10)
        for event in core.log.of(Event.PANEL)
        if event.time >= since
    ]


def _panel_frames(run: Driven, since: float = 0.0) -> list[tuple[float, int, float]]:
    return _frames(run.core, since)


def _no_rule_broken(core: Core) -> None:
    """Nothing was sent that loses a reply or that adapters take in different ways."""
    assert core.log.counts[Event.VIOLATION] == 0, core.log.of(Event.VIOLATION)
    assert core.log.reasons[Event.LOST, "F reply lost to an S"] == 0
    assert all(limit < 0x8000 / 10 for _, _, limit in _frames(core))


# --- rhythm --------------------------------------------------------------------------------------------


@simulated
async def test_frames_start_with_the_first_write_and_keep_their_rhythm() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await asyncio.sleep(10)
        assert _panel_frames(run) == []
        await run.write(MODE, 1)
        assert run.value(MODE) == 1
        await asyncio.sleep(20)
        frames = _panel_frames(run)
        assert {(mode, limit) for _, mode, limit in frames} == {(1, 50.0)}
        gaps = [later[0] - earlier[0] for earlier, later in pairwise(frames)]
        assert len(gaps) >= 18
        assert max(gaps) < 1.3
        assert min(gaps) > 0.7
        _no_rule_broken(run.core)


@pytest.mark.parametrize("profile", ["multiplus-old", "quattro3"])
def test_a_minute_has_sixty_frames_also_while_settings_are_read(profile: str) -> None:
    @simulated
    async def minute() -> None:
        async with driven(profile) as run:
            await run.until_known(READY)
            await run.write(MODE, 3)
            assert run.value("/Devices/0/Settings/ReadProgress") != 100
            start = run.now
            await asyncio.sleep(60)
            frames = _panel_frames(run, start)
            assert 59 <= len(frames) <= 61
            gaps = [later[0] - earlier[0] for earlier, later in pairwise(frames)]
            assert max(gaps) < 1.6
            assert min(gaps) > 0.3
            _no_rule_broken(run.core)

    minute()


@simulated
async def test_a_frame_is_on_the_line_at_once() -> None:
    async with driven() as run:
        await run.until_all_read()
        delays: list[float] = []
        for number in range(12):
            await asyncio.sleep(2.37)
            start = run.now
            await run.write(LIMIT, 10 + number)
            delays.append(next(time for time, _, limit in _panel_frames(run, start) if limit == 10 + number))
            delays[-1] -= start
        # The frame itself takes 50 ms at 2400 baud; before it the line finishes what is on it.
        assert statistics.median(delays) < 0.15
        assert max(delays) < 0.3


# --- values --------------------------------------------------------------------------------------------


@simulated
async def test_limit_keeps_the_mode() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await run.write(LIMIT, 12.5)
        assert run.value(LIMIT) == run.value(ACTIVE_LIMIT) == 12.5
        await run.write(MODE, 1)
        await run.write(ACTIVE_LIMIT, 16)
        await asyncio.sleep(2)
        assert _panel_frames(run)[-1][1:] == (1, 16.0)


@simulated
async def test_every_mode_can_be_positioned() -> None:
    async with driven() as run:
        await run.until_known(READY)
        for mode in (1, 2, 3):
            await run.write(MODE, mode)
            assert run.value(MODE) == mode
        await run.write(MODE, 4)
        assert _panel_frames(run)[-1][1] == 4


@simulated
async def test_a_limit_goes_in_steps_of_a_tenth() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await run.write(LIMIT, 12.34)
        assert run.value(LIMIT) == 12.3


@simulated
async def test_limits_come_from_the_device() -> None:
    async with driven() as run:
        await run.until_known(LIMIT)
        item = run.tree.get(LIMIT)
        assert item is not None
        assert (item.limits.minimum, item.limits.maximum) == (1.0, 100.0)
        for value in (0, 0.9, 100.1, 3276.8):
            with pytest.raises(OutOfRange, match=r"1 to 100 A"):
                await run.write(LIMIT, value)
        with pytest.raises(ReadOnly, match="1 AC input"):
            await run.write(SECOND_LIMIT, 10)
        assert _panel_frames(run) == []
        other = run.tree.get(SECOND_LIMIT)
        assert other is not None
        assert (other.limits.minimum, other.limits.maximum) == (None, None)


@simulated
async def test_zero_is_a_limit_where_the_device_takes_it() -> None:
    core = Core("multiplus2")
    kind = core.device.kind
    core.device.kind = replace(kind, settings={**kind.settings, 6: replace(kind.settings[6], minimum=0)})
    async with driven(core=core) as run:
        await run.until_known(READY)
        await run.write(LIMIT, 0)
        assert run.value(LIMIT) == 0
        assert _panel_frames(run)[-1][1:] == (3, 0.0)


@simulated
async def test_a_limit_that_a_panel_may_not_set() -> None:
    core = Core("multiplus2")
    core.device.settings[1].ram &= ~(1 << 14)
    core.device.settings[1].stored = core.device.settings[1].ram
    async with driven(core=core) as run:
        await run.until_known(READY)
        assert run.value("/Ac/In/1/CurrentLimitIsAdjustable") == 0
        with pytest.raises(ReadOnly, match="RemoteOverrulesAc1"):
            await run.write(LIMIT, 10)
        await run.write(MODE, 1)
        assert _panel_frames(run)[-1][1:] == (1, 50.0)


@simulated
async def test_the_value_that_is_there_is_a_command_too() -> None:
    """Who writes a limit wants it to be held, also where it is so already."""
    async with driven() as run:
        await run.until_known(READY)
        await run.write(LIMIT, run.value(LIMIT))
        await asyncio.sleep(3)
        assert len(_panel_frames(run)) >= 3


# --- others in control ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bit3", [False, True])
def test_another_panel_takes_over_until_asked_again(bit3: bool) -> None:
    @simulated
    async def taken_over() -> None:
        async with driven() as run:
            await run.until_known(READY)
            await run.write(MODE, 1)
            await asyncio.sleep(3)
            pressed = len(_panel_frames(run))
            run.core.press_panel(2, 20.0, bit3)
            await asyncio.sleep(1)
            assert run.value(MODE) == 2
            assert run.value(LIMIT) == 20.0
            await asyncio.sleep(10)
            assert [frame[1:] for frame in _panel_frames(run)[pressed:]] == [(2, 20.0)]
            # Asked for the limit alone: the mode is the one of the other panel.
            await run.write(LIMIT, 15)
            await asyncio.sleep(3)
            assert {frame[1:] for frame in _panel_frames(run)[pressed + 1 :]} == {(2, 15.0)}

    taken_over()


@pytest.mark.parametrize("after_s", [0.1, 0.92, 1.0])
def test_no_frame_follows_another_panels(after_s: float) -> None:
    """Whatever waits for the line at that moment: the other panel's word is the last."""

    @simulated
    async def pressed() -> None:
        async with driven("quattro3") as run:
            await run.until_known(READY)
            await run.write(MODE, 3)
            so_far = len(_panel_frames(run))
            await run.until(lambda: len(_panel_frames(run)) > so_far, 2)
            await asyncio.sleep(after_s)
            run.core.press_panel(4, 10.0)
            when = run.now
            await asyncio.sleep(3)
            # One that is on the line already cannot be called back.
            assert [frame for frame in _panel_frames(run, when + 0.11) if frame[1] != 4] == []

    pressed()


@simulated
async def test_a_write_that_another_panel_overrules_is_told() -> None:
    async with driven() as run:
        await run.until_known(READY)
        run.core.turn_front_switch(FrontSwitch.CHARGER_ONLY)
        await run.until(lambda: run.value(MODE) == 1, 5)
        writing = asyncio.create_task(run.write(MODE, 3))
        await asyncio.sleep(1)
        run.core.press_panel(4, 10.0)
        with pytest.raises(Refused, match="another panel took control"):
            await writing


@simulated
async def test_a_bms_keeps_control() -> None:
    async with driven("bms") as run:
        await run.until_known(READY)
        assert run.value(READY) == 0
        assert run.value("/Ac/ActiveIn/CurrentLimitIsAdjustable") == 0
        assert run.value("/Devices/Bms/Version") is not None
        with pytest.raises(ReadOnly, match="BMS"):
            await run.write(MODE, 1)
        with pytest.raises(ReadOnly, match="BMS"):
            await run.write(LIMIT, 10)
        assert _panel_frames(run) == []


@simulated
async def test_a_digital_multi_control_keeps_control() -> None:
    async with driven("dmc") as run:
        await run.until_known(READY)
        assert run.value(READY) == 0
        with pytest.raises(ReadOnly, match="Digital Multi Control"):
            await run.write(MODE, 1)
        assert _panel_frames(run) == []


@simulated
async def test_a_write_before_it_is_known_waits_for_the_word() -> None:
    async with driven("bms") as run:
        await run.until(lambda: run.value("/Connected") == 1)
        with pytest.raises(ReadOnly, match="BMS"):
            await run.write(MODE, 1)
        assert _panel_frames(run) == []


@simulated
async def test_frames_stop_when_a_bms_appears() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await run.write(MODE, 1)
        run.core.system.bms_version = 1145112
        await run.until(lambda: run.value("/Devices/Bms/Version") is not None, 70)
        seen = run.now
        assert run.value(READY) == 0 or await run.until(lambda: run.value(READY) == 0, 2)
        await asyncio.sleep(10)
        assert _panel_frames(run, seen + 0.1) == []
        with pytest.raises(ReadOnly, match="BMS"):
            await run.write(MODE, 3)


@simulated
async def test_frames_stop_when_a_digital_multi_control_appears() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await run.write(MODE, 1)
        run.core.system.dmc_version = 1110206
        appeared = run.now
        await asyncio.sleep(10)
        # It is seen with the next AC input configuration, every three seconds while settings are read.
        assert _panel_frames(run, appeared + 3.5) == []
        assert run.value(READY) == 0


# --- two inputs ----------------------------------------------------------------------------------------


@simulated
async def test_only_the_limit_of_the_active_input_can_be_written() -> None:
    async with driven("quattro") as run:
        await run.until_known(READY)
        with pytest.raises(ReadOnly, match=r"AC input 1 is the active one.*SecondInputCurrentLimit"):
            await run.write(SECOND_LIMIT, 10)
        assert run.value(SECOND_LIMIT) is None
        assert _panel_frames(run) == []
        await run.write(LIMIT, 20)
        run.core.plant.inputs[0].voltages_v[:] = [0.0]
        await run.until(lambda: run.value("/Ac/ActiveIn/ActiveInput") == 1, 60)
        assert run.value(LIMIT) is None
        with pytest.raises(ReadOnly, match=r"AC input 2 is the active one.*AcCurrentLimit"):
            await run.write(LIMIT, 10)


@pytest.mark.parametrize("tenths", [0, 5, 9])
def test_the_limit_of_one_input_is_not_for_the_other(tenths: int) -> None:
    """Whenever the inputs change over, each keeps its own limit, and the one that was written."""

    @simulated
    async def changes_over() -> None:
        async with driven("quattro") as run:
            device = run.core.device
            own = device.limits_a[1]
            assert own not in (20.0, device.limits_a[0])
            await run.until_known(READY)
            await run.write(LIMIT, 20)
            await asyncio.sleep(2 + tenths / 10)
            mains = list(run.core.plant.inputs[0].voltages_v)
            run.core.plant.inputs[0].voltages_v[:] = [0.0]
            run.core.touch()
            changed = run.now
            await asyncio.sleep(2.5)
            assert run.core.plant.active_input == 1
            assert device.limits_a == [20.0, own]
            frames = _panel_frames(run, changed)
            wrong = [time - changed for time, _, limit in frames if limit == 20]
            assert len(wrong) <= 1
            assert all(after < 0.5 for after in wrong)
            assert frames[-1][1:] == (3, own)
            await run.write(SECOND_LIMIT, 12)
            assert run.value(ACTIVE_LIMIT) == 12
            run.core.plant.inputs[0].voltages_v[:] = mains
            await run.until(lambda: run.core.plant.active_input == 0, 60)
            await asyncio.sleep(2.5)
            assert device.limits_a == [20.0, 12.0]
            assert _panel_frames(run)[-1][1:] == (3, 20.0)
            _no_rule_broken(run.core)

    changes_over()


@simulated
async def test_without_word_of_the_active_input_no_limit_is_sent() -> None:
    async with driven("quattro") as run:
        await run.until_all_read()
        await run.write(LIMIT, 20)
        whole = run.core.system.input_config
        run.core.system.input_config = lambda: None  # type: ignore[method-assign]  # a fault of the device
        start = run.now
        await asyncio.sleep(3)
        assert _panel_frames(run, start + 1) == []
        run.core.system.input_config = whole  # type: ignore[method-assign]
        await asyncio.sleep(5)
        assert _panel_frames(run, run.now - 2)


# --- outcomes ------------------------------------------------------------------------------------------


@simulated
async def test_a_mode_that_the_system_does_not_take_is_told_and_not_repeated() -> None:
    async with driven() as run:
        await run.until_known(READY)
        # The front switch at "charger only" leaves no inverting, whatever a panel says.
        run.core.turn_front_switch(FrontSwitch.CHARGER_ONLY)
        await run.until(lambda: run.value(MODE) == 1, 5)
        start = run.now
        with pytest.raises(Refused, match=r"mode 1 instead of 3.*switch on the unit"):
            await run.write(MODE, 3)
        assert run.now - start <= 5
        count = len(run.commands_sent())
        await asyncio.sleep(10)
        assert len(run.commands_sent()) == count


@simulated
async def test_a_limit_leaves_the_panel_position_behind_the_switch_on_the_unit() -> None:
    async with driven() as run:
        await run.until_known(READY)
        run.core.turn_front_switch(FrontSwitch.CHARGER_ONLY)
        await run.until(lambda: run.value(MODE) == 1, 5)
        await run.write(LIMIT, 20)
        run.core.turn_front_switch(FrontSwitch.ON)
        await asyncio.sleep(3)
        assert run.value(MODE) == 3


@simulated
async def test_concurrent_writes_come_one_after_the_other() -> None:
    async with driven() as run:
        await run.until_known(READY)
        start = run.now
        await asyncio.gather(
            run.write(MODE, 1), run.write(LIMIT, 11), run.write(LIMIT, 12), run.write(MODE, 2)
        )
        assert run.now - start < 5
        assert [frame[1:] for frame in _panel_frames(run)][:4] == [(1, 50.0), (1, 11.0), (1, 12.0), (2, 12.0)]
        assert (run.value(MODE), run.value(LIMIT)) == (2, 12.0)


@simulated
async def test_a_write_that_comes_to_no_turn_is_told_in_time() -> None:
    async with driven() as run:
        await run.until_known(READY)
        run.core.turn_front_switch(FrontSwitch.CHARGER_ONLY)
        await run.until(lambda: run.value(MODE) == 1, 5)
        start = run.now
        first, second = await asyncio.gather(run.write(MODE, 3), run.write(LIMIT, 10), return_exceptions=True)
        assert isinstance(first, Refused)
        assert isinstance(second, NoReply)
        assert "nothing was commanded" in str(second)
        assert run.now - start <= 5
        assert all(limit != 10 for _, _, limit in _panel_frames(run))


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("in_control", [False, True])
def test_a_cancelled_write_leaves_nothing_half_done(after_s: float, in_control: bool) -> None:
    @simulated
    async def cancelled() -> None:
        async with driven() as run:
            await run.until_known(READY)
            if in_control:
                await run.write(MODE, 3)
                await asyncio.sleep(2.5)
            writing = asyncio.create_task(run.write(LIMIT, 10))
            await asyncio.sleep(after_s)
            writing.cancel()
            when = run.now
            await asyncio.gather(writing, return_exceptions=True)
            await asyncio.sleep(5)
            later = {frame[1:] for frame in _panel_frames(run, when + 0.2)}
            # Not commanded any further; in control it goes on with what was asked for before.
            assert later == ({(3, 50.0)} if in_control else set())

    cancelled()


@simulated
async def test_a_system_that_does_not_answer_is_told_within_five_seconds() -> None:
    async with driven() as run:
        await run.until_known(READY)
        run.core.adapter.silent = True
        start = run.now
        with pytest.raises(WriteFailed, match="not known"):
            await run.write(MODE, 1)
        assert run.now - start <= 5


@simulated
async def test_a_lost_port_ends_a_write_at_once() -> None:
    async with driven() as run:
        await run.until_known(READY)
        run.core.adapter.silent = True
        writing = asyncio.create_task(run.write(MODE, 1))
        await asyncio.sleep(0.3)
        run.port.lose()
        with pytest.raises(Disconnected, match=MODE):
            await asyncio.wait_for(writing, 0.1)
        run.core.adapter.silent = False


# --- ends ----------------------------------------------------------------------------------------------


@simulated
async def test_frames_stop_with_the_session() -> None:
    async with driven() as run:
        await run.until_known(READY)
        await run.write(MODE, 1)
        run.port.lose()
        await run.until(lambda: run.opened == 2 and run.value("/Connected") == 1, 10)
        count = len(_panel_frames(run))
        await asyncio.sleep(10)
        assert len(_panel_frames(run)) == count
        # As it was last told.
        assert run.value(MODE) == 1


@pytest.mark.parametrize("profile", ["multiplus2", "quattro3"])
@pytest.mark.parametrize("hundredths", [0, 8, 30, 145, 310])
def test_ended_at_any_moment_it_leaves_the_system_as_last_told(profile: str, hundredths: int) -> None:
    core = Core(profile)

    @simulated
    async def ended() -> None:
        async with driven(core=core) as run:
            await run.until_known(READY)
            told = asyncio.gather(run.write(MODE, 1), run.write(LIMIT, 12), return_exceptions=True)
            await asyncio.sleep(hundredths / 100)
        await told
        when = run.now
        core.run(when + 0.1)
        frames = _frames(core)
        core.run(when + 60)
        assert _frames(core) == frames
        told_last = [frame[1:] for frame in frames]
        assert set(told_last) <= {(1, 50.0), (1, 100.0), (1, 12.0)}
        if told_last:
            mode, limit = told_last[-1]
            assert (core.device.remote_charge, core.device.remote_invert) == (mode == 1, False)
            assert core.device.limits_a[0] == limit
        # Nothing in the adapter commands on: no frame told it to repeat by itself.
        assert all(not frame.data[5] & 0x01 for frame in run.states_sent())
        _no_rule_broken(core)

    ended()


def test_what_a_write_would_send_is_said() -> None:
    assert all("(S)" in command.sends for command in COMMANDS.values())


@pytest.mark.parametrize("gap_s", [1.7, 2.0, 2.3, 3.0])
@simulated
async def test_no_frame_goes_to_another_system_of_the_same_kind(gap_s: float) -> None:
    """The cable is put from one into the other: the adapter is without power for the time it takes."""
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        await run.write("/Mode", 1)
        await asyncio.sleep(5)
        core = run.core
        core.adapter.silent = True
        await asyncio.sleep(gap_s)
        core.adapter.silent = False
        core.adapter.power_cycle()
        other = core.system.replace(0, core.device.kind)
        core.touch()
        heard = core.log.counts[Event.PANEL]
        await run.until(lambda: run.value("/Serial") == other.serial, 40)
        await asyncio.sleep(10)
        assert core.log.counts[Event.PANEL] == heard
        assert other.charge_allowed
        assert other.invert_allowed


@simulated
async def test_frames_go_on_after_a_silence_with_the_same_system() -> None:
    async with driven() as run:
        await run.until_known("/ModeIsAdjustable")
        await run.write("/Mode", 1)
        await asyncio.sleep(5)
        run.core.adapter.silent = True
        await asyncio.sleep(2.0)
        run.core.adapter.silent = False
        heard = run.core.log.counts[Event.PANEL]
        await asyncio.sleep(10)
        assert run.core.log.counts[Event.PANEL] >= heard + 5
