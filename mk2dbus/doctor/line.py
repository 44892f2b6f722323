"""What answers at a port that nobody uses: adapter and devices. Only asks; nothing is set or commanded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mk2dbus.mk2.adapter import GetConfiguration, GetVersion
from mk2dbus.mk2.errors import NoReply, PortLost, PortUnusable, Rejected
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.port import open_port
from mk2dbus.mk2.speed import find_adapter
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.tables import product_name

from .findings import Finding, fail, ok

OLDEST_FIRMWARE = 131
"""Of an adapter; older ones lack what is needed (mk2-protocol.md §3)."""


async def examine_line(path: str) -> AsyncIterator[Finding]:
    """Ask adapter and devices who they are."""
    try:
        port = await open_port(path)
    except PortUnusable as error:
        yield fail("port", str(error), "then run this again")
        return
    link = Link(port)
    serving: asyncio.Task[None] | None = None
    try:
        # A crash may have left the adapter at high speed.
        await find_adapter(port)
        serving = asyncio.create_task(link.run(), name="mk2 link")
        async for finding in _ask(link, path):
            yield finding
    except PortLost as error:
        yield fail("port", str(error), "check plug and cable, then run this again")
    finally:
        if serving is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        await port.close()


async def _ask(link: Link, path: str) -> AsyncIterator[Finding]:
    try:
        version = await link.request(GetVersion())
    except NoReply:
        yield _silent(path, link.dropped_bytes)
        return
    if version.firmware < OLDEST_FIRMWARE:
        yield fail(
            "adapter",
            f"firmware {version.firmware} of the adapter is too old; {OLDEST_FIRMWARE} is the oldest usable",
            "use an MK3-USB",
        )
        return
    yield ok("adapter", f"answers at {path}: version {version.version}")
    try:
        present = (await link.request(GetConfiguration(0))).present
    except NoReply:
        present = 0
    found = False
    for address in range(present.bit_length()):
        if present >> address & 1:
            device = Device(link, address)
            try:
                await device.identify()
            except PortLost:
                raise
            except (NoReply, Rejected) as error:
                yield fail(
                    "inverter", f"device {address} does not say who it is: {error}", "switch it off and on"
                )
            else:
                found = True
                name = product_name(device.product_id)
                yield ok("inverter", f"{name}, firmware {device.firmware:03X}, at address {address}")
    if not found:
        yield fail(
            "inverter",
            "the adapter answers, but no inverter behind it",
            "check the VE.Bus cable (RJ45) and that the inverter is switched on",
        )


def _silent(path: str, dropped: int) -> Finding:
    if dropped:
        return fail(
            "adapter",
            f"what is at {path} talks, but is no MK2 or MK3 ({dropped} bytes that are no frames)",
            "choose another port with --tty",
        )
    return fail(
        "adapter",
        f"nothing answers at {path}",
        "the adapter has power only while the inverter is awake: switch the inverter on, check the VE.Bus "
        "cable; if this is another device, choose another port with --tty",
    )
