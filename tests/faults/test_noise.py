"""A line that damages bytes all the time: hours of it, and nothing false is shown."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace
from typing import cast

import pytest
from support.clock import simulated
from support.driven import MODES, Mode, driven
from support.truth import Truth

from mk2dbus.mk2.errors import NoReply
from mk2dbus.mk2.link import Link
from mk2dbus.simulator import Kind, Override, RandomDamage
from mk2dbus.vebus.confirm import MOST_TIMES, Readings, confirmed
from mk2dbus.vebus.options import Options

VOLTAGE = "/Dc/0/Voltage"
NOISE_S = 150.0


@pytest.mark.parametrize("mode", MODES, ids=str)
@simulated
async def test_nothing_false_is_shown_on_a_noisy_line(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """Three bytes of a thousand are lost, flipped or inserted: every tenth exchange fails."""
    caplog.set_level(logging.INFO)
    generator = random.Random(5)
    damage = RandomDamage(loss=0.001, flip=0.001, insert=0.001)
    async with driven(mode=mode, options=Options(poll_interval_s=0.5)) as run:
        await run.until_known(VOLTAGE)
        truth = Truth(run)
        baudrate = run.port.baudrate
        watching = asyncio.create_task(truth.watch())
        run.core.incoming, run.core.outgoing = damage, replace(damage, seed=9)
        while run.now < NOISE_S:
            await asyncio.sleep(generator.uniform(5.0, 20.0))
            run.core.plant.load_w = generator.choice((100.0, 500.0, 1500.0))
            run.core.plant.mains_voltage = generator.choice((0.0, 118.0, 122.0))
        watching.cancel()
        assert not truth.lies, truth.lies[:3]
        # High speed is given up on such a line, and that takes some seconds.
        assert truth.shown > (0.95 if run.port.baudrate == baudrate else 0.9) * truth.checked
        assert not truth.false_settings()
        assert run.value("/Connected") == 1
        assert not run.core.log.of(Kind.PANEL)
        assert not run.core.log.of(Kind.STORED)
    assert "internal error" not in caplog.text


class _Line:
    """As much of a link as is asked for."""

    def __init__(self, noisy: bool) -> None:
        self.noisy = noisy


@pytest.mark.parametrize(
    ("noisy", "known", "answers", "believed", "asked"),
    [
        (False, None, [5, 6], 5, 1),
        (True, None, [5, 5], 5, 2),
        (True, None, [7, 5, 5], 5, 3),
        (True, 5, [5], 5, 1),
        (True, 5, [6, 6], 6, 2),
        (True, 5, [7, 5, 5], 5, 3),
        (True, None, [1, 2, 3, 4, 5, 6], None, MOST_TIMES),
    ],
)
async def test_what_stays_the_same_is_said_twice(
    noisy: bool, known: int | None, answers: list[int], believed: int | None, asked: int
) -> None:
    left = list(answers)

    async def ask() -> int:
        return left.pop(0)

    line = cast(Link, _Line(noisy))
    if believed is None:
        with pytest.raises(NoReply):
            await confirmed(line, ask, known)
    else:
        assert await confirmed(line, ask, known) == believed
    assert len(answers) - len(left) == asked


@pytest.mark.parametrize(
    ("path", "past", "value", "supported"),
    [
        ("/Dc/0/Power", [], 500.0, False),
        ("/Dc/0/Power", [500.0], 510.0, True),
        ("/Dc/0/Power", [500.0, 501.0, 502.0], 18479.0, False),
        ("/Dc/0/Power", [500.0, 501.0, 1500.0], 1490.0, True),
        ("/Dc/0/Power", [500.0, 18479.0, 501.0], 499.0, True),
        # What jumps each time would never be shown.
        ("/Dc/0/Power", [500.0, 900.0, 1500.0], 2500.0, True),
        ("/State", [3, 3, 3], 9, False),
        ("/State", [3, 3, 9], 9, True),
        ("/State", [1, 2, 3], 4, False),
        ("/Ac/ActiveIn/L1/V", [None, None, None], 230.0, False),
    ],
)
def test_what_is_measured_is_near_what_was(
    path: str, past: list[float | int | None], value: float | int, supported: bool
) -> None:
    readings = Readings()
    for one in past:
        readings.add({path: one})
    assert readings.support({path: value}) is supported


@simulated
async def test_a_ram_variable_that_somebody_asks_for_is_told_twice() -> None:
    async with driven() as run:
        await run.until_known(VOLTAGE)
        await run.until_all_read()
        item = run.tree.get("/Devices/0/RamVars/UMainsRms")
        assert item is not None
        assert item.fetch is not None
        run.core.incoming = run.core.outgoing = RandomDamage(flip=0.002)
        await asyncio.sleep(20)
        run.core.incoming = run.core.outgoing = RandomDamage()
        truth = item.leaf.path, run.core.plant.units[0].mains_v
        run.core.device.overrides.append(Override(0x30, b"\x00", reply=(b"\x85\x00\x10",), times=1))
        await item.fetch()
        assert run.value(truth[0]) is None
        await run.until(lambda: run.value(truth[0]) is not None, 8)
        assert run.value(truth[0]) == pytest.approx(truth[1], abs=0.05)
