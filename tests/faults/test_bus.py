"""The bus goes and comes back; clients that are no good."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from faults.conftest import Running
from mk2dbus.bus.connection import Connection
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM
from mk2dbus.bus.wire import Message, MessageType
from mk2dbus.simulator import Override, Simulator

VOLTAGE = "/Dc/0/Voltage"
ABSORPTION = "/Devices/0/Settings/AbsorptionVoltage"
BACK_S = 5.0
"""After the bus comes back, name and objects are there again."""


async def _back(run: Running) -> float:
    """How long it takes until somebody who asks has an answer again."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.timeout(BACK_S):
        while True:
            client = await Connection.open(run.daemon.address)
            try:
                (there,) = await client.call_daemon("NameHasOwner", "s", [run.name])
                if there:
                    (items,) = await client.call(run.name, "/", BUS_ITEM, "GetItems")
                    assert items[VOLTAGE]["Value"].value != []
                    return loop.time() - start
            finally:
                client.close()
            await asyncio.sleep(0.02)


async def test_the_daemon_is_killed_and_started_again(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await run.known(VOLTAGE)
    for pause in (0.0, 1.0):
        run.daemon.kill()
        await asyncio.sleep(pause)
        run.daemon.start()
        await _back(run)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("mk2dbus.bus")]
    assert (
        said
        == [
            f"{run.name} is off the bus: the bus daemon ended the connection",
            f"{run.name} is on the bus again",
        ]
        * 2
    )


async def test_the_daemon_is_stopped_for_seconds(run: Running, simulator: Simulator) -> None:
    """Nobody is told anything meanwhile; the inverter side goes on, and what comes out then is new."""
    await run.known(VOLTAGE)
    run.daemon.stop()
    simulator.plant.battery.forced_v = 49.5
    # While settings are read, it is read every two seconds.
    await asyncio.sleep(2.5)
    run.daemon.go_on()
    assert await run.value(VOLTAGE) == pytest.approx(49.5, abs=0.2)


async def test_a_client_that_floods(run: Running) -> None:
    """Others are still served, each in its turn."""
    await run.known(VOLTAGE)
    flood = await Connection.open(run.daemon.address)
    calls = [
        asyncio.create_task(flood.call(run.name, "/", BUS_ITEM, "GetItems", timeout_s=60)) for _ in range(300)
    ]
    await asyncio.sleep(0)
    assert await run.value(VOLTAGE) is not None
    assert not all(call.done() for call in calls)
    await asyncio.gather(*calls)
    flood.close()


async def test_a_client_that_never_reads_its_replies(run: Running) -> None:
    await run.known(VOLTAGE)
    deaf = await Connection.open(run.daemon.address)
    deaf._pause()
    for _ in range(2000):
        message = Message(
            MessageType.METHOD_CALL,
            path="/",
            interface=BUS_ITEM,
            member="GetItems",
            destination=run.name,
        )
        deaf._send(message, b"", deaf._next_serial())
    await asyncio.sleep(0.5)
    for _ in range(5):
        assert await run.value(VOLTAGE) is not None
    deaf.close()
    assert await run.value("/Connected") == 1


async def test_a_client_that_dies_inside_a_call(run: Running, simulator: Simulator) -> None:
    """Its write is done all the same, once, and whoever comes next is served."""
    await run.until(ABSORPTION, lambda value: value == 57.6)
    setting = simulator.device.settings[2]
    simulator.adapter.latency_s = 0.3
    dying = await Connection.open(run.daemon.address)
    call = asyncio.create_task(
        dying.call(run.name, ABSORPTION, BUS_ITEM, "SetValue", "v", [variant("d", 56.5)])
    )
    await asyncio.sleep(0.1)
    dying.close()
    await asyncio.gather(call, return_exceptions=True)
    await run.until(ABSORPTION, lambda value: value == 56.5, 10.0)
    simulator.adapter.latency_s = 0.002
    assert setting.writes == 1
    assert await run.set(ABSORPTION, "d", 57.0) == 0
    assert setting.writes == 2


async def test_the_bus_dies_in_the_middle_of_a_write(run: Running, simulator: Simulator) -> None:
    await run.until(ABSORPTION, lambda value: value == 57.6)
    setting = simulator.device.settings[2]
    simulator.device.overrides.append(Override(0x37, reply=None, times=1))
    writing = asyncio.create_task(run.set(ABSORPTION, "d", 56.5))
    await asyncio.sleep(0.1)
    run.daemon.kill()
    with pytest.raises(Exception, match="gone"):
        await writing
    run.daemon.start()
    await _back(run)
    await run.until(ABSORPTION, lambda value: value == 56.5, 10.0)
    assert setting.writes == 1


async def test_descriptors_stay_as_they_are(run: Running, simulator: Simulator) -> None:
    """Whatever goes and comes back, nothing is left open."""
    await run.known(VOLTAGE)
    await _back(run)
    before = _descriptors()
    simulator.unplug()
    await run.until("/Connected", lambda value: value == 0)
    simulator.plug()
    run.daemon.kill()
    run.daemon.start()
    await _back_name(run)
    await run.known(VOLTAGE, 10.0)
    assert _descriptors() <= before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _back_name(run: Running) -> None:
    async with asyncio.timeout(BACK_S):
        while True:
            client = await Connection.open(run.daemon.address)
            try:
                (there,) = await client.call_daemon("NameHasOwner", "s", [run.name])
            finally:
                client.close()
            if there:
                return
            await asyncio.sleep(0.02)
