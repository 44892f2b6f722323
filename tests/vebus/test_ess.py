"""Control through the ESS assistants: what is written when, and what is shown."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.items import Disconnected, ReadOnly, Refused, WriteFailed
from mk2dbus.mk2.framing import Frame, FrameCutter
from mk2dbus.simulator import Core
from mk2dbus.simulator.assistants import Ess
from mk2dbus.simulator.winmon import Override
from mk2dbus.vebus.options import Options

SETPOINT = "/Hub4/L{}/AcPowerSetpoint"
CHARGE, FEED_IN = "/Hub4/DisableCharge", "/Hub4/DisableFeedIn"
WRITE = 0x37
CALM = Options(poll_interval_s=1.5)
BYTE_S = 10 / 2400


def assistant(run: Driven, address: int = 0) -> Ess:
    return next(one for one in run.core.devices[address].assistants if isinstance(one, Ess))


def words(run: Driven) -> list[int]:
    """The setpoints that the assistants have, W taken from the input."""
    raw = [assistant(run, address).words[0] for address in run.core.devices]
    return [-(word - 0x10000 if word >= 0x8000 else word) for word in raw]


def writes(run: Driven) -> list[Frame]:
    return [frame for frame in run.sent if len(frame.data) > 1 and frame.data[1] == WRITE]


@asynccontextmanager
async def ess(profile: str = "multiplus2-ess", options: Options = CALM) -> AsyncIterator[Driven]:
    async with driven(profile, options=options) as run:
        await run.until_known(SETPOINT.format(1), 30)
        yield run


# --- what there is --------------------------------------------------------------------------------------


@simulated
async def test_it_is_there_long_before_all_settings_are_read() -> None:
    async with driven("ess3") as run:
        took = await run.until(lambda: run.value(SETPOINT.format(3)) is not None, 20.0)
        assert took < 12
        assert run.value("/Devices/2/Settings/ReadProgress") != 100
        assert run.value("/Hub4/AssistantId") == 5
        assert [run.value(SETPOINT.format(phase)) for phase in (1, 2, 3)] == [0.0] * 3
        assert [run.value(CHARGE), run.value(FEED_IN)] == [0, 0]
        for phase in (1, 2, 3):
            item = run.tree.get(SETPOINT.format(phase))
            assert item is not None
            assert (item.limits.minimum, item.limits.maximum) == (-32767, 32767)
            assert item.leaf.text(-150.0) == "-150W"
        await asyncio.sleep(30)
        assert not writes(run), "nothing is written that nobody asked for"


@simulated
async def test_without_the_assistant_nothing_is_shown_and_writes_say_why() -> None:
    async with driven("multiplus2", options=CALM) as run:
        with pytest.raises(Disconnected):
            await run.write(SETPOINT.format(1), 100)
        await run.until(lambda: run.value("/Connected") == 1)
        with pytest.raises(ReadOnly, match="not known yet"):
            await run.write(SETPOINT.format(1), 100)
        await run.until_known("/AcSensor/Count")
        assert run.value("/Hub4/AssistantId") is None
        for path in (SETPOINT.format(1), CHARGE, FEED_IN):
            assert run.value(path) is None
            with pytest.raises(ReadOnly, match=f"{path}: there is no ESS assistant"):
                await run.write(path, 1)
        for phase in (2, 3):
            with pytest.raises(ReadOnly, match=f"the system has no phase L{phase}"):
                await run.write(SETPOINT.format(phase), 100)
        assert not writes(run)


@simulated
async def test_a_phase_without_the_assistant_is_read_only() -> None:
    async with driven("ess3", options=CALM) as run:
        run.core.devices[1].assistants.clear()
        await run.until_known(SETPOINT.format(3), 30)
        assert run.value(SETPOINT.format(2)) is None
        with pytest.raises(ReadOnly, match="in phase L2"):
            await run.write(SETPOINT.format(2), 100)
        await run.write(SETPOINT.format(3), 100)
        await run.write(CHARGE, 1)
        assert [one.data[2:4].hex() for one in writes(run)].count("0083") == 1
        assert [run.value(CHARGE), run.value(SETPOINT.format(3))] == [1, 100.0]


# --- writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "word"),
    [(0, 0), (1500, -1500), (-2500.0, 2500), (32767, -32767), (-32767, 32767), (99.6, -100), (True, -1)],
)
@simulated
async def test_a_setpoint_is_written_once_and_shown(value: float, word: int) -> None:
    async with ess() as run:
        await run.write(SETPOINT.format(1), value)
        (frame,) = writes(run)
        assert frame.data[1:6] == bytes((WRITE, 0x00, 131)) + (word & 0xFFFF).to_bytes(2, "little")
        assert run.value(SETPOINT.format(1)) == -word
        await asyncio.sleep(10)
        assert run.value(SETPOINT.format(1)) == -word
        assert len(writes(run)) == 1
        assert words(run) == [-word]


@pytest.mark.parametrize("value", [32768, -32768, 1e9, math.nan, math.inf, "100"])
@simulated
async def test_what_is_no_setpoint_is_refused_before_anything_is_sent(value: object) -> None:
    async with ess() as run:
        with pytest.raises(WriteFailed) as failed:
            await run.write(SETPOINT.format(1), value)
        assert not isinstance(failed.value, Refused)
        assert not writes(run)
        system_side = run.driver.raw
        assert "in RAM" in await system_side.preview(SETPOINT.format(1), 5.0)


@simulated
async def test_the_plant_does_what_the_setpoint_says() -> None:
    async with ess() as run:
        await run.write(SETPOINT.format(1), -600)
        await run.until(lambda: run.value("/Ac/ActiveIn/P") == pytest.approx(-600, abs=20), 20)
        await run.write(SETPOINT.format(1), 900)
        await run.until(lambda: run.value("/Ac/ActiveIn/P") == pytest.approx(900, abs=20), 20)


@simulated
async def test_bits_go_to_all_phases_and_leave_one_another_alone() -> None:
    async with ess("ess3") as run:
        await run.until_known(CHARGE)
        await asyncio.gather(run.write(CHARGE, 1), run.write(FEED_IN, 1))
        assert [assistant(run, address).words[1] for address in range(3)] == [3, 3, 3]
        await run.write(CHARGE, 0)
        assert [assistant(run, address).words[1] for address in range(3)] == [2, 2, 2]
        assert [run.value(CHARGE), run.value(FEED_IN)] == [0, 1]
        with pytest.raises(WriteFailed):
            await run.write(CHARGE, 2)
        # They do not expire.
        await asyncio.sleep(70)
        assert [run.value(CHARGE), run.value(FEED_IN)] == [0, 1]
        assert words(run) == [0, 0, 0]


@simulated
async def test_foreign_bits_of_the_word_stay() -> None:
    async with ess() as run:
        assistant(run).words[1] = 0xA400
        await asyncio.sleep(5)
        await run.write(FEED_IN, True)
        assert assistant(run).words[1] == 0xA402


@simulated
async def test_phases_that_differ_have_no_common_value() -> None:
    async with ess("ess3") as run:
        await run.until_known(CHARGE)
        assistant(run, 1).words[1] = 1
        await run.until(lambda: run.value(CHARGE) is None, 10)
        assert run.value(FEED_IN) == 0
        await run.write(CHARGE, 1)
        assert run.value(CHARGE) == 1


@simulated
async def test_a_device_that_refuses_or_keeps_silent() -> None:
    async with ess() as run:
        device = run.core.device
        await run.write(SETPOINT.format(1), 300)
        device.overrides.append(Override(WRITE, execute=False, reply=(b"\x80\x02",), times=2))
        for path in (SETPOINT.format(1), CHARGE):
            with pytest.raises(Refused):
                await run.write(path, 1)
        assert run.value(SETPOINT.format(1)) == 300
        assert run.value(CHARGE) == 0
        # Lost acknowledgements: it is sent once more, as it wears nothing.
        device.overrides.append(Override(WRITE, reply=None, times=1))
        await run.write(SETPOINT.format(1), 400)
        assert words(run) == [400]


@simulated
async def test_one_phase_that_refuses_is_named() -> None:
    async with ess("ess3") as run:
        await run.until_known(CHARGE)
        refusal = Override(WRITE, execute=False, reply=(b"\x80\x02",))
        run.core.devices[1].overrides.append(refusal)
        with pytest.raises(Refused, match="L2: "):
            await run.write(CHARGE, 1)
        assert run.value(CHARGE) is None
        await run.write(SETPOINT.format(3), 250)
        assert words(run) == [0, 0, 250]


@simulated
async def test_writes_that_are_faster_than_the_line_do_not_pile_up() -> None:
    """The last one counts; those it replaces are told so."""
    async with ess() as run:
        outcomes = await asyncio.gather(
            *(run.write(SETPOINT.format(1), value) for value in range(100)), return_exceptions=True
        )
        assert words(run) == [99]
        assert run.value(SETPOINT.format(1)) == 99
        assert len(writes(run)) <= 2
        assert outcomes[99] is None
        assert sum(outcome is None for outcome in outcomes) == len(writes(run))
        for outcome in outcomes:
            assert outcome is None or (isinstance(outcome, Refused) and "took its place" in str(outcome))


@simulated
async def test_a_client_that_gives_up_does_not_take_others_with_it() -> None:
    async with ess() as run:
        first, second, third = (
            asyncio.create_task(run.write(SETPOINT.format(1), value)) for value in (10, 20, 30)
        )
        await asyncio.sleep(0.01)
        first.cancel()
        third.cancel()
        await second
        assert words(run) == [20]
        await asyncio.gather(first, third, return_exceptions=True)


# --- a setpoint is valid for a minute --------------------------------------------------------------------


@simulated
async def test_a_setpoint_that_is_not_renewed_is_not_shown() -> None:
    async with ess() as run:
        path = SETPOINT.format(1)
        await run.write(path, 500)
        await asyncio.sleep(40)
        await run.write(path, 500)
        await asyncio.sleep(59)
        assert run.value(path) == 500
        await asyncio.sleep(2)
        assert run.value(path) is None
        await asyncio.sleep(120)
        assert run.value(path) is None
        assert len(writes(run)) == 2
        assert run.value("/Hub4/AssistantId") == 5
        # Whoever comes back is welcome.
        await run.write(path, 0)
        assert run.value(path) == 0
        await asyncio.sleep(61)
        assert run.value(path) is None


@simulated
async def test_a_device_that_leaves_the_word_as_it_was_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ess, "advance", lambda *_: None)
    async with ess() as run:
        path = SETPOINT.format(1)
        await run.write(path, 500)
        await asyncio.sleep(61)
        assert words(run) == [500]
        assert run.value(path) is None
        await asyncio.sleep(10)
        assert run.value(path) is None
        await run.write(path, 500)
        assert run.value(path) == 500


@simulated
async def test_what_another_program_sets_is_shown_as_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ess, "advance", lambda *_: None)
    async with ess() as run:
        path = SETPOINT.format(1)
        for ours in (False, True):
            if ours:
                await run.write(path, 500)
                await asyncio.sleep(61)
                assert run.value(path) is None
            assistant(run).words[0] = -700 & 0xFFFF
            await run.until(lambda: run.value(path) == 700, 5)
            await asyncio.sleep(70)
            assert run.value(path) == 700
            assistant(run).words[0] = 0
            await run.until(lambda: run.value(path) == 0, 5)
        assert len(writes(run)) == 1


@simulated
async def test_nothing_is_shown_while_the_system_is_away() -> None:
    async with ess() as run:
        await run.write(SETPOINT.format(1), 500)
        run.core.adapter.silent = True
        await run.until(lambda: run.value("/Connected") == 0, 10)
        for path in ("/Hub4/AssistantId", SETPOINT.format(1), CHARGE, FEED_IN):
            assert run.value(path) is None
        with pytest.raises(Disconnected):
            await run.write(SETPOINT.format(1), 500)
        run.core.adapter.silent = False
        await run.until_known(SETPOINT.format(1), 30)


@simulated
async def test_a_unit_that_vanishes_takes_its_phase_along() -> None:
    async with ess("ess3") as run:
        await run.until_known(SETPOINT.format(3))
        run.core.devices[2].present = False
        await run.until(lambda: run.value(SETPOINT.format(3)) is None, 30)
        await run.until(lambda: run.value("/Devices/NumberOfMultis") == 2, 30)
        with pytest.raises(ReadOnly, match="no phase L3"):
            await run.write(SETPOINT.format(3), 100)
        await run.write(SETPOINT.format(2), 100)
        run.core.devices[2].present = True
        await run.until_known(SETPOINT.format(3), 60)


# --- how fast -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Burst:
    """Three setpoints written at once."""

    frames: int
    """Sent for them, addresses included."""
    wire_s: float
    """From the writes to the last byte of the last of them on the wire."""
    span_s: float
    """From the first byte of the first to the last byte of the last of them."""


class Wire:
    """What leaves, and when its last byte is through at 2400 baud."""

    def __init__(self, run: Driven) -> None:
        self.through: list[tuple[float, Frame]] = []
        self._run = run
        self._cutter = FrameCutter()
        self._free = 0.0
        self._before: Callable[[bytes], None] = run.port.on_write
        run.port.on_write = self._note

    def _note(self, data: bytes) -> None:
        self._before(data)
        for frame in self._cutter.feed(data):
            self._free = max(self._free, self._run.now) + len(bytes(frame)) * BYTE_S
            self.through.append((self._free, frame))

    async def burst(self, watts: float) -> Burst:
        self.through.clear()
        began = self._run.now
        await asyncio.gather(*(self._run.write(SETPOINT.format(phase), watts + phase) for phase in (1, 2, 3)))
        words = [
            number
            for number, (_, frame) in enumerate(self.through)
            if len(frame.data) > 1 and frame.data[1] == WRITE
        ]
        addresses = sum(frame.data[:1] == b"A" for _, frame in self.through[: words[-1]])
        first, last = self.through[words[0]], self.through[words[-1]]
        begins = first[0] - len(bytes(first[1])) * BYTE_S
        return Burst(len(words) + addresses, last[0] - began, last[0] - begins)


async def bursts(run: Driven, count: int) -> list[Burst]:
    wire = Wire(run)
    done = []
    for number in range(count):
        await asyncio.sleep(0.5 + 0.0137 * number)
        done.append(await wire.burst(10.0 * number))
        assert words(run) == [10 * number + phase for phase in (1, 2, 3)]
    return done


@simulated
async def test_a_setpoint_takes_no_more_than_two_frames_for_each_phase() -> None:
    async with ess("ess3", options=Options()) as run:
        await run.until_known(SETPOINT.format(3))
        assert {burst.frames for burst in await bursts(run, 20)} == {3}
    # An adapter that knows no addresses in commands: one frame more for each.
    core = Core("ess3")
    core.adapter.kind = replace(core.adapter.kind, addressed=False)
    async with driven(core=core) as run:
        await run.until_known(SETPOINT.format(3))
        assert max(burst.frames for burst in await bursts(run, 20)) <= 6


@pytest.mark.parametrize("discovered", [False, True])
@simulated
async def test_setpoints_of_all_phases_are_on_the_wire_within_200_ms(discovered: bool) -> None:
    async with ess("ess3", options=Options()) as run:
        await run.until_known(SETPOINT.format(3))
        if discovered:
            await run.until(lambda: run.value("/Devices/2/Settings/ReadProgress") == 100, 300)
        done = await bursts(run, 60)
        assert max(burst.span_s for burst in done) <= 0.2
        # Now and then what is on the line when they are asked for takes a little longer.
        assert sum(burst.wire_s <= 0.2 for burst in done) >= 57
        assert max(burst.wire_s for burst in done) <= 0.22
