"""A bus under load, a bus that stalls, a bus that dies."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mk2dbus.bus import server, standstill
from mk2dbus.bus.access import Access
from mk2dbus.bus.client import Client
from mk2dbus.bus.connection import BACKLOG_BOUND, Connection
from mk2dbus.bus.errors import (
    BusUnreachable,
    CallFailed,
    CallTimedOut,
    ConnectionLost,
    NameRefused,
    NameTaken,
)
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM, DAEMON, LIMITS_EXCEEDED, PROPERTIES
from mk2dbus.bus.server import Server
from mk2dbus.bus.service import FIRST_PAUSE_S, LAST_PAUSE_S, BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.bus.wire import Cutter, Message, MessageType, encode_header
from mk2dbus.items import Kind, Leaf
from mk2dbus.pauses import doubling

NAME = "com.victronenergy.vebus.load"
STALL_S = 10.0
PATIENCE_S = 60.0


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that comes, without saying when."""
    for _ in range(int(PATIENCE_S / 0.02)):
        if await holds():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not come")


def large_tree(count: int) -> Tree:
    tree = Tree()
    for number in range(count):
        tree.add(Leaf(f"/Devices/{number // 400}/Settings/Number{number}", Kind.REAL, "V"), float(number))
    return tree


async def test_20_clients_with_200_calls_at_once(bench: Any, dbus_daemon: Any) -> None:
    clients = [await Connection.open(dbus_daemon.address) for _ in range(20)]
    try:
        answers = await asyncio.gather(
            *(
                client.call(bench.name, "/Dc/0/Voltage", BUS_ITEM, "GetValue", timeout_s=PATIENCE_S)
                for client in clients
                for _ in range(200)
            )
        )
    finally:
        for client in clients:
            client.close()
    assert [answer[0].value for answer in answers] == [24.125] * 4000


async def test_1500_items_added_in_a_row(dbus_daemon: Any) -> None:
    tree = large_tree(1500)
    service = BusService(tree, dbus_daemon.address)
    client = await Connection.open(dbus_daemon.address)
    try:
        await service.start(NAME)
        (items,) = await client.call(NAME, "/", BUS_ITEM, "GetItems")
        assert list(items) == list(tree)
        for number in range(1500):
            tree.add(Leaf(f"/More/Number{number}", Kind.REAL, "V"), float(number))
        (items,) = await client.call(NAME, "/", BUS_ITEM, "GetItems")
        assert len(items) == 3000
        (value,) = await client.call(NAME, "/More/Number1499", BUS_ITEM, "GetValue")
        assert value.value == 1499.0
        assert service.owns_name
    finally:
        client.close()
        await service.close()


async def test_a_daemon_that_stalls_for_10_s(dbus_daemon: Any) -> None:
    """It goes on where it was: nothing is lost, nothing piles up, and what comes out then is the newest."""
    tree = large_tree(50)
    paths = list(tree)
    service = BusService(tree, dbus_daemon.address)
    await service.start(NAME)
    running = asyncio.create_task(service.run())
    asking = await Connection.open(dbus_daemon.address)
    listening = await Client.open(dbus_daemon.address)
    heard: dict[str, Any] = {}
    await listening.watch(
        lambda items: heard.update({path: parts["Value"] for path, parts in items.items()}),
        lambda there: None,
    )
    connection = service._connection
    assert connection is not None
    most_backlog = 0
    step = 0

    def update() -> None:
        nonlocal step, most_backlog
        step += 1
        tree.update({path: step + number / 100 for number, path in enumerate(paths)})
        most_backlog = max(most_backlog, connection.backlog)

    calls: list[asyncio.Task[list[Any]]] = []

    def ask(path: str, member: str) -> None:
        calls.append(asyncio.create_task(asking.call(NAME, path, BUS_ITEM, member, timeout_s=PATIENCE_S)))

    try:
        for _ in range(500):
            ask(paths[7], "GetValue")
            ask("/", "GetItems")
        await asyncio.sleep(0)
        dbus_daemon.stop()
        end = time.monotonic() + STALL_S
        while time.monotonic() < end:
            update()
            ask(paths[7], "GetValue")
            await asyncio.sleep(0.02)
        dbus_daemon.go_on()
        update()
        answers = await asyncio.gather(*calls)
        assert all(len(answer) == 1 for answer in answers)
        (newest,) = await asking.call(NAME, paths[7], BUS_ITEM, "GetValue")
        assert newest.value == tree.value(paths[7])

        async def caught_up() -> bool:
            return all(heard.get(path) == tree.value(path) for path in paths)

        await eventually(caught_up)
        assert not connection.lost.done()
        assert most_backlog < BACKLOG_BOUND + 65536
    finally:
        dbus_daemon.go_on()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        asking.close()
        listening.close()
        await service.close()


