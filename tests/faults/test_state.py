"""The state directory is full, read-only, gone, or full of nonsense: the service does its work."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bus import Daemon
from support.clock import simulated
from support.driven import driven

from faults.conftest import running
from mk2dbus.disk import DiskThread
from mk2dbus.simulator import Simulator
from mk2dbus.vebus.energybook import EnergyBook, EnergyFile, loop_clock

VOLTAGE = "/Dc/0/Voltage"
ABSORPTION = "/Devices/0/Settings/AbsorptionVoltage"


@pytest.fixture(autouse=True)
def info_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def _told(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


async def _all_read(daemon: Daemon, simulator: Simulator, state: Path) -> str:
    """The whole life of a service with that directory; the name that it has then."""
    async with running(daemon, str(simulator.port), state) as run:
        await run.known(VOLTAGE)
        await run.until("/Devices/0/Settings/ReadProgress", lambda value: value == 100)
        outcome = await run.set("/CustomName", "s", "Galley")
        assert await run.set(ABSORPTION, "d", 57.0) == 0
        assert await run.set(ABSORPTION, "d", 57.6) == 0
        shown = str(await run.value("/CustomName"))
        # Whoever is told that it was not kept does not see it shown.
        assert shown == ("Galley" if outcome == 0 else "")
        return shown


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
async def test_it_cannot_be_written(
    error: int,
    simulator: Simulator,
    dbus_daemon: Daemon,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OSError(error, os.strerror(error))

    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr("tempfile.mkstemp", fail)
    assert await _all_read(dbus_daemon, simulator, state) == ""
    assert _told(caplog, os.strerror(error)) <= 4
    assert _told(caplog, "infos cannot be kept") == 1
    assert list(state.iterdir()) == []


async def test_it_is_full_in_the_middle_of_a_file(
    simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before stays whole, and nothing half written is left."""
    state = tmp_path / "state"
    assert await _all_read(dbus_daemon, simulator, state) == "Galley"
    before = {path.name: path.read_bytes() for path in state.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    async with running(dbus_daemon, str(simulator.port), state) as run:
        await run.known(ABSORPTION)
        assert await run.set("/CustomName", "s", "Cellar") == 2
        assert await run.value("/CustomName") == "Galley"
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


async def test_it_vanishes_while_running(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with running(dbus_daemon, str(simulator.port), state) as run:
        await run.known(VOLTAGE)
        shutil.rmtree(state)
        assert await run.set("/CustomName", "s", "Galley") == 0
        shutil.rmtree(state)
        state.write_text("a file where the directory was")
        assert await run.set("/CustomName", "s", "Cellar") == 2
        assert await run.value("/CustomName") == "Galley"
        await run.known(ABSORPTION)


BROKEN = {
    "empty": b"",
    "half": b'{"format": 1, "texts": {"CustomN',
    "other kinds": b'{"format": 1, "texts": [1], "settings": 5, "version": "x", "totals": {"system": "x"}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_files(
    name: str,
    simulator: Simulator,
    dbus_daemon: Daemon,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each is said, and is worth no more than none; good ones take their place."""
    state = tmp_path / "state"
    state.mkdir()
    for file in ("ttySim.json", "ttySim.energy.json", "infos-2729560-new.json"):
        (state / file).write_bytes(BROKEN[name])
    assert await _all_read(dbus_daemon, simulator, state) == "Galley"
    assert _told(caplog, "infos-2729560-new.json") == 1
    for file in ("ttySim.json", "infos-2729560-new.json"):
        assert json.loads((state / file).read_text())["format"] == 1
    assert "Traceback" not in caplog.text


async def test_directories_for_files(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for file in ("ttySim.json", "ttySim.energy.json", "infos-2729560-new.json"):
        (state / file).mkdir()
    async with running(dbus_daemon, str(simulator.port), state) as run:
        await run.known(ABSORPTION)


def _wait(holds: Callable[[], bool]) -> None:
    """In real time: the clock of the test does not count for the disk."""
    end = time.monotonic() + 5.0
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("stall_s", [6.0, 200.0])
@simulated
async def test_a_disk_that_stands_still(
    stall_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything goes on meanwhile, and what was to be kept is kept afterwards."""
    go, reached = threading.Event(), threading.Event()
    sync = os.fsync

    def stall(descriptor: int) -> None:
        reached.set()
        # Not for ever: whoever calls it on the event loop is to fail.
        assert go.wait(5.0)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", stall)
    disk = DiskThread()
    energy = EnergyBook(EnergyFile(tmp_path, "ttySim"), loop_clock, disk)
    async with driven(state=tmp_path, energy=energy, disk=disk) as run:
        await run.until_known(VOLTAGE)
        await run.until_known("/Energy/InverterToAcOut")
        await asyncio.sleep(5.0)
        _wait(reached.is_set)
        measured = [path for path in run.tree if path.startswith(("/Dc/", "/Ac/Out/L1/", "/Devices/0/Dc/"))]
        known = [path for path in measured if run.value(path) is not None]
        assert len(known) > 8
        battery, begin = run.core.plant.battery, run.now
        while run.now < begin + stall_s:
            battery.forced_v = 50.0 + (run.now - begin) / 100
            await asyncio.sleep(0.1)
            assert [path for path in known if run.value(path) is None] == []
        assert run.value(VOLTAGE) == pytest.approx(battery.forced_v, abs=0.1)
        assert run.opened == 1
        if stall_s > 60:
            await run.until_all_read()
        go.set()
    _wait(lambda: bool(EnergyFile(tmp_path, "ttySim").load().last))
    if stall_s > 60:
        _wait((tmp_path / "infos-2729560-new.json").exists)
    await disk.close()
    _wait(lambda: not any(thread.name == "disk" for thread in threading.enumerate()))


STALLS = """
import os, sys, time
from mk2dbus.cli import main

os.fsync = lambda descriptor: time.sleep(60)
sys.exit(main(sys.argv[1:]))
"""


async def test_sigterm_while_the_disk_stands_still(
    simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "ttySim.json").write_text('{"format": 1, "texts": {"DeviceInstance": "257"}}')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STALLS, "run", "--tty", str(simulator.port), "--name", "ttySim"),
        *("--bus", dbus_daemon.address, "--state-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline()
    await asyncio.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    async with asyncio.timeout(10.0):
        _, said = await process.communicate()
    assert process.returncode == 0
    assert b"the disk does not take" in said
    assert 1.5 < time.monotonic() - start < 2.4
