"""The service: joins a port, the inverter side and the bus. The only place that knows all three."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mk2dbus import __version__
from mk2dbus.bus.names import DEVICES
from mk2dbus.bus.raw import RawAccess, raw_interface
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.items import NO_LIMITS, Leaf, Limits, ReadOnly, Refused, Value
from mk2dbus.mk2.port import MK2_BAUDRATE, open_port
from mk2dbus.state import StateFile, StateUnwritable
from mk2dbus.vebus.board import Fetch, Write
from mk2dbus.vebus.driver import Driver
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.paths import system_leaves

log = logging.getLogger(__name__)

NAME_PREFIX = "com.victronenergy.vebus"
DEFAULT_DEVICE_INSTANCE = 257
SIMULATOR_SUFFIX = "sim0"
MAX_CUSTOM_NAME = 64
_SUFFIX = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Config:
    """What a service is to do. Without a ``tty`` it runs on the simulator, with the profile ``simulate``."""

    bus: str
    suffix: str
    state_dir: Path
    tty: str | None = None
    simulate: str = ""
    baudrate: int = MK2_BAUDRATE
    device_instance: int = DEFAULT_DEVICE_INSTANCE
    read_only: bool = False

    @property
    def name(self) -> str:
        """The bus name."""
        return f"{NAME_PREFIX}.{self.suffix}"


def default_suffix(tty: str) -> str:
    """Name suffix for a port: its base name, made fit for a bus name."""
    suffix = re.sub(r"[^A-Za-z0-9_-]", "_", Path(tty).name)
    return suffix if is_suffix(suffix) else f"_{suffix}"


def is_suffix(suffix: str) -> bool:
    """Whether a text can be the last element of a bus name."""
    return _SUFFIX.fullmatch(suffix) is not None and len(suffix) <= 200


class ReadOnlyTree(Tree):
    """Refuses every write, whatever the item."""

    def add(
        self,
        leaf: Leaf,
        value: Value = None,
        *,
        limits: Limits = NO_LIMITS,
        write: Write | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        refuse = None if write is None else partial(_refuse, leaf.path)
        super().add(leaf, value, limits=limits, write=refuse, fetch=fetch)


class ReadOnlyRaw:
    """Reads, and refuses to write."""

    def __init__(self, raw: RawAccess) -> None:
        self._raw = raw

    async def read_ram(self, device: int, id: int) -> tuple[Value, int]:
        return await self._raw.read_ram(device, id)

    async def write_ram(self, device: int, id: int, value: float) -> tuple[Value, int]:
        raise ReadOnly(_READ_ONLY.format(f"RAM variable {id}"))

    async def preview(self, path: str, value: int | float | str) -> str:
        raise ReadOnly(_READ_ONLY.format(path))


_READ_ONLY = "{} cannot be written: the service was started with --read-only"


async def _refuse(path: str, value: int | float | str) -> None:
    raise ReadOnly(_READ_ONLY.format(path))


async def serve(config: Config, started: Callable[[str], None]) -> None:
    """Run a service until cancelled.

    ``started`` is called with one line when the name is owned.

    Raises:
        PortUnusable: the port cannot be opened.
        BusError: no bus, name already owned, or not allowed to own it.
        UnknownProfileError: no such simulator profile.
    """
    async with AsyncExitStack() as stack:
        tty = config.tty
        if tty is None:
            tty = await stack.enter_async_context(_simulator(config))
        reopen = partial(open_port, tty, config.baudrate)
        port = await reopen()
        stack.push_async_callback(port.close)
        tree = ReadOnlyTree() if config.read_only else Tree()
        driver = Driver(tree, reopen, InfoCache(config.state_dir))
        driver.place()
        _place_own(tree, config, tty)
        bus = BusService(tree, config.bus)
        bus.extend(DEVICES, raw_interface(ReadOnlyRaw(driver.raw) if config.read_only else driver.raw))
        stack.push_async_callback(bus.close)
        try:
            # The line is slow: let the session start while the bus is being reached.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(driver.run(port), name="driver")
                await bus.start(config.name)
                started(f"{config.name} on {tty}, {len(tree)} objects")
                tasks.create_task(bus.run(), name="bus")
        except BaseExceptionGroup as group:
            # The first is the cause; others, if any, followed from it.
            raise group.exceptions[0] from group


@asynccontextmanager
async def _simulator(config: Config) -> AsyncIterator[str]:
    """A simulated adapter; the path of its port."""
    # Imported here: with a real adapter it is not needed.
    from mk2dbus.simulator import Simulator

    async with Simulator(config.simulate, config.baudrate) as simulator:
        yield str(simulator.port)


def _place_own(tree: Tree, config: Config, tty: str) -> None:
    """Add the items that belong to the service itself."""
    state = StateFile(config.state_dir, config.suffix)
    values: dict[str, Value] = {
        "/Mgmt/ProcessName": "mk2dbus",
        "/Mgmt/ProcessVersion": __version__,
        "/Mgmt/Connection": "VE.Bus",
        "/DeviceInstance": config.device_instance,
        "/CustomName": state.get("CustomName", ""),
        "/Interfaces/Mk2/Connection": tty,
        "/Interfaces/Mk2/Status/Baudrate": config.baudrate,
    }
    for leaf in system_leaves():
        if leaf.path in values:
            write = partial(_write_custom_name, tree, state) if leaf.path == "/CustomName" else None
            tree.add(leaf, values[leaf.path], write=write)


async def _write_custom_name(tree: Tree, state: StateFile, value: int | float | str) -> None:
    name = str(value)
    if len(name) > MAX_CUSTOM_NAME:
        raise Refused(f"/CustomName takes at most {MAX_CUSTOM_NAME} characters")
    try:
        state.set("CustomName", name)
    except StateUnwritable as error:
        raise Refused(f"/CustomName: {error}") from error
    tree.update({"/CustomName": name})
