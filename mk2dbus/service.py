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
from tempfile import TemporaryDirectory

from mk2dbus import __version__
from mk2dbus.bus.localsettings import LocalSettings
from mk2dbus.bus.names import DEVICES
from mk2dbus.bus.raw import RawAccess, raw_interface
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.disk import DiskThread
from mk2dbus.identity import Identity, settings_folder
from mk2dbus.items import NO_LIMITS, Leaf, Limits, ReadOnly, Value
from mk2dbus.logs import Summary, summarise
from mk2dbus.mk2.errors import PortUnusable
from mk2dbus.mk2.port import open_port
from mk2dbus.pulse import Pulse
from mk2dbus.state import StateFile
from mk2dbus.systemd import Notifier, supervise, watchdog_interval_s
from mk2dbus.vebus.board import Fetch, Write
from mk2dbus.vebus.driver import Driver, OpenPort
from mk2dbus.vebus.energybook import EnergyBook, EnergyFile, machine_clock
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.options import DEFAULTS, Options
from mk2dbus.vebus.paths import system_leaves

log = logging.getLogger(__name__)
wire_log = logging.getLogger("mk2dbus.wire")

NAME_PREFIX = "com.victronenergy.vebus"
SIMULATOR_SUFFIX = "sim0"
RECORD_LIMIT = 16 << 20
"""Bytes of a recording, and as many again of the one before: some hours of a busy line at 2400 baud."""
_SUFFIX = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Config:
    """What a service is to do. Without a ``tty`` it runs on the simulator, with the profile ``simulate``."""

    bus: str
    suffix: str
    state_dir: Path
    tty: str | None = None
    simulate: str = ""
    sim_control: Path | None = None
    device_instance: int | None = None
    read_only: bool = False
    options: Options = DEFAULTS
    record: Path | None = None
    """Where to record the traffic; with ``serial_numbers`` or others in their place."""
    serial_numbers: bool = False

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


async def serve(config: Config, started: Callable[[str], None], manager: Notifier | None = None) -> None:
    """Run a service until cancelled.

    ``started`` is called with one line when the name is owned; the service ``manager`` is told how it goes.

    Raises:
        PortUnusable: the port cannot be opened.
        CannotRecord: the file for a recording cannot be made.
        BusError: no bus, name already owned, or not allowed to own it.
        UnknownProfileError: no such simulator profile.
    """
    async with AsyncExitStack() as stack:
        disk = DiskThread()
        # Last of all: the others have something to keep when they end.
        stack.push_async_callback(disk.close)
        tty = config.tty
        if tty is None:
            tty = await stack.enter_async_context(_simulator(config))
        reopen: OpenPort = partial(open_port, tty)
        if config.record is not None or wire_log.isEnabledFor(logging.DEBUG):
            reopen = _tapped(config, tty, reopen, stack)
        port = await reopen()
        stack.push_async_callback(port.close)
        tree = ReadOnlyTree() if config.read_only else Tree()
        pulse = Pulse()
        energy = EnergyBook(EnergyFile(config.state_dir, config.suffix), machine_clock(), disk)
        driver = Driver(
            tree,
            reopen,
            InfoCache(config.state_dir, disk),
            config.options,
            energy,
            pulse.part("inverter side"),
        )
        driver.place()
        folder = settings_folder(config.suffix)
        state = StateFile(config.state_dir, config.suffix)
        identity = Identity(folder, state, config.device_instance, tree.update, disk)
        _place_own(tree, config, tty, identity)
        bus = BusService(tree, config.bus, beat=pulse.part("bus"))
        settings = LocalSettings(folder, identity)
        identity.use(settings)
        bus.follow(settings)
        bus.extend(DEVICES, raw_interface(ReadOnlyRaw(driver.raw) if config.read_only else driver.raw))
        stack.push_async_callback(bus.close)
        try:
            # The line is slow: let the session start while the bus is being reached.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(driver.run(port), name="driver")
                await bus.start(config.name)
                started(f"{config.name} on {tty}, {len(tree)} objects")
                tasks.create_task(bus.run(), name="bus")
                tasks.create_task(summarise(Summary(driver.counted)), name="summary")
                if manager is not None and manager.wanted:
                    status = partial(_status, tree, bus, tty)
                    tasks.create_task(supervise(manager, pulse, status, watchdog_interval_s()), name="pulse")
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    disk.close_soon()
                    # While the inverter side can still do what is under way.
                    await bus.finish()
        except BaseExceptionGroup as group:
            # The first is the cause; others, if any, followed from it.
            raise group.exceptions[0] from group


def _tapped(config: Config, tty: str, reopen: OpenPort, stack: AsyncExitStack) -> OpenPort:
    """Opens the port for a recording and the log of the wire to listen."""
    # Imported here: most of the time nobody listens.
    from mk2dbus.decode.recording import Recorder, about_port
    from mk2dbus.decode.tap import Listener, WireLog, tapped

    kinds: list[Callable[[], Listener]] = []
    if config.record is not None:
        recorder = Recorder(
            config.record,
            [about_port(tty)],
            anonymous=not config.serial_numbers,
            limit=RECORD_LIMIT,
        )
        stack.callback(recorder.close)
        kinds.append(lambda: recorder.feed)
    if wire_log.isEnabledFor(logging.DEBUG):
        kinds.append(WireLog)
    return tapped(reopen, lambda: [kind() for kind in kinds])


def _status(tree: Tree, bus: BusService, tty: str) -> str:
    """One line for a person who asks the service manager."""
    product = tree.value("/ProductName") if tree.value("/Connected") else None
    inverter = f"connected to {product} on {tty}" if product else f"no inverter answers on {tty}"
    return inverter if bus.owns_name else f"{inverter}; the bus is away"


@asynccontextmanager
async def _simulator(config: Config) -> AsyncIterator[str]:
    """A simulated adapter; the path of its port."""
    # Imported here: with a real adapter it is not needed.
    from mk2dbus.simulator import Control, Simulator

    async with AsyncExitStack() as stack:
        # A link, so that the port has the same name when the cable is put in again.
        folder = stack.enter_context(TemporaryDirectory(prefix="mk2dbus-"))
        simulator = await stack.enter_async_context(Simulator(config.simulate, link=Path(folder) / "tty"))
        if config.sim_control is not None:
            try:
                await stack.enter_async_context(Control(simulator, config.sim_control))
            except OSError as error:
                raise PortUnusable(f"cannot listen at {config.sim_control}: {error}") from error
        yield str(simulator.port)


def _place_own(tree: Tree, config: Config, tty: str, identity: Identity) -> None:
    """Add the items that belong to the service itself."""
    values: dict[str, Value] = {
        "/Mgmt/ProcessName": "mk2dbus",
        "/Mgmt/ProcessVersion": __version__,
        "/Mgmt/Connection": "VE.Bus",
        "/DeviceInstance": identity.instance,
        "/CustomName": identity.name,
        "/Interfaces/Mk2/Connection": tty,
    }
    for leaf in system_leaves():
        if leaf.path in values:
            write = identity.write_name if leaf.path == "/CustomName" else None
            tree.add(leaf, values[leaf.path], write=write)
