"""A full line on which nobody waits long, with the simulator's core behind it, in simulated time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.clock import simulated
from support.ports import CorePort

from mk2dbus.mk2.adapter import ConfigureAdapter, GetAc, GetDc, GetLeds, SendPanel, SwitchPosition
from mk2dbus.mk2.errors import Mk2Error
from mk2dbus.mk2.link import Link, Priority
from mk2dbus.mk2.request import Request, Winmon
from mk2dbus.mk2.winmon import (
    GetRamInfo,
    GetSettingInfo,
    GetState,
    ReadRam,
    ReadSetting,
    WriteById,
)
from mk2dbus.simulator import Core
from mk2dbus.simulator.events import Kind

SETTLE_S, MEASURE_S = 3.0, 10.0
CLIENT_LIMIT_S = 0.1
"""A client's write is on the wire within this (issue "Near the limit of the line")."""
PANEL_LIMIT_S = 0.2
"""A panel frame waits for the reply of an ``F``, which alone takes 107 ms at 2400 baud."""
OTHER_DEVICE_LIMIT_S = 0.2
"""Without addressed commands, until an ``A`` is on the wire: it waits for the replies that are due."""

LOADS: dict[str, list[Winmon[Any]]] = {
    "infos": [GetSettingInfo(2), GetRamInfo(4), GetSettingInfo(3)],
    "settings": [ReadSetting(id) for id in range(2, 10)],
    "ram": [ReadRam((4, 5, 6, 7, 8, 13))],
    "mixed": [
        GetSettingInfo(2),
        ReadSetting(4),
        ReadRam((4, 5)),
        GetRamInfo(4),
        ReadRam((4, 5, 6, 7, 8, 13)),
    ],
}
WRITE = WriteById(2, 5760, setting=True, ram_only=True)


def now() -> float:
    return asyncio.get_running_loop().time()


