"""The driver with the simulator's core behind it, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mk2dbus.bus.tree import Tree
from mk2dbus.disk import Disk
from mk2dbus.items import Value
from mk2dbus.mk2.framing import Frame, FrameCutter
from mk2dbus.mk2.speed import SpeedChoice
from mk2dbus.simulator import Core
from mk2dbus.vebus.driver import Driver
from mk2dbus.vebus.energybook import EnergyBook
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.options import DEFAULTS, Options
from support.ports import CorePort

NOWHERE = Path("/dev/null/nowhere")


@dataclass(frozen=True)
class Mode:
    """How the line is used. ``Mode.current`` is what runs have that ask for no other."""

    speed: SpeedChoice = SpeedChoice.LOW
    pipeline: int = 3
    current: ClassVar[Mode]

    def __str__(self) -> str:
        return f"{self.speed}-{self.pipeline}"


Mode.current = Mode()
MODES = (Mode(), Mode(pipeline=1), Mode(SpeedChoice.AUTO))


class Driven:
    """A driver at work, and what it sent."""

    def __init__(
        self,
        core: Core,
        state: Path,
        energy: EnergyBook | None = None,
        options: Options = DEFAULTS,
        disk: Disk | None = None,
    ) -> None:
        self.core = core
        self.tree = Tree()
        self.sent: list[Frame] = []
        self.opened = 0
        self.port: CorePort
        self._cutter = FrameCutter()
        self.driver = Driver(self.tree, self.open, InfoCache(state, disk), options, energy)
        self.driver.place()

    async def open(self) -> CorePort:
        self.opened += 1
        self.port = CorePort(self.core)
        self.port.on_write = self._note
        return self.port

    def _note(self, data: bytes) -> None:
        self.sent += self._cutter.feed(data)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def value(self, path: str) -> Value:
        return self.tree.value(path)

    async def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> float:
        """Wait for a condition; how long it took."""
        start = self.now
        while not condition():
            assert self.now - start < limit_s, f"not within {limit_s} s"
            await asyncio.sleep(0.05)
        return self.now - start

    async def until_known(self, path: str, limit_s: float = 90.0) -> None:
        await self.until(lambda: path in self.tree and self.value(path) is not None, limit_s)

    async def until_all_read(self) -> None:
        progress = "/Devices/0/Settings/ReadProgress"
        await self.until(lambda: progress in self.tree and self.value(progress) == 100, 200.0)

    async def write(self, path: str, value: object) -> None:
        """As a client does: checked by the item, then written."""
        item = self.tree.get(path)
        assert item is not None
        checked = item.accept(value)
        assert item.write is not None
        await item.write(checked)

    def states_sent(self) -> list[Frame]:
        """The ``S`` frames sent so far."""
        return [frame for frame in self.sent if frame.data[:1] == b"S"]

    def commands_sent(self) -> list[Frame]:
        """Those of them that reach the bus: panel frames."""
        return [frame for frame in self.states_sent() if not frame.data[5] & 0x10]


@asynccontextmanager
async def driven(
    profile: str = "multiplus2",
    *,
    still: bool = True,
    state: Path = NOWHERE,
    core: Core | None = None,
    energy: EnergyBook | None = None,
    options: Options = DEFAULTS,
    mode: Mode | None = None,
    disk: Disk | None = None,
) -> AsyncIterator[Driven]:
    """A driver on a simulated system, without noise on its values unless asked for.

    The line is at 2400 baud and takes three commands at a time, unless there is another ``mode``.

    Nothing is kept from one run to the next unless there is a ``state`` directory, or the ``core`` or the
    ``energy`` of another run.
    """
    core = core or Core(profile)
    if still:
        core.plant.noise = 0
    mode = mode or Mode.current
    run = Driven(core, state, energy, replace(options, speed=mode.speed, pipeline=mode.pipeline), disk)
    port = await run.open()
    task = asyncio.create_task(run.driver.run(port))
    try:
        yield run
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
