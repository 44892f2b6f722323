"""The process itself: it is stopped or killed at a bad moment, hangs, or lives through a clock that jumps."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bus import Daemon
from system.conftest import ITEM, Service
from test_systemd import Manager

from faults.conftest import running
from mk2dbus.pulse import Pulse
from mk2dbus.simulator import Kind, Simulator
from mk2dbus.systemd import Notifier
from mk2dbus.vebus.schedule import Scheduler

ABSORPTION = "/Devices/0/Settings/AbsorptionVoltage"
VOLTAGE = "/Dc/0/Voltage"


async def test_sigterm_in_the_middle_of_a_write(service: Service, simulator: Simulator) -> None:
    """The write that is under way ends, once, and its client is told; then the service does."""
    await service.until(ABSORPTION, 57.6)
    simulator.adapter.latency_s = 0.15
    writing = asyncio.create_task(service.busctl("call", ABSORPTION, ITEM, "SetValue", "v", "d", "56.5"))
    setting = simulator.device.settings[2]
    for _ in range(2000):
        if setting.writes:
            break
        await asyncio.sleep(0.005)
    start = time.monotonic()
    assert await service.stop(signal.SIGTERM) == 0
    assert time.monotonic() - start < 5.0
    told = await writing
    assert told.out.split() == ["i", "0"]
    assert (setting.stored, setting.writes) == (5650, 1)
    assert not simulator.log.of(Kind.PANEL)


async def test_sigkill_at_any_time(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    """Wherever it was, the next start works, nothing was commanded by itself, and files are whole."""
    generator = random.Random(4)
    service = Service(dbus_daemon.address, tmp_path)
    for number in range(3):
        await service.start("--tty", str(simulator.port))
        if number:
            await asyncio.sleep(generator.uniform(0.0, 0.8))
        await service.stop(signal.SIGKILL)
    await service.start("--tty", str(simulator.port))
    await service.until(VOLTAGE, ...)
    assert await service.stop() == 0
    for line in service.log.splitlines():
        assert "ignoring" not in line, line
        assert "cannot be understood" not in line, line
    assert not simulator.log.of(Kind.PANEL)
    assert not simulator.log.of(Kind.STORED)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


async def test_no_pings_while_the_inverter_side_hangs(
    manager: Manager,
    simulator: Simulator,
    dbus_daemon: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the real service: its task for the inverter waits for something that never comes."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    monkeypatch.setattr(Pulse, "MARGIN_S", 0.2)
    monkeypatch.setattr("mk2dbus.vebus.schedule.SILENCE_S", 0.4)
    monkeypatch.setattr("mk2dbus.vebus.session._START_UP_BEAT_S", 1.0)
    go_on = asyncio.Event()
    go_on.set()
    watch = Scheduler._watch_silence

    async def hanging(self: Scheduler) -> None:
        watching = asyncio.create_task(watch(self))
        try:
            while True:
                if go_on.is_set():
                    await asyncio.wait({watching}, timeout=0.05)
                    if watching.done():
                        await watching
                else:
                    watching.cancel()
                    await go_on.wait()
                    watching = asyncio.create_task(watch(self))
        finally:
            watching.cancel()

    monkeypatch.setattr(Scheduler, "_watch_silence", hanging)
    notifier = Notifier(manager.address)
    async with running(dbus_daemon, str(simulator.port), tmp_path / "state", notifier) as run:
        await run.known(VOLTAGE)
        await manager.until("WATCHDOG=1")
        go_on.clear()
        await asyncio.sleep(1.5)
        assert manager.told
        await asyncio.sleep(0.5)
        assert not [text for text in manager.told if "WATCHDOG" in text]
        go_on.set()
        await manager.until("WATCHDOG=1", 5.0)


HANGS = """
import signal, sys, time
from mk2dbus.cli import main

# Where the loop is just then: it does not come back.
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(60))
sys.exit(main(sys.argv[1:]))
"""


async def test_no_pings_while_the_process_hangs(
    manager: Manager, simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path
) -> None:
    """The real process, with a socket as systemd gives it: the main task stands still, so do the pings."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HANGS, "run", "--tty", str(simulator.port), "--bus", dbus_daemon.address),
        *("--state-dir", str(tmp_path / "state")),
        env=os.environ | {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await manager.until("READY=1")
        await manager.until("STATUS=connected to MultiPlus-II")
        await manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(0.4)
        assert len(manager.told) <= 3
        await asyncio.sleep(0.8)
        assert manager.told == []
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


async def test_stopped_for_a_while(service: Service, simulator: Simulator) -> None:
    """SIGSTOP is the hardest hang there is; afterwards values are new ones."""
    await service.until(VOLTAGE, ...)
    service.process.send_signal(signal.SIGSTOP)
    simulator.plant.battery.forced_v = 49.5
    await asyncio.sleep(1.0)
    service.process.send_signal(signal.SIGCONT)
    for _ in range(60):
        if await service.value(VOLTAGE) == pytest.approx(49.5, abs=0.2):
            return
        await asyncio.sleep(0.05)
    pytest.fail("the value is an old one")


async def test_the_time_of_day_jumps(
    simulator: Simulator,
    dbus_daemon: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a machine without a clock of its own when the network comes: nothing is measured with it."""
    real, jumped = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + jumped)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + jumped) * 1e9))
    async with running(dbus_daemon, str(simulator.port), tmp_path / "state") as run:
        await run.known(VOLTAGE)
        for years in (-1, 20):
            jumped = years * 365 * 86_400.0
            volts = 50.0 + years / 10
            simulator.plant.battery.forced_v = volts
            took = await run.until(
                VOLTAGE, lambda value, volts=volts: value == pytest.approx(volts, abs=0.05)
            )
            assert took < 4.0
            assert await run.value("/Connected") == 1
