#!/usr/bin/env python3
"""Reads a value, writes one, and shows what changes."""

import asyncio
import sys

from dbus_next import BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

SERVICE = "com.victronenergy.vebus.ttyUSB0"
ITEM = "com.victronenergy.BusItem"
DAEMON = "org.freedesktop.DBus"


async def call(bus, destination, path, interface, member, signature="", *body):
    """Call a method; what it answers, unpacked."""
    reply = await bus.call(
        Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
    )
    if reply.message_type is MessageType.ERROR:
        raise RuntimeError(reply.body[0] if reply.body else reply.error_name)
    return [plain(part) for part in reply.body]


def plain(value):
    """Without variants. What is not known right now is an empty array: None."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return None if value == [] else value


async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()

    (volts,) = await call(bus, SERVICE, "/Dc/0/Voltage", ITEM, "GetValue")
    print("battery:", "not known" if volts is None else f"{volts} V")

    # 0: done and confirmed by the device; 1: refused; 2: failed. It can take 5 s.
    (outcome,) = await call(
        bus, SERVICE, "/Ac/ActiveIn/CurrentLimit", ITEM, "SetValue", "v", Variant("d", 16.0)
    )
    print("limit of 16 A:", ("done", "refused", "failed")[outcome])
    # The same as a property: what goes wrong is an error that says why.
    try:
        await call(
            bus,
            SERVICE,
            "/Devices/0/Settings/AbsorptionVoltage",
            "org.freedesktop.DBus.Properties",
            "Set",
            "ssv",
            ITEM,
            "Value",
            Variant("d", 99.0),
        )
    except RuntimeError as error:
        print("error:", error)

    # First listen, then read all: so nothing is missed. Signals come from the unique name of the service, and
    # the service may come and go.
    owner = None

    async def begin():
        nonlocal owner
        (owner,) = await call(bus, DAEMON, "/", DAEMON, "GetNameOwner", "s", SERVICE)
        (items,) = await call(bus, SERVICE, "/", ITEM, "GetItems")
        print(f"{len(items)} items; state:", items["/State"]["Text"])

    def hear(message):
        if message.member == "NameOwnerChanged" and message.body[0] == SERVICE:
            if message.body[2]:
                tasks.append(asyncio.ensure_future(begin()))
            else:
                print("the service is gone")
        elif message.member == "ItemsChanged" and message.sender == owner:
            for path, parts in plain(message.body[0]).items():
                if path == "/Ac/Out/P" and "Text" in parts:
                    print("load:", parts["Text"])

    tasks = []
    bus.add_message_handler(hear)
    for rule in (
        f"type='signal',sender='{SERVICE}',interface='{ITEM}',member='ItemsChanged',path='/'",
        f"type='signal',sender='{DAEMON}',member='NameOwnerChanged',arg0='{SERVICE}'",
    ):
        await call(bus, DAEMON, "/", DAEMON, "AddMatch", "s", rule)
    await begin()
    await bus.wait_for_disconnect()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
except RuntimeError as error:
    sys.exit(f"client: {error}")
