"""Commands that carry their address: found out, used, and given up, with the simulator behind the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from support.clock import simulated
from support.ports import CorePort

from mk2dbus.mk2.adapter import ConfigureAdapter
from mk2dbus.mk2.addressing import find_addressed
from mk2dbus.mk2.errors import NoReply
from mk2dbus.mk2.exchange import encoded
from mk2dbus.mk2.framing import Frame, FrameCutter, adapter_frame
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import GetSerial, GetVersion, ReadSetting, WriteArmed
from mk2dbus.simulator import Core


class Line:
    """A link to a simulated system, and the frames that it sent."""

    def __init__(self, core: Core, **options: Any) -> None:
        self.core = core
        self.sent: list[Frame] = []
        self.port = CorePort(core)
        self.port.on_write = self._note
        self.link = Link(self.port, **options)
        self._cutter = FrameCutter()

    def _note(self, data: bytes) -> None:
        self.sent += self._cutter.feed(data)

    @property
    def letters(self) -> str:
        return "".join(chr(frame.data[0]) for frame in self.sent)

    async def serials(self) -> dict[int, str | None]:
        """What each device answers without an address in the command."""
        return {address: await self.link.request(GetSerial(), address) for address in self.core.devices}


@asynccontextmanager
async def line(profile: str = "quattro3", **options: Any) -> AsyncIterator[Line]:
    line = Line(Core(profile), **options)
    task = asyncio.create_task(line.link.run())
    try:
        await line.link.request(ConfigureAdapter())
        yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        line.port.lose()


def know_no_addresses(core: Core) -> None:
    core.adapter.kind = replace(core.adapter.kind, addressed=False)


def ignore_addresses(core: Core) -> None:
    """Take the addressed form for the other: the device is that of ``A``, the address a stray byte."""
    adapter = core.adapter
    for letter in "XYZ":
        handler = adapter._winmon_on(letter)
        command = adapter._commands[letter.lower()]
        adapter._commands[letter.lower()] = replace(command, handler=_without_last(handler))


def _without_last(handler: Callable[[bytes], None]) -> Callable[[bytes], None]:
    return lambda data: handler(data[:-1])


def make_alike(core: Core) -> None:
    for device in core.devices.values():
        device.serial = "HQ0000AAAAA"


def test_the_frames() -> None:
    command = WriteArmed(64, 2000, setting=True)
    assert [str(frame) for frame in encoded(command, ord("Y"), 2)] == [
        str(adapter_frame("y", bytes.fromhex("33 40 00 02"))),
        str(adapter_frame("y", bytes.fromhex("34 D0 07 02"))),
    ]


@simulated
async def test_an_adapter_that_takes_addresses() -> None:
    async with line() as system:
        link = system.link
        serials = await system.serials()
        assert len(serials) > 1
        assert await find_addressed(link, serials)
        assert link.addressed
        assert link.figures().addressed
        system.sent.clear()
        for _ in range(2):
            for address in serials:
                assert await link.request(GetSerial(), address) == serials[address]
            link.forget_address()
        assert "A" not in system.letters
        assert set(system.letters) <= set("xyz")


@simulated
async def test_three_devices_are_asked_at_a_time() -> None:
    async with line() as system:
        serials = await system.serials()
        await find_addressed(system.link, serials)
        tasks = [asyncio.create_task(system.link.request(GetSerial(), address)) for address in serials] * 2
        assert [await task for task in tasks] == [*serials.values()] * 2
        assert system.core.adapter.exchanges.most_winmon > 1


@simulated
async def test_one_device_alone_needs_none() -> None:
    async with line("multiplus2") as system:
        before = len(system.sent)
        assert not await find_addressed(system.link, {0: None})
        assert len(system.sent) == before


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("known", [True, False])
@simulated
async def test_an_adapter_that_does_not_know_them(known: bool, alike: bool) -> None:
    """It stays silent. Then all is as it was."""
    async with line() as system:
        know_no_addresses(system.core)
        if alike:
            make_alike(system.core)
        serials = await system.serials()
        start = asyncio.get_running_loop().time()
        assert not await find_addressed(system.link, serials if known else dict.fromkeys(serials))
        assert asyncio.get_running_loop().time() - start < 2
        system.sent.clear()
        for address in serials:
            assert await system.link.request(GetSerial(), address) == serials[address]
        assert set(system.letters) <= set("AXYZ")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("alike", [True, False])
@simulated
async def test_an_adapter_that_ignores_them(alike: bool, known: bool) -> None:
    """What answers is the device that ``A`` says."""
    async with line() as system:
        ignore_addresses(system.core)
        if alike:
            make_alike(system.core)
        serials = await system.serials()
        assert not await find_addressed(system.link, serials if known else dict.fromkeys(serials))
        assert not system.link.addressed


@pytest.mark.parametrize("known", [True, False])
@simulated
async def test_devices_that_are_alike(known: bool) -> None:
    """That the address counts shows in the silence of one that nobody has."""
    async with line() as system:
        make_alike(system.core)
        serials = await system.serials()
        assert len(set(serials.values())) == 1
        assert await find_addressed(system.link, serials if known else dict.fromkeys(serials))


@simulated
async def test_an_address_that_is_forgotten_is_set_before() -> None:
    async with line() as system:
        serials = await system.serials()
        system.link.forget_address()
        assert await find_addressed(system.link, serials)


@simulated
async def test_a_lost_answer_does_not_decide() -> None:
    async with line() as system:
        serials = await system.serials()
        answers = iter([b""])
        system.core.outgoing = lambda raw: next(answers, raw)
        assert await find_addressed(system.link, serials)


@pytest.mark.parametrize("pipeline", [1, 3])
@simulated
async def test_addresses_that_are_no_longer_taken(pipeline: int) -> None:
    """Another adapter behind the same port, say: it is told the addresses again."""
    async with line(pipeline=pipeline) as system:
        link = system.link
        serials = await system.serials()
        await find_addressed(link, serials)
        know_no_addresses(system.core)
        unanswered = 0
        while link.addressed:
            assert unanswered < 20
            for request in (GetSerial(), ReadSetting(2)):
                try:
                    await link.request(request, 1)
                except NoReply:
                    unanswered += 1
            await link.request(GetVersion(), 0, addressed=False)
        assert link.figures().pipeline == pipeline
        await asyncio.sleep(3)
        for address in serials:
            assert await link.request(GetSerial(), address) == serials[address]


@simulated
async def test_silence_is_not_held_against_the_form() -> None:
    async with line() as system:
        serials = await system.serials()
        await find_addressed(system.link, serials)
        system.core.adapter.silent = True
        for _ in range(20):
            with pytest.raises(NoReply):
                await system.link.request(ReadSetting(1), 1)
        assert system.link.addressed
