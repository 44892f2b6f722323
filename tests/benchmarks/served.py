"""The services that ``bus_side.py`` compares; a process each: ``served.py KIND ADDRESS NAME COUNT``.

They show the same items: those of the driver with a simulated system of three phases, all settings of all
devices read; the first COUNT of them, all with 0. ``own`` puts them on the bus with ``mk2dbus.bus``.
``plain`` is what one writes with the D-Bus library alone: an object of ServiceInterface for each item, and
one for GetItems. It encodes nothing in advance, as the libraries have no way to, but keeps all variants and
texts ready, which spares it most of its own work. ``ready`` sends ready answers.

A write to :data:`WRITTEN` changes :data:`CHANGING_COUNT` values, as a cycle of telemetry does. ``own`` always
tells that in ItemsChanged, ``plain`` when :data:`TOLD` is written.
"""

# No "from __future__ import annotations" here: the libraries read D-Bus types from annotations.

import asyncio
import gc
import importlib
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import RawClient, decoded, method_call
from support.clock import SimulatedLoop
from support.driven import driven

from mk2dbus.bus import library
from mk2dbus.bus.names import BUS_ITEM, DAEMON, DAEMON_PATH
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Item, Tree
from mk2dbus.bus.values import all_items, limit_variant, value_body, value_variant
from mk2dbus.bus.wire import Body, MessageType, encode_reply
from mk2dbus.items import Kind, Value

WRITTEN = "/Mode"
UNTOLD, TOLD = 3, 1
CHANGING_COUNT = 40
PROFILE, DEVICE_COUNT = "quattro3", 3
EXPORTED_AT_ONCE = 20
"""Both libraries end the connection when their socket is full, so objects are exported in steps."""


def known_items() -> list[Item]:
    """All items of a simulated system, as they are when all settings are read; always the same."""

    async def read() -> list[Item]:
        with TemporaryDirectory() as state:
            async with driven(PROFILE, state=Path(state)) as system:
                await system.until(lambda: all_read(system.tree), 1000.0)
                await asyncio.sleep(10.0)
                kept = Tree()
                for item in system.tree.items():
                    kept.add(item.leaf, item.value, limits=item.limits)
                return list(kept.items())

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(read())


def all_read(tree: Tree) -> bool:
    """Whether there are all devices, and their settings are read."""
    progress = [item.value for item in tree.items() if item.leaf.path.endswith("/Settings/ReadProgress")]
    return progress == [100] * DEVICE_COUNT


def changing(items: Iterable[Item]) -> list[Item]:
    """The items whose values a write changes."""
    measured = (item for item in items if item.leaf.kind is Kind.REAL and item.limits.minimum is None)
    return [item for item in measured if item.value is not None][:CHANGING_COUNT]


def moved(value: Value, count: int) -> float:
    """Another value near a value."""
    assert isinstance(value, float)
    return round(value + 0.01 * (count % 100), 2)


# --- as mk2dbus does it --------------------------------------------------------------------------------


async def serve_own(items: list[Item], address: str, name: str) -> None:
    """The items in a tree, on the bus until cancelled."""
    tree = Tree()
    before = {item.leaf.path: item.value for item in changing(items)}
    count = 0

    async def write(_: int | float | str) -> None:
        nonlocal count
        count += 1
        tree.update({path: moved(value, count) for path, value in before.items()})

    for item in items:
        tree.add(
            item.leaf,
            item.value,
            limits=item.limits,
            write=write if item.leaf.path == WRITTEN else None,
        )
    bus = BusService(tree, address)
    await bus.start(name)
    print("ready", flush=True)
    try:
        await bus.run()
    finally:
        await bus.close()


# --- with the library alone ----------------------------------------------------------------------------