async def test_reading_stops_while_answers_cannot_leave() -> None:
    """A peer that asks and does not listen: memory stays bounded, and every answer comes in the end."""
    tree = large_tree(400)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    server = Server(tree, Access())
    connection = Connection(ours, server.handle, lambda signal: None)
    connection._read_on()
    loop = asyncio.get_running_loop()
    count = 2000
    calls = b"".join(
        encode_header(Message(MessageType.METHOD_CALL, serial=serial, path="/", member="GetItems"), 0)
        for serial in range(1, count + 1)
    )
    most = 0

    async def ask() -> None:
        await loop.sock_sendall(theirs, calls)

    asking = asyncio.create_task(ask())
    try:
        for _ in range(200):
            await asyncio.sleep(0)
            most = max(most, connection.backlog)
        assert connection.stalled
        cutter = Cutter()
        serials: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(serials) < count:
                cutter.feed(await loop.sock_recv(theirs, 1 << 20))
                most = max(most, connection.backlog)
                serials += [
                    message.reply_serial for message in cutter.messages() if isinstance(message, Message)
                ]
        await asking
        assert serials == list(range(1, count + 1))
        one_answer = 100_000
        assert BACKLOG_BOUND < most < BACKLOG_BOUND + one_answer
    finally:
        asking.cancel()
        connection.close()
        theirs.close()


