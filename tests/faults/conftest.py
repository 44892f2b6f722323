"""The service in this process, on a real bus, at a real pseudo-terminal with the simulator behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.bus import Daemon
from system.conftest import service, simulator

from mk2dbus.bus.connection import Connection
from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM
from mk2dbus.service import Config, serve
from mk2dbus.simulator import Simulator
from mk2dbus.systemd import Notifier

__all__ = ["service", "simulator"]

LIMIT_S = 30.0
"""Far more than anything takes."""


@dataclass
class Running:
    """A service that runs, and somebody who asks it."""

    daemon: Daemon
    config: Config
    task: asyncio.Task[None]
    client: Connection | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.config.name

    async def call(self, path: str, member: str, signature: str = "", *body: object) -> Any:
        if self.client is None or self.client.lost.done():
            self.client = await Connection.open(self.daemon.address)
        answer = await self.client.call(self.name, path, BUS_ITEM, member, signature, body, timeout_s=LIMIT_S)
        return answer[0]

    async def value(self, path: str) -> Any:
        """``None``: invalid, or not there yet."""
        try:
            value = (await self.call(path, "GetValue")).value
        except CallFailed:
            return None
        return None if value == [] else value

    async def set(self, path: str, signature: str, value: object) -> int:
        """What SetValue answers."""
        return int(await self.call(path, "SetValue", "v", variant(signature, value)))

    async def until(self, path: str, wanted: Callable[[Any], bool], limit_s: float = LIMIT_S) -> float:
        """Wait for a value; how long it took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(limit_s):
            while not wanted(await self.value(path)):
                assert not self.task.done(), self.task
                await asyncio.sleep(0.02)
        return loop.time() - start

    async def known(self, path: str, limit_s: float = LIMIT_S) -> float:
        return await self.until(path, lambda value: value is not None, limit_s)


@asynccontextmanager
async def running(
    daemon: Daemon, tty: str, state: Path, manager: Notifier | None = None, **more: Any
) -> AsyncIterator[Running]:
    """The service at a port, with its name owned; it must still run at the end."""
    config = Config(bus=daemon.address, suffix="ttySim", state_dir=state, tty=tty, **more)
    owned = asyncio.Event()
    lines: list[str] = []

    def started(line: str) -> None:
        lines.append(line)
        owned.set()

    task = asyncio.create_task(serve(config, started, manager))
    run = Running(daemon, config, task, lines=lines)
    try:
        async with asyncio.timeout(LIMIT_S):
            waiting = asyncio.create_task(owned.wait())
            await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if task.done():
            await task
        yield run
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if run.client is not None:
            run.client.close()


@pytest.fixture
async def run(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(dbus_daemon, str(simulator.port), tmp_path / "state") as run:
        yield run
