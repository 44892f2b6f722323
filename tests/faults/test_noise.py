"""A line that damages bytes all the time: hours of it, and nothing false is shown."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace

import pytest
from support.clock import simulated
from support.driven import MODES, Mode, driven
from support.truth import Truth

from mk2dbus.simulator import Kind, RandomDamage
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
        watching = asyncio.create_task(truth.watch())
        run.core.incoming, run.core.outgoing = damage, replace(damage, seed=9)
        while run.now < NOISE_S:
            await asyncio.sleep(generator.uniform(5.0, 20.0))
            run.core.plant.load_w = generator.choice((100.0, 500.0, 1500.0))
            run.core.plant.mains_voltage = generator.choice((0.0, 118.0, 122.0))
        watching.cancel()
        assert not truth.lies, truth.lies[:3]
        assert truth.shown > 0.95 * truth.checked
        assert not truth.false_settings()
        assert run.value("/Connected") == 1
        assert not run.core.log.of(Kind.PANEL)
        assert not run.core.log.of(Kind.STORED)
    assert "internal error" not in caplog.text
