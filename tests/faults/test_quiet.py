"""The log is quiet when all is well: a line for each change of state, and one an hour of what was counted."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from support.clock import simulated
from support.driven import driven

from mk2dbus.logs import SUMMARY_S, Summary, summarise
from mk2dbus.simulator import Console
from mk2dbus.vebus.options import Options

SLOW = Options(poll_interval_s=4.0)
"""So that an hour costs little."""
CONNECTED = "connected: MultiPlus-II 48/3000/35-50 120V (product 2729, firmware 560), adapter 1170216"
LOST = "connection to the inverter lost: no answer for 4.0 s"
SILENT = "the adapter does not answer (it has power only while the inverter is awake)"


@simulated
async def test_an_hour_in_which_all_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Mains, load and battery move a little, as they do; a night begins and ends."""
    caplog.set_level(logging.INFO)
    async with driven(still=False, state=tmp_path, options=SLOW) as run:
        summary = Summary(run.driver.counted, clock=asyncio.get_running_loop().time)
        summing = asyncio.create_task(summarise(summary))
        await asyncio.sleep(SUMMARY_S / 3)
        run.core.plant.mains_voltage = 0.0
        await asyncio.sleep(SUMMARY_S / 3)
        run.core.plant.mains_voltage = 120.0
        run.core.plant.load_w = 1500.0
        await asyncio.sleep(SUMMARY_S / 3 + 1.0)
        summing.cancel()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", CONNECTED),
        (
            "INFO",
            "in the last hour: sessions 1, retries 0, time-outs 0, dropped bytes 0, stray frames 0, "
            "implausible replies 0",
        ),
    ]


@simulated
async def test_an_outage_is_said_once_and_its_end_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it lasts."""
    caplog.set_level(logging.INFO)
    async with driven(state=tmp_path, options=SLOW) as run:
        await run.until_known("/Dc/0/Voltage")
        console = Console(run.core)
        for _ in range(2):
            console.execute("adapter fault silent")
            await asyncio.sleep(300.0)
            console.execute("adapter fault none")
            await asyncio.sleep(60.0)
    assert [record.getMessage() for record in caplog.records] == [CONNECTED, *[LOST, SILENT, CONNECTED] * 2]
