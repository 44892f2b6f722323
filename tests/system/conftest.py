"""The real service as a process, on a real bus, at a real pseudo-terminal with the simulator behind it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.bus import Daemon

from mk2dbus.simulator import Simulator

ITEM = "com.victronenergy.BusItem"
START_LIMIT_S = 20.0
"""Far more than it takes; a test that needs it has failed."""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


async def call(*command: str, limit_s: float = 30.0) -> Outcome:
    """Run a client; the simulator goes on meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(limit_s):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


async def mk2dbus(*arguments: str, limit_s: float = 30.0) -> Outcome:
    return await call(sys.executable, "-m", "mk2dbus", *arguments, limit_s=limit_s)


class Service:
    """A running ``mk2dbus run``."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.name = ""
        self.line = ""
        self.process: asyncio.subprocess.Process
        self._log = folder / "service.log"

    async def start(self, *arguments: str) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mk2dbus", "run", *arguments),
                *("--bus", self.address, "--state-dir", str(self.folder / "state")),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            self.line = (await self.process.stdout.readline()).decode().strip()
        assert self.line, self.log
        self.name = self.line.split()[0]

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(START_LIMIT_S):
            return await self.process.wait()

    async def busctl(self, verb: str, path: str, *arguments: str) -> Outcome:
        return await call("busctl", f"--address={self.address}", verb, self.name, path, *arguments)

    async def get(self, path: str, name: str = "Value") -> str:
        """A property as busctl prints it: ``v d 50.5``."""
        outcome = await self.busctl("get-property", path, ITEM, name)
        return outcome.out.strip()

    async def value(self, path: str) -> float | str | None:
        """The value of an item, ``None`` when it is invalid or not there."""
        outcome = await self.busctl("get-property", path, ITEM, "Value")
        words = outcome.out.split(maxsplit=2)
        if outcome.code or words[1] == "ai":
            return None
        return words[2].strip().strip('"') if words[1] == "s" else float(words[2])

    async def until(self, path: str, wanted: object, limit_s: float = 30.0) -> None:
        """Wait until an item has a value; ``...`` stands for any but invalid."""
        async with asyncio.timeout(limit_s):
            while True:
                value = await self.value(path)
                if value == wanted or (wanted is ... and value is not None):
                    return
                # Not more often: each look is a process.
                await asyncio.sleep(0.15)

    async def set_value(self, path: str, signature: str, value: str) -> int:
        """``SetValue`` by busctl; what it answered."""
        outcome = await self.busctl("call", path, ITEM, "SetValue", "v", signature, value)
        assert outcome.code == 0, outcome.err
        return int(outcome.out.split()[1])

    async def set_property(self, path: str, signature: str, *value: str) -> Outcome:
        return await self.busctl("set-property", path, ITEM, "Value", "v", signature, *value)


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    """A MultiPlus-II behind an MK3; its line is not paced, which saves the tests most of their time."""
    async with Simulator("multiplus2", baudrate=0, latency_ms=2, link=tmp_path / "ttySim") as simulator:
        simulator.plant.noise = 0
        yield simulator


@pytest.fixture
async def service(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> AsyncIterator[Service]:
    """The service at the simulator, with its name owned."""
    service = Service(dbus_daemon.address, tmp_path)
    await service.start("--tty", str(simulator.port))
    yield service
    if service.process.returncode is None:
        assert await service.stop() == 0, service.log
    assert "Traceback" not in service.log, service.log


def processes_of(marker: str) -> list[str]:
    """Command lines of running processes that hold a text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if marker in line and int(entry.name) != os.getpid():
            found.append(line)
    return found