class FullLine:
    """A link whose line telemetry and background want more of than there is."""

    def __init__(
        self, load: str, *, baudrate: int = 2400, several: bool = False, addressed: bool = False
    ) -> None:
        self.core = Core("quattro3" if several else "multiplus2")
        self.core.adapter.baudrate = baudrate
        self.port = CorePort(self.core, baudrate)
        self.link = Link(self.port)
        self.link.addressed = addressed
        self.baudrate = baudrate
        addresses = list(self.core.devices) if addressed else [0]
        self._devices = itertools.cycle(addresses)
        self._loads = [(LOADS[load], Priority.BACKGROUND)] * 6 + [
            ([GetDc(), GetAc(1), GetLeds()], Priority.TELEMETRY),
            ([GetState()], Priority.TELEMETRY),
        ]

    async def __aenter__(self) -> FullLine:
        self._tasks = [asyncio.create_task(self.link.run())]
        await self.link.request(ConfigureAdapter())
        self._tasks += [asyncio.create_task(self._ask(*load)) for load in self._loads]
        await asyncio.sleep(SETTLE_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert not [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.port.lose()

    async def _ask(self, requests: list[Request[Any]], priority: Priority) -> None:
        for request in itertools.cycle(requests):
            await self.link.request(request, next(self._devices), priority)

    async def wait_of(
        self, request: Request[Any], address: int | None, is_it: Callable[[bytes], bool]
    ) -> float:
        """From asking until the first byte is on the wire, behind all that was written before."""
        began = now()
        waited: list[float] = []

        def look(data: bytes) -> None:
            if is_it(data) and not waited:
                waited.append(max(now(), self.core._receiver._free_at) - began)

        self.port.on_write = look
        priority = Priority.CONTROL if isinstance(request, SendPanel) else Priority.CLIENT
        await self.link.request(request, address, priority)
        self.port.on_write = lambda _: None
        return waited[0]

    async def longest_wait(self, *asked: Any, times: int = 40) -> float:
        chance = random.Random(3)
        waits = []
        for _ in range(times):
            await asyncio.sleep(chance.uniform(0.2, 0.4))
            waits.append(await self.wait_of(*asked))
        return max(waits)

    def violations(self) -> list[Any]:
        return self.core.log.of(Kind.VIOLATION)


def is_write(data: bytes) -> bool:
    return data[3:4] == b"\x37"


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("addressed", [False, True])
@simulated
async def test_a_full_line_carries_as_much_as_it_can(load: str, addressed: bool) -> None:
    async with FullLine(load, several=addressed, addressed=addressed) as line:
        line.link.figures()
        before = line.core.sent_bytes
        await asyncio.sleep(MEASURE_S)
        # The port looks when a frame is whole: one may be under way.
        under_way = 30 / (MEASURE_S * 240)
        assert line.core.sent_bytes - before >= (0.98 - under_way) * MEASURE_S * 240
        figures = line.link.figures()
        assert figures.received_share >= 0.98 - under_way
        assert figures.timeouts == 0
        assert line.violations() == []


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("addressed", [False, True])
@simulated
async def test_what_a_client_asks_is_on_the_wire_at_once(load: str, addressed: bool) -> None:
    async with FullLine(load, several=addressed, addressed=addressed) as line:
        assert await line.longest_wait(WRITE, 0, is_write) <= CLIENT_LIMIT_S
        assert line.violations() == []


@simulated
async def test_a_panel_frame_waits_for_no_more_than_an_info_frame() -> None:
    panel = SendPanel(SwitchPosition.ON, 160)
    async with FullLine("mixed", several=True, addressed=True) as line:
        assert await line.longest_wait(panel, None, lambda data: data[2:3] == b"S") <= PANEL_LIMIT_S
        assert line.violations() == []


@simulated
async def test_another_device_without_addressed_commands() -> None:
    async with FullLine("mixed", several=True) as line:
        assert (
            await line.longest_wait(WRITE, 1, lambda data: data[2:5] == b"A\x01\x01") <= OTHER_DEVICE_LIMIT_S
        )
        assert line.violations() == []


@simulated
async def test_at_high_speed_nobody_waits_at_all() -> None:
    panel = SendPanel(SwitchPosition.ON, 160)
    async with FullLine("mixed", baudrate=115200, several=True, addressed=True) as line:
        assert await line.longest_wait(WRITE, 0, is_write, times=10) <= 0.02
        assert await line.longest_wait(panel, None, lambda data: data[2:3] == b"S", times=10) <= 0.03
        before = line.link.counters.replies
        await asyncio.sleep(1)
        # Three winmon, an F and an L are on their way at any time: 15 ms and a little each.
        assert line.link.counters.replies - before >= 200


@simulated
async def test_a_command_that_is_never_answered_keeps_no_client_waiting() -> None:
    """One background request that stays silent uses up no more than two slots."""
    async with FullLine("mixed") as line:

        def damage(raw: bytes) -> bytes:
            return b"" if raw[3:4] == b"\x89" else raw

        line.core.outgoing = damage
        for task in line._tasks[1:]:
            task.cancel()
        line._tasks[1:] = []

        async def unanswered() -> None:
            while True:
                try:
                    await line.link.request(GetSettingInfo(2), 0, Priority.BACKGROUND)
                except Mk2Error:
                    continue

        line._tasks += [asyncio.create_task(unanswered()) for _ in range(4)]
        assert await line.longest_wait(WRITE, 0, is_write) <= CLIENT_LIMIT_S


@simulated
async def test_requests_know_what_they_cost() -> None:
    """What goes over the line is what they declare, with a new device in the long form."""
    core = Core("multiplus2")
    port = CorePort(core)
    link = Link(port, pipeline=1)
    task = asyncio.create_task(link.run())
    asked: list[Request[Any]] = [
        ConfigureAdapter(),
        GetDc(),
        GetAc(1),
        GetLeds(),
        SendPanel(SwitchPosition.ON, 160),
        ReadSetting(2),
        GetSettingInfo(2),
        GetRamInfo(4),
        GetState(),
        ReadRam((4,)),
        ReadRam((4, 5, 6, 7, 8, 13)),
        WRITE,
    ]
    await link.request(ReadSetting(2), 0)
    for request in asked:
        sent, received = link.counters.sent_bytes, link.counters.received_bytes
        await link.request(request, 0 if isinstance(request, Winmon) else None)
        assert link.counters.sent_bytes - sent == request.request_bytes, request
        assert 0 <= request.reply_bytes - (link.counters.received_bytes - received) <= 2, request
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    port.lose()
