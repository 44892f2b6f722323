"""Late replies of commands without a slot: nothing in them tells which request they answer."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.clock import simulated
from support.ports import QuietPort

from mk2dbus.mk2.adapter import (
    INFO_LATE_S,
    ConfigureAdapter,
    GetAc,
    GetConfiguration,
    GetDc,
    GetLeds,
    SendPanel,
    SetAddress,
    SwitchPosition,
)
from mk2dbus.mk2.errors import NoReply
from mk2dbus.mk2.framing import Frame, FrameType, adapter_frame
from mk2dbus.mk2.link import Link, Priority
from mk2dbus.mk2.request import AdapterRequest
from mk2dbus.mk2.winmon import ReadSetting

LEDS = bytes.fromhex("06 FF 4C 03 00 00 00 AC")
STATE_DONE = bytes(adapter_frame("S"))
PANEL = SendPanel(SwitchPosition.ON, 160)


def dc(number: int) -> bytes:
    """A DC info frame with a number for its voltage."""
    return bytes(Frame(FrameType.INFO, struct.pack("<4xBH6xB", 0x0C, number, 0x88)))


@asynccontextmanager
async def linked(port: QuietPort, **options: Any) -> AsyncIterator[Link]:
    link = Link(port, **options)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def now() -> float:
    return asyncio.get_running_loop().time()


def sent(port: QuietPort) -> str:
    return "".join(chr(frame.data[0]) for _, frame in port.sent)


async def unanswered(link: Link, request: AdapterRequest[Any], attempts: int = 1) -> None:
    with pytest.raises(NoReply):
        await link.request(request, attempts=attempts)


@pytest.mark.parametrize("pipeline", [1, 3])
@simulated
async def test_a_late_acknowledgement_confirms_no_other_panel_frame(pipeline: int) -> None:
    port = QuietPort()
    async with linked(port, pipeline=pipeline) as link:
        await unanswered(link, PANEL)
        again = asyncio.create_task(link.request(PANEL))
        await asyncio.sleep(0.1)
        assert sent(port) == "S"
        port.deliver(STATE_DONE)  # of the first
        await asyncio.sleep(0.1)
        assert sent(port) == "SS"
        assert not again.done()
        assert link.counters.stray_frames == 1
        port.deliver(STATE_DONE)
        assert await again


@simulated
async def test_a_panel_frame_in_its_rhythm_is_not_held_up() -> None:
    """Once a second: then the acknowledgement of the one before counts as lost."""
    port = QuietPort()
    async with linked(port) as link:
        await unanswered(link, PANEL)
        await asyncio.sleep(1 - now())
        again = asyncio.create_task(link.request(PANEL, priority=Priority.CONTROL))
        await asyncio.sleep(0.2)
        assert sent(port) == "SS"
        again.cancel()


@simulated
async def test_the_flags_are_not_taken_for_set_by_the_acknowledgement_of_a_panel_frame() -> None:
    port = QuietPort()
    async with linked(port) as link:
        await unanswered(link, PANEL)
        configuring = asyncio.create_task(link.request(ConfigureAdapter()))
        await asyncio.sleep(0.05)
        port.deliver(STATE_DONE)
        await asyncio.sleep(0.05)
        assert not configuring.done()
        port.deliver(STATE_DONE)
        assert await configuring


@simulated
async def test_others_are_not_held_up() -> None:
    port = QuietPort()
    async with linked(port) as link:
        await unanswered(link, GetDc())
        asked = [
            asyncio.create_task(request)
            for request in (
                link.request(GetDc()),
                link.request(GetAc(1)),
                link.request(GetLeds()),
                link.request(ReadSetting(1), 0),
            )
        ]
        await asyncio.sleep(0.4)
        assert sent(port) == "FFLA"
        assert port.frames[1] == str(GetAc(1).frame())
        for task in asked:
            task.cancel()


@simulated
async def test_a_reply_that_is_lost_for_good_holds_up_for_a_time_only() -> None:
    port = QuietPort()
    async with linked(port) as link:
        await unanswered(link, GetDc())
        start = now()
        asked = asyncio.create_task(link.request(GetDc()))
        await asyncio.sleep(INFO_LATE_S + 0.1)
        [_, (at, _)] = port.sent
        assert at - start == pytest.approx(INFO_LATE_S, abs=1e-3)
        port.deliver(dc(7))
        assert (await asked).voltage == 7


@simulated
async def test_a_further_attempt_takes_the_reply_of_the_first() -> None:
    """It was asked for by the same request. Its own reply answers no other, though."""
    port = QuietPort()
    async with linked(port) as link:
        first = asyncio.create_task(link.request(GetDc()))
        await asyncio.sleep(0.7)
        assert sent(port) == "FF"
        port.deliver(dc(1))
        assert (await first).voltage == 1
        second = asyncio.create_task(link.request(GetDc()))
        await asyncio.sleep(0.05)
        assert sent(port) == "FF"
        port.deliver(dc(2))
        await asyncio.sleep(0.05)
        assert sent(port) == "FFF"
        port.deliver(dc(3))
        assert (await second).voltage == 3


@simulated
async def test_a_late_reply_to_an_l_is_still_told() -> None:
    heard: list[object] = []
    port = QuietPort()
    async with linked(port, unasked=heard.append) as link:
        await unanswered(link, GetLeds())
        port.deliver(LEDS)
        await asyncio.sleep(0.01)
        assert len(heard) == 1
        asked = asyncio.create_task(link.request(GetLeds()))
        await asyncio.sleep(0.05)
        assert sent(port) == "LL"
        port.deliver(LEDS)
        await asked


@simulated
async def test_replies_that_say_whose_they_are_hold_up_nobody_else() -> None:
    port = QuietPort()
    async with linked(port) as link:
        await unanswered(link, SetAddress(1))
        await unanswered(link, GetConfiguration(1))
        start = now()
        for request in (SetAddress(2), GetConfiguration(2)):
            asked = asyncio.create_task(link.request(request, attempts=1))
            await asyncio.sleep(0.05)
            assert port.frames[-1] == str(request.frame())
            asked.cancel()
            await asyncio.sleep(1.0)
        assert now() - start < 2.2


@pytest.mark.parametrize("baudrate", [2400, 115200])
@pytest.mark.parametrize("pipeline", [1, 3])
@simulated
async def test_an_info_frame_is_never_older_than_its_request(pipeline: int, baudrate: int) -> None:
    """Replies that are lost, or late by up to as much as is waited for: none is taken for a newer one."""
    chance = random.Random(11)
    loop = asyncio.get_running_loop()
    late_most_s = 0.5 + INFO_LATE_S - 0.1
    leaving_at = 0.0

    class Adapter(QuietPort):
        def write(self, data: bytes) -> None:
            nonlocal leaving_at
            super().write(data)
            if chance.random() < 0.2:
                return
            # In order, as a line does: a late one holds back those behind it.
            late = chance.choice((0.02, 0.02, 0.1, 0.45, 0.6, late_most_s))
            leaving_at = max(leaving_at, loop.time() + late)
            if leaving_at - loop.time() <= late_most_s:
                loop.call_at(leaving_at, self.deliver, dc(len(self.sent)))

    port = Adapter(baudrate)
    answered = 0
    async with linked(port, pipeline=pipeline) as link:
        for _ in range(300):
            first_of_its_own = len(port.sent) + 1
            try:
                info = await link.request(GetDc(), attempts=chance.randrange(1, 4))
            except NoReply:
                continue
            answered += 1
            assert info.voltage >= first_of_its_own
    assert answered > 100