def plain_classes() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Classes of the objects for an item and for the root, made with the library in use."""
    service: Any = importlib.import_module(f"{library.NAME}.service")
    method = service.method

    class PlainItem(service.ServiceInterface):  # type: ignore[misc]
        """One item."""

        def __init__(self, item: Item, on_write: Callable[[bool], None]) -> None:
            super().__init__(BUS_ITEM)
            self.leaf = item.leaf
            self.on_write = on_write
            self.parts: dict[str, Any] = {}
            self.show(item.value)
            limits = item.limits
            for key, limit in (("Min", limits.minimum), ("Max", limits.maximum), ("Default", limits.default)):
                if limit is not None:
                    self.parts[key] = limit_variant(self.leaf.kind, limit)

        def show(self, value: Value) -> None:
            self.parts["Value"] = value_variant(self.leaf.kind, value)
            self.parts["Text"] = library.variant("s", self.leaf.text(value))

        @method()
        def GetValue(self) -> "v":  # noqa: F821
            return self.parts["Value"]

        @method()
        def GetText(self) -> "s":  # noqa: F821
            return self.parts["Text"].value

        @method()
        def SetValue(self, value: "v") -> "i":  # noqa: F821
            if self.leaf.path != WRITTEN:
                return 1
            self.on_write(value.value == TOLD)
            return 0

    class PlainRoot(service.ServiceInterface):  # type: ignore[misc]
        """The object at ``/``."""

        def __init__(self, objects: dict[str, PlainItem]) -> None:
            super().__init__(BUS_ITEM)
            self.objects = objects

        @method()
        def GetItems(self) -> "a{sa{sv}}":  # noqa: F722
            return {path: found.parts for path, found in self.objects.items()}

        @service.signal()  # type: ignore[untyped-decorator]  # found at run time
        def ItemsChanged(self, paths: Iterable[str]) -> "a{sa{sv}}":  # noqa: F722
            parts = ((path, self.objects[path].parts) for path in paths)
            return {path: {key: of[key] for key in ("Value", "Text")} for path, of in parts}

    return PlainItem, PlainRoot


async def serve_plain(items: list[Item], address: str, name: str) -> None:
    """The items as objects of the library, on the bus until cancelled or off it."""
    plain_item, plain_root = plain_classes()
    bus_module: Any = importlib.import_module(f"{library.NAME}.aio")
    objects: dict[str, Any] = {}
    before = {item.leaf.path: item.value for item in changing(items)}
    count = 0

    def write(told: bool) -> None:
        nonlocal count
        count += 1
        for path, value in before.items():
            objects[path].show(moved(value, count))
        if told:
            root.ItemsChanged(before)

    objects.update((item.leaf.path, plain_item(item, write)) for item in items)
    root = plain_root(objects)
    bus = await bus_module.MessageBus(bus_address=address).connect()
    bus.export("/", root)
    for number, (path, found) in enumerate(objects.items()):
        bus.export(path, found)
        if number % EXPORTED_AT_ONCE == 0:
            await asyncio.sleep(0.02)
    await bus.request_name(name)
    print("ready", flush=True)
    await bus.wait_for_disconnect()


# --- with nothing to do ------------------------------------------------------------------------------


async def serve_ready(items: list[Item], address: str, name: str) -> None:
    """Send the same answer to everybody who asks for everything, and one value to all others."""
    tree = Tree()
    for item in items:
        tree.add(item.leaf, item.value, limits=item.limits)
    everything, one = all_items(tree), value_body(items[0])
    with RawClient(address) as client:
        request = Body("su", library.encode("su", [name, 0]))
        client.call(method_call(DAEMON, DAEMON_PATH, "RequestName", request, DAEMON))
        print("ready", flush=True)
        while True:
            message = client.receive()
            if message[1] == MessageType.METHOD_CALL:
                call = decoded(message)
                signature, data = everything if call.member == "GetItems" else one
                client.sock.sendmsg([encode_reply(1, call.serial, call.sender, signature, len(data)), data])


def main() -> None:
    kind, address, name, count = sys.argv[1:]
    serve = {"own": serve_own, "plain": serve_plain, "ready": serve_ready}[kind]
    items = known_items()[: int(count) or None]
    # What made the items is gone; nothing of it should burden either.
    gc.collect()
    # A library that loses its connection logs every call after that.
    logging.disable()
    try:
        asyncio.run(serve(items, address, name))
    except OSError as error:
        sys.exit(f"{kind}: the library ended the connection: {error}")


if __name__ == "__main__":
    main()
