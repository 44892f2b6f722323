"""What the adapter turns out not to take, with the simulator's core behind the line, in simulated time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from support.clock import simulated
from support.ports import CorePort, QuietPort

from mk2dbus.mk2 import abilities
from mk2dbus.mk2.adapter import ConfigureAdapter, GetAc, GetDc, GetLeds
from mk2dbus.mk2.errors import NoReply
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import GetRamInfo, GetSettingInfo, GetState, ReadRam, ReadSetting
from mk2dbus.simulator import Core
from mk2dbus.simulator.events import Kind

WINMON = (GetState(), ReadSetting(2), ReadRam((4, 5)), GetSettingInfo(2), GetRamInfo(4))
INFO = (GetDc(), GetAc(1))


class Busy:
    """Asks for everything at a time, for ever; counts what is not answered."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.answered = self.unanswered = 0

    async def ask(self, requests: tuple[Any, ...], address: int | None) -> None:
        for request in itertools.cycle(requests):
            try:
                await self.link.request(request, address)
                self.answered += 1
            except NoReply:
                self.unanswered += 1


@asynccontextmanager
async def busy(core: Core, **options: Any) -> AsyncIterator[Busy]:
    port = CorePort(core)
    link = Link(port, **options)
    tasks = [asyncio.create_task(link.run())]
    await link.request(ConfigureAdapter())
    all_of_them = Busy(link)
    for requests, address in (
        (WINMON, 0),
        (WINMON[2:], 0),
        (WINMON[1:2], 0),
        (INFO, None),
        ((GetLeds(),), None),
    ):
        tasks.append(asyncio.create_task(all_of_them.ask(requests, address)))
    try:
        yield all_of_them
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        port.lose()


@pytest.mark.parametrize("takes", [1, 2])
@simulated
async def test_an_adapter_that_takes_few_commands_at_a_time(
    takes: int, caplog: pytest.LogCaptureFixture
) -> None:
    core = Core("multiplus2")
    core.adapter.kind = replace(core.adapter.kind, takes=takes)
    async with busy(core) as asking:
        await asyncio.sleep(20)
        assert asking.link.figures().pipeline == 1
        core.log.clear()
        answered, unanswered = asking.answered, asking.unanswered
        await asyncio.sleep(60)
        assert asking.unanswered == unanswered
        assert asking.answered - answered > 300
        assert core.log.counts[Kind.UNANSWERED] == 0
    assert [record.message for record in caplog.records if "one at a time" in record.message]


@simulated
async def test_several_are_tried_again_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise may have been the reason; if it was not, the next trial comes later."""
    pause_s = 60.0
    monkeypatch.setattr(abilities, "FIRST_PROBATION_S", pause_s)
    caplog.set_level(logging.WARNING)
    core = Core("multiplus2")
    core.adapter.kind = replace(core.adapter.kind, takes=1)
    async with busy(core) as asking:
        await asyncio.sleep(pause_s + 20)
        assert asking.link.figures().pipeline == 1
        core.adapter.kind = replace(core.adapter.kind, takes=None)
        await asyncio.sleep(pause_s)
        assert asking.link.figures().pipeline == 1
        await asyncio.sleep(pause_s + 20)
        assert asking.link.figures().pipeline == 3
    assert len([record for record in caplog.records if "trying again" in record.message]) == 2


@simulated
async def test_an_l_that_is_lost_beside_an_f() -> None:
    """An adapter that forgets the one for the other gets them one after the other, and winmon as before."""
    core = Core("multiplus2")
    on_leds = core.adapter._commands["L"]

    def forgetful(data: bytes) -> None:
        core.adapter._cancel_info("F reply lost to an L")
        on_leds.handler(data)

    core.adapter._commands["L"] = replace(on_leds, handler=forgetful)
    async with busy(core) as asking:
        await asyncio.sleep(30)
        assert asking.link.figures().pipeline == 3
        unanswered = asking.unanswered
        core.log.clear()
        await asyncio.sleep(60)
        assert asking.unanswered == unanswered
        assert core.log.counts[Kind.LOST] == 0


@simulated
async def test_an_l_beside_an_f_can_be_switched_off() -> None:
    core = Core("multiplus2")
    async with busy(core, beside_info=False):
        await asyncio.sleep(20)
        kept = core.adapter.exchanges.kept
        assert [exchange for exchange in kept if exchange.letter == "L"]
        assert not [exchange for exchange in kept if exchange.letter == "L" and "F" in exchange.beside]
        assert not [exchange for exchange in kept if exchange.letter == "F" and "L" in exchange.beside]


@simulated
async def test_a_command_that_is_never_answered_says_nothing_of_the_adapter() -> None:
    core = Core("multiplus2")
    core.outgoing = lambda raw: b"" if raw[3:4] == b"\x89" else raw
    async with busy(core) as asking:
        await asyncio.sleep(120)
        assert asking.unanswered > 10
        assert asking.link.figures().pipeline == 3


@pytest.mark.parametrize("pipeline", [1, 2, 3])
@simulated
async def test_no_more_at_a_time_than_wanted(pipeline: int) -> None:
    core = Core("multiplus2")
    async with busy(core, pipeline=pipeline) as asking:
        await asyncio.sleep(20)
        exchanges = core.adapter.exchanges
        assert exchanges.most_winmon == pipeline
        assert pipeline == 1 or pipeline < exchanges.most <= pipeline + 2
        assert pipeline > 1 or exchanges.most == 1
        assert core.log.of(Kind.VIOLATION) == []
        assert asking.unanswered == 0


def test_pipelines_that_are_none() -> None:
    for pipeline in (0, 4):
        with pytest.raises(ValueError, match="1 to 3"):
            Link(QuietPort(), pipeline=pipeline)
