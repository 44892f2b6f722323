"""The process or the whole machine stands still for a while: what was true before is not shown afterwards."""

from __future__ import annotations

import argparse
import asyncio
import time

import pytest
from support.clock import SimulatedLoop, simulated
from support.driven import MODES, Mode, driven

from mk2dbus import cli
from mk2dbus.clock import BootTimeLoop
from mk2dbus.vebus.options import Options

VOLTAGE = "/Dc/0/Voltage"
ABSORPTION = "/Devices/0/Settings/AbsorptionVoltage"
LONG_S = 20.0


@pytest.mark.parametrize("mode", MODES, ids=str)
@simulated
async def test_nothing_old_is_shown_after_a_standstill(mode: Mode) -> None:
    """Wherever the requests under way were: their replies wait in the port then."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    async with driven(mode=mode, options=Options(poll_interval_s=0.3)) as run:
        await run.until_known(ABSORPTION)
        battery = run.core.plant.battery
        for number in range(8):
            await run.until_known(VOLTAGE, 12.0)
            await asyncio.sleep(1.0 + 0.11 * number)
            volts = 49.0 + 0.1 * number
            battery.forced_v = volts
            loop.stand_still(LONG_S)
            begin = run.now
            while run.now < begin + 1.0:
                # What is due goes first, as it does before a client is answered.
                await asyncio.sleep(0.001)
                assert run.value(VOLTAGE) in (None, pytest.approx(volts, abs=0.03)), number
        assert run.opened == 1


def test_time_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s = 0.0
    real = time.clock_gettime

    def clock_gettime(clock: int) -> float:
        return real(clock) + slept_s * (clock == time.CLOCK_BOOTTIME)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)

    async def main(_arguments: argparse.Namespace) -> int:
        nonlocal slept_s
        assert isinstance(asyncio.get_running_loop(), BootTimeLoop)
        over = asyncio.create_task(asyncio.sleep(LONG_S))
        await asyncio.sleep(0.01)
        assert not over.done()
        slept_s = LONG_S
        async with asyncio.timeout(5.0):
            await over
        return 7

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=main)
    parser.add_argument("command")
    monkeypatch.setattr(cli, "build_parser", lambda _: parser)
    assert cli.main(["run"]) == 7
