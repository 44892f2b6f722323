"""Random messages against the service: over a real daemon, and as bytes past it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from random import Random

import pytest
from support.bus import Daemon

from fuzz.mutate import INPUTS
from mk2dbus.bus.access import Access
from mk2dbus.bus.connection import BACKLOG_BOUND, Connection
from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM, INTROSPECTABLE, PEER, PROPERTIES
from mk2dbus.bus.server import Server
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.items import Kind, Leaf, Limits

NAME = "com.victronenergy.vebus.fuzz"
CALLS = 600


def _tree() -> tuple[Tree, list[object]]:
    tree, written = Tree(), []

    async def write(value: object) -> None:
        written.append(value)

    tree.add(Leaf("/Dc/0/Voltage", Kind.REAL, "V"), 50.5)
    tree.add(Leaf("/Mode", Kind.INTEGER, writable=True, texts={1: "a", 3: "b"}), 3, write=write)
    tree.add(Leaf("/Name", Kind.TEXT, writable=True), "x", write=write)
    tree.add(Leaf("/List", Kind.LIST), (1, 2))
    tree.add(Leaf("/Limit", Kind.REAL, "A", writable=True), 5.0, limits=Limits(1, 10, 5), write=write)
    return tree, written


def _value(random: Random, depth: int = 0) -> tuple[str, object]:
    """A type and a value of it."""
    kinds = "ybnqiuxtdsogvaA({" if depth < 4 else "ybnqiuxtdsog"
    match random.choice(kinds):
        case "b":
            return "b", random.random() < 0.5
        case "d":
            return "d", random.choice((0.0, -1.5, 5.0, 1e308, float("nan"), float("inf")))
        case "s":
            return "s", random.choice(("", "x", "ä€𐍈", "y" * 5000, "/Mode"))
        case "o":
            return "o", random.choice(("/", "/Mode", "/a/b"))
        case "g":
            return "g", random.choice(("", "a{sv}", "ai"))
        case "v":
            signature, value = _value(random, depth + 1)
            return "v", variant(signature, value)
        case "a":
            signature, value = _value(random, depth + 1)
            if signature == "y":  # the libraries want these as bytes
                signature, value = "q", 5
            return f"a{signature}", [value] * random.randrange(4)
        case "A":
            signature, value = _value(random, depth + 1)
            return f"a{{s{signature}}}", {str(key): value for key in range(random.randrange(4))}
        case "(" | "{":
            signature, value = _value(random, depth + 1)
            return f"({signature}i)", [value, 7]
        case kind:
            bits = {"y": 8, "n": 16, "q": 16, "i": 32, "u": 32, "x": 64, "t": 64}[kind]
            signed = kind in "nix"
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            return kind, random.choice((low, high, 0, 1, 3, random.randint(low, high)))


@pytest.fixture
async def service(dbus_daemon: Daemon) -> AsyncIterator[tuple[BusService, list[object]]]:
    tree, written = _tree()
    service = BusService(tree, dbus_daemon.address, Access(0.3, 0.3))
    await service.start(NAME)
    running = asyncio.create_task(service.run())
    yield service, written
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.close()


async def test_random_calls(
    service: tuple[BusService, list[object]], dbus_daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Each gets an answer or an error; what is written is of the right type and within limits."""
    random = Random(3)
    client = await Connection.open(dbus_daemon.address)
    paths = ("/", "/Dc", "/Mode", "/Name", "/List", "/Limit", "/Dc/0/Voltage", "/nothing/here")
    interfaces = (BUS_ITEM, PROPERTIES, INTROSPECTABLE, PEER, "", "a.b")
    members = (
        "GetValue",
        "SetValue",
        "GetText",
        "GetItems",
        "SetDefault",
        "Get",
        "Set",
        "GetAll",
        "Ping",
        "x",
    )
    errors: list[str] = []

    async def one() -> None:
        arguments = [_value(random) for _ in range(random.choice((0, 1, 1, 1, 2, 3)))]
        if random.random() < 0.3:
            arguments = [("s", BUS_ITEM), ("s", random.choice(("Value", "Text", "No"))), *arguments[:1]]
        try:
            await client.call(
                NAME,
                random.choice(paths),
                random.choice(interfaces),
                random.choice(members),
                "".join(signature for signature, _ in arguments),
                [value for _, value in arguments],
                timeout_s=30,
            )
        except CallFailed as error:
            errors.append(str(error))

    try:
        for _ in range(CALLS // 20):
            await asyncio.gather(*(one() for _ in range(20)))
        assert not client.lost.done()
        assert errors
        assert "internal error" not in errors
        (value,) = await client.call(NAME, "/Dc/0/Voltage", BUS_ITEM, "GetValue")
        assert value.value == 50.5
    finally:
        client.close()
    for value in service[1]:
        assert value in (1, 3) or isinstance(value, str) or 1 <= float(str(value)) <= 10
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


async def test_random_bytes_past_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    """Good and damaged messages, as no daemon would let them through: the connection ends, or it goes on."""
    random = Random(5)
    tree, _ = _tree()
    for _ in range(150):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        server = Server(tree, Access(0.05, 0.05))
        connection = Connection(ours, server.handle, lambda signal: None)
        connection._read_on()
        for _ in range(4):
            if connection.lost.done():
                break
            theirs.send(INPUTS["bus"](random))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert connection.backlog < BACKLOG_BOUND
        await asyncio.sleep(0)
        await server.close()
        connection.close()
        theirs.close()
    assert not [record for record in caplog.records if record.exc_info], caplog.text
