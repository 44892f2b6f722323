"""The port goes and comes back, is in use, or may not be opened."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from pathlib import Path

import pytest
from support.bus import Daemon
from support.clock import simulated
from support.driven import NOWHERE
from support.ports import CorePort

from faults.conftest import Running, running
from mk2dbus.bus.tree import Tree
from mk2dbus.mk2.errors import PortUnusable
from mk2dbus.simulator import Core, Simulator
from mk2dbus.vebus.driver import Driver
from mk2dbus.vebus.infocache import InfoCache

VOLTAGE = "/Dc/0/Voltage"
FRESH_S = 5.0


async def test_unplugged_and_plugged_again(
    run: Running, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await run.known(VOLTAGE)
    for _ in range(2):
        simulator.unplug()
        assert await run.until(VOLTAGE, lambda value: value is None, FRESH_S) < 1.0
        assert await run.value("/Connected") == 0
        simulator.plug()
        await run.known(VOLTAGE, 10.0)
    lines = [record.getMessage() for record in caplog.records if "driver" in record.name]
    assert [line.partition(";")[0] for line in lines] == [
        f"lost {simulator.port}: the device is gone",
        "the port is back",
    ] * 2


async def test_another_name_by_a_link(dbus_daemon: Daemon, tmp_path: Path) -> None:
    """As udev does it: the link stays, the device behind it is another one after the plug was pulled."""
    link = tmp_path / "mk3"
    before = Simulator("multiplus2", baudrate=0, latency_ms=2)
    behind = Simulator("multiplus2", baudrate=0, latency_ms=2)
    async with before, behind:
        assert before.port != behind.port
        link.symlink_to(before.port)
        async with running(dbus_daemon, str(link), tmp_path / "state") as run:
            await run.known(VOLTAGE)
            before.unplug()
            link.unlink()
            link.symlink_to(behind.port)
            await run.until("/Connected", lambda value: value == 0, FRESH_S)
            await run.known(VOLTAGE, 10.0)


async def test_closed_in_the_middle_of_a_frame(run: Running, simulator: Simulator) -> None:
    await run.known(VOLTAGE)
    simulator.core.outgoing = lambda data: data[: len(data) // 2]
    await asyncio.sleep(0.05)
    simulator.unplug()
    simulator.core.outgoing = None
    await run.until(VOLTAGE, lambda value: value is None, FRESH_S)
    simulator.plug()
    await run.known(VOLTAGE, 10.0)


@simulated
async def test_pauses_grow_while_the_port_cannot_be_opened() -> None:
    """Missing, in use by another program, no permission: each is said once, and tried for ever."""
    core, tree = Core("multiplus2"), Tree()
    loop = asyncio.get_running_loop()
    attempts: list[float] = []
    reasons = ["ttyUSB0 does not exist"] * 3 + ["ttyUSB0 is in use"] * 3 + ["no permission for ttyUSB0"] * 4

    async def open_port() -> CorePort:
        attempts.append(loop.time())
        if reasons:
            raise PortUnusable(reasons.pop(0))
        return CorePort(core)

    driver = Driver(tree, open_port, InfoCache(NOWHERE))
    driver.place()
    port = CorePort(core)
    task = asyncio.create_task(driver.run(port))
    try:
        await asyncio.sleep(5)
        lost_at = loop.time()
        port.lose()
        await asyncio.sleep(300)
        assert tree.value(VOLTAGE) is not None
        waits = [round(late - early) for early, late in zip([lost_at, *attempts], attempts, strict=False)]
        assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _permit(simulator: Simulator, mode: int) -> None:
    Path(simulator.port).chmod(mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every port")
async def test_permission_lost(run: Running, simulator: Simulator) -> None:
    await run.known(VOLTAGE)
    simulator.unplug()
    simulator.plug()
    _permit(simulator, 0)
    await run.until("/Connected", lambda value: value == 0, FRESH_S)
    await asyncio.sleep(2.0)
    _permit(simulator, 0o600)
    await run.known(VOLTAGE, 10.0)


async def test_in_use_when_it_comes_back(
    run: Running, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program is faster; the service waits until it is done."""
    caplog.set_level(logging.INFO)
    await run.known(VOLTAGE)
    simulator.unplug()
    await run.until("/Connected", lambda value: value == 0, FRESH_S)
    simulator.plug()
    other = os.open(simulator.port, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        await asyncio.sleep(1.5)
        assert await run.value("/Connected") == 0
        assert "in use by another program" in caplog.text
    finally:
        os.close(other)
    await run.known(VOLTAGE, 10.0)