async def test_a_daemon_that_dies_and_comes_back(
    dbus_daemon: Any, bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dbus_daemon.kill()
    with pytest.raises(ConnectionLost):
        await bench.item("/State", "GetValue")
    bench.tree.update({"/State": 3})
    dbus_daemon.start()

    async def back() -> bool:
        return bool(bench.service.owns_name)

    await eventually(back)
    client = await Connection.open(dbus_daemon.address)
    try:
        (items,) = await client.call(bench.name, "/", BUS_ITEM, "GetItems")
    finally:
        client.close()
    assert items["/State"]["Value"].value == 3
    assert set(items) == set(bench.tree)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert len(told) == 2, told
    assert "off the bus" in told[0]
    assert "on the bus again" in told[1]


async def test_a_name_that_is_taken_is_an_error(dbus_daemon: Any, bench: Any) -> None:
    second = BusService(Tree(), dbus_daemon.address)
    with pytest.raises(NameTaken, match=bench.name):
        await second.start(bench.name)
    await second.close()
    # And it does not wait in a queue for it either.
    await bench.service.close()
    (owned,) = await bench.client.call_daemon("NameHasOwner", "s", [bench.name])
    assert owned is False


async def test_a_name_that_the_bus_refuses(dbus_daemon: Any) -> None:
    service = BusService(Tree(), dbus_daemon.address)
    for name in ("not a name", DAEMON, ""):
        with pytest.raises(NameRefused):
            await service.start(name)
    await service.close()


async def test_a_name_lost_to_another_is_taken_back(bench: Any) -> None:
    connection = bench.service._connection
    # As when an administrator hands the name over: the daemon says NameLost.
    await connection.release_name(bench.name)

    async def back() -> bool:
        (owner,) = await bench.client.call_daemon("NameHasOwner", "s", [bench.name])
        return bool(owner) and bench.service.owns_name

    await eventually(back)
    assert not connection.lost.done()
    assert (await bench.item("/State", "GetValue")).value == 5


@pytest.mark.parametrize(
    "address",
    [
        "unix:path=/nowhere/at/all",
        "unix:nothing=x",
        "nonsense",
        "",
        "tcp:host=127.0.0.1,port=1",
        "carrier:pigeon=1",
    ],
)
async def test_no_bus_is_one_clear_error(address: str) -> None:
    service = BusService(Tree(), address)
    with pytest.raises(BusUnreachable) as failure:
        await service.start(NAME)
    assert "\n" not in str(failure.value)
    await service.close()


async def test_a_daemon_that_says_nothing_is_unreachable(
    dbus_daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk2dbus.bus.connection.CONNECT_TIMEOUT_S", 0.1)
    dbus_daemon.stop()
    with pytest.raises(BusUnreachable, match="no answer"):
        await Connection.open(dbus_daemon.address)
    dbus_daemon.go_on()


async def test_a_call_that_is_not_answered_times_out(dbus_daemon: Any, bench: Any) -> None:
    dbus_daemon.stop()
    with pytest.raises(CallTimedOut):
        await bench.client.call(bench.name, "/State", BUS_ITEM, "GetValue", timeout_s=0.05)
    dbus_daemon.go_on()
    assert (await bench.item("/State", "GetValue")).value == 5


async def test_a_handler_with_a_bug_answers_and_the_service_goes_on(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Tree, "get", lambda self, path: 1 / 0)
        with pytest.raises(CallFailed):
            await bench.item("/State", "GetValue")
    assert "ZeroDivisionError" in caplog.text
    assert (await bench.item("/State", "GetValue")).value == 5


async def test_no_answer_where_none_is_wanted(bench: Any) -> None:
    answers: list[Message] = []
    handle = bench.client._handle
    bench.client._handle = lambda message: (answers.append(message), handle(message))
    for member, signature in (("SetDefault", ""), ("GetValue", ""), ("Nothing", "")):
        message = Message(
            MessageType.METHOD_CALL,
            path="/Devices/0/Settings/Count",
            interface=BUS_ITEM,
            member=member,
            destination=bench.name,
            signature=signature,
            no_reply=True,
        )
        bench.client._send(message, b"", bench.client._next_serial())
    # Answers keep their order, so this one comes last.
    await bench.item("/State", "GetValue")
    assert len(answers) == 1
    assert bench.device == [("/Devices/0/Settings/Count", 4)]


def test_pauses_grow_to_two_seconds() -> None:
    steps = doubling(FIRST_PAUSE_S, LAST_PAUSE_S)
    assert [next(steps) for _ in range(6)] == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_what_gets_too_old_while_the_process_stalls_is_not_told(bench: Any) -> None:
    """A call that came meanwhile is answered after what the time that has passed demands."""
    loop = asyncio.get_running_loop()
    asking = asyncio.create_task(bench.item("/Dc/0/Voltage", "GetValue"))
    await asyncio.sleep(0)
    loop.call_at(loop.time() + 0.1, bench.tree.update, {"/Dc/0/Voltage": None})
    # The call is on its way to the daemon, and from there to the service, while nothing moves here.
    loop.call_soon(loop.call_soon, time.sleep, 0.3)
    assert (await asking).value == []


async def test_what_was_asked_while_the_process_stood_still_is_not_written(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client may have given up, or written something else elsewhere."""
    for name, seconds in (("TICK_S", 0.05), ("LONG_S", 0.2), ("AFTER_S", 0.1)):
        monkeypatch.setattr(standstill, name, seconds)
    bench.service._access.standstill.stop()
    bench.service._access.standstill.start()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.1)
    asking = asyncio.gather(
        bench.item("/Mode", "SetValue", "v", [variant("i", 1)]),
        bench.item("/Devices/0/Settings/Count", "SetDefault"),
        bench.item("/Dc/0/Voltage", "GetValue"),
    )
    await asyncio.sleep(0)
    loop.call_soon(loop.call_soon, time.sleep, 0.5)
    set_value, set_default, voltage = await asking
    assert (set_value, set_default, voltage.value) == (2, 2, 24.125)
    with pytest.raises(CallFailed, match=r"stood still for .* write it again"):
        await bench.client.call(
            bench.name, "/Mode", PROPERTIES, "Set", "ssv", [BUS_ITEM, "Value", variant("v", variant("i", 1))]
        )
    assert bench.device == []
    await asyncio.sleep(0.15)
    assert await bench.item("/Mode", "SetValue", "v", [variant("i", 1)]) == 0
    # A short one is none.
    asked = asyncio.create_task(bench.item("/Mode", "SetValue", "v", [variant("i", 4)]))
    await asyncio.sleep(0)
    loop.call_soon(loop.call_soon, time.sleep, 0.15)
    assert await asked == 0


async def test_a_client_that_lets_calls_wait_takes_no_room_from_the_others(
    bench: Any, dbus_daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_WAITING_EACH", 20)
    other = await Connection.open(dbus_daemon.address)

    async def write(client: Connection, path: str, value: int) -> object:
        try:
            (answer,) = await client.call(
                bench.name, path, BUS_ITEM, "SetValue", "v", [variant("i", value)], timeout_s=PATIENCE_S
            )
        except CallFailed as error:
            return error.name
        return answer

    try:
        flood = [asyncio.create_task(write(bench.client, "/Failing/Stuck", 1)) for _ in range(50)]
        await asyncio.sleep(0.1)
        assert await write(other, "/Mode", 1) == 0
        answers = await asyncio.gather(*flood)
        assert [answers.count(answer) for answer in (2, LIMITS_EXCEEDED)] == [20, 30]
        assert await write(bench.client, "/Mode", 4) == 0
    finally:
        other.close()
