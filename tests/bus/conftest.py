"""A small tree with one item of each sort, on a bus of its own, and somebody to call it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from mk2dbus.bus.access import Access
from mk2dbus.bus.connection import Connection
from mk2dbus.bus.names import BUS_ITEM, PROPERTIES
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.items import (
    AccessLevelRequired,
    Disconnected,
    Kind,
    Leaf,
    Limits,
    NoReply,
    ReadOnly,
    Refused,
)

NAME = "com.victronenergy.vebus.test0"


class Bench:
    """Service and client. ``device`` notes what was written, in order."""

    def __init__(self, tree: Tree, service: BusService, client: Connection) -> None:
        self.tree = tree
        self.service = service
        self.client = client
        self.device: list[tuple[str, int | float | str]] = []
        self.name = NAME
        self.never = asyncio.Event()

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", body: Sequence[object] = ()
    ) -> list[Any]:
        return await self.client.call(self.name, path, interface, member, signature, body, timeout_s=30)

    async def item(self, path: str, member: str, signature: str = "", body: Sequence[object] = ()) -> Any:
        """A method of BusItem; its one result."""
        (result,) = await self.call(path, BUS_ITEM, member, signature, body)
        return result

    async def property(self, path: str, name: str) -> Any:
        (result,) = await self.call(path, PROPERTIES, "Get", "ss", [BUS_ITEM, name])
        return result

    def writer(self, path: str) -> Any:
        async def write(value: int | float | str) -> None:
            await asyncio.sleep(0)
            self.device.append((path, value))
            self.tree.update({path: value})

        return write


def fill(bench: Bench) -> None:
    tree = bench.tree

    def failing(error: Exception) -> Any:
        async def write(value: int | float | str) -> None:
            raise error

        return write

    async def stuck(value: int | float | str) -> None:
        await bench.never.wait()

    tree.add(Leaf("/Dc/0/Voltage", Kind.REAL, "V", meaning="battery voltage"), 24.125)
    tree.add(Leaf("/Dc/0/Current", Kind.REAL, "A", decimals=1), None)
    tree.add(Leaf("/State", Kind.INTEGER, texts={5: "Float"}), 5)
    tree.add(Leaf("/ProductName", Kind.TEXT), "MultiPlus-II 48/3000")
    tree.add(Leaf("/Devices/0/Assistants", Kind.LIST), (5, 6))
    tree.add(
        Leaf(
            "/Mode",
            Kind.INTEGER,
            writable=True,
            texts={1: "Charger only", 3: "On", 4: "Off"},
            meaning="switch",
        ),
        3,
        write=bench.writer("/Mode"),
    )
    tree.add(
        Leaf("/Devices/0/Settings/Absorption", Kind.REAL, "V", writable=True),
        28.8,
        limits=Limits(24.0, 32.0, 28.5),
        write=bench.writer("/Devices/0/Settings/Absorption"),
    )
    tree.add(
        Leaf("/Devices/0/Settings/Count", Kind.INTEGER, writable=True),
        3,
        limits=Limits(0, 10, 4),
        write=bench.writer("/Devices/0/Settings/Count"),
    )
    tree.add(Leaf("/CustomName", Kind.TEXT, writable=True), "cellar", write=bench.writer("/CustomName"))
    # Declared writable, but nobody there to write: as with --read-only.
    tree.add(Leaf("/Orphan", Kind.INTEGER, writable=True), 1)
    for error in (ReadOnly, AccessLevelRequired, Refused, NoReply, Disconnected):
        path = f"/Failing/{error.__name__}"
        tree.add(Leaf(path, Kind.INTEGER, writable=True), 1, write=failing(error(f"{path}: says the device")))
    tree.add(Leaf("/Failing/Bug", Kind.INTEGER, writable=True), 1, write=failing(RuntimeError("a bug")))
    tree.add(Leaf("/Failing/Stuck", Kind.INTEGER, writable=True), 1, limits=Limits(default=2), write=stuck)


@pytest.fixture
async def bench(dbus_daemon: Any) -> AsyncIterator[Bench]:
    """The sample tree on the bus, with short bounds for what waits for the device."""
    tree = Tree()
    service = BusService(tree, dbus_daemon.address, Access(write_bound_s=0.3, fetch_bound_s=0.3))
    bench = Bench(tree, service, await Connection.open(dbus_daemon.address))
    fill(bench)
    await service.start(NAME)
    running = asyncio.create_task(service.run())
    try:
        yield bench
    finally:
        bench.never.set()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await service.close()
        bench.client.close()
